"""Formats the figures of one run as Markdown, and puts text between the markers in docs/benchmarks.md."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from bench.figures import OURS, Measured, Series
from bench.targets import COLUMNS, ROWS, Limit, Row

BEGIN: Final = "<!-- measured: make bench writes from here -->"
BEGIN_SCALING: Final = "<!-- measured: make bench writes the charts from here -->"
BEGIN_HOSTS: Final = "<!-- measured: make bench-hosts writes from here -->"
BEGIN_HOSTS_SCALING: Final = "<!-- measured: make bench-hosts writes the charts from here -->"
END: Final = "<!-- to here -->"
NOT_MEASURED: Final = "Not measured yet."
"""The text between two markers before the first run."""

MET: Final = {True: "yes", False: "**no**", None: ""}


def table(figures: Measured, rows: Sequence[Row] = ROWS) -> str:
    """Return a table with a row for each metric: medians (95th percentiles), ratios, and the target."""
    columns = [who for who in COLUMNS if any(figures.of(row.metric, who) for row in rows)]
    heads = ["metric", *columns, *(f"vs {who}" for who in columns if who != OURS), "target", "met"]
    measured = (row for row in rows if any(figures.of(row.metric, who) for who in COLUMNS))
    return lines_of(heads, [_cells(row, figures, columns) for row in measured])


def lines_of(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table of these cells."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (heads, ["---"] * len(heads), *rows))


def missed_targets(figures: Measured, rows: Sequence[Row] = ROWS) -> str:
    """Return a line for each target that was missed, with by how much."""
    judged = ((row, row.judged(figures)) for row in rows)
    missed = [
        f"- {row.label}: {amount(found.figure, row.unit)}, {over(found.figure, found.limit, row.unit)}."
        for row, found in judged
        if found is not None and not found.is_met
    ]
    return "\n".join(missed) or "All targets are met."


def facts(versions: Mapping[str, str], machine: str) -> str:
    """Return a sentence with the versions and the machine."""
    return f"Measured on {machine}, with {', '.join(f'{name} {of}' for name, of in versions.items())}."


def replace_measured(page: Path, measured: str, begins: str = BEGIN) -> None:
    """Replace the text between the marker `begins` and the next one."""
    before, begin, rest = page.read_text().partition(begins)
    _, end, after = rest.partition(END)
    assert begin, f"{page} has no marker {begins}"
    assert end, f"{page} has no marker {END}"
    page.write_text(f"{before}{begins}\n\n{measured}\n\n{END}{after}")


def number(value: float) -> str:
    """Format a number with three significant digits."""
    magnitude = abs(value)
    return f"{value:.0f}" if magnitude >= 100 else f"{value:.3g}" if magnitude >= 0.0001 else "0"


def amount(value: float, unit: str) -> str:
    """Format a number with its unit."""
    return f"{number(value)} {unit}".rstrip()


def over(figure: float, limit: float, unit: str) -> str:
    """Return by how much a figure is over its limit."""
    percent = f" ({number((figure / limit - 1) * 100)} %)" if limit > 0 else ""
    return f"{amount(figure - limit, unit)}{percent} over the limit"


def reason(limit: Limit, unit: str) -> str:
    """Return a limit in words."""
    if not limit.who:
        return amount(limit.constant, unit)
    plus = f" + {amount(limit.constant, unit)}" if limit.constant else ""
    return f"{limit.times:g} x {limit.other}{plus}"


def _cells(row: Row, figures: Measured, columns: Sequence[str]) -> list[str]:
    series = {who: figures.of(row.metric, who) for who in columns}
    ratios = [_ratio(series.get(OURS), series[who]) for who in columns if who != OURS]
    values = [_value(series[who], row.unit) for who in columns]
    judged = row.judged(figures)
    return [row.label, *values, *ratios, _limit(row, figures), MET[None if judged is None else judged.is_met]]


def _value(series: Series | None, unit: str) -> str:
    if series is None:
        return ""
    return f"{number(series.median)} ({number(series.percentile_95)}) {unit}".rstrip()


def _ratio(ours: Series | None, other: Series | None) -> str:
    if ours is None or other is None or other.median <= 0:
        return ""
    return f"{ours.median / other.median:.2g} x"


def _limit(row: Row, figures: Measured) -> str:
    limit = None if row.limit is None else row.limit.value(row.metric, figures)
    if row.limit is None or limit is None:
        return ""
    return f"≤ {amount(limit, row.unit)}{f' ({reason(row.limit, row.unit)})' if row.limit.who else ''}"
