"""Rules of pairing: one pair-setup at a time, steps in order, limited attempts, and the error codes.

Wrong setup codes are counted across restarts. After too many, no controller can pair until they are reset.
An attempt is on disk before its code is compared, so neither a kill nor a full disk gives a free guess.
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
    """A pairing request that the bridge refuses.

    `error` is the code in the response; `why` goes to the log.
    """

    def __init__(self, error: bytes, why: str) -> None:
        super().__init__(why)
        self.error = error


class Step(Enum):
    """The steps of pair-setup, by the state of the controller's request (HAP specification, 5.6)."""

    BEGIN = b"\x01"
    PROVE = b"\x03"
    EXCHANGE = b"\x05"

    @classmethod
    def of(cls, state: bytes) -> "Step":
        """Return the step of a state; raises `ValueError` with a text for the log, unlike an enum."""
        found = next((step for step in cls if step.value == state), None)
        if found is None:
            raise ValueError("unknown pair-setup state")
        return found


class PairSetup(Generic[ConnectionT]):
    """The only pair-setup that may be in progress, and its next step."""

    def __init__(self) -> None:
        self.holder: ConnectionT | None = None
        self.challenge: Any = None
        """The challenge to reuse for the next pair-setup, unless it was answered."""
        self._next: Step | None = None

    def begin(self, connection: ConnectionT) -> bool:
        """Begin or restart pair-setup; return False if another connection is pairing."""
        if self.holder not in {None, connection}:
            return False
        self.holder, self._next = connection, Step.PROVE
        return True

    def is_next(self, connection: ConnectionT, step: Step) -> bool:
        """Return whether this is the next step.

        This consumes the step, so no step can be skipped or tried twice.
        """
        if self.holder != connection or self._next is not step:
            return False
        self._next = None
        return True

    def proved(self) -> None:
        """Note that the holder has proved that it knows the setup code."""
        self._next = Step.EXCHANGE

    def end(self, connection: ConnectionT) -> None:
        """Let others pair, if this connection was pairing."""
        if self.holder == connection:
            self.holder = self._next = None


class PersistentState(Protocol):
    """The part of the driver that writes the state."""

    def persist(self) -> None:
        """Write the state; raises `StateUnwritable`."""

    def async_persist(self) -> None:
        """Write the state, now or as soon as possible."""


class PairingAttempts:
    """The failed attempts to pair."""

    def __init__(self, failed: int, writer: PersistentState, tell: Callable[[], None]) -> None:
        """`tell` is called when the limit is reached, and after a reset."""
        self.failed = failed
        self._writer = writer
        self._tell = tell

    @property
    def is_locked(self) -> bool:
        """Whether the limit is reached, and even the correct code is refused."""
        return self.failed >= MOST_FAILED_ATTEMPTS

    def count(self) -> int:
        """Count an attempt and return the total. Raises `StateUnwritable` and then does not count it."""
        self._set_failed(self.failed + 1)
        if self.failed == MOST_FAILED_ATTEMPTS:
            self._tell()
        return self.failed

    def take_back(self) -> None:
        """Uncount the last attempt, which was correct."""
        self.failed -= 1
        self._writer.async_persist()

    def forget(self) -> None:
        """Reset the count; raises `StateUnwritable` and then keeps it."""
        self._set_failed(0)
        self._tell()

    def _set_failed(self, failed: int) -> None:
        before, self.failed = self.failed, failed
        try:
            self._writer.persist()
        except StateUnwritable:
            self.failed = before
            raise
