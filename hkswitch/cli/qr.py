"""The QR code for a terminal, readable on light and on dark ones, and without Unicode.

Where colors are allowed, the drawing sets both of them. Elsewhere, it is drawn for a dark terminal; on a
light one, it is inverted together with its quiet zone, and many readers accept that.
"""

import os
from collections.abc import Iterator, Sequence
from enum import Enum
from itertools import zip_longest
from pathlib import Path
from typing import Final, TextIO

from hkswitch.cli.layout import columns_of, fitted
from hkswitch.control.words import command
from hkswitch.hap.setup_code import Setup, modules

LIGHT, DARK = 231, 16
"""White and black of the fixed part of the 256 colors: themes change only the first 16."""

DUMB: Final = {"dumb", "unknown"}
"""Values of TERM for terminals that may have no colors."""

INVITATION: Final = """\
Setup code: {code}   (Home app: +, Add Accessory, scan or type it)
When the app shows "Uncertified Accessory", choose Add Anyway."""

TOO_NARROW: Final = "The terminal is too narrow for the QR code: type the code, or run {}."

_HALF_BLOCKS: Final = {(False, False): "█", (False, True): "▀", (True, False): "▄", (True, True): " "}
"""By whether the upper and the lower module are dark."""


class Form(Enum):
    """A way to draw a QR code: its characters, and whether it has colors."""

    BLOCKS_IN_COLOR = "▀▄█", True
    BLOCKS = "▀▄█", False
    SPACES_IN_COLOR = " ", True
    SIGNS = "# ", False

    @property
    def has_colors(self) -> bool:
        """Whether the drawing sets its colors."""
        return self.value[1]

    @property
    def is_compact(self) -> bool:
        """Whether a character shows two modules, and not half of one."""
        return "█" in self.value[0]


def form_for(stream: TextIO) -> Form:
    """Choose the form that a stream can show."""
    in_color = stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") not in DUMB
    try:
        "".join(_HALF_BLOCKS.values()).encode(stream.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return Form.SPACES_IN_COLOR if in_color else Form.SIGNS
    return Form.BLOCKS_IN_COLOR if in_color else Form.BLOCKS


def qr_lines(payload: str, form: Form) -> list[str]:
    """Return the lines of the QR code of a setup payload."""
    rows = modules(payload)
    if form.is_compact:
        return [_in_color(line, form) for line in _half_blocks(rows)]
    if form.has_colors:
        return ["".join(_background(dark=dark) + "  " for dark in row) + "\x1b[0m" for row in rows]
    return ["".join("  " if dark else "##" for dark in row) for row in rows]


def _half_blocks(rows: Sequence[Sequence[bool]]) -> Iterator[str]:
    for upper, lower in zip_longest(rows[::2], rows[1::2], fillvalue=[False] * len(rows[0])):
        yield "".join(_HALF_BLOCKS[pair] for pair in zip(upper, lower, strict=True))


def _in_color(line: str, form: Form) -> str:
    return f"\x1b[38;5;{LIGHT};48;5;{DARK}m{line}\x1b[0m" if form.has_colors else line


def _background(*, dark: bool) -> str:
    return f"\x1b[48;5;{DARK if dark else LIGHT}m"


def invitation(setup: Setup, stream: TextIO, state_folder: Path) -> str:
    """Return QR code and setup code for this output, and what to do with them.

    `state_folder`: the bridge's, for a suggested command.
    """
    form, columns = form_for(stream), columns_of(stream)
    size = len(modules(setup.payload)) * (1 if form.is_compact else 2)
    fits = columns is None or size <= columns
    text = INVITATION.format(code=setup.code)
    if fits:
        return "\n".join((*qr_lines(setup.payload, form), "", fitted(text, columns)))
    return fitted(f"{text}\n{TOO_NARROW.format(command(state_folder, 'pair --png FILE'))}", columns)
