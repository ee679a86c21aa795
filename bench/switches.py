"""The switches that are measured, and their units, which only sleep."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

EXEC, NOTIFY = "exec", "notify"
"""The types of service that are measured (systemd.service(5), Type=)."""

UNITS: Final = {
    # By default, systemd refuses more than five starts of a unit in ten seconds.
    "bench@.service": """\
[Unit]
StartLimitIntervalSec=0
[Service]
Type=exec
ExecStart=/bin/sleep infinity
""",
    # Ready as soon as it runs, and without a shell: what it costs to say so is the floor's, too.
    "bench-notify@.service": """\
[Unit]
StartLimitIntervalSec=0
[Service]
Type=notify
ExecStart=/usr/bin/systemd-notify --ready --exec -- \\; /bin/sleep infinity
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
_TEMPLATES: Final = {EXEC: "bench", NOTIFY: "bench-notify"}


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

NOTIFY_ONE: Final = Switch("one", "One", ("bench-notify@one.service",))
NOTIFY_THREE: Final = Switch(
    "three", "Three", tuple(f"bench-notify@three-{number}.service" for number in range(3))
)
TAPPED: Final = {EXEC: (ONE, THREE), NOTIFY: (NOTIFY_ONE, NOTIFY_THREE)}
"""The switches that are tapped, with one unit and with three, by the type of their units."""


def many(count: int, kind: str = EXEC) -> tuple[Switch, ...]:
    """Return switches with one unit each."""
    unit = _TEMPLATES[kind]
    return tuple(Switch(f"s{n}", f"Switch {n}", (f"{unit}@s{n}.service",)) for n in range(1, count + 1))


def group_of(count: int, kind: str = EXEC) -> tuple[Switch, ...]:
    """Return one switch with this many units."""
    unit = _TEMPLATES[kind]
    return (Switch("group", "Group", tuple(f"{unit}@u{n}.service" for n in range(1, count + 1))),)


def loaded_target() -> str:
    """Return a target that keeps all units loaded, like enabled services, so that it keeps their times."""
    grown = (each for kind in TAPPED for each in (*many(MOST_SWITCHES, kind), *group_of(MOST_UNITS, kind)))
    units = units_of((*FEW, NOTIFY_ONE, NOTIFY_THREE, *grown))
    return f"[Unit]\nAfter={' '.join(units)}\n"


def units_of(switches: Sequence[Switch]) -> tuple[str, ...]:
    """Return the units of all switches."""
    return tuple(unit for switch in switches for unit in switch.units)
