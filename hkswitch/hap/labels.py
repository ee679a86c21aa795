"""Names in the form that mDNS and HomeKit accept, of whatever a person or a group is called. Pure: no I/O."""

import re
import unicodedata
from typing import Final

from hkswitch.model.printable import JOINERS, is_printable

MODEL: Final = "Bridge"
"""The bridge's model, also as mDNS announces it (`md`)."""

PROTOCOL_VERSION: Final = "1.1.0"
"""Of HomeKit over IP, as other bridges have it; HAP-python writes it with zeros."""

FALLBACK: Final = "hkswitch"
"""Where a name has nothing that can be used."""

MOST_LABEL_BYTES: Final = 63
"""Of a DNS label (RFC 1035, 2.3.4)."""

LEAST_SERIAL, MOST_SERIAL = 2, 64
"""Characters of a serial number: HomeKit refuses an accessory with fewer, and has no room for more."""

_NO_END: Final = f" -'{JOINERS}"

_NO_LABEL: Final = "._\\"
"""What separates labels, marks service types or escapes."""


def instance_name(name: str, device_id: str) -> str:
    """The name of a service instance: the bridge's, and what tells it from another bridge of that name."""
    suffix = f" {_tail(device_id)}"
    composed = unicodedata.normalize("NFC", name)
    kept = "".join(char if is_printable(char) and char not in _NO_LABEL else " " for char in composed)
    cut = _cut(" ".join(kept.split()).strip(_NO_END), MOST_LABEL_BYTES - len(suffix))
    return f"{cut if any(map(_is_readable, cut)) else FALLBACK}{suffix}"


def host_name(name: str, device_id: str) -> str:
    """The first label of the host name: ASCII letters, digits, and hyphens between them."""
    suffix = f"-{_tail(device_id)}"
    letters = unicodedata.normalize("NFKD", name)
    ascii_only = re.sub(r"[^A-Za-z0-9]+", "-", "".join(char for char in letters if not _is_mark(char)))
    cut = ascii_only.strip("-")[: MOST_LABEL_BYTES - len(suffix)].strip("-")
    return f"{cut or FALLBACK}{suffix}"


def serial_number(identity: str, aid: int) -> str:
    """The serial number of an accessory: its identity, with its aid where HomeKit would not take that alone.

    Those of two accessories differ as their identities and aids do, unless an identity ends like an aid.
    """
    if LEAST_SERIAL <= len(identity) <= MOST_SERIAL:
        return identity
    suffix = f":{aid:08x}"
    return identity[: MOST_SERIAL - len(suffix)] + suffix


def _tail(device_id: str) -> str:
    """What is random of a device ID, short enough for a person to compare."""
    return device_id.replace(":", "")[-6:]


def _cut(text: str, most_bytes: int) -> str:
    """The beginning of a text, with no character in it that lost its accents."""
    kept = text.encode()[:most_bytes].decode(errors="ignore")
    rest = text[len(kept) :]
    while kept and rest and _is_mark(rest[0]):
        kept, rest = kept[:-1], kept[-1] + rest
    return kept.strip(_NO_END)


def _is_mark(char: str) -> bool:
    return unicodedata.category(char).startswith("M")


def _is_readable(char: str) -> bool:
    """Whether it is a letter, a digit or a picture, and not mere punctuation."""
    return unicodedata.category(char)[0] in "LN" or unicodedata.category(char) == "So"
