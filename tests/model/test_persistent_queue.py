"""What waits stays in order, its versions are apart, and twice as many cost twice as much."""

import sys
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from random import Random
from types import FrameType
from typing import Any

import pytest

from hkswitch.model import switch
from hkswitch.model.group import Group
from hkswitch.model.persistent_queue import PersistentQueue
from hkswitch.model.switch import Switch
from hkswitch.model.switch_events import (
    Answer,
    Event,
    RequestAccepted,
    RequestFinished,
    Send,
    WriteTimedOut,
    Written,
)

FEW, MANY = 150, 300
MOST_GROWTH = 2.4
"""Of twice as many: proportion is 2, the square 4."""

MODEL = str(Path(switch.__file__).parent)


@pytest.mark.parametrize("seed", range(8))
def test_it_is_a_list_of_which_every_version_stays(seed: int) -> None:
    chance = Random(seed)
    numbers = count(1)
    versions = [(PersistentQueue[int](), list[int]())]
    for _ in range(60):
        is_older = chance.random() < 0.1
        ours, plain = versions[chance.randrange(len(versions))] if is_older else versions[-1]
        if not plain or chance.random() < 0.6:
            number = next(numbers)
            versions.append((ours.added(number), [*plain, number]))
        else:
            index = chance.randrange(len(plain))
            versions.append((ours.without(index), plain[:index] + plain[index + 1 :]))
    for ours, plain in versions:
        assert (list(ours), len(ours), ours) == (plain, len(plain), PersistentQueue.of(*plain))
        assert [ours.find(number, int) for number in plain] == list(range(len(plain)))


@pytest.mark.parametrize("index", [-1, 2, 3])
def test_what_is_not_there_is_not_given(index: int) -> None:
    two = PersistentQueue.of(1, 2, 3).without(0)  # the list behind it has three
    with pytest.raises(IndexError):
        two[index]
    assert [two.find(number, int) for number in (0, 1, 4)] == [None, None, None]
    assert two != PersistentQueue.of(1, 2, 3)
    assert hash(two) == hash(PersistentQueue.of(2, 3))


def same_taps(many: int) -> Iterator[Event]:
    """Many controllers want the same, and nobody takes it."""
    yield from (Written(number, on=True) for number in range(1, many + 1))
    yield from (WriteTimedOut(number) for number in range(1, many + 1))


def same_taps_taken(many: int) -> Iterator[Event]:
    yield from (Written(number, on=True) for number in range(1, many + 1))
    yield RequestAccepted(1)
    yield from (WriteTimedOut(number) for number in range(1, many + 1))
    yield RequestFinished(1)


def on_and_off(many: int) -> Iterator[Event]:
    """Many that want the opposite of the one before, and nobody takes it."""
    yield from (Written(number, on=number % 2 == 1) for number in range(1, many + 1))
    yield from (WriteTimedOut(number) for number in range(1, many + 1))


def on_and_off_taken(many: int) -> Iterator[Event]:
    yield from (Written(number, on=number % 2 == 1) for number in range(1, many + 1))
    yield from (RequestAccepted(number) for number in range(1, many + 1))


def on_and_off_failed(many: int) -> Iterator[Event]:
    yield from (Written(number, on=number % 2 == 1) for number in range(1, many + 1))
    yield from (RequestFinished(number, "no") for number in range(1, many + 1))


def unanswered_and_replaced(many: int) -> Iterator[Event]:
    """Each was answered before the next one came, so that it waits with nobody waiting for it."""
    for number in range(1, many + 1):
        yield Written(number, on=number % 2 == 1)
        yield WriteTimedOut(number)


Events = Callable[[int], Iterator[Event]]
ALL: tuple[Events, ...] = (
    *(same_taps, same_taps_taken, on_and_off, on_and_off_taken, on_and_off_failed),
    unanswered_and_replaced,
)


def play(events: Iterator[Event]) -> Iterator[Any]:
    """The decisions of a switch."""
    now = Switch(Group("web", "Web", ("httpd.service",)))
    for event in events:
        now, decisions = now.step(event)
        yield from decisions


@contextmanager
def counted_operations() -> Iterator[list[int]]:
    """How many operations of Python the model takes."""
    found = [0]

    def trace(frame: FrameType, what: str, _: object) -> Any:  # noqa: ANN401 -- itself
        if not frame.f_code.co_filename.startswith(MODEL):
            return None
        frame.f_trace_opcodes = True
        found[0] += what == "opcode"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield found
    finally:
        sys.settrace(before)


def operations(events: Iterator[Event]) -> int:
    with counted_operations() as found:
        list(play(events))
    return found[0]


def copied_bytes(events: Iterator[Event]) -> int:
    """How much memory the steps take in all, also what they give back: what is copied shows here only."""
    now, total = Switch(Group("web", "Web", ("httpd.service",))), 0
    tracemalloc.start()
    try:
        for event in events:
            tracemalloc.reset_peak()
            before, _ = tracemalloc.get_traced_memory()
            now, _ = now.step(event)
            total += tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    return total


@pytest.mark.parametrize("events", ALL)
@pytest.mark.parametrize("cost", [operations, copied_bytes])
def test_twice_as_many_that_wait_cost_twice_as_much(
    events: Events, cost: Callable[[Iterator[Event]], int]
) -> None:
    assert cost(events(MANY)) / cost(events(FEW)) < MOST_GROWTH


@pytest.mark.parametrize(
    ("events", "answers"),
    [
        (same_taps, [Answer(number, ok=False) for number in range(1, FEW + 1)]),
        (same_taps_taken, [Answer(number, ok=True) for number in range(1, FEW + 1)]),
        (on_and_off, [Answer(number, ok=False) for number in range(1, FEW + 1)]),
        (on_and_off_taken, [Answer(number, ok=True) for number in range(1, FEW)]),
        (on_and_off_failed, [Answer(number, ok=False) for number in range(1, FEW + 1)]),
        (unanswered_and_replaced, [Answer(number, ok=False) for number in range(1, FEW + 1)]),
    ],
)
def test_each_of_many_is_answered_once_and_in_order(events: Events, answers: list[Answer]) -> None:
    decisions = list(play(events(FEW)))
    assert [each for each in decisions if isinstance(each, Answer)] == answers
    assert next(each.request for each in decisions if isinstance(each, Send)) == 1
