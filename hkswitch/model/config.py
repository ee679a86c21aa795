"""Parses YAML text into a `Config`, or raises `ConfigError` with every problem. Pure: no I/O.

Root acts on the result, so the parser rejects everything that is not in the tables of config_keys.py.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from hkswitch.model import config_values as values
from hkswitch.model.config_keys import COMMANDS_KEYS, CONFIG_KEYS
from hkswitch.model.config_reader import Entry, Key, Reader
from hkswitch.model.config_values import MOST_NAME
from hkswitch.model.errors import ConfigError, Problem
from hkswitch.model.group import MOST_ACCESSORIES, STATUS_INTERVAL_SECONDS, Group
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
    drafts = [(entry, _group(entry, reader)) for entry in read_values["groups"]]
    accessories = sum(1 + group.restart for _, group in drafts)
    if accessories > MOST_ACCESSORIES:
        why = f"needs {accessories} accessories, restart switches included"
        reader.refuse(nodes["groups"], f"{why}; HomeKit allows at most {MOST_ACCESSORIES} behind a bridge")
    problems += [*_name_problems(drafts), *_aid_problems(drafts)]
    if problems:
        raise ConfigError(file, tuple(sorted(problems)))
    bridge = BridgeConfig(**read_values["bridge"])
    return Config(bridge, tuple(group for _, group in drafts), read_values["helper"])


_Drafts = list[tuple[Entry, Group]]
"""Groups that may have problems; a rejected id or name is empty."""


def _group(entry: Entry, reader: Reader) -> Group:
    """Build the group of an entry; applies the defaults and rules that involve several keys."""
    found, nodes = entry.content
    actions, restart, commands = frozenset(found["actions"]), found["restart"], found["commands"]
    lacks_restart = commands is not None and not commands.restart
    if restart and lacks_restart:
        reader.refuse(nodes["restart"], "needs a command; add 'restart' to 'commands'")
    if actions and restart and Action.RESTART not in actions:
        reader.refuse(nodes["actions"], "must list 'restart' too, because of 'restart: true'")
    if lacks_restart and Action.RESTART in actions:
        why = "cannot list 'restart' without a command for it"
        reader.refuse(nodes["actions"], f"{why}; add 'restart' to 'commands'")
    if commands is not None:
        _refuse_commands(entry, actions, reader)
    found["actions"] = actions or frozenset(_default_actions(found))
    if "name" not in nodes:
        found["name"] = " ".join(word.capitalize() for word in entry.id.split("-") if word)
    if commands and "interval_seconds" not in nodes:
        found["interval_seconds"] = STATUS_INTERVAL_SECONDS
    return Group(entry.id, **found)


def _default_actions(found: dict[str, Any]) -> Iterator[Action]:
    for action in Action:
        is_momentary = found["momentary"] and found["commands"] is not None
        if found["restart"] if action is Action.RESTART else not is_momentary or found["commands"].of(action):
            yield action


def _refuse_commands(entry: Entry, actions: frozenset[Action], reader: Reader) -> None:
    """Report the commands that the group lacks, and those that it has no use for."""
    found, nodes = entry.content
    commands, node = found["commands"], nodes["commands"]
    wanted = tuple(action for action in (Action.START, Action.STOP) if not actions or action in actions)
    if found["momentary"]:
        if found["assume_state"]:
            reader.refuse(nodes["momentary"], "cannot be combined with 'assume_state'; keep one of the two")
        if commands.start and commands.stop:
            reader.refuse(node, "has both 'start' and 'stop'; a momentary group has only one of them")
        wanted = (Action.STOP if commands.stop else Action.START,)
        if actions - {*wanted}:
            reader.refuse(nodes["actions"], f"can list only '{wanted[0]}', the command of a momentary group")
    has_status = not found["momentary"] and not found["assume_state"]
    reader.require(node, COMMANDS_KEYS, (*wanted, "status") if has_status else wanted)
    if not has_status:
        why = "momentary" if found["momentary"] else "assume_state"
        for name in ("status", "restart"):
            if getattr(commands, name):
                reader.refuse(node, f"has '{name}', which does not apply with '{why}'; remove one of the two")
        if "interval_seconds" in nodes:
            reader.refuse(nodes["interval_seconds"], f"does not apply with '{why}'; remove it")


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
                why = f"the restart switch's name {shown(name)} is too long"
                yield position.problem(f"{why}; at most {MOST_NAME} characters are allowed")


def _names(group: Group) -> dict[str, str]:
    """Return the group's names in the Home app by their spoken forms."""
    names = [group.name, group.restart_name] if group.restart else [group.name]
    return {values.spoken_form(name): name for name in names if group.name}


def _aid_problems(drafts: _Drafts) -> Iterator[Problem]:
    owners: dict[int, str] = {}
    for entry, group in drafts:
        for aid in (group.aid, group.restart_aid) if group.id else ():
            if aid in owners:
                why = f"{shown(group.id)} and {shown(owners[aid])} result in the same HomeKit accessory id"
                yield entry.key.position.problem(f"{why}; change one of these group ids")
            owners[aid] = group.id
