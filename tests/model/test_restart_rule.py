"""A group's restart rule: tables of what it does and does not, and random lives beside a plain rule."""

import json
import time
from collections import Counter
from collections.abc import Iterable
from random import Random
from typing import Any, Final, NoReturn

import pytest

from hkswitch.model.group import RestartWhen
from hkswitch.model.restart_rule import RestartRule
from hkswitch.model.restart_rule_events import (
    Armed,
    GaveUp,
    RestartDue,
    RestartEnded,
    RuleChanged,
    RuleDecision,
    RuleEvent,
    Sampled,
    SamplesLost,
)
from hkswitch.model.unit_state import Sample, Usage
from tests.model.rule_traces import MIB, RandomLife, guarded, typed

LIVES, LIVES_LONG = 300, 1_000_000
PARTS = 2

WEB: Final = "web.service"
CPU: Final = RestartWhen(cpu_percent=65)
MEMORY: Final = RestartWhen(memory_mib=900)
BOTH: Final = RestartWhen(65, 900)
QUICK: Final = CPU._replace(for_seconds=15)

STARTED: Final = Armed("web.service was started")
CPU_DUE: Final = RestartDue("cpu 97 % for 180 s (limit 65 %)")
MEMORY_DUE: Final = RestartDue("memory 950 MiB for 180 s (limit 900 MiB)")
GAVE_UP: Final = "gave up after 3 restarts within an hour"


def row(
    at: float,
    percent: float = 97,
    mib: int = 950,
    *,
    run: str = "1",
    since: float = 0.0,
    member: str = WEB,
) -> Usage:
    """A unit that has used that much from its start on."""
    return Usage(member, run, since, round((at - since) * percent * 10_000_000), mib * MIB)


def sampled(at: float, *rows: Usage, is_on: bool = True) -> Sampled:
    return Sampled(Sample(at, rows), is_on)


def hot(at: float, run: str = "1", since: float = 0.0) -> Sampled:
    return sampled(at, row(at, run=run, since=since))


def cold(at: float, run: str = "1", since: float = 0.0) -> Sampled:
    """One at which nothing was used since the start, so that it breaks the windows of a hot one."""
    return sampled(at, row(at, 0, 0, run=run, since=since))


def off(at: float, run: str = "1", since: float = 0.0) -> Sampled:
    return sampled(at, row(at, run=run, since=since), is_on=False)


def times(first: float, end: float, step: float = 15) -> Iterable[float]:
    """Times from `first` on, up to `end`, which is one of them."""
    while first <= end:
        yield first
        first += step


def rule(limits: RestartWhen = CPU) -> RestartRule:
    return RestartRule(limits, (WEB,))


def play(before: RestartRule, *events: RuleEvent) -> tuple[RestartRule, list[tuple[float, RuleDecision]]]:
    """Return the rule after these events, and its decisions with the times of their samples."""
    found: list[tuple[float, RuleDecision]] = []
    for event in events:
        before, decisions = before.step(event)
        at = event.sample.at_seconds if isinstance(event, Sampled) else -1.0
        found += [(at, decision) for decision in decisions]
    return before, found


def due_at(limits: RestartWhen, *events: RuleEvent) -> float | None:
    """Return when the rule decides its first restart."""
    _, found = play(rule(limits), *events)
    return next((at for at, decision in found if isinstance(decision, RestartDue)), None)


# The first sample that completes a window


@pytest.mark.parametrize("limits", [CPU, MEMORY, BOTH], ids=["cpu", "memory", "both"])
@pytest.mark.parametrize("for_seconds", [15, 100, 180])
@pytest.mark.parametrize(
    ("starts", "since"), [([0.5], 0.5), ([14.5], 14.5), ([7], 7), ([30], 30), ([2, 9, 4], 9)]
)
def test_a_unit_that_exceeds_a_limit_from_its_start_is_restarted_at_the_first_sample_after_a_window(
    limits: RestartWhen, for_seconds: int, starts: list[float], since: float
) -> None:
    limits = limits._replace(for_seconds=for_seconds)
    rows = {
        at: [row(at, since=start, member=f"{n}") for n, start in enumerate(starts) if start < at]
        for at in times(0, 300)
    }
    samples = [sampled(at, *rows[at], is_on=len(rows[at]) == len(starts)) for at in rows]
    assert due_at(limits, *samples) == min(at for at in rows if at >= since + for_seconds)


