"""A controller's connection down to its bytes: frames of any size, requests in pieces, reads that wait.

It shares no code with HAP-python or aiohomekit, and is paired by putting its key into the bridge's state.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA512
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from tests.support.stranger import DATA, PUBLIC_KEY, STATE, USERNAME, Said, Stranger, stranger, tlv
from tests.world.http_reader import Heard, Reader

SIGNATURE = 10
LARGEST_FRAME_BYTES = 1024
TAG_BYTES = 16

NAME = b"AAAAAAAA-0000-4000-8000-000000000001"
KEY = Ed25519PrivateKey.from_private_bytes(b"r" * 32)


class NotVerified(Exception):
    """The bridge did not believe a pair-verify."""


@dataclass
class Half:
    """One direction of an encrypted connection."""

    cipher: ChaCha20Poly1305
    count: int = 0

    def nonce(self) -> bytes:
        self.count += 1
        return bytes(4) + (self.count - 1).to_bytes(8, "little")

    def sealed(self, plain: bytes) -> bytes:
        """One frame."""
        length = len(plain).to_bytes(2, "little")
        return length + self.cipher.encrypt(self.nonce(), plain, length)

    def opened(self, received: bytearray) -> Iterator[bytes]:
        """Take the complete frames from what was received."""
        while len(received) >= 2:
            end = 2 + int.from_bytes(received[:2], "little") + TAG_BYTES
            if len(received) < end:
                return
            yield self.cipher.decrypt(self.nonce(), bytes(received[2:end]), bytes(received[:2]))
            del received[:end]


@dataclass
class RawSession:
    """A connection that is verified."""

    stream: Stranger
    to_bridge: Half
    from_bridge: Half
    heard: list[Heard] = field(default_factory=list)
    _received: bytearray = field(default_factory=bytearray)
    _reader: Reader = field(default_factory=Reader)

    def sealed(self, plain: bytes, sizes: Iterable[int] = ()) -> bytes:
        """Frames of these sizes, and then as large ones as there may be."""
        frames = b""
        for size in sizes:
            frames, plain = frames + self.to_bridge.sealed(plain[:size]), plain[size:]
        while plain:
            frames += self.to_bridge.sealed(plain[:LARGEST_FRAME_BYTES])
            plain = plain[LARGEST_FRAME_BYTES:]
        return frames

    def send(self, plain: bytes, sizes: Iterable[int] = ()) -> None:
        self.stream.writer.write(self.sealed(plain, sizes))

    async def next(self, within_seconds: float = 5) -> Heard:
        """The next message, which is removed from those heard."""
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
        """Wait for bytes, and take the messages out of them; False at the end."""
        received = await self.stream.reader.read(65536)
        self._received += received
        for plain in self.from_bridge.opened(self._received):
            self.heard += self._reader.read(plain)
        return bool(received)


def hkdf(key: bytes, salt: str, info: str) -> bytes:
    return HKDF(SHA512(), 32, salt.encode(), info.encode()).derive(key)


async def verify(stream: Stranger, name: bytes = NAME, key: Ed25519PrivateKey = KEY) -> RawSession:
    """Pair-verify (HAP specification, 5.7); raises `NotVerified`."""
    own = X25519PrivateKey.generate()
    own_public = own.public_key().public_bytes_raw()
    begun = await stream.post("/pair-verify", tlv((STATE, b"\1"), (PUBLIC_KEY, own_public)))
    theirs = begun.tlv[PUBLIC_KEY]
    shared = own.exchange(X25519PublicKey.from_public_bytes(theirs))
    cipher = ChaCha20Poly1305(hkdf(shared, "Pair-Verify-Encrypt-Salt", "Pair-Verify-Encrypt-Info"))
    proof = tlv((USERNAME, name), (SIGNATURE, key.sign(own_public + name + theirs)))
    sealed = cipher.encrypt(bytes(4) + b"PV-Msg03", proof, b"")
    done: Said = await stream.post("/pair-verify", tlv((STATE, b"\3"), (DATA, sealed)))
    if done.tlv != {STATE: b"\4"}:
        raise NotVerified(done.tlv)
    write, read = (f"Control-{way}-Encryption-Key" for way in ("Write", "Read"))
    return RawSession(
        stream,
        Half(ChaCha20Poly1305(hkdf(shared, "Control-Salt", write))),
        Half(ChaCha20Poly1305(hkdf(shared, "Control-Salt", read))),
    )


@asynccontextmanager
async def raw_session(address: str, port: int) -> AsyncIterator[RawSession]:
    """Connect and verify."""
    async with stranger(address, port) as stream:
        yield await verify(stream)
