"""A line of JSON, taken apart strictly: the parts that all messages are made of. Pure: no I/O.

What is not exactly what was asked for is `Malformed`: neither side guesses what the other meant.
"""

import json
from typing import Any, Final, NoReturn

from hkswitch.model.printable import is_printable

LONGEST_NAME: Final = 256
"""Characters in a group's id, a unit's name or a word of systemd's."""

LARGEST_ID: Final = 2**53
"""Numbers up to here survive every JSON implementation."""


class Malformed(ValueError):
    """A line that is no message; `id` is the request's where that much could be read."""

    def __init__(self, reason: str, request_id: int | None = None) -> None:
        super().__init__(reason)
        self.request_id = request_id


def parse_object(line: bytes) -> dict[str, Any]:
    """The object in a line."""
    try:
        body = json.loads(line.decode(), object_pairs_hook=_no_duplicates, parse_constant=_no_constant)
    except Malformed:
        raise
    except (ValueError, RecursionError):
        raise Malformed("not a line of JSON") from None
    if not isinstance(body, dict):
        raise Malformed("not a JSON object")
    return body


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    body = dict(pairs)
    if len(body) != len(pairs):
        raise Malformed("a key stands twice")
    return body


def _no_constant(name: str) -> NoReturn:
    raise Malformed(f"{name} is not JSON")


def keys(body: dict[str, Any], wanted: set[str]) -> None:
    """Accept an object with exactly these keys."""
    if missing := wanted - body.keys():
        raise Malformed(f"{min(missing)!r} is missing")
    if len(body) != len(wanted):
        raise Malformed("a key too many")


def number(body: dict[str, Any], key: str, smallest: int = 1) -> int:
    """A whole number; true and false are none."""
    match body.get(key):
        case int(found) if smallest <= found <= LARGEST_ID and not isinstance(found, bool):
            return found
    raise Malformed(f"{key!r} must be a number from {smallest} to {LARGEST_ID}")


def text(body: dict[str, Any], key: str, longest: int = LONGEST_NAME) -> str:
    """Text of at most so many characters."""
    match body.get(key):
        case str(found) if len(found) <= longest:
            return found
    raise Malformed(f"{key!r} must be text of at most {longest} characters")


def words(body: dict[str, Any], key: str, longest: int = LONGEST_NAME) -> str:
    """Text that can be printed."""
    found = text(body, key, longest)
    if not is_printable(found):
        raise Malformed(f"{key!r} must be text that can be printed")
    return found


def boolean(body: dict[str, Any], key: str) -> bool:
    """True or false."""
    match body.get(key):
        case bool(found):
            return found
    raise Malformed(f"{key!r} must be true or false")


def strings(body: dict[str, Any], key: str, longest: int = LONGEST_NAME) -> tuple[str, ...]:
    """A list of texts, each of at most so many characters."""
    match body.get(key):
        case list(found) if all(isinstance(item, str) and len(item) <= longest for item in found):
            return tuple(found)
    raise Malformed(f"{key!r} must be a list of texts of at most {longest} characters")


def objects(body: dict[str, Any], key: str) -> list[dict[str, Any]]:
    """A list of objects."""
    match body.get(key):
        case list(found) if all(isinstance(item, dict) for item in found):
            return found
    raise Malformed(f"{key!r} must be a list of objects")
