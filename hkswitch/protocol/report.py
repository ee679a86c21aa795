"""The state of the bridge and of all groups at one moment: `hkswitch status --json`. Pure: no I/O.

Keys keep their names and meanings as long as `version` stays the same; new keys and values may be added.
So a reader ignores unknown keys and treats unknown values as "unknown"; a missing key is an error.
All text in a report is printable, so another user cannot send escape sequences to root's terminal.
Named tuples: Python creates their classes five times as fast as dataclasses, for a fast `hkswitch status`.
"""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any, Final, NamedTuple, TypeVar

from hkswitch.model.errors import Exit, Failure
from hkswitch.model.printable import LONGEST_PRINTED, printable_line
from hkswitch.model.unit_state import Action, ActiveState, GroupState, LoadState, UnitState
from hkswitch.protocol.host_report import MOST_HOSTS, HostReport, host_object, parse_host
from hkswitch.protocol.json_fields import boolean, objects, words
from hkswitch.protocol.json_lines import LONGEST_NAME, MalformedMessage, number

REPORT_VERSION: Final = 1
UNKNOWN_VALUE: Final = "unknown"

MOST_GROUPS: Final = 149
MOST_UNITS: Final = 128
"""In a group. A configuration has at most these numbers of both."""
MOST_CONTROLLERS: Final = 256
MOST_ADDRESSES: Final = 256
"""A bridge accepts 16 controllers, and serves on some of a machine's addresses."""
LONGEST_FAILURE: Final = LONGEST_PRINTED
LONGEST_SUB_OF_ANOTHER_HOST: Final = 60
STARTING: Final = "not on the network yet: the daemon is starting"
"""What a bridge waits for before it has looked for a network."""

_Word = TypeVar("_Word", GroupState, Action, "Outcome")


class Outcome(StrEnum):
    """The outcome of an action."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    UNKNOWN = UNKNOWN_VALUE  # a value that only a newer daemon knows


class LastAction(NamedTuple):
    """The last action that was requested for a group. `by`: a controller's ID, or a user's number.

    `action` is None if only a newer daemon knows it.
    """

    action: Action | None
    by: str
    at_unix_seconds: int
    outcome: Outcome = Outcome.RUNNING
    failure: str = ""
    duration_ms: int = 0


class GroupReport(NamedTuple):
    """A group. `state` is None while it is unknown; `since_unix_seconds` is 0 if it is unknown.

    `commands`: whether it is a group of commands. If another group has no units, they are not known yet.
    """

    id: str
    name: str
    state: GroupState | None
    since_unix_seconds: int
    units: Mapping[str, UnitState]
    last_action: LastAction | None = None
    commands: bool = False
    why: str = ""
    """Why the state is unknown, or why the check fails although all units are active."""
    assumed: bool = False
    """Whether the last action stands for the state, which no command can tell."""
    momentary: bool = False
    """Whether the state is only the one that the switch returns to after each run of the command."""
    trouble: str = ""
    """Why the group's sensor is open; empty while it is not, and without a sensor."""
    trouble_since_unix_seconds: int = 0
    rule: str = ""
    """How far the group's `restart_when` is, that it gave up, or what it cannot measure; or empty."""
    host: str = ""
    """The host that runs it; empty for this machine."""
    group: str = ""
    """Its id on that host."""


class PairedController(NamedTuple):
    """A paired controller, and the number of its connections."""

    id: str
    admin: bool
    connections: int = 0


class BridgeReport(NamedTuple):
    """The bridge. Without `addresses`, it is not on the network.

    `helper`: why there is no helper. `config`: why the config on disk is not the one in force.
    `pairing_refused`: no controller is paired, and none can pair, since too many setup codes were wrong.
    `storage`: why keys and pairings cannot be written.
    `network`: what it is waiting for, if it is not on all chosen addresses.
    `identity`: a second bridge that has the same one. Each is empty if all is well.
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
    identity: str = ""


class Report(NamedTuple):
    """The bridge and all groups; `bridge` is None without a daemon."""

    bridge: BridgeReport | None
    groups: tuple[GroupReport, ...]
    hosts: tuple[HostReport, ...] = ()
    """The other hosts; the daemon connects to those that have groups."""


def is_contained(member: str) -> bool:
    """Return whether a member is a container or a compose project, by its name: no unit's has a slash."""
    return "/" in member


