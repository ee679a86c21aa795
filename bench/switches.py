"""The switches that are measured, and their units, which only sleep."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

UNITS: Final = {
    # By default, systemd refuses more than five starts of a unit in ten seconds.
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


LOADED_TARGET: Final = "bench.target"
MOST_SWITCHES: Final = 149
MOST_UNITS: Final = 50


@dataclass(frozen=True, slots=True)
class Switch:
    """A switch, to be configured on every bridge."""

    id: str
    name: str
    units: tuple[str, ...]


ONE: Final = Switch("one", "One", ("bench@one.service",))
THREE: Final = Switch("three", "Three", tuple(f"bench@three-{number}.service" for number in range(3)))
SLOW: Final = Switch("slow", "Slow", ("bench-slow@1.service",))
FEW: Final = (ONE, THREE, SLOW)


def many(count: int) -> tuple[Switch, ...]:
    """Return switches with one unit each."""
    return tuple(Switch(f"s{n}", f"Switch {n}", (f"bench@s{n}.service",)) for n in range(1, count + 1))


def group_of(count: int) -> tuple[Switch, ...]:
    """Return one switch with this many units."""
    return (Switch("group", "Group", tuple(f"bench@u{n}.service" for n in range(1, count + 1))),)


def loaded_target() -> str:
    """Return a target that keeps all units loaded, like enabled services, so that it keeps their times."""
    units = units_of((*FEW, *many(MOST_SWITCHES), *group_of(MOST_UNITS)))
    return f"[Unit]\nAfter={' '.join(units)}\n"


def units_of(switches: Sequence[Switch]) -> tuple[str, ...]:
    """Return the units of all switches."""
    return tuple(unit for switch in switches for unit in switch.units)
