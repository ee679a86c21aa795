"""The latch of a group's trouble: events in, decisions out. Pure: no I/O.

It opens at once when a member fails, when a start or restart fails, when the check turns false while all
members are up, and when the group's rule gives up. It closes after the group was well for `WELL_SECONDS`
without a break. An unknown state neither opens nor closes it.

A requested failure opens nothing, and neither does one that was judged before: a new helper reports the
failures that it finds, and cannot know which of them were requested.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

from hkswitch.model.group import Group
from hkswitch.model.restart_rule_events import Armed, GaveUp
from hkswitch.model.switch_events import GroupChanged, Observed, RequestFailed
from hkswitch.model.told_group import is_untold
from hkswitch.model.unit_state import (
    Action,
    GroupState,
    ProbeResult,
    UnitFailure,
    UnitHealth,
    UnitState,
    group_state,
)

WELL_SECONDS: Final = 30.0
"""How long a group must be well before its trouble has ended."""

MOST_RUNS: Final = 4
"""Judged runs of a member to remember: a compose project may fail with one container after another."""


class JudgedRun(NamedTuple):
    """A run of a member that has failed, and whether that was requested."""

    run: str
    is_requested: bool


Judged = Mapping[str, tuple[JudgedRun, ...]]
"""The judged runs of members, oldest first."""


class Trouble(NamedTuple):
    """The trouble that a group is in."""

    reason: str
    since_unix_seconds: int


class PastTrouble(NamedTuple):
    """A trouble of a group; `ended_unix_seconds` is None while it lasts."""

    group_id: str
    reason: str
    began_unix_seconds: int
    ended_unix_seconds: int | None = None


# Events, besides those of the switch, and the decisions of the switch and of the rule


class StayedWell(NamedTuple):
    """`WELL_SECONDS` have passed since the `AwaitWell` of this number."""

    number: int


class CheckOverdue(NamedTuple):
    """The group's `timeout_seconds` have passed since the `AwaitCheck` of this number."""

    number: int


TroubleEvent = Observed | GroupChanged | RequestFailed | GaveUp | Armed | StayedWell | CheckOverdue


# Decisions


class Opened(NamedTuple):
    """The group is in trouble."""

    reason: str


class Closed(NamedTuple):
    """The trouble has ended."""


class AwaitWell(NamedTuple):
    """Send `StayedWell` with this number after `WELL_SECONDS`."""

    number: int


class AwaitCheck(NamedTuple):
    """Send `CheckOverdue` with this number after the group's `timeout_seconds`."""

    number: int


TroubleDecision = Opened | Closed | AwaitWell | AwaitCheck


@dataclass(frozen=True, slots=True)
class Check:
    """What a group's check has said since all members are up."""

    result: ProbeResult | None = None
    why: str = ""
    was_true: bool = False
    """Whether it was true before."""
    is_overdue: bool = False
    """Whether it should be true by now."""

    @property
    def is_trouble(self) -> bool:
        """Whether it has turned false, or has been false for too long."""
        return self.result is ProbeResult.OFF and (self.was_true or self.is_overdue)

    @property
    def reason(self) -> str:
        """What it says, for a reader."""
        return f"the check fails: {self.why}" if self.why else "the check fails"

    def after(self, result: ProbeResult | None, why: str) -> "Check":
        """Return this after another result; None is no news."""
        was_true = self.was_true or result is ProbeResult.ON
        return replace(self, result=result, why=why, was_true=was_true)


