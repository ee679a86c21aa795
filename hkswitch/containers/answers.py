"""Parses the answers of container engines: lists, containers, events and errors. Pure: no I/O.

An engine runs as root, but names and labels come from the makers of images. Anything unexpected raises
`EngineUnavailable`.
"""

import json
import re
from typing import Any, Final, NamedTuple, TypeVar

from hkswitch.model.errors import Failure
from hkswitch.model.printable import printable, printable_line

MOST_CONTAINERS: Final = 512
"""Of a project; each is inspected by itself."""

PROJECT_LABEL: Final = "com.docker.compose.project"
STOP_SECONDS: Final = 10
"""How long engines wait before they kill a container, by default."""

_ID = re.compile(r"[0-9a-f]{64}")
_T = TypeVar("_T")


class EngineUnavailable(Failure):
    """An engine that is off, or does not answer, or answers as no engine does."""


class Container(NamedTuple):
    """A container as its engine describes it, in the engine's words."""

    id: str
    name: str
    status: str
    health: str = ""
    exit_status: int = 0
    restarts: int = 0
    """How often the engine has restarted it since somebody started it."""
    restarts_itself: bool = False
    stop_seconds: int = STOP_SECONDS
    unit: str = ""
    """The unit that runs it, if it is a quadlet's."""
    is_one_off: bool = False
    """Whether it was made by `docker compose run`."""
    network_of: str = ""
    """The ID of the container whose network it shares, such as that of a VPN."""
    started: str = ""
    """When it was started last, as the engine writes it."""
    is_out_of_memory: bool = False


class Change(NamedTuple):
    """A container of which an event says that something happened to it."""

    id: str
    name: str
    project: str
    action: str = ""
    """A word that both engines have, such as `die`, or one of them."""
    signal: str = ""
    """The number of a signal that Docker was asked to send."""


def parse_ids(body: bytes) -> list[str]:
    """Return the IDs in a list of containers."""
    if len(found := _parsed(body, list)) > MOST_CONTAINERS:
        raise EngineUnavailable(f"the engine has more than {MOST_CONTAINERS} containers of one name")
    return [_id(item, "Id") for item in found]


def parse_container(body: bytes) -> Container:
    """Return an inspected container."""
    found = _parsed(body, dict)
    labels = _at(found, dict, "Config", "Labels")
    return Container(
        id=_id(found, "Id"),
        name=printable(_at(found, str, "Name").removeprefix("/")),
        status=_at(found, str, "State", "Status"),
        health=_at(found, str, "State", "Health", "Status"),
        exit_status=_at(found, int, "State", "ExitCode"),
        restarts=_at(found, int, "RestartCount"),
        restarts_itself=_at(found, str, "HostConfig", "RestartPolicy", "Name") not in {"", "no"},
        stop_seconds=_at(found, int, "Config", "StopTimeout") or STOP_SECONDS,
        unit=_at(labels, str, "PODMAN_SYSTEMD_UNIT"),
        is_one_off=_at(labels, str, "com.docker.compose.oneoff") == "True",
        network_of=_at(found, str, "HostConfig", "NetworkMode").partition("container:")[2],
        started=printable(_at(found, str, "State", "StartedAt")),
        is_out_of_memory=_at(found, bool, "State", "OOMKilled"),
    )


def parse_stopped_by_user(body: bytes) -> bool:
    """Return whether a user of Podman stopped or killed a container, from Podman's own description of it."""
    return _at(_parsed(body, dict), bool, "State", "StoppedByUser")


def parse_event(line: bytes) -> Change | None:
    """Return the container that an event is about; None if it is about a program in one, or a clean-up."""
    found = _parsed(line, dict)
    if (action := _at(found, str, "Action")).startswith(("exec", "prune")):
        return None
    attributes = _at(found, dict, "Actor", "Attributes")
    name, project, signal = (_at(attributes, str, key) for key in ("name", PROJECT_LABEL, "signal"))
    return Change(_id(found, "Actor", "ID"), name, project, action, signal)


def parse_error(body: bytes) -> str:
    """Return the message of an engine that refused something, which may quote the maker of an image."""
    return printable_line(_at(_parsed(body, dict), str, "message"))


def _parsed(text: bytes, kind: type[_T]) -> _T:
    try:
        return _at({"answer": json.loads(text)}, kind, "answer")
    except (ValueError, RecursionError):
        raise EngineUnavailable("the engine's answer is not JSON") from None


def _id(found: Any, *path: str) -> str:  # noqa: ANN401 -- parsed JSON
    # TRUST: it becomes part of the path of a request.
    if not _ID.fullmatch(container_id := _at(found, str, *path)):
        raise EngineUnavailable("the engine's answer has an invalid ID")
    return container_id


def _at(found: Any, kind: type[_T], *path: str) -> _T:  # noqa: ANN401 -- parsed JSON
    """Return the value at `path`, an empty one if there is none."""
    for key in path:
        found = found.get(key) if isinstance(found, dict) else None
    if (isinstance(found, bool) and kind is not bool) or not (found is None or isinstance(found, kind)):
        raise EngineUnavailable(f"the engine's {path[-1]!r} is not a {kind.__name__}")
    return kind() if found is None else found