@pytest.mark.parametrize(
    ("limits", "first", "due"),
    [(CPU, 10_000, 10_180), (MEMORY, 10_000, 10_180), (BOTH, 20, 200), (QUICK, 20, 35)],
)
def test_a_unit_found_running_is_restarted_a_window_after_the_first_sample(
    limits: RestartWhen, first: float, due: float
) -> None:
    assert due_at(limits, *(hot(at) for at in times(first, 10_300))) == due


def usual(percent: float, mib: int = 0, more_bytes: int = 0, others: int = 0) -> list[Sampled]:
    rows = {
        at: [row(at, percent, mib, member=str(each)) for each in range(1 + others)] for at in times(0, 240)
    }
    for usages in rows.values():
        usages[0] = usages[0]._replace(memory_bytes=mib * MIB + more_bytes)
    return [sampled(at, *usages) for at, usages in rows.items()]


@pytest.mark.parametrize(
    ("limits", "samples", "reason"),
    [
        (CPU, usual(97), "cpu 97 % for 180 s (limit 65 %)"),
        (CPU, usual(65.1), "cpu 66 % for 180 s (limit 65 %)"),
        (CPU, usual(65), None),
        (CPU, usual(33, others=1), "cpu 66 % for 180 s (limit 65 %)"),
        (CPU, usual(32, others=1), None),
        (CPU._replace(cpu_percent=250), usual(140, others=1), "cpu 280 % for 180 s (limit 250 %)"),
        (CPU, usual(0, 5000), None),
        (MEMORY, usual(0, 950), "memory 950 MiB for 180 s (limit 900 MiB)"),
        (MEMORY, usual(0, 900, 1), "memory 901 MiB for 180 s (limit 900 MiB)"),
        (MEMORY, usual(0, 900), None),
        (MEMORY, usual(0, 301, others=2), "memory 903 MiB for 180 s (limit 900 MiB)"),
        (MEMORY, usual(0, 299, others=2), None),
        (MEMORY, usual(400, 0), None),
        (BOTH, usual(97, 0), "cpu 97 % for 180 s (limit 65 %)"),
        (BOTH, usual(0, 950), "memory 950 MiB for 180 s (limit 900 MiB)"),
        (BOTH, usual(97, 950), f"{CPU_DUE.reason} and {MEMORY_DUE.reason}"),
        (BOTH, usual(65, 900), None),
    ],
)
def test_what_is_above_a_limit_is_restarted_and_what_is_at_it_is_not(
    limits: RestartWhen, samples: list[Sampled], reason: str | None
) -> None:
    _, found = play(rule(limits), *samples)
    assert [(at, decision.reason) for at, decision in found] == ([] if reason is None else [(180, reason)])


# What breaks a window: there are samples of a hot unit at 0, 15, 30, ... and these at 90


def without(at: float, *missing: str) -> Sampled:
    usage = row(at)
    cpu = None if "cpu" in missing else usage.cpu_ns
    return sampled(
        at, usage._replace(cpu_ns=cpu, memory_bytes=None if "memory" in missing else usage.memory_bytes)
    )


