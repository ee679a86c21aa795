"""The request scheduler: one request per controller and turn, in order of arrival."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from hkswitch.hap.sessions import RequestScheduler


@dataclass
class Loop:
    """An event loop whose turns the test runs."""

    due: deque[Callable[[], None]] = field(default_factory=deque)

    def turn(self) -> None:
        for _ in range(len(self.due)):
            self.due.popleft()()


@dataclass
class RequestingConnection:
    """A connection with a number of pending requests."""

    name: str
    owner: str
    requests: int
    scheduler: RequestScheduler
    done: list[str]

    def ask(self) -> None:
        if self.scheduler.take_turn(self.owner):
            self.resume()
        else:
            self.scheduler.enqueue(self.owner, self.resume)

    def resume(self) -> None:
        self.done.append(self.name)
        self.requests -= 1
        if self.requests:
            self.scheduler.enqueue(self.owner, self.resume)


def done_in_turns(*connections: tuple[str, int], turns: int = 12) -> list[str]:
    """Return the connections whose requests were processed in each turn; the first letter is the owner."""
    loop, done = Loop(), list[str]()
    shared = RequestScheduler(loop.due.append)
    for name, requests in connections:
        loop.due.append(RequestingConnection(name, name[0], requests, shared, done).ask)
    in_turns = []
    for _ in range(turns):
        loop.turn()
        in_turns.append(" ".join(done))
        done.clear()
    assert not loop.due  # idle without requests
    return [each for each in in_turns if each]


@pytest.mark.parametrize(
    ("connections", "in_turns"),
    [
        ((("a1", 1),), ["a1"]),
        ((("a1", 3),), ["a1", "a1", "a1"]),
        ((("a1", 1), ("b1", 1)), ["a1 b1"]),
        ((("a1", 1), ("a2", 1)), ["a1", "a2"]),
        ((("a1", 3), ("a2", 2)), ["a1", "a1", "a2", "a1", "a2"]),
        ((("a1", 1), ("a2", 1), ("a3", 1), ("b1", 1)), ["a1 b1", "a2", "a3"]),
        ((("a1", 2), ("b1", 2), ("a2", 1)), ["a1 b1", "a1 b1", "a2"]),
    ],
)
def test_each_turn_processes_one_request_of_each_controller(
    connections: tuple[tuple[str, int], ...], in_turns: list[str]
) -> None:
    assert done_in_turns(*connections) == in_turns


def test_a_new_request_queues_behind_the_waiting_ones_of_its_controller() -> None:
    loop, done = Loop(), list[str]()
    scheduler = RequestScheduler(loop.due.append)
    RequestingConnection("a1", "a", 2, scheduler, done).ask()
    RequestingConnection("a2", "a", 1, scheduler, done).ask()
    loop.turn()
    RequestingConnection("a3", "a", 1, scheduler, done).ask()
    for _ in range(5):
        loop.turn()
    assert done == ["a1", "a1", "a2", "a3"]
