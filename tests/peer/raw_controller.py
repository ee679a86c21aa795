"""The raw controller: pairs, verifies, reads, writes and subscribes by sockets and cryptography.

It shares no code with HAP-python or aiohomekit, so it finds mistakes that both of their sides make.
"""

import asyncio
import json
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from tests.peer import tlv
from tests.peer.identity import Identity, PairSetup, PairVerify
from tests.peer.raw_connection import Message, Wire
from tests.peer.tlv import Kind, Part
from tests.support.waiting import PATIENCE_SECONDS

ADD, REMOVE, LIST = b"\3", b"\4", b"\5"
"""Methods of /pairings (HAP specification, table 5-3)."""

TLV_TYPE: Final = "application/pairing+tlv8"
JSON_TYPE: Final = "application/hap+json"


def request(
    method: str, target: str, body: bytes = b"", *, kind: str = "", headers: Sequence[str] = ()
) -> bytes:
    """A whole HTTP request."""
    lines = [f"{method} {target} HTTP/1.1", "Host: bridge", *headers]
    if kind:
        lines.append(f"Content-Type: {kind}")
    if body or method in {"POST", "PUT"}:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


class PairingError(Exception):
    """A step of pairing was refused."""


@dataclass
class RawController:
    """One connection of one controller, verified or not."""

    wire: Wire
    identity: Identity
    events: list[Message] = field(default_factory=list)
    """Those that came while a response was awaited."""

    @classmethod
    async def connect(cls, address: str, port: int, identity: Identity) -> "RawController":
        return cls(await Wire.open(address, port), identity)

    @classmethod
    async def verified(
        cls, address: str, port: int, identity: Identity, bridge: bytes | None = None
    ) -> "RawController":
        """A connection that proved who it is; `bridge` is the key that the bridge must have."""
        raw = await cls.connect(address, port, identity)
        await raw.verify(bridge)
        return raw

    def close(self) -> None:
        self.wire.close()

    # Pairing

    async def pair(self, code: str) -> bytes:
        """Pair; returns the bridge's long-term public key; raises `PairingError`."""
        setup = PairSetup(self.identity, code)
        setup.heard_m2(await self._step("/pair-setup", setup.m1()))
        m4 = await self._step("/pair-setup", setup.m3())
        if m4[Kind.PROOF] != setup.proof.expected:
            raise PairingError("the bridge does not know the setup code")
        m6 = await self._step("/pair-setup", setup.m5(tlv.encode(setup.m5_inner())))
        return setup.opened_m6(m6[Kind.ENCRYPTED_DATA])[Kind.PUBLIC_KEY]

    async def verify(self, bridge: bytes | None = None) -> None:
        """Prove who it is, and encrypt from here on; raises `PairingError`, or `InvalidSignature`."""
        verify = PairVerify(self.identity)
        m2 = await self._step("/pair-verify", verify.m1())
        verify.heard_m2(m2)
        said = verify.opened_m2(m2[Kind.ENCRYPTED_DATA])
        if bridge is not None:
            signed = verify.others + said[Kind.IDENTIFIER] + verify.public_key
            Ed25519PublicKey.from_public_bytes(bridge).verify(said[Kind.SIGNATURE], signed)
        await self._step("/pair-verify", verify.m3(tlv.encode(verify.m3_inner())))
        self.wire.encrypt(*verify.session_keys)

    async def pairings(self, method: bytes, *parts: Part) -> list[Part]:
        """Add, remove or list pairings; raises `PairingError`."""
        wanted = tlv.encode([(Kind.STATE, b"\1"), (Kind.METHOD, method), *parts])
        return self._checked(await self.ask("POST", "/pairings", wanted, kind=TLV_TYPE))

    async def add(self, identity: Identity, *, admin: bool) -> None:
        key, rights = identity.public_key, bytes([admin])
        await self.pairings(
            ADD,
            (Kind.IDENTIFIER, identity.id.encode()),
            (Kind.PUBLIC_KEY, key),
            (Kind.PERMISSIONS, rights),
        )

    async def remove(self, controller_id: str) -> None:
        await self.pairings(REMOVE, (Kind.IDENTIFIER, controller_id.encode()))

    async def listed(self) -> dict[str, bool]:
        """Who is paired, and whether as an admin."""
        parts = await self.pairings(LIST)
        names = [value.decode() for kind, value in parts if kind == Kind.IDENTIFIER]
        admins = [value == b"\1" for kind, value in parts if kind == Kind.PERMISSIONS]
        return dict(zip(names, admins, strict=True))

    async def _step(self, path: str, parts: Sequence[Part]) -> dict[int, bytes]:
        return dict(self._checked(await self.ask("POST", path, tlv.encode(parts), kind=TLV_TYPE)))

    @staticmethod
    def _checked(message: Message) -> list[Part]:
        parts = tlv.decode(message.body)
        if message.status != 200 or Kind.ERROR in dict(parts):
            raise PairingError(f"{message.status} {parts}")
        return parts

    # Requests

    async def ask(self, method: str, target: str, body: bytes = b"", *, kind: str = "") -> Message:
        """Send a request, and read its response."""
        await self.wire.send(request(method, target, body, kind=kind))
        return await self.answer()

    async def answer(self, *, within_seconds: float = PATIENCE_SECONDS) -> Message:
        """The next response; events before it are kept."""
        async with asyncio.timeout(within_seconds):
            while (message := await self.wire.message()).is_event:
                self.events.append(message)
            return message

    async def event(self) -> dict[str, Any]:
        """The next event."""
        if self.events:
            return dict(self.events.pop(0).json)
        async with asyncio.timeout(PATIENCE_SECONDS):
            message = await self.wire.message()
        assert message.is_event, message
        return dict(message.json)

    async def accessories(self) -> list[dict[str, Any]]:
        return list((await self.ask("GET", "/accessories")).json["accessories"])

    async def read(self, aid: int, iid: int) -> Any:  # noqa: ANN401 -- any JSON
        """A value, or the item where there is none."""
        item = (await self.ask("GET", f"/characteristics?id={aid}.{iid}")).json["characteristics"][0]
        return item.get("value", item)

    async def write(self, items: Iterable[dict[str, Any]]) -> Message:
        body = json.dumps({"characteristics": list(items)}).encode()
        return await self.ask("PUT", "/characteristics", body, kind=JSON_TYPE)

    async def until_closed(self) -> None:
        """Wait until the bridge closes the connection."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            with suppress(ConnectionError):
                while await self.wire.reader.read(65536):
                    pass
