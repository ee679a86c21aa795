"""The latch: events in, decisions out. Each row is a story; each event is followed by what it leads to."""

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Final, NamedTuple

import pytest

from hkswitch.model.group import Commands, Group, RestartWhen
from hkswitch.model.restart_rule_events import Armed, GaveUp
from hkswitch.model.switch_events import GroupChanged, Observed, RequestFailed
from hkswitch.model.trouble import (
    MOST_RUNS,
    WELL_SECONDS,
    AwaitCheck,
    AwaitWell,
    CheckOverdue,
    Closed,
    Latch,
    Opened,
    StayedWell,
    TroubleDecision,
    TroubleEvent,
)
from hkswitch.model.unit_state import (
    Action,
    ActiveState,
    GroupState,
    LoadState,
    ProbeResult,
    UnitFailure,
    UnitHealth,
    UnitState,
)

GROUP: Final = Group("web", "Web", ("a.service", "b.service"))
NARROWER: Final = replace(GROUP, units=("a.service",))
RENAMED: Final = replace(GROUP, name="Website")
RULED: Final = replace(GROUP, restart_when=RestartWhen(cpu_percent=50))
CHECKED: Final = replace(GROUP, check=("/opt/check",), timeout_seconds=10)
LAMP: Final = Group("lamp", "Lamp", commands=Commands(("/opt/on",), ("/opt/off",), ("/opt/status",)))
TIMER: Final = Group("backup", "Backup", ("backup.timer",))
STACK: Final = Group("stack", "Stack", compose="immich")

UP: Final = UnitState(LoadState.LOADED, ActiveState.ACTIVE, "running")
DOWN: Final = UnitState(LoadState.LOADED, ActiveState.INACTIVE, "dead")
STARTING: Final = UnitState(LoadState.LOADED, ActiveState.ACTIVATING, "start")
STOPPING: Final = UnitState(LoadState.LOADED, ActiveState.DEACTIVATING, "stop-sigterm")
FAILED: Final = UnitState(LoadState.LOADED, ActiveState.FAILED, "failed")
LOOPING: Final = UnitState(LoadState.LOADED, ActiveState.ACTIVATING, "auto-restart")
GONE: Final = UnitState(LoadState.NOT_FOUND, ActiveState.INACTIVE, "dead")

KILLED: Final = UnitFailure("r1", is_requested=False, reason="a.service was killed by SIGKILL")
AGAIN: Final = KILLED._replace(run="r2")
STOPPED: Final = UnitFailure("r1", is_requested=True, reason="a.service exited with status 143")
FORGOTTEN: Final = STOPPED._replace(is_requested=False)
"""The same run, as a new helper reports it."""

UNKNOWN: Final = Observed(None, None, "no helper")
KILLED_A: Final = Opened(KILLED.reason)
GAVE_UP: Final = GaveUp("gave up", "cpu 97 %")
ARMED: Final = Armed("started")
START_FAILED: Final = RequestFailed(Action.START, "a.service exited with status 1")

Story = list[tuple[TroubleEvent, list[TroubleDecision]]]


def units(
    a: UnitState, b: UnitState = UP, /, check: ProbeResult | None = None, **failures: UnitFailure
) -> Observed:
    """The host knows a.service and b.service, and their failures."""
    failed = {f"{name}.service": failure for name, failure in failures.items()}
    why = "ping exited with status 1" if check is ProbeResult.OFF else ""
    return Observed({"a.service": a, "b.service": b}, check, why, failed)


def typed(decisions: Iterable[TroubleDecision]) -> list[tuple[type, TroubleDecision]]:
    """Named tuples with the same in them are equal, whatever they mean."""
    return [(type(decision), decision) for decision in decisions]


WELL: Final = units(UP)
CRASHED: Final = units(FAILED, a=KILLED)
TRUE: Final = units(UP, check=ProbeResult.ON)
FALSE: Final = units(UP, check=ProbeResult.OFF)
ASKED: Final = units(UP)
"""Of a group with a check: it has not answered."""
CHECK_FAILS: Final = Opened("the check fails: ping exited with status 1")


def after(group: Group, *events: TroubleEvent) -> Latch:
    latch = Latch(group)
    for event in events:
        latch, _ = latch.step(event)
    return latch


NEW: Final = Latch(GROUP)
OPEN: Final = after(GROUP, WELL, CRASHED)
KEPT: Final = replace(NEW, is_open=True, judged=OPEN.judged)
"""After a restart of the daemon."""