STAYS: dict[str, list[RuleEvent]] = {
    "nothing": [hot(90)],
    "a sample more": [hot(90), hot(90.5)],
    "two samples fewer": [],
    "an end of no restart": [hot(90), RestartEnded("denied")],
    "a reload without a change": [hot(90), RuleChanged(BOTH, (WEB,))],
    "a reload of other keys": [hot(90), RuleChanged(BOTH._replace(at_most_per_hour=1), (WEB,))],
}
BREAKS: dict[str, tuple[list[RuleEvent], float]] = {
    "a group that is not on": ([sampled(90, row(90), is_on=False)], 285),
    "no runs": ([sampled(90)], 285),
    "less use": ([sampled(90, row(75, mib=1))], 270),
    "a lost connection": ([hot(90), SamplesLost()], 285),
    "the same time again": ([hot(90), hot(90)], 285),
    "a time before": ([hot(90), hot(80)], 285),
    "a start in the future": ([sampled(90, row(90)._replace(since_seconds=91))], 285),
    "a counter that goes back": ([sampled(90, row(30, mib=1))], 270),
    "nothing measured": ([without(90, "cpu", "memory")], 285),
    "a member not measured": (
        [sampled(90, row(90), row(90, member="b")._replace(cpu_ns=None, memory_bytes=None))],
        285,
    ),
    "a member that came and went": ([sampled(90, row(90), row(90, member="b"))], 285),
    "another limit": ([hot(90), RuleChanged(BOTH._replace(cpu_percent=66, memory_mib=901), (WEB,))], 285),
    "another member": ([hot(90), RuleChanged(BOTH, (WEB, "b.service"))], 285),
}
BREAKS_ONE: dict[str, tuple[Sampled, str]] = {
    "cpu not measured": (without(90, "cpu"), "memory 950 MiB for 180 s (limit 900 MiB)"),
    "memory not measured": (without(90, "memory"), "cpu 97 % for 180 s (limit 65 %)"),
    "less cpu": (sampled(90, row(75)), "memory 950 MiB for 180 s (limit 900 MiB)"),
    "a counter that goes back": (sampled(90, row(30)), "memory 950 MiB for 180 s (limit 900 MiB)"),
    "less memory": (sampled(90, row(90, mib=900)), "cpu 97 % for 180 s (limit 65 %)"),
}


def around_90(*events: RuleEvent) -> list[RuleEvent]:
    return [*(hot(at) for at in times(0, 75)), *events, *(hot(at) for at in times(105, 300))]


@pytest.mark.parametrize("events", STAYS.values(), ids=STAYS)
def test_a_window_goes_on(events: list[RuleEvent]) -> None:
    assert due_at(BOTH, *around_90(*events)) == 180


@pytest.mark.parametrize(("events", "due"), BREAKS.values(), ids=BREAKS)
def test_a_window_begins_anew_after_anything_unknown(events: list[RuleEvent], due: float) -> None:
    assert due_at(BOTH, *around_90(*events)) == due


@pytest.mark.parametrize(("event", "reason"), BREAKS_ONE.values(), ids=BREAKS_ONE)
def test_each_limit_has_a_window_of_its_own(event: Sampled, reason: str) -> None:
    _, found = play(rule(BOTH), *around_90(event))
    assert found == [(180, RestartDue(reason))]


@pytest.mark.parametrize(
    ("limits", "unmeasured", "description"),
    [
        (CPU, row(0)._replace(cpu_ns=None), "cannot measure cpu"),
        (MEMORY, row(0)._replace(memory_bytes=None), "cannot measure memory"),
    ],
)
def test_a_member_that_cannot_be_measured_keeps_the_others_from_exceeding_that_limit(
    limits: RestartWhen, unmeasured: Usage, description: str
) -> None:
    samples = [sampled(at, row(at), unmeasured._replace(member="b")) for at in times(0, 600)]
    now, found = play(rule(limits), *samples)
    assert (found, now.description) == ([], description)


@pytest.mark.parametrize(("seconds", "due"), [(45, 180), (45.5, 315.5)])
def test_samples_more_than_three_intervals_apart_break_a_window(seconds: float, due: float) -> None:
    assert due_at(BOTH, *(hot(at) for at in (*times(0, 90), *times(90 + seconds, 400)))) == due


@pytest.mark.parametrize(
    ("since", "due"),
    [
        (91, 271),  # within the interval: from its own start
        (104.5, 285),
        (60, 285),  # before a sample that does not have it: from the first sample that does
        (105, 285),
    ],
)
@pytest.mark.parametrize("others", [0, 1])
def test_a_new_run_begins_a_window_at_its_own_start(since: float, due: float, others: int) -> None:
    def at_time(at: float) -> Sampled:
        old = [row(at, member="other")] * others
        return sampled(at, *old, row(at, run="2", since=since) if at > 100 else row(at))

    samples = [at_time(at) for at in times(0, 400)]
    assert due_at(BOTH, *samples) == min(at for at in times(0, 400) if at >= due)


