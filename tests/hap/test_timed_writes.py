"""Timed writes: prepared IDs that expire by the monotonic clock."""

from dataclasses import dataclass

import pytest

from hkswitch.hap.characteristics import (
    LARGEST_WRITE_ID,
    LONGEST_TIMED_WRITE_SECONDS,
    MOST_PREPARED_WRITES,
    TimedWrites,
)


@dataclass
class Clock:
    now_seconds: float = 1_000.0

    def __call__(self) -> float:
        return self.now_seconds


WELL_FORMED: list[object] = [
    {"ttl": 1, "pid": 1},
    {"ttl": 2500.5, "pid": 0},
    {"ttl": 0, "pid": LARGEST_WRITE_ID},
    {"ttl": 10**9, "pid": 1, "more": [1]},
]

MALFORMED: list[object] = [
    None,
    [],
    "ttl",
    {},
    {"ttl": 1},
    {"pid": 1},
    {"ttl": "1", "pid": 1},
    {"ttl": True, "pid": 1},
    {"ttl": None, "pid": 1},
    {"ttl": -1, "pid": 1},
    {"ttl": 1, "pid": "1"},
    {"ttl": 1, "pid": "x" * 60_000},  # which would stay in memory
    {"ttl": 1, "pid": True},
    {"ttl": 1, "pid": 1.0},
    {"ttl": 1, "pid": -1},
    {"ttl": 1, "pid": LARGEST_WRITE_ID + 1},
    {"ttl": 1, "pid": []},
]


@pytest.mark.parametrize("body", WELL_FORMED, ids=repr)
def test_a_number_of_64_bits_is_prepared(body: object) -> None:
    assert TimedWrites(Clock()).prepare(body)


@pytest.mark.parametrize("body", MALFORMED, ids=lambda body: f"{body!r:.40}")
def test_anything_else_is_not_and_nothing_is_kept_of_it(body: object) -> None:
    timed = TimedWrites(Clock())
    assert (timed.prepare(body), len(timed)) == (False, 0)


@pytest.mark.parametrize(
    ("ttl_ms", "later_seconds", "good"),
    [
        (1_000, 0.5, True),
        (1_000, 1.0, False),
        (0, 0.0, False),
        (10**9, LONGEST_TIMED_WRITE_SECONDS - 1, True),
        (10**9, LONGEST_TIMED_WRITE_SECONDS, False),
    ],
)
def test_a_write_is_in_time_or_refused(ttl_ms: float, later_seconds: float, good: bool) -> None:
    clock = Clock()
    timed = TimedWrites(clock)
    timed.prepare({"ttl": ttl_ms, "pid": 7})
    clock.now_seconds += later_seconds
    assert timed.may_write({"pid": 7}) is good


def test_a_number_is_good_once_and_others_are_not_at_all() -> None:
    timed = TimedWrites(Clock())
    timed.prepare({"ttl": 1_000, "pid": 1})
    others: list[object] = [0, 2, "1", 1.0, True, None, []]
    assert [timed.may_write({"pid": other}) for other in others] == [False] * len(others)
    assert [timed.may_write({"pid": 1}), timed.may_write({"pid": 1})] == [True, False]


def test_a_write_without_a_number_is_no_timed_one() -> None:
    assert TimedWrites(Clock()).may_write({"characteristics": []})


def test_one_too_many_costs_the_one_that_ends_first() -> None:
    timed = TimedWrites(Clock())
    for pid in range(MOST_PREPARED_WRITES + 1):
        timed.prepare({"ttl": 1_000 + pid, "pid": pid})
    assert len(timed) == MOST_PREPARED_WRITES
    assert [timed.may_write({"pid": 0}), timed.may_write({"pid": MOST_PREPARED_WRITES})] == [False, True]


def test_what_has_ended_makes_room() -> None:
    clock = Clock()
    timed = TimedWrites(clock)
    for pid in range(MOST_PREPARED_WRITES):
        timed.prepare({"ttl": 1_000, "pid": pid})
    clock.now_seconds += 2
    timed.prepare({"ttl": 1_000, "pid": 99})
    assert len(timed) == 1
