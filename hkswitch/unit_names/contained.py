"""What to say of a container or a compose project: why it cannot be used, the remedy, and where its log is.

It asks no engine, and reads only the folders of units and of quadlets, which any user may.
"""

import re
import shlex
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

from hkswitch.containers.answers import PROJECT_LABEL
from hkswitch.containers.members import Member
from hkswitch.model.group import Engine
from hkswitch.model.unit_state import LoadState, UnitState
from hkswitch.unit_names.unit_files import UNIT_FOLDERS, file_of

QUADLET_FOLDERS: Final = tuple(
    map(Path, ("/etc/containers/systemd", "/run/containers/systemd", "/usr/share/containers/systemd"))
)
"""The folders of root's quadlets (podman-systemd.unit(5))."""

_EDIT: Final = "`sudo hkswitch edit`"

_ID: Final = re.compile("[0-9a-f]{12}|[0-9a-f]{64}")


def contained_of(member: str) -> Member | None:
    """Return the container or project with this name in a report; None for a unit."""
    # TRUST: a report may come from a compromised daemon, and the name becomes part of a command.
    if member.partition("/")[2][:1].isalnum():
        with suppress(ValueError):  # no such engine
            return Member.of(member)
    return None


def units_among(members: Iterable[str]) -> tuple[str, ...]:
    """Return the members that are units."""
    return tuple(member for member in members if contained_of(member) is None)


def contained_among(members: Iterable[str]) -> tuple[Member, ...]:
    """Return the containers and projects among the members."""
    return tuple(found for member in members if (found := contained_of(member)) is not None)


def title_of(engine: Engine) -> str:
    """Return the engine's name as a word of a sentence."""
    return engine.value.capitalize()


def described(contained: Member) -> str:
    """Return what a container or project is in a sentence."""
    what = "compose project" if contained.is_project else "container"
    return f"{title_of(contained.engine)}'s {what} {contained.name}"


def log_command(contained: Member) -> str:
    """Return the command that shows the log of a container; for a project of podman, its containers."""
    name = shlex.quote(contained.name)
    if not contained.is_project:
        return f"sudo {contained.engine} logs {name}"
    if contained.engine is Engine.DOCKER:
        return f"sudo docker compose --project-name {name} logs"
    return f"sudo podman ps --all --filter label={PROJECT_LABEL}={name}"


def where_listed(contained: Member) -> str:
    """Return which command shows the names of all containers, or of all projects."""
    is_of_compose = contained.is_project and contained.engine is Engine.DOCKER
    listing = "docker compose ls" if is_of_compose else f"{contained.engine} ps"
    return f"`sudo {listing} --all` shows all"


def problem_of(contained: Member, state: UnitState) -> tuple[str, str] | None:
    """Return why a container or project cannot be used, and the remedy; None if it can."""
    if instead := unit_instead(contained, state):
        return f"systemd runs {described(contained)}", f"{instead}, with {_EDIT}"
    match state.load:
        case LoadState.UNAVAILABLE:
            engine = contained.engine
            why = state.sub.removeprefix(f"{engine}: ")
            words = why.replace(f" is {LoadState.NOT_FOUND}", " does not exist")
            return f"{title_of(engine)} is unavailable: {words}", engine_remedy(engine, why)
        case LoadState.NOT_FOUND if contained.is_project:
            create = "docker compose" if contained.engine is Engine.DOCKER else "podman-compose"
            remedy = f"run `sudo {create} up -d` in its folder, or correct the name with {_EDIT}"
            return why_not_found(contained), remedy
        case LoadState.NOT_FOUND:
            remedy = f"correct the name with {_EDIT} ({where_listed(contained)}), or create the container"
            return why_not_found(contained), remedy
    return None


def why_not_found(contained: Member) -> str:
    """Return that an engine does not have a container, or none of a project."""
    if contained.is_project:
        return f"{described(contained)} has no containers"
    if _ID.fullmatch(contained.name):  # `docker start` takes both
        return f"{title_of(contained.engine)} has no container named {contained.name}, which looks like an ID"
    return f"{described(contained)} does not exist"


def how_to_unpause(contained: Member, state: UnitState) -> str:
    """Return how to let a paused container go on, which an engine does not start; empty for others."""
    if contained.is_project or state.sub != "paused":
        return ""
    command = f"sudo {contained.engine} unpause {shlex.quote(contained.name)}"
    return f"{described(contained)} is paused; run `{command}`"


def unit_instead(contained: Member, state: UnitState) -> str:
    """Return which unit to use in place of a container that systemd runs; empty for others."""
    unit = unit_running(contained, state)
    return advice_to_use(unit) if unit else ""


def advice_to_use(unit: str) -> str:
    """Return the advice to have a unit in a group, in place of the container that it runs."""
    return f"use units: [{unit}] instead"


def unit_running(contained: Member, state: UnitState) -> str:
    """Return the unit by which systemd runs a container; empty for others."""
    if state.load is LoadState.BAD_SETTING:
        return state.sub.removeprefix("use units: [").removesuffix("]")
    is_missing = state.load is LoadState.NOT_FOUND and contained.engine is Engine.PODMAN
    return quadlet_of(contained.name) if is_missing and not contained.is_project else ""


def engine_remedy(engine: Engine, why: str) -> str:
    """Return how to make an engine available. `why`: `docker.service is inactive (dead)`, for example."""
    match why.removeprefix(f"{engine.unit} is ").partition(" ")[0]:
        case LoadState.NOT_FOUND | LoadState.MASKED as load:
            return engine_problem(engine, LoadState(load))[1]
        case "inactive" if file_of(engine.unit, UNIT_FOLDERS):
            return f"run `sudo systemctl enable --now {engine.unit}`"
        case "inactive":
            return engine_problem(engine, LoadState.NOT_FOUND)[1]
    return f"`systemctl status {engine.unit}` gives the reason"


def engine_problem(engine: Engine, load: LoadState) -> tuple[str, str]:
    """Return why systemd cannot start an engine, and the remedy. `load`: of its unit, not-found or masked."""
    if load is LoadState.MASKED:
        return f"{engine.unit} is masked", f"run `sudo systemctl unmask {engine.unit}`"
    other = next(each for each in Engine if each is not engine)
    return f"{engine.unit} does not exist", f"install {title_of(engine)}, or set `engine: {other}`"


def quadlet_of(container: str) -> str:
    """Return the unit of root's quadlet that makes a container of this name; empty if there is none.

    podman removes such a container whenever its unit stops, and then no engine can tell.
    """
    files = (file for folder in QUADLET_FOLDERS for file in sorted(folder.rglob("*.container")))
    for file in files:
        with suppress(OSError):
            if "users" not in file.parts and (unit := _unit_making(container, file)):
                return unit
    return ""


def _unit_making(container: str, quadlet: Path) -> str:
    lines = quadlet.read_text(encoding="utf-8", errors="replace").splitlines()
    pairs = (line.partition("=") for line in lines)
    settings = {name.strip(): value.strip() for name, equals, value in pairs if equals}
    is_made = container == settings.get("ContainerName", f"systemd-{quadlet.stem}")
    return f"{settings.get('ServiceName', quadlet.stem)}.service" if is_made else ""
