"""Who a raw controller is, and the messages of pair-setup and pair-verify from its side.

Each message is a list of parts, so that a scenario can change any of them before it is sent.
"""

from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from tests.peer import tlv
from tests.peer.srp import Proof, derive
from tests.peer.tlv import Kind, Part

Parts = list[Part]


@dataclass(frozen=True)
class Identity:
    """A controller's pairing ID and long-term key."""

    id: str
    key: Ed25519PrivateKey

    @classmethod
    def of(cls, number: int) -> "Identity":
        """The same for the same number."""
        seed = number.to_bytes(32)
        return cls(f"{number:08X}-2222-4333-8444-ABCDEFABCDEF", Ed25519PrivateKey.from_private_bytes(seed))

    @property
    def public_key(self) -> bytes:
        return self.key.public_key().public_bytes_raw()


def seal(key: bytes, nonce: str, parts: bytes) -> bytes:
    return ChaCha20Poly1305(key).encrypt(bytes(4) + nonce.encode(), parts, b"")


def unseal(key: bytes, nonce: str, data: bytes) -> Parts:
    """Raises `InvalidTag`."""
    return tlv.decode(ChaCha20Poly1305(key).decrypt(bytes(4) + nonce.encode(), data, b""))


@dataclass
class PairSetup:
    """One pair-setup with a setup code."""

    identity: Identity
    code: str
    _proof: Proof | None = None

    @property
    def proof(self) -> Proof:
        assert self._proof is not None, "M2 was not heard"
        return self._proof

    def m1(self) -> Parts:
        return [(Kind.STATE, b"\1"), (Kind.METHOD, b"\0")]

    def heard_m2(self, parts: dict[int, bytes]) -> None:
        if Kind.SALT in parts:
            self._proof = Proof(self.code, parts[Kind.SALT], parts[Kind.PUBLIC_KEY])

    def m3(self) -> Parts:
        if self._proof is None:  # the bridge gave no challenge: a proof of anything
            return [(Kind.STATE, b"\3"), (Kind.PUBLIC_KEY, b"\2" * 384), (Kind.PROOF, b"p" * 64)]
        return [(Kind.STATE, b"\3"), (Kind.PUBLIC_KEY, self.proof.public_key), (Kind.PROOF, self.proof.proof)]

    def m5_inner(self) -> Parts:
        signed = self._key("Controller-Sign") + self.identity.id.encode() + self.identity.public_key
        return [
            (Kind.IDENTIFIER, self.identity.id.encode()),
            (Kind.PUBLIC_KEY, self.identity.public_key),
            (Kind.SIGNATURE, self.identity.key.sign(signed)),
        ]

    def m5(self, inner: bytes) -> Parts:
        return [(Kind.STATE, b"\5"), (Kind.ENCRYPTED_DATA, seal(self._key("Encrypt"), "PS-Msg05", inner))]

    def opened_m6(self, data: bytes) -> dict[int, bytes]:
        """The bridge's ID and key; raises `InvalidTag` or `InvalidSignature`."""
        parts = dict(unseal(self._key("Encrypt"), "PS-Msg06", data))
        signed = self._key("Accessory-Sign") + parts[Kind.IDENTIFIER] + parts[Kind.PUBLIC_KEY]
        bridge = Ed25519PublicKey.from_public_bytes(parts[Kind.PUBLIC_KEY])
        bridge.verify(parts[Kind.SIGNATURE], signed)
        return parts

    def _key(self, purpose: str) -> bytes:
        secret = bytes(64) if self._proof is None else self._proof.key
        return derive(secret, f"Pair-Setup-{purpose}-Salt", f"Pair-Setup-{purpose}-Info")


@dataclass
class PairVerify:
    """One pair-verify."""

    identity: Identity
    own: X25519PrivateKey = field(default_factory=X25519PrivateKey.generate)
    others: bytes = b""
    shared: bytes = bytes(32)

    @property
    def public_key(self) -> bytes:
        return self.own.public_key().public_bytes_raw()

    def m1(self) -> Parts:
        return [(Kind.STATE, b"\1"), (Kind.PUBLIC_KEY, self.public_key)]

    def heard_m2(self, parts: dict[int, bytes]) -> None:
        if Kind.PUBLIC_KEY in parts:
            self.others = parts[Kind.PUBLIC_KEY]
            self.shared = self.own.exchange(X25519PublicKey.from_public_bytes(self.others))

    def opened_m2(self, data: bytes) -> dict[int, bytes]:
        """Who the bridge says that it is; raises `InvalidTag`."""
        return dict(unseal(self._key, "PV-Msg02", data))

    def m3_inner(self) -> Parts:
        signed = self.public_key + self.identity.id.encode() + self.others
        return [
            (Kind.IDENTIFIER, self.identity.id.encode()),
            (Kind.SIGNATURE, self.identity.key.sign(signed)),
        ]

    def m3(self, inner: bytes) -> Parts:
        return [(Kind.STATE, b"\3"), (Kind.ENCRYPTED_DATA, seal(self._key, "PV-Msg03", inner))]

    @property
    def session_keys(self) -> tuple[bytes, bytes]:
        """For what the controller sends, and for what it receives."""
        write = derive(self.shared, "Control-Salt", "Control-Write-Encryption-Key")
        return write, derive(self.shared, "Control-Salt", "Control-Read-Encryption-Key")

    @property
    def _key(self) -> bytes:
        return derive(self.shared, "Pair-Verify-Encrypt-Salt", "Pair-Verify-Encrypt-Info")