def test_a_run_that_began_under_way_counts_with_its_own_seconds_only() -> None:
    first = Usage(WEB, "2", 10.0, 4_000_000_000, 0)  # 4 s in 5 s
    assert due_at(QUICK, cold(0), sampled(15, first)) is None
    later = first._replace(cpu_ns=14_000_000_000)
    events = cold(0), sampled(15, first), sampled(30, later)
    _, found = play(rule(QUICK), *events)
    assert found == [(30, RestartDue("cpu 70 % for 20 s (limit 65 %)"))]


# After a decision


def restarted(run: int, first: float, end: float | None = None) -> list[RuleEvent]:
    """The restart ends, and from 5 s before `first` on there is a new run, which is hot, too."""
    samples = times(first, first + 180 if end is None else end)
    return [RestartEnded(), *(hot(at, str(run), first - 5) for at in samples)]


def test_a_rule_restarts_again_and_again_until_it_gives_up_once() -> None:
    events = [*(hot(at) for at in times(0, 180)), *restarted(2, 195), *restarted(3, 390)]
    now, found = play(rule(), *events, *restarted(4, 585, 10_005))
    due = RestartDue("cpu 97 % for 185 s (limit 65 %)")
    assert found[:3] == [(180, CPU_DUE), (375, due), (570, due)]
    assert found[3:] == [(765, GaveUp(GAVE_UP, due.reason))]
    assert now.description == GAVE_UP


@pytest.mark.parametrize(
    ("events", "due"),
    [
        # Old runs, while the restart goes on: nothing counts.
        ([*(hot(at) for at in times(195, 600))], []),
        # It failed: a full window from the first sample after that.
        ([hot(195), RestartEnded("denied"), *(hot(at) for at in times(210, 390))], [390]),
        ([hot(195), RestartEnded("denied"), *(hot(at) for at in times(210, 375))], []),
        ([RestartEnded("denied"), *(hot(at) for at in times(195, 375))], [375]),
        # It ended well: the sample that was on its way still shows the old run.
        ([RestartEnded(), hot(195), *(hot(at, "2", 197) for at in times(210, 390))], [390]),
        ([RestartEnded(), hot(195), *(hot(at, "2", 197) for at in times(210, 375))], []),
        # The new run was seen before the end of the restart.
        ([hot(195, "2", 185), hot(210, "2", 185), *restarted(2, 190, 180), hot(360, "2", 185)], []),
        (
            [hot(195, "2", 185), RestartEnded(), *(hot(at, "2", 185) for at in times(210, 375))],
            [375],
        ),
        # A restart that did nothing must not silence the rule.
        ([RestartEnded(), *(hot(at) for at in times(195, 390))], [390]),
        # The new run is off, or it is better.
        ([RestartEnded(), *(off(at, "2", 190) for at in times(195, 600))], []),
        ([RestartEnded(), *(cold(at, "2", 190) for at in times(195, 600))], []),
    ],
)
def test_after_its_own_restart_only_a_full_fresh_window_counts(
    events: list[RuleEvent], due: list[float]
) -> None:
    now, _ = play(rule(), *(hot(at) for at in times(0, 180)))
    _, found = play(now, *events)
    assert [at for at, _ in found] == due


def test_a_full_window_of_a_new_run_waits_for_the_end_of_the_restart() -> None:
    now, _ = play(rule(QUICK), hot(0), hot(15))
    now, found = play(now, *(hot(at, "2", 16) for at in times(30, 60)))
    assert found == []
    assert [at for at, _ in play(now, RestartEnded(), hot(75, "2", 16))[1]] == [75]
    assert play(now, RestartEnded(), off(75, "2", 16))[1] == []


@pytest.mark.parametrize("failure", [None, "denied"])
@pytest.mark.parametrize(
    ("first", "decision"),
    [(3580, GaveUp), (3615, RestartDue)],
)
def test_restarts_count_for_an_hour_also_those_that_failed(
    failure: str | None, first: float, decision: type[RuleDecision]
) -> None:
    once = CPU._replace(at_most_per_hour=1)
    now, _ = play(rule(once), *(hot(at) for at in times(0, 180)), RestartEnded(failure))
    _, found = play(now, *(hot(at, "2", first - 10) for at in times(first, first + 180)))
    assert [type(each) for _, each in found] == [decision]


