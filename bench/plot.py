"""Line charts as SVG, with panels side by side: medians as lines, and the spread as bands. Pure: no I/O."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from itertools import count, takewhile
from math import floor, log10
from typing import Final, NamedTuple

from bench.figures import FLOOR, OURS, PEER

COLOURS: Final = {OURS: "#0072b2", FLOOR: "#009e73", PEER: "#d55e00"}
"""Colours that people with any colour vision can distinguish."""

NAMES: Final = {
    OURS: "hkswitch",
    FLOOR: "floor: the same jobs by systemd alone, without HomeKit",
    PEER: "peer: Homebridge with homebridge-cmdswitch2",
}
"""The series in words, for someone who has read nothing else."""

WIDTH, HEIGHT = 400, 220
LEFT, TOP, RIGHT, BOTTOM = 56, 56, 24, 44
LEGEND_ROW: Final = 20
SWATCH: Final = 18
BAND_OPACITY: Final = 0.2

STYLE: Final = """\
text { font: 12px sans-serif } .title { font: bold 15px sans-serif }
.grid { stroke: #ddd } .axis { stroke: #888 } polyline { fill: none; stroke-width: 2 }
"""


class Point(NamedTuple):
    """A point of a line, and the lowest and the highest value there."""

    x: float
    median: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Line:
    """The points of one bridge."""

    who: str
    points: Sequence[Point]

    @property
    def has_spread(self) -> bool:
        """Whether any point has more than one value."""
        return any(point.low < point.high for point in self.points)


@dataclass(frozen=True, slots=True)
class Panel:
    """Lines with the same axis."""

    axis: str
    lines: Sequence[Line]


def chart(title: str, panels: Sequence[Panel]) -> str:
    """Return the text of an SVG file."""
    shown = {line.who for panel in panels for line in panel.lines}
    legend = [who for who in COLOURS if who in shown]
    below = HEIGHT + TOP + BOTTOM
    width, height = WIDTH * len(panels), below + LEGEND_ROW * len(legend) + 8
    drawn = "".join(
        f'<g transform="translate({number * WIDTH},0)">\n{"".join(_panel(panel))}</g>\n'
        for number, panel in enumerate(panels)
    )
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" role="img">\n'
    named = f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n"
    ground = f'<rect width="{width}" height="{height}" fill="#fff"/>\n'
    heading = f'<text class="title" x="{LEFT}" y="24" style="fill:#222">{escape(title)}</text>\n'
    return f"{head}{named}{ground}{heading}{drawn}{''.join(_legend(legend, below))}</svg>\n"


def ticks(most: float) -> list[float]:
    """Return ticks in round steps, from 0 up to at least the highest value."""
    magnitude = 10.0 ** floor(log10(most))
    step = next(step for step in (magnitude / 5, magnitude / 2, magnitude, magnitude * 2) if most / step <= 6)
    below = [tick * step for tick in takewhile(lambda tick: tick * step < most, count())]
    return [round(tick, 6) for tick in (*below, len(below) * step)]


def _panel(panel: Panel) -> Iterator[str]:
    points = [point for line in panel.lines for point in line.points]
    of_x, of_y = ticks(max(point.x for point in points)), ticks(max(point.high for point in points))
    yield from _grid(of_x, of_y)
    yield _text((LEFT + WIDTH - RIGHT) / 2, TOP + HEIGHT + 36, panel.axis)
    for line in panel.lines:
        yield from _line(line, of_x[-1], of_y[-1])


def _grid(of_x: Sequence[float], of_y: Sequence[float]) -> Iterator[str]:
    for tick in of_y:
        y = _y(tick, of_y[-1])
        yield f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>\n'
        yield _text(LEFT - 6, y + 4, f"{tick:g}", "end")
    bottom = TOP + HEIGHT
    for tick in of_x:
        x = _x(tick, of_x[-1])
        yield f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{bottom}" y2="{bottom + 4}"/>\n'
        yield _text(x, bottom + 18, f"{tick:g}")


def _line(line: Line, most_x: float, most_y: float) -> Iterator[str]:
    colour = COLOURS[line.who]

    def path(values: Iterable[tuple[float, float]]) -> str:
        return " ".join(f"{_x(x, most_x):.1f},{_y(y, most_y):.1f}" for x, y in values)

    if line.has_spread:
        upper = [(point.x, point.high) for point in line.points]
        lower = [(point.x, point.low) for point in reversed(line.points)]
        yield f'<polygon fill="{colour}" opacity="{BAND_OPACITY}" points="{path([*upper, *lower])}"/>\n'
    yield f'<polyline stroke="{colour}" points="{path((point.x, point.median) for point in line.points)}"/>\n'
    for point in line.points:
        place = f'cx="{_x(point.x, most_x):.1f}" cy="{_y(point.median, most_y):.1f}"'
        yield f'<circle {place} r="3" fill="{colour}"/>\n'


def _legend(shown: Sequence[str], top: float) -> Iterator[str]:
    for number, who in enumerate(shown):
        y = top + LEGEND_ROW * number + LEGEND_ROW / 2
        yield (
            f'<line x1="{LEFT}" x2="{LEFT + SWATCH}" y1="{y}" y2="{y}" stroke="{COLOURS[who]}" '
            'stroke-width="3"/>\n'
        )
        yield _text(LEFT + SWATCH + 8, y + 4, NAMES[who], "start")


def _text(x: float, y: float, words: str, anchor: str = "middle") -> str:
    where = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" style="fill:#333"'
    return f"<text {where}>{escape(words)}</text>\n"


def _x(x: float, most: float) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * x / most


def _y(y: float, most: float) -> float:
    return TOP + HEIGHT * (1 - y / most)
