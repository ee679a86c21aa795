"""Connections to simulated engines: asyncio's streams in memory, in order, late and in pieces.

It must not know what they carry.
"""

import asyncio
from asyncio import StreamReader, StreamWriter
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from tests.world.messages import Delay, Pipe

Streams = tuple[StreamReader, StreamWriter]


class StreamEnd(asyncio.Transport):
    """One end of a connection, as the transport of who has it."""

    def __init__(self, protocol: asyncio.Protocol) -> None:
        super().__init__()
        self.sent_to: Pipe[bytes | None]
        self.wrote: Callable[[bytes], None] = lambda _: None
        """Is told each write, when it is made."""
        self.cut_at: Callable[[int], int] = lambda number: number
        """Where bytes of this number are cut into two pieces."""
        self._protocol = protocol
        self._arrived: deque[bytes | None] = deque()
        self._is_closing = self._is_paused = self._is_held = False

    # As asyncio has it

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self._is_closing:
            sent = bytes(data)
            self.wrote(sent)
            cut = self.cut_at(len(sent))
            for piece in (sent[:cut], sent[cut:]):
                if piece:
                    self.sent_to.send(piece)

    def writelines(self, list_of_data: Iterable[Any]) -> None:
        self.write(b"".join(list_of_data))

    def is_closing(self) -> bool:
        return self._is_closing

    def close(self) -> None:
        if not self._is_closing:
            self.vanish()
            asyncio.get_running_loop().call_soon(self._protocol.connection_lost, None)

    abort = close

    def pause_reading(self) -> None:
        self._is_paused = True

    def resume_reading(self) -> None:
        self._is_paused = False
        asyncio.get_running_loop().call_soon(self._read)

    # The world's side

    def vanish(self) -> None:
        """Its process is gone: what it wrote arrives, and then the end of it."""
        if not self._is_closing:
            self._is_closing = True
            self.sent_to.send(None)

    def hold(self) -> None:
        """Its process is stopped, and reads nothing."""
        self._is_held = True

    def release(self) -> None:
        """It goes on."""
        self._is_held = False
        self._read()

    def arrive(self, item: bytes | None) -> None:
        """Something arrived from the other end; None is the end."""
        self._arrived.append(item)
        self._read()

    def _read(self) -> None:
        while self._arrived and not (self._is_closing or self._is_paused or self._is_held):
            item = self._arrived.popleft()
            if item is None:
                self._protocol.eof_received()
            else:
                self._protocol.data_received(item)


def connection(
    limit: int, delay_seconds: Delay
) -> tuple[tuple[StreamEnd, Streams], tuple[StreamEnd, Streams]]:
    """Both ends of a new connection; `limit` is that of the first end's reader."""
    near, far = _end(limit), _end(limit)
    near[0].sent_to = Pipe(far[0].arrive, delay_seconds)
    far[0].sent_to = Pipe(near[0].arrive, delay_seconds)
    return near, far


def _end(limit: int) -> tuple[StreamEnd, Streams]:
    loop = asyncio.get_running_loop()
    reader = StreamReader(limit, loop)
    protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
    end = StreamEnd(protocol)
    protocol.connection_made(end)
    return end, (reader, StreamWriter(end, protocol, reader, loop))
