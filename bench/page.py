"""Figures as tables in Markdown, and their place in docs/benchmarks.md between what people wrote."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from bench.figures import OURS, Figures, Series
from bench.targets import COLUMNS, ROWS, Row

BEGIN: Final = "<!-- measured: make bench writes from here -->"
END: Final = "<!-- to here -->"
VERDICTS: Final = {True: "yes", False: "**no**", None: ""}


def table(figures: Figures) -> str:
    """A row for all that was measured: median (95th percentile) of each, what must be reached, ratios."""
    columns = [who for who in COLUMNS if any(figures.of(row.what, who) for row in ROWS)]
    heads = ["what", *columns, *(f"of {who}" for who in columns if who != OURS), "must reach", "reached"]
    lines = [_line(heads), _line(["---"] * len(heads))]
    lines += (_line(_cells(row, figures, columns)) for row in ROWS if _is_measured(row, figures))
    return "\n".join(lines)


def misses(figures: Figures) -> str:
    """A sentence for each target that was missed."""
    return "\n".join(f"- {sentence}" for sentence in _misses(figures)) or "Every target is reached."


def facts(versions: Mapping[str, str], machine: str) -> str:
    """What was measured on what."""
    return f"Measured on {machine}, with {', '.join(f'{name} {of}' for name, of in versions.items())}."


def replace_measured(page: Path, measured: str) -> None:
    """Put what was measured between what stays."""
    before, begin, rest = page.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    assert begin, f"{page} has no line {BEGIN}"
    assert end, f"{page} has no line {END}"
    page.write_text(f"{before}{BEGIN}\n\n{measured}\n\n{END}{after}")


def _is_measured(row: Row, figures: Figures) -> bool:
    return any(figures.of(row.what, who) for who in COLUMNS)


def _cells(row: Row, figures: Figures, columns: list[str]) -> list[str]:
    series = {who: figures.of(row.what, who) for who in columns}
    ours = series.get(OURS)
    ratios = [_ratio(ours, series[who]) for who in columns if who != OURS]
    values = [_value(series[who], row.unit) for who in columns]
    return [row.words, *values, *ratios, _limit(row, figures), VERDICTS[row.is_met(figures)]]


def _value(series: Series | None, unit: str) -> str:
    if series is None:
        return ""
    return f"{number(series.median)} ({number(series.percentile_95)}) {unit}".rstrip()


def _ratio(ours: Series | None, other: Series | None) -> str:
    if ours is None or other is None or other.median <= 0:
        return ""
    return f"{ours.median / other.median:.2g} x"


def _limit(row: Row, figures: Figures) -> str:
    limit = None if row.limit is None else row.limit.value(row.what, figures)
    if row.limit is None or limit is None:
        return ""
    reason = f" ({row.limit})" if row.limit.who else ""
    return f"≤ {number(limit)} {row.unit}".rstrip() + reason


def _misses(figures: Figures) -> Iterator[str]:
    for row in ROWS:
        ours = figures.of(row.what, OURS)
        limit = None if row.limit is None else row.limit.value(row.what, figures)
        if row.is_met(figures) is False and ours is not None and limit is not None:
            over = (
                f"{number(ours.median)} {row.unit}, {number(ours.median - limit)} {row.unit} over the limit"
            )
            yield f"{row.words}: {over}."


def number(value: float) -> str:
    """Three digits, as they are read."""
    magnitude = abs(value)
    return f"{value:.0f}" if magnitude >= 100 else f"{value:.3g}" if magnitude >= 0.001 else "0"


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
