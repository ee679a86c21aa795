"""Connections: their controllers, their limits, and the order of their requests. Pure: no I/O.

Any device on the home network can connect. The resources of unauthenticated connections are therefore limited
and shared fairly among addresses, and those of controllers among controllers.
"""

from collections import Counter, deque
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, Generic, TypeVar
from uuid import UUID, uuid5

LONGEST_ID_BYTES: Final = 36
"""The longest controller ID: a UUID as text."""

_OTHER_IDS: Final = UUID("5c8f2f1e-6b0c-4f0e-9a39-3b0f4b1b6f2a")

MOST_UNAUTHENTICATED: Final = 32
AUTHENTICATION_SECONDS: Final = 30.0
PAIR_SETUP_SECONDS: Final = 300.0
MOST_REQUESTS: Final = 100
"""Requests on one connection before it authenticates; a pairing needs five."""

MOST_SESSIONS: Final = 32
"""Sessions of one controller. All devices of an Apple account may share its ID, with one or two sessions
each."""

MOST_SESSIONS_IN_ALL: Final = 256
"""A quarter of the file descriptors that hkswitch.service allows the daemon."""

LARGEST_BODY_BYTES: Final = 64 * 1024
"""Room for about 600 writes."""

LARGEST_TLV_BYTES: Final = 4 * 1024
"""The largest pairing message. Real ones have about 500 bytes, and longer ones are slow to parse."""

LARGEST_HEADERS_BYTES: Final = 8 * 1024

ConnectionT = TypeVar("ConnectionT", bound=Hashable)


@dataclass(eq=False, slots=True)
class Session:
    """One connection and its controller. Two sessions are never equal, even if their addresses are.

    The address and port of a controller do not identify a connection: a controller may use the same ones to
    connect to two addresses of the bridge.
    """

    address: str
    controller: UUID | None = None
    """The authenticated controller; None before authentication, and after its pairing was removed."""

    @property
    def controller_id(self) -> str:
        """The controller's ID as users see it; empty without a controller."""
        return "" if self.controller is None else str(self.controller).upper()


def controller_of(identity: bytes) -> UUID:
    """Return the UUID under which a controller is stored; raises `ValueError` for an ID of invalid length.

    Apple's controllers use UUIDs. Any other ID is mapped to a UUID derived from it, and the pairing list
    still returns the ID as the controller sent it.
    """
    if not 0 < len(identity) <= LONGEST_ID_BYTES:
        raise ValueError(f"a controller ID must have 1 to {LONGEST_ID_BYTES} bytes")
    try:
        text = identity.decode("ascii")
        found = UUID(text)
    except ValueError:
        return uuid5(_OTHER_IDS, identity.hex())
    return found if str(found) == text.lower() else uuid5(_OTHER_IDS, identity.hex())


def refusal(
    target: bytes, headers: Mapping[bytes, bytes], number: int, *, is_unauthenticated: bool
) -> HTTPStatus | None:
    """Return the status with which to reject a request before its body is read, None to accept it.

    `number` is the position of the request on its connection, from 1.
    """
    if b"transfer-encoding" in headers:
        return HTTPStatus.LENGTH_REQUIRED  # no controller uses chunked encoding
    largest_bytes = LARGEST_TLV_BYTES if is_unauthenticated or target == b"/pairings" else LARGEST_BODY_BYTES
    if int(headers.get(b"content-length", b"0")) > largest_bytes:
        return HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    if sum(map(len, headers)) + sum(map(len, headers.values())) > LARGEST_HEADERS_BYTES:
        return HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
    if is_unauthenticated and number > MOST_REQUESTS:
        return HTTPStatus.TOO_MANY_REQUESTS
    return None


class UnauthenticatedConnections(Generic[ConnectionT]):
    """The connections that have not authenticated yet, oldest first."""

    def __init__(self) -> None:
        self._addresses: dict[ConnectionT, str] = {}

    def __contains__(self, connection: ConnectionT) -> bool:
        return connection in self._addresses

    def __len__(self) -> int:
        return len(self._addresses)

    def add(self, connection: ConnectionT, address: str, spared: ConnectionT | None) -> ConnectionT | None:
        """Add a connection. If there are too many now, remove and return the one to close.

        It chooses the oldest one of the address with the most connections, so that one device cannot lock out
        the others. `spared` is the connection that is pairing, which it never chooses.
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
        """Remove a connection that closed or authenticated."""
        self._addresses.pop(connection, None)


class ControllerSessions(Generic[ConnectionT]):
    """The authenticated connections, by controller."""

    def __init__(self, active_at_seconds: Callable[[ConnectionT], float]) -> None:
        """`active_at_seconds` returns when a connection was last used."""
        self._active_at_seconds = active_at_seconds
        self._controllers: dict[ConnectionT, Hashable] = {}

    def __len__(self) -> int:
        return len(self._controllers)

    def add(self, connection: ConnectionT, controller: Hashable) -> ConnectionT | None:
        """Add a connection. If there are too many now, remove and return the one to close.

        It chooses the one that has been idle longest: of the same controller if that has too many, and
        otherwise of the controller with the most. It never chooses the new connection.
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
        """Remove a connection that closed."""
        self._controllers.pop(connection, None)


class RequestScheduler:
    """A fair order of requests: one for each controller per turn of the event loop, in order of arrival.

    A controller may have many connections and send many requests on each of them at once: the others wait for
    only one of these requests.
    """

    def __init__(self, call_soon: Callable[[Callable[[], None]], object]) -> None:
        """`call_soon` calls a function after all that are already scheduled, like a loop's `call_soon`."""
        self._call_soon: Final = call_soon
        self._had_turn: set[Hashable] = set()
        self._waiting: dict[Hashable, deque[Callable[[], None]]] = {}

    def take_turn(self, owner: Hashable) -> bool:
        """Return whether the owner may proceed now. If not, the connection must wait in the queue."""
        if owner in self._had_turn:
            return False
        if not self._had_turn:
            self._call_soon(self._begin_turn)
        self._had_turn.add(owner)
        return True

    def enqueue(self, owner: Hashable, resume: Callable[[], None]) -> None:
        """Call `resume` in a later turn, after those already queued; the owner must have had its turn."""
        self._waiting.setdefault(owner, deque()).append(resume)

    def _begin_turn(self) -> None:
        resuming = {owner: waiting.popleft() for owner, waiting in self._waiting.items()}
        self._waiting = {owner: waiting for owner, waiting in self._waiting.items() if waiting}
        self._had_turn = set(resuming)
        for resume in resuming.values():
            self._call_soon(resume)
        if resuming:
            self._call_soon(self._begin_turn)
