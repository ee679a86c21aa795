"""Connections: how many, how long, and who may pair. Pure: no I/O.

Any device in the home network can connect, so what those that have not authenticated can take up is limited,
and shared out by address. What controllers can take up is shared out by controller.
"""

from collections import Counter
from collections.abc import Callable, Hashable, Mapping
from enum import Enum
from http import HTTPStatus
from typing import Any, Final, Generic, TypeVar

MOST_STRANGERS: Final = 32
STRANGER_SECONDS: Final = 30.0
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
COMPLAINT_SECONDS: Final = 60.0
MOST_SOURCES: Final = 16
"""Lines a minute of one kind, each of another source. The rest is counted."""

MOST_KINDS: Final = 32
MOST_COUNTED: Final = 1_000

T = TypeVar("T", bound=Hashable)


def refusal(
    target: bytes, headers: Mapping[bytes, bytes], number: int, *, is_stranger: bool
) -> HTTPStatus | None:
    """Why a request is refused before its body is read; `number` counts those of its connection."""
    if b"transfer-encoding" in headers:
        return HTTPStatus.LENGTH_REQUIRED  # no controller sends in chunks
    largest_bytes = LARGEST_TLV_BYTES if is_stranger or target == b"/pairings" else LARGEST_BODY_BYTES
    if int(headers.get(b"content-length", b"0")) > largest_bytes:
        return HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    if sum(map(len, headers)) + sum(map(len, headers.values())) > LARGEST_HEADERS_BYTES:
        return HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
    if is_stranger and number > MOST_REQUESTS:
        return HTTPStatus.TOO_MANY_REQUESTS
    return None


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


class Sessions(Generic[T]):
    """The connections of controllers, and whose they are."""

    def __init__(self, active_at_seconds: Callable[[T], float]) -> None:
        """`active_at_seconds` tells when a connection was last used."""
        self._active_at_seconds = active_at_seconds
        self._controllers: dict[T, Hashable] = {}

    def __len__(self) -> int:
        return len(self._controllers)

    def add(self, connection: T, controller: Hashable) -> T | None:
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

    def discard(self, connection: T) -> None:
        """It went."""
        self._controllers.pop(connection, None)


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


class PairSetup(Generic[T]):
    """The one pair-setup that may be under way, and the step that comes next in it."""

    def __init__(self) -> None:
        self.holder: T | None = None
        self.challenge: Any = None
        """What whoever begins next is given: nobody has tried to answer it yet."""
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
    """Whether to log what a source did: once a minute each, and few sources of a kind; of the rest, how many.

    A device can have as many addresses as it likes, and what it does with them must hide nothing else.
    """

    def __init__(self) -> None:
        self._until_seconds: dict[int, tuple[float, str]] = {}
        """Until when a source was heard of, and by which kind of line, in the order of time."""
        self._lines: Counter[str] = Counter()
        self._left_out: dict[str, LeftOut] = {}

    def may_log(self, source: str, now_seconds: float, kind: str = "", line: str = "") -> bool:
        """Whether a line about this source is due; `now_seconds` never goes back. One of a kind is kept."""
        for known, (until_seconds, its_kind) in list(self._until_seconds.items()):
            if until_seconds > now_seconds:
                break
            del self._until_seconds[known]
            self._lines[its_kind] -= 1
        hashed = hash(source)
        if hashed in self._until_seconds:
            return False
        if kind not in self._lines and len(self._lines) >= MOST_KINDS:
            self._lines = +self._lines  # forget those of which there are none
            kind = kind if len(self._lines) < MOST_KINDS else ""
        if self._lines[kind] >= MOST_SOURCES:
            self._left_out.setdefault(kind, LeftOut(now_seconds + COMPLAINT_SECONDS)).add(hashed, line)
            return False
        self._until_seconds[hashed] = now_seconds + COMPLAINT_SECONDS, kind
        self._lines[kind] += 1
        return True

    def left_out(self, now_seconds: float) -> list[tuple[str, str]]:
        """How many sources of a kind were left out, and a line of them, once for each minute."""
        due = {kind: left for kind, left in self._left_out.items() if left.due_seconds <= now_seconds}
        for kind in due:
            del self._left_out[kind]
        return [(left.number, left.line) for left in due.values()]

    @property
    def due_seconds(self) -> float | None:
        """When `left_out` will have something to tell."""
        return min((left.due_seconds for left in self._left_out.values()), default=None)


class LeftOut:
    """The sources of which no line was logged."""

    def __init__(self, due_seconds: float) -> None:
        self.due_seconds = due_seconds
        self.line = ""
        self._sources: set[int] = set()

    def add(self, source: int, line: str) -> None:
        """Count one, if it is another."""
        if len(self._sources) < MOST_COUNTED:
            self._sources.add(source)
        self.line = line

    @property
    def number(self) -> str:
        """For a sentence."""
        number = len(self._sources)
        return f"{number}" if number < MOST_COUNTED else f"at least {number}"