GIVEN_UP: Final = play(
    rule(),
    *(hot(at) for at in times(0, 180)),
    *restarted(2, 195),
    *restarted(3, 390),
    *restarted(4, 585, 765),
)[0]


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ([hot(at, "4", 580) for at in times(780, 8000)], []),
        ([hot(780, "5", 770)], [(780, STARTED)]),
        ([off(780, "5", 770)], [(780, STARTED)]),
        ([cold(at, "4", 580) for at in times(780, 960)], [(960, Armed("below the limits for 180 s"))]),
        ([cold(at, "4", 580) for at in times(780, 945)], []),
        ([off(at, "4", 580) for at in times(780, 2000)], []),
        ([sampled(at) for at in times(780, 2000)], []),
        ([cold(at, "4", 580) for at in times(780, 8000, 46)], []),
        ([without(780, "cpu")], [(780, STARTED)]),
        ([SamplesLost(), hot(20, "1", 5)], [(20, Armed("the host was rebooted"))]),
        ([SamplesLost(), hot(780, "4", 580)], []),
        (
            [RuleChanged(CPU, (WEB, "b")), sampled(780, row(780, run="4", since=580), row(780, member="b"))],
            [],
        ),
    ],
)
def test_only_a_start_by_others_or_a_full_calm_window_arms_a_rule_that_gave_up(
    events: list[RuleEvent], expected: list[tuple[float, RuleDecision]]
) -> None:
    _, found = play(GIVEN_UP, *events)
    assert found == expected


def test_the_hour_binds_a_rule_that_is_armed_again() -> None:
    _, found = play(GIVEN_UP, *(hot(at, "5", 765) for at in times(780, 3900)))
    excess = "cpu 97 % for 180 s (limit 65 %)"
    assert found == [(780, STARTED), (945, GaveUp(GAVE_UP, excess))]
    _, found = play(GIVEN_UP, hot(780, "5", 765), *(hot(at, "5", 765) for at in times(3601, 3781)))
    assert [type(each) for _, each in found] == [Armed, RestartDue]


# Its words


@pytest.mark.parametrize(
    ("limits", "events", "description"),
    [
        (CPU, [], ""),
        (CPU, [hot(0)], ""),
        (CPU, [hot(at) for at in times(0, 120)], "cpu 97 % for 120 of 180 s"),
        (CPU, [*(hot(at) for at in times(0, 120)), sampled(135, row(120))], ""),
        (CPU, [*(hot(at) for at in times(0, 120)), off(135)], ""),
        (CPU, [*(hot(at) for at in times(0, 120)), SamplesLost()], ""),
        (CPU, [hot(at) for at in times(0, 180)], ""),
        (MEMORY, [hot(at) for at in times(0, 120)], "memory 950 MiB for 120 of 180 s"),
        (MEMORY, [hot(0)], "memory 950 MiB for 0 of 180 s"),
        (MEMORY, [cold(0)], ""),
        (BOTH, [sampled(0, row(0, mib=1)), hot(15), hot(30)], "cpu 97 % for 30 of 180 s"),
        (BOTH, [hot(0), sampled(15, row(0)), hot(30)], "memory 950 MiB for 30 of 180 s"),
        (CPU, [without(0, "cpu")], "cannot measure cpu"),
        (CPU, [without(0, "memory")], ""),
        (MEMORY, [without(0, "memory")], "cannot measure memory"),
        (
            BOTH,
            [without(at, "memory") for at in (0, 15)],
            "cpu 97 % for 15 of 180 s, cannot measure memory",
        ),
        (BOTH, [without(0, "cpu", "memory")], "cannot measure cpu, cannot measure memory"),
        (BOTH, [sampled(0, row(0)._replace(cpu_ns=None), is_on=False)], ""),
    ],
)
def test_the_status_says_how_far_a_rule_is(
    limits: RestartWhen, events: list[RuleEvent], description: str
) -> None:
    now, _ = play(rule(limits), *events)
    assert now.description == description


# What is kept


def kept_and_restored(before: RestartRule) -> RestartRule:
    return RestartRule.restored(before.limits, before.members, json.loads(json.dumps(before.kept)))


