"""The time of a tap until the units have changed and until the response, and its CPU time."""

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
"""Turns switches on or off, and returns after the response."""


@dataclass(frozen=True, slots=True)
class Timing:
    """The times of one action."""

    action: str
    answer_ms: float
    units_ms: float


async def taps(host: Host, bridge: Bridge, controller: Controller, rounds: int, figures: Figures) -> None:
    """Measure one unit, and a group of three. The first round only warms up the caches."""
    for counted in [Figures(), *[figures] * rounds]:
        before_ms = timestamps.cpu_ms(host, bridge.cgroups)
        _add(counted, bridge.who, 1, await on_and_off(host, (ONE,), write_action(controller, (ONE,))))
        taken_ms = timestamps.cpu_ms(host, bridge.cgroups) - before_ms
        counted.add("tap-cpu", bridge.who, taken_ms / len(ACTIONS))
        _add(counted, bridge.who, 3, await on_and_off(host, (THREE,), write_action(controller, (THREE,))))


async def at_once(
    host: Host, bridge: Bridge, controller: Controller, switches: Sequence[Switch], figures: Figures
) -> None:
    """Measure all switches in one request."""
    taken = await on_and_off(host, switches, write_action(controller, switches))
    _add(figures, bridge.who, len(switches), taken)


async def floor(
    host: Host, bus: Bus, chosen: Sequence[Sequence[Switch]], rounds: int, figures: Figures
) -> None:
    """Measure the same jobs on an open bus connection. The first round only warms up the caches."""
    for counted in [Figures(), *[figures] * rounds]:
        for switches in chosen:
            taken = await on_and_off(host, switches, job_action(bus, switches))
            _add(counted, FLOOR, len(units_of(switches)), taken)


def write_action(controller: Controller, switches: Sequence[Switch]) -> Act:
    """Return an action by which a controller writes all switches in one request; each must succeed."""

    async def act(on: bool) -> None:  # noqa: FBT001 -- as HomeKit has it
        statuses = await controller.write_all({switch.name: on for switch in switches})
        assert set(statuses.values()) == {0}, f"refused: {statuses}"

    return act


def job_action(bus: Bus, switches: Sequence[Switch]) -> Act:
    """Return an action that only runs systemd's jobs."""
    units = units_of(switches)

    async def act(on: bool) -> None:  # noqa: FBT001 -- as above
        await (bus.start(units) if on else bus.stop(units))

    return act


async def on_and_off(host: Host, switches: Sequence[Switch], act: Act) -> tuple[Timing, ...]:
    """Turn the switches on and then off, each until the units have changed."""
    return tuple([await _timed(host, switches, act, on=on) for on in ACTIONS])


async def _timed(host: Host, switches: Sequence[Switch], act: Act, *, on: bool) -> Timing:
    began_seconds = time.monotonic()
    await act(on)
    answered_ms = timestamps.ms_since(began_seconds)
    entered_seconds = timestamps.state_changed(host, units_of(switches), began_seconds, active=on)
    return Timing(ACTIONS[on], answered_ms, (entered_seconds - began_seconds) * 1000)


def _add(figures: Figures, who: str, units: int, taken: Sequence[Timing]) -> None:
    for one in taken:
        figures.add(f"{one.action}-{units}-answer", who, one.answer_ms)
        figures.add(f"{one.action}-{units}-units", who, one.units_ms)
