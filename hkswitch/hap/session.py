"""Whose connection it is: what the modules of hap/ hand to one another instead of a connection.

It must not know any of them, so that none has to import another in a circle.
"""

from dataclasses import dataclass
from typing import Final
from uuid import UUID, uuid5

LONGEST_ID_BYTES: Final = 36
"""Of a controller: as long as a UUID in text."""

_OTHER_IDS: Final = UUID("5c8f2f1e-6b0c-4f0e-9a39-3b0f4b1b6f2a")


@dataclass(eq=False, slots=True)
class Session:
    """One connection, and who is at its other end. Two are never equal, whatever their addresses are.

    The address and port of a controller do not tell its connections apart: it may use the same ones for two
    addresses of the bridge.
    """

    address: str
    controller: UUID | None = None
    """The controller that has proved who it is; None before that, and when its pairing was removed."""

    @property
    def controller_id(self) -> str:
        """The controller's ID as people see it; empty without a controller."""
        return "" if self.controller is None else str(self.controller).upper()


def controller_of(identity: bytes) -> UUID:
    """The UUID under which a controller is kept; raises `ValueError` for an ID of another length.

    Apple's controllers have UUIDs. Another ID gets one that is made of it, and is told as it was sent.
    """
    if not 0 < len(identity) <= LONGEST_ID_BYTES:
        raise ValueError(f"a controller's ID has 1 to {LONGEST_ID_BYTES} bytes")
    try:
        text = identity.decode("ascii")
        found = UUID(text)
    except ValueError:
        return uuid5(_OTHER_IDS, identity.hex())
    return found if str(found) == text.lower() else uuid5(_OTHER_IDS, identity.hex())
