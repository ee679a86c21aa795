"""The switches that are measured, and the units behind them, which only sleep."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

UNITS: Final = {
    # systemd starts a unit five times in ten seconds and then no more, unless it is told not to count.
    "bench@.service": """\
[Unit]
StartLimitIntervalSec=0
[Service]
Type=exec
ExecStart=/bin/sleep infinity
""",
    "bench-slow@.service": """\
[Unit]
StartLimitIntervalSec=0
[Service]
Type=exec
ExecStartPre=/bin/sleep 15
ExecStart=/bin/sleep infinity
""",
}


KEEPER: Final = "bench.target"
MOST_SWITCHES: Final = 149
MOST_UNITS: Final = 50


@dataclass(frozen=True, slots=True)
class Switch:
    """A switch as every bridge is to have it."""

    id: str
    name: str
    units: tuple[str, ...]


ONE: Final = Switch("one", "One", ("bench@one.service",))
THREE: Final = Switch("three", "Three", tuple(f"bench@three-{number}.service" for number in range(3)))
SLOW: Final = Switch("slow", "Slow", ("bench-slow@1.service",))
FEW: Final = (ONE, THREE, SLOW)


def many(count: int) -> tuple[Switch, ...]:
    """Switches of one unit each."""
    return tuple(Switch(f"s{n}", f"Switch {n}", (f"bench@s{n}.service",)) for n in range(1, count + 1))


def group_of(count: int) -> tuple[Switch, ...]:
    """One switch of so many units."""
    return (Switch("group", "Group", tuple(f"bench@u{n}.service" for n in range(1, count + 1))),)


def keeper() -> str:
    """A target that keeps units loaded, as enabled services are, so that systemd knows their times."""
    units = units_of((*FEW, *many(MOST_SWITCHES), *group_of(MOST_UNITS)))
    return f"[Unit]\nAfter={' '.join(units)}\n"


def units_of(switches: Sequence[Switch]) -> tuple[str, ...]:
    """All their units."""
    return tuple(unit for switch in switches for unit in switch.units)
