"""The timing of events on a connection, by a simulated clock."""

import asyncio
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from hkswitch.hap.events import PACE, Change, Events, Path
from tests.world import loop

A, B = (2, 9), (3, 9)
Told = tuple[float, dict[Path, Any]]


@dataclass
class Subscriber:
    """A connection whose requests the test controls."""

    values: dict[Path, Any] = field(default_factory=lambda: {A: False, B: False})
    is_busy: bool = False
    record_sent: list[Told] = field(default_factory=list)

    def value_of(self, path: Path) -> Any:  # noqa: ANN401 -- a characteristic's
        return self.values.get(path)

    def send_changes(self, changes: Sequence[Change]) -> None:
        self.record_sent.append((round(asyncio.get_running_loop().time(), 6), dict(changes)))


@dataclass
class Played:
    """A connection subscribed to both characteristics, and the steps applied to it."""

    subscriber: Subscriber = field(default_factory=Subscriber)
    own: Events = field(init=False)

    def __post_init__(self) -> None:
        self.own = Events(self.subscriber, PACE)
        for path in (A, B):
            self.own.subscribe(path, wanted=True)
            self.own.record_sent(path, value=False)

    def do(self, what: str, *of: Any) -> None:  # noqa: ANN401 -- whatever it needs
        match what, of:
            case "set", (path, value):
                self.subscriber.values[path] = value
                self.own.changed(path)
            case "gone", (path,):
                del self.subscriber.values[path]
            case "request", ():
                self.subscriber.is_busy = True
            case "response", ():
                self.subscriber.is_busy = False
                self.own.send_pending()
            case "record_sent", (path, value):
                self.own.record_sent(path, value)
            case "record_listed", (path, value):
                self.own.record_listed(path, value)
            case "unsubscribe", (path,):
                self.own.subscribe(path, wanted=False)
            case "close", ():
                self.own.close()
            case _:
                raise AssertionError(what)


async def play(steps: Sequence[tuple[Any, ...]]) -> list[Told]:
    """Apply each step at its time, and return the sent events."""
    played = Played()
    for at_seconds, what, *of in steps:
        if at_seconds > asyncio.get_running_loop().time():
            await asyncio.sleep(at_seconds - asyncio.get_running_loop().time())
        played.do(what, *of)
    await asyncio.sleep(10)
    return played.subscriber.record_sent


