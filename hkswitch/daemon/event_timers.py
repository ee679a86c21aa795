"""Timers that pass an event of a group on later. Knows nothing about the events."""

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

LateEvent = TypeVar("LateEvent")


class EventTimers(Generic[LateEvent]):
    """At most one timer for each group and each kind of event."""

    def __init__(self, step: Callable[[str, LateEvent], None]) -> None:
        """`step` takes each event in its time."""
        self._step = step
        self._timers: dict[tuple[str, type], asyncio.TimerHandle] = {}

    def start(self, seconds: float, group_id: str, event: LateEvent) -> None:
        """Pass an event on later; a newer one of the same kind replaces it."""
        kind = group_id, type(event)
        if (older := self._timers.pop(kind, None)) is not None:
            older.cancel()
        self._timers[kind] = asyncio.get_running_loop().call_later(seconds, self._step, group_id, event)

    def stop_group(self, group_id: str) -> None:
        """Drop the events of a group."""
        for kind in [kind for kind in self._timers if kind[0] == group_id]:
            self._timers.pop(kind).cancel()

    def stop(self) -> None:
        """Drop all events."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
