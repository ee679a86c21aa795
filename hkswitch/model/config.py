"""YAML text -> `Config`, or `ConfigError` with every problem. Pure: no I/O.

Root decides by what this says, so what is not known here is refused.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, TypeVar

from hkswitch.model import config_values as values
from hkswitch.model.config_values import MOST_NAME, Convert
from hkswitch.model.errors import ConfigError, Problem
from hkswitch.model.group import MOST_ACCESSORIES, AccessoryType, Argv, Commands, Group
from hkswitch.model.unit_state import Action, HelperTransport
from hkswitch.model.yaml_nodes import InvalidNode, Mapping, Node, Scalar, Sequence, read, shown

MOST_ITEMS: Final = 128

T = TypeVar("T")

_KEYS = ("bridge", "helper", "groups")
_BRIDGE_KEYS = ("name", "interface", "address", "port")
_GROUP_KEYS = (
    *("name", "units", "commands", "check", "type", "actions", "restart"),
    *("interval_seconds", "timeout_seconds"),
)
_COMMANDS_KEYS = ("start", "stop", "status", "restart")

STATUS_INTERVAL_SECONDS: Final = 5
_CHECK_INTERVAL_SECONDS: Final = 30
TIMEOUT_SECONDS: Final = 10


@dataclass(frozen=True, slots=True)
class BridgeConfig:
    """The bridge's name, and where it serves; by the default route if no interface or address is given."""

    name: str = "hkswitch"
    interfaces: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    port: int = 51826


@dataclass(frozen=True, slots=True)
class Config:
    """A config without problems. `groups` are in the file's order."""

    bridge: BridgeConfig
    groups: tuple[Group, ...]
    helper: HelperTransport = HelperTransport.SUDO

    def group(self, group_id: str) -> Group | None:
        """The group of this id, if there is one."""
        return next((group for group in self.groups if group.id == group_id), None)


def parse(data: bytes, file: str) -> Config:
    """The config in `data`; `file` is its name in problems.

    Raises:
        ConfigError: With all problems, in the file's order.
    """
    problems: list[Problem] = []
    config = _Reader(problems).config(read(data, problems))
    if problems:
        raise ConfigError(file, tuple(sorted(problems)))
    return config


@dataclass(frozen=True, slots=True)
class _Draft:
    """A group, and where its id and its name are written. A refused id or name is empty."""

    group: Group
    id: Node
    name: Node


