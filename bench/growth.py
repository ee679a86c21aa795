"""Growth of costs along axes, as charts and sentences, and the values that both are made of.

The values are kept beside the charts, so that the charts can be drawn again without measuring.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.figures import FLOOR, OURS, PEER, Figures
from bench.page import amount
from bench.plot import Line, Panel, Point, chart

FASTER_BY: Final = 1.5
"""More than linear: a straight line from the first point to the last is this much above the one before."""

NOISE: Final = 1.1
"""Costs that rise by less than this factor count as constant."""

BANDS: Final = "Bands reach from the lowest value to the highest."
NO_BANDS: Final = "Only medians were kept, so there are no bands for the spread."


@dataclass(frozen=True, slots=True)
class Growth:
    """Costs by several axes."""

    prefix: str
    """Of the names of its metrics, and of its files but that of the values."""

    values: str
    """The file with the values, in the folder of the charts."""

    axes: Mapping[str, Sequence[int]]
    """The counts at which the costs are measured, by what is counted."""

    costs: Mapping[str, tuple[str, str]]
    """The title and the unit of each cost."""

    notes: str = ""
    """More about how to read the charts."""

    def metric(self, cost: str, axis: str, count: int) -> str:
        """Return the name of a metric."""
        return f"{self.prefix}-{cost}-{axis}-{count}"

    def stored(self, folder: Path) -> Figures:
        """Return the values in a folder. Raises `OSError` and `ValueError`."""
        return Figures.of_object(json.loads((folder / self.values).read_text()))

    def draw(self, figures: Figures, folder: Path) -> None:
        """Write a chart for each cost, with a panel for each axis, and the values beside them."""
        folder.mkdir(exist_ok=True)
        drawn = self.charts(figures)
        (folder / self.values).write_text(f"{json.dumps(figures.as_object(f'{self.prefix}-'), indent=1)}\n")
        for name, text in drawn.items():
            (folder / name).write_text(text)

    def charts(self, figures: Figures) -> dict[str, str]:
        """Return the charts by the names of their files."""
        return {
            self.file(cost): chart(
                f"{title}, {unit}",
                [self._panel(figures, cost, axis, counts) for axis, counts in self.axes.items()],
            )
            for cost, (title, unit) in self.costs.items()
        }

    def file(self, cost: str) -> str:
        """Return the name of the file of a chart."""
        return f"{self.prefix}-{cost}.svg"

    def section(self, figures: Figures, folder: str) -> str:
        """Return the page's text, with the charts in this folder."""
        shown = "\n".join(
            f"![{title}]({folder}/{self.file(cost)})" for cost, (title, _) in self.costs.items()
        )
        growing = "\n".join(f"- {sentence}" for sentence in self._sentences(figures))
        return f"{growing}\n\n{self.explanation(figures)}\n\n{shown}"

    def explanation(self, figures: Figures) -> str:
        """Return how to read the charts."""
        stored = figures.as_object(f"{self.prefix}-").values()
        most = max(len(values) for series in stored for values in series.values())
        of = "" if most == 1 else f" of up to {most} values at each point"
        return f"Lines are medians{of}. {NO_BANDS if most == 1 else BANDS}{self.notes}"

    def _sentences(self, figures: Figures) -> Iterator[str]:
        """Yield a sentence for each cost and axis, with the kind of growth."""
        for cost, (title, unit) in self.costs.items():
            for axis, counts in self.axes.items():
                points = self._points(figures, cost, axis, counts, OURS)
                if len(points) == len(counts):
                    yield _sentence(title, unit, axis, points)

    def _panel(self, figures: Figures, cost: str, axis: str, counts: Sequence[int]) -> Panel:
        lines = [Line(who, self._points(figures, cost, axis, counts, who)) for who in (OURS, FLOOR, PEER)]
        return Panel(axis, tuple(line for line in lines if line.points))

    def _points(
        self, figures: Figures, cost: str, axis: str, counts: Sequence[int], who: str
    ) -> tuple[Point, ...]:
        found = ((count, figures.of(self.metric(cost, axis, count), who)) for count in counts)
        return tuple(
            Point(count, series.median, series.low, series.high)
            for count, series in found
            if series is not None
        )


def _sentence(title: str, unit: str, axis: str, points: Sequence[Point]) -> str:
    (first, low, *_), *_, (before, middle, *_), (last, high, *_) = points
    straight = low + (high - low) * (before - first) / (last - first)
    linear = straight <= middle * FASTER_BY
    grows = "constant" if high <= low * NOISE else "at most linear" if linear else "**faster than linear**"
    return f"{title}, by {axis}: {amount(low, unit)} at {first:g}, {amount(high, unit)} at {last:g}: {grows}."
