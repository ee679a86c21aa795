"""Strict parsing of a line of JSON, and of the fields that all messages have. Pure: no I/O.

Any unexpected input is `MalformedMessage`: neither side guesses what the other meant.
"""

import json
from typing import Any, Final, NoReturn

LONGEST_NAME: Final = 256
"""Characters in a group's id, a unit's name or a systemd state."""

LARGEST_ID: Final = 2**53
"""Every JSON implementation represents integers up to this one exactly."""


class MalformedMessage(ValueError):
    """An invalid message; `request_id` is None if the line has no valid one."""

    def __init__(self, reason: str, request_id: int | None = None) -> None:
        super().__init__(reason)
        self.request_id = request_id


def parse_object(line: bytes) -> dict[str, Any]:
    """Return the object in a line; raises `MalformedMessage`, as all functions here do."""
    try:
        body = _STRICT.decode(line.decode())
    except MalformedMessage:
        raise
    except (ValueError, RecursionError):
        raise MalformedMessage("not a line of JSON") from None
    if not isinstance(body, dict):
        raise MalformedMessage("not a JSON object")
    return body


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    body = dict(pairs)
    if len(body) != len(pairs):
        raise MalformedMessage("duplicate key")
    return body


def _no_constant(name: str) -> NoReturn:
    raise MalformedMessage(f"{name} is not JSON")


_STRICT: Final = json.JSONDecoder(object_pairs_hook=_no_duplicates, parse_constant=_no_constant)
"""Made once: `json.loads` would make one for each line."""


def keys(body: dict[str, Any], wanted: set[str]) -> None:
    """Check that an object has exactly these keys."""
    if missing := wanted - body.keys():
        raise MalformedMessage(f"{min(missing)!r} is missing")
    if len(body) != len(wanted):
        raise MalformedMessage("unexpected key")


def number(body: dict[str, Any], key: str, smallest: int = 1) -> int:
    """Return an integer; true and false are not integers."""
    match body.get(key):
        case int(found) if smallest <= found <= LARGEST_ID and not isinstance(found, bool):
            return found
    raise MalformedMessage(f"{key!r} must be an integer from {smallest} to {LARGEST_ID}")


def text(body: dict[str, Any], key: str, longest: int = LONGEST_NAME) -> str:
    """Return a string of at most `longest` characters."""
    match body.get(key):
        case str(found) if len(found) <= longest:
            return found
    raise MalformedMessage(f"{key!r} must be a string of at most {longest} characters")
