"""How everything is at one moment, for people and programs: `hkswitch status --json` is this. Pure: no I/O.

The keys that are there stay there, and mean the same, as long as `version` does; new keys and words may come.
So a reader ignores keys and takes words that it does not know for "unknown"; a missing key is an error.
All text in a report can be printed: root's terminal obeys no sequences that somebody else wrote.
Named tuples: Python makes their classes five times as fast as dataclasses, and `hkswitch status` waits.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final, NamedTuple, TypeVar

from hkswitch.model.printable import LONGEST_PRINTED, printable_line
from hkswitch.model.unit_state import Action, ActiveState, GroupState, LoadState, UnitState
from hkswitch.protocol.json_lines import LONGEST_NAME, Malformed, boolean, number, objects, words

VERSION: Final = 1
UNKNOWN: Final = "unknown"

MOST_GROUPS: Final = 149
MOST_UNITS: Final = 128
"""In a group. A configuration has no more of either."""
MOST_CONTROLLERS: Final = 256
MOST_ADDRESSES: Final = 256
"""A bridge takes 16 controllers, and a machine with more addresses than this can name some."""
LONGEST_FAILURE: Final = LONGEST_PRINTED

_Word = TypeVar("_Word", GroupState, Action, "Outcome")


class Outcome(StrEnum):
    """What came of an action."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    UNKNOWN = UNKNOWN  # a word that only a newer daemon knows


class LastAction(NamedTuple):
    """What was asked of a group last. `by`: a controller's ID, or a user's number.

    `action` is None if only a newer daemon knows it.
    """

    action: Action | None
    by: str
    at_unix_seconds: int
    outcome: Outcome = Outcome.RUNNING
    failure: str = ""
    duration_ms: int = 0


class GroupReport(NamedTuple):
    """A group. `state` is None while it is not known, `since_unix_seconds` is 0 where that is not.

    `commands`: it is a group of commands, which has no units. Without them, the units are not known yet.
    """

    id: str
    name: str
    state: GroupState | None
    since_unix_seconds: int
    units: Mapping[str, UnitState]
    last_action: LastAction | None = None
    commands: bool = False
    why: str = ""
    """Why the state is not known, or what the probe says of it."""


class PairedController(NamedTuple):
    """A controller with a pairing, and how many connections it has now."""

    id: str
    admin: bool
    connections: int = 0


class BridgeReport(NamedTuple):
    """The bridge. No `addresses`: it serves nowhere.

    `helper`: why there is none, if there is none. `config`: why the one on disk is not the one in force.
    `pairing_refused`: none is paired, and none can be, since too many setup codes were wrong.
    `storage`: why keys and pairings cannot be written, if they cannot.
    `network`: what it waits for, if it is not everywhere where it should be.
    """

    name: str
    version: str
    running_since_unix_seconds: int
    addresses: tuple[str, ...]
    port: int
    controllers: tuple[PairedController, ...]
    helper: str = ""
    config: str = ""
    pairing_refused: bool = False
    storage: str = ""
    network: str = ""


class Report(NamedTuple):
    """Everything. Without a daemon there is no bridge."""

    bridge: BridgeReport | None
    groups: tuple[GroupReport, ...]


def as_object(report: Report) -> dict[str, Any]:
    """The report as JSON has it."""
    return {
        "version": VERSION,
        "bridge": None if report.bridge is None else _bridge_object(report.bridge),
        "groups": [_group_object(group) for group in report.groups],
    }


def from_object(body: dict[str, Any]) -> Report:
    """The report in an object of JSON; raises `Malformed`."""
    required(body, {"version", "bridge", "groups"})
    if number(body, "version") != VERSION:
        raise Malformed("a report of another version")
    bridge = body["bridge"]
    if bridge is not None and not isinstance(bridge, dict):
        raise Malformed("'bridge' must be an object")
    groups = tuple(_group(item) for item in _at_most(MOST_GROUPS, body, "groups"))
    return Report(None if bridge is None else _bridge(bridge), groups)


def controller_object(controller: PairedController) -> dict[str, Any]:
    """A controller as JSON has it."""
    return {"id": controller.id, "admin": controller.admin, "connections": controller.connections}


def controllers(body: dict[str, Any]) -> tuple[PairedController, ...]:
    """The controllers in an object; raises `Malformed`."""
    return tuple(_controller(item) for item in _at_most(MOST_CONTROLLERS, body, "controllers"))


def _controller(item: dict[str, Any]) -> PairedController:
    required(item, {"id", "admin", "connections"})
    return PairedController(words(item, "id"), boolean(item, "admin"), number(item, "connections", 0))


