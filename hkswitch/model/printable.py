"""Makes untrusted text safe for a terminal, a log and a file. Pure: no I/O.

All such text goes through here: control characters, surrogates and bidirectional controls are never printed.
"""

from typing import Final

LONGEST_PRINTED: Final = 2000
"""Characters in a reason, a failure or a log line."""

JOINERS: Final = "\u200c\u200d"
"""Invisible, but many scripts need them; they do not move a terminal's cursor."""

FILLERS: Final = "\u115f\u1160\u3164\uffa0"
"""Invisible, although Unicode classifies them as letters."""

_WITHOUT_JOINERS: Final = str.maketrans("", "", JOINERS)
_UNSEEN_MARKS: Final = (0x034F, 0x17B4, 0x17B5, *range(0x180B, 0x1810), *range(0xE0100, 0xE01F0))
"""They select the shape of a letter, or do nothing (Default_Ignorable_Code_Point, UAX #44)."""
_INVISIBLE: Final = _WITHOUT_JOINERS | dict.fromkeys(_UNSEEN_MARKS)


def is_printable(text: str) -> bool:
    """Return whether `text` can be printed as it is."""
    return text.isprintable() or text.translate(_WITHOUT_JOINERS).isprintable()


def without_invisible(text: str) -> str:
    """Return `text` without invisible characters: texts that differ only in those look and sound the same."""
    return text.translate(_INVISIBLE)


def printable(text: str, longest: int = LONGEST_PRINTED) -> str:
    """Return `text`, cut off at `longest`, with a question mark for each character that cannot be printed."""
    shown = text[:longest]
    return shown if is_printable(shown) else "".join(c if is_printable(c) else "?" for c in shown)


def escaped(text: str, longest: int = LONGEST_PRINTED) -> str:
    """Return `text`, shortened to `longest`, with an escape for each character that cannot be printed."""
    shown = text[: longest + 1]
    if not is_printable(shown):
        shown = "".join(c if is_printable(c) else c.encode("unicode_escape").decode() for c in shown)
    return shown if len(shown) <= longest else f"{shown[: longest - 3]}..."


def printable_lines(text: str) -> str:
    """Return `text` with each line made printable."""
    return "\n".join(map(printable, text.split("\n")))


def one_line(text: str) -> str:
    """Join the lines of `text` into one, separated by semicolons."""
    return "; ".join(line for line in map(str.strip, text.splitlines()) if line)


def printable_line(text: str, longest: int = LONGEST_PRINTED) -> str:
    """Return `text` on one line, with a question mark for each character that cannot be printed."""
    return printable(one_line(text), longest)
