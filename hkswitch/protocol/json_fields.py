"""Fields of messages that the daemon and the command line read, but root does not. Pure: no I/O."""

from typing import Any

from hkswitch.model.printable import is_printable
from hkswitch.protocol.json_lines import LONGEST_NAME, MalformedMessage, text


def words(body: dict[str, Any], key: str, longest: int = LONGEST_NAME) -> str:
    """Return a printable string."""
    found = text(body, key, longest)
    if not is_printable(found):
        raise MalformedMessage(f"{key!r} must be a printable string")
    return found


def boolean(body: dict[str, Any], key: str) -> bool:
    """Return true or false."""
    match body.get(key):
        case bool(found):
            return found
    raise MalformedMessage(f"{key!r} must be true or false")


def strings(body: dict[str, Any], key: str, longest: int = LONGEST_NAME) -> tuple[str, ...]:
    """Return a list of strings, each of at most `longest` characters."""
    match body.get(key):
        case list(found) if all(isinstance(item, str) and len(item) <= longest for item in found):
            return tuple(found)
    raise MalformedMessage(f"{key!r} must be a list of strings of at most {longest} characters")


def objects(body: dict[str, Any], key: str) -> list[dict[str, Any]]:
    """Return a list of objects."""
    match body.get(key):
        case list(found) if all(isinstance(item, dict) for item in found):
            return found
    raise MalformedMessage(f"{key!r} must be a list of objects")
