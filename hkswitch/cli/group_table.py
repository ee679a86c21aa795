"""The groups of a report as a table, or one below the other if the terminal is too narrow for a table."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from hkswitch.cli.layout import cells, wrapped
from hkswitch.cli.styled import StyledText, styled, styled_within
from hkswitch.protocol.report import is_contained

HEADINGS: Final = ("group", "name", "host", "state", "units", "last action")
UNITS_AND_CONTAINERS: Final = "units and containers"
"""The heading in place of `units` if a group has containers: only their names have a slash."""
GAP_CELLS: Final = 2
LEAST_ACTION_CELLS: Final = 24
"""The last action can be a long sentence; in a narrower column it would be hard to read."""


class GroupRow(NamedTuple):
    """A group as texts: each member is a line of its own, and only name and last action may be broken."""

    id: str
    name: str
    state: str
    style: str
    units: tuple[str, ...]
    last_action: str
    host: str = ""
    """The host that runs it; if no group has one, the table is without this column."""


def group_lines(rows: Sequence[GroupRow], columns: int) -> Iterator[StyledText]:
    """Yield the lines for a terminal of this width. Only words longer than a line exceed it."""
    headings = _headings(rows)
    cells_of_rows = [tuple(_cells_of(row)[heading] for heading in headings) for row in rows]
    shown = [*headings.values()]
    widths = _widths(cells_of_rows, shown, columns)
    if widths is None:
        for row in rows:
            yield from _below(row, columns)
        return
    yield styled(_line(shown, widths), "bold")
    state_column = shown.index("state")
    for row, texts in zip(rows, cells_of_rows, strict=True):
        yield from _beside(row, texts, widths, state_column)


def _headings(rows: Sequence[GroupRow]) -> dict[str, str]:
    """Return the columns, each with its heading."""
    headings = {heading: heading for heading in HEADINGS}
    if any(has_container(row.units) for row in rows):
        headings["units"] = UNITS_AND_CONTAINERS
    if not any(row.host for row in rows):
        del headings["host"]
    return headings


def has_container(members: Iterable[str]) -> bool:
    """Whether one of these members is a container, by its name, which a state may follow."""
    return any(is_contained(member.partition(" ")[0]) for member in members)


def _cells_of(row: GroupRow) -> dict[str, list[str]]:
    """Return the lines of each cell, by its column."""
    texts = [row.id], [row.name], [row.host], [row.state], [*row.units], [row.last_action]
    return dict(zip(HEADINGS, texts, strict=True))


def _widths(rows: Sequence[tuple[list[str], ...]], headings: Sequence[str], columns: int) -> list[int] | None:
    """Return the widths of the columns, or None if a table needs more room."""
    natural = [
        max(cells(text) for texts in (*(row[at] for row in rows), [heading]) for text in texts or [""])
        for at, heading in enumerate(headings)
    ]
    excess = sum(natural) + GAP_CELLS * (len(headings) - 1) - columns
    for heading, least_cells in (("last action", LEAST_ACTION_CELLS), ("name", 0)):
        at = headings.index(heading)
        words = [word for row in rows for text in row[at] for word in text.split()]
        needed = max(min(least_cells, natural[at]), *(cells(word) for word in (*words, heading)))
        if excess > 0:
            given = min(excess, natural[at] - needed)
            natural[at] -= given
            excess -= given
    return natural if excess <= 0 else None


def _beside(
    row: GroupRow, texts: tuple[list[str], ...], widths: Sequence[int], state_column: int
) -> Iterator[StyledText]:
    laid_out = [
        [line for text in each for line in wrapped(text, width, 0)]
        for each, width in zip(texts, widths, strict=True)
    ]
    start = sum(widths[:state_column]) + GAP_CELLS * state_column
    for number in range(max(map(len, laid_out))):
        line = _line([each[number] if number < len(each) else "" for each in laid_out], widths)
        style = "" if number else row.style
        yield styled_within(line, style, start, start + len(row.state))


def _line(texts: Sequence[str], widths: Sequence[int]) -> str:
    padded = (text + " " * (width - cells(text)) for text, width in zip(texts, widths, strict=True))
    return (" " * GAP_CELLS).join(padded).rstrip()


def _below(row: GroupRow, columns: int) -> Iterator[StyledText]:
    fits = cells(f"{row.id}  {row.state}") <= columns
    state = (("  ", ""), (row.state, row.style)) if fits else ()
    yield StyledText(((row.id, "bold"), *state))
    if not fits:
        yield from _indented(row.state, columns, row.style)
    for text in (row.name, row.host and f"on {row.host}", *row.units, row.last_action):
        if text:
            yield from _indented(text, columns)


def _indented(text: str, columns: int, style: str = "") -> Iterator[StyledText]:
    yield from (styled(line, style) for line in wrapped(f"  {text}", columns))
