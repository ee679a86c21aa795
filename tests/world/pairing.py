"""Controllers that pair, and what they say on the real connections of a bridge. Knows no disk.

The arithmetic of SRP is left out: it takes most of the time of a pairing, and touches no state.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest import mock
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from pyhap import tlv
from pyhap.hap_crypto import hap_hkdf
from pyhap.hap_handler import HAP_TLV_TAGS as TAGS
from pyhap.hap_handler import HAPServerHandler as HapPython

from hkswitch.daemon.bridge import Bridge
from hkswitch.hap import pair_setup
from hkswitch.hap.pairing_rules import Step
from tests.support.inprocess import Fed, InProcess

ADD, REMOVE = b"\x03", b"\x04"
_NOWHERE = Path("/")


@dataclass(frozen=True)
class Controller:
    """One that may be paired."""

    name: str
    id: UUID
    key: Ed25519PrivateKey

    @classmethod
    def of(cls, number: int) -> "Controller":
        seed = bytes([number]) * 32
        return cls(
            f"controller {number}",
            UUID(bytes=seed[:16], version=4),
            Ed25519PrivateKey.from_private_bytes(seed),
        )

    @property
    def public_key(self) -> bytes:
        return self.key.public_key().public_bytes_raw()

    @property
    def said_id(self) -> bytes:
        """As controllers say it."""
        return str(self.id).upper().encode()

    # What it asks of a bridge; whether that was a success

    def pair(self, bridge: Bridge, setup_code: str) -> bool:
        """Pair first, with the setup code."""
        fed = InProcess(bridge, _NOWHERE).connect()
        begun = _post(fed, "/pair-setup", TAGS.SEQUENCE_NUM, Step.BEGIN.value, TAGS.REQUEST_TYPE, b"\0")
        if begun and _post(fed, "/pair-setup", *_proof(setup_code)):
            sealed = self._sealed(bridge.setup.code)
            parts = (TAGS.SEQUENCE_NUM, Step.EXCHANGE.value, TAGS.ENCRYPTED_DATA, sealed)
            ok = _post(fed, "/pair-setup", *parts)
        else:
            ok = False
        fed.wire.close()
        return ok

    def add(self, bridge: Bridge, other: "Controller", *, admin: bool) -> bool:
        """Add another controller, or change what it may do."""
        permissions = b"\1" if admin else b"\0"
        parts = (TAGS.PUBLIC_KEY, other.public_key, TAGS.PERMISSIONS, permissions)
        return self._ask(bridge, ADD, TAGS.USERNAME, other.said_id, *parts)

    def remove(self, bridge: Bridge, other: "Controller") -> bool:
        """Remove a controller, maybe itself."""
        return self._ask(bridge, REMOVE, TAGS.USERNAME, other.said_id)

    def _ask(self, bridge: Bridge, method: bytes, *parts: bytes) -> bool:
        fed = InProcess(bridge, _NOWHERE, ports=1000).connect(self.id)
        ok = _post(fed, "/pairings", TAGS.SEQUENCE_NUM, b"\1", TAGS.REQUEST_TYPE, method, *parts)
        fed.wire.close()
        return ok

    def _sealed(self, setup_code: str) -> bytes:
        """Its identity, signed and encrypted for the third step of a pairing."""
        session_key = SharedCode(setup_code).Kb
        salt = hap_hkdf(session_key, HapPython.PAIRING_4_SALT, HapPython.PAIRING_4_INFO)
        signature = self.key.sign(salt + self.said_id + self.public_key)
        parts = (TAGS.USERNAME, self.said_id, TAGS.PUBLIC_KEY, self.public_key, TAGS.PROOF, signature)
        key = hap_hkdf(session_key, HapPython.PAIRING_3_SALT, HapPython.PAIRING_3_INFO)
        return ChaCha20Poly1305(key).encrypt(HapPython.PAIRING_3_NONCE, tlv.encode(*parts), b"")


@dataclass
class SharedCode:
    """Stands in for `pair_setup.Verifier`: the proof is the setup code itself."""

    setup_code: str

    @property
    def Kb(self) -> bytes:  # noqa: N802 -- HAP-python's name
        return hashlib.sha512(self.setup_code.encode()).digest()

    def get_challenge(self) -> tuple[bytes, int]:
        return b"s" * pair_setup.SALT_BYTES, 2

    def set_A(self, bytes_A: bytes) -> None:  # noqa: N802, N803 -- HAP-python's names
        assert bytes_A

    def verify(self, proof: bytes) -> bytes | None:
        return b"proved" if proof == self.setup_code.encode() else None


@contextmanager
def without_arithmetic() -> Iterator[None]:
    """Meanwhile, pair-setup takes the setup code for its own proof."""
    with mock.patch.object(pair_setup, "Verifier", SharedCode):
        yield


def _proof(setup_code: str) -> tuple[bytes, ...]:
    proof = (TAGS.PUBLIC_KEY, b"A", TAGS.PASSWORD_PROOF, setup_code.encode())
    return (TAGS.SEQUENCE_NUM, Step.PROVE.value, *proof)


def _post(fed: Fed, path: str, *parts: bytes) -> bool:
    """Whether the answer to a request has no error in it."""
    body = bytes(tlv.encode(*parts))
    head = f"POST {path} HTTP/1.1\r\nHost: bridge\r\nContent-Length: {len(body)}\r\n\r\n"
    before = len(fed.answers())
    fed.connection.data_received(head.encode() + body)
    answer = fed.answers()[before]
    return answer.status == 200 and int.from_bytes(TAGS.ERROR_CODE) not in answer.tlv
