"""Messages of a simulated bus, the rules that choose among them, and the pipe that carries them in order.

It must not know who talks to whom about what.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from contextvars import Context
from typing import Any, Final, Generic, NamedTuple, TypeVar

NOBODY: Final = Context()
"""What is on its way is of no process."""

Delay = Callable[[], float]
"""How many seconds the next message takes; one that was sent later never arrives earlier."""

Item = TypeVar("Item")


class Message:
    """What sdbus calls by this name, as far as hkswitch uses it."""

    __slots__ = ("body", "destination", "interface", "member", "path", "sender")

    def __init__(
        self, path: str, interface: str, member: str, body: tuple[Any, ...] = (), destination: str = ""
    ) -> None:
        self.path = path
        self.interface = interface
        self.member = member
        self.body = body
        self.destination = destination
        self.sender = ""

    def append_data(self, signature: str, *values: object) -> None:  # noqa: ARG002 -- sdbus's
        """Take all arguments."""
        self.body += values

    def get_contents(self) -> Any:  # noqa: ANN401 -- D-Bus has all types
        """Nothing, the only value, or all of them: as sdbus does it."""
        return (self.body if len(self.body) > 1 else self.body[0]) if self.body else None


class Rule(NamedTuple):
    """What a match rule lets through; all of ours name a sender, an interface and a member."""

    sender: str
    interface: str
    member: str
    path: str | None = None
    arg0: str | None = None


_KEYS: Final = {"type", *Rule._fields}


def read_rule(text: str) -> Rule:
    """Read a match rule."""
    words = dict(word.split("=", 1) for word in text.split(","))
    values = {key: value.strip("'") for key, value in words.items()}
    assert values.keys() <= _KEYS, text
    assert values.pop("type") == "signal"
    return Rule(**values)


def text_of(rule: Rule) -> str:
    """Write a match rule as sd-bus does."""
    values = rule._asdict().items()
    return ",".join(("type='signal'", *(f"{key}='{value}'" for key, value in values if value is not None)))


class Pipe(Generic[Item]):
    """One direction. It has a timer only while something is on its way."""

    def __init__(self, deliver: Callable[[Item], None], delay_seconds: Delay) -> None:
        self._deliver = deliver
        self._delay_seconds = delay_seconds
        self._waiting: deque[tuple[float, Item]] = deque()
        self._last_seconds = 0.0
        self._timer: asyncio.Handle | None = None

    def send(self, item: Item) -> None:
        now_seconds = asyncio.get_running_loop().time()
        self._last_seconds = max(self._last_seconds, now_seconds + self._delay_seconds())
        self._waiting.append((self._last_seconds, item))
        if self._timer is None:
            self._arm()

    def close(self) -> None:
        """Drop what is on its way."""
        self._waiting.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self) -> None:
        loop = asyncio.get_running_loop()
        due_seconds, _ = self._waiting[0]
        if due_seconds <= loop.time():
            self._timer = loop.call_soon(self._run, context=NOBODY)
        else:
            self._timer = loop.call_at(due_seconds, self._run, context=NOBODY)

    def _run(self) -> None:
        """Deliver the first, and what arrives with it."""
        now_seconds = max(asyncio.get_running_loop().time(), self._waiting[0][0])
        try:
            while self._waiting and self._waiting[0][0] <= now_seconds:
                self._deliver(self._waiting.popleft()[1])
        finally:
            self._timer = None
            if self._waiting:
                self._arm()
