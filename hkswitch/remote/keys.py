"""Public keys of OpenSSH, their fingerprints, and the names of bridges that keys carry. Pure: no I/O."""

import base64
import binascii
import hashlib
import re
from collections.abc import Collection
from typing import Final, NamedTuple
from unicodedata import normalize

from hkswitch.model.installation import HOST_NAME

ED25519: Final = "ssh-ed25519"
HOST_KEY_KINDS: Final = (
    *(ED25519, "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521"),
    "ssh-rsa",
)
"""Kinds of host keys, the best one first."""

HOST_KEY_ALGORITHMS: Final = (*HOST_KEY_KINDS[:-1], "rsa-sha2-512", "rsa-sha2-256")
"""The algorithms of those keys: ssh-rsa is also the name of one, which is no longer secure."""

LONGEST_KEY: Final = 8192
"""Characters in a line with a key: an RSA key of 16384 bits has some 2,800."""

LONGEST_BRIDGE_NAME: Final = 32

_ED25519_BYTES: Final = 32
_COUNT_BYTES: Final = 4
_FORMAT: Final = b"openssh-key-v1\0"
_BRIDGE_NAME = re.compile(HOST_NAME)
_FINGERPRINT = re.compile(r"SHA256:[A-Za-z0-9+/]{43}")


class PublicKey(NamedTuple):
    """A public key: its kind, and the key itself in base64."""

    kind: str
    base64: str

    def __str__(self) -> str:
        return f"{self.kind} {self.base64}"

    @property
    def fingerprint(self) -> str:
        """The fingerprint as ssh prints it: the hash without padding."""
        digest = hashlib.sha256(base64.b64decode(self.base64)).digest()
        return f"SHA256:{base64.b64encode(digest).decode().rstrip('=')}"

    @property
    def short_kind(self) -> str:
        """The kind in a word, as ssh prints it."""
        return self.kind.split("-")[1 if self.kind.startswith("ssh-") else 0].upper()


def parse_public_key(text: str, kinds: Collection[str] = (ED25519,)) -> PublicKey:
    """Return the key in a line like `ssh-ed25519 AAAA... COMMENT`; raises `ValueError` with the reason.

    Options in front of the key are not allowed, and the comment is ignored.
    """
    line = text.strip(" \n")
    if len(line) > LONGEST_KEY or not line.isprintable() or not line.isascii():
        raise ValueError("a key is one line of printable ASCII characters")
    kind, _, rest = line.partition(" ")
    encoded = rest.split(" ")[0]
    if kind not in kinds:
        raise ValueError(f"a key begins with {' or '.join(kinds)}")
    try:
        blob = base64.b64decode(encoded, validate=True)
    except binascii.Error:
        raise ValueError("the key is not valid base64; copy all of it") from None
    if base64.b64encode(blob).decode() != encoded:
        raise ValueError("the key is not valid base64; copy all of it")
    key = _fields(blob)
    if key[0] != kind.encode() or (kind == ED25519 and [len(part) for part in key[1:]] != [_ED25519_BYTES]):
        raise ValueError(f"this is not a key of the kind {kind}; copy all of it")
    return PublicKey(kind, encoded)


def public_part(private: str) -> PublicKey:
    """Return the public key of an unencrypted private key in OpenSSH's format; raises `ValueError`."""
    lines = private.split("\n")
    if lines[0] != "-----BEGIN OPENSSH PRIVATE KEY-----" or lines[-2:] != [
        "-----END OPENSSH PRIVATE KEY-----",
        "",
    ]:
        raise ValueError("it is not a private key of OpenSSH")
    try:
        body = base64.b64decode("".join(lines[1:-2]), validate=True)
    except binascii.Error:
        raise ValueError("it is damaged") from None
    if not body.startswith(_FORMAT):
        raise ValueError("it is damaged")
    cipher, rest = _taken(body.removeprefix(_FORMAT))
    kdf, rest = _taken(rest)
    _, rest = _taken(rest)
    blob, _ = _taken(rest[_COUNT_BYTES:])
    if (cipher, kdf) != (b"none", b"none"):
        raise ValueError("it is encrypted")
    return parse_public_key(f"{ED25519} {base64.b64encode(blob).decode()}")


def _fields(data: bytes) -> list[bytes]:
    """Return the strings in SSH's binary format; raises `ValueError`."""
    found: list[bytes] = []
    while data or not found:
        field, data = _taken(data)
        found.append(field)
    return found


def _taken(data: bytes) -> tuple[bytes, bytes]:
    """Return the first string in SSH's binary format, and the rest; raises `ValueError`."""
    length = int.from_bytes(data[:_COUNT_BYTES])
    end = _COUNT_BYTES + length
    if len(data) < max(end, _COUNT_BYTES):
        raise ValueError("the key is cut off; copy all of it")
    return data[_COUNT_BYTES:end], data[end:]


def known_hosts_line(name: str, key: PublicKey) -> str:
    """Return the line that has this key as the host's only one."""
    return f"{name} {key}\n"


def parse_known_hosts(text: str, name: str) -> PublicKey:
    """Return the key in a file with only that line; raises `ValueError`."""
    found, _, rest = text.partition(" ")
    if found != name or rest.count("\n") != 1:
        raise ValueError(f"it is not a line with the key of {name}")
    return parse_public_key(rest, HOST_KEY_KINDS)


def is_fingerprint(text: str) -> bool:
    return bool(_FINGERPRINT.fullmatch(text))


def is_bridge_name(text: str) -> bool:
    """Return whether a bridge may have this name on other hosts; it is part of a command there."""
    return bool(_BRIDGE_NAME.fullmatch(text))


def bridge_name_of(hostname: str) -> str:
    """Return the name of the bridge on a machine with this hostname."""
    plain = normalize("NFKD", hostname.partition(".")[0]).encode("ascii", "ignore").decode().lower()
    name = re.sub("[^a-z0-9]+", "-", plain).strip("-")[:LONGEST_BRIDGE_NAME].rstrip("-")
    return name or "bridge"
