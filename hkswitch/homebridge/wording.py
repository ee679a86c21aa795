"""Foreign text in comments, terminals and files: short, on one line, and visible. Pure: no I/O."""

from typing import Final

MOST_SHOWN: Final = 300


def visible(text: str) -> str:
    """`text` on one line, with escapes for what cannot be seen, so that it cannot leave a comment."""
    escaped = "".join(char if char.isprintable() else _escape(char) for char in text[: MOST_SHOWN + 1])
    return escaped if len(escaped) <= MOST_SHOWN else f"{escaped[: MOST_SHOWN - 1]}…"


def shown(text: str) -> str:
    """`text` in quotes."""
    return f"'{visible(text)}'"


def _escape(char: str) -> str:
    return {"\n": "\\n", "\t": "\\t", "\r": "\\r"}.get(char, f"\\u{ord(char):04x}")


def called(name: str) -> str:
    """A switch by its name."""
    return shown(name) if name else "a switch without a name"
