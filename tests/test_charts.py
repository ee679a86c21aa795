"""The charts of docs/benchmarks show its values, explain their lines, and can be read."""

import json
import re
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from bench import plot, scaling
from bench.figures import FLOOR, OURS, PEER, Figures

FOLDER = Path(__file__).parents[1] / "docs" / "benchmarks"
PAGE = FOLDER.with_suffix(".md").read_text()
STORED = Figures.of_object(json.loads((FOLDER / scaling.VALUES).read_text()))
SVG = "{http://www.w3.org/2000/svg}"
CHARACTER_PIXELS = 8
"""More than the width of a digit of 12 pixels."""


def texts(svg: str) -> list[ET.Element]:
    return list(ET.fromstring(svg).iter(f"{SVG}text"))


@pytest.mark.parametrize("name", [f"{cost}.svg" for cost in scaling.COSTS])
def test_a_chart_shows_the_stored_values(name: str) -> None:
    assert (FOLDER / name).read_text() == scaling.charts(STORED)[name], "python -m bench --redraw"


def test_the_page_explains_the_charts_of_its_run() -> None:
    assert scaling.explanation(STORED) in PAGE


@pytest.mark.parametrize("name", [f"{cost}.svg" for cost in scaling.COSTS])
def test_labels_do_not_collide(name: str) -> None:
    places: dict[tuple[int, str], list[tuple[float, float]]] = {}
    root = ET.fromstring((FOLDER / name).read_text())
    for number, panel in enumerate(root.iter(f"{SVG}g")):
        for text in panel.iter(f"{SVG}text"):
            if text.get("text-anchor") == "middle":
                half = len(text.text or "") * CHARACTER_PIXELS / 2
                x = float(text.attrib["x"])
                places.setdefault((number, text.attrib["y"]), []).append((x - half, x + half))
    assert len(places) == 4  # ticks and the name of the axis in each panel
    for labels in places.values():
        assert all(left[1] < right[0] for left, right in pairwise(sorted(labels)))


def test_every_line_is_named_once_with_what_it_is() -> None:
    points = (plot.Point(1, 1, 1, 1),)
    panels = [plot.Panel("a", [plot.Line(who, points) for who in (PEER, OURS)])] * 2
    shown = [text.text for text in texts(plot.chart("title", panels))]
    assert [name for name in shown if name in plot.NAMES.values()] == [plot.NAMES[OURS], plot.NAMES[PEER]]


@pytest.mark.parametrize(
    ("values", "bands", "words"),
    [
        ([3.0], 0, scaling.NO_BANDS),
        ([3.0, 1.0, 2.0], 1, "medians of up to 3 values at each point"),
        ([2.0, 2.0], 0, "medians of up to 2 values"),
    ],
)
def test_the_spread_is_a_band_where_there_are_several_values(
    values: list[float], bands: int, words: str
) -> None:
    figures = Figures()
    for value in values:
        figures.add("growth-on-switches-1", FLOOR, value)
        for axis, (_, counts) in scaling.AXES.items():
            for cost in scaling.COSTS:
                for count in counts:
                    if (cost, axis, count) != ("on", "switches", 1):
                        figures.add(f"growth-{cost}-{axis}-{count}", OURS, 1.0)
    chart = scaling.charts(figures)["on.svg"]
    assert chart.count("<polygon") == bands
    assert words in scaling.explanation(figures)


def test_a_band_reaches_from_the_lowest_value_to_the_highest() -> None:
    line = plot.Line(OURS, (plot.Point(0, 2, 1, 4), plot.Point(1, 2, 2, 2)))
    [band] = ET.fromstring(plot.chart("title", [plot.Panel("a", [line])])).iter(f"{SVG}polygon")
    heights = [float(place.split(",")[1]) for place in band.attrib["points"].split()]
    top, bottom = plot.TOP, plot.TOP + plot.HEIGHT
    assert heights == [top, (top + bottom) / 2, (top + bottom) / 2, bottom - plot.HEIGHT / 4]


@pytest.mark.parametrize(
    ("most", "expected"),
    [(149, [0, 50, 100, 150]), (50, [0, 10, 20, 30, 40, 50]), (0.3, [0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3])],
)
def test_ticks_are_round_and_reach_the_highest_value(most: float, expected: list[float]) -> None:
    assert plot.ticks(most) == expected


@pytest.mark.parametrize("text", ["", "[]", '{"growth-on-switches-1": 1}'])
def test_values_that_are_none_draw_no_chart(tmp_path: Path, text: str) -> None:
    (tmp_path / scaling.VALUES).write_text(text)
    with pytest.raises((ValueError, AttributeError)):
        scaling.redraw(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == [scaling.VALUES]


def test_the_values_survive_the_file(tmp_path: Path) -> None:
    scaling.draw(STORED, tmp_path)
    scaling.redraw(tmp_path)
    again = json.loads((tmp_path / scaling.VALUES).read_text())
    assert again == STORED.as_object(scaling.PREFIX)
    assert re.search(r"<polyline", (tmp_path / "on.svg").read_text())
