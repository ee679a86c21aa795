"""Messages for a helper of another version, on another host. Pure: no I/O. Root does not import it.

A helper rejects keys that it does not know, so the daemon leaves them out. Of what a newer helper sends, the
parser of replies ignores the rest.
"""

import json
from typing import Final

from hkswitch.protocol.helper import HELPER_PROTOCOL, DaemonMessage, encode_message

SPOKEN: Final = frozenset({HELPER_PROTOCOL - 1, HELPER_PROTOCOL, HELPER_PROTOCOL + 1})
"""The protocols of helpers on other hosts: those hosts are not upgraded at the same moment."""

_SINCE: Final = {"sampled": 3, "by_rule": 3}
"""The protocol that introduced a key."""

_MISSING: Final = {3: "it measures nothing for 'restart_when', and does not tell who stopped a unit"}
"""What a helper with an older protocol than this does not do."""


def encode_for(message: DaemonMessage, protocol: int) -> bytes:
    """Return a message as one line that a helper with this protocol accepts."""
    line = encode_message(message)
    if protocol >= HELPER_PROTOCOL:
        return line
    known = {key: value for key, value in json.loads(line).items() if _SINCE.get(key, 0) <= protocol}
    return json.dumps(known, separators=(",", ":")).encode() + b"\n"


def missing_in(protocol: int) -> str:
    """Return what a helper with this protocol does not do; empty if it does everything."""
    return "; ".join(what for since, what in _MISSING.items() if protocol < since)
