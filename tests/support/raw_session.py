"""A controller's connection with control over every byte: frame sizes, split requests, delayed reads.

It shares no code with HAP-python or aiohomekit. `RawSession` runs in an event loop, and pairs by adding its
key to the bridge's state; `Session` needs no loop, uses a pairing of aiohomekit's, and need not read.
"""

import asyncio
import select
import socket
import struct
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA512
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from tests.support.raw_client import (
    DATA,
    PUBLIC_KEY,
    STATE,
    USERNAME,
    RawClient,
    Said,
    raw_client,
    tlv,
)
from tests.world.http_reader import Heard, Reader

SIGNATURE = 10
LARGEST_FRAME_BYTES = 1024
TAG_BYTES = 16
TIMEOUT_SECONDS: Final = 10
RECEIVED_UNREAD_BYTES: Final = 64 * 1024
RESET: Final = struct.pack("ii", 1, 0)  # SO_LINGER with no time: a close is a RST
TCP_CLOSE: Final = 7  # linux/tcp_states.h

NAME = b"AAAAAAAA-0000-4000-8000-000000000001"
KEY = Ed25519PrivateKey.from_private_bytes(b"r" * 32)


class NotVerified(Exception):
    """A pair-verify that the bridge rejected."""


@dataclass
class Half:
    """One direction of an encrypted connection."""

    cipher: ChaCha20Poly1305
    count: int = 0

    def nonce(self) -> bytes:
        self.count += 1
        return bytes(4) + (self.count - 1).to_bytes(8, "little")

    def sealed(self, plain: bytes) -> bytes:
        """Encrypt one frame."""
        length = len(plain).to_bytes(2, "little")
        return length + self.cipher.encrypt(self.nonce(), plain, length)

    def frames(self, plain: bytes, sizes: Iterable[int] = ()) -> bytes:
        """Encrypt into frames of these sizes, then of the largest size; no frame follows the last byte."""
        frames = b""
        for size in sizes:
            if not plain:
                break
            frames, plain = frames + self.sealed(plain[:size]), plain[size:]
        while plain:
            frames += self.sealed(plain[:LARGEST_FRAME_BYTES])
            plain = plain[LARGEST_FRAME_BYTES:]
        return frames

    def opened(self, received: bytearray) -> Iterator[bytes]:
        """Remove the complete frames from the received data, and decrypt them."""
        while len(received) >= 2:
            end = 2 + int.from_bytes(received[:2], "little") + TAG_BYTES
            if len(received) < end:
                return
            yield self.cipher.decrypt(self.nonce(), bytes(received[2:end]), bytes(received[:2]))
            del received[:end]


@dataclass
class RawSession:
    """A verified connection."""

    stream: RawClient
    to_bridge: Half
    from_bridge: Half
    heard: list[Heard] = field(default_factory=list)
    _received: bytearray = field(default_factory=bytearray)
    _reader: Reader = field(default_factory=Reader)

    def sealed(self, plain: bytes, sizes: Iterable[int] = ()) -> bytes:
        """Encrypt into frames of these sizes, then of the largest size."""
        return self.to_bridge.frames(plain, sizes)

    def send(self, plain: bytes, sizes: Iterable[int] = ()) -> None:
        self.stream.writer.write(self.sealed(plain, sizes))

    async def next(self, within_seconds: float = 5) -> Heard:
        """Remove and return the next message."""
        async with asyncio.timeout(within_seconds):
            while not self.heard:
                if not await self.receive():
                    raise EOFError
        return self.heard.pop(0)

    async def ask(self, plain: bytes) -> Heard:
        """Send a request and read the next message, which must be its response."""
        self.send(plain)
        answer = await self.next()
        assert not answer.is_event, answer
        return answer

    async def receive(self) -> bool:
        """Wait for data, and parse its messages; return False at the end of the connection."""
        received = await self.stream.reader.read(65536)
        self._received += received
        for plain in self.from_bridge.opened(self._received):
            self.heard += self._reader.read(plain)
        return bool(received)


