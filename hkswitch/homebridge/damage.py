"""Strict JSON from Homebridge's folder, and the failure for a file that is damaged. Pure: no I/O."""

import json
from typing import Final

from hkswitch.homebridge.wording import quoted
from hkswitch.model.errors import Exit, Failure

MOST_FILE_BYTES: Final = 16 << 20
"""The largest file to read: the cached accessories of a full bridge take a quarter of it."""

LARGEST_NUMBER: Final = 10**6
"""The largest aid, iid or config version to accept; Homebridge counts them from 1."""


class Damaged(Failure):
    """A file of Homebridge that is not as Homebridge writes it."""

    exit_code = Exit.DAMAGED

    def __init__(self, file: str, why: str) -> None:
        remedy = "restore it from a backup, or import without --take-over and pair again"
        super().__init__(f"cannot take over the bridge: {file} is damaged ({why}); {remedy}")


def read_json(data: bytes, file: str) -> object:
    """Return the value in a file; raises `Damaged`."""
    if len(data) > MOST_FILE_BYTES:
        raise Damaged(file, f"larger than {MOST_FILE_BYTES} bytes")
    try:
        value: object = json.loads(data.decode(), parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise Damaged(file, "not JSON") from error
    return value


def whole(value: object, least: int, file: str, what: str) -> int:
    """Return a whole number from `least`; raises `Damaged`."""
    if type(value) is int and least <= value <= LARGEST_NUMBER:  # a bool is an int in Python
        return value
    raise Damaged(file, f"{what} must be a number from {least} to {LARGEST_NUMBER}")


def is_text(value: object) -> bool:
    """Return whether a value is text that can be sent: JSON can contain half of a surrogate pair."""
    return isinstance(value, str) and not any("\ud800" <= char <= "\udfff" for char in value)


def shown(text: str) -> str:
    """Return text of a file in quotes, for a message."""
    return quoted(text[:100])


def _refuse(constant: str) -> object:
    raise ValueError(constant)