class _Reader:
    """Takes values out of the tree. What is wrong is noted, and a default taken instead."""

    def __init__(self, problems: list[Problem]) -> None:
        self._problems = problems

    def config(self, root: Node) -> Config:
        keys = self._keys(root, _KEYS, ("groups",))
        bridge = self._bridge(keys["bridge"]) if "bridge" in keys else BridgeConfig()
        groups = self._groups(keys["groups"]) if "groups" in keys else ()
        return Config(
            bridge,
            groups,
            self._value(keys.get("helper"), values.one_of(HelperTransport), HelperTransport.SUDO),
        )

    def _bridge(self, node: Node) -> BridgeConfig:
        keys = self._keys(node, _BRIDGE_KEYS)
        if "interface" in keys and "address" in keys:
            self._refuse(keys["address"], "cannot stand beside 'interface'; keep one of the two")
        default = BridgeConfig()
        return BridgeConfig(
            name=self._value(keys.get("name"), values.name, default.name),
            interfaces=self._items(keys.get("interface"), values.interface, or_one=True),
            addresses=self._items(keys.get("address"), values.address, or_one=True),
            port=self._value(keys.get("port"), values.port, default.port),
        )

    def _groups(self, node: Node) -> tuple[Group, ...]:
        mapping = self._mapping(node)
        drafts = [self._group(key, value) for key, value in mapping.entries]
        accessories = sum(1 + draft.group.restart for draft in drafts)
        if mapping.sound and not drafts:
            self._refuse(node, "must have at least one group")
        if accessories > MOST_ACCESSORIES:
            why = f"makes {accessories} accessories, restart switches included"
            self._refuse(node, f"{why}; HomeKit allows at most {MOST_ACCESSORIES} behind a bridge")
        self._problems += [*_name_problems(drafts), *_aid_problems(drafts)]
        return tuple(draft.group for draft in drafts)

    def _group(self, key: Scalar, node: Node) -> _Draft:
        group_id = self._value(key, values.group_id, "")
        keys = self._keys(node, _GROUP_KEYS, ("units", "commands"))
        restart = self._value(keys.get("restart"), values.boolean, default=False)
        commands = self._commands(keys["commands"]) if "commands" in keys else None
        self._refuse_what_does_not_belong(keys)
        if restart and commands and not commands.restart:
            self._refuse(keys["restart"], "needs a command; add 'restart' to 'commands'")
        interval = STATUS_INTERVAL_SECONDS if commands else _CHECK_INTERVAL_SECONDS
        group = Group(
            id=group_id,
            name=self._value(keys.get("name"), values.name, "" if "name" in keys else _name_from(group_id)),
            units=self._items(keys.get("units"), values.unit),
            type=self._value(keys.get("type"), values.one_of(AccessoryType), AccessoryType.SWITCH),
            actions=self._actions(keys.get("actions"), restart=restart, commands=commands),
            restart=restart,
            commands=commands,
            check=self._argv(keys.get("check")),
            interval_seconds=self._value(keys.get("interval_seconds"), values.interval_seconds, interval),
            timeout_seconds=self._value(keys.get("timeout_seconds"), values.timeout_seconds, TIMEOUT_SECONDS),
        )
        return _Draft(group, key, keys.get("name", key))

    def _refuse_what_does_not_belong(self, keys: dict[str, Node]) -> None:
        if "units" in keys and "commands" in keys:
            self._refuse(keys["commands"], "cannot stand beside 'units'; keep one of the two")
        elif "check" in keys and "commands" in keys:
            self._refuse(keys["check"], "belongs to 'units'; a group of commands has 'status' for that")
        elif "check" not in keys and "commands" not in keys:
            for name in keys.keys() & {"interval_seconds", "timeout_seconds"}:
                self._refuse(keys[name], "is about commands; this group has no 'check' and no 'commands'")

    def _commands(self, node: Node) -> Commands:
        keys = self._keys(node, _COMMANDS_KEYS, ("start",), ("stop",), ("status",))
        return Commands(**{name: self._argv(keys.get(name)) for name in _COMMANDS_KEYS})

    def _argv(self, node: Node | None) -> Argv:
        """A program and its arguments; they may repeat, and be empty."""
        match node:
            case None:
                return ()
            case Sequence(items=(first, *others)):
                if len(others) >= MOST_ITEMS:
                    self._refuse(node, f"has {len(others) + 1} items; at most {MOST_ITEMS} are allowed")
                program = self._value(first, values.program, "")
                return program, *(self._value(other, values.argument, "") for other in others)
            case _:
                self._refuse(
                    node, "must be a list: a program and its arguments, like [/usr/bin/docker, start, web]"
                )
        return ()

    def _actions(self, node: Node | None, *, restart: bool, commands: Commands | None) -> frozenset[Action]:
        actions = frozenset(self._items(node, values.one_of(Action)))
        if node and actions and restart and Action.RESTART not in actions:
            self._refuse(node, "must list 'restart' too, because of 'restart: true'")
        if node and commands and not commands.restart and Action.RESTART in actions:
            self._refuse(node, "cannot list 'restart' without a command for it; add 'restart' to 'commands'")
        return actions or frozenset(Action if restart else {Action.START, Action.STOP})

    def _keys(self, node: Node, allowed: tuple[str, ...], *required: tuple[str, ...]) -> dict[str, Node]:
        """The values by their keys. Of each of `required`, one key must be there."""
        mapping = self._mapping(node)
        keys = {key.text: value for key, value in mapping.entries}
        unknown = [key for key, _ in mapping.entries if key.text not in allowed]
        for key in unknown:
            self._refuse(key, values.unknown("key", key.text, allowed))
        meant = keys.keys() | {values.closest(key.text, allowed) for key in unknown}
        for name, *others in required:
            if mapping.sound and not meant & {name, *others}:
                instead = f", or '{others[0]}' in its place" if others else ""
                self._refuse(node, f"the key '{name}' is missing; it is required{instead}")
        return keys

    def _mapping(self, node: Node) -> Mapping:
        match node:
            case Mapping():
                return node
            case Scalar(empty=True):
                return Mapping(node.position, (), sound=True)
        self._refuse(node, "must be a mapping, lines like 'key: value'")
        return Mapping(node.position, (), sound=False)

    def _items(self, node: Node | None, convert: Convert[T], *, or_one: bool = False) -> tuple[T, ...]:
        """All values of a list, or none if something is wrong with one."""
        match node:
            case None:
                return ()
            case Sequence(items=items) if items:
                return self._distinct(node, items, convert)
            case Sequence() | Scalar(empty=True):
                self._refuse(node, "must not be empty; list at least one")
            case Scalar() if or_one:
                return self._distinct(node, (node,), convert)
            case _:
                self._refuse(node, "must be a list, like [one, two]")
        return ()

    def _distinct(self, node: Node, items: tuple[Node, ...], convert: Convert[T]) -> tuple[T, ...]:
        if len(items) > MOST_ITEMS:
            self._refuse(node, f"has {len(items)} items; at most {MOST_ITEMS} are allowed")
        first: dict[T, Node] = {}
        for item in items:
            value = self._value(item, convert, None)
            if value is not None and first.setdefault(value, item) is not item:
                self._refuse(item, f"{shown(str(value))} is listed already; list it once")
        return tuple(first) if len(first) == len(items) else ()

    def _value(self, node: Node | None, convert: Convert[T], default: T) -> T:
        if isinstance(node, Scalar):
            try:
                return convert(node)
            except ValueError as error:
                self._refuse(node, str(error))
        elif node:
            self._refuse(node, "must be a single value, not a list or a mapping")
        return default

    def _refuse(self, node: Node, message: str) -> None:
        if not isinstance(node, InvalidNode):
            self._problems.append(node.position.problem(message))