STORIES: dict[str, tuple[Latch, Story]] = {
    # What opens it
    "a crash opens it at once": (NEW, [(WELL, []), (CRASHED, [KILLED_A])]),
    "a failure that it finds opens it": (NEW, [(CRASHED, [KILLED_A])]),
    "a failure of which nothing is said has a reason": (
        NEW,
        [(units(FAILED, a=KILLED._replace(reason="")), [Opened("a.service failed")])],
    ),
    "of two failures the first member's is the reason": (
        NEW,
        [(units(FAILED, FAILED, a=KILLED, b=AGAIN._replace(reason="b.service failed")), [KILLED_A])],
    ),
    "a failure of a unit that is about to be started again opens it": (
        NEW,
        [(units(LOOPING, a=KILLED), [KILLED_A])],
    ),
    "a failure opens it while another member is missing": (
        NEW,
        [(units(FAILED, GONE, a=KILLED), [KILLED_A])],
    ),
    "the service of a timer opens it, whose own state is well": (
        Latch(TIMER),
        [
            (Observed({"backup.timer": UP}, failures={"backup.timer": KILLED}), [KILLED_A]),
            (Observed({"backup.timer": UP}), [AwaitWell(1)]),
        ],
    ),
    "a start that fails opens it, although the group is off": (
        NEW,
        [
            (units(DOWN, DOWN), []),
            (START_FAILED, [Opened("start failed: a.service exited with status 1"), AwaitWell(1)]),
            (StayedWell(1), [Closed()]),
        ],
    ),
    "a start command that fails opens it": (
        Latch(LAMP),
        [
            (Observed({}, ProbeResult.OFF), []),
            (START_FAILED._replace(failure="no"), [Opened("start failed: no"), AwaitWell(1)]),
        ],
    ),
    "a status command that turns off is no trouble": (
        Latch(LAMP),
        [(Observed({}, ProbeResult.ON), []), (Observed({}, ProbeResult.OFF), [])],
    ),
    "a restart that fails opens it": (
        NEW,
        [(RequestFailed(Action.RESTART, "no"), [Opened("restart failed: no")])],
    ),
    "a rule that gives up opens it until it is armed": (
        Latch(RULED),
        [
            (WELL, []),
            (GAVE_UP, [Opened("gave up: cpu 97 %")]),
            (WELL, []),
            (ARMED, [AwaitWell(1)]),
            (StayedWell(1), [Closed()]),
        ],
    ),
    "a rule that had given up before a restart of the daemon opens it": (
        Latch(RULED),
        [(GaveUp("gave up", ""), [Opened("gave up")])],
    ),
    # What does not
    "a stop that fails does not open it": (NEW, [(WELL, []), (RequestFailed(Action.STOP, "no"), [])]),
    "a requested failure does not open it": (NEW, [(WELL, []), (units(FAILED, a=STOPPED), [])]),
    "a requested failure does not open it when a new helper reports it": (
        NEW,
        [(units(FAILED, a=STOPPED), []), (UNKNOWN, []), (units(FAILED, a=FORGOTTEN), [])],
    ),
    "another run of the same unit opens it": (
        NEW,
        [(units(FAILED, a=STOPPED), []), (units(FAILED, a=AGAIN), [KILLED_A])],
    ),
    "the same run of another unit opens it": (
        NEW,
        [(units(FAILED, UP, a=STOPPED), []), (units(UP, FAILED, b=KILLED), [KILLED_A])],
    ),
    "a failed state of which no failure is told does not open it": (
        NEW,
        [(units(FAILED), []), (units(LOOPING), [])],
    ),
    "a group that is off, stops or starts is well": (
        NEW,
        [(units(DOWN, DOWN), []), (units(STARTING, DOWN), []), (units(UP, STOPPING), [])],
    ),
    "an unknown or missing member does not open it": (
        NEW,
        [(UNKNOWN, []), (Observed({}), []), (units(GONE), [])],
    ),
    "a status command that says off does not open it": (Latch(LAMP), [(Observed({}, ProbeResult.OFF), [])]),
    "a failure of something that is no member does not open it": (
        Latch(NARROWER),
        [(units(UP, FAILED, b=KILLED), [])],
    ),
    # One event for one trouble
    "a crash loop is one trouble": (
        NEW,
        [
            (units(LOOPING, a=KILLED), [KILLED_A]),
            (units(STARTING), [AwaitWell(1)]),
            (WELL, []),
            (units(LOOPING, a=AGAIN), []),
            (units(STARTING), [AwaitWell(2)]),
            (StayedWell(1), []),
            (units(LOOPING), []),
            (StayedWell(2), []),
        ],
    ),
    "whatever else goes wrong is the same trouble": (
        OPEN,
        [(START_FAILED, []), (GAVE_UP, []), (units(FAILED, FAILED, a=KILLED, b=KILLED), [])],
    ),
    "after its end the same failure is no new trouble, and the next one is": (
        OPEN,
        [
            (WELL, [AwaitWell(1)]),
            (StayedWell(1), [Closed()]),
            (CRASHED, []),
            (units(FAILED, a=AGAIN), [KILLED_A]),
        ],
    ),
    # What closes it
    "it closes when it was well for a while": (
        OPEN,
        [(WELL, [AwaitWell(1)]), (WELL, []), (StayedWell(1), [Closed()])],
    ),
    "a stop lets it close": (OPEN, [(units(DOWN, DOWN), [AwaitWell(1)]), (StayedWell(1), [Closed()])]),
    "a stop that ends badly lets it close": (
        OPEN,
        [(units(FAILED, a=STOPPED._replace(run="r2")), [AwaitWell(1)]), (StayedWell(1), [Closed()])],
    ),
    "a crash stays one when a new helper takes it for a stop": (
        OPEN,
        [(CRASHED, []), (units(FAILED, a=KILLED._replace(is_requested=True)), [])],
    ),
    "a failed start is a break": (
        OPEN,
        [
            (WELL, [AwaitWell(1)]),
            (START_FAILED, [AwaitWell(2)]),
            (StayedWell(1), []),
            (StayedWell(2), [Closed()]),
        ],
    ),
    "an unknown state is a break": (
        OPEN,
        [
            (WELL, [AwaitWell(1)]),
            (UNKNOWN, []),
            (StayedWell(1), []),
            (WELL, [AwaitWell(2)]),
            (StayedWell(2), [Closed()]),
        ],
    ),
    "a missing unit is a break": (OPEN, [(WELL, [AwaitWell(1)]), (units(GONE), []), (StayedWell(1), [])]),
    "a status command without an answer is a break": (
        after(LAMP, START_FAILED),
        [
            (Observed({}, ProbeResult.OFF), [AwaitWell(1)]),
            (Observed({}, ProbeResult.UNAVAILABLE), []),
            (StayedWell(1), []),
        ],
    ),
    "the timer of an earlier trouble does not close it": (
        NEW,
        [
            (CRASHED, [KILLED_A]),
            (WELL, [AwaitWell(1)]),
            (StayedWell(1), [Closed()]),
            (units(FAILED, a=AGAIN), [KILLED_A]),
            (WELL, [AwaitWell(2)]),
            (StayedWell(1), []),
        ],
    ),
    "a requested failure that a new helper finds is no break": (
        after(TIMER, Observed({"backup.timer": UP}), START_FAILED),
        [
            (Observed({"backup.timer": UP}, failures={"backup.timer": STOPPED}), []),
            (Observed({"backup.timer": UP}, failures={"backup.timer": FORGOTTEN}), []),
            (StayedWell(1), [Closed()]),
        ],
    ),
    # Kept over restarts
    "what was kept stays open until it was well, and tells nothing anew": (
        KEPT,
        [(UNKNOWN, []), (CRASHED, []), (WELL, [AwaitWell(1)]), (StayedWell(1), [Closed()]), (CRASHED, [])],
    ),
    "what was kept closed does not open for a run that it judged": (
        replace(KEPT, is_open=False),
        [(CRASHED, []), (units(FAILED, a=AGAIN), [KILLED_A])],
    ),
    # The check
    "a check that turns false opens it at once": (
        Latch(CHECKED),
        [(ASKED, [AwaitCheck(1)]), (TRUE, []), (FALSE, [CHECK_FAILS]), (TRUE, [AwaitWell(1)])],
    ),
    "a check that is false for too long after a start opens it": (
        Latch(CHECKED),
        [
            (units(DOWN), []),
            (FALSE, [AwaitCheck(1)]),
            (CheckOverdue(1), [CHECK_FAILS]),
            (TRUE, [AwaitWell(1)]),
        ],
    ),
    "a check that says so only after that time opens it at once": (
        Latch(CHECKED),
        [(ASKED, [AwaitCheck(1)]), (CheckOverdue(1), []), (ASKED, []), (FALSE, [CHECK_FAILS])],
    ),
    "a check that comes true in time does not open it": (
        Latch(CHECKED),
        [(FALSE, [AwaitCheck(1)]), (TRUE, []), (CheckOverdue(1), [])],
    ),
    "a check without an answer does not open it": (
        Latch(CHECKED),
        [(units(UP, check=ProbeResult.UNAVAILABLE), [AwaitCheck(1)]), (CheckOverdue(1), [])],
    ),
    "a check that is false while not all members are up does not open it": (
        Latch(CHECKED),
        [
            (TRUE, [AwaitCheck(1)]),
            (units(STOPPING, check=ProbeResult.OFF), []),
            (units(DOWN, DOWN, check=ProbeResult.OFF), []),
            (FALSE, [AwaitCheck(2)]),
            (CheckOverdue(1), []),
        ],
    ),
    "a check that is false keeps it open": (
        after(CHECKED, ASKED, START_FAILED),
        [(FALSE, []), (TRUE, [AwaitWell(1)]), (FALSE, []), (StayedWell(1), [])],
    ),
    "a check has the time of a start again after an unknown state": (
        after(CHECKED, TRUE),
        [(UNKNOWN, []), (FALSE, [AwaitCheck(2)]), (CheckOverdue(1), []), (CheckOverdue(2), [CHECK_FAILS])],
    ),
    # Reloads
    "a group that means the same stays as it is": (
        OPEN,
        [(WELL, [AwaitWell(1)]), (GroupChanged(RENAMED), []), (StayedWell(1), [Closed()])],
    ),
    "a group that means something else stays open, and its states are unknown": (
        OPEN,
        [
            (WELL, [AwaitWell(1)]),
            (GroupChanged(NARROWER), []),
            (StayedWell(1), []),
            (WELL, [AwaitWell(2)]),
            (StayedWell(2), [Closed()]),
        ],
    ),
    "a member that stays keeps its judged runs": (
        after(GROUP, units(FAILED, FAILED, a=STOPPED, b=STOPPED)),
        [
            (GroupChanged(NARROWER), []),
            (units(FAILED, FAILED, a=FORGOTTEN), []),
            (GroupChanged(GROUP), []),
            (units(FAILED, FAILED, a=FORGOTTEN, b=FORGOTTEN), [Opened(FORGOTTEN.reason)]),
        ],
    ),
    "a rule that is removed keeps nothing open": (
        after(RULED, WELL, GAVE_UP),
        [(GroupChanged(GROUP), [AwaitWell(1)]), (StayedWell(1), [Closed()])],
    ),
}


