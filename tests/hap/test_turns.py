"""Whose request is done next: one of each controller in a turn, in the order in which they came."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from hkswitch.hap.sessions import RequestScheduler


@dataclass
class Loop:
    """An event loop of turns alone."""

    due: deque[Callable[[], None]] = field(default_factory=deque)

    def turn(self) -> None:
        for _ in range(len(self.due)):
            self.due.popleft()()


@dataclass
class Asking:
    """A connection with so many requests."""

    name: str
    owner: str
    requests: int
    scheduler: RequestScheduler
    done: list[str]

    def ask(self) -> None:
        if self.scheduler.take_turn(self.owner):
            self.do()
        else:
            self.scheduler.enqueue(self.owner, self)

    def resume(self) -> None:
        self.do()

    def do(self) -> None:
        self.done.append(self.name)
        self.requests -= 1
        if self.requests:
            self.scheduler.enqueue(self.owner, self)


def done_in_turns(*asking: tuple[str, int], scheduler: int = 12) -> list[str]:
    """The connections that had a request done in each turn; the first letter is the owner."""
    loop, done = Loop(), list[str]()
    shared = RequestScheduler(loop.due.append)
    for name, requests in asking:
        loop.due.append(Asking(name, name[0], requests, shared, done).ask)
    in_turns = []
    for _ in range(scheduler):
        loop.turn()
        in_turns.append(" ".join(done))
        done.clear()
    assert not loop.due  # it does nothing while nothing is asked
    return [each for each in in_turns if each]


@pytest.mark.parametrize(
    ("asking", "in_turns"),
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
def test_one_request_of_each_is_done_in_a_turn(
    asking: tuple[tuple[str, int], ...], in_turns: list[str]
) -> None:
    assert done_in_turns(*asking) == in_turns


def test_who_comes_while_others_of_the_same_wait_is_behind_them() -> None:
    loop, done = Loop(), list[str]()
    scheduler = RequestScheduler(loop.due.append)
    Asking("a1", "a", 2, scheduler, done).ask()
    Asking("a2", "a", 1, scheduler, done).ask()
    loop.turn()
    Asking("a3", "a", 1, scheduler, done).ask()
    for _ in range(5):
        loop.turn()
    assert done == ["a1", "a1", "a2", "a3"]