STORIES: dict[str, tuple[list[tuple[Any, ...]], list[Told]]] = {
    "a lone change at once": ([(5, "set", A, True)], [(5, {A: True})]),
    "what changes in one moment as one message": (
        [(5, "set", A, True), (5, "set", B, True)],
        [(5, {A: True, B: True})],
    ),
    "the next message after 250 ms": (
        [(5, "set", A, True), (5.1, "set", B, True)],
        [(5, {A: True}), (5.25, {B: True})],
    ),
    "a message after a pause at once": (
        [(5, "set", A, True), (5.25, "set", B, True)],
        [(5, {A: True}), (5.25, {B: True})],
    ),
    "the same characteristic after a second": (
        [(5, "set", A, True), (5.1, "set", A, False)],
        [(5, {A: True}), (6, {A: False})],
    ),
    "another one beside it before that": (
        [(5, "set", A, True), (5.1, "set", A, False), (5.5, "set", B, True)],
        [(5, {A: True}), (5.5, {B: True}), (6, {A: False})],
    ),
    "the value of the moment in which it is sent": (
        [(5, "set", A, 1), (5.1, "set", A, 2), (5.2, "set", A, 3)],
        [(5, {A: 1}), (6, {A: 3})],
    ),
    "nothing of a flap that is over": (
        [(5, "set", A, True), (5.1, "set", A, False), (5.2, "set", A, True)],
        [(5, {A: True})],
    ),
    "nothing of what is no news": ([(5, "set", A, False)], []),
    "what is no news after a read that failed": (
        [(4, "record_sent", A, None), (5, "set", A, False)],
        [(5, {A: False})],
    ),
    "nothing that a read has told": ([(4, "record_sent", A, True), (5, "set", A, True)], []),
    "what a list of accessories got in between": (
        [
            (5, "set", A, True),
            (5.1, "set", A, False),
            (5.2, "record_listed", A, False),
            (5.3, "set", A, True),
        ],
        [(5, {A: True}), (6, {A: True})],
    ),
    "nothing that a list of accessories agrees with": (
        [(5, "set", A, True), (5.2, "record_listed", A, True), (5.3, "set", A, True)],
        [(5, {A: True})],
    ),
    "what a read got no answer to, list or not": (
        [(4, "record_sent", A, None), (4, "record_listed", A, False), (5, "set", A, False)],
        [(5, {A: False})],
    ),
    "nothing between a request and its response": (
        [(4, "request"), (5, "set", A, True), (6, "response")],
        [(6, {A: True})],
    ),
    "nothing between them when its time has come either": (
        [(5, "set", A, True), (5.1, "set", A, False), (5.9, "request"), (6.5, "response")],
        [(5, {A: True}), (6.5, {A: False})],
    ),
    "what waited between two responses": (
        [(4, "request"), (5, "set", A, True), (6, "response"), (6, "request"), (7, "response")],
        [(6, {A: True})],
    ),
    "nothing of a flap during a request": (
        [(4, "request"), (5, "set", A, True), (5.5, "set", A, False), (6, "response")],
        [],
    ),
    "nothing that the response has told": (
        [(4, "request"), (5, "set", A, True), (6, "record_sent", A, True), (6, "response")],
        [],
    ),
    "what the response has got wrong": (
        [(4, "request"), (5, "set", A, False), (6, "record_sent", A, True), (6, "response")],
        [(6, {A: False})],
    ),
    "no more of it within a second, response or not": (
        [(5, "set", A, True), (5.1, "request"), (5.2, "set", A, False), (5.3, "response")],
        [(5, {A: True}), (6, {A: False})],
    ),
    "nothing after an unsubscription": (
        [(5, "set", A, True), (5.1, "set", A, False), (5.2, "unsubscribe", A)],
        [(5, {A: True})],
    ),
    "nothing of what is gone": (
        [(5, "set", B, True), (5.1, "set", A, True), (5.2, "gone", A)],
        [(5, {B: True})],
    ),
    "nothing after the end": (
        [(5, "set", A, True), (5.1, "set", A, False), (5.2, "close"), (5.3, "set", B, True)],
        [(5, {A: True})],
    ),
}


@pytest.mark.parametrize(("steps", "record_sent"), STORIES.values(), ids=STORIES)
def test_a_connection_is_told(steps: list[tuple[Any, ...]], record_sent: list[Told]) -> None:
    assert loop.run(play(steps)) == record_sent


def test_149_changes_within_300_ms_are_four_messages_at_most() -> None:
    paths = [(aid, 9) for aid in range(2, 151)]

    async def storm() -> list[Told]:
        played = Played()
        for path in paths:
            played.own.subscribe(path, wanted=True)
        for path in paths:
            played.do("set", path, True)
            await asyncio.sleep(0.3 / len(paths))
        await asyncio.sleep(10)
        return played.subscriber.record_sent

    record_sent = loop.run(storm())
    assert len(record_sent) <= 4
    assert {path for _, changes in record_sent for path in changes} == set(paths)
    assert record_sent[-1][0] < 0.6


def test_a_switch_that_flaps_for_ever_is_told_once_a_second_and_in_the_end_the_truth() -> None:
    steps = [(at / 50, "set", A, bool(at % 2)) for at in range(500)]
    record_sent = loop.run(play([*steps, (10.0, "set", A, True)]))
    times = [at for at, _ in record_sent]
    assert all(later - earlier > 0.999 for earlier, later in itertools.pairwise(times))
    assert 9 <= len(record_sent) <= 12
    assert record_sent[-1][1] == {A: True}
