"""Checks the bridge's long-term keys (Ed25519), which another program may have written."""

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


def is_key_pair(private_key: str, public_key: str) -> bool:
    """Return whether a public key belongs to a private one; both are in hexadecimal digits."""
    try:
        found = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(private_key))
    except ValueError:
        return False
    return found.public_key().public_bytes_raw().hex() == public_key