@pytest.mark.parametrize("story", STORIES)
def test_a_story(story: str) -> None:
    latch, events = STORIES[story]
    for event, expected in events:
        latch, decisions = latch.step(event)
        assert typed(decisions) == typed(expected), event


def test_of_a_project_with_several_failing_containers_each_run_is_judged_once() -> None:
    runs = [KILLED._replace(run=f"r{number}") for number in range(MOST_RUNS)]
    latch = Latch(STACK)
    member = STACK.members[0]
    opened = []
    for failure in (*runs, *runs):
        latch, decisions = latch.step(Observed({member: FAILED}, failures={member: failure}))
        opened += [decision for decision in decisions if isinstance(decision, Opened)]
        latch = replace(latch, is_open=False)
    assert len(opened) == MOST_RUNS


PATIENT: Final = replace(CHECKED, timeout_seconds=60)
GROUPS: Final = (GROUP, CHECKED, PATIENT, RULED, NARROWER, RENAMED)


# Random histories, against a model that looks at the whole history


class Moment(NamedTuple):
    """An event, and when it came."""

    at_seconds: float
    event: TroubleEvent


class Told(NamedTuple):
    """A trouble that began (with its reason) or ended."""

    at_seconds: float
    reason: str | None


def history(chance: random.Random) -> Iterator[Moment]:
    """Return what may happen to a group, with little respect for what is likely."""
    group, now_seconds, run = chance.choice(GROUPS), 0.0, 0
    states = {"a": UP, "b": UP}
    failures: dict[str, UnitFailure] = {}
    check: ProbeResult | None = None
    yield Moment(0, GroupChanged(group))
    for _ in range(chance.randrange(60)):
        now_seconds += chance.choice([0.01, 0.3, 4, 9, 12, 29, 33, 70]) * chance.uniform(0.9, 1.1)
        kind = chance.random()
        if kind < 0.08:
            yield Moment(now_seconds, UNKNOWN)
            failures = {name: each._replace(is_requested=False) for name, each in failures.items()}
            continue
        if kind < 0.16:
            yield Moment(now_seconds, chance.choice(OTHERS))
            continue
        if kind < 0.2:
            group = chance.choice(GROUPS)
            yield Moment(now_seconds, GroupChanged(group))
            continue
        name = chance.choice("ab")
        states[name] = chance.choice([*[UP] * 6, DOWN, STARTING, STOPPING, FAILED, FAILED, LOOPING, GONE])
        if states[name].health is UnitHealth.FAILED and chance.random() < 0.8:
            run += chance.random() < 0.7
            failures[name] = UnitFailure(f"r{run}", chance.random() < 0.4, f"{name} failed in {run}")
        elif chance.random() < 0.9:
            failures.pop(name, None)
        check = chance.choice([*ProbeResult, ProbeResult.OFF, check, check, None])
        yield Moment(now_seconds, units(states["a"], states["b"], check=check, **failures))