def test_only_a_decision_changes_what_is_kept() -> None:
    now = rule()
    for event in [*(hot(at) for at in times(0, 180)), *restarted(2, 195)]:
        before = now.kept
        now, decisions = now.step(event)
        assert (now.kept != before) is bool(decisions)


def test_a_new_daemon_counts_the_restarts_of_the_one_before() -> None:
    now, _ = play(rule(), *(hot(at) for at in times(0, 180)), *restarted(2, 195), *restarted(3, 390))
    now = kept_and_restored(now)
    now, found = play(now, *(hot(at, "4", 580) for at in times(585, 780)))
    assert found == [(765, GaveUp(GAVE_UP, CPU_DUE.reason))]
    now = kept_and_restored(now)
    assert now.description == GAVE_UP
    assert play(now, *(hot(at, "4", 580) for at in times(780, 8000)))[1] == []
    assert play(now, hot(780, "5", 770))[1] == [(780, STARTED)]


def test_after_a_reboot_earlier_restarts_do_not_count() -> None:
    assert play(kept_and_restored(GIVEN_UP), hot(20, "4", 5))[1] == [(20, Armed("the host was rebooted"))]
    once, _ = play(rule(CPU._replace(at_most_per_hour=1)), *(hot(at) for at in times(0, 180)))
    samples = [hot(at, "2", 5) for at in times(6, 170, 13)]
    assert play(kept_and_restored(once), *samples)[1] == []
    assert due_at(CPU, *samples) is None
    _, found = play(once, RestartEnded(), SamplesLost(), *(hot(at, "2", 5) for at in times(10, 190)))
    assert [type(each) for _, each in found] == [RestartDue]


RIGHT: Final = GIVEN_UP.kept
WRONG: Final[tuple[object, ...]] = ({}, -1)
MALFORMED: list[Any] = [
    *(None, [], {}, "no", {"gave_up": GAVE_UP}),
    *({key: value for key, value in RIGHT.items() if key != missing} for missing in RIGHT),
    *({**RIGHT, key: wrong} for key in RIGHT for wrong in WRONG),
    *({**RIGHT, key: "x"} for key in RIGHT if key != "gave_up"),
    *({**RIGHT, "clock_seconds": clock} for clock in (float("nan"), float("inf"), 10**400)),
    *({**RIGHT, "restarts_at_seconds": ends} for ends in ([None], ["1"], [10**400], [float("nan")])),
]


@pytest.mark.parametrize("kept", MALFORMED, ids=repr)
def test_malformed_memories_are_forgotten(kept: object) -> None:
    assert RestartRule.restored(CPU, (WEB,), kept) == rule()


@pytest.mark.parametrize("runs", [[["a"]], [[["a"], ["b"]]], ["ab"], [{}], [1]])
def test_malformed_runs_are_none(runs: object) -> None:
    now = RestartRule.restored(CPU, (WEB,), {**RIGHT, "runs": runs})
    assert now.gave_up_runs == frozenset()


# Any life


def test_the_clock_of_this_machine_is_irrelevant(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> NoReturn:
        pytest.fail("a rule looked at a clock")

    with monkeypatch.context() as patched:
        for name in ("time", "time_ns", "monotonic", "monotonic_ns", "localtime", "gmtime"):
            patched.setattr(time, name, refuse)
        had = guarded(RandomLife(Random(1)))
    assert had


@pytest.mark.parametrize("part", range(PARTS))
def test_in_any_life_it_decides_what_the_plain_rule_decides(part: int, long: bool) -> None:
    had: Counter[str] = Counter()
    lives = LIVES_LONG if long else LIVES
    for seed in range(part, lives, PARTS):
        try:
            had += guarded(RandomLife(Random(seed)))
        except Exception as error:
            error.add_note(f"seed {seed}")
            raise
    assert min(had[kind.__name__] for kind in (RestartDue, GaveUp, Armed)) > lives // 100


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ([RestartDue("x")], [Armed("x")]),
        ([RestartDue("x")], []),
        ([], [GaveUp("x", "y")]),
    ],
)
def test_decisions_of_different_kinds_are_different(
    ours: list[RuleDecision], theirs: list[RuleDecision]
) -> None:
    assert typed(ours) != typed(theirs)
