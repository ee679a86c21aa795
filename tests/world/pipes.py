"""Pipes between simulated processes: bytes arrive in order, late, in pieces, and perhaps never."""

import asyncio
from collections import deque
from collections.abc import Callable
from contextvars import Context
from dataclasses import dataclass, field
from typing import Final

from tests.world.messages import NOBODY

CAPACITY_BYTES: Final = 65_536
"""pipe(7)."""


class Broken(OSError):
    """Nobody will ever read this."""


@dataclass(eq=False)
class Pipe:
    """One direction. `delay_seconds` and `cut_at` are asked for each write."""

    deliver: Callable[[bytes], None]
    ended: Callable[[], None]
    delay_seconds: Callable[[], float]
    cut_at: Callable[[int], int]
    """Where bytes of this number are cut into two pieces."""
    reader: Context
    """In which its reader's code runs."""
    is_held: bool = False
    """Whether its reader reads nothing."""
    is_broken: bool = False
    _waiting: deque[bytes | None] = field(default_factory=deque)
    _due: int = 0
    _last_due_seconds: float = 0
    _room: asyncio.Event = field(default_factory=asyncio.Event)

    def send(self, data: bytes) -> None:
        """Write, however much is waiting already; raises `Broken`."""
        if self.is_broken:
            raise Broken
        cut = self.cut_at(len(data))
        for piece in (data[:cut], data[cut:]):
            if piece:
                self._put(piece)

    async def write(self, data: bytes) -> None:
        """Write as fast as it is read; raises `Broken`."""
        while self._size() > CAPACITY_BYTES and not self.is_broken:
            self._room.clear()
            await self._room.wait()
        self.send(data)

    def close(self) -> None:
        """Nothing will be written any more; what is on its way arrives."""
        if not self.is_broken and (not self._waiting or self._waiting[-1] is not None):
            self._put(None)

    def cut(self) -> None:
        """Its reader is gone: what is on its way is lost, and so is all that comes."""
        self.is_broken = True
        self._waiting.clear()
        self._room.set()

    def hold(self) -> None:
        """Its reader stops to read."""
        self.is_held = True

    def release(self) -> None:
        """Its reader goes on."""
        self.is_held = False
        self._arrive()

    def _size(self) -> int:
        return sum(len(piece) for piece in self._waiting if piece is not None)

    def _put(self, piece: bytes | None) -> None:
        loop = asyncio.get_running_loop()
        self._waiting.append(piece)
        self._last_due_seconds = max(self._last_due_seconds, loop.time() + self.delay_seconds())
        loop.call_at(self._last_due_seconds, self._come, context=NOBODY)

    def _come(self) -> None:
        self._due += 1
        self._arrive()

    def _arrive(self) -> None:
        while self._due and self._waiting and not self.is_held:
            self._due -= 1
            piece = self._waiting.popleft()
            self._room.set()
            if piece is None:
                self.reader.run(self.ended)
            else:
                self.reader.run(self.deliver, piece)
