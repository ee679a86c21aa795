"""Runs the probes of groups again and again, and tells what they say when it changes. Runs as root."""

import asyncio
from collections.abc import Callable, Collection, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from hkswitch.model.errors import BusUnavailable
from hkswitch.model.group import Group
from hkswitch.model.unit_state import GroupState, ProbeResult, UnitState
from hkswitch.serviceswitch.execute import Runner, Said

MOST_AT_ONCE: Final = 16

Tell = Callable[[str, Said | None], None]
"""Is told what the probe of a group says now, None while it has not answered."""

Spawn = Callable[[Coroutine[None, None, None]], "asyncio.Task[None]"]


@dataclass(slots=True, eq=False)
class _Probed:
    """A group whose probe is run. `changes` counts what makes the answer of a probe that runs a stale one."""

    group: Group
    said: Said | None = None
    changes: int = 0
    again: asyncio.Event = field(default_factory=asyncio.Event)
    asking: asyncio.Lock = field(default_factory=asyncio.Lock)

    def ask_again(self) -> None:
        """Do not believe a probe that runs, and ask again now."""
        self.changes += 1
        self.again.set()

    def forget(self) -> None:
        """Do not believe what was said before, either."""
        self.said = None
        self.ask_again()


class Probes:
    """What the probes of the config's groups say."""

    def __init__(self, runner: Runner, tell: Tell, spawn: Spawn) -> None:
        """Nothing is run before `regroup`; `spawn` runs a coroutine beside the others."""
        self._runner = runner
        self._tell = tell
        self._probed: dict[str, _Probed] = {}
        self._units: dict[str, UnitState] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._spawn = spawn
        self._at_once = asyncio.Semaphore(MOST_AT_ONCE)

    def regroup(self, groups: Collection[Group]) -> None:
        """Ask the probes of these groups. What one said that changed is forgotten, others go on."""
        before, self._probed = self._probed, {}
        for group in groups:
            if group.probe:
                known = before.pop(group.id, None)
                if known is None or not _says_the_same(known.group, group):
                    self._probed[group.id] = self._begin(group, None)
                elif _asked_alike(known.group, group):
                    self._probed[group.id] = known
                else:
                    self._probed[group.id] = self._begin(group, known.said)
        for group_id in before:
            self._tasks.pop(group_id).cancel()

    async def ask(self, group: Group) -> Said:
        """Run a group's probe now, but never two at a time, and tell a change.

        Somebody waits for what this one says: it is none of the few that are run at once by themselves.
        """
        probed = self._probed.get(group.id)
        if probed is None or not _asked_alike(probed.group, group):
            return await self._runner.probe(group)
        async with probed.asking:
            changes = probed.changes
            said = await self._runner.probe(group)
        if changes == probed.changes and self._probed.get(group.id) is probed:
            self._take(probed, said)
        return said

    def seen(self, units: Mapping[str, UnitState]) -> None:
        """A check is run after each change of its units; what it said before counts no more."""
        changed = {unit for unit, state in units.items() if self._units.get(unit) != state}
        concerned = [each for each in self._probed.values() if not changed.isdisjoint(each.group.units)]
        were_up = {probed.group.id for probed in concerned if self._is_up(probed.group)}
        self._units |= units
        for probed in concerned:
            if probed.group.id in were_up and self._is_up(probed.group):
                probed.ask_again()
            else:
                probed.forget()
                self._tell(probed.group.id, None)

    def lost(self) -> None:
        """Units and commands cannot be asked for: nothing is known."""
        self._units.clear()
        for probed in self._probed.values():
            probed.forget()
            self._tell(probed.group.id, None)

    def found(self) -> None:
        """They can be asked for again: do it now where nothing is known."""
        for probed in self._probed.values():
            if probed.said is None:
                probed.ask_again()

    def _begin(self, group: Group, said: Said | None) -> _Probed:
        if (task := self._tasks.pop(group.id, None)) is not None:
            task.cancel()
        probed = _Probed(group, said)
        self._tasks[group.id] = self._spawn(self._keep_asking(probed))
        self._tell(group.id, said)
        return probed

    async def _keep_asking(self, probed: _Probed) -> None:
        while True:
            probed.again.clear()
            if self._is_up(probed.group):
                with suppress(BusUnavailable):  # who watches units tells that, and forgets what was said
                    async with self._at_once:
                        await self.ask(probed.group)
            with suppress(TimeoutError):
                async with asyncio.timeout(probed.group.interval_seconds):
                    await probed.again.wait()

    def _is_up(self, group: Group) -> bool:
        """Whether there is anything to ask: a check of units that are not all up has no say."""
        return group.state(self._units, ProbeResult.ON) is GroupState.ON

    def _take(self, probed: _Probed, said: Said) -> None:
        before, probed.said = probed.said, said
        if before is None or before.verdict is not said.verdict:
            self._tell(probed.group.id, said)


def _says_the_same(one: Group, other: Group) -> bool:
    """Whether what one's probe said can be taken for what the other's does."""
    return (one.probe, one.units) == (other.probe, other.units)


def _asked_alike(one: Group, other: Group) -> bool:
    """Whether a probe of one that runs can be taken for one of the other."""
    return _says_the_same(one, other) and (one.interval_seconds, one.timeout_seconds) == (
        other.interval_seconds,
        other.timeout_seconds,
    )