class Session:
    """A verified connection without an event loop."""

    def __init__(self, address: str, port: int, pairing: dict[str, Any], *, own_address: str = "") -> None:
        """Connect and authenticate; raises `OSError` if the bridge closes the connection."""
        own = (own_address, 0) if own_address else None
        self._socket = socket.create_connection((address, port), TIMEOUT_SECONDS, source_address=own)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVED_UNREAD_BYTES)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        key = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(pairing["iOSDeviceLTSK"]))
        verification = Verification(pairing["iOSPairingId"].encode(), key)
        begun = self._post(verification.begin())
        verification.check(self._post(verification.proof(begun)))
        self._to_bridge, _ = verification.halves()
        self._socket.setblocking(False)

    def request(self, request: bytes) -> None:
        """Send a request without waiting; raises `BlockingIOError` if the buffer is full."""
        frames = self._to_bridge.frames(request)
        assert self._socket.send(frames) == len(frames)

    def wait(self) -> None:
        """Wait until there is something to read."""
        poll = select.poll()  # select() takes no descriptor above 1,023
        poll.register(self._socket, select.POLLIN)
        assert poll.poll(1000 * TIMEOUT_SECONDS), "no answer in time"

    def is_closed(self) -> bool:
        """Return whether the bridge has closed it; reads pending data."""
        with suppress(BlockingIOError):
            try:
                while self._socket.recv(65536):
                    pass
            except ConnectionError:
                return True
            return True
        return False

    def is_cut(self) -> bool:
        """Return whether the bridge has reset it; reads nothing."""
        return self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == TCP_CLOSE

    def close(self) -> None:
        """Reset it."""
        self._socket.close()

    def _post(self, body: bytes) -> Said:
        head = f"POST /pair-verify HTTP/1.1\r\nHost: bridge\r\nContent-Length: {len(body)}\r\n\r\n"
        self._socket.sendall(head.encode() + body)
        reader = Reader()
        while True:
            if not (more := self._socket.recv(65536)):
                raise ConnectionAbortedError
            for heard in reader.read(more):
                return Said(heard.status, heard.body)


def hkdf(key: bytes, salt: str, info: str) -> bytes:
    return HKDF(SHA512(), 32, salt.encode(), info.encode()).derive(key)


class Verification:
    """The controller's messages of a pair-verify (HAP specification, 5.7)."""

    def __init__(self, name: bytes, key: Ed25519PrivateKey) -> None:
        self._name, self._key = name, key
        self._own = X25519PrivateKey.generate()
        self._own_public = self._own.public_key().public_bytes_raw()
        self._shared = b""

    def begin(self) -> bytes:
        return tlv((STATE, b"\1"), (PUBLIC_KEY, self._own_public))

    def proof(self, begun: Said) -> bytes:
        """Return the message that authenticates the controller, given the bridge's response."""
        theirs = begun.tlv[PUBLIC_KEY]
        self._shared = self._own.exchange(X25519PublicKey.from_public_bytes(theirs))
        cipher = ChaCha20Poly1305(hkdf(self._shared, "Pair-Verify-Encrypt-Salt", "Pair-Verify-Encrypt-Info"))
        signed = self._key.sign(self._own_public + self._name + theirs)
        proof = tlv((USERNAME, self._name), (SIGNATURE, signed))
        return tlv((STATE, b"\3"), (DATA, cipher.encrypt(bytes(4) + b"PV-Msg03", proof, b"")))

    def check(self, done: Said) -> None:
        """Check that the bridge accepted it; raises `NotVerified`."""
        if done.tlv != {STATE: b"\4"}:
            raise NotVerified(done.tlv)

    def halves(self) -> tuple[Half, Half]:
        """Return the two directions: to the bridge, and from it."""
        names = (f"Control-{way}-Encryption-Key" for way in ("Write", "Read"))
        write, read = (Half(ChaCha20Poly1305(hkdf(self._shared, "Control-Salt", name))) for name in names)
        return write, read


async def verify(stream: RawClient, name: bytes = NAME, key: Ed25519PrivateKey = KEY) -> RawSession:
    """Perform pair-verify; raises `NotVerified`."""
    verification = Verification(name, key)
    begun = await stream.post("/pair-verify", verification.begin())
    verification.check(await stream.post("/pair-verify", verification.proof(begun)))
    return RawSession(stream, *verification.halves())


@asynccontextmanager
async def raw_session(address: str, port: int) -> AsyncIterator[RawSession]:
    """Connect and verify."""
    async with raw_client(address, port) as stream:
        yield await verify(stream)
