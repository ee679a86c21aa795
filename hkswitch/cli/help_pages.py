"""The help of commands, which breaks lines only between words. click breaks long ones and at hyphens."""

from collections.abc import Iterable, Iterator
from typing import Final

import click

from hkswitch.cli.layout import NARROWEST_COLUMNS, cells, wrapped

WIDEST_COLUMNS: Final = 78
FIRST_COLUMN_CELLS: Final = 30
"""The widest first column of a list; a longer first text has a line of its own."""
LEAST_TEXT_CELLS: Final = 28
"""A list with less room for its second column has it below the first one."""

VERBATIM: Final = "\b"
"""Marks a paragraph whose lines are kept, such as one with examples; this is click's rule."""


class WholeWordFormatter(click.HelpFormatter):
    """Formats help for terminals from 40 columns on."""

    def __init__(self, width: int | None = None, max_width: int | None = None) -> None:
        import shutil  # noqa: PLC0415 -- a slow import that only help needs

        columns = width or shutil.get_terminal_size().columns
        widest = max_width or WIDEST_COLUMNS
        super().__init__(width=max(min(columns, widest), NARROWEST_COLUMNS))

    def write_usage(self, prog: str, args: str = "", prefix: str | None = None) -> None:
        """Write the usage line; its rest is indented."""
        line = f"{'Usage: ' if prefix is None else prefix}{prog} {args}".rstrip()
        self._write_lines(wrapped(line, self.width, len("Usage: ")))

    def write_text(self, text: str) -> None:
        """Write paragraphs."""
        indent = " " * self.current_indent
        self._write_lines(
            line and f"{indent}{line}" for line in _laid_out(text, self.width - self.current_indent)
        )

    def write_dl(
        self, rows: Iterable[tuple[str, str]], col_max: int = FIRST_COLUMN_CELLS, col_spacing: int = 2
    ) -> None:
        """Write a list of options or commands, in two columns, or below one another."""
        rows, indent = tuple(rows), " " * self.current_indent
        second = self.current_indent + min(max(cells(first) for first, _ in rows), col_max) + col_spacing
        longest_cells = max((cells(word) for _, text in rows for word in text.split()), default=0)
        is_narrow = self.width - second < max(LEAST_TEXT_CELLS, longest_cells)
        start = self.current_indent + 4 if is_narrow else second
        for first, text in rows:
            lines = list(_laid_out(text, self.width - start))
            if not is_narrow and lines and cells(indent + first) + col_spacing <= start:
                self._write_lines([f"{indent}{first}".ljust(start) + lines.pop(0)])
            else:
                self._write_lines(wrapped(f"{indent}{first}", self.width, 4))
            self._write_lines(line and " " * start + line for line in lines)

    def _write_lines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(f"{line}\n")


def _laid_out(text: str, columns: int) -> Iterator[str]:
    """Yield the lines of paragraphs, with empty ones between them."""
    for number, paragraph in enumerate(text.split("\n\n")):
        if number:
            yield ""
        if paragraph.strip().startswith(VERBATIM) or paragraph.startswith(VERBATIM):
            for line in paragraph.replace(VERBATIM, "").strip("\n").split("\n"):
                yield from _continued(line, columns)
        else:
            yield from wrapped(" ".join(paragraph.split()), columns, 0)


def _continued(line: str, columns: int) -> Iterator[str]:
    """Break an example as a shell reads it: each line but the last ends with a backslash."""
    if cells(line) <= columns:
        yield line
        return
    *lines, last = wrapped(line, columns - 2)
    yield from (f"{each} \\" for each in lines)
    yield last


class HelpContext(click.Context):
    """A context whose help is formatted here."""

    formatter_class = WholeWordFormatter
