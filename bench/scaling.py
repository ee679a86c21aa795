"""Scaling of the costs with the switches of a bridge, with the units of a switch, and with other hosts."""

from collections.abc import Iterable, Sequence
from typing import Final

from bench import bus
from bench.figures import FLOOR
from bench.growth import Growth
from bench.measures import memory, reading, switching
from bench.parts import Run
from bench.phone import Phone
from bench.switches import MOST_SWITCHES, MOST_UNITS, NOTIFY, Switch, group_of, many

STARTS: Final = 2
MADE_BY: Final = {"switches": many, "units of a switch": group_of}

SCALING: Final = Growth(
    prefix="growth",
    values="scaling.json",
    axes={"switches": (1, 10, 50, MOST_SWITCHES), "units of a switch": (1, 10, MOST_UNITS)},
    costs={
        "on": ("write On → response", "ms"),
        "off": ("write Off → response", "ms"),
        "read": ("read every On in one request", "ms"),
        "memory": ("memory (PSS)", "MiB"),
        "start": ("start → first response", "ms"),
    },
    notes=(
        " The units have `Type=notify`.\n"
        "The floor runs the jobs of one switch, however many switches there are: by switches, it should be "
        "level, and how far it is from that shows the noise.\n"
        "hkswitch needs the same jobs, so where its line is below the floor, that is noise, too."
    ),
)
OF_HOSTS: Final = Growth(
    prefix="hosts",
    values="hosts.json",
    axes={"other hosts": (1, 5, 20, 50)},
    costs={
        "memory": ("memory (PSS), with ssh", "MiB"),
        "idle": ("CPU in 60 s idle, with ssh", "s"),
        "start": ("start → local switches answer", "s"),
        "all": ("start → all switches have values", "s"),
    },
)
GROWTHS: Final = (SCALING, OF_HOSTS)


Where = tuple[str, int]
"""An axis, and the count there."""


async def measure(run: Run, phones: Iterable[Phone]) -> None:
    """Measure each bridge and the floor at each point of each axis."""
    phones = tuple(phones)
    for axis, counts in SCALING.axes.items():
        for count in counts:
            run.progress.note(f"{count} {axis}")
            switches = MADE_BY[axis](count, NOTIFY)
            # The speed of a machine changes within minutes: the floor is measured around each bridge.
            await _floor(run, switches[:1], (axis, count))
            for phone in phones:
                await _point(run, phone, switches, (axis, count))
                await _floor(run, switches[:1], (axis, count))


async def _point(run: Run, phone: Phone, switches: Sequence[Switch], where: Where) -> None:
    host, bridge, figures = run.host, phone.bridge, run.figures
    names = [switch.name for switch in switches]
    async with phone.serving(switches) as controller:
        for _ in range(run.rounds.growth):
            act = switching.write_action(controller, switches[:1])
            await _on_and_off(run, act, switches[:1], bridge.who, where)
            read_ms = await reading.took_ms(controller, names)
            figures.add(SCALING.metric("read", *where), bridge.who, read_ms)
        figures.add(SCALING.metric("memory", *where), bridge.who, memory.mib(host, bridge.cgroups))
        for _ in range(STARTS):
            start_ms = await phone.restarted(controller, switches)
            figures.add(SCALING.metric("start", *where), bridge.who, start_ms)


async def _floor(run: Run, switches: Sequence[Switch], where: Where) -> None:
    async with bus.opened(run.host) as open_bus:
        for _ in range(run.rounds.growth):
            act = switching.job_action(open_bus, switches)
            await _on_and_off(run, act, switches, FLOOR, where)


async def _on_and_off(
    run: Run, act: switching.Act, switches: Sequence[Switch], who: str, where: Where
) -> None:
    for taken in await switching.on_and_off(run.host, switches, act):
        run.figures.add(SCALING.metric(taken.action, *where), who, taken.answer_ms)
