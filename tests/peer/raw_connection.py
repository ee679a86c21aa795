"""A connection of the raw controller: bytes in pieces of any size, HAP's frames, and messages taken apart.

It sends what it is told to, correct or not, and parses what comes back strictly.
"""

import asyncio
import json
import socket
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import repeat
from typing import Any, Final, NamedTuple

from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

LARGEST_FRAME_BYTES: Final = 1024
TAG_BYTES: Final = 16


class Closed(Exception):
    """The bridge closed the connection."""


class InvalidMessage(Exception):
    """The bridge sent what is no message."""


class Message(NamedTuple):
    """A response, or an event."""

    protocol: str
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def is_event(self) -> bool:
        return self.protocol == "EVENT/1.0"

    @property
    def json(self) -> Any:  # noqa: ANN401 -- any JSON
        return json.loads(self.body)


def sealed(key: ChaCha20Poly1305, count: int, piece: bytes) -> bytes:
    """One frame (HAP specification, 6.5.2)."""
    length = len(piece).to_bytes(2, "little")
    return length + key.encrypt(_nonce(count), piece, length)


def _nonce(count: int) -> bytes:
    return bytes(4) + count.to_bytes(8, "little")


@dataclass
class FrameCipher:
    """Encryption in both directions."""

    out: ChaCha20Poly1305
    inward: ChaCha20Poly1305
    sent: int = 0
    received: int = 0

    def seal(self, data: bytes, sizes: Iterable[int] = ()) -> Iterator[bytes]:
        """Frames of these sizes, the last of which is used for all that follow."""
        last = LARGEST_FRAME_BYTES
        wanted = iter(sizes)
        while data:
            last = next(wanted, last)
            yield sealed(self.out, self.sent, data[:last])
            self.sent += 1
            data = data[last:]

    def open(self, buffer: bytearray) -> bytes:
        """Take whole frames out of the buffer, and return what was in them; raises `InvalidTag`."""
        clear = b""
        while len(buffer) >= 2:
            size = int.from_bytes(buffer[:2], "little")
            if size > LARGEST_FRAME_BYTES:
                raise InvalidMessage(f"a frame of {size} bytes")
            end = 2 + size + TAG_BYTES
            if len(buffer) < end:
                break
            clear += self.inward.decrypt(_nonce(self.received), bytes(buffer[2:end]), bytes(buffer[:2]))
            self.received += 1
            del buffer[:end]
        return clear


@dataclass
class Wire:
    """One TCP connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    frames: FrameCipher | None = None
    _buffer: bytearray = field(default_factory=bytearray)
    _clear: bytearray = field(default_factory=bytearray)

    @classmethod
    async def open(cls, address: str, port: int) -> "Wire":
        reader, writer = await asyncio.open_connection(address, port)
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return cls(reader, writer)

    def encrypt(self, out: bytes, inward: bytes) -> None:
        """From here on everything is in frames."""
        self.frames = FrameCipher(ChaCha20Poly1305(out), ChaCha20Poly1305(inward))

    async def send(self, data: bytes, *, frames: Iterable[int] = (), pieces: Iterable[int] = ()) -> None:
        """Send data in frames of these sizes, and those in TCP segments of these."""
        if self.frames is not None:
            data = b"".join(self.frames.seal(data, frames))
        await self.send_raw(data, pieces=pieces)

    async def send_raw(self, data: bytes, *, pieces: Iterable[int] = ()) -> None:
        """Send bytes as they are."""
        sizes = iter(pieces)
        while data:
            size = next(sizes, len(data))
            self.writer.write(data[:size])
            data = data[size:]
            with suppress(ConnectionError):  # a bridge may have heard enough: reading tells
                await self.writer.drain()
            await asyncio.sleep(0)

    def half_close(self) -> None:
        """Say that nothing more will be sent."""
        with suppress(OSError):
            self.writer.write_eof()

    async def message(self, *, to_head: bool = False) -> Message:
        """The next response, to HEAD maybe, or event; raises `Closed` or `InvalidMessage`."""
        while True:
            if (found := _take_message(self._clear, to_head=to_head)) is not None:
                return found
            received = await self._received()
            if not received:
                raise Closed
            self._buffer += received
            if self.frames is None:
                self._clear += self._buffer
                self._buffer.clear()
            else:
                self._clear += self.frames.open(self._buffer)

    async def _received(self) -> bytes:
        try:
            return await self.reader.read(65536)
        except ConnectionError:
            return b""

    def close(self) -> None:
        self.writer.transport.abort()


def every(size: int) -> Iterable[int]:
    """All pieces of one size."""
    return repeat(size)


def _take_message(buffer: bytearray, *, to_head: bool) -> Message | None:
    """Take one whole message out of the buffer; None while it is not whole."""
    head, found, rest = bytes(buffer).partition(b"\r\n\r\n")
    if not found:
        return None
    first, *lines = head.decode("latin-1").split("\r\n")
    protocol, _, after = first.partition(" ")
    status = after[:3]
    if protocol not in {"HTTP/1.1", "HTTP/1.0", "EVENT/1.0"} or not status.isdecimal():
        raise InvalidMessage(first)
    headers = {
        name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)
    }
    has_no_body = to_head and protocol != "EVENT/1.0"
    whole = (b"", rest) if has_no_body else _take_body(int(status), headers, rest)
    if whole is None:
        return None
    body, left = whole
    buffer[:] = left
    return Message(protocol, int(status), headers, body)


def _take_body(status: int, headers: dict[str, str], rest: bytes) -> tuple[bytes, bytes] | None:
    """The body, and what follows it."""
    if status == 204 or status < 200:
        return b"", rest
    if headers.get("transfer-encoding", "").lower() == "chunked":
        return _take_chunks(rest)
    length = int(headers.get("content-length", "0"))
    return (rest[:length], rest[length:]) if len(rest) >= length else None


def _take_chunks(rest: bytes) -> tuple[bytes, bytes] | None:
    body = b""
    while True:
        head, found, rest = rest.partition(b"\r\n")
        if not found:
            return None
        size = int(head.partition(b";")[0], 16)
        if len(rest) < size + 2:
            return None
        piece, end, rest = rest[:size], rest[size : size + 2], rest[size + 2 :]
        if end != b"\r\n":
            raise InvalidMessage(f"a chunk that ends in {end!r}")
        if size == 0:
            return body, rest
        body += piece