def _name_from(group_id: str) -> str:
    return " ".join(word.capitalize() for word in group_id.split("-") if word)


# What groups must not share.


def _name_problems(drafts: Iterable[_Draft]) -> Iterator[Problem]:
    lines: dict[str, int] = {}
    for draft in drafts:
        names = _names(draft.group)
        if taken := next((name for name in names if name in lines), None):
            why = f"{shown(names[taken])} is taken by the group on line {lines[taken]}"
            yield draft.name.position.problem(f"{why}; Siri cannot tell the two apart")
        for heard, name in names.items():
            lines.setdefault(heard, draft.id.position.line)
            if len(name) > MOST_NAME:
                why = f"the restart switch's name {shown(name)} is too long"
                yield draft.name.position.problem(f"{why}; at most {MOST_NAME} characters are allowed")


def _names(group: Group) -> dict[str, str]:
    """The names that a group takes in the Home app, by what Siri hears of them."""
    names = [group.name, group.restart_name] if group.restart else [group.name]
    return {values.heard(name): name for name in names if group.name}


def _aid_problems(drafts: Iterable[_Draft]) -> Iterator[Problem]:
    owners: dict[int, str] = {}
    for draft in drafts:
        group = draft.group
        for aid in (group.aid, group.restart_aid) if group.id else ():
            if aid in owners:
                why = f"{shown(group.id)} and {shown(owners[aid])} make the same HomeKit accessory id"
                yield draft.id.position.problem(f"{why}; change one of these group ids")
            owners[aid] = group.id
