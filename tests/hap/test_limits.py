"""Limits of unauthenticated connections."""

import pytest

from hkswitch.hap.log_limiter import (
    LOG_INTERVAL_SECONDS,
    MOST_COUNTED,
    MOST_KINDS,
    MOST_SOURCES,
    LogRateLimiter,
)
from hkswitch.hap.pairing_rules import PairSetup, Step
from hkswitch.hap.sessions import MOST_UNAUTHENTICATED, UnauthenticatedConnections


def full_of(*addresses: str) -> UnauthenticatedConnections[int]:
    strangers: UnauthenticatedConnections[int] = UnauthenticatedConnections()
    for number, address in enumerate(addresses):
        assert strangers.add(number, address, None) is None
    return strangers


def test_as_many_as_may_be_are_taken_in() -> None:
    assert len(full_of(*["a"] * MOST_UNAUTHENTICATED)) == MOST_UNAUTHENTICATED


@pytest.mark.parametrize(
    ("addresses", "spared", "closed"),
    [
        (["a"] * 32, None, 0),
        (["a"] * 32, 0, 1),
        (["b"] + ["a"] * 31, None, 1),
        (["b"] * 15 + ["a"] * 17, None, 15),
        ([str(number) for number in range(32)], None, 0),
        ([str(number) for number in range(32)], 0, 1),
    ],
)
def test_one_too_many_costs_the_oldest_of_the_address_that_has_the_most(
    addresses: list[str], spared: int | None, closed: int
) -> None:
    assert full_of(*addresses).add(99, "new", spared) == closed


def test_one_that_went_makes_room() -> None:
    strangers = full_of(*["a"] * MOST_UNAUTHENTICATED)
    strangers.discard(7)
    strangers.discard(7)
    assert strangers.add(99, "a", None) is None
    assert (7 in strangers, 99 in strangers) == (False, True)


def test_only_one_may_pair_at_a_time() -> None:
    setup: PairSetup[str] = PairSetup()
    assert setup.begin("a")
    assert not setup.begin("b")
    setup.end("b")
    assert not setup.begin("b")
    setup.end("a")
    assert setup.begin("b")


def test_the_holder_may_begin_again() -> None:
    setup: PairSetup[str] = PairSetup()
    assert [setup.begin("a"), setup.begin("a"), setup.is_next("a", Step.PROVE)] == [True, True, True]


def test_the_steps_come_in_order() -> None:
    setup: PairSetup[str] = PairSetup()
    setup.begin("a")
    assert setup.is_next("a", Step.PROVE)
    setup.proved()
    assert setup.is_next("a", Step.EXCHANGE)


@pytest.mark.parametrize(
    ("steps", "who"),
    [
        ([Step.EXCHANGE], "a"),  # without the proof
        ([Step.PROVE, Step.EXCHANGE], "a"),  # with a wrong one
        ([Step.PROVE, Step.PROVE], "a"),  # another guess at the same challenge
        ([Step.PROVE], "b"),
        ([Step.BEGIN], "a"),
    ],
)
def test_a_step_out_of_order_is_none(steps: list[Step], who: str) -> None:
    setup: PairSetup[str] = PairSetup()
    setup.begin("a")
    assert not [setup.is_next(who, step) for step in steps][-1]


def test_nothing_comes_next_before_a_beginning() -> None:
    assert not any(PairSetup[str]().is_next("a", step) for step in Step)


def test_an_address_is_complained_about_once_a_minute() -> None:
    limiter = LogRateLimiter()
    assert [limiter.may_log("a", at) for at in (0, 1, 59.9, 60, 61)] == [True, False, False, True, False]
    assert limiter.may_log("b", 61)


def test_many_addresses_make_a_few_lines_of_a_kind_and_hide_no_other_kind() -> None:
    limiter = LogRateLimiter()
    lines = sum(limiter.may_log(str(number), number / 1e6, "flood") for number in range(5_000))
    assert lines == MOST_SOURCES
    assert limiter.may_log("phone", 1, "trouble")
    assert not limiter.may_log("phone", 2, "other trouble")


def test_any_number_of_kinds_makes_no_more_lines_and_is_forgotten() -> None:
    limiter = LogRateLimiter()
    numbers = range(10_000)
    assert sum(limiter.may_log(str(each), 0, str(each)) for each in numbers) == MOST_KINDS + MOST_SOURCES
    assert limiter.may_log("phone", LOG_INTERVAL_SECONDS, "trouble")
    assert (
        sum(limiter.may_log(str(each), LOG_INTERVAL_SECONDS, "trouble") for each in numbers)
        == MOST_SOURCES - 1
    )


def test_what_is_left_out_is_summed_up_after_a_minute_and_once() -> None:
    limiter = LogRateLimiter()
    for number in range(MOST_SOURCES + 7):
        for at in (0, 1):
            limiter.may_log(f"10.0.0.{number}", at, "flood", f"10.0.0.{number}: x")
    assert limiter.due_seconds == LOG_INTERVAL_SECONDS
    assert limiter.suppressed(LOG_INTERVAL_SECONDS - 1) == []
    assert limiter.suppressed(LOG_INTERVAL_SECONDS) == [("7", f"10.0.0.{MOST_SOURCES + 6}: x")]
    assert limiter.suppressed(LOG_INTERVAL_SECONDS) == []
    assert limiter.due_seconds is None


def test_sources_are_counted_to_a_limit() -> None:
    limiter = LogRateLimiter()
    for number in range(5_000):
        limiter.may_log(str(number), 0)
    assert limiter.suppressed(LOG_INTERVAL_SECONDS) == [(f"at least {MOST_COUNTED}", "")]
