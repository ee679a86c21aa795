"""Parses YAML text into a `Config`, or raises `ConfigError` with every problem. Pure: no I/O.

Root acts on the result, so the parser rejects everything that is not in the tables of config_keys.py.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from hkswitch.model import config_values as values
from hkswitch.model.config_keys import COMMANDS_KEYS, CONFIG_KEYS, RESTART_WHEN_KEYS
from hkswitch.model.config_reader import MOST_LIST_ITEMS, Entry, Key, Reader
from hkswitch.model.config_values import MOST_NAME
from hkswitch.model.elsewhere import Elsewhere, RemoteHost
from hkswitch.model.errors import ConfigError, Problem
from hkswitch.model.group import (
    MEASURED_SUFFIXES,
    MOST_ACCESSORIES,
    STATUS_INTERVAL_SECONDS,
    Argv,
    Engine,
    Group,
)
from hkswitch.model.unit_state import Action, HelperTransport
from hkswitch.model.yaml_nodes import read, shown


@dataclass(frozen=True, slots=True)
class BridgeConfig:
    """The bridge's name and endpoint.

    Without interfaces and addresses, the bridge listens on the interface of the default route.
    """

    name: str = "hkswitch"
    interfaces: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    port: int = 51826


@dataclass(frozen=True, slots=True)
class Config:
    """A valid config; `groups` are in the order of the file."""

    bridge: BridgeConfig
    groups: tuple[Group, ...]
    helper: HelperTransport = HelperTransport.SUDO
    alert_command: Argv = ()
    """Run for each trouble of a group with a sensor; empty for none."""
    hosts: tuple[RemoteHost, ...] = ()
    """Other machines, whose groups may be among these."""

    @property
    def local_groups(self) -> tuple[Group, ...]:
        """The groups that this machine runs."""
        return tuple(group for group in self.groups if group.elsewhere is None)

    def group(self, group_id: str) -> Group | None:
        """Return the group with this id, if there is one."""
        return next((group for group in self.groups if group.id == group_id), None)


def parse(data: bytes, file: str, keys: tuple[Key, ...] = CONFIG_KEYS) -> Config:
    """Parse the config in `data`; problems are reported under the file name `file`.

    Raises:
        ConfigError: If there are problems; it lists all of them, in the order of the file.
    """
    problems: list[Problem] = []
    reader = Reader(problems)
    read_values, nodes = reader.section(read(data, problems), keys)
    hosts = {entry.id: RemoteHost(entry.id, **entry.content.values) for entry in read_values["hosts"]}
    drafts = [(entry, _group(entry, hosts, reader)) for entry in read_values["groups"]]
    accessories = sum(len(group.names) for _, group in drafts)
    if accessories > MOST_ACCESSORIES:
        why = f"needs {accessories} accessories, restart switches and sensors included"
        reader.refuse(nodes["groups"], f"{why}; HomeKit allows at most {MOST_ACCESSORIES} behind a bridge")
    problems += [*_name_problems(drafts), *_aid_problems(drafts), *_place_problems(drafts)]
    if problems:
        raise ConfigError(file, tuple(sorted(problems)))
    return Config(
        BridgeConfig(**read_values["bridge"]),
        tuple(group for _, group in drafts),
        read_values["helper"],
        read_values["alert_command"],
        tuple(hosts.values()),
    )


_Drafts = list[tuple[Entry, Group]]
"""Groups that may have problems; a rejected id or name is empty."""


def _group(entry: Entry, hosts: Mapping[str, RemoteHost], reader: Reader) -> Group:
    """Build the group of an entry; applies the defaults and rules that involve several keys."""
    found, nodes = entry.content
    found["elsewhere"] = _elsewhere(entry, hosts, reader)
    actions, commands = frozenset(found["actions"]), found["commands"]
    why = next((key for key in ("momentary", "assume_state") if found[key] and commands), "")
    _refuse_members(entry, reader)
    _refuse_restart(entry, actions, reader, why)
    _refuse_rule(entry, reader)
    if commands is not None and found["elsewhere"] is None:
        _refuse_commands(entry, actions, reader, why)
    found["actions"] = actions or frozenset(_default_actions(found))
    if "name" not in nodes:
        found["name"] = " ".join(word.capitalize() for word in entry.id.split("-") if word)
    if commands and "interval_seconds" not in nodes:
        found["interval_seconds"] = STATUS_INTERVAL_SECONDS
    return Group(entry.id, **found)


def _default_actions(found: dict[str, Any]) -> Iterator[Action]:
    for action in Action:
        is_momentary = found["momentary"] and found["commands"] is not None
        is_used = found["restart"] or found["restart_when"]
        if is_used if action is Action.RESTART else not is_momentary or found["commands"].of(action):
            yield action


def _elsewhere(entry: Entry, hosts: Mapping[str, RemoteHost], reader: Reader) -> Elsewhere | None:
    """Return the place of a group that another host runs; report keys that only the config there can have."""
    found, nodes = entry.content
    name, group_id = found.pop("host"), found.pop("group")
    if not name:
        return None
    for key in ("commands", "actions"):
        if key in nodes:
            reader.refuse(nodes[key], f"cannot be combined with 'host'; the config of {shown(name)} has that")
    if name not in hosts:
        reader.refuse(nodes["host"], f"{shown(name)} is none of the 'hosts'; add it with `hkswitch host add`")
    return Elsewhere(hosts.get(name, RemoteHost(name, "")), group_id or entry.id)


def _refuse_members(entry: Entry, reader: Reader) -> None:
    """Report more members than a group may have, and a name that its engine would not take."""
    found, nodes = entry.content
    counts = len(found["units"]), len(found["containers"]), int(bool(found["compose"]))
    if max(counts) <= MOST_LIST_ITEMS < sum(counts):
        why = f"has {sum(counts)} units and containers; at most {MOST_LIST_ITEMS} are allowed"
        reader.refuse(entry.key, why)
    short = next((name for name in found["containers"] if len(name) == 1), "")
    if short and found["engine"] is Engine.DOCKER:
        reader.refuse(nodes["containers"], f"{shown(short)} is too short; Docker's names have two characters")


def _refuse_restart(entry: Entry, actions: frozenset[Action], reader: Reader, why: str) -> None:
    """Report a restart that the group cannot do, perhaps because of the key `why`, or does not list."""
    found, nodes = entry.content
    lacks = "needs a command; add 'restart' to 'commands'"
    problem = f"does not apply with '{why}'; remove one of the two" if why else lacks
    if found["commands"] is not None and (why or not found["commands"].restart):
        if found["restart"]:
            reader.refuse(nodes["restart"], problem)
        if Action.RESTART in actions and not found["momentary"]:
            reader.refuse(nodes["actions"], f"lists 'restart', which {problem}")
    if found["restart"] and not why and actions and Action.RESTART not in actions:
        reader.refuse(nodes["actions"], "must list 'restart' too, because of 'restart: true'")
    elif found["restart_when"] and actions and Action.RESTART not in actions:
        reader.refuse(nodes["actions"], "must list 'restart' too, because of 'restart_when'")


def _refuse_rule(entry: Entry, reader: Reader) -> None:
    """Report a rule without a limit, and one for units that have no processes."""
    found, nodes = entry.content
    rule, node = found["restart_when"], nodes.get("restart_when")
    if rule is None or node is None:
        return
    wanted = {"cpu_percent", "memory_mib"}
    if len(reader.missing(node, RESTART_WHEN_KEYS, wanted)) == len(wanted):
        reader.refuse(node, "the key 'cpu_percent' or 'memory_mib' is missing; a rule needs a limit")
    can_be_measured = found["containers"] or found["compose"] or not found["units"]
    if not can_be_measured and not any(unit.endswith(MEASURED_SUFFIXES) for unit in found["units"]):
        why = "only services, slices and containers can be measured"
        reader.refuse(node, f"{why}; add one to this group or remove this key")


def _refuse_commands(entry: Entry, actions: frozenset[Action], reader: Reader, why: str) -> None:
    """Report the commands that the group lacks, and those that do not apply with the key `why`."""
    found, nodes = entry.content
    commands, node = found["commands"], nodes["commands"]
    if found["momentary"]:
        _refuse_momentary(entry, actions, reader)
    else:
        wanted = {"start", "stop", "status"} & {"status" if not why else "", *(actions or Action)}
        for key in reader.missing(node, COMMANDS_KEYS, wanted):
            when = key.default_text.removeprefix("none; ")
            reader.refuse(node, f"the key '{key.name}' is missing; it is {when}")
    for name in ("status", "restart") if why else ():
        if getattr(commands, name):
            reader.refuse(node, f"has '{name}', which does not apply with '{why}'; remove one of the two")
    if why and "interval_seconds" in nodes:
        reader.refuse(nodes["interval_seconds"], f"does not apply with '{why}'; remove it")


def _refuse_momentary(entry: Entry, actions: frozenset[Action], reader: Reader) -> None:
    """Report what keeps a momentary group from having one command, and that as its only action."""
    found, nodes = entry.content
    commands, node = found["commands"], nodes["commands"]
    if found["assume_state"]:
        reader.refuse(nodes["momentary"], "cannot be combined with 'assume_state'; keep one of the two")
    if commands.start and commands.stop:
        reader.refuse(node, "has both 'start' and 'stop'; a momentary group has only one of them")
    if len(reader.missing(node, COMMANDS_KEYS, {"start", "stop"})) > 1:
        reader.refuse(node, "the key 'start' or 'stop' is missing; a momentary group has one of them")
    only = Action.STOP if commands.stop else Action.START
    if actions - {only}:
        reader.refuse(nodes["actions"], f"can list only '{only}', the command of a momentary group")


# Values that groups must not share


def _name_problems(drafts: _Drafts) -> Iterator[Problem]:
    lines: dict[str, int] = {}
    for entry, group in drafts:
        names = _names(group)
        position = entry.content.nodes.get("name", entry.key).position
        if taken := next((name for name in names if name in lines), None):
            why = f"{shown(names[taken])} is taken by the group on line {lines[taken]}"
            yield position.problem(f"{why}; Siri cannot tell the two apart")
        for heard, name in names.items():
            lines.setdefault(heard, entry.key.position.line)
            if len(name) > MOST_NAME:
                what = "restart switch" if name == group.restart_name else "sensor"
                why = f"the {what}'s name {shown(name)} is too long"
                yield position.problem(f"{why}; at most {MOST_NAME} characters are allowed")


def _names(group: Group) -> dict[str, str]:
    """Return the group's names in the Home app by their spoken forms."""
    return {values.spoken_form(name): name for name in group.names if group.name}


def _aid_problems(drafts: _Drafts) -> Iterator[Problem]:
    owners: dict[int, str] = {}
    for entry, group in drafts:
        for aid in group.aids if group.id else ():
            if aid in owners:
                why = f"{shown(group.id)} and {shown(owners[aid])} result in the same HomeKit accessory id"
                yield entry.key.position.problem(f"{why}; change one of these group ids")
            owners[aid] = group.id


def _place_problems(drafts: _Drafts) -> Iterator[Problem]:
    owners: dict[Elsewhere, str] = {}
    for entry, group in drafts:
        place = group.elsewhere if group.id else None
        if place is not None and (owner := owners.setdefault(place, group.id)) != group.id:
            why = f"is {place}, as is {shown(owner)}; remove one of the two"
            yield entry.key.position.problem(f"{shown(group.id)} {why}")