@dataclass(frozen=True, slots=True)
class Latch:
    """The latch of a group at one moment; `step` returns the next one."""

    group: Group
    is_open: bool = False
    judged: Judged = field(default_factory=dict)
    state: GroupState | None = None
    """The group's state, None while it is unknown."""
    has_failed_member: bool = False
    """Whether a member has failed, also if it is about to be started again."""
    check: Check | None = None
    """What the check has said since all members are up; None while they are not, and without a check."""
    has_given_up: bool = False
    """Whether the group's rule has given up."""
    is_awaited: bool = False
    """Whether the timer of the newest `AwaitWell` runs; the group was well since it began."""
    wells: int = 0
    """The number of the newest `AwaitWell`."""
    checks: int = 0
    """The number of the newest `AwaitCheck`."""

    @property
    def is_well(self) -> bool:
        """Whether nothing is wrong, as far as is known; a group that is off can be well."""
        is_known = self.state not in {None, GroupState.MISSING}
        is_check_false = self.check is not None and self.check.result is ProbeResult.OFF
        # Of a group that was turned off, a rule wants nothing.
        has_given_up = self.has_given_up and self.state is not GroupState.OFF
        return is_known and not (self.has_failed_member or is_check_false or has_given_up)

    def step(self, event: TroubleEvent) -> "TroubleStep":
        """Return the latch after an event, and the decisions to carry out, in order."""
        match event:
            case Observed():
                return self._observed(event)
            case RequestFailed(action, failure):
                if action is Action.STOP:
                    return self, ()
                return replace(self, is_awaited=False)._settled(f"{action} failed: {failure}")
            case GaveUp(reason, excess):
                why = f"{reason}: {excess}" if excess else reason
                return replace(self, has_given_up=True)._settled(why)
            case Armed():
                return replace(self, has_given_up=False)._settled()
            case GroupChanged(group):
                return self._group_changed(group)._settled()
            case StayedWell(number):
                return self._stayed_well(number)
            case CheckOverdue(number):
                return self._check_overdue(number)

    def _observed(self, observed: Observed) -> "TroubleStep":
        if observed.units is None:
            return self._without_states()._settled()
        if observed.group is not None and observed.group != self.group:
            return self._group_changed(observed.group)._observed(observed)
        units, failures = observed.units, self._of_members(observed.failures)
        judged, reasons = self._with_judgements(failures)
        after = replace(self, judged=judged, state=self.group.state(units, observed.probe_result))
        after = replace(after, has_failed_member=after._has_failed(units, failures))
        after, awaits = after._checked(units, observed)
        if after.check is not None and after.check.is_trouble:
            reasons.append(after.check.reason)
        after, decisions = after._settled(*reasons)
        return after, (*awaits, *decisions)

    def _without_states(self) -> "Latch":
        return replace(self, state=None, has_failed_member=False, check=None)

    def _group_changed(self, group: Group) -> "Latch":
        """Apply a new config of the group; its states stay if the config means the same to root."""
        judged = self.judged
        if not is_untold(group):
            judged = {member: runs for member, runs in judged.items() if member in group.members}
        has_given_up = self.has_given_up and group.restart_when is not None
        after = replace(self, group=group, judged=judged, has_given_up=has_given_up)
        return after if group.token == self.group.token else after._without_states()

    def _of_members(self, failures: Mapping[str, UnitFailure]) -> dict[str, UnitFailure]:
        return {member: failures[member] for member in self.group.members if member in failures}

    def _with_judgements(self, failures: Mapping[str, UnitFailure]) -> tuple[Judged, list[str]]:
        """Judge new failures; return all judged runs, and the reasons of those that were not requested."""
        judged, reasons = dict(self.judged), []
        for member, failure in failures.items():
            runs = judged.get(member, ())
            if any(known.run == failure.run for known in runs):
                continue
            judged[member] = (*runs, JudgedRun(failure.run, failure.is_requested))[-MOST_RUNS:]
            if not failure.is_requested:
                reasons.append(failure.reason or f"{member} failed")
        return judged, reasons

    def _has_failed(self, units: Mapping[str, UnitState], failures: Mapping[str, UnitFailure]) -> bool:
        """Return whether a member has failed unless that was requested; the first verdict on a run counts."""
        failed = {each for each, state in units.items() if state.health is UnitHealth.FAILED}
        return any(
            JudgedRun(failures[member].run, is_requested=False) in self.judged[member]
            if member in failures
            else member in failed  # it waits for its next start, or its failure has not been told yet
            for member in self.group.members
        )

    def _checked(self, units: Mapping[str, UnitState], observed: Observed) -> "TroubleStep":
        """Note what the check says while all members are up, from the moment when they came up."""
        members = self.group.members
        are_known = all(member in units for member in members)
        are_up = are_known and group_state([units[member] for member in members]) is GroupState.ON
        if not self.group.check or not are_up:
            return replace(self, check=None), ()
        result, why = observed.probe_result, observed.why
        if self.check is not None:
            return replace(self, check=self.check.after(result, why)), ()
        number = self.checks + 1
        return replace(self, checks=number, check=Check().after(result, why)), (AwaitCheck(number),)

    def _check_overdue(self, number: int) -> "TroubleStep":
        if number != self.checks or self.check is None:
            return self, ()
        check = replace(self.check, is_overdue=True)
        return replace(self, check=check)._settled(*((check.reason,) if check.is_trouble else ()))

    def _stayed_well(self, number: int) -> "TroubleStep":
        if number != self.wells or not self.is_awaited:
            return self, ()
        return replace(self, is_open=False, is_awaited=False), (Closed(),)

    def _settled(self, *reasons: str) -> "TroubleStep":
        """Open for the first reason, if there is one, and begin or end the time in which it must be well."""
        after, decisions = self, list[TroubleDecision]()
        if reasons and not after.is_open:
            after = replace(after, is_open=True)
            decisions.append(Opened(reasons[0]))
        if not after.is_open or not after.is_well:
            return replace(after, is_awaited=False), tuple(decisions)
        if after.is_awaited:
            return after, tuple(decisions)
        after = replace(after, is_awaited=True, wells=after.wells + 1)
        return after, (*decisions, AwaitWell(after.wells))


TroubleStep = tuple[Latch, tuple[TroubleDecision, ...]]
