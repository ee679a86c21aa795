"""When a sensor must be open, by the facts of a world: a reference model of alerts that knows no latch.

A sensor opens for a member that failed by itself, for a start or restart that failed, for a check that is not
passed, and for a rule that gave up; once for each. It closes when the group was well for some time.
"""

import asyncio
import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from hkswitch.model.group import Group
from hkswitch.model.unit_state import Action, GroupState, LoadState, UnitHealth
from hkswitch.protocol.report import GroupReport, Outcome
from tests.world.seed_run import Violation
from tests.world.trouble_facts import Fault, ToldCommand

if TYPE_CHECKING:
    from tests.world.world import World

WELL_SECONDS: Final = 30.0
TOLD_SECONDS: Final = 2.0
"""Of a failure, by when its sensor is open, if nothing is held up."""

CLOSED_SECONDS: Final = 10.0
"""Of a group that is well again, by when this is known."""

HEARD_SECONDS: Final = 3.0
"""A helper that has begun so long ago has told what it saw."""

UNDISTURBED_SECONDS: Final = 4.0
"""After an outage, before what is told is new."""

CHECKED_SECONDS: Final = 24.0
"""Longer than a check's interval and its time limit."""

COMMAND_SECONDS: Final = 3.0
PASSED_SECONDS: Final = 0.5
"""A moment is told by then."""

NEVER: Final = -math.inf


@dataclass(eq=False)
class Sensor:
    """The sensor of one group, as it should be."""

    is_open: bool = False
    changed_at_seconds: float = NEVER
    members: dict[str, float] = field(default_factory=dict)
    """Since when each unit belongs to the group."""
    used: set[tuple[str, str]] = field(default_factory=set)
    """The units and runs that opened it, or failed while it was open."""
    well_since_seconds: float = math.inf
    failed_at_seconds: float = NEVER
    """When a start or restart was seen to have failed, last."""
    failure: object = None
    """That request."""
    opened_at_seconds: list[float] = field(default_factory=list)


