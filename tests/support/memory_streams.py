"""Connections in memory: asyncio's own streams on a transport that needs no socket, and so no real time."""

import asyncio
from asyncio import StreamReader, StreamWriter
from collections.abc import Callable, Iterable
from typing import Any, Final

LARGEST_CHUNK_BYTES: Final = 262_144
"""The most that one end reads in one turn of the loop, as asyncio does from a socket."""

CAPACITY_BYTES: Final = 212_992
"""Bytes that may be under way before the writing end has to wait, as on a unix socket."""


class MemoryTransport(asyncio.Transport):
    """One end of a connection. The other end reads what is written here, from the loop's next turn on."""

    def __init__(self, protocol: asyncio.Protocol) -> None:
        super().__init__()
        self.peer: MemoryTransport
        self._loop = asyncio.get_running_loop()
        self._protocol = protocol
        self._incoming = bytearray()
        self._is_paused = self._is_due = self._has_ended = self._is_closing = self._holds_up = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self.peer._is_closing:
            self._break()
        elif not self._is_closing:
            self.peer._incoming += data
            self.peer._wake()
            if len(self.peer._incoming) > CAPACITY_BYTES and not self._holds_up:
                self._holds_up = True
                self._protocol.pause_writing()

    def writelines(self, list_of_data: Iterable[Any]) -> None:
        self.write(b"".join(list_of_data))

    def can_write_eof(self) -> bool:
        return False

    def is_closing(self) -> bool:
        return self._is_closing

    def close(self) -> None:
        """Close both directions; what was written before still arrives."""
        if not self._is_closing:
            self._is_closing = True
            self._incoming.clear()
            self._call_soon(self._protocol.connection_lost, None)
            self.peer._has_ended = True
            self.peer._wake()
            if self.peer._holds_up:
                self.peer._break()

    abort = close

    def pause_reading(self) -> None:
        self._is_paused = True

    def resume_reading(self) -> None:
        self._is_paused = False
        self._wake()

    def is_reading(self) -> bool:
        return not self._is_paused

    def _call_soon(self, callback: Callable[..., None], *arguments: object) -> None:
        if not self._loop.is_closed():  # a stream that a failed test has left
            self._loop.call_soon(callback, *arguments)

    def _break(self) -> None:
        """Find that the other end has closed, while this one writes."""
        if not self._is_closing:
            self._is_closing = True
            self._call_soon(self._protocol.connection_lost, BrokenPipeError(32, "Broken pipe"))

    def _wake(self) -> None:
        if not self._is_due:
            self._is_due = True
            self._call_soon(self._deliver)

    def _deliver(self) -> None:
        self._is_due = False
        if self._is_closing or self._is_paused:
            return
        if chunk := bytes(self._incoming[:LARGEST_CHUNK_BYTES]):
            del self._incoming[: len(chunk)]
            self._protocol.data_received(chunk)
            if len(self._incoming) <= CAPACITY_BYTES and self.peer._holds_up:
                self.peer._holds_up = False
                self.peer._protocol.resume_writing()
            self._wake()
        elif self._has_ended:
            self._has_ended = False
            self._protocol.eof_received()


def memory_connection(
    limit: int,
) -> tuple[tuple[StreamReader, StreamWriter], tuple[StreamReader, StreamWriter]]:
    """Return both ends of a new connection; `limit` is that of the first end's reader."""
    loop = asyncio.get_running_loop()
    readers = StreamReader(limit, loop), StreamReader(loop=loop)
    protocols = [asyncio.StreamReaderProtocol(reader, loop=loop) for reader in readers]
    transports = [MemoryTransport(protocol) for protocol in protocols]
    for transport, peer, protocol in zip(transports, transports[::-1], protocols, strict=True):
        transport.peer = peer
        protocol.connection_made(transport)
    writers = [
        StreamWriter(transport, protocol, reader, loop)
        for transport, protocol, reader in zip(transports, protocols, readers, strict=True)
    ]
    return (readers[0], writers[0]), (readers[1], writers[1])
