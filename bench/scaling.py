"""How the costs grow with the switches of a bridge, and with the units of a switch."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from bench import bus
from bench.figures import FLOOR, OURS, PEER, Figures
from bench.measures import memory, reading, switching
from bench.parts import Run
from bench.phone import Phone
from bench.plot import Line, Panel, picture
from bench.switches import MOST_SWITCHES, MOST_UNITS, Switch, group_of, many

STARTS: Final = 2
AXES: Final = {
    "switches": (many, (1, 10, 50, MOST_SWITCHES)),
    "units of a switch": (group_of, (1, 10, MOST_UNITS)),
}
COSTS: Final = {
    "on": ("write On → answer", "ms"),
    "off": ("write Off → answer", "ms"),
    "read": ("read every On in one request", "ms"),
    "memory": ("memory (PSS)", "MiB"),
    "start": ("start → first answer", "ms"),
}
FASTER_BY: Final = 1.5
"""More than linear: the last step costs this much more for each switch or unit than the way there."""

NOISE: Final = 1.1
"""What costs no more than so many times the least is not growth."""


async def measure(run: Run, phones: Iterable[Phone]) -> None:
    """At each point of each axis, one bridge after the other, and the floor."""
    phones = tuple(phones)
    for axis, (make, counts) in AXES.items():
        for count in counts:
            run.progress.note(f"{count} {axis}")
            for phone in phones:
                await _point(run, phone, make(count), f"{axis}-{count}")
            await _floor(run, make(count)[:1], f"{axis}-{count}")


async def _point(run: Run, phone: Phone, switches: Sequence[Switch], where: str) -> None:
    host, bridge, figures = run.host, phone.bridge, run.figures
    names = [switch.name for switch in switches]
    async with phone.serving(switches) as controller:
        for _ in range(run.rounds.growth):
            act = switching.writing(controller, switches[:1])
            await _both_ways(run, act, switches[:1], bridge.who, where)
            figures.add(f"growth-read-{where}", bridge.who, await reading.took_ms(controller, names))
        figures.add(f"growth-memory-{where}", bridge.who, memory.mib(host, bridge.service))
        for _ in range(STARTS):
            start_ms = await phone.restarted(controller, switches)
            figures.add(f"growth-start-{where}", bridge.who, start_ms)


async def _floor(run: Run, switches: Sequence[Switch], where: str) -> None:
    async with bus.opened(run.host) as open_bus:
        for _ in range(run.rounds.growth):
            await _both_ways(run, switching.jobs(open_bus, switches), switches, FLOOR, where)


async def _both_ways(run: Run, act: switching.Act, switches: Sequence[Switch], who: str, where: str) -> None:
    for taken in await switching.both_ways(run.host, switches, act):
        run.figures.add(f"growth-{taken.action}-{where}", who, taken.answer_ms)


def draw(figures: Figures, folder: Path) -> None:
    """A picture for each cost, with a panel for each axis."""
    folder.mkdir(exist_ok=True)
    for cost, (title, unit) in COSTS.items():
        panels = [_panel(figures, cost, axis, counts) for axis, (_, counts) in AXES.items()]
        (folder / f"{cost}.svg").write_text(picture(f"{title}, {unit}", panels))


def section(figures: Figures, folder: str) -> str:
    """What the page says of it, with the pictures in a folder beside it."""
    pictures = "\n".join(f"![{title}]({folder}/{cost}.svg)" for cost, (title, _) in COSTS.items())
    growing = "\n".join(f"- {sentence}" for sentence in _sentences(figures))
    return f"## How it grows\n\n{growing}\n\n{pictures}"


def _sentences(figures: Figures) -> Iterator[str]:
    """What each more switch or unit costs, and whether the costs grow faster than these."""
    for cost, (title, unit) in COSTS.items():
        for axis, (_, counts) in AXES.items():
            points = _points(figures, cost, axis, counts, OURS)
            if len(points) == len(counts):
                yield _sentence(title, unit, axis, points)


def _sentence(title: str, unit: str, axis: str, points: Sequence[tuple[int, float]]) -> str:
    (first, low), *_, (before, middle), (last, high) = points
    whole, end = (high - low) / (last - first), (high - middle) / (last - before)
    linear = end <= max(whole, 0) * FASTER_BY
    grows = "no growth" if high <= low * NOISE else "linear at most" if linear else "**faster than linear**"
    return f"{title}: {low:.3g} {unit} at {first} {axis}, {high:.3g} {unit} at {last}: {grows}."


def _panel(figures: Figures, cost: str, axis: str, counts: Sequence[int]) -> Panel:
    lines = [Line(who, _points(figures, cost, axis, counts, who)) for who in (OURS, FLOOR, PEER)]
    return Panel(axis, tuple(line for line in lines if line.points))


def _points(
    figures: Figures, cost: str, axis: str, counts: Sequence[int], who: str
) -> tuple[tuple[int, float], ...]:
    found = ((count, figures.of(f"growth-{cost}-{axis}-{count}", who)) for count in counts)
    return tuple((count, series.median) for count, series in found if series is not None)
