"""rich's console, as wide as all other output. Kept apart because rich is slow to import."""

import os
from typing import Final

from rich.console import Console, ConsoleDimensions

from hkswitch.cli.layout import UNLIMITED_COLUMNS, columns_of

_LINES: Final = 25
"""The height if a terminal does not tell it."""


class FittedConsole(Console):
    """A console on standard output or standard error, which prints no markup.

    rich has its own rules for the width, and ends with an exception for some values of COLUMNS and LINES.
    """

    def __init__(self, *, stderr: bool = False) -> None:
        # With both sizes, rich does not read the environment; `size` is the one that counts.
        super().__init__(
            stderr=stderr, highlight=False, markup=False, emoji=False, width=UNLIMITED_COLUMNS, height=_LINES
        )

    @property
    def can_redraw(self) -> bool:
        """Whether the cursor can move, so that a text can replace an earlier one."""
        return self.file.isatty() and self.is_terminal and not self.is_dumb_terminal

    @property  # type: ignore[misc] # without its setter, which nothing uses
    def size(self) -> ConsoleDimensions:
        """Return the present size, because a user may resize the terminal."""
        columns = columns_of(self.file)  # type: ignore[arg-type]
        try:
            lines = os.get_terminal_size(self.file.fileno()).lines
        except (OSError, ValueError):
            lines = 0
        return ConsoleDimensions(columns or UNLIMITED_COLUMNS, lines or _LINES)