OTHERS: Final[tuple[TroubleEvent, ...]] = (
    *(RequestFailed(action, "no") for action in Action),
    *(GAVE_UP, ARMED),
)


@dataclass
class WholeHistory:
    """What should be told, by a look at everything that happened so far at each moment."""

    seen: list[Moment] = field(default_factory=list)

    def judgements(self) -> dict[tuple[str, str], bool]:
        """Return every run that was told to have failed, and whether that was requested at first."""
        found: dict[tuple[str, str], bool] = {}
        for group, moment in self.with_groups():
            if isinstance(moment.event, GroupChanged):
                found = {key: value for key, value in found.items() if key[0] in moment.event.group.units}
            elif isinstance(moment.event, Observed) and moment.event.units is not None:
                for unit, failure in moment.event.failures.items():
                    if unit in group.units:
                        found.setdefault((unit, failure.run), failure.is_requested)
        return found

    def with_groups(self) -> Iterator[tuple[Group, Moment]]:
        group = GROUP
        for moment in self.seen:
            if isinstance(moment.event, GroupChanged):
                group = moment.event.group
            yield group, moment

    @property
    def group(self) -> Group:
        return [group for group, _ in self.with_groups()][-1]

    def reports(self) -> list[Moment]:
        """Return the reports since the group's meaning changed last."""
        found: list[Moment] = []
        for (before, _), (group, moment) in pairwise([(GROUP, self.seen[0]), *self.with_groups()]):
            if group.token != before.token:
                found = []
            if isinstance(moment.event, Observed):
                found.append(moment)
        return found

    def last(self) -> Observed | None:
        """Return what the host knows now, if it knows something."""
        reports = self.reports()
        known = reports[-1].event if reports else None
        return known if isinstance(known, Observed) and known.units is not None else None

    def time_up(self) -> list[Moment]:
        """Return the last reports in a row in which all members were up."""
        row: list[Moment] = []
        for moment in reversed(self.reports()):
            assert isinstance(moment.event, Observed)
            known = moment.event.units or {}
            if not all(unit in known and known[unit].health is UnitHealth.UP for unit in self.group.units):
                break
            row.insert(0, moment)
        return row

    def check_fails(self, now_seconds: float) -> bool:
        row = self.time_up() if self.group.check else []
        results = [moment.event.probe_result for moment in row if isinstance(moment.event, Observed)]
        is_overdue = bool(row) and now_seconds >= row[0].at_seconds + self.group.timeout_seconds
        return bool(row) and results[-1] is ProbeResult.OFF and (ProbeResult.ON in results or is_overdue)

    def has_given_up(self) -> bool:
        found = False
        for group, moment in self.with_groups():
            found = isinstance(moment.event, GaveUp) or (found and not isinstance(moment.event, Armed))
            found = found and not (isinstance(moment.event, GroupChanged) and group.restart_when is None)
        return found

    def is_well(self) -> bool:
        known, judged = self.last(), self.judgements()
        if known is None or known.units is None:
            return False
        state = self.group.state(known.units, known.probe_result)
        if self.has_given_up() and state is not GroupState.OFF:
            return False
        is_false = self.group.check and self.time_up() and known.probe_result is ProbeResult.OFF
        unexplained = [unit for unit in self.group.units if unit not in known.failures]
        has_failed = any(known.units[unit].health is UnitHealth.FAILED for unit in unexplained)
        has_failure = any(
            not judged[unit, failure.run]
            for unit, failure in known.failures.items()
            if unit in self.group.units
        )
        return state not in {None, GroupState.MISSING} and not (is_false or has_failed or has_failure)

    def new_reasons(self, moment: Moment) -> list[str]:
        """Add an event, and return what in it is a reason to open."""
        before = self.judgements()
        self.seen.append(moment)
        match moment.event:
            case RequestFailed(action, failure) if action is not Action.STOP:
                return [f"{action} failed: {failure}"]
            case GaveUp(reason, excess):
                return [f"{reason}: {excess}"]
            case Observed(dict(), _, _, failures):
                own = {unit: failures[unit] for unit in self.group.units if unit in failures}
                found = [
                    failure.reason
                    for unit, failure in own.items()
                    if (unit, failure.run) not in before and not failure.is_requested
                ]
                return found + self.check_reasons(moment.at_seconds)
        return []

    def check_reasons(self, now_seconds: float) -> list[str]:
        return [CHECK_FAILS.reason] if self.check_fails(now_seconds) else []


