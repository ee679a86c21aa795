"""Runs the probes of groups again and again, and tells what they say when it changes. Runs as root."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from hkswitch.model.errors import Failure
from hkswitch.model.group import Group
from hkswitch.model.unit_state import GroupState, UnitState, Verdict
from hkswitch.serviceswitch.commands import Runner, Said
from hkswitch.serviceswitch.rules import Rules

MOST_AT_ONCE: Final = 16
TRY_AGAIN_SECONDS: Final = 5
"""How long to wait for a config that cannot be believed to become another one."""

Tell = Callable[[str, Said], None]
Spawn = Callable[[Coroutine[None, None, None]], None]


@dataclass(slots=True)
class _Watched:
    """A group whose probe is run. `changes` counts what makes the answer of a probe that runs a stale one."""

    said: Said | None = None
    changes: int = 0
    again: asyncio.Event = field(default_factory=asyncio.Event)
    asking: asyncio.Lock = field(default_factory=asyncio.Lock)


class Probes:
    """What the probes of the config's groups say."""

    def __init__(self, rules: Rules, runner: Runner, tell: Tell, spawn: Spawn) -> None:
        """Nothing is run before `observe`; `spawn` runs a coroutine beside the others."""
        self._rules = rules
        self._runner = runner
        self._tell = tell
        self._spawn = spawn
        self._watched: dict[str, _Watched] = {}
        self._units: dict[str, UnitState] = {}
        self._at_once = asyncio.Semaphore(MOST_AT_ONCE)
        self._asked = asyncio.Event()
        self._begun = False

    def observe(self) -> None:
        """Tell what is known, and from now on each change. To be asked often makes no probe run."""
        self._asked.set()
        if not self._begun:
            self._begun = True
            self._spawn(self._begin())

    async def ask(self, group: Group) -> Said:
        """Run a group's probe now, but never two at a time, and tell a change."""
        watched = self._watched.get(group.id, _Watched())
        async with watched.asking, self._at_once:
            changes = watched.changes
            said = await self._runner.probe(group)
        if changes == watched.changes:
            self._take(group.id, said)
        return said

    async def _begin(self) -> None:
        while await self._asked.wait():
            self._asked.clear()
            try:
                groups = [group for group in self._rules.now().groups if group.probe]
            except Failure:  # who asks for an action is told why
                await asyncio.sleep(TRY_AGAIN_SECONDS)
                self._asked.set()
                continue
            await self._runner.systemd.watch((unit for group in groups for unit in group.units), self._seen)
            for group in groups:
                self._begin_with(group.id)

    def _begin_with(self, group_id: str) -> None:
        watched = self._watched.get(group_id)
        if watched is None:
            self._watched[group_id] = _Watched()
            self._spawn(self._keep_asking(group_id))
        elif watched.said is not None:
            self._tell(group_id, watched.said)

    async def _keep_asking(self, group_id: str) -> None:
        """Ask for as long as the config has the group."""
        watched = self._watched[group_id]
        pause_seconds: float = TRY_AGAIN_SECONDS
        while True:
            watched.again.clear()
            try:
                group = self._rules.now().group(group_id)
            except Failure as failure:
                self._take(group_id, Said(Verdict.UNAVAILABLE, str(failure)))
            else:
                if group is None or not group.probe:
                    break
                pause_seconds = group.interval_seconds
                if group.state(self._units, Verdict.ON) is GroupState.ON:
                    await self.ask(group)
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_seconds):
                    await watched.again.wait()
        self._take(group_id, Said(Verdict.UNAVAILABLE, "the group is not in the configuration any more"))
        del self._watched[group_id]

    def _seen(self, units: Mapping[str, UnitState]) -> None:
        """A check is run after each change of its units; what it said before counts no more."""
        changed = {unit for unit, state in units.items() if self._units.get(unit) != state}
        self._units |= units
        if not changed:
            return
        with suppress(Failure):  # the next turn tells it
            for group in self._rules.now().groups:
                watched = self._watched.get(group.id)
                if watched is not None and changed & {*group.units}:
                    watched.said = None
                    watched.changes += 1
                    watched.again.set()

    def _take(self, group_id: str, said: Said) -> None:
        watched = self._watched.get(group_id)
        if watched is None:
            return
        before, watched.said = watched.said, said
        if before is None or before.verdict is not said.verdict:
            self._tell(group_id, said)
