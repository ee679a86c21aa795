"""Checks that the engines of the configured containers are running, and that they have the containers.

Any user can ask systemd about an engine; only root can ask the engine itself, by what the helper uses.
"""

import asyncio
import json
import pwd
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from hkswitch.containers.answers import PROJECT_LABEL, EngineUnavailable
from hkswitch.containers.engines import Engines
from hkswitch.containers.members import Member
from hkswitch.doctor.context import Context
from hkswitch.doctor.finding import (
    MOST_NAMED,
    NO_CONFIG,
    WITH_SUDO,
    Check,
    Finding,
    Verdict,
    fail,
    needs_root,
    ok,
    several,
    skip,
    warn,
)
from hkswitch.doctor.programs import CannotRun, run
from hkswitch.model.config import Config
from hkswitch.model.config_values import closest
from hkswitch.model.errors import BusUnavailable, Failure
from hkswitch.model.group import Engine
from hkswitch.model.installation import DAEMON_USER
from hkswitch.model.unit_state import LoadState, UnitHealth, UnitState
from hkswitch.systemd.units import Systemd
from hkswitch.unit_names.contained import (
    contained_among,
    contained_of,
    engine_problem,
    engine_remedy,
    problem_of,
    title_of,
    unit_instead,
)
from hkswitch.unit_names.similar import LEAST_SIMILARITY

ENGINES_TIMEOUT_SECONDS: Final = 15

SNAP_UNIT: Final = "snap.docker.dockerd.service"
"""The unit of Docker from a snap."""

USERS_FOLDER: Final = Path("/run/user")
USERS_SOCKETS: Final = {Engine.DOCKER: "*/docker.sock", Engine.PODMAN: "*/podman/podman.sock"}
"""The sockets in it of engines that users run for themselves; only root can see those of others."""

States = Mapping[str, UnitState]


class Fault(NamedTuple):
    """What is wrong with an engine or a container, and the remedy."""

    what: str
    remedy: str


class Seen(NamedTuple):
    """What root sees: the states of the configured members, and names that the engines have, as members."""

    states: States
    known: frozenset[Member] = frozenset()


async def containers(context: Context) -> tuple[Finding]:
    """Check the engines and the containers of the configuration."""
    config = context.config
    if isinstance(config, Failure):
        return (skip(Check.CONTAINERS, NO_CONFIG),)
    members = tuple(dict.fromkeys(member for group in config.groups for member in group.contained))
    if not members:
        return (ok(Check.CONTAINERS, "no group has containers"),)
    if context.is_daemon_user:
        return (skip(Check.CONTAINERS, f"the bus denies every call by {DAEMON_USER}", WITH_SUDO),)
    try:
        async with asyncio.timeout(ENGINES_TIMEOUT_SECONDS):
            with await Systemd.connect() as systemd:
                units = await systemd.states([*(engine.unit for engine in Engine), SNAP_UNIT])
                seen = await _seen(members, Engines(systemd.states)) if context.is_root else None
    except BusUnavailable:
        return (skip(Check.CONTAINERS, "systemd does not answer"),)
    except TimeoutError:
        return (skip(Check.CONTAINERS, f"no answer within {ENGINES_TIMEOUT_SECONDS} s"),)
    found = usable(config, units, seen, users_of_engines())
    used = tuple(dict.fromkeys(group.engine.unit for group in config.groups if group.contained))
    if found.verdict is Verdict.OK:
        found = at_boot(found, used, await enabled(used))
    return (found,)


def usable(config: Config, units: States, seen: Seen | None, users: Mapping[Engine, str]) -> Finding:
    """Judge the engines by the states of their units, and the members by theirs; `seen` if root asks.

    `users`: a user who runs an engine without root, by the engine.
    """
    engines = tuple(dict.fromkeys(group.engine for group in config.groups if group.contained))
    down = {engine: fault for engine in engines if (fault := engine_fault(engine, units))}
    of_members = () if seen is None else _member_faults(config, seen)
    wrong = {each.engine: fault for each, fault in of_members if each.engine not in down}
    faults = [("", fault) for fault in down.values()]
    faults += [(each.name, fault) for each, fault in of_members if each.engine not in down]
    if faults:
        rootless = (rootless_note(engine, users) for engine in {**down, **wrong} if engine in users)
        what = several([fault.what for _, fault in faults])
        return fail(Check.CONTAINERS, what, "; ".join((*_remedies(faults[:MOST_NAMED]), *rootless)))
    if seen is None:
        return needs_root(Check.CONTAINERS)
    known = (f"{several(_names(config, engine))} known to {title_of(engine)}" for engine in engines)
    return ok(Check.CONTAINERS, "; ".join(known))


def at_boot(found: Finding, units: Sequence[str], enabled: Sequence[str]) -> Finding:
    """Judge whether systemd starts the engines at boot. `enabled`: words of `systemctl is-enabled`."""
    disabled = [unit for unit, word in zip(units, enabled, strict=False) if word == "disabled"]
    if not disabled:
        return found
    are = "is" if len(disabled) == 1 else "are"
    what = f"{found.what}, but {' and '.join(disabled)} {are} not enabled at boot"
    return warn(Check.CONTAINERS, what, f"run `sudo systemctl enable {' '.join(disabled)}`")


