"""Checks that systemd answers on the bus and has the configured units; suggests fixes for missing ones."""

import asyncio
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from hkswitch.doctor.context import Context
from hkswitch.doctor.finding import (
    MOST_NAMED,
    NO_CONFIG,
    WITH_SUDO,
    Check,
    Finding,
    counted,
    fail,
    ok,
    several,
    skip,
)
from hkswitch.doctor.programs import CannotRun, run
from hkswitch.editing.example import is_example
from hkswitch.model.config import Config
from hkswitch.model.errors import BusUnavailable, Failure
from hkswitch.model.installation import DAEMON_USER
from hkswitch.model.unit_state import LoadState, UnitHealth, UnitState
from hkswitch.systemd.units import Systemd
from hkswitch.unit_names.systemctl import LOADED_UNITS, UNIT_FILES, known_names
from hkswitch.unit_names.unit_files import UNIT_FOLDERS, hint

BUS_TIMEOUT_SECONDS: Final = 10

_REMEDIES: Final = {
    LoadState.NOT_FOUND: "install the package that provides it, or remove it from the configuration",
    LoadState.MASKED: "run `sudo systemctl unmask {unit}`, or remove it from the configuration",
}
_OTHER_REMEDY: Final = "`systemctl status {unit}` gives the reason"


async def bus_and_units(context: Context) -> tuple[Finding, Finding]:
    """Check the system bus, and the units of the configuration."""
    config = context.config
    if context.is_daemon_user:
        why = f"the bus denies every call by {DAEMON_USER}"
        return skip(Check.BUS, why, WITH_SUDO), skip(Check.UNITS, why, WITH_SUDO)
    groups = () if isinstance(config, Failure) else config.groups
    states = await _states({unit for group in groups for unit in group.units})
    known = {} if isinstance(states, Failure) else await hints(_not_found(states))
    return reachable(states), loaded(config, states, known)


def reachable(states: Mapping[str, UnitState] | Failure) -> Finding:
    """Judge whether systemd answered."""
    if isinstance(states, Failure):
        return fail(Check.BUS, str(states), "run `sudo systemctl start dbus.socket`, or install dbus")
    return ok(Check.BUS, "systemd answers on the system bus")


def loaded(
    config: Config | Failure, states: Mapping[str, UnitState] | Failure, known: Mapping[str, str]
) -> Finding:
    """Judge whether systemd can load every unit. `known`: hints for some of those that do not exist."""
    if isinstance(config, Failure):
        return skip(Check.UNITS, NO_CONFIG)
    if isinstance(states, Failure):
        return skip(Check.UNITS, "systemd does not answer")
    missing = {unit: state for unit, state in states.items() if state.health is UnitHealth.MISSING}
    if missing:
        return fail(Check.UNITS, _named(config, missing), _advice(config, missing, known))
    return ok(Check.UNITS, f"{counted(len(states), 'unit')} known to systemd")


async def hints(units: Iterable[str]) -> Mapping[str, str]:
    """Return hints for those of these units that have one."""
    missing = tuple(units)
    if not missing:
        return {}
    folders = await _printed("show", "--property=UnitPath", "--value")
    known = known_names(f"{await _printed(*UNIT_FILES)}\n{await _printed(*LOADED_UNITS)}")
    paths = tuple(dict.fromkeys((*map(Path, folders.split()), *UNIT_FOLDERS)))
    return {unit: found for unit in missing if (found := hint(unit, paths, known))}


def _advice(config: Config, missing: Mapping[str, UnitState], known: Mapping[str, str]) -> str:
    """Return the remedies for the units in the message, each once and with its units."""
    units = {group.id: group.units for group in config.groups}
    gone = {*_not_found(missing)}
    if is_example(units) and any(gone.issuperset(each) for each in units.values()):  # `add` replaces those
        return "these are the example groups; replace them with `sudo hkswitch add`"
    in_order = (unit for group in config.groups for unit in group.units if unit in missing)
    units_of: dict[str, list[str]] = {}
    for unit in tuple(dict.fromkeys(in_order))[:MOST_NAMED]:
        remedy = known.get(unit) or _remedy(unit, missing[unit].load)
        units_of.setdefault(remedy, []).append(unit)
    if len(units_of) == 1:
        return next(iter(units_of))
    return "; ".join(f"{', '.join(units)}: {remedy}" for remedy, units in units_of.items())


def _remedy(unit: str, load: LoadState) -> str:
    return _REMEDIES.get(load, _OTHER_REMEDY).format(unit=shlex.quote(unit))


def _not_found(states: Mapping[str, UnitState]) -> tuple[str, ...]:
    return tuple(unit for unit, state in states.items() if state.load is LoadState.NOT_FOUND)


def _named(config: Config, missing: Mapping[str, UnitState]) -> str:
    named = [
        f"{unit} (group {group.id}) {_fault(missing[unit])}"
        for group in config.groups
        for unit in group.units
        if unit in missing
    ]
    return several(named)


def _fault(state: UnitState) -> str:
    return "does not exist" if state.load is LoadState.NOT_FOUND else f"is {state}"


async def _states(units: set[str]) -> Mapping[str, UnitState] | Failure:
    try:
        async with asyncio.timeout(BUS_TIMEOUT_SECONDS):
            with await Systemd.connect() as systemd:
                return await systemd.states(sorted(units))
    except BusUnavailable as failure:
        return failure
    except TimeoutError:
        return BusUnavailable(f"no answer within {BUS_TIMEOUT_SECONDS} s")


async def _printed(*arguments: str) -> str:
    """Return the output of systemctl; empty if it cannot be run."""
    try:
        return (await run("systemctl", *arguments)).output
    except CannotRun:
        return ""
