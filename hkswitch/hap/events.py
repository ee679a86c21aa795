"""The events of one connection: immediate if possible, rate limited, and without values already sent.

Imports no HAP-python and sends nothing itself. Callers must not make it send between a request and its
response.
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
    """The minimum intervals between messages, and between events of one characteristic."""

    message_seconds: float = 0.25
    """The reference implementation's interval, which combines many changes into few messages."""

    characteristic_seconds: float = 1.0
    """The interval of the HAP specification (6.8)."""


PACE: Final = Pace()


class Subscriber(Protocol):
    """The connection that receives events."""

    @property
    def is_busy(self) -> bool:
        """Whether a request has arrived, even in part, and its response has not been sent."""

    def value_of(self, path: Path) -> Any:  # noqa: ANN401 -- a characteristic's
        """Return the current value, or None if the characteristic is gone."""

    def send_changes(self, changes: Sequence[Change]) -> None:
        """Send one message."""


class Events:
    """The subscriptions of one connection, the values sent on it, and the changes still to send."""

    def __init__(self, subscriber: Subscriber, pace: Pace) -> None:
        self._subscriber = subscriber
        self._pace = pace
        self._subscriptions: set[Path] = set()
        self._sent: dict[Path, Any] = {}
        self._changed: dict[Path, None] = {}
        self._sent_at_seconds: dict[Path, float] = {}
        self._message_at_seconds = -inf
        self._soon: asyncio.Handle | None = None
        self._later: asyncio.TimerHandle | None = None

    def subscribe(self, path: Path, *, wanted: bool) -> None:
        """Start or stop events of a characteristic."""
        if wanted:
            self._subscriptions.add(path)
        else:
            self._subscriptions.discard(path)

    def is_subscribed(self, path: Path) -> bool:
        """Return whether the connection gets events of a characteristic."""
        return path in self._subscriptions

    def record_sent(self, path: Path, value: object) -> None:
        """Record the value in a response. After None, the next event is sent regardless of its value."""
        if value is None:
            self._sent.pop(path, None)
        else:
            self._sent[path] = value

    def record_listed(self, path: Path, value: object) -> None:
        """Record a value in a list of all accessories.

        Controllers may ignore such values, so one that differs is sent again as an event.
        """
        if path in self._sent and self._sent[path] != value:
            del self._sent[path]

    def changed(self, path: Path) -> None:
        """Note that a value may have changed. Changes in the same turn of the loop go into one message."""
        if path in self._subscriptions:
            self._changed[path] = None
            if self._soon is None:
                self._soon = asyncio.get_running_loop().call_soon(self._send_unless_busy)

    def send_pending(self) -> None:
        """Send the changes that waited for responses; no request is pending now."""
        if self._changed:
            self._send_due()

    def close(self) -> None:
        """Send no more events."""
        self._subscriptions.clear()
        self._changed.clear()
        self._stop_waiting()

    def _stop_waiting(self) -> None:
        for waiting in (self._soon, self._later):
            if waiting is not None:
                waiting.cancel()
        self._soon = self._later = None

    def _send_unless_busy(self) -> None:
        self._stop_waiting()
        if not self._subscriber.is_busy:
            self._send_due()

    def _send_due(self) -> None:
        """Send the changes that are due, and schedule the others."""
        self._stop_waiting()
        loop = asyncio.get_running_loop()
        now_seconds, changes = loop.time(), self._unsent_changes()
        self._changed = {path: None for path in changes if self._due_at_seconds(path) > now_seconds}
        due = [change for change in changes.items() if change[0] not in self._changed]
        for path, value in due:
            self._sent[path], self._sent_at_seconds[path] = value, now_seconds
        if due:
            self._message_at_seconds = now_seconds
            self._subscriber.send_changes(due)
        if self._changed:
            self._later = loop.call_at(min(map(self._due_at_seconds, self._changed)), self._send_unless_busy)

    def _unsent_changes(self) -> dict[Path, Any]:
        """Return the changes that were not yet sent on this connection, with their current values."""
        values = {
            path: self._subscriber.value_of(path) for path in self._changed if path in self._subscriptions
        }
        return {
            path: value
            for path, value in values.items()
            if value is not None and (path not in self._sent or self._sent[path] != value)
        }

    def _due_at_seconds(self, path: Path) -> float:
        own = self._sent_at_seconds.get(path, -inf) + self._pace.characteristic_seconds
        return max(own, self._message_at_seconds + self._pace.message_seconds)
