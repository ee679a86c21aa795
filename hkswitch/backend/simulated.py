"""Units and commands in memory, for the demo and for tests. Starts no process and uses no bus."""

import asyncio
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import NoReturn

from hkswitch.backend import NOT_IN_ACTIONS, Observer
from hkswitch.model.group import Group
from hkswitch.model.switch_events import Observed, RequestOrigin
from hkswitch.model.unit_state import (
    Action,
    ActionResult,
    ActiveState,
    JobResult,
    LoadState,
    ProbeResult,
    UnitFailure,
    UnitHealth,
    UnitResult,
    UnitState,
    result_of,
)
from hkswitch.protocol.report import is_contained

ACTIVE = UnitState(LoadState.LOADED, ActiveState.ACTIVE, "running")
ACTIVATING = UnitState(LoadState.LOADED, ActiveState.ACTIVATING, "start")
DEACTIVATING = UnitState(LoadState.LOADED, ActiveState.DEACTIVATING, "stop-sigterm")
INACTIVE = UnitState(LoadState.LOADED, ActiveState.INACTIVE, "dead")
EXITED = UnitState(LoadState.LOADED, ActiveState.INACTIVE, "exited with 0")
"""A stopped container."""
MISSING = UnitState(LoadState.NOT_FOUND, ActiveState.INACTIVE, "dead")
FAILED = UnitState(LoadState.LOADED, ActiveState.FAILED, "failed")


@dataclass(slots=True)
class SimulatedHost:
    """A host whose units take `job_seconds` to start or stop (`slow` ones differ); `broken` ones fail."""

    groups: Collection[Group]
    job_seconds: float = 0.2
    slow: Mapping[str, float] = field(default_factory=dict)
    broken: Collection[str] = ()
    states: dict[str, UnitState] = field(init=False, default_factory=dict)
    verdicts: dict[str, ProbeResult] = field(init=False, default_factory=dict)
    """The probe results of groups, where they were set."""
    failures: dict[str, UnitFailure] = field(init=False, default_factory=dict)
    """The failures of units, where they were set; a unit that has not failed any longer has none."""
    alerts: list[tuple[str, str, str]] = field(init=False, default_factory=list)
    """The groups, states and reasons of all alerts."""
    _running: dict[str, asyncio.Task[ActionResult]] = field(init=False, default_factory=dict)
    listeners: list[Callable[[Mapping[str, UnitState]], None]] = field(init=False, default_factory=list)
    """Called with every change, besides the observer."""
    _observer: Observer | None = field(init=False, default=None)

    async def open(self, observer: Observer) -> None:
        """Begin with every unit stopped."""
        self._observer = observer
        await self.watch(self.groups)

    async def request(
        self,
        action: Action,
        group_id: str,
        accepted: Callable[[], None],
        origin: RequestOrigin = RequestOrigin.CONTROLLER,
    ) -> ActionResult:
        """Take the units through the states that systemd's would have; a newer request ends an older one."""
        del origin  # simulated units stay up
        group = next((group for group in self.groups if group.id == group_id), None)
        if group is None:
            return ActionResult(f"denied: there is no group {group_id!r} in the configuration")
        if action not in group.actions:
            return ActionResult(f"{action} {NOT_IN_ACTIONS}")
        accepted()
        if (older := self._running.get(group_id)) is not None:
            older.cancel()
        task = asyncio.ensure_future(self._run(action, group))
        self._running[group_id] = task
        try:
            await asyncio.wait([task])
        finally:
            task.cancel()
        return ActionResult() if task.cancelled() else task.result()

    async def watch(self, groups: Collection[Group]) -> None:
        """Serve these groups; new units are stopped."""
        self.groups = groups
        members = {member for group in groups for member in group.members}
        self.states |= {member: _stopped(member) for member in members - self.states.keys()}
        for group in groups:
            self._show(group)

    async def alert(self, group_id: str, state: str, reason: str) -> ActionResult:
        """Note the alert; nothing is run."""
        self.alerts.append((group_id, state, reason))
        return ActionResult()

    def trouble(self) -> str:
        """Return nothing: actions are always possible."""
        return ""

    async def check_config(self) -> str:
        """Return nothing: every config is accepted."""
        return ""

    def config_problem(self) -> str:
        """Return nothing: every config is accepted."""
        return ""

    async def until_broken(self) -> NoReturn:
        """Wait forever: nothing runs that could fail."""
        await asyncio.Event().wait()
        raise AssertionError

    async def close(self) -> None:
        """Cancel the requests that are still running."""
        for task in self._running.values():
            task.cancel()
        await asyncio.gather(*self._running.values(), return_exceptions=True)

    def change(self, units: Mapping[str, UnitState]) -> None:
        """Change units from outside, as `systemctl` in a shell does."""
        self.states.update(units)
        for unit in [each for each in units if units[each].health is not UnitHealth.FAILED]:
            self.failures.pop(unit, None)
        for listener in self.listeners:
            listener(units)
        for group in self.groups:
            if not units.keys().isdisjoint(group.members):
                self._show(group)

    def fail(self, unit: str, failure: UnitFailure, state: UnitState = FAILED) -> None:
        """Have a unit fail."""
        self.failures[unit] = failure
        self.change({unit: state})

    def tell(self, group_id: str, verdict: ProbeResult) -> None:
        """Set the probe result of a group."""
        self.verdicts[group_id] = verdict
        for group in self.groups:
            if group.id == group_id:
                self._show(group)

    def lose(self) -> None:
        """Report every state as unknown, as without a bus."""
        if self._observer is not None:
            for group in self.groups:
                self._observer.observed(group.id, Observed(None))

    def _show(self, group: Group) -> None:
        if self._observer is not None:
            units = {unit: self.states[unit] for unit in group.members}
            # A check passes unless it was set.
            otherwise = ProbeResult.OFF if group.commands else ProbeResult.ON
            verdict = self.verdicts.get(group.id, otherwise)
            failures = {unit: self.failures[unit] for unit in group.members if unit in self.failures}
            self._observer.observed(group.id, Observed(units, verdict, failures=failures))

    async def _run(self, action: Action, group: Group) -> ActionResult:
        if group.commands is not None:
            await asyncio.sleep(self.job_seconds)
            if action is not Action.RESTART:
                self.tell(group.id, ProbeResult.ON if action is Action.START else ProbeResult.OFF)
            return ActionResult()
        jobs = (self._job(action, unit) for unit in group.members)
        return result_of(tuple(await asyncio.gather(*jobs)))

    async def _job(self, action: Action, unit: str) -> UnitResult:
        up = self.states[unit] == ACTIVE
        if action is Action.RESTART and not up:
            return UnitResult(unit, JobResult.DONE)
        if up and action is not Action.START:
            await self._pass_through(unit, DEACTIVATING, _stopped(unit))
        if action is Action.STOP or (up and action is Action.START):
            self.change({unit: ACTIVE if action is Action.START else _stopped(unit)})
            return UnitResult(unit, JobResult.DONE)
        broken = unit in self.broken
        await self._pass_through(unit, ACTIVATING, FAILED if broken else ACTIVE)
        return UnitResult(unit, JobResult.FAILED if broken else JobResult.DONE)

    async def _pass_through(self, unit: str, during: UnitState, after: UnitState) -> None:
        self.change({unit: during})
        await asyncio.sleep(self.slow.get(unit, self.job_seconds))
        self.change({unit: after})


def _stopped(member: str) -> UnitState:
    return EXITED if is_contained(member) else INACTIVE
