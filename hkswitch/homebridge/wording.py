"""Foreign text in comments, terminals and files: short, on one line, and visible. Pure: no I/O."""

from typing import Final

from hkswitch.model import printable

MOST_SHOWN: Final = 300


def visible(text: str) -> str:
    """`text` on one line, with escapes for what cannot be seen, so that it cannot leave a comment."""
    return printable.visible(text, MOST_SHOWN)


def quoted(text: str) -> str:
    """`text` in quotes."""
    return f"'{visible(text)}'"


def called(name: str) -> str:
    """A switch by its name."""
    return quoted(name) if name else "a switch without a name"
