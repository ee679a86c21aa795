"""The benchmarks judge figures by their limits, keep the last runs, and draw charts that can be read."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, cast
from xml.etree import ElementTree as ET

import pytest

from bench import page, plot, report, runs, scaling, whole
from bench.bridges import Bridge, Hkswitch
from bench.figures import FLOOR, HOMEBRIDGE_2, MACHINE, OURS, PEER, POLLING, Figures, Series
from bench.growth import BANDS, NO_BANDS, Growth
from bench.homebridge2 import error_in
from bench.remote_hosts import HkswitchWithHosts, switches_of
from bench.switches import (
    EXEC,
    MOST_SWITCHES,
    MOST_UNITS,
    NOTIFY,
    TAPPED,
    UNITS,
    Switch,
    group_of,
    loaded_target,
    many,
    units_of,
)
from bench.targets import LOOP, PYTHON, ROWS, Limit, Row
from bench.whole import WholeInstallation
from hkswitch.model.config import parse

if TYPE_CHECKING:
    from tests.host.machine import Host

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs" / "benchmarks"
PAGE = FOLDER.with_suffix(".md").read_text()
BEGINS = {scaling.SCALING.values: page.BEGIN_SCALING, scaling.OF_HOSTS.values: page.BEGIN_HOSTS_SCALING}
SVG = "{http://www.w3.org/2000/svg}"
CHARACTER_PIXELS = 8
"""More than the width of a digit of 12 pixels."""

REFERENCES = {FLOOR: 10.0, PEER: 100.0, POLLING: 1000.0}


def generated(begin: str) -> str:
    """Return what the page has between a marker and the next one."""
    return PAGE.partition(begin)[2].partition(page.END)[0].strip()


def figures(ours: Mapping[str, float]) -> Figures:
    """Return figures of ours, beside references that have the same value in each row."""
    found = Figures()
    found.add(LOOP, MACHINE, 50)
    for row in ROWS:
        for who, value in REFERENCES.items():
            found.add(row.metric, who, value)
    for metric, value in ours.items():
        found.add(metric, OURS, value)
    return found


def kept_run(when: str, ours: Mapping[str, float], *, code: str = "a", is_full: bool = True) -> runs.KeptRun:
    measured = figures(ours)
    for number, moment in enumerate(report.MOMENTS):
        measured.add(report.calibration(PYTHON, moment), MACHINE, 10 + number)
        measured.add(report.calibration(LOOP, moment), MACHINE, 50 + number)
    for metric, _, _ in report.HOMEBRIDGE_ROWS:
        measured.add(metric, HOMEBRIDGE_2, 90)
    versions = {"hkswitch": "1"}
    series = measured.summary()
    return runs.KeptRun(when, code, is_full, "1 x Turtle", versions, series, "Homebridge 2 ends." * is_full)


# Targets


@pytest.mark.parametrize(
    ("metric", "limit"),
    [
        ("event", 60),
        *((f"{kind}-off-1-units", 15) for kind in TAPPED),
        *((f"{kind}-off-1-answer", 16.5) for kind in TAPPED),
        (f"{NOTIFY}-on-1-answer", 11.5),
        (f"{EXEC}-on-1-answer", 211.5),
        (f"{NOTIFY}-on-3-answer", 12),
        (f"{EXEC}-on-3-answer", 213),
        ("off-100-units", 12),
        *((f"{kind}-tap-cpu", 10) for kind in TAPPED),
        ("memory-3", 46),
        ("memory-100", 36),
        ("start-3", 60),
        ("start-100", 15),
        ("hkswitch status", 50),
        ("hkswitch status --json", 35),
        ("idle-whole", 0.02),
        ("read-1", 0.5),
        ("read-100", 1),
        ("slow-blocked", 1.05),
        ("read-processes", 0),
    ],
)
def test_a_figure_is_met_up_to_its_limit_and_missed_above(metric: str, limit: float) -> None:
    [row] = (row for row in ROWS if row.metric == metric)
    judged = [row.judged(figures({metric: value})) for value in (limit, limit + 0.001)]
    assert [each and each.is_met for each in judged] == [True, False]
    assert judged[0] is not None
    assert judged[0].limit == pytest.approx(limit)


@pytest.mark.parametrize(
    ("share", "is_near"), [(0.5, False), (0.9, False), (0.91, True), (1, True), (1.01, False)]
)
def test_a_figure_is_near_its_limit_in_the_last_tenth(share: float, is_near: bool) -> None:
    judged = Row("event", "", "ms", Limit(60)).judged(figures({"event": 60 * share}))
    assert judged is not None
    assert judged.is_near is is_near


@pytest.mark.parametrize("limit", [None, Limit(times=2, who=PEER), Limit(1, 2, FLOOR, "other")])
def test_nothing_is_judged_without_a_limit_or_its_reference(limit: Limit | None) -> None:
    measured = Figures()
    measured.add("metric", OURS, 1)
    assert Row("metric", "", "ms", limit).judged(measured) is None


def test_limits_of_milliseconds_are_only_promises_and_parts_of_a_sum() -> None:
    alone = {row.metric for row in ROWS if row.limit and row.unit == "ms" and not row.limit.who}
    assert alone == {"event"}


def test_each_unit_of_a_switch_has_a_file_and_stays_loaded() -> None:
    loaded = loaded_target().split("=")[1].split()
    for kind, switches in TAPPED.items():
        for unit in units_of(switches):
            name, _, _ = unit.partition("@")
            assert f"Type={kind}\n" in UNITS[f"{name}@.service"]
            assert unit in loaded


class ConfigWritten:
    """A host that keeps the only file that is written to it."""

    def write(self, _path: str, text: str) -> None:
        self.text = text


@pytest.mark.parametrize(
    ("bridge", "switches"),
    [
        (Hkswitch(), many(MOST_SWITCHES, NOTIFY)),
        (Hkswitch(), group_of(MOST_UNITS)),
        (WholeInstallation(), whole.SWITCHES),
        (HkswitchWithHosts(), switches_of(50)),
    ],
)
def test_the_configurations_are_valid(bridge: Bridge, switches: Sequence[Switch]) -> None:
    host = ConfigWritten()
    bridge.configure(cast("Host", host), switches)
    groups = parse(host.text.encode(), "config").groups
    assert {group.id for group in groups} == {switch.id for switch in switches}


def test_the_whole_installation_has_a_hundred_switches_ten_containers_and_three_rules() -> None:
    host = ConfigWritten()
    WholeInstallation().configure(cast("Host", host), whole.SWITCHES)
    groups = parse(host.text.encode(), "config").groups
    assert len(groups) == 100
    assert sum(len(group.containers) for group in groups) == 10
    assert sum(group.restart_when is not None for group in groups) == 3


# Runs


def test_a_run_survives_its_file(tmp_path: Path) -> None:
    kept = (kept_run("1", {"event": 7}), kept_run("2", {"event": 8.123}, is_full=False))
    runs.write(tmp_path, kept)
    assert runs.read(tmp_path) == kept


def test_values_in_the_file_have_five_digits(tmp_path: Path) -> None:
    runs.write(tmp_path, [kept_run("1", {"event": 7.123456, "idle": 0.000123456})])
    [again] = runs.read(tmp_path)
    found = [again.of(metric, OURS) for metric in ("event", "idle")]
    assert [each and each.median for each in found] == [7.1235, 0.00012346]


def test_without_a_file_there_are_no_runs(tmp_path: Path) -> None:
    assert runs.read(tmp_path) == ()


@pytest.mark.parametrize("text", ["", "{}x", '[{"when": 1}]', '[{"series": {}, "more": 1}]'])
def test_a_file_that_has_no_runs_is_an_error(tmp_path: Path, text: str) -> None:
    (tmp_path / runs.VALUES).write_text(text)
    with pytest.raises((ValueError, KeyError, TypeError)):
        runs.read(tmp_path)


@pytest.mark.parametrize(
    ("before", "kept"),
    [
        ("", "n"),
        ("1F", "1F n"),
        ("1F 2F 3F", "2F 3F n"),
        ("1F 2 3", "1F 3 n"),
        ("1 2F 3", "2F 3 n"),
    ],
)
def test_three_runs_are_kept_and_the_newest_full_one(before: str, kept: str) -> None:
    old = [kept_run(name, {}, is_full="F" in name) for name in before.split()]
    after = runs.added(old, kept_run("n", {}, is_full=False))
    assert " ".join(run.when for run in after) == kept


def test_code_is_the_same_but_for_comments_and_other_code_is_not(tmp_path: Path) -> None:
    (tmp_path / "requirements").mkdir()
    (tmp_path / "hkswitch").mkdir()
    lock, module = tmp_path / "requirements" / "runtime.lock", tmp_path / "hkswitch" / "a.py"
    lock.write_text("h11==1\n")
    module.write_text("a = 1\n")
    first = runs.code_of(tmp_path)
    module.write_text("# why\na = 1  # one\n")
    assert runs.code_of(tmp_path) == first
    module.write_text("a = 2\n")
    second = runs.code_of(tmp_path)
    module.write_text("a = 1\n")
    lock.write_text("h11==2\n")
    assert len({first, second, runs.code_of(tmp_path)}) == 3


def test_a_summary_has_the_spread() -> None:
    assert Series.of_values([3, 1, 2, 10]) == (2.5, 10, 1, 10, 4)


# The page


def test_each_target_is_shown_in_each_run_with_a_mark_where_it_is_close_or_missed() -> None:
    off = f"{NOTIFY}-off-1-units"
    shown = report.section(
        [
            kept_run("early", {"event": 30, off: 14.4, "read-processes": 0}),
            kept_run("late", {"event": 66, off: 16.5, "read-processes": 1}, is_full=False),
        ]
    )
    assert "| metric | limit | early | late |" in shown
    assert f"({NOTIFY}) | ≤ 1.5 x floor | 1.44 x (near) | **1.65 x (missed)** |" in shown
    assert "event | ≤ 60 ms | 30 ms | **66 ms (missed)** |" in shown
    assert "that read | ≤ 0 | 0 | **1 (missed)** |" in shown
    assert "- unit stopped by systemctl → event: 6 ms (10 %) over the limit in the run of late.\n" in shown
    assert "- processes started by that read: 1 over the limit in the run of late.\n" in shown
    assert "run of early.\n" not in shown.partition("## Speed")[0]


def test_a_limit_with_a_constant_is_shown_in_its_unit() -> None:
    metric = f"{EXEC}-on-1-answer"
    shown = report.section([kept_run("now", {metric: 205})])
    assert "| ≤ 1.15 x floor + 200 ms | 205 of 212 ms (near) |" in shown
    assert "All targets are met in this run." in shown


def test_all_figures_are_those_of_the_newest_full_run() -> None:
    shown = report.section([kept_run("1", {"event": 5}), kept_run("2", {"event": 6}, is_full=False)])
    assert "Medians of the run of 1, " in shown
    assert "| unit stopped by systemctl → event | 5 (5) ms |" in shown
    assert f"| `{PYTHON}`, middle | 11 ms | 11 ms |" in shown
    assert "| a fixed loop in Python, end | 52 ms | 52 ms |" in shown


def test_homebridge_2_is_said_to_end_and_why_or_not_to_be_measured() -> None:
    full, other = kept_run("1", {}), kept_run("2", {}, is_full=False)
    assert "## Homebridge 2\n\nHomebridge 2 ends.\n\n| metric | Homebridge 2 |\n" in report.section([full])
    assert report.section([other]).endswith(page.NOT_MEASURED)


@pytest.mark.parametrize(
    ("journal", "error"),
    [
        ("Loading\nTypeError: a.b is not a function\n    at c", "TypeError: a.b is not a function"),
        ("[11/30/2026, 3:40:25 AM] \x1b[31mError: no\nRangeError: so\n", "Error: no"),
        ("\x1b[37m[11/30/2026, 3:40:25 AM] \x1b[0mRangeError: so\n", "RangeError: so"),
    ],
)
def test_the_reason_is_the_first_line_that_is_an_error(journal: str, error: str) -> None:
    assert error_in(journal) == error


@pytest.mark.parametrize("journal", ["", "Loading 1 platforms...\n[One] an Error: in a line\n"])
def test_an_end_without_an_error_is_a_failure(journal: str) -> None:
    with pytest.raises(AssertionError):
        error_in(journal)


def test_only_the_text_between_two_markers_is_replaced(tmp_path: Path) -> None:
    copy = tmp_path / "page.md"
    copy.write_text(PAGE)
    page.replace_measured(copy, "new", page.BEGIN_HOSTS)
    assert copy.read_text() == PAGE.replace(
        f"{page.BEGIN_HOSTS}\n\n{generated(page.BEGIN_HOSTS)}\n\n", f"{page.BEGIN_HOSTS}\n\nnew\n\n"
    )
    with pytest.raises(AssertionError):
        page.replace_measured(copy, "new", "<!-- no marker -->")


def test_the_page_shows_the_kept_runs() -> None:
    kept = runs.read(FOLDER)
    assert generated(page.BEGIN) == (report.section(kept) if kept else page.NOT_MEASURED), "--redraw"


# Charts


@pytest.mark.parametrize("growth", scaling.GROWTHS, ids=lambda growth: growth.prefix)
def test_charts_show_the_stored_values_and_the_page_shows_the_charts(growth: Growth) -> None:
    shown = generated(BEGINS[growth.values])
    if not (FOLDER / growth.values).exists():
        assert shown == page.NOT_MEASURED
        assert not list(FOLDER.glob(f"{growth.prefix}-*.svg"))
        return
    stored = growth.stored(FOLDER)
    assert shown == growth.section(stored, FOLDER.name), "python -m bench --redraw"
    drawn = {file.name: file.read_text() for file in FOLDER.glob(f"{growth.prefix}-*.svg")}
    assert drawn == growth.charts(stored), "python -m bench --redraw"


def growing(growth: Growth, values: Mapping[str, list[float]] | None = None) -> Figures:
    """Return a value at each point, but these ones where they are given."""
    found = Figures()
    for axis, counts in growth.axes.items():
        for cost in growth.costs:
            for count in counts:
                metric = growth.metric(cost, axis, count)
                for value in (values or {}).get(metric, [float(count)]):
                    found.add(metric, OURS, value)
    return found


@pytest.mark.parametrize("growth", scaling.GROWTHS, ids=lambda growth: growth.prefix)
def test_labels_do_not_collide(growth: Growth) -> None:
    for drawn in growth.charts(growing(growth)).values():
        places: dict[tuple[int, str], list[tuple[float, float]]] = {}
        for number, panel in enumerate(ET.fromstring(drawn).iter(f"{SVG}g")):
            for text in panel.iter(f"{SVG}text"):
                if text.get("text-anchor") == "middle":
                    half = len(text.text or "") * CHARACTER_PIXELS / 2
                    x = float(text.attrib["x"])
                    places.setdefault((number, text.attrib["y"]), []).append((x - half, x + half))
        assert len(places) == 2 * len(growth.axes)  # ticks and the name of the axis in each panel
        for labels in places.values():
            assert all(left[1] < right[0] for left, right in pairwise(sorted(labels)))


def test_every_line_is_named_once_with_what_it_is() -> None:
    points = (plot.Point(1, 1, 1, 1),)
    panels = [plot.Panel("a", [plot.Line(who, points) for who in (PEER, OURS)])] * 2
    shown = [text.text for text in ET.fromstring(plot.chart("title", panels)).iter(f"{SVG}text")]
    assert [name for name in shown if name in plot.NAMES.values()] == [plot.NAMES[OURS], plot.NAMES[PEER]]


@pytest.mark.parametrize(
    ("values", "bands", "words"),
    [
        ([3.0], 0, f"Lines are medians. {NO_BANDS}"),
        ([3.0, 1.0, 2.0], 1, f"Lines are medians of up to 3 values at each point. {BANDS}"),
        ([2.0, 2.0], 0, "medians of up to 2 values"),
    ],
)
@pytest.mark.parametrize("growth", scaling.GROWTHS, ids=lambda growth: growth.prefix)
def test_the_spread_is_a_band_where_there_are_several_values(
    growth: Growth, values: list[float], bands: int, words: str
) -> None:
    cost, axis = next(iter(growth.costs)), next(iter(growth.axes))
    measured = growing(growth, {growth.metric(cost, axis, growth.axes[axis][0]): values})
    assert growth.charts(measured)[growth.file(cost)].count("<polygon") == bands
    assert words in growth.explanation(measured)


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
    (tmp_path / scaling.SCALING.values).write_text(text)
    with pytest.raises((ValueError, AttributeError)):
        scaling.SCALING.draw(scaling.SCALING.stored(tmp_path), tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == [scaling.SCALING.values]


@pytest.mark.parametrize("growth", scaling.GROWTHS, ids=lambda growth: growth.prefix)
def test_the_values_survive_the_file(growth: Growth, tmp_path: Path) -> None:
    measured = growing(growth)
    measured.add("event", OURS, 1)  # no part of it
    growth.draw(measured, tmp_path)
    before = {file.name: file.read_text() for file in tmp_path.iterdir()}
    growth.draw(growth.stored(tmp_path), tmp_path)
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == before
    assert re.search(r"<polyline", before[growth.file("memory")])


@pytest.mark.parametrize(
    ("of_counts", "kind"),
    [
        ([5.0, 5.1, 5.2, 5.3], "constant"),
        ([1.0, 10, 50, 149], "at most linear"),
        ([1.0, 2, 10, 400], "**faster than linear**"),
    ],
)
def test_a_sentence_says_how_a_cost_grows(of_counts: list[float], kind: str) -> None:
    growth = replace(scaling.SCALING, axes={"switches": (1, 10, 50, 149)}, costs={"on": ("On", "ms")})
    found = Figures()
    for count, value in zip(growth.axes["switches"], of_counts, strict=True):
        found.add(growth.metric("on", "switches", count), OURS, value)
    assert growth.section(found, "f").startswith(f"- On, by switches: {of_counts[0]:.3g} ms at 1, ")
    assert growth.section(found, "f").splitlines()[0].endswith(f": {kind}.")
