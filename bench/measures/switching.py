"""How long a tap takes, until the units are as asked for and until the answer; and what CPU it takes."""

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from bench import timestamps
from bench.bridges import Bridge
from bench.bus import Bus
from bench.figures import FLOOR, Figures
from bench.switches import ONE, THREE, Switch, units_of
from tests.host.machine import Host
from tests.support.controller import Controller

ACTIONS: Final = {True: "on", False: "off"}

Act = Callable[[bool], Awaitable[None]]
"""Turns switches on or off, and returns when that was answered."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What one action took."""

    action: str
    answer_ms: float
    units_ms: float


async def taps(host: Host, bridge: Bridge, controller: Controller, rounds: int, figures: Figures) -> None:
    """One unit, and a group of three. A first round is not counted: nothing of it is in a cache yet."""
    for counted in [Figures(), *[figures] * rounds]:
        before_ms = timestamps.cpu_ms(host, bridge.service)
        _add(counted, bridge.who, 1, await both_ways(host, (ONE,), writing(controller, (ONE,))))
        taken_ms = timestamps.cpu_ms(host, bridge.service) - before_ms
        counted.add("tap-cpu", bridge.who, taken_ms / len(ACTIONS))
        _add(counted, bridge.who, 3, await both_ways(host, (THREE,), writing(controller, (THREE,))))


async def at_once(
    host: Host, bridge: Bridge, controller: Controller, switches: Sequence[Switch], figures: Figures
) -> None:
    """All switches in one request."""
    taken = await both_ways(host, switches, writing(controller, switches))
    _add(figures, bridge.who, len(switches), taken)


async def floor(
    host: Host, bus: Bus, chosen: Sequence[Sequence[Switch]], rounds: int, figures: Figures
) -> None:
    """The same jobs, but on an open connection. A first round is not counted here, either."""
    for counted in [Figures(), *[figures] * rounds]:
        for switches in chosen:
            taken = await both_ways(host, switches, jobs(bus, switches))
            _add(counted, FLOOR, len(units_of(switches)), taken)


def writing(controller: Controller, switches: Sequence[Switch]) -> Act:
    """A controller that writes to all in one request; each must be a success."""

    async def act(on: bool) -> None:  # noqa: FBT001 -- as HomeKit has it
        statuses = await controller.write_all({switch.name: on for switch in switches})
        assert set(statuses.values()) == {0}, f"refused: {statuses}"

    return act


def jobs(bus: Bus, switches: Sequence[Switch]) -> Act:
    """Nothing but systemd's jobs."""
    units = units_of(switches)

    async def act(on: bool) -> None:  # noqa: FBT001 -- as above
        await (bus.start(units) if on else bus.stop(units))

    return act


async def both_ways(host: Host, switches: Sequence[Switch], act: Act) -> tuple[Taken, ...]:
    """On and then off, each until the units are so."""
    return tuple([await _timed(host, switches, act, on=on) for on in ACTIONS])


async def _timed(host: Host, switches: Sequence[Switch], act: Act, *, on: bool) -> Taken:
    began_seconds = time.monotonic()
    await act(on)
    answered_ms = timestamps.ms_since(began_seconds)
    entered_seconds = timestamps.entered(host, units_of(switches), began_seconds, active=on)
    return Taken(ACTIONS[on], answered_ms, (entered_seconds - began_seconds) * 1000)


def _add(figures: Figures, who: str, units: int, taken: Sequence[Taken]) -> None:
    for one in taken:
        figures.add(f"{one.action}-{units}-answer", who, one.answer_ms)
        figures.add(f"{one.action}-{units}-units", who, one.units_ms)
