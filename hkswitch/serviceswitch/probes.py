"""Runs the probes of groups periodically, and reports changes in their results. Runs as root."""

import asyncio
from collections.abc import Callable, Collection, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from hkswitch.model.errors import BusUnavailable
from hkswitch.model.group import Group
from hkswitch.model.unit_state import GroupState, ProbeResult, UnitState
from hkswitch.serviceswitch.execute import Executor, ProbeOutcome

MOST_PROBES_AT_ONCE: Final = 16

Report = Callable[[str, ProbeOutcome | None], None]
"""Called with a group's id and the outcome of its probe, None while there is none."""

Spawn = Callable[[Coroutine[None, None, None]], "asyncio.Task[None]"]


@dataclass(slots=True, eq=False)
class _Probed:
    """A probed group. `changes` counts the events that make the outcome of a running probe stale."""

    group: Group
    outcome: ProbeOutcome | None = None
    changes: int = 0
    is_due: asyncio.Event = field(default_factory=asyncio.Event)
    running: asyncio.Lock = field(default_factory=asyncio.Lock)

    def probe_again(self) -> None:
        """Drop the outcome of a running probe, and probe again now."""
        self.changes += 1
        self.is_due.set()

    def forget(self) -> None:
        """Drop the last outcome, too."""
        self.outcome = None
        self.probe_again()


class Probes:
    """The probes of the config's groups, and their last outcomes."""

    def __init__(self, executor: Executor, report: Report, spawn: Spawn) -> None:
        """Nothing runs before `regroup`; `spawn` runs a coroutine beside the others."""
        self._executor = executor
        self._report = report
        self._probed: dict[str, _Probed] = {}
        self._units: dict[str, UnitState] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._spawn = spawn
        self._slots = asyncio.Semaphore(MOST_PROBES_AT_ONCE)

    def regroup(self, groups: Collection[Group]) -> None:
        """Probe these groups. The outcome of a probe that changed is forgotten; others continue."""
        before, self._probed = self._probed, {}
        for group in groups:
            if group.probe:
                known = before.pop(group.id, None)
                if known is None or not _has_same_outcome(known.group, group):
                    self._probed[group.id] = self._begin(group, None)
                elif _is_probed_alike(known.group, group):
                    self._probed[group.id] = known
                else:
                    self._probed[group.id] = self._begin(group, known.outcome)
        for group_id in before:
            self._tasks.pop(group_id).cancel()

    async def probe(self, group: Group) -> ProbeOutcome:
        """Probe a group now, but never twice at the same time, and report a change.

        A request waits for this probe, so it does not count towards `MOST_PROBES_AT_ONCE`.
        """
        probed = self._probed.get(group.id)
        if probed is None or not _is_probed_alike(probed.group, group):
            return await self._executor.probe(group)
        async with probed.running:
            changes = probed.changes
            outcome = await self._executor.probe(group)
        if changes == probed.changes and self._probed.get(group.id) is probed:
            self._update(probed, outcome)
        return outcome

    def seen(self, units: Mapping[str, UnitState]) -> None:
        """Run a check again after each change of its units; its earlier outcome no longer holds."""
        changed = {unit for unit, state in units.items() if self._units.get(unit) != state}
        concerned = [each for each in self._probed.values() if not changed.isdisjoint(each.group.members)]
        were_up = {probed.group.id for probed in concerned if self._is_up(probed.group)}
        self._units |= units
        for probed in concerned:
            if probed.group.id in were_up and self._is_up(probed.group):
                probed.probe_again()
            else:
                probed.forget()
                self._report(probed.group.id, None)

    def lost(self) -> None:
        """Forget everything: without the bus, the helper can neither read units nor run commands."""
        self._units.clear()
        for probed in self._probed.values():
            probed.forget()
            self._report(probed.group.id, None)

    def found(self) -> None:
        """Probe the groups without an outcome now that the bus is back."""
        for probed in self._probed.values():
            if probed.outcome is None:
                probed.probe_again()

    def _begin(self, group: Group, outcome: ProbeOutcome | None) -> _Probed:
        if (task := self._tasks.pop(group.id, None)) is not None:
            task.cancel()
        probed = _Probed(group, outcome)
        self._tasks[group.id] = self._spawn(self._keep_probing(probed))
        self._report(group.id, outcome)
        return probed

    async def _keep_probing(self, probed: _Probed) -> None:
        while True:
            probed.is_due.clear()
            if self._is_up(probed.group):
                with suppress(BusUnavailable):  # lost() follows, and forgets the outcome
                    async with self._slots:
                        await self.probe(probed.group)
            with suppress(TimeoutError):
                async with asyncio.timeout(probed.group.interval_seconds):
                    await probed.is_due.wait()

    def _is_up(self, group: Group) -> bool:
        """Tell whether a probe matters: a check does not matter unless all units are up."""
        return group.state(self._units, ProbeResult.ON) is GroupState.ON

    def _update(self, probed: _Probed, outcome: ProbeOutcome) -> None:
        before, probed.outcome = probed.outcome, outcome
        if before is None or before.result is not outcome.result:
            self._report(probed.group.id, outcome)


def _has_same_outcome(one: Group, other: Group) -> bool:
    """Tell whether the outcome of one's probe also holds for the other."""
    return (one.probe, one.members) == (other.probe, other.members)


def _is_probed_alike(one: Group, other: Group) -> bool:
    """Tell whether a running probe of one also serves the other."""
    return _has_same_outcome(one, other) and (one.interval_seconds, one.timeout_seconds) == (
        other.interval_seconds,
        other.timeout_seconds,
    )
