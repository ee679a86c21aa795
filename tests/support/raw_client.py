"""A client that sends raw bytes to the bridge over an unauthenticated connection, and reads the answers."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import h11

METHOD, USERNAME, PUBLIC_KEY, PROOF, DATA, STATE, ERROR = 0, 1, 3, 4, 5, 6, 7
"""TLV types in pair-setup messages (HAP specification, table 5-6)."""


@dataclass(frozen=True, slots=True)
class Said:
    """A response; `status` is None if the connection was closed without one."""

    status: int | None
    body: bytes = b""

    @property
    def tlv(self) -> dict[int, bytes]:
        """The body's parts by their types."""
        parts: dict[int, bytes] = {}
        rest = self.body
        while rest:
            kind, length = rest[0], rest[1]
            parts[kind] = parts.get(kind, b"") + rest[2 : 2 + length]
            rest = rest[2 + length :]
        return parts


@dataclass
class RawClient:
    """One connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def say(self, sent: bytes) -> Said:
        """Send bytes, and read one answer."""
        self.writer.write(sent)
        return await self.heard(method="HEAD" if sent.startswith(b"HEAD ") else "GET")

    async def post(self, path: str, body: bytes) -> Said:
        """Send a complete request, and read the response."""
        head = f"POST {path} HTTP/1.1\r\nHost: bridge\r\nContent-Length: {len(body)}\r\n\r\n"
        return await self.say(head.encode() + body)

    async def pair_setup(self, *parts: tuple[int, bytes]) -> Said:
        """Send one pair-setup message, and read the response."""
        return await self.post("/pair-setup", tlv(*parts))

    async def heard(self, within_seconds: float = 5, method: str = "GET") -> Said:
        """Read one response to this method, or the end of the connection."""
        parser = h11.Connection(h11.CLIENT)
        parser.send(h11.Request(method=method, target="/", headers=[("Host", "bridge")]))
        parser.send(h11.EndOfMessage())
        status: int | None = None
        body = b""
        async with asyncio.timeout(within_seconds):
            while True:
                match parser.next_event():
                    case h11.NEED_DATA:
                        received = await self._received()
                        if not received and status is None:
                            return Said(None)
                        parser.receive_data(received)
                    case h11.InformationalResponse():
                        pass
                    case h11.Response() as response:
                        status = response.status_code
                    case h11.Data() as data:
                        body += data.data
                    case _:
                        return Said(status, body)

    async def is_closed(self, within_seconds: float = 5) -> bool:
        """Wait until the bridge closes it."""
        async with asyncio.timeout(within_seconds):
            while await self._received():
                pass
        return True

    async def _received(self) -> bytes:
        try:
            return await self.reader.read(65536)
        except ConnectionError:
            return b""


def tlv(*parts: tuple[int, bytes]) -> bytes:
    """Encode parts of any length as type, length, value (HAP specification, 14.1)."""
    encoded = b""
    for kind, value in parts:
        pieces = [value[start : start + 255] for start in range(0, len(value), 255)] or [b""]
        encoded += b"".join(bytes([kind, len(piece)]) + piece for piece in pieces)
    return encoded


@asynccontextmanager
async def raw_client(address: str, port: int, *, own_address: str | None = None) -> AsyncIterator[RawClient]:
    """Connect, optionally from another loopback address."""
    local = None if own_address is None else (own_address, 0)
    reader, writer = await asyncio.open_connection(address, port, local_addr=local)
    try:
        yield RawClient(reader, writer)
    finally:
        writer.transport.abort()