def expected(moments: list[Moment]) -> list[Told]:
    """Return what should be told, with each time computed instead of awaited."""
    told: list[Told] = []
    known, is_open, well_since = WholeHistory(), False, float("inf")

    def note(now_seconds: float, reasons: list[str], *, is_break: bool) -> None:
        nonlocal is_open, well_since
        if reasons and not is_open:
            told.append(Told(now_seconds, reasons[0]))
            is_open, well_since = True, float("inf")
        if not is_open or not known.is_well():
            well_since = float("inf")
        elif is_break or well_since == float("inf"):
            well_since = now_seconds

    for moment in [*moments, Moment(moments[-1].at_seconds + 1000, GroupChanged(GROUP))]:
        due = {
            well_since + WELL_SECONDS: "well",
            **{
                row[0].at_seconds + known.group.timeout_seconds: "check"
                for row in [known.seen and known.time_up()]
                if row
            },
        }
        for at_seconds in sorted(at for at in due if at < moment.at_seconds):
            if due[at_seconds] == "check":
                note(at_seconds, known.check_reasons(at_seconds), is_break=False)
            elif is_open and well_since + WELL_SECONDS == at_seconds:
                told.append(Told(at_seconds, None))
                is_open, well_since = False, float("inf")
        if moment.at_seconds <= moments[-1].at_seconds:
            reasons = known.new_reasons(moment)
            is_request = isinstance(moment.event, RequestFailed) and moment.event.action is not Action.STOP
            note(moment.at_seconds, reasons, is_break=is_request)
    return told


