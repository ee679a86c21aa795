"""Wrong setup codes: counted over restarts. After too many, no controller can pair until they are forgotten.

An attempt is on disk before its code is compared, so that neither a kill nor a full disk gives another one.
Does no I/O itself: the driver writes the state.
"""

from collections.abc import Callable
from typing import Protocol

from hkswitch.hap.state_file import StateUnwritable
from hkswitch.protocol.control import MOST_FAILED_ATTEMPTS


class Writer(Protocol):
    """Who writes the state."""

    def persist(self) -> None:
        """Write it; raises `StateUnwritable`."""

    def async_persist(self) -> None:
        """Write it, now or as soon as that is possible."""


class Attempts:
    """How many have failed."""

    def __init__(self, failed: int, writer: Writer, tell: Callable[[], None]) -> None:
        """`tell` is called when they have become too many, and when they are forgotten."""
        self.failed = failed
        self._writer = writer
        self._tell = tell

    @property
    def is_locked(self) -> bool:
        """Whether there were so many that every other one is refused, with the right code too."""
        return self.failed >= MOST_FAILED_ATTEMPTS

    def count(self) -> int:
        """One more; how many there were in all. Raises `StateUnwritable`, and then it is not counted."""
        self._become(self.failed + 1)
        if self.failed == MOST_FAILED_ATTEMPTS:
            self._tell()
        return self.failed

    def take_back(self) -> None:
        """The last one was right."""
        self.failed -= 1
        self._writer.async_persist()

    def forget(self) -> None:
        """Let controllers pair again; raises `StateUnwritable`, and then none is forgotten."""
        self._become(0)
        self._tell()

    def _become(self, failed: int) -> None:
        before, self.failed = self.failed, failed
        try:
            self._writer.persist()
        except StateUnwritable:
            self.failed = before
            raise
