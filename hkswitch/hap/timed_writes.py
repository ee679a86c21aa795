"""Timed writes of one connection (HAP specification, 6.7.2.4): prepared, then done in time or not at all.

HAP-python goes by a clock that can be set, and keeps whatever was sent for a number. Pure: no I/O.
"""

from collections.abc import Callable
from typing import Any, Final

MOST_PREPARED: Final = 16
LONGEST_SECONDS: Final = 30.0
LARGEST_NUMBER: Final = 2**64 - 1


class TimedWrites:
    """The numbers that were prepared, and until when each is good."""

    def __init__(self, now_seconds: Callable[[], float]) -> None:
        """`now_seconds` never goes back."""
        self._now_seconds = now_seconds
        self._until_seconds: dict[int, float] = {}

    def __len__(self) -> int:
        return len(self._until_seconds)

    def prepare(self, body: object) -> bool:
        """Prepare a write; whether that is well-formed. One too many costs the one that ends first."""
        match body:
            case {"ttl": int() | float() as ttl_ms, "pid": int(pid)} if _is_number(pid) and _is_time(ttl_ms):
                pass
            case _:
                return False
        now = self._now_seconds()
        self._until_seconds = {other: until for other, until in self._until_seconds.items() if until > now}
        if pid not in self._until_seconds and len(self._until_seconds) >= MOST_PREPARED:
            del self._until_seconds[min(self._until_seconds, key=self._until_seconds.__getitem__)]
        self._until_seconds[pid] = now + min(ttl_ms / 1000, LONGEST_SECONDS)
        return True

    def may_write(self, request: dict[str, Any]) -> bool:
        """Whether a write is no timed one, or was prepared and is in time; it is good once."""
        if "pid" not in request:
            return True
        pid = request["pid"]
        if not isinstance(pid, int) or not _is_number(pid):
            return False
        return self._now_seconds() < self._until_seconds.pop(pid, -1.0)


def _is_number(pid: int) -> bool:
    return not isinstance(pid, bool) and 0 <= pid <= LARGEST_NUMBER


def _is_time(ttl_ms: float) -> bool:
    return not isinstance(ttl_ms, bool) and ttl_ms >= 0
