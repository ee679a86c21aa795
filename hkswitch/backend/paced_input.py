"""Input of a program that is not trusted, in small pieces and at a limited rate. No other I/O.

Whatever it sends, the event loop is never busy with it for long, and it gets only a part of the time. So what
counts is not only how much comes, but also how long this process works on it: a short message can concern
many groups.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from time import thread_time
from typing import Final, NamedTuple, Protocol

PIECE_BYTES: Final = 8 * 1024
"""The longest part of a line that is processed at once."""

TURN_SECONDS: Final = 0.003
"""After so much work, all others have their turn; the message that exceeds this is processed to its end."""

READ_SECONDS: Final = 0.0001
"""What reading costs, however little was read."""


class Pace(NamedTuple):
    """How much may come, and how long this process may work on it: at once, and in a second."""

    burst_bytes: int
    bytes_per_second: int
    burst_lines: int
    lines_per_second: int
    burst_work_seconds: float = 2.0
    work_seconds_per_second: float = 0.1


class SetReading(Protocol):
    """Begins or ceases to read from the program."""

    def __call__(self, *, on: bool) -> None: ...


class Allowance:
    """How much of something is left: it grows with time, up to a limit, and may be overdrawn."""

    def __init__(self, most: float, per_second: float) -> None:
        """Begins with all of it."""
        self._most = most
        self._per_second = per_second
        self._left = most
        self._at_seconds = 0.0

    def spend(self, amount: float, now_seconds: float) -> float:
        """Take some; return for how many seconds nothing more may be taken."""
        grown = self._left + (now_seconds - self._at_seconds) * self._per_second
        self._left = min(self._most, grown) - amount
        self._at_seconds = now_seconds
        return max(0.0, -self._left / self._per_second)


class PacedInput:
    """What was read and is still to be processed; while there is something, nothing more is read."""

    def __init__(self, take: Callable[[int, bytes], None], set_reading: SetReading, pace: Pace) -> None:
        """`take` processes data of a file descriptor."""
        self._take = take
        self._set_reading = set_reading
        self._bytes = Allowance(pace.burst_bytes, pace.bytes_per_second)
        self._lines = Allowance(pace.burst_lines, pace.lines_per_second)
        self._work = Allowance(pace.burst_work_seconds, pace.work_seconds_per_second)
        self._unread: deque[_Unread] = deque()
        self._timer: asyncio.Handle | None = None
        self._then: Callable[[], None] = lambda: None

    @property
    def is_empty(self) -> bool:
        """Whether everything was processed."""
        return not self._unread

    def when_empty(self, then: Callable[[], None]) -> None:
        """Call `then` when everything was processed."""
        self._then = then

    def feed(self, fd: int, data: bytes) -> None:
        """Process data soon."""
        self._unread.append(_Unread(fd, data))
        if self._timer is None:
            self._set_reading(on=False)
            self._timer = asyncio.get_running_loop().call_soon(self._go_on)

    def stop(self) -> None:
        """Drop everything; call nothing any longer."""
        self._unread.clear()
        if self._timer is not None:
            self._timer.cancel()
        self._take, self._then = lambda *_: None, lambda: None

    def _go_on(self) -> None:
        """Process some, and wait for as long as it costs."""
        loop = asyncio.get_running_loop()
        if (wait_seconds := self._turn(loop.time())) or self._unread:
            self._timer = loop.call_later(wait_seconds, self._go_on)
            return
        self._timer = None
        self._set_reading(on=True)
        self._then()

    def _turn(self, now_seconds: float) -> float:
        """Process some lines, or the part of a long one; return for how long to wait after that."""
        begun, wait_seconds = thread_time(), 0.0
        worked_seconds = READ_SECONDS
        while self._unread and not wait_seconds and worked_seconds < TURN_SECONDS:
            unread = self._unread[0]
            piece = unread.piece()
            if unread.is_empty:
                self._unread.popleft()
            self._take(unread.fd, piece)
            waits = (
                self._bytes.spend(len(piece), now_seconds),
                self._lines.spend(piece.endswith(b"\n"), now_seconds),
            )
            wait_seconds = max(waits)
            worked_seconds = READ_SECONDS + thread_time() - begun
        rest_seconds = worked_seconds if self._unread else 0  # others have at least as much
        return max(wait_seconds, rest_seconds, self._work.spend(worked_seconds, now_seconds))


class _Unread:
    """Data of a file descriptor, and how much of it was taken."""

    def __init__(self, fd: int, data: bytes) -> None:
        self.fd = fd
        self._data = data
        self._taken = 0

    @property
    def is_empty(self) -> bool:
        return self._taken == len(self._data)

    def piece(self) -> bytes:
        """Take the rest of a line, or a part of it if it is long."""
        begin, longest = self._taken, self._taken + PIECE_BYTES
        end = self._data.find(b"\n", begin, longest) + 1 or min(longest, len(self._data))
        self._taken = end
        return self._data[begin:end]
