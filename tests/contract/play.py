"""Plays a case on a systemd, real or simulated, through the production class, and keeps what that told.

It must not know which systemd it is: a `Machine` does what is done beside hkswitch.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import groupby
from typing import Final, NamedTuple, Protocol

from hkswitch.model.unit_state import Action, UnitState
from hkswitch.systemd.command import Command
from hkswitch.systemd.units import Systemd
from tests.support.waiting import eventually
from tests.world.unit_spec import Spec

CONFIRM_SECONDS: Final = 0.5
"""Longer than for a phone: what falls within it must do so on a busy machine, too."""

_QUIET_SECONDS: Final = 0.4
"""What is told so long after the last step still belongs to it."""

_BY_CHANCE: Final = frozenset({"deactivating (final-sigterm)"})
"""systemd is in it if it still finds a process in the cgroup right after it reaped the main process."""


class Run(NamedTuple):
    """hkswitch runs an action, this long after the watch first told that the first unit is in a state.

    `once` is its sub state, as in all steps; none is for the case's beginning.
    """

    after_seconds: float
    action: Action
    units: tuple[str, ...] = ()
    once: str = ""


class Execute(NamedTuple):
    """hkswitch runs a command."""

    after_seconds: float
    command: Command
    once: str = ""


class Outside(NamedTuple):
    """Someone else does it: `start`, `stop`, `restart`, `kill` (by SIGKILL) or `daemon-reload`."""

    after_seconds: float
    verb: str
    unit: str = ""
    once: str = ""


class Define(NamedTuple):
    """An administrator writes a unit file."""

    after_seconds: float
    unit: str
    spec: Spec
    once: str = ""


class Wait(NamedTuple):
    """Nothing is done, but the case lasts until then."""

    after_seconds: float
    once: str = ""


Step = Run | Execute | Outside | Define | Wait


class Machine(Protocol):
    """A systemd, and who else uses it."""

    async def connect(self) -> Systemd:
        """A connection of its own."""

    async def outside(self, verb: str, unit: str) -> None:
        """Do what `Environment` says."""

    async def define(self, unit: str, spec: Spec) -> None:
        """Do what `Define` says."""


@dataclass(frozen=True)
class Played:
    """The results in the order of their steps, and the states of each unit that the watch told."""

    results: tuple[str, ...]
    told: Mapping[str, tuple[str, ...]]


@dataclass
class _Watching:
    """What the watch told."""

    told: dict[str, list[str]] = field(default_factory=dict)

    def seen(self, units: Mapping[str, UnitState]) -> None:
        for name, state in units.items():
            if (text := str(state)) not in _BY_CHANCE:
                self.told.setdefault(name, []).append(text)

    def has_told(self, unit: str, sub: str) -> bool:
        return any(state.endswith(f"({sub})") for state in self.told.get(unit, ()))

    def sequences(self) -> dict[str, tuple[str, ...]]:
        """Each state once in a row: a read tells it again, and how often is a matter of time."""
        return {name: tuple(state for state, _ in groupby(states)) for name, states in self.told.items()}


async def play(machine: Machine, units: tuple[str, ...], steps: tuple[Step, ...]) -> Played:
    """Watch the units, carry out the steps, each at its time, and wait for what they lead to."""
    watching = _Watching()
    with await machine.connect() as systemd:
        await systemd.watch(units, watching.seen)

        async def in_time(step: Step) -> tuple[str, ...]:
            await eventually(lambda: not step.once or watching.has_told(units[0], step.once))
            await asyncio.sleep(step.after_seconds)
            return await _step(machine, systemd, step)

        results = await asyncio.gather(*map(in_time, steps))
        await asyncio.sleep(_QUIET_SECONDS)
        told = watching.sequences()
    return Played(tuple(result for some in results for result in some), told)


async def _step(machine: Machine, systemd: Systemd, step: Step) -> tuple[str, ...]:
    match step:
        case Run(_, action, units):
            return tuple(map(str, await systemd.run(action, units, CONFIRM_SECONDS)))
        case Execute(_, command):
            return (str(await systemd.execute(command)),)
        case Outside(_, verb, unit):
            await machine.outside(verb, unit)
        case Define(_, unit, spec):
            await machine.define(unit, spec)
    return ()
