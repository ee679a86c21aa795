"""Formats figures as Markdown, and puts them between the markers in docs/benchmarks.md."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from bench.figures import OURS, Figures, Series
from bench.targets import COLUMNS, ROWS, Row

BEGIN: Final = "<!-- measured: make bench writes from here -->"
BEGIN_HOSTS: Final = "<!-- measured: make bench-hosts writes from here -->"
END: Final = "<!-- to here -->"
MET: Final = {True: "yes", False: "**no**", None: ""}


def table(figures: Figures, rows: Sequence[Row] = ROWS) -> str:
    """Return a table with a row for each metric: medians (95th percentiles), ratios, and the target."""
    columns = [who for who in COLUMNS if any(figures.of(row.metric, who) for row in rows)]
    heads = ["metric", *columns, *(f"vs {who}" for who in columns if who != OURS), "target", "met"]
    lines = [_line(heads), _line(["---"] * len(heads))]
    lines += (_line(_cells(row, figures, columns)) for row in rows if _is_measured(row, figures))
    return "\n".join(lines)


def missed_targets(figures: Figures, rows: Sequence[Row] = ROWS) -> str:
    """Return a line for each target that was missed."""
    return "\n".join(f"- {sentence}" for sentence in _missed_targets(figures, rows)) or "All targets are met."


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


def _is_measured(row: Row, figures: Figures) -> bool:
    return any(figures.of(row.metric, who) for who in COLUMNS)


def _cells(row: Row, figures: Figures, columns: list[str]) -> list[str]:
    series = {who: figures.of(row.metric, who) for who in columns}
    ours = series.get(OURS)
    ratios = [_ratio(ours, series[who]) for who in columns if who != OURS]
    values = [_value(series[who], row.unit) for who in columns]
    return [row.label, *values, *ratios, _limit(row, figures), MET[row.is_met(figures)]]


def _value(series: Series | None, unit: str) -> str:
    if series is None:
        return ""
    return f"{number(series.median)} ({number(series.percentile_95)}) {unit}".rstrip()


def _ratio(ours: Series | None, other: Series | None) -> str:
    if ours is None or other is None or other.median <= 0:
        return ""
    return f"{ours.median / other.median:.2g} x"


def _limit(row: Row, figures: Figures) -> str:
    limit = None if row.limit is None else row.limit.value(row.metric, figures)
    if row.limit is None or limit is None:
        return ""
    reason = f" ({row.limit})" if row.limit.who else ""
    return f"≤ {number(limit)} {row.unit}".rstrip() + reason


def _missed_targets(figures: Figures, rows: Sequence[Row]) -> Iterator[str]:
    for row in rows:
        ours = figures.of(row.metric, OURS)
        limit = None if row.limit is None else row.limit.value(row.metric, figures)
        if row.is_met(figures) is False and ours is not None and limit is not None:
            over = (
                f"{number(ours.median)} {row.unit}, {number(ours.median - limit)} {row.unit} over the limit"
            )
            yield f"{row.label}: {over}."


def number(value: float) -> str:
    """Format a number with three significant digits."""
    magnitude = abs(value)
    return f"{value:.0f}" if magnitude >= 100 else f"{value:.3g}" if magnitude >= 0.001 else "0"


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
