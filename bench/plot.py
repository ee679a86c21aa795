"""Line charts as SVG, with panels side by side."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from itertools import count, takewhile
from math import floor, log10
from typing import Final

from bench.figures import FLOOR, OURS, PEER

COLOURS: Final = {OURS: "#0072b2", FLOOR: "#009e73", PEER: "#d55e00"}
"""Colours that people with any colour vision can distinguish."""

WIDTH, HEIGHT = 320, 200
LEFT, TOP, RIGHT, BOTTOM = 56, 48, 16, 44

STYLE: Final = """\
text { font: 12px sans-serif }
.grid { stroke: #ccc } polyline { fill: none; stroke-width: 2 }
"""

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Line:
    """The points of one bridge."""

    who: str
    points: Sequence[Point]


@dataclass(frozen=True, slots=True)
class Panel:
    """Lines with the same axis."""

    axis: str
    lines: Sequence[Line]


def chart(title: str, panels: Sequence[Panel]) -> str:
    """Return the text of an SVG file."""
    width, height = WIDTH * len(panels), HEIGHT + TOP + BOTTOM
    drawn = "".join(
        f'<g transform="translate({number * WIDTH},0)">\n{"".join(_panel(panel))}</g>\n'
        for number, panel in enumerate(panels)
    )
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" role="img">\n'
    named = f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n"
    ground = f'<rect width="{width}" height="{height}" fill="#fff"/>\n'
    heading = _text(LEFT, 18, title, "start")
    return f"{head}{named}{ground}{heading}{drawn}</svg>\n"


def _panel(panel: Panel) -> Iterator[str]:
    most_x = max(x for line in panel.lines for x, _ in line.points)
    ticks = _ticks(max(y for line in panel.lines for _, y in line.points))
    yield from _grid(ticks)
    for x in sorted({x for line in panel.lines for x, _ in line.points}):
        yield _text(_x(x, most_x), TOP + HEIGHT + 16, f"{x:g}")
    yield _text((LEFT + WIDTH - RIGHT) / 2, TOP + HEIGHT + 36, panel.axis)
    for number, line in enumerate(panel.lines):
        yield from _line(line, most_x, ticks[-1])
        yield _text(LEFT + 8 + 80 * number, TOP - 8, line.who, "start", colour=COLOURS[line.who])


def _grid(ticks: Sequence[float]) -> Iterator[str]:
    for tick in ticks:
        y = _y(tick, ticks[-1])
        yield f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>\n'
        yield _text(LEFT - 6, y + 4, f"{tick:g}", "end")


def _line(line: Line, most_x: float, most_y: float) -> Iterator[str]:
    colour = COLOURS[line.who]
    places = [(_x(x, most_x), _y(y, most_y)) for x, y in line.points]
    drawn = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    yield f'<polyline stroke="{colour}" points="{drawn}"/>\n'
    for x, y in places:
        yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>\n'


def _text(x: float, y: float, words: str, anchor: str = "middle", colour: str = "#333") -> str:
    where = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" style="fill:{colour}"'
    return f"<text {where}>{escape(words)}</text>\n"


def _x(x: float, most: float) -> float:
    return LEFT + 8 + (WIDTH - LEFT - RIGHT - 16) * x / most


def _y(y: float, most: float) -> float:
    return TOP + HEIGHT * (1 - y / most)


def _ticks(most: float) -> list[float]:
    """Return ticks in round steps, from 0 up to at least the highest value."""
    magnitude = 10.0 ** floor(log10(most))
    step = next(step for step in (magnitude / 5, magnitude / 2, magnitude, magnitude * 2) if most / step <= 6)
    below = [tick * step for tick in takewhile(lambda tick: tick * step < most, count())]
    return [round(tick, 6) for tick in (*below, len(below) * step)]
