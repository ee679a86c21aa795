"""The controller's side of SRP-6a (RFC 5054, 3072 bits) in plain integers, and HAP's key derivation.

For tests only: its arithmetic does not hide the setup code. Shares no code with HAP-python or aiohomekit.
"""

import secrets
from hashlib import sha512
from typing import Final

from cryptography.hazmat.primitives.hashes import SHA512
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

BYTES: Final = 384
USER: Final = b"Pair-Setup"
G: Final = 5
N: Final = int(
    "FFFFFFFFFFFFFFFFC90FDAA22168C234C4C6628B80DC1CD129024E088A67CC74020BBEA63B139B22514A08798E3404DD"
    "EF9519B3CD3A431B302B0A6DF25F14374FE1356D6D51C245E485B576625E7EC6F44C42E9A637ED6B0BFF5CB6F406B7ED"
    "EE386BFB5A899FA5AE9F24117C4B1FE649286651ECE45B3DC2007CB8A163BF0598DA48361C55D39A69163FA8FD24CF5F"
    "83655D23DCA3AD961C62F356208552BB9ED529077096966D670C354E4ABC9804F1746C08CA18217C32905E462E36CE3B"
    "E39E772C180E86039B2783A2EC07A28FB5C55DF06F4C52C9DE2BCBF6955817183995497CEA956AE515D2261898FA0510"
    "15728E5A8AAAC42DAD33170D04507A33A85521ABDF1CBA64ECFB850458DBEF0A8AEA71575D060C7DB3970F85A6E1E4C7"
    "ABF5AE8CDB0933D71E8C94E04A25619DCEE3D2261AD2EE6BF12FFA06D98A0864D87602733EC86A64521F2B18177B200C"
    "BBE117577A615D6C770988C0BAD946E208E24FA074E5AB3143DB5BFCE0FD108E4B82D120A93AD2CAFFFFFFFFFFFFFFFF",
    16,
)


def padded(number: int) -> bytes:
    """A number in the group's full length."""
    return number.to_bytes(BYTES)


def _hash(*parts: bytes) -> bytes:
    return sha512(b"".join(parts)).digest()


def derive(secret: bytes, salt: str, info: str) -> bytes:
    """A key of 32 bytes (HKDF-SHA-512)."""
    return HKDF(SHA512(), 32, salt.encode(), info.encode()).derive(secret)


class Proof:
    """One run of SRP: the controller's public key, and with the bridge's challenge a key and proofs."""

    def __init__(self, code: str, salt: bytes, challenge: bytes) -> None:
        """`code` is a setup code like 031-45-154, `challenge` the bridge's public key."""
        own = secrets.randbits(256)
        self.public_key = padded(pow(G, own, N))
        self.challenge_length = len(challenge)
        others = int.from_bytes(challenge)
        x = int.from_bytes(_hash(salt, _hash(USER, b":", code.encode())))
        u = int.from_bytes(_hash(self.public_key, padded(others)))
        k = int.from_bytes(_hash(padded(N), padded(G)))
        shared = pow(others - k * pow(G, x, N), own + u * x, N)
        self.key = _hash(padded(shared))
        mixed = bytes(a ^ b for a, b in zip(_hash(padded(N)), _hash(bytes([G])), strict=True))
        self.proof = _hash(mixed, _hash(USER), salt, self.public_key, challenge, self.key)
        self.expected = _hash(self.public_key, self.proof, self.key)
        """What the bridge proves itself with."""
