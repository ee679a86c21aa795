"""YAML text -> `Config`, or `ConfigError` with every problem. Pure: no I/O.

Root decides by what this says, so what is not known here is refused.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from ipaddress import ip_address
from typing import TypeVar

from hkswitch.core.errors import ConfigError, Problem
from hkswitch.core.model import MOST_ACCESSORIES, AccessoryType, Action, Group
from hkswitch.core.yamltree import Mapping, Node, Refused, Scalar, Sequence, not_text, read, shown

MOST_ITEMS = 128
MOST_NAME = 64
MOST_BRIDGE_NAME_BYTES = 56

T = TypeVar("T")
Convert = Callable[[Scalar], T]
Choice = TypeVar("Choice", AccessoryType, Action)

_KEYS = ("bridge", "groups")
_BRIDGE_KEYS = ("name", "interface", "address", "port")
_GROUP_KEYS = ("name", "units", "type", "actions", "restart")

_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
_NAME = re.compile(r"[^\W_](([^\W_]|[ ']){0,62}[^\W_])?")  # Apple's rule
_PORT = re.compile(r"[1-9][0-9]{3,4}")
_INTERFACE = re.compile(r"(?!\.\.?$)[!-.0-~]{1,15}")
_UNIT = re.compile(r"[A-Za-z0-9:_.\\@-]{1,255}")
_SUFFIXES = (".service", ".socket", ".target", ".timer", ".mount", ".automount", ".swap", ".path", ".slice")
_UNSTARTABLE = (".device", ".scope")


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
        keys = self._keys(root, _KEYS, required="groups")
        bridge = self._bridge(keys["bridge"]) if "bridge" in keys else BridgeConfig()
        return Config(bridge, self._groups(keys["groups"]) if "groups" in keys else ())

    def _bridge(self, node: Node) -> BridgeConfig:
        keys = self._keys(node, _BRIDGE_KEYS)
        if "interface" in keys and "address" in keys:
            self._refuse(keys["address"], "cannot stand beside 'interface'; keep one of the two")
        default = BridgeConfig()
        return BridgeConfig(
            name=self._value(keys.get("name"), _bridge_name, default.name),
            interfaces=self._items(keys.get("interface"), _interface, or_one=True),
            addresses=self._items(keys.get("address"), _address, or_one=True),
            port=self._value(keys.get("port"), _port, default.port),
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
        group_id = self._value(key, _group_id, "")
        keys = self._keys(node, _GROUP_KEYS, required="units")
        restart = self._value(keys.get("restart"), _boolean, default=False)
        group = Group(
            id=group_id,
            name=self._value(keys.get("name"), _name, "" if "name" in keys else _name_from(group_id)),
            units=self._items(keys.get("units"), _unit),
            type=self._value(keys.get("type"), _one_of(AccessoryType), AccessoryType.SWITCH),
            actions=self._actions(keys.get("actions"), restart=restart),
            restart=restart,
        )
        return _Draft(group, key, keys.get("name", key))

    def _actions(self, node: Node | None, *, restart: bool) -> frozenset[Action]:
        actions = frozenset(self._items(node, _one_of(Action)))
        if node and actions and restart and Action.RESTART not in actions:
            self._refuse(node, "must list 'restart' too, because of 'restart: true'")
        return actions or frozenset(Action if restart else {Action.START, Action.STOP})

    def _keys(self, node: Node, allowed: tuple[str, ...], required: str = "") -> dict[str, Node]:
        mapping = self._mapping(node)
        keys = {key.text: value for key, value in mapping.entries}
        unknown = [key for key, _ in mapping.entries if key.text not in allowed]
        for key in unknown:
            self._refuse(key, _unknown("key", key.text, allowed))
        meant = {_closest(key.text, allowed) for key in unknown}
        if required and mapping.sound and required not in keys.keys() | meant:
            self._refuse(node, f"the key '{required}' is missing; it is required")
        return keys

    def _mapping(self, node: Node) -> Mapping:
        match node:
            case Mapping():
                return node
            case Scalar(empty=True):
                return Mapping(node.place, (), sound=True)
        self._refuse(node, "must be a mapping, lines like 'key: value'")
        return Mapping(node.place, (), sound=False)

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
        if not isinstance(node, Refused):
            self._problems.append(node.place.problem(message))


# What a single value may be: each takes it as it is written, and raises ValueError with what is wrong.


def _text(scalar: Scalar) -> str:
    if not scalar.is_text:
        raise ValueError(not_text(scalar))
    return scalar.text


def _like(pattern: re.Pattern[str], what: str, rule: str) -> Convert[str]:
    def convert(scalar: Scalar) -> str:
        text = _text(scalar)
        if not pattern.fullmatch(text):
            raise ValueError(f"{shown(text)} is not {what}; {rule}")
        return text

    return convert


_group_id = _like(_ID, "a group id", "at most 64 of a-z, 0-9 and '-' are allowed, and no '-' first")
_interface = _like(_INTERFACE, "an interface", "at most 15 characters without slashes and spaces are allowed")
_apple = "letters, digits, spaces and apostrophes are allowed, and a letter or digit first and last"
_name = _like(_NAME, "a name", f"at most {MOST_NAME} {_apple}")


def _bridge_name(scalar: Scalar) -> str:
    """A name that leaves room in an mDNS label (RFC 6763, 7.2): HAP-python adds seven characters."""
    name = _name(scalar)
    if len(name.encode()) > MOST_BRIDGE_NAME_BYTES:
        raise ValueError(f"{shown(name)} is too long; at most {MOST_BRIDGE_NAME_BYTES} bytes are allowed")
    return name


def _unit(scalar: Scalar) -> str:
    """A full unit name by systemd.unit(5): what has no known suffix is a service."""
    text = _text(scalar)
    if text.endswith(_UNSTARTABLE):
        raise ValueError(f"{shown(text)} cannot be started; the types allowed are {', '.join(_SUFFIXES)}")
    unit = text if text.endswith(_SUFFIXES) else f"{text}.service"
    stem, _, kind = unit.rpartition(".")
    prefix, at, instance = stem.partition("@")
    if not (prefix and _UNIT.fullmatch(unit)):
        rule = r"at most 255 letters, digits and :_.\@- are allowed"
        raise ValueError(f"{shown(text)} is not a unit; {rule}, and something before '@' and the suffix")
    if at and not instance:
        raise ValueError(
            f"{shown(text)} is a template; name an instance, like {shown(f'{prefix}@one.{kind}')}"
        )
    return unit


def _address(scalar: Scalar) -> str:
    text = _text(scalar)
    _, percent, scope = text.partition("%")
    try:
        address = ip_address(text)
    except ValueError:
        address = None
    if not address or (percent and not _INTERFACE.fullmatch(scope)):
        rule = "IPv4 and IPv6 ones are allowed, like 192.168.1.10 and fe80::1%eth0"
        raise ValueError(f"{shown(text)} is not an address; {rule}")
    if address.is_unspecified or address.is_multicast:
        raise ValueError(f"{shown(text)} is not an address of a host")
    if address.version == 6 and address.is_link_local and not percent:
        hint = f"write it with its interface, like {shown(f'{address}%eth0')}"
        raise ValueError(f"{shown(text)} is an address on every link; {hint}")
    if percent and not address.is_link_local:
        raise ValueError(f"{shown(text)} needs no interface; write {shown(text.partition('%')[0])}")
    return str(address)


def _port(scalar: Scalar) -> int:
    port = int(scalar.text) if not scalar.is_text and _PORT.fullmatch(scalar.text) else 0
    if not 1024 <= port <= 65535:
        raise ValueError("must be a number from 1024 to 65535, in plain digits without quotes")
    return port


def _boolean(scalar: Scalar) -> bool:
    if not scalar.is_text and scalar.text in {"true", "false"}:
        return scalar.text == "true"
    word = scalar.text.lower()
    meant = "true" if word in {"true", "yes", "on"} else "false" if word in {"false", "no", "off"} else ""
    hint = f"; write {meant}, in small letters and without quotes" if meant else ""
    raise ValueError(f"must be true or false{hint}")


def _one_of(kind: type[Choice]) -> Convert[Choice]:
    def convert(scalar: Scalar) -> Choice:
        choices = {member.value: member for member in kind}
        text = _text(scalar)
        if text not in choices:
            raise ValueError(_unknown("value", text, tuple(choices)))
        return choices[text]

    return convert


def _unknown(what: str, text: str, allowed: tuple[str, ...]) -> str:
    close = _closest(text, allowed)
    hint = f"did you mean {shown(close)}?" if close else f"allowed are {', '.join(allowed)}"
    return f"unknown {what} {shown(text)}; {hint}"


def _closest(text: str, allowed: tuple[str, ...]) -> str:
    return next(iter(get_close_matches(text, allowed, n=1)), "")


def _name_from(group_id: str) -> str:
    return " ".join(word.capitalize() for word in group_id.split("-") if word)


# What groups must not share.


def _name_problems(drafts: Iterable[_Draft]) -> Iterator[Problem]:
    lines: dict[str, int] = {}
    for draft in drafts:
        names = _names(draft.group)
        if taken := next((heard for heard in names if heard in lines), None):
            why = f"{shown(names[taken])} is taken by the group on line {lines[taken]}"
            yield draft.name.place.problem(f"{why}; Siri cannot tell the two apart")
        for heard, name in names.items():
            lines.setdefault(heard, draft.id.place.line)
            if len(name) > MOST_NAME:
                why = f"the restart switch's name {shown(name)} is too long"
                yield draft.name.place.problem(f"{why}; at most {MOST_NAME} characters are allowed")


def _names(group: Group) -> dict[str, str]:
    """The names that a group takes in the Home app, by what Siri hears of them."""
    names = [group.name, group.restart_name] if group.restart else [group.name]
    return {" ".join(name.casefold().split()): name for name in names if group.name}


def _aid_problems(drafts: Iterable[_Draft]) -> Iterator[Problem]:
    owners: dict[int, str] = {}
    for draft in drafts:
        group = draft.group
        for aid in (group.aid, group.restart_aid) if group.id else ():
            if aid in owners:
                why = f"{shown(group.id)} and {shown(owners[aid])} make the same HomeKit accessory id"
                yield draft.id.place.problem(f"{why}; change one of these group ids")
            owners[aid] = group.id