def _bridge_object(bridge: BridgeReport) -> dict[str, Any]:
    return {
        "name": bridge.name,
        "version": bridge.version,
        "running_since_unix_seconds": bridge.running_since_unix_seconds,
        "addresses": list(bridge.addresses),
        "port": bridge.port,
        "controllers": [controller_object(each) for each in bridge.controllers],
        "helper": bridge.helper,
        "config": bridge.config,
        "pairing_refused": bridge.pairing_refused,
        "storage": bridge.storage,
        "network": bridge.network,
    }


def _bridge(body: dict[str, Any]) -> BridgeReport:
    older_have_not = {"config", "network", "pairing_refused", "storage"}
    required(body, {*BridgeReport._fields} - older_have_not)
    match body["addresses"]:
        case [*addresses] if len(addresses) <= MOST_ADDRESSES and all(map(_is_address, addresses)):
            pass
        case _:
            raise Malformed("'addresses' must be a list of addresses")
    return BridgeReport(
        name=words(body, "name"),
        version=words(body, "version"),
        running_since_unix_seconds=number(body, "running_since_unix_seconds", 0),
        addresses=tuple(addresses),
        port=number(body, "port"),
        controllers=controllers(body),
        helper=words(body, "helper", LONGEST_FAILURE),
        config=words(body, "config", LONGEST_FAILURE) if "config" in body else "",
        pairing_refused=boolean(body, "pairing_refused") if "pairing_refused" in body else False,
        storage=words(body, "storage", LONGEST_FAILURE) if "storage" in body else "",
        network=words(body, "network", LONGEST_FAILURE) if "network" in body else "",
    )


def _group_object(group: GroupReport) -> dict[str, Any]:
    units = [
        {"unit": name, "load": unit.load.value, "active": unit.active.value, "sub": printable_line(unit.sub)}
        for name, unit in group.units.items()
    ]
    last = group.last_action
    return {
        "id": group.id,
        "name": group.name,
        "state": UNKNOWN if group.state is None else group.state.value,
        "since_unix_seconds": group.since_unix_seconds,
        "units": units,
        "last_action": None if last is None else _last_object(last),
        "commands": group.commands,
        "why": printable_line(group.why),
    }


def _last_object(last: LastAction) -> dict[str, Any]:
    return {
        "action": UNKNOWN if last.action is None else last.action.value,
        "by": last.by,
        "at_unix_seconds": last.at_unix_seconds,
        "outcome": last.outcome.value,
        "failure": printable_line(last.failure),
        "duration_ms": last.duration_ms,
    }


def _group(item: dict[str, Any]) -> GroupReport:
    required(item, {*GroupReport._fields} - {"commands", "why"})  # an older daemon has not
    state, last = words(item, "state"), item["last_action"]
    if last is not None and not isinstance(last, dict):
        raise Malformed("'last_action' must be an object")
    units = [_unit(unit) for unit in _at_most(MOST_UNITS, item, "units")]
    if len(dict(units)) != len(units):
        raise Malformed("a unit stands twice")
    return GroupReport(
        id=words(item, "id"),
        name=words(item, "name"),
        state=_known(GroupState, state),
        since_unix_seconds=number(item, "since_unix_seconds", 0),
        units=dict(units),
        last_action=None if last is None else _last(last),
        commands=boolean(item, "commands") if "commands" in item else False,
        why=words(item, "why", LONGEST_FAILURE) if "why" in item else "",
    )


def _unit(item: dict[str, Any]) -> tuple[str, UnitState]:
    required(item, {"unit", "load", "active", "sub"})
    load, active = LoadState(words(item, "load")), ActiveState(words(item, "active"))
    return words(item, "unit"), UnitState(load, active, words(item, "sub"))


def _last(item: dict[str, Any]) -> LastAction:
    required(item, {*LastAction._fields})
    return LastAction(
        action=_known(Action, words(item, "action")),
        by=words(item, "by"),
        at_unix_seconds=number(item, "at_unix_seconds", 0),
        outcome=_known(Outcome, words(item, "outcome")) or Outcome.UNKNOWN,
        failure=words(item, "failure", LONGEST_FAILURE),
        duration_ms=number(item, "duration_ms", 0),
    )


def _is_address(address: object) -> bool:
    return isinstance(address, str) and len(address) <= LONGEST_NAME and address.isprintable()


def _at_most(most: int, body: dict[str, Any], key: str) -> list[dict[str, Any]]:
    found = objects(body, key)
    if len(found) > most:
        raise Malformed(f"more than {most} {key}")
    return found


def _known(kind: type[_Word], word: str) -> _Word | None:
    return kind(word) if word in set(kind) else None


def required(body: dict[str, Any], wanted: set[str]) -> None:
    """Accept an object with these keys; others are of a newer version, and ignored. Raises `Malformed`."""
    if missing := wanted - body.keys():
        raise Malformed(f"{min(missing)!r} is missing")
