"""Scaling of the costs with the switches of a bridge, and with the units of a switch.

The values are kept beside the charts, so that the charts can be drawn again without measuring.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from bench import bus
from bench.figures import FLOOR, OURS, PEER, Figures
from bench.measures import memory, reading, switching
from bench.parts import Run
from bench.phone import Phone
from bench.plot import Line, Panel, Point, chart
from bench.switches import MOST_SWITCHES, MOST_UNITS, Switch, group_of, many

STARTS: Final = 2
AXES: Final = {
    "switches": (many, (1, 10, 50, MOST_SWITCHES)),
    "units of a switch": (group_of, (1, 10, MOST_UNITS)),
}
COSTS: Final = {
    "on": ("write On → response", "ms"),
    "off": ("write Off → response", "ms"),
    "read": ("read every On in one request", "ms"),
    "memory": ("memory (PSS)", "MiB"),
    "start": ("start → first response", "ms"),
}
FASTER_BY: Final = 1.5
"""More than linear: the last step costs this much more for each switch or unit than the average."""

PREFIX: Final = "growth-"
VALUES: Final = "scaling.json"
"""The file with the values, in the folder of the charts."""

EXPLANATION: Final = (
    "Lines are medians{of}. {spread}\n"
    "The floor runs the jobs of one switch, however many switches there are: by switches, it should be "
    "level, and how far it is from that shows the noise.\n"
    "hkswitch needs the same jobs, so where its line is below the floor, that is noise, too."
)
BANDS: Final = "Bands reach from the lowest value to the highest."
NO_BANDS: Final = "Of this run, only medians were kept, so there are no bands for the spread."

NOISE: Final = 1.1
"""Costs that rise by less than this factor count as constant."""


async def measure(run: Run, phones: Iterable[Phone]) -> None:
    """Measure each bridge and the floor at each point of each axis."""
    phones = tuple(phones)
    for axis, (make, counts) in AXES.items():
        for count in counts:
            run.progress.note(f"{count} {axis}")
            # The speed of a machine changes within minutes: the floor is measured around each bridge.
            await _floor(run, make(count)[:1], f"{axis}-{count}")
            for phone in phones:
                await _point(run, phone, make(count), f"{axis}-{count}")
                await _floor(run, make(count)[:1], f"{axis}-{count}")


async def _point(run: Run, phone: Phone, switches: Sequence[Switch], where: str) -> None:
    host, bridge, figures = run.host, phone.bridge, run.figures
    names = [switch.name for switch in switches]
    async with phone.serving(switches) as controller:
        for _ in range(run.rounds.growth):
            act = switching.write_action(controller, switches[:1])
            await _on_and_off(run, act, switches[:1], bridge.who, where)
            figures.add(f"growth-read-{where}", bridge.who, await reading.took_ms(controller, names))
        figures.add(f"growth-memory-{where}", bridge.who, memory.mib(host, bridge.cgroups))
        for _ in range(STARTS):
            start_ms = await phone.restarted(controller, switches)
            figures.add(f"growth-start-{where}", bridge.who, start_ms)


async def _floor(run: Run, switches: Sequence[Switch], where: str) -> None:
    async with bus.opened(run.host) as open_bus:
        for _ in range(run.rounds.growth):
            await _on_and_off(run, switching.job_action(open_bus, switches), switches, FLOOR, where)


async def _on_and_off(run: Run, act: switching.Act, switches: Sequence[Switch], who: str, where: str) -> None:
    for taken in await switching.on_and_off(run.host, switches, act):
        run.figures.add(f"growth-{taken.action}-{where}", who, taken.answer_ms)


def draw(figures: Figures, folder: Path) -> None:
    """Write a chart for each cost, with a panel for each axis, and the values beside them."""
    folder.mkdir(exist_ok=True)
    (folder / VALUES).write_text(f"{json.dumps(figures.as_object(PREFIX), indent=1)}\n")
    for name, text in charts(figures).items():
        (folder / name).write_text(text)


def redraw(folder: Path) -> None:
    """Draw the charts of this folder again, from its values. Raises `OSError` and `ValueError`."""
    draw(Figures.of_object(json.loads((folder / VALUES).read_text())), folder)


def charts(figures: Figures) -> dict[str, str]:
    """Return the charts by the names of their files."""
    return {
        f"{cost}.svg": chart(
            f"{title}, {unit}", [_panel(figures, cost, axis, counts) for axis, (_, counts) in AXES.items()]
        )
        for cost, (title, unit) in COSTS.items()
    }


def section(figures: Figures, folder: str) -> str:
    """Return the page's section, with the charts in this folder."""
    shown = "\n".join(f"![{title}]({folder}/{cost}.svg)" for cost, (title, _) in COSTS.items())
    growing = "\n".join(f"- {sentence}" for sentence in _sentences(figures))
    return f"## Scaling\n\n{growing}\n\n{explanation(figures)}\n\n{shown}"


def explanation(figures: Figures) -> str:
    """Return how to read the charts."""
    most = max(len(values) for series in figures.as_object(PREFIX).values() for values in series.values())
    if most == 1:
        return EXPLANATION.format(of="", spread=NO_BANDS)
    return EXPLANATION.format(of=f" of up to {most} values at each point", spread=BANDS)


def _sentences(figures: Figures) -> Iterator[str]:
    """Yield a sentence for each cost and axis, with the kind of growth."""
    for cost, (title, unit) in COSTS.items():
        for axis, (_, counts) in AXES.items():
            points = _points(figures, cost, axis, counts, OURS)
            if len(points) == len(counts):
                yield _sentence(title, unit, axis, points)


def _sentence(title: str, unit: str, axis: str, points: Sequence[Point]) -> str:
    (first, low, *_), *_, (before, middle, *_), (last, high, *_) = points
    whole, end = (high - low) / (last - first), (high - middle) / (last - before)
    linear = end <= max(whole, 0) * FASTER_BY
    grows = "constant" if high <= low * NOISE else "at most linear" if linear else "**faster than linear**"
    return f"{title}, by {axis}: {low:.3g} {unit} at {first:g}, {high:.3g} {unit} at {last:g}: {grows}."


def _panel(figures: Figures, cost: str, axis: str, counts: Sequence[int]) -> Panel:
    lines = [Line(who, _points(figures, cost, axis, counts, who)) for who in (OURS, FLOOR, PEER)]
    return Panel(axis, tuple(line for line in lines if line.points))


def _points(figures: Figures, cost: str, axis: str, counts: Sequence[int], who: str) -> tuple[Point, ...]:
    found = ((count, figures.of(f"{PREFIX}{cost}-{axis}-{count}", who)) for count in counts)
    return tuple(
        Point(count, series.median, min(series.values), max(series.values))
        for count, series in found
        if series is not None
    )
