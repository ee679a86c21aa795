"""Whether systemd answers on the system bus, and has the units of the configuration."""

import asyncio
from collections.abc import Mapping
from typing import Final

from hkswitch.doctor.context import USER, Situation
from hkswitch.doctor.finding import NO_CONFIG, WITH_SUDO, Finding, Point, counted, ok, unknown, wrong
from hkswitch.doctor.missing_units import hints
from hkswitch.model.config import Config
from hkswitch.model.errors import BusUnavailable, Failure
from hkswitch.model.unit_state import LoadState, UnitHealth, UnitState
from hkswitch.systemd.units import Systemd

WITHIN_SECONDS: Final = 10
MOST_NAMED: Final = 3

_ADVICE: Final = {
    LoadState.NOT_FOUND: "install what it belongs to, or take it out of the configuration",
    LoadState.MASKED: "`sudo systemctl unmask` it, or take it out of the configuration",
}


async def bus_and_units(situation: Situation) -> tuple[Finding, Finding]:
    """The points bus and units."""
    config = situation.config
    if situation.is_asked_by_daemon:
        why = f"the bus denies the user {USER} everything"
        return unknown(Point.BUS, why, WITH_SUDO), unknown(Point.UNITS, why, WITH_SUDO)
    groups = () if isinstance(config, Failure) else config.groups
    states = await _states({unit for group in groups for unit in group.units})
    known = {} if isinstance(states, Failure) else await hints(_not_found(states))
    return reachable(states), exist(config, states, known)


def reachable(states: Mapping[str, UnitState] | Failure) -> Finding:
    """Whether anybody answered."""
    if isinstance(states, Failure):
        return wrong(Point.BUS, str(states), "`sudo systemctl start dbus.socket`, or install dbus")
    return ok(Point.BUS, "systemd answers on the system bus")


def exist(
    config: Config | Failure, states: Mapping[str, UnitState] | Failure, known: Mapping[str, str]
) -> Finding:
    """Whether systemd can load every unit. `known`: what to do about those for which that is known."""
    if isinstance(config, Failure):
        return unknown(Point.UNITS, NO_CONFIG)
    if isinstance(states, Failure):
        return unknown(Point.UNITS, "systemd does not answer")
    missing = {unit: state for unit, state in states.items() if state.health is UnitHealth.MISSING}
    if missing:
        return wrong(Point.UNITS, _named(config, missing), _advice(config, missing, known))
    return ok(Point.UNITS, f"{counted(len(states), 'unit')} known to systemd")


def _advice(config: Config, missing: Mapping[str, UnitState], known: Mapping[str, str]) -> str:
    """About the first one, and what is known about the others that are named."""
    in_order = (unit for group in config.groups for unit in group.units if unit in missing)
    first, *others = dict.fromkeys(in_order)
    of_first = known.get(first) or _ADVICE.get(missing[first].load, "`systemctl status` says why")
    return "; ".join((of_first, *(known[unit] for unit in others[: MOST_NAMED - 1] if unit in known)))


def _not_found(states: Mapping[str, UnitState]) -> tuple[str, ...]:
    return tuple(unit for unit, state in states.items() if state.load is LoadState.NOT_FOUND)


def _named(config: Config, missing: Mapping[str, UnitState]) -> str:
    named = [
        f"{unit} of group {group.id} is {missing[unit]}"
        for group in config.groups
        for unit in group.units
        if unit in missing
    ]
    more = len(named) - MOST_NAMED
    return ", ".join(named[:MOST_NAMED]) + (f", and {more} more" if more > 0 else "")


async def _states(units: set[str]) -> Mapping[str, UnitState] | Failure:
    try:
        async with asyncio.timeout(WITHIN_SECONDS):
            with await Systemd.connect() as systemd:
                return await systemd.states(sorted(units))
    except BusUnavailable as failure:
        return failure
    except TimeoutError:
        return BusUnavailable(f"no answer within {WITHIN_SECONDS} s")
