"""The ways through shell text, which depend on how its commands end on the machine. Pure: no I/O."""

from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from hkswitch.homebridge.expansion import NotUnderstood
from hkswitch.homebridge.systemctl import Call

MOST_STEPS: Final = 2000
MOST_WAYS: Final = 64


class Way(NamedTuple):
    """One way through the text, and its exit status. `is_pure`: it runs nothing else than these calls."""

    calls: tuple[Call, ...]
    status: int
    is_pure: bool


class Trace:
    """One way through the text, while it is followed; `decisions` says which commands succeed."""

    def __init__(self, decisions: list[bool], steps: int) -> None:
        self.steps = steps
        self.calls: list[Call] = []
        self.is_pure = True
        self._decisions = decisions
        self._decided = 0

    def step(self) -> None:
        """Count a step. Raises `NotUnderstood` if there are too many."""
        self.steps += 1
        if self.steps > MOST_STEPS:
            raise NotUnderstood("it takes too long")

    def succeeds(self) -> bool:
        """Decide how a command ends: first that it succeeds."""
        if self._decided == len(self._decisions):
            self._decisions.append(True)
        self._decided += 1
        return self._decisions[self._decided - 1]


def ways(follow: Callable[[Trace], int]) -> Iterator[Way]:
    """Yield all ways; on the first, everything succeeds. `follow` returns the exit status of one.

    Raises `NotUnderstood`.
    """
    decisions: list[bool] = []
    steps = 0
    for _ in range(MOST_WAYS):
        trace = Trace(decisions, steps)
        try:
            status = follow(trace)
        except RecursionError:
            raise NotUnderstood("it calls itself") from None
        yield Way(tuple(trace.calls), status, trace.is_pure)
        steps = trace.steps
        while decisions and not decisions[-1]:
            decisions.pop()
        if not decisions:
            return
        decisions[-1] = False
    raise NotUnderstood("it depends on too much")
