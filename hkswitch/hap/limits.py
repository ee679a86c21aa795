"""Connections that have not proved who they are: how many, how long, and who may pair. Pure: no I/O.

Anybody in the home network can connect, so what they can take up is limited, and shared out by address.
"""

from collections import Counter
from collections.abc import Hashable
from enum import Enum
from typing import Final, Generic, TypeVar

MOST_STRANGERS: Final = 32
STRANGER_SECONDS: Final = 30.0
PAIR_SETUP_SECONDS: Final = 300.0
MOST_REQUESTS: Final = 100
"""Requests of one connection before it has proved who it is; a pairing needs five."""

LARGEST_BODY_BYTES: Final = 64 * 1024
LARGEST_HEADERS_BYTES: Final = 8 * 1024
COMPLAINT_SECONDS: Final = 60.0
MOST_COMPLAINTS: Final = 256

T = TypeVar("T", bound=Hashable)


class Strangers(Generic[T]):
    """The connections of strangers, in the order in which they came."""

    def __init__(self) -> None:
        self._addresses: dict[T, str] = {}

    def __contains__(self, connection: T) -> bool:
        return connection in self._addresses

    def __len__(self) -> int:
        return len(self._addresses)

    def add(self, connection: T, address: str, spared: T | None) -> T | None:
        """Take one in. If they are too many now, the one to close: not `spared`, which is pairing.

        It is the oldest of the address that has the most, so that one device cannot keep out the others.
        """
        self._addresses[connection] = address
        if len(self._addresses) <= MOST_STRANGERS:
            return None
        others = {other: its for other, its in self._addresses.items() if other != spared}
        greediest, _ = Counter(others.values()).most_common(1)[0]
        one_too_many = next(other for other, its in others.items() if its == greediest)
        self.discard(one_too_many)
        return one_too_many

    def discard(self, connection: T) -> None:
        """It went, or proved who it is."""
        self._addresses.pop(connection, None)


class Step(Enum):
    """The steps of a pair-setup that a controller begins (HAP specification, 5.6)."""

    BEGIN = b"\x01"
    PROVE = b"\x03"
    EXCHANGE = b"\x05"


class PairSetup(Generic[T]):
    """The one pair-setup that may be under way, and the step that comes next in it."""

    def __init__(self) -> None:
        self.holder: T | None = None
        self._next: Step | None = None

    def begin(self, connection: T) -> bool:
        """Whether it may begin, or begin again: nobody else is pairing."""
        if self.holder not in {None, connection}:
            return False
        self.holder, self._next = connection, Step.PROVE
        return True

    def is_next(self, connection: T, step: Step) -> bool:
        """Whether this is what must come now: a step cannot be left out, and not be tried twice."""
        if self.holder != connection or self._next is not step:
            return False
        self._next = None
        return True

    def proved(self) -> None:
        """The holder knows the setup code."""
        self._next = Step.EXCHANGE

    def end(self, connection: T) -> None:
        """Let others pair, if it was this one."""
        if self.holder == connection:
            self.holder = self._next = None


class Complaints:
    """Whether to log what an address did: once a minute each, however much it sends."""

    def __init__(self) -> None:
        self._until_seconds: dict[str, float] = {}

    def may_log(self, address: str, now_seconds: float) -> bool:
        """Whether a line about this address is due; `now_seconds` never goes back."""
        self._until_seconds = {
            who: until for who, until in self._until_seconds.items() if until > now_seconds
        }
        if address in self._until_seconds or len(self._until_seconds) >= MOST_COMPLAINTS:
            return False
        self._until_seconds[address] = now_seconds + COMPLAINT_SECONDS
        return True
