"""The bridge's mDNS service (HAP specification, 6.4), and names that mDNS and HomeKit accept.

Does no I/O.
"""

import base64
import hashlib
import re
from typing import Final, Protocol
from unicodedata import category, normalize

from zeroconf import ServiceInfo

from hkswitch.hap.setup_code import CATEGORY_BRIDGE
from hkswitch.model.printable import JOINERS, is_printable

MODEL: Final = "Bridge"
"""The bridge's model, also in the mDNS announcement (`md`)."""

PROTOCOL_VERSION: Final = "1.1.0"
"""The version of HomeKit over IP that other bridges announce; HAP-python's has extra zeros."""

FALLBACK: Final = "hkswitch"
"""Replaces a name without usable characters."""

MOST_LABEL_BYTES: Final = 63
"""The limit of a DNS label (RFC 1035, 2.3.4)."""

LEAST_SERIAL, MOST_SERIAL = 2, 64
"""The length of a serial number, in characters: HomeKit rejects shorter ones, and forbids longer ones."""

_NOT_AT_ENDS: Final = f" -'{JOINERS}"

_NOT_IN_LABELS: Final = "._\\"
"""Characters that separate labels, mark service types or escape others."""

SERVICE_TYPE: Final = "_hap._tcp.local."
HAP_VERSION: Final = "1.1"


def instance_name(name: str, device_id: str) -> str:
    """Return the service instance name: the bridge's name and the end of its device ID, for uniqueness."""
    suffix = f" {_tail(device_id)}"
    composed = normalize("NFC", name)
    kept = "".join(char if is_printable(char) and char not in _NOT_IN_LABELS else " " for char in composed)
    cut = _cut(" ".join(kept.split()).strip(_NOT_AT_ENDS), MOST_LABEL_BYTES - len(suffix))
    return f"{cut if any(map(_is_readable, cut)) else FALLBACK}{suffix}"


def host_name(name: str, device_id: str) -> str:
    """Return the first label of the host name: ASCII letters and digits with hyphens between them."""
    suffix = f"-{_tail(device_id)}"
    letters = normalize("NFKD", name)
    ascii_only = re.sub(r"[^A-Za-z0-9]+", "-", "".join(char for char in letters if not _is_mark(char)))
    cut = ascii_only.strip("-")[: MOST_LABEL_BYTES - len(suffix)].strip("-")
    return f"{cut or FALLBACK}{suffix}"


def serial_number(identity: str, aid: int) -> str:
    """Return the serial number of an accessory: its identity, plus its aid if the identity alone is invalid.

    Different accessories get different serial numbers, unless an identity ends like an aid.
    """
    if LEAST_SERIAL <= len(identity) <= MOST_SERIAL:
        return identity
    suffix = f":{aid:08x}"
    return identity[: MOST_SERIAL - len(suffix)] + suffix


def _tail(device_id: str) -> str:
    """Return the random end of a device ID, short enough for a user to compare."""
    return device_id.replace(":", "")[-6:]


def _cut(text: str, most_bytes: int) -> str:
    """Truncate a text without separating a character from its accents."""
    kept = text.encode()[:most_bytes].decode(errors="ignore")
    rest = text[len(kept) :]
    while kept and rest and _is_mark(rest[0]):
        kept, rest = kept[:-1], kept[-1] + rest
    return kept.strip(_NOT_AT_ENDS)


def _is_mark(char: str) -> bool:
    return category(char).startswith("M")


def _is_readable(char: str) -> bool:
    """Return whether a character is a letter, a digit or a pictogram, not punctuation."""
    return category(char)[0] in "LN" or category(char) == "So"


class AnnouncedState(Protocol):
    """The part of HAP-python's state that is announced."""

    mac: str
    setup_id: str
    config_version: int
    addresses: list[str]
    port: int

    @property
    def paired(self) -> bool:
        """Whether any controller is paired."""


def announcement(name: str, state: AnnouncedState) -> ServiceInfo:
    """Return the service for the current state.

    HAP-python's version allows only ASCII names, and announces the name as the model.
    """
    return ServiceInfo(
        SERVICE_TYPE,
        name=f"{instance_name(name, state.mac)}.{SERVICE_TYPE}",
        server=f"{host_name(name, state.mac)}.local.",
        port=state.port,
        properties={
            "md": MODEL,
            "pv": HAP_VERSION,
            "id": state.mac,
            "c#": str(state.config_version),
            "s#": "1",  # always 1 for IP accessories
            "ff": "0",  # not certified by Apple
            "ci": str(CATEGORY_BRIDGE),
            "sf": "0" if state.paired else "1",
            "sh": _setup_hash(state.setup_id, state.mac),
        },
        parsed_addresses=list(state.addresses),
    )


def _setup_hash(setup_id: str, device_id: str) -> str:
    """Return the hash by which a phone that scanned the QR code finds the bridge."""
    return base64.b64encode(hashlib.sha512(f"{setup_id}{device_id}".encode()).digest()[:4]).decode()