def engine_fault(engine: Engine, units: States) -> Fault | None:
    """Return why an engine does not run, and the remedy; None if it runs. `units`: states of units."""
    state = units[engine.unit]
    if state.load in {LoadState.NOT_FOUND, LoadState.MASKED}:
        if engine is Engine.DOCKER and units[SNAP_UNIT].load is LoadState.LOADED:
            return Fault(f"Docker from a snap has no {engine.unit}", "install Docker from a package instead")
        return Fault(*engine_problem(engine, state.load))
    if state.health is UnitHealth.UP:
        return None
    what = f"{engine.unit} is {state.active}"
    return Fault(what, engine_remedy(engine, what))


def users_of_engines() -> dict[Engine, str]:
    """Return a user who runs an engine without root, by the engine, as far as this user can see that."""
    found = {}
    for engine, pattern in USERS_SOCKETS.items():
        with suppress(OSError, KeyError):
            for socket in USERS_FOLDER.glob(pattern):
                found[engine] = pwd.getpwuid(socket.stat().st_uid).pw_name
    return found


def meant_by(contained: Member, known: frozenset[Member]) -> str:
    """Return the most similar name that the engine has for a container or project; empty if none is."""
    kind = contained.engine, contained.is_project
    names = {each.name for each in known if (each.engine, each.is_project) == kind}
    return closest(contained.name, tuple(sorted(names)), LEAST_SIMILARITY)


def parse_names(engine: Engine, body: bytes) -> Iterator[Member]:
    """Yield the containers and projects in an engine's list; none of what is malformed."""
    try:
        listed = json.loads(body)
    except (ValueError, RecursionError):
        return
    for item in listed if isinstance(listed, list) else ():
        match item:
            case {"Names": [str(name), *_]}:
                yield from contained_among((f"{engine}/{name.removeprefix('/')}",))
        match item:
            case {"Labels": {**labels}} if isinstance(project := labels.get(PROJECT_LABEL), str):
                yield from contained_among((f"{engine}-compose/{project}",))


async def seen_by_root(members: Iterable[str]) -> Seen:
    """Return what root sees of these members; nothing if systemd does not answer."""
    try:
        async with asyncio.timeout(ENGINES_TIMEOUT_SECONDS):
            with await Systemd.connect() as systemd:
                return await _seen(members, Engines(systemd.states))
    except (BusUnavailable, TimeoutError):
        return Seen({})


async def _seen(members: Iterable[str], engines: Engines) -> Seen:
    states = await engines.states(members)
    missing = (contained_of(name) for name, state in states.items() if state.load is LoadState.NOT_FOUND)
    known: set[Member] = set()
    for engine in {each.engine for each in missing if each}:
        with suppress(EngineUnavailable):
            listed = await engines.connections[engine].get("/containers/json?all=1")
            known.update(parse_names(engine, listed))
    return Seen(states, frozenset(known))


def _member_faults(config: Config, seen: Seen) -> list[tuple[Member, Fault]]:
    """Return what is wrong with members, each thing once."""
    faults: dict[Fault, Member] = {}
    for group in config.groups:
        for contained in contained_among(group.contained):
            state = seen.states[contained.full_name]
            if (problem := problem_of(contained, state)) is None:
                continue
            what, remedy = problem
            meant = "" if unit_instead(contained, state) else meant_by(contained, seen.known)
            if state.load is LoadState.NOT_FOUND and meant:
                remedy = f"did you mean {meant}?"
            if state.load is not LoadState.UNAVAILABLE:
                what = f"{what} (group {group.id})"
            faults.setdefault(Fault(what, remedy), contained)
    return [(contained, fault) for fault, contained in faults.items()]


async def enabled(units: Iterable[str]) -> list[str]:
    try:
        return (await run("systemctl", "is-enabled", *units)).output.split()
    except CannotRun:
        return []


def _remedies(faults: Iterable[tuple[str, Fault]]) -> list[str]:
    """Return each remedy once; if there are several, with the containers and projects that it is for."""
    names_of: dict[str, list[str]] = {}
    for name, fault in faults:
        names_of.setdefault(fault.remedy, []).append(name)
    named = ((", ".join(filter(None, names)), remedy) for remedy, names in names_of.items())
    return [f"{names}: {remedy}" if names and len(names_of) > 1 else remedy for names, remedy in named]


def rootless_note(engine: Engine, users: Mapping[Engine, str]) -> str:
    """Return that an engine of a user may have the containers; `users` has such a user."""
    return f"{title_of(engine)} of {users[engine]} runs without root, where hkswitch cannot reach it"


def _names(config: Config, engine: Engine) -> list[str]:
    contained = (each for group in config.groups for each in contained_among(group.contained))
    return [*dict.fromkeys(each.name for each in contained if each.engine is engine)]
