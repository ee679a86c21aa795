"""Connections: whose each one is, how many there may be, and whose request is done next. Pure: no I/O.

Any device in the home network can connect, so what those that have not authenticated can take up is limited,
and shared out by address. What controllers can take up is shared out by controller.
"""

from collections import Counter, deque
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, Generic, Protocol, TypeVar
from uuid import UUID, uuid5

LONGEST_ID_BYTES: Final = 36
"""Of a controller: as long as a UUID in text."""

_OTHER_IDS: Final = UUID("5c8f2f1e-6b0c-4f0e-9a39-3b0f4b1b6f2a")

MOST_UNAUTHENTICATED: Final = 32
AUTHENTICATION_SECONDS: Final = 30.0
PAIR_SETUP_SECONDS: Final = 300.0
MOST_REQUESTS: Final = 100
"""Requests of one connection before it has proved who it is; a pairing needs five."""

MOST_SESSIONS: Final = 32
"""Of one controller: all devices of a person's account may be one, and each may have a connection or two."""

MOST_SESSIONS_IN_ALL: Final = 256
"""A quarter of the descriptors that hkswitch.service gives the daemon."""

LARGEST_BODY_BYTES: Final = 64 * 1024
"""Some 600 writes."""

LARGEST_TLV_BYTES: Final = 4 * 1024
"""Of pairing, whose largest message has some 500: taking a longer one apart takes long."""

LARGEST_HEADERS_BYTES: Final = 8 * 1024

ConnectionT = TypeVar("ConnectionT", bound=Hashable)


@dataclass(eq=False, slots=True)
class Session:
    """One connection, and who is at its other end. Two are never equal, whatever their addresses are.

    The address and port of a controller do not tell its connections apart: it may use the same ones for two
    addresses of the bridge.
    """

    address: str
    controller: UUID | None = None
    """The controller that has proved who it is; None before that, and when its pairing was removed."""

    @property
    def controller_id(self) -> str:
        """The controller's ID as people see it; empty without a controller."""
        return "" if self.controller is None else str(self.controller).upper()


def controller_of(identity: bytes) -> UUID:
    """The UUID under which a controller is kept; raises `ValueError` for an ID of another length.

    Apple's controllers have UUIDs. Another ID gets one that is made of it, and is told as it was sent.
    """
    if not 0 < len(identity) <= LONGEST_ID_BYTES:
        raise ValueError(f"a controller's ID has 1 to {LONGEST_ID_BYTES} bytes")
    try:
        text = identity.decode("ascii")
        found = UUID(text)
    except ValueError:
        return uuid5(_OTHER_IDS, identity.hex())
    return found if str(found) == text.lower() else uuid5(_OTHER_IDS, identity.hex())


def refusal(
    target: bytes, headers: Mapping[bytes, bytes], number: int, *, is_unauthenticated: bool
) -> HTTPStatus | None:
    """Why a request is refused before its body is read; `number` counts those of its connection."""
    if b"transfer-encoding" in headers:
        return HTTPStatus.LENGTH_REQUIRED  # no controller sends in chunks
    largest_bytes = LARGEST_TLV_BYTES if is_unauthenticated or target == b"/pairings" else LARGEST_BODY_BYTES
    if int(headers.get(b"content-length", b"0")) > largest_bytes:
        return HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    if sum(map(len, headers)) + sum(map(len, headers.values())) > LARGEST_HEADERS_BYTES:
        return HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
    if is_unauthenticated and number > MOST_REQUESTS:
        return HTTPStatus.TOO_MANY_REQUESTS
    return None


class UnauthenticatedConnections(Generic[ConnectionT]):
    """The connections of strangers, in the order in which they came."""

    def __init__(self) -> None:
        self._addresses: dict[ConnectionT, str] = {}

    def __contains__(self, connection: ConnectionT) -> bool:
        return connection in self._addresses

    def __len__(self) -> int:
        return len(self._addresses)

    def add(self, connection: ConnectionT, address: str, spared: ConnectionT | None) -> ConnectionT | None:
        """Take one in. If they are too many now, the one to close: not `spared`, which is pairing.

        It is the oldest of the address that has the most, so that one device cannot keep out the others.
        """
        self._addresses[connection] = address
        if len(self._addresses) <= MOST_UNAUTHENTICATED:
            return None
        others = {other: its for other, its in self._addresses.items() if other != spared}
        greediest, _ = Counter(others.values()).most_common(1)[0]
        one_too_many = next(other for other, its in others.items() if its == greediest)
        self.discard(one_too_many)
        return one_too_many

    def discard(self, connection: ConnectionT) -> None:
        """It went, or proved who it is."""
        self._addresses.pop(connection, None)


class ControllerSessions(Generic[ConnectionT]):
    """The connections of controllers, and whose they are."""

    def __init__(self, active_at_seconds: Callable[[ConnectionT], float]) -> None:
        """`active_at_seconds` tells when a connection was last used."""
        self._active_at_seconds = active_at_seconds
        self._controllers: dict[ConnectionT, Hashable] = {}

    def __len__(self) -> int:
        return len(self._controllers)

    def add(self, connection: ConnectionT, controller: Hashable) -> ConnectionT | None:
        """Take one in. If they are too many now, the one to close: another, which was idle for the longest.

        It is the same controller's if that has too many, and otherwise one of whichever has the most.
        """
        self._controllers[connection] = controller
        counted = Counter(self._controllers.values())
        if counted[controller] > MOST_SESSIONS:
            greediest = controller
        elif len(self._controllers) > MOST_SESSIONS_IN_ALL:
            greediest = counted.most_common(1)[0][0]
        else:
            return None
        theirs = [
            other for other, its in self._controllers.items() if its == greediest and other != connection
        ]
        one_too_many = min(theirs, key=self._active_at_seconds)
        self.discard(one_too_many)
        return one_too_many

    def discard(self, connection: ConnectionT) -> None:
        """It went."""
        self._controllers.pop(connection, None)


class Connection(Protocol):
    """What is needed of a connection that waits."""

    def resume(self) -> None:
        """It is its turn."""


class RequestScheduler:
    """Who had a turn, and who waits for one."""

    def __init__(self, soon: Callable[[Callable[[], None]], object]) -> None:
        """`soon` calls a function when all others had their turn, as a loop's `call_soon` does."""
        self._soon: Final = soon
        self._had: set[Hashable] = set()
        self._waiting: dict[Hashable, deque[Connection]] = {}

    def take_turn(self, owner: Hashable) -> bool:
        """Whether it is the owner's turn now. If not, the connection has to wait."""
        if owner in self._had:
            return False
        if not self._had:
            self._soon(self._next)
        self._had.add(owner)
        return True

    def enqueue(self, owner: Hashable, connection: Connection) -> None:
        """Have a connection go on behind the owner's others that wait; the owner has just had its turn."""
        self._waiting.setdefault(owner, deque()).append(connection)

    def _next(self) -> None:
        """Begin the next turn with those who wait."""
        going_on = {owner: waiting.popleft() for owner, waiting in self._waiting.items()}
        self._waiting = {owner: waiting for owner, waiting in self._waiting.items() if waiting}
        self._had = set(going_on)
        for connection in going_on.values():
            self._soon(connection.resume)
        if going_on:
            self._soon(self._next)
