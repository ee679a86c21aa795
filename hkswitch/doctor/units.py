"""Whether systemd answers on the system bus, and has the units of the configuration."""

import asyncio
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Final

from hkswitch.doctor.context import USER, Situation
from hkswitch.doctor.finding import NO_CONFIG, WITH_SUDO, Finding, Point, counted, ok, unknown, wrong
from hkswitch.doctor.programs import CannotRun, run
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
    missing = {unit: state for unit, state in states.items() if state.meaning is UnitHealth.MISSING}
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


FOLDERS: Final = (
    *("/etc/systemd/system.control", "/run/systemd/system.control", "/run/systemd/transient"),
    *("/run/systemd/generator.early", "/etc/systemd/system", "/etc/systemd/system.attached"),
    *("/run/systemd/system", "/run/systemd/system.attached", "/run/systemd/generator"),
    *("/usr/local/lib/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"),
    "/run/systemd/generator.late",
)
"""Where unit files are (systemd.unit(5)); systemd itself tells only of those that it looks into now."""

SIMILAR: Final = 0.7
"""How alike two names must be for difflib: ngnix is like nginx (0.8), and smb is not like nmb (0.67)."""


async def hints(units: Iterable[str]) -> Mapping[str, str]:
    """What to do about each of these units, where anything is known."""
    missing = tuple(units)
    if not missing:
        return {}
    folders = await _printed("show", "--property=UnitPath", "--value")
    listed = await _printed("list-unit-files", "--no-legend", "--no-pager", "--plain")
    known = {name for line in listed.splitlines() for name in line.split()[:1]}
    paths = tuple(map(Path, dict.fromkeys((*folders.split(), *FOLDERS))))
    return {unit: hint for unit in missing if (hint := _hint(unit, paths, known))}


def file_of(unit: str, folders: Iterable[Path]) -> Path | None:
    """The file that a unit or its template has in one of the folders; a link that leads nowhere is none."""
    names = dict.fromkeys((unit, _template(unit)))
    return next((file for folder in folders for name in names if (file := folder / name).exists()), None)


def similar(unit: str, known: Iterable[str]) -> str:
    """The one of these names that may have been meant, nothing if none is like it.

    What comes after the dot is the same in so many names that it must be equal. An instance is like another
    template's.
    """
    stem, dot, kind = _template(unit).rpartition(".")
    stems = (name.removesuffix(dot + kind) for name in known if name.endswith(dot + kind))
    among = sorted(each for each in stems if each.endswith("@") is stem.endswith("@"))
    for found in get_close_matches(stem, among, n=1, cutoff=SIMILAR):
        instance = unit.partition("@")[2] or f".{kind}"
        return found + instance
    return ""


def _hint(unit: str, folders: Iterable[Path], known: Iterable[str]) -> str:
    if file := file_of(unit, folders):
        return f"systemd has not read {file} yet: `sudo systemctl daemon-reload`"
    meant = similar(unit, known)
    return f"did you mean {meant}?" if meant else ""


def _template(unit: str) -> str:
    """The template of an instance; any other unit itself."""
    stem, dot, kind = unit.rpartition(".")
    prefix, at, _ = stem.partition("@")
    return prefix + at + dot + kind


async def _printed(*arguments: str) -> str:
    """What systemctl prints; nothing if it cannot be asked."""
    try:
        return (await run("systemctl", *arguments)).output
    except CannotRun:
        return ""
