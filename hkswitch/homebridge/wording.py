"""Quotes foreign text for comments, terminals and files: short, on one line, and visible. Pure: no I/O."""

from typing import Final

from hkswitch.model.printable import escaped

LONGEST_EXCERPT: Final = 300


def quoted(text: str) -> str:
    """Return `text` in quotes."""
    return f"'{escaped(text, LONGEST_EXCERPT)}'"


def called(name: str) -> str:
    """Return the name of a switch in quotes, or a phrase if it has none."""
    return quoted(name) if name else "a switch without a name"
