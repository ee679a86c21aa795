"""Text for a terminal: lines break only between words. Other outputs get their lines unchanged.

Imports nothing that is slow to import: every command prints through it.
"""

import os
import re
import sys
from collections.abc import Iterator
from typing import Final, TextIO

HANGING_CELLS: Final = 2
"""The indentation of the rest of a line, below its first part."""

NARROWEST_COLUMNS: Final = 40
"""On a narrower terminal, lines are laid out for this width."""

UNLIMITED_COLUMNS: Final = 1000
"""The width if there is no terminal: programs read one line at a time."""

ESCAPE: Final = "\x1b"

_COMMAND_OR_WORD: Final = r"(\s*)((?:[^\s`]*`[^`]*`[^\s`]*)+|\S+)"
_WORD: Final = r"(\s*)(\S+)"
"""Compiled when the first line is broken: most outputs have only short ones."""


def columns_of(stream: TextIO) -> int | None:
    """Return the width of a terminal, or None if `stream` is not a terminal. COLUMNS overrides it."""
    if not stream.isatty():
        return None
    given = os.environ.get("COLUMNS", "")
    try:
        columns = (given.isdecimal() and int(given)) or os.get_terminal_size(stream.fileno()).columns
    except (OSError, ValueError):  # also of a number with thousands of digits
        columns = 0
    return max(columns or 80, NARROWEST_COLUMNS)


def cells(text: str) -> int:
    """Return the width of a text in a terminal: some letters are as wide as two others."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len  # noqa: PLC0415 -- seldom needed

    return cell_len(text)


def wrapped(line: str, columns: int, hanging_cells: int = HANGING_CELLS) -> list[str]:
    """Break a line between words; the rest is indented below it.

    A command in backticks stays in one line if it fits in one. A word that is longer than a line stays whole.
    """
    if cells(line) <= columns:
        return [line]
    indent = " " * (len(line) - len(line.lstrip(" ")) + hanging_cells)
    lines, current = [], ""
    for gap, word in _words(line, columns - len(indent)):
        if current.strip() and cells(current) + len(gap) + cells(word) > columns:
            lines.append(current)
            current = f"{indent}{word}"
        else:
            current += f"{gap}{word}"
    return [*lines, current]


def _words(line: str, columns: int) -> Iterator[tuple[str, str]]:
    """Yield each word, and each command that fits in a line, with the spaces before it."""
    for found in re.finditer(_COMMAND_OR_WORD, line):
        if cells(found[2]) <= columns:
            yield found[1], found[2]
        else:
            for number, word in enumerate(re.finditer(_WORD, found[2])):
                yield word[1] if number else found[1], word[2]


def fitted(text: str, columns: int | None) -> str:
    """Break the lines of a text for a terminal; None leaves them as they are.

    A line that begins with an escape sequence is a part of a drawing, and stays as it is.
    """
    if columns is None:
        return text
    lines = text.split("\n")
    return "\n".join(
        part for line in lines for part in ([line] if line.startswith(ESCAPE) else wrapped(line, columns))
    )


def duration(seconds: float) -> str:
    """Return a duration in one unit; a negative one is none, for clocks may be set back."""
    for unit, length_seconds in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length_seconds:
            return f"{int(seconds // length_seconds)} {unit}"
    return f"{max(0, int(seconds))} s"


def say(text: str, *, err: bool = False) -> None:
    """Print a text on standard output, or on standard error, as wide as the terminal."""
    stream = sys.stderr if err else sys.stdout
    stream.write(f"{fitted(text, columns_of(stream))}\n")
    stream.flush()