def unknown_group(group_id: str, known: Iterable[str]) -> Failure:
    """Return the failure for a group that does not exist; `known` are the groups that do."""
    from hkswitch.model.config_values import closest  # noqa: PLC0415 -- only a mistake needs it

    groups = tuple(known)
    meant = closest(group_id, groups)
    hint = f"did you mean {meant}?" if meant else f"the groups are {', '.join(groups)}"
    return Failure(f"there is no group {group_id!r}; {hint}", Exit.USAGE)


def as_object(report: Report) -> dict[str, Any]:
    """Return the JSON object of a report."""
    return {
        "version": REPORT_VERSION,
        "bridge": None if report.bridge is None else _bridge_object(report.bridge),
        "groups": [_group_object(group) for group in report.groups],
        "hosts": [host_object(host) for host in report.hosts],
    }


def from_object(body: dict[str, Any]) -> Report:
    """Return the report in a JSON object; raises `MalformedMessage`."""
    required(body, {"version", "bridge", "groups"})
    if number(body, "version") != REPORT_VERSION:
        raise MalformedMessage("unsupported version of the report")
    bridge = body["bridge"]
    if bridge is not None and not isinstance(bridge, dict):
        raise MalformedMessage("'bridge' must be an object")
    groups = tuple(_group(item) for item in _at_most(MOST_GROUPS, body, "groups"))
    hosts = tuple(parse_host(item) for item in _at_most(MOST_HOSTS, {"hosts": [], **body}, "hosts"))
    return Report(None if bridge is None else _bridge(bridge), groups, hosts)


def controller_object(controller: PairedController) -> dict[str, Any]:
    """Return the JSON object of a controller."""
    return {"id": controller.id, "admin": controller.admin, "connections": controller.connections}


def controllers(body: dict[str, Any]) -> tuple[PairedController, ...]:
    """Return the controllers in a JSON object; raises `MalformedMessage`."""
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
        "identity": bridge.identity,
    }


def _bridge(body: dict[str, Any]) -> BridgeReport:
    newer_keys = {"config", "identity", "network", "pairing_refused", "storage"}
    required(body, {*BridgeReport._fields} - newer_keys)
    match body["addresses"]:
        case [*addresses] if len(addresses) <= MOST_ADDRESSES and all(map(_is_address, addresses)):
            pass
        case _:
            raise MalformedMessage("'addresses' must be a list of addresses")
    return BridgeReport(
        name=words(body, "name"),
        version=words(body, "version"),
        running_since_unix_seconds=number(body, "running_since_unix_seconds", 0),
        addresses=tuple(addresses),
        port=number(body, "port"),
        controllers=controllers(body),
        helper=words(body, "helper", LONGEST_FAILURE),
        config=_reason(body, "config"),
        pairing_refused=_flag(body, "pairing_refused"),
        storage=_reason(body, "storage"),
        network=_reason(body, "network"),
        identity=_reason(body, "identity"),
    )


def _group_object(group: GroupReport) -> dict[str, Any]:
    # TRUST: the texts of another host must not make a report too long to be read.
    longest_sub = LONGEST_SUB_OF_ANOTHER_HOST if group.host else LONGEST_PRINTED
    units = [
        {
            "unit": name,
            "load": unit.load.value,
            "active": unit.active.value,
            "sub": printable_line(unit.sub, longest_sub),
        }
        for name, unit in group.units.items()
    ]
    last = group.last_action
    return {
        "id": group.id,
        "name": group.name,
        "state": UNKNOWN_VALUE if group.state is None else group.state.value,
        "since_unix_seconds": group.since_unix_seconds,
        "units": units,
        "last_action": None if last is None else _last_object(last),
        "commands": group.commands,
        "why": printable_line(group.why),
        "assumed": group.assumed,
        "momentary": group.momentary,
        "trouble": printable_line(group.trouble),
        "trouble_since_unix_seconds": group.trouble_since_unix_seconds,
        "rule": printable_line(group.rule),
        "host": group.host,
        "group": group.group,
    }


