"""Rules of pairing: one pair-setup at a time and in order, few wrong setup codes, and the errors that say no.

A wrong setup code is counted over restarts. After too many, no controller can pair until they are forgotten.
An attempt is on disk before its code is compared, so that neither a kill nor a full disk gives another one.
Does no I/O itself: the driver writes the state.
"""

from collections.abc import Callable, Hashable
from enum import Enum
from typing import Any, Final, Generic, Protocol, TypeVar

from hkswitch.hap.state_file import StateUnwritable
from hkswitch.protocol.control import MOST_FAILED_ATTEMPTS

ERROR_UNKNOWN: Final = b"\x01"
ERROR_AUTHENTICATION: Final = b"\x02"
ERROR_MAX_PEERS: Final = b"\x04"
ERROR_MAX_TRIES: Final = b"\x05"
ERROR_BUSY: Final = b"\x07"

ConnectionT = TypeVar("ConnectionT", bound=Hashable)


class PairingRefused(Exception):
    """The bridge does not do what a controller wants; `error` is what that is told, and `why` is logged."""

    def __init__(self, error: bytes, why: str) -> None:
        super().__init__(why)
        self.error = error


class Step(Enum):
    """The steps of a pair-setup that a controller begins (HAP specification, 5.6)."""

    BEGIN = b"\x01"
    PROVE = b"\x03"
    EXCHANGE = b"\x05"

    @classmethod
    def of(cls, state: bytes) -> "Step":
        """The step of a state; raises `ValueError` in words, where an enum has Python's."""
        found = next((step for step in cls if step.value == state), None)
        if found is None:
            raise ValueError("a state that no step of pair-setup has")
        return found


class PairSetup(Generic[ConnectionT]):
    """The one pair-setup that may be under way, and the step that comes next in it."""

    def __init__(self) -> None:
        self.holder: ConnectionT | None = None
        self.challenge: Any = None
        """What whoever begins next is given: nobody has tried to answer it yet."""
        self._next: Step | None = None

    def begin(self, connection: ConnectionT) -> bool:
        """Whether it may begin, or begin again: nobody else is pairing."""
        if self.holder not in {None, connection}:
            return False
        self.holder, self._next = connection, Step.PROVE
        return True

    def is_next(self, connection: ConnectionT, step: Step) -> bool:
        """Whether this is what must come now: a step cannot be left out, and not be tried twice."""
        if self.holder != connection or self._next is not step:
            return False
        self._next = None
        return True

    def proved(self) -> None:
        """The holder knows the setup code."""
        self._next = Step.EXCHANGE

    def end(self, connection: ConnectionT) -> None:
        """Let others pair, if it was this one."""
        if self.holder == connection:
            self.holder = self._next = None


class PersistentState(Protocol):
    """Who writes the state."""

    def persist(self) -> None:
        """Write it; raises `StateUnwritable`."""

    def async_persist(self) -> None:
        """Write it, now or as soon as that is possible."""


class PairingAttempts:
    """How many have failed."""

    def __init__(self, failed: int, writer: PersistentState, tell: Callable[[], None]) -> None:
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
