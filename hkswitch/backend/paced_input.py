"""Input of a program that is not trusted, in small pieces and at a limited rate. No other I/O.

Whatever it sends, the event loop is never busy with it for long, and it gets only a part of the time.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

PIECE_BYTES: Final = 8 * 1024
"""What is processed at once: hundreds of short lines, which take a few milliseconds."""


class Pace(NamedTuple):
    """How much may come: at once, and in a second."""

    burst_bytes: int
    bytes_per_second: int
    burst_lines: int
    lines_per_second: int


class SetReading(Protocol):
    """Begins or ceases to read from the program."""

    def __call__(self, *, on: bool) -> None: ...


class PacedInput:
    """What was read and is still to be processed; while there is something, nothing more is read."""

    def __init__(self, take: Callable[[int, bytes], None], set_reading: SetReading, pace: Pace) -> None:
        """`take` processes data of a file descriptor."""
        self._take = take
        self._set_reading = set_reading
        self._pace = pace
        self._bytes_left = float(pace.burst_bytes)
        self._lines_left = float(pace.burst_lines)
        self._counted_seconds = 0.0
        self._pieces: deque[tuple[int, bytes]] = deque()
        self._then: Callable[[], None] = lambda: None

    @property
    def is_empty(self) -> bool:
        """Whether everything was processed."""
        return not self._pieces

    def when_empty(self, then: Callable[[], None]) -> None:
        """Call `then` when everything was processed."""
        self._then = then

    def feed(self, fd: int, data: bytes) -> None:
        """Process data soon."""
        if self.is_empty:
            self._set_reading(on=False)
            asyncio.get_running_loop().call_soon(self._go_on)
        pieces = (data[start : start + PIECE_BYTES] for start in range(0, len(data), PIECE_BYTES))
        self._pieces.extend((fd, piece) for piece in pieces)

    def _go_on(self) -> None:
        """Process a piece, and wait for as long as it costs."""
        loop = asyncio.get_running_loop()
        fd, piece = self._pieces[0]
        self._take(fd, piece)
        self._pieces.popleft()
        wait_seconds = self._cost_seconds(piece, loop.time())
        if self._pieces or wait_seconds:
            if not self._pieces:
                self._pieces.append((fd, b""))  # so that nothing is read meanwhile
            loop.call_later(wait_seconds, self._go_on)
            return
        self._set_reading(on=True)
        self._then()

    def _cost_seconds(self, piece: bytes, now_seconds: float) -> float:
        """Return how long nothing more may be processed after this."""
        pace, passed_seconds = self._pace, now_seconds - self._counted_seconds
        self._counted_seconds = now_seconds
        self._bytes_left = min(pace.burst_bytes, self._bytes_left + passed_seconds * pace.bytes_per_second)
        self._lines_left = min(pace.burst_lines, self._lines_left + passed_seconds * pace.lines_per_second)
        self._bytes_left -= len(piece)
        self._lines_left -= piece.count(b"\n")
        return max(0.0, -self._bytes_left / pace.bytes_per_second, -self._lines_left / pace.lines_per_second)