def _last_object(last: LastAction) -> dict[str, Any]:
    return {
        "action": UNKNOWN_VALUE if last.action is None else last.action.value,
        "by": last.by,
        "at_unix_seconds": last.at_unix_seconds,
        "outcome": last.outcome.value,
        "failure": printable_line(last.failure),
        "duration_ms": last.duration_ms,
    }


def _group(item: dict[str, Any]) -> GroupReport:
    required(item, {"id", "name", "state", "since_unix_seconds", "units", "last_action"})
    state, last, since = words(item, "state"), item["last_action"], "trouble_since_unix_seconds"
    if last is not None and not isinstance(last, dict):
        raise MalformedMessage("'last_action' must be an object")
    units = [_unit(unit) for unit in _at_most(MOST_UNITS, item, "units")]
    if len(dict(units)) != len(units):
        raise MalformedMessage("duplicate unit")
    return GroupReport(
        id=words(item, "id"),
        name=words(item, "name"),
        state=_member(GroupState, state),
        since_unix_seconds=number(item, "since_unix_seconds", 0),
        units=dict(units),
        last_action=None if last is None else _last(last),
        commands=_flag(item, "commands"),
        why=_reason(item, "why"),
        assumed=_flag(item, "assumed"),
        momentary=_flag(item, "momentary"),
        trouble=_reason(item, "trouble"),
        trouble_since_unix_seconds=number({since: 0, **item}, since, 0),
        rule=_reason(item, "rule"),
        host=_reason(item, "host"),
        group=_reason(item, "group"),
    )


def _unit(item: dict[str, Any]) -> tuple[str, UnitState]:
    required(item, {"unit", "load", "active", "sub"})
    load, active = LoadState(words(item, "load")), ActiveState(words(item, "active"))
    return words(item, "unit"), UnitState(load, active, words(item, "sub"))


def _last(item: dict[str, Any]) -> LastAction:
    required(item, {*LastAction._fields})
    return LastAction(
        action=_member(Action, words(item, "action")),
        by=words(item, "by"),
        at_unix_seconds=number(item, "at_unix_seconds", 0),
        outcome=_member(Outcome, words(item, "outcome")) or Outcome.UNKNOWN,
        failure=words(item, "failure", LONGEST_FAILURE),
        duration_ms=number(item, "duration_ms", 0),
    )


def _flag(body: dict[str, Any], key: str) -> bool:
    """Return true or false; false from a daemon that is older than the key."""
    return boolean(body, key) if key in body else False


def _reason(body: dict[str, Any], key: str) -> str:
    """Return a reason; none from a daemon that is older than the key."""
    return words(body, key, LONGEST_FAILURE) if key in body else ""


def _is_address(address: object) -> bool:
    return isinstance(address, str) and len(address) <= LONGEST_NAME and address.isprintable()


def _at_most(most: int, body: dict[str, Any], key: str) -> list[dict[str, Any]]:
    found = objects(body, key)
    if len(found) > most:
        raise MalformedMessage(f"more than {most} {key}")
    return found


def _member(kind: type[_Word], word: str) -> _Word | None:
    return kind(word) if word in set(kind) else None


def required(body: dict[str, Any], wanted: set[str]) -> None:
    """Check that an object has these keys; others may come from a newer version."""
    if missing := wanted - body.keys():
        raise MalformedMessage(f"{min(missing)!r} is missing")
