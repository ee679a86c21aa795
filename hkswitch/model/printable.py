"""Makes text that others wrote fit for a terminal, a log and a file. Pure: no I/O.

The only place that decides how: control characters, surrogates and marks of direction never come through.
"""

from typing import Final

LONGEST_TEXT: Final = 2000
"""Characters of a reason, a failure or a line of a log."""

JOINERS: Final = "\u200c\u200d"
"""Invisible, and letters in many scripts depend on them; they move nothing on a terminal."""

FILLERS: Final = "\u115f\u1160\u3164\uffa0"
"""Letters by their category, of which nothing is seen."""

_WITHOUT_JOINERS: Final = str.maketrans("", "", JOINERS)
_UNSEEN_MARKS: Final = (0x034F, 0x17B4, 0x17B5, *range(0x180B, 0x1810), *range(0xE0100, 0xE01F0))
"""They choose between shapes of a letter, or do nothing (Default_Ignorable_Code_Point, UAX #44)."""
_SEEN: Final = _WITHOUT_JOINERS | dict.fromkeys(_UNSEEN_MARKS)


def is_printable(text: str) -> bool:
    """Whether `text` can be shown as it is."""
    return text.isprintable() or text.translate(_WITHOUT_JOINERS).isprintable()


def seen(text: str) -> str:
    """What is seen of `text`, and heard: two that differ in no more look the same."""
    return text.translate(_SEEN)


def printable(text: str, longest: int = LONGEST_TEXT) -> str:
    """At most so much of `text`, with a question mark for what cannot be printed."""
    shown = text[:longest]
    return shown if is_printable(shown) else "".join(c if is_printable(c) else "?" for c in shown)


def visible(text: str, longest: int = LONGEST_TEXT) -> str:
    """At most so much of `text`, with escapes for what cannot be printed, so that one sees what it was."""
    shown = text[: longest + 1]
    if not is_printable(shown):
        shown = "".join(c if is_printable(c) else c.encode("unicode_escape").decode() for c in shown)
    return shown if len(shown) <= longest else f"{shown[: longest - 3]}..."


def printable_lines(text: str) -> str:
    """`text` with each of its lines made printable."""
    return "\n".join(map(printable, text.split("\n")))


def one_line(text: str) -> str:
    """`text` as a status, an answer and a line of the log have it."""
    return "; ".join(line for line in map(str.strip, text.splitlines()) if line)


def printable_line(text: str, longest: int = LONGEST_TEXT) -> str:
    """Both: `text` in one line, with a question mark for what cannot be printed."""
    return printable(one_line(text), longest)
