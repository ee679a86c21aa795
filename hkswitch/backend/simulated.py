"""Units and commands in memory, for the demo and for tests. Starts no process and uses no bus."""

import asyncio
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import NoReturn

from hkswitch import __version__
from hkswitch.backend import NOT_IN_ACTIONS, Observer, simulated_faults
from hkswitch.backend.simulated_faults import CRASH_AFTER_SECONDS, RETURN_AFTER_SECONDS, SimulatedRun
from hkswitch.model.group import Group
from hkswitch.model.switch_events import Observed, RequestOrigin
from hkswitch.model.told_group import Told, as_told
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
from hkswitch.protocol.host_report import HostReport
from hkswitch.protocol.report import is_contained

ACTIVE = UnitState(LoadState.LOADED, ActiveState.ACTIVE, "running")
ACTIVATING = UnitState(LoadState.LOADED, ActiveState.ACTIVATING, "start")
DEACTIVATING = UnitState(LoadState.LOADED, ActiveState.DEACTIVATING, "stop-sigterm")
INACTIVE = UnitState(LoadState.LOADED, ActiveState.INACTIVE, "dead")
EXITED = UnitState(LoadState.LOADED, ActiveState.INACTIVE, "exited with 0")
"""A stopped container."""
ROUND_TRIP_MS = 0.5
"""Of simulated hosts."""
MISSING = UnitState(LoadState.NOT_FOUND, ActiveState.INACTIVE, "dead")
FAILED = UnitState(LoadState.LOADED, ActiveState.FAILED, "failed")


@dataclass(slots=True)
class SimulatedHost:
    """A host whose units take `job_seconds` to start or stop (`slow` ones differ).

    `broken` ones fail to start.
    """

    groups: Collection[Group]
    job_seconds: float = 0.2
    slow: Mapping[str, float] = field(default_factory=dict)
    broken: Collection[str] = ()
    faults_every_seconds: float | None = None
    """How often units are looked at for the faults of simulated_faults.py; None for no faults."""
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
    _numbers: Iterator[int] = field(init=False, default_factory=lambda: count(1))
    _runs: dict[str, SimulatedRun] = field(init=False, default_factory=dict)
    """The current run of each unit that has one, from its start."""
    _crashed_at_seconds: dict[str, float] = field(init=False, default_factory=dict)
    """When they crashed, of units that come back."""
    _failing: list[asyncio.Task[NoReturn]] = field(init=False, default_factory=list)
    """The task that has units fail, if there is one."""

    _since_unix_seconds: int = field(init=False, default_factory=lambda: int(time.time()))

    async def open(self, observer: Observer) -> None:
        """Begin with every unit stopped."""
        self._observer = observer
        await self.watch(self.groups)
        if self.faults_every_seconds is not None:
            self._failing.append(asyncio.create_task(self._fail_now_and_then(self.faults_every_seconds)))

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
        """Serve these groups; new units are stopped. Those of other hosts have a unit each."""
        self.groups = groups = [as_simulated(group) for group in groups]
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

    def remote_hosts(self) -> tuple[HostReport, ...]:
        """Return that all hosts are connected: their groups are simulated here."""
        hosts = {group.elsewhere.host for group in self.groups if group.elsewhere is not None}
        return tuple(
            sorted(
                HostReport(host.name, host.ssh, self._since_unix_seconds, ROUND_TRIP_MS, __version__)
                for host in hosts
            )
        )

    async def until_broken(self) -> NoReturn:
        """Wait forever, unless there is a bug in the faults."""
        for failing in self._failing:
            await asyncio.shield(failing)
        await asyncio.Event().wait()
        raise AssertionError

    async def close(self) -> None:
        """Cancel the requests that are still running, and the faults."""
        tasks = (*self._running.values(), *self._failing)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def change(self, units: Mapping[str, UnitState]) -> None:
        """Change units from outside, as `systemctl` in a shell does."""
        for unit, state in units.items():
            self._note_run(unit, state)
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
            told = None if group.elsewhere is None else group
            self._observer.observed(group.id, Observed(units, verdict, failures=failures, group=told))

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
        if unit not in self.broken:
            await self._pass_through(unit, ACTIVATING, ACTIVE)
            return UnitResult(unit, JobResult.DONE)
        self.change({unit: ACTIVATING})
        await asyncio.sleep(self.slow.get(unit, self.job_seconds))
        self._crash(unit, "failed")
        return UnitResult(unit, JobResult.FAILED)

    async def _pass_through(self, unit: str, during: UnitState, after: UnitState) -> None:
        self.change({unit: during})
        await asyncio.sleep(self.slow.get(unit, self.job_seconds))
        self.change({unit: after})

    def _note_run(self, unit: str, state: UnitState) -> None:
        """Begin or end the run of a unit that changes."""
        if not state.is_running:
            self._runs.pop(unit, None)
        elif unit not in self._runs:
            self._runs[unit] = SimulatedRun(f"run {next(self._numbers)}", _now_seconds())
        self._crashed_at_seconds.pop(unit, None)

    def _crash(self, unit: str, how: str) -> None:
        """Have a unit fail, which nobody requested."""
        run = self._runs.get(unit)
        name = "none" if run is None else run.name
        self.fail(unit, UnitFailure(name, is_requested=False, reason=f"{unit} {how}"))

    async def _fail_now_and_then(self, every_seconds: float) -> NoReturn:
        while True:
            self.have_faults(_now_seconds())
            await asyncio.sleep(every_seconds)

    def have_faults(self, now_seconds: float) -> None:
        """Have units crash and come back whose time has come, and report the resources of groups."""
        up = {unit: run for unit, run in self._runs.items() if self.states[unit] == ACTIVE}
        for unit in {group.members[0] for group in simulated_faults.crashing(self.groups)}:
            if unit in up and now_seconds - up[unit].at_seconds >= CRASH_AFTER_SECONDS:
                self._crash(unit, "was killed by SIGKILL")
                self._crashed_at_seconds[unit] = now_seconds
            elif now_seconds - self._crashed_at_seconds.get(unit, now_seconds) >= RETURN_AFTER_SECONDS:
                self.change({unit: ACTIVE})
        for group in self.groups:
            if group.restart_when is not None and self._observer is not None:
                found = simulated_faults.sample(group, group.restart_when, up, now_seconds)
                self._observer.sampled(group.id, found)


def as_simulated(group: Group) -> Group:
    """Return a group of another host as that host might tell it; other groups stay as they are."""
    if (place := group.elsewhere) is None:
        return group
    told = Told("simulated", (f"{place.host.name}-{place.group}.service",), tuple(Action), frozenset(), 10)
    return as_told(group, told)


def _now_seconds() -> float:
    return asyncio.get_running_loop().time()


def _stopped(member: str) -> UnitState:
    return EXITED if is_contained(member) else INACTIVE
