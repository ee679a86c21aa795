"""TLV8 of the raw controller: parts in their order, duplicates and all. Shares no code with HAP-python."""

from collections.abc import Sequence
from enum import IntEnum
from itertools import chain


class Kind(IntEnum):
    """Types of parts (HAP specification, table 5-6)."""

    METHOD = 0
    IDENTIFIER = 1
    SALT = 2
    PUBLIC_KEY = 3
    PROOF = 4
    ENCRYPTED_DATA = 5
    STATE = 6
    ERROR = 7
    SIGNATURE = 10
    PERMISSIONS = 11
    FLAGS = 19
    SEPARATOR = 255


Part = tuple[int, bytes]


class Truncated(ValueError):
    """A part is longer than what is there."""


def encode(parts: Sequence[Part]) -> bytes:
    """Values of any length, in pieces of 255 bytes; an empty value is one empty piece."""
    return b"".join(chain.from_iterable(_pieces(kind, value) for kind, value in parts))


def _pieces(kind: int, value: bytes) -> list[bytes]:
    starts = range(0, max(len(value), 1), 255)
    return [bytes([kind, len(value[start : start + 255])]) + value[start : start + 255] for start in starts]


def decode(data: bytes) -> list[Part]:
    """The parts in their order; pieces of one value are put together; raises `Truncated`."""
    parts: list[Part] = []
    goes_on = False
    while data:
        if len(data) < 2 or len(data) < 2 + data[1]:
            raise Truncated(data.hex())
        kind, piece, data = data[0], data[2 : 2 + data[1]], data[2 + data[1] :]
        if goes_on and parts[-1][0] == kind:
            parts[-1] = (kind, parts[-1][1] + piece)
        else:
            parts.append((kind, piece))
        goes_on = len(piece) == 255
    return parts
