"""The time of a tap until the units have changed and until the response, and its CPU time."""

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from bench import timestamps
from bench.bridges import Bridge
from bench.bus import Bus
from bench.figures import FLOOR, Figures
from bench.phone import Phone
from bench.switches import TAPPED, Switch, units_of
from tests.host.machine import Host
from tests.support.controller import Controller

ACTIONS: Final = {True: "on", False: "off"}

Act = Callable[[bool], Awaitable[None]]
"""Turns switches on or off, and returns after the response."""


@dataclass(frozen=True, slots=True)
class Timing:
    """The times of one action."""

    action: str
    units: int
    answer_ms: float
    units_ms: float


async def taps(phone: Phone, controller: Controller, kind: str, rounds: int, figures: Figures) -> None:
    """Measure one unit, and a group of three, of one type. The first round only warms up the caches."""
    (one, three), host, bridge = TAPPED[kind], phone.host, phone.bridge
    for counted in [Figures(), *[figures] * rounds]:
        before_ms = timestamps.cpu_ms(host, bridge.cgroups)
        taken = await on_and_off(host, (one,), write_action(controller, (one,)))
        used_ms = timestamps.cpu_ms(host, bridge.cgroups) - before_ms
        assert used_ms > 0, f"{bridge.who} used no CPU for a tap"
        _add(counted, bridge.who, f"{kind}-", taken)
        counted.add(f"{kind}-tap-cpu", bridge.who, used_ms / len(ACTIONS))
        taken = await on_and_off(host, (three,), write_action(controller, (three,)))
        _add(counted, bridge.who, f"{kind}-", taken)


async def at_once(
    host: Host, bridge: Bridge, controller: Controller, switches: Sequence[Switch], figures: Figures
) -> None:
    """Measure all switches in one request."""
    taken = await on_and_off(host, switches, write_action(controller, switches))
    _add(figures, bridge.who, "", taken)


async def floor_of_taps(host: Host, bus: Bus, rounds: int, figures: Figures) -> None:
    """Measure the jobs of all taps on an open bus connection. The first round only warms up the caches."""
    for counted in [Figures(), *[figures] * rounds]:
        for kind, chosen in TAPPED.items():
            for switch in chosen:
                taken = await on_and_off(host, (switch,), job_action(bus, (switch,)))
                _add(counted, FLOOR, f"{kind}-", taken)


async def floor_at_once(
    host: Host, bus: Bus, switches: Sequence[Switch], rounds: int, figures: Figures
) -> None:
    """Measure the jobs of all switches at once. The first round only warms up the caches."""
    for counted in [Figures(), *[figures] * rounds]:
        taken = await on_and_off(host, switches, job_action(bus, switches))
        _add(counted, FLOOR, "", taken)


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
    units = units_of(switches)
    entered_seconds = timestamps.state_changed(host, units, began_seconds, active=on)
    return Timing(ACTIONS[on], len(units), answered_ms, (entered_seconds - began_seconds) * 1000)


def _add(figures: Figures, who: str, prefix: str, taken: Sequence[Timing]) -> None:
    for one in taken:
        figures.add(f"{prefix}{one.action}-{one.units}-answer", who, one.answer_ms)
        figures.add(f"{prefix}{one.action}-{one.units}-units", who, one.units_ms)
