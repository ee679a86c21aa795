"""When a connection is told of changes: at once if it may be, never too often, and never what it knows.

Knows no HAP-python and sends nothing itself. It must not be asked to send between a request and its response.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import Any, Final, Protocol

Path = tuple[int, int]
"""AID and IID."""

Change = tuple[Path, Any]
"""A characteristic and its value."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How long to wait after a message, and after an event of a characteristic."""

    message_seconds: float = 0.25
    """As the reference implementation does, so that a storm of changes is few messages."""

    characteristic_seconds: float = 1.0
    """As the HAP specification (6.8) means it."""


PACE: Final = Pace()


class Subscriber(Protocol):
    """What is needed of a connection."""

    @property
    def is_busy(self) -> bool:
        """Whether a request, or a part of one, has come, and its response has not been sent."""

    def value_of(self, path: Path) -> Any:  # noqa: ANN401 -- a characteristic's
        """The value of this moment, None for a characteristic that is gone."""

    def send_changes(self, changes: Sequence[Change]) -> None:
        """Send one message."""


class Events:
    """What one connection wants to hear of, what it was told, and what it still has to be told."""

    def __init__(self, subscriber: Subscriber, pace: Pace) -> None:
        self._subscriber = subscriber
        self._pace = pace
        self._wanted: set[Path] = set()
        self._told: dict[Path, Any] = {}
        self._changed: dict[Path, None] = {}
        self._sent_at_seconds: dict[Path, float] = {}
        self._message_at_seconds = -inf
        self._soon: asyncio.Handle | None = None
        self._later: asyncio.TimerHandle | None = None

    def subscribe(self, path: Path, *, wanted: bool) -> None:
        """Begin or end to tell of a characteristic."""
        if wanted:
            self._wanted.add(path)
        else:
            self._wanted.discard(path)

    def is_subscribed(self, path: Path) -> bool:
        """Whether the connection is told of a characteristic."""
        return path in self._wanted

    def told(self, path: Path, value: object) -> None:
        """A response tells a value, or none (None): then the next event is news whatever it says."""
        if value is None:
            self._told.pop(path, None)
        else:
            self._told[path] = value

    def listed(self, path: Path, value: object) -> None:
        """A list of all accessories tells a value, which a controller takes or leaves: say it if in doubt."""
        if path in self._told and self._told[path] != value:
            del self._told[path]

    def changed(self, path: Path) -> None:
        """A characteristic may have another value now. What changes in the same moment is one message."""
        if path in self._wanted:
            self._changed[path] = None
            if self._soon is None:
                self._soon = asyncio.get_running_loop().call_soon(self._tell_unless_busy)

    def all_answered(self) -> None:
        """Tell what waited for responses: nothing else has come that needs one."""
        if self._changed:
            self._tell()

    def close(self) -> None:
        """Tell nothing any more."""
        self._wanted.clear()
        self._changed.clear()
        self._stop_waiting()

    def _stop_waiting(self) -> None:
        for waiting in (self._soon, self._later):
            if waiting is not None:
                waiting.cancel()
        self._soon = self._later = None

    def _tell_unless_busy(self) -> None:
        self._stop_waiting()
        if not self._subscriber.is_busy:
            self._tell()

    def _tell(self) -> None:
        """Send what is due, and wait for what is not."""
        self._stop_waiting()
        loop = asyncio.get_running_loop()
        now_seconds, news = loop.time(), self._news()
        self._changed = {path: None for path in news if self._due_at_seconds(path) > now_seconds}
        due = [change for change in news.items() if change[0] not in self._changed]
        for path, value in due:
            self._told[path], self._sent_at_seconds[path] = value, now_seconds
        if due:
            self._message_at_seconds = now_seconds
            self._subscriber.send_changes(due)
        if self._changed:
            self._later = loop.call_at(min(map(self._due_at_seconds, self._changed)), self._tell_unless_busy)

    def _news(self) -> dict[Path, Any]:
        """The changes that the connection does not know, with the values of this moment."""
        values = {path: self._subscriber.value_of(path) for path in self._changed if path in self._wanted}
        return {
            path: value
            for path, value in values.items()
            if value is not None and (path not in self._told or self._told[path] != value)
        }

    def _due_at_seconds(self, path: Path) -> float:
        own = self._sent_at_seconds.get(path, -inf) + self._pace.characteristic_seconds
        return max(own, self._message_at_seconds + self._pace.message_seconds)