@dataclass(eq=False)
class TroubleReference:
    """All sensors of a world, what opened them, and what should have."""

    world: "World"
    sensors: dict[str, Sensor] = field(default_factory=dict)
    groups: dict[str, Group] = field(default_factory=dict)
    """The groups with sensors that are served."""
    calm_since: defaultdict[str, float] = field(default_factory=lambda: defaultdict(lambda: math.inf))
    """Since when all that happens to a group is told, as far as is known."""
    calm_until: defaultdict[str, float] = field(default_factory=lambda: defaultdict(lambda: NEVER))
    """When it was so, last."""
    calm_spans: defaultdict[str, list[tuple[float, float]]] = field(default_factory=lambda: defaultdict(list))
    """From when until when it was so, before the last disturbance."""
    _checked_faults: int = 0
    _due: list[tuple[Fault, str]] = field(default_factory=list)
    """Failures that must be shown, and of which groups."""
    _unjudged: list[tuple[float, str]] = field(default_factory=list)
    """Openings of which it is not known yet whether there was a reason."""
    _commands: int = 0
    _unmet_commands: list[tuple[float, str]] = field(default_factory=list)
    """Openings for which a command should run."""

    # What is shown

    def regrouped(self, groups: Iterable[Group]) -> None:
        """These groups are served from now on: a sensor that goes is forgotten."""
        groups = tuple(groups)
        with_sensor = self.groups = {group.id: group for group in groups if group.alert is not None}
        self.sensors = {name: sensor for name, sensor in self.sensors.items() if name in with_sensor}
        self.world.rules.regrouped(groups)
        for name, spans in self.calm_spans.items():
            if name not in with_sensor:
                spans.clear()
        for name, group in with_sensor.items():
            sensor = self.sensors.setdefault(name, Sensor())
            members, now_seconds = self._members(group), asyncio.get_running_loop().time()
            sensor.members = {unit: sensor.members.get(unit, now_seconds) for unit in members}
            sensor.used = {(unit, run) for unit, run in sensor.used if unit in members}

    def shown(self, group_id: str, *, detected: bool) -> None:
        """The daemon shows a sensor."""
        sensor = self.sensors[group_id]
        if sensor.is_open is detected:
            return
        now_seconds = asyncio.get_running_loop().time()
        group = self.groups[group_id]
        self.world.note(f"    the sensor of {group_id} {'opens' if detected else 'closes'}")
        if detected:
            self._opened(group, sensor, now_seconds)
        else:
            self._closed(group, sensor, now_seconds)
        sensor.is_open, sensor.changed_at_seconds = detected, now_seconds

    def _opened(self, group: Group, sensor: Sensor, now_seconds: float) -> None:
        sensor.opened_at_seconds.append(now_seconds)
        self._unjudged.append((now_seconds, group.id))
        if not self.world.daemon.is_down:  # one that starts has no report yet
            self._judge_openings()
        if self.world.has_alert_command(group) and self._is_calm(group.id, now_seconds - 1):
            self._unmet_commands.append((now_seconds, group.id))

    def _judge_openings(self) -> None:
        unjudged, self._unjudged = self._unjudged, []
        for opened_seconds, group_id in unjudged:
            if (sensor := self.sensors.get(group_id)) is None:
                continue
            if not self._may_open(self.groups[group_id], sensor, opened_seconds):
                self._wrong(f"the sensor of {group_id} opens, and there is no reason for that")
            self._use(self.groups[group_id], sensor, opened_seconds)

    def _closed(self, group: Group, sensor: Sensor, now_seconds: float) -> None:
        self._use(group, sensor, now_seconds - TOLD_SECONDS)
        since = now_seconds - WELL_SECONDS + PASSED_SECONDS
        for fault in self._faults(group, since, now_seconds - TOLD_SECONDS):
            if not fault.is_requested and self._is_calm(group.id, fault.at_seconds):
                self._wrong(f"the sensor of {group.id} closes, and {fault} was less than 30 s ago")
        told_seconds = now_seconds - TOLD_SECONDS
        if self._is_calm(group.id, told_seconds) and not self._is_well(group, told_seconds, for_sure=False):
            self._wrong(f"the sensor of {group.id} closes, and it is not well")

    def _wrong(self, what: str) -> None:
        self.world.violation = self.world.violation or Violation(what)

    # Why it may open

    def _may_open(self, group: Group, sensor: Sensor, now_seconds: float) -> bool:
        """Whether there is a reason that did not open it before."""
        calm_until = now_seconds if self._is_calm(group.id, now_seconds) else self.calm_until[group.id]
        recent_seconds = min(calm_until, now_seconds) - UNDISTURBED_SECONDS
        for fault in self._faults(group, NEVER, now_seconds):
            if (fault.unit, fault.run) in sensor.used:
                continue
            was_member = sensor.members.get(fault.unit, math.inf) < fault.at_seconds
            is_known = fault.was_up or (was_member and self._was_told(group.id, fault))
            if fault.is_requested and is_known:
                continue
            if fault.at_seconds >= recent_seconds or self._is_failing(fault):
                return True
        report = self._report(group.id)
        return (
            self._request_failed(report)
            or self._was_unpassed(group, now_seconds)
            or (report is not None and self._gave_up(group.id))
        )

    def _use(self, group: Group, sensor: Sensor, until_seconds: float) -> None:
        sensor.used |= {(fault.unit, fault.run) for fault in self._faults(group, NEVER, until_seconds)}

    def _was_told(self, group_id: str, fault: Fault) -> bool:
        """Whether the daemon has heard, and kept, that a failure was requested."""
        if self._is_calm(group_id, fault.at_seconds):
            return True
        least, most = fault.at_seconds - UNDISTURBED_SECONDS, fault.at_seconds + TOLD_SECONDS
        return any(since <= least and most <= until for since, until in self.calm_spans[group_id])

    def _is_failing(self, fault: Fault) -> bool:
        """Whether a unit is still failed, as it was in this run."""
        last = [each for each in self.world.facts.faults if each.unit == fault.unit][-1]
        state = self.world.machine.truth(fault.unit)._replace(load=LoadState.LOADED)
        is_failed = state.health is UnitHealth.FAILED
        return is_failed and last.run == fault.run

    def _request_failed(self, report: GroupReport | None) -> bool:
        """Whether the last start or restart failed."""
        if report is None or report.last_action is None:
            return False
        action, outcome = report.last_action.action, report.last_action.outcome
        return action is not Action.STOP and outcome in {Outcome.FAILED, Outcome.RUNNING}

    def _was_unpassed(self, group: Group, now_seconds: float) -> bool:
        if not group.check:
            return False
        last_seconds = self.world.facts.unpassed.get(group.check[1], NEVER)
        return now_seconds - last_seconds <= CHECKED_SECONDS + group.timeout_seconds

    def _gave_up(self, group_id: str) -> bool:
        return "gave up" in self.world.daemon.rules.description(group_id)

    # At every moment

    def look(self, now_seconds: float) -> None:
        """Compare the sensors with the facts."""
        if self.world.daemon.is_down:
            self._break_calm(now_seconds, self.sensors)
            return
        self._judge_openings()
        reports = {report.id: report for report in self.world.reports()}
        groups = {group.id: group for group in self.world.served if group.alert is not None}
        is_free = self._is_free(now_seconds)
        for group_id, group in groups.items():
            self._look_at_calm(group_id, reports.get(group_id), now_seconds, is_free=is_free)
            self._look_at_health(group, reports.get(group_id), now_seconds)
            self._check_closed(group, now_seconds)
        self._collect_faults(groups)
        self._check_due(groups, now_seconds)
        self._check_commands(now_seconds)

    def _is_free(self, now_seconds: float) -> bool:
        world = self.world
        helper = world.transport.newest
        if helper is None or world.outages.any_but(world.machine.units) or world.outages.lasts:
            return False
        is_held = not helper.goes_on.is_set() or helper.output.is_held
        return not is_held and helper.began_at_seconds + HEARD_SECONDS < now_seconds

    def _look_at_calm(
        self, group_id: str, report: GroupReport | None, now_seconds: float, *, is_free: bool
    ) -> None:
        is_known = report is not None and report.state not in {None, GroupState.MISSING}
        begins_seconds = self.world.changed_at_seconds + UNDISTURBED_SECONDS
        if not (is_free and is_known) or now_seconds < begins_seconds:
            self._break_calm(min(now_seconds, self.world.changed_at_seconds), [group_id])
            return
        if self.calm_since[group_id] < self.world.changed_at_seconds:
            self._break_calm(self.world.changed_at_seconds, [group_id])
        self.calm_since[group_id] = min(self.calm_since[group_id], now_seconds)
        self.calm_until[group_id] = now_seconds

    def _break_calm(self, at_seconds: float, group_ids: Iterable[str]) -> None:
        for group_id in group_ids:
            self.calm_until[group_id] = min(self.calm_until[group_id], at_seconds)
            if self.calm_since[group_id] < self.calm_until[group_id]:
                self.calm_spans[group_id].append((self.calm_since[group_id], self.calm_until[group_id]))
            self.calm_since[group_id] = math.inf

    def is_told(self, group_id: str, now_seconds: float) -> bool:
        """Whether nothing is held up."""
        return self._is_calm(group_id, now_seconds)

    def _is_calm(self, group_id: str, at_seconds: float) -> bool:
        """Whether nothing was held up from a moment until now."""
        return (
            self.calm_since[group_id] + UNDISTURBED_SECONDS <= at_seconds
            and self.world.changed_at_seconds <= at_seconds - UNDISTURBED_SECONDS
        )

    def _look_at_health(self, group: Group, report: GroupReport | None, now_seconds: float) -> None:
        sensor = self.sensors[group.id]
        request = None if report is None else report.last_action
        if request is not None and request != sensor.failure and self._request_failed(report):
            sensor.failed_at_seconds = now_seconds
            sensor.failure = request if request.outcome is Outcome.FAILED else None
        if not self._is_well(group, now_seconds, for_sure=True):
            sensor.well_since_seconds = math.inf
        else:
            sensor.well_since_seconds = min(sensor.well_since_seconds, now_seconds)

    def _is_well(self, group: Group, now_seconds: float, *, for_sure: bool) -> bool:
        """Whether no member failed by itself, and nothing is wrong; `for_sure`: as hkswitch must know."""
        machine = self.world.machine
        for unit in self._members(group):
            state = machine.truth(unit)
            is_failed = state.health is UnitHealth.FAILED and not self._was_stopped(unit, for_sure=for_sure)
            if is_failed or state.health is UnitHealth.MISSING:
                return False
        return not self._was_unpassed(group, now_seconds) and not self._gave_up(group.id)

    def _was_stopped(self, unit: str, *, for_sure: bool) -> bool:
        """Whether a unit is failed because it was stopped, and is known to have been."""
        faults = [fault for fault in self.world.facts.faults if fault.unit == unit]
        return bool(faults) and faults[-1].is_requested and (faults[-1].was_up or not for_sure)

    def _check_closed(self, group: Group, now_seconds: float) -> None:
        """What is well for long has a closed sensor."""
        sensor = self.sensors[group.id]
        last_fault = max(
            (fault.at_seconds for fault in self._faults(group, NEVER, now_seconds)), default=NEVER
        )
        since = max(
            sensor.well_since_seconds, sensor.failed_at_seconds, last_fault, self.calm_since[group.id]
        )
        if sensor.is_open and since + WELL_SECONDS + CLOSED_SECONDS < now_seconds:
            self._wrong(f"{group.id} is well since {since:.3f}, and its sensor is open")

    def _collect_faults(self, groups: dict[str, Group]) -> None:
        faults = self.world.facts.faults
        for fault in faults[self._checked_faults :]:
            for group_id, group in groups.items():
                if not fault.is_requested and fault.unit in self._members(group):
                    self._due.append((fault, group_id))
        self._checked_faults = len(faults)

    def _check_due(self, groups: dict[str, Group], now_seconds: float) -> None:
        """What failed by itself has an open sensor, if it was not held up."""
        waiting = []
        for fault, group_id in self._due:
            if fault.at_seconds + TOLD_SECONDS > now_seconds:
                waiting.append((fault, group_id))
                continue
            group = groups.get(group_id)
            if group is None or fault.unit not in self._members(group):
                continue
            if self._is_calm(group_id, fault.at_seconds) and not self.sensors[group_id].is_open:
                self._wrong(f"{fault}, and the sensor of {group_id} is closed")
        self._due = waiting

    def _check_commands(self, now_seconds: float) -> None:
        """The alert command runs once for each opening, and at no other time."""
        commands = self.world.facts.commands
        for command in commands[self._commands :]:
            self._check_command(command)
        self._commands = len(commands)
        left = []
        for opened_seconds, group_id in self._unmet_commands:
            if opened_seconds + COMMAND_SECONDS > now_seconds:
                left.append((opened_seconds, group_id))
            elif self._is_calm(group_id, opened_seconds):
                self._wrong(f"the sensor of {group_id} opened at {opened_seconds:.3f}, and no command ran")
        self._unmet_commands = left

    def _check_command(self, command: ToldCommand) -> None:
        sensor = self.sensors.get(command.group_id)
        if sensor is None:
            return  # its group has gone
        opened = [at for at in sensor.opened_at_seconds if at <= command.at_seconds]
        earlier = [
            each
            for each in self.world.facts.commands
            if each.group_id == command.group_id and each.at_seconds < command.at_seconds
        ]
        if not opened or (earlier and earlier[-1].at_seconds >= opened[-1]):
            self._wrong(f"the alert command ran, and no sensor had opened: {command}")
        self._unmet_commands = [each for each in self._unmet_commands if each[1] != command.group_id]

    # In a quiescent world

    def check_quiescent(self) -> None:
        """Everything that shows troubles agrees, and it is open for what is failed."""
        now_seconds = asyncio.get_running_loop().time()
        self.look(now_seconds)
        alerts = self.world.daemon.serving.alerts
        kept = {each.group_id for each in alerts.last() if each.ended_unix_seconds is None}
        stored = {
            each.group_id for each in self.world.kept.read().troubles if each.ended_unix_seconds is None
        }
        for group in self.world.served:
            trouble = alerts.trouble_of(group.id)
            sensor = self.sensors.get(group.id)
            is_open = sensor is not None and sensor.is_open
            told: dict[str, bool | None] = {
                "the daemon": trouble is not None,
                "the list": group.id in kept,
                "the file": group.id in stored,
            }
            if sensor is not None:
                told |= {"a read": self.world.daemon.front.sensors[group.id]}
                told |= {
                    f"the {phone.name} phone": phone.sensors.get(group.id) for phone in self.world.phones
                }
            if wrong := [who for who, said in told.items() if said is not is_open]:
                raise Violation(
                    f"the sensor of {group.id} is {'open' if is_open else 'closed'}, but for {wrong}"
                )
            if sensor is not None and not is_open:
                self._check_may_be_closed(group, sensor, now_seconds)

    def _check_may_be_closed(self, group: Group, sensor: Sensor, now_seconds: float) -> None:
        for fault in self._faults(group, NEVER, now_seconds - TOLD_SECONDS):
            is_new = (fault.unit, fault.run) not in sensor.used
            if fault.has_job and not self._was_told(group.id, fault):
                continue  # in doubt, it was stopped
            if not fault.is_requested and is_new and self._is_failing(fault):
                raise Violation(f"{fault}, and it is still so, and the sensor of {group.id} is closed")
        if group.check and not self.world.machine.programs.passes[group.check[1]]:
            up_since = max(map(self.world.machine.up_since, group.members))
            if up_since + CHECKED_SECONDS + group.timeout_seconds < now_seconds:
                raise Violation(f"the check of {group.id} does not pass, and its sensor is closed")
        if self._gave_up(group.id):
            raise Violation(f"the rule of {group.id} gave up, and its sensor is closed")

    # Parts

    def _members(self, group: Group) -> set[str]:
        """Its units, and those that its timers start."""
        files = self.world.machine.specs
        started = {files[unit].triggers for unit in group.units if unit in files and files[unit].triggers}
        return {*group.units, *started}

    def _faults(self, group: Group, from_seconds: float, to_seconds: float) -> list[Fault]:
        members = self._members(group)
        return [
            fault
            for fault in self.world.facts.faults
            if fault.unit in members and from_seconds <= fault.at_seconds <= to_seconds
        ]

    def _report(self, group_id: str) -> GroupReport | None:
        return next((report for report in self.world.reports() if report.id == group_id), None)