def told_by_the_latch(moments: list[Moment]) -> list[Told]:
    """Return what the latch tells, with its timers; none of them is ever stopped."""
    latch, told, waiting = Latch(GROUP), list[Told](), [*moments]
    while waiting:
        waiting.sort(key=lambda moment: moment.at_seconds)
        at_seconds, event = waiting.pop(0)
        if at_seconds > moments[-1].at_seconds + 1000:
            break
        latch, decisions = latch.step(event)
        for decision in decisions:
            match decision:
                case Opened(reason):
                    told.append(Told(at_seconds, reason))
                case Closed():
                    told.append(Told(at_seconds, None))
                case AwaitWell(number):
                    waiting.append(Moment(at_seconds + WELL_SECONDS, StayedWell(number)))
                case AwaitCheck(number):
                    waiting.append(Moment(at_seconds + latch.group.timeout_seconds, CheckOverdue(number)))
    return told


SEEDS: Final = range(100)


def test_in_random_histories_it_tells_what_a_look_at_the_whole_history_says() -> None:
    opened = closed = 0
    for seed in SEEDS:
        moments = [*history(random.Random(seed))]
        told = told_by_the_latch(moments)
        assert told == expected(moments), f"seed {seed}"
        opened += sum(each.reason is not None for each in told)
        closed += sum(each.reason is None for each in told)
    assert min(opened, closed) > len(SEEDS) / 2
