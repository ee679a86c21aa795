"""Checks that systemd answers on the bus and has the configured units; suggests fixes for missing ones."""

import asyncio
import os
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
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
from hkswitch.model.config import Config
from hkswitch.model.errors import BusUnavailable, Failure
from hkswitch.model.installation import DAEMON_USER
from hkswitch.model.unit_state import LoadState, UnitHealth, UnitState
from hkswitch.systemd.units import Systemd

BUS_TIMEOUT_SECONDS: Final = 10

UNIT_FOLDERS: Final = (
    *("/etc/systemd/system.control", "/run/systemd/system.control", "/run/systemd/transient"),
    *("/run/systemd/generator.early", "/etc/systemd/system", "/etc/systemd/system.attached"),
    *("/run/systemd/system", "/run/systemd/system.attached", "/run/systemd/generator"),
    *("/usr/local/lib/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"),
    "/run/systemd/generator.late",
)
"""The folders of unit files (systemd.unit(5)); systemd lists only those that existed at its last reload."""

LEAST_SIMILARITY: Final = 0.7
"""The least ratio of difflib: ngnix is similar to nginx (0.8), but smb is not similar to nmb (0.67)."""

_REMEDIES: Final = {
    LoadState.NOT_FOUND: "install the package that provides it, or remove it from the configuration",
    LoadState.MASKED: "run `sudo systemctl unmask {unit}`, or remove it from the configuration",
}
_OTHER_REMEDY: Final = "`systemctl status {unit}` gives the reason"

EXAMPLE: Final = {
    "vm-guests": ("libvirt-guests.service",),
    "fileserver": ("smb.service", "nmb.service", "netatalk.service"),
    "web": ("httpd.service",),
}
"""The units of the groups in config.example.yaml."""


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
    listed = await _printed("list-unit-files", "--no-legend", "--no-pager", "--plain")
    known = {name for line in listed.splitlines() for name in line.split()[:1]}
    paths = tuple(map(Path, dict.fromkeys((*folders.split(), *UNIT_FOLDERS))))
    return {unit: hint for unit in missing if (hint := _hint(unit, paths, known))}


def file_of(unit: str, folders: Iterable[Path]) -> Path | None:
    """Return the file of a unit, or of its template, in one of the folders; not a dangling link."""
    names = dict.fromkeys((unit, _template(unit)))
    # Path.exists raises for a name that is too long, and for a folder that this user cannot read.
    files = (folder / name for folder in folders for name in names)
    return next((file for file in files if os.path.exists(file)), None)  # noqa: PTH110


def similar(unit: str, known: Iterable[str]) -> str:
    """Return the most similar of the known names; empty if none is similar.

    The suffix must be equal, as too many names share it. An instance is compared with templates.
    """
    stem, dot, kind = _template(unit).rpartition(".")
    stems = (name.removesuffix(dot + kind) for name in known if name.endswith(dot + kind))
    among = sorted(each for each in stems if each.endswith("@") is stem.endswith("@"))
    for found in get_close_matches(stem, among, n=1, cutoff=LEAST_SIMILARITY):
        instance = unit.partition("@")[2] or f".{kind}"
        return found + instance
    return ""


def _advice(config: Config, missing: Mapping[str, UnitState], known: Mapping[str, str]) -> str:
    """Return the remedies for the units in the message, each once and with its units."""
    if {group.id: group.units for group in config.groups} == EXAMPLE:
        return "these are the example groups; replace them in the configuration with your own"
    in_order = (unit for group in config.groups for unit in group.units if unit in missing)
    units_of: dict[str, list[str]] = {}
    for unit in tuple(dict.fromkeys(in_order))[:MOST_NAMED]:
        remedy = known.get(unit) or _REMEDIES.get(missing[unit].load, _OTHER_REMEDY).format(unit=unit)
        units_of.setdefault(remedy, []).append(unit)
    if len(units_of) == 1:
        return next(iter(units_of))
    return "; ".join(f"{', '.join(units)}: {remedy}" for remedy, units in units_of.items())


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


def _hint(unit: str, folders: Iterable[Path], known: Iterable[str]) -> str:
    if file := file_of(unit, folders):
        return f"systemd has not read {file} yet: run `sudo systemctl daemon-reload`"
    meant = similar(unit, known)
    return f"did you mean {meant}?" if meant else ""


def _template(unit: str) -> str:
    """Return the template of an instance, or the unit itself."""
    stem, dot, kind = unit.rpartition(".")
    prefix, at, _ = stem.partition("@")
    return prefix + at + dot + kind


async def _printed(*arguments: str) -> str:
    """Return the output of systemctl; empty if it cannot be run."""
    try:
        return (await run("systemctl", *arguments)).output
    except CannotRun:
        return ""
