"""The rules that every parser follows for every input, from any generator."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, is_dataclass
from functools import cache, reduce
from operator import itemgetter, or_
from types import UnionType
from typing import Any, Protocol, get_args, get_origin, get_type_hints
from unittest.mock import patch

import yaml

from hkswitch.model.config import Config
from hkswitch.model.config import parse as parse_config
from hkswitch.model.errors import ConfigError, Exit, Problem
from hkswitch.model.group import MOST_ACCESSORIES, Group
from hkswitch.model.printable import LONGEST_PRINTED, printable_line
from hkswitch.model.unit_state import Action
from hkswitch.protocol.control import (
    encode_control_reply,
    encode_control_request,
    parse_control_reply,
    parse_control_request,
)
from hkswitch.protocol.helper import encode_message, parse_request
from hkswitch.protocol.helper_replies import LONGEST_SUB_STATE, LONGEST_VERSION, parse_reply
from hkswitch.protocol.json_lines import LARGEST_ID, MalformedMessage
from hkswitch.protocol.report import LONGEST_SUB_OF_ANOTHER_HOST
from hkswitch.serviceswitch.policy import Allowed, Denied, permit

FILE = "config.yaml"

ID = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
UNIT = re.compile(
    r"(?=.{1,255}\Z)[A-Za-z0-9:_.\\-]+(@[A-Za-z0-9:_.\\@-]+)?"
    r"\.(service|socket|target|timer|mount|automount|swap|path|slice)"
)
PROGRAM = re.compile(r"(/[^/]+)+")
ODD_IDS = ("", "web", "groups", "/etc/passwd", "ssh.service", "web\n", "\0", "\ud800", "\x1b[2J")


class Pairs(list[tuple[str, object]]):
    """The keys and values of an object, in order."""


def is_same(one: object, other: object) -> bool:
    """Whether what was `one` may become `other`: only a word of a newer systemd may be lost.

    Of the text of a helper, what cannot be printed may be lost, and what is too long.
    """
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(is_same, one, other))
    if isinstance(one, str) and isinstance(other, str) and one != other:
        limits = LONGEST_PRINTED, LONGEST_SUB_STATE, LONGEST_SUB_OF_ANOTHER_HOST, LONGEST_VERSION
        return other == "unknown" or other in {printable_line(one, longest) for longest in limits}
    return type(one) is type(other) and one == other


NEWER_KEYS = {
    *("protocol", "commands", "why", "config", "assumed", "momentary", "identity", "network"),
    *("pairing_refused", "storage", "trouble", "trouble_since_unix_seconds", "rule"),
}
"""What an older program does not write, and a newer one takes for its default."""


def is_understood(one: object, other: object) -> bool:
    """The same for what another version wrote: keys, words and exit codes of a newer one may be lost."""
    if isinstance(one, Pairs) and isinstance(other, Pairs):
        before = dict(one)
        if before.get("type") == "group" and not _is_known_group(before, dict(other)):
            return False
        ignored = KEYS_OF_A_GROUP if before.get("type") == "group" else set[str]()
        return all(
            key in NEWER_KEYS | ignored
            if key not in before
            else key in ignored
            or is_understood(before[key], value)
            or (key, value) == ("exit_code", Exit.UNAVAILABLE)
            for key, value in other
        )
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(is_understood, one, other))
    return is_same(one, other)


KEYS_OF_A_GROUP = {"actions", "traits", "timeout_seconds"}
"""Those of a group that count together, or not at all: an older helper tells none of them."""


def _is_known_group(before: dict[str, object], after: dict[str, object]) -> bool:
    """Whether of what a group is, nothing was added: what only a newer helper knows may be lost."""
    if before.get("traits") is None:
        return (after["actions"], after["traits"]) == ([], None)
    lists = [(before[key], after[key]) for key in ("actions", "traits")]
    are_kept = all(isinstance(old, list) and isinstance(new, list) and {*new} <= {*old} for old, new in lists)
    return are_kept and before["timeout_seconds"] == after["timeout_seconds"]


class Rule(Protocol):
    """A rule: raises where the parser breaks it, and returns whether the parser accepted the input."""

    def __call__(self, data: bytes, /) -> bool: ...


@dataclass(frozen=True)
class Lines:
    """A parser of lines: what it takes is one of `kinds`, with all that was written, and stays so.

    `keeps`: whether what was written may become what is written of it. What the parser takes for a message of
    a newer version, None, may be anything.
    """

    parse: Callable[[bytes], Any]
    encode: Callable[[Any], bytes]
    kinds: Any
    keeps: Callable[[object, object], bool] = is_same

    def __call__(self, line: bytes, /) -> bool:
        try:
            message = self.parse(line)
        except MalformedMessage as error:
            require(str(error) and str(error).isprintable(), error)
            require(error.request_id is None or 1 <= error.request_id <= LARGEST_ID, error.request_id)
            return False
        if message is None and self.keeps is is_understood:
            return False
        require(is_one(message, self.kinds), message)
        encoded = self.encode(message)
        require(encoded.find(b"\n") == len(encoded) - 1, encoded)
        require(self.parse(encoded) == message, message)
        require(self.keeps(written(line), written(encoded)), message)
        return True


@dataclass(frozen=True)
class Configs:
    """A parser of configs: what it accepts is harmless, and what it refuses has problems with positions."""

    parse: Callable[[bytes, str], Config]

    def __call__(self, data: bytes, /) -> bool:
        try:
            config = self.parse(data, FILE)
        except ConfigError as error:
            require(error.exit_code == Exit.CONFIG and str(error).startswith(f"{FILE}:"), error)
            require(list(error.problems) == sorted(error.problems) != [], error.problems)
            lines = data.replace(b"\r\n", b"\n").split(b"\n")
            for problem in error.problems:
                require(is_in(problem, lines) and str(problem).isprintable() and problem.message, problem)
            return False
        is_harmless(config)
        return True


@dataclass(frozen=True)
class Backends:
    """Both of PyYAML's parsers: what both take is the same. libyaml refuses more, like `{units:[a]}`."""

    parse: Callable[[bytes, str], Config]

    def __call__(self, data: bytes, /) -> bool:
        libyaml = self.outcome(data)
        with patch.object(yaml, "CSafeLoader", yaml.SafeLoader, create=True):
            python = self.outcome(data)
        require(None in {libyaml, python} or libyaml == python, (libyaml, python))
        return bool(libyaml and python)

    def outcome(self, data: bytes) -> Config | None:
        return self.parse(data, FILE) if Configs(self.parse)(data) else None


def require(holds: object, what: object) -> None:
    """Assert `holds`, with a message that does not need pytest."""
    if not holds:
        raise AssertionError(f"not as documented: {what!r}")


def is_one(value: object, kind: object) -> bool:
    """Whether it is exactly of this type, with all of its parts: true is no number."""
    if isinstance(kind, UnionType):
        return any(is_one(value, each) for each in get_args(kind))
    if get_origin(kind) is tuple:
        return isinstance(value, tuple) and all(is_one(each, get_args(kind)[0]) for each in value)
    if get_origin(kind) is Mapping:
        keys, values = get_args(kind)
        return isinstance(value, dict) and all(
            is_one(key, keys) and is_one(value[key], values) for key in value
        )
    parts = _hints(kind) if is_dataclass(kind) or hasattr(kind, "_fields") else {}
    return type(value) is kind and all(is_one(getattr(value, name), part) for name, part in parts.items())


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def written(line: bytes) -> object:
    """The JSON in a line, with all keys of its objects, in order."""
    return json.loads(line, object_pairs_hook=lambda pairs: Pairs(sorted(pairs, key=itemgetter(0))))


def is_in(problem: Problem, lines: list[bytes]) -> bool:
    """Whether its place is one in the file, or right after a line of it, or the line after the last one."""
    if problem.line == len(lines) + 1:  # libyaml's end of a file that does not end with its last line
        return problem.column == 1
    return 1 <= problem.line <= len(lines) and 1 <= problem.column <= characters(lines[problem.line - 1]) + 1


def characters(line: bytes) -> int:
    return len(line.decode(errors="replace"))


def is_harmless(config: Config) -> None:
    """Whether root could do by it what it says, and nothing else."""
    ids = [group.id for group in config.groups]
    require(ids and len(ids) == len(set(ids)), ids)
    require(sum(1 + group.restart for group in config.groups) <= MOST_ACCESSORIES, ids)
    require(1024 <= config.bridge.port <= 65535, config.bridge)
    require(config.bridge.name.isprintable() and config.bridge.name, config.bridge)
    require(not config.bridge.interfaces or not config.bridge.addresses, config.bridge)
    require(not any("/" in each or not each.isascii() for each in config.bridge.interfaces), config.bridge)
    for group in config.groups:
        group_is_harmless(group)
    for action in Action:
        for group_id in (*ids, *ODD_IDS):
            meant = config.group(group_id)
            for token in (None, "", meant.token if meant else "x"):
                said = permit(action, group_id, token, config)
                require(isinstance(said, Allowed | Denied), said)
                may = meant and action in meant.actions and token in (None, meant.token)
                require(isinstance(said, Allowed) == bool(may), said)


def group_is_harmless(group: Group) -> None:
    require(ID.fullmatch(group.id), group)
    require(group.name.isprintable() and group.name.strip() == group.name != "", group)
    require(group.actions and (not group.restart or Action.RESTART in group.actions), group)
    require(bool(group.units) != bool(group.commands), group)
    require(len(group.units) == len(set(group.units)), group)
    require(all(UNIT.fullmatch(unit) for unit in group.units), group)
    for argv in argvs(group):
        require(PROGRAM.fullmatch(argv[0]) and not {".", ".."} & set(argv[0].split("/")), group)
        require(all(word.isprintable() for word in argv), group)
    require(group.interval_seconds >= 1 and group.timeout_seconds >= 1, group)


def argvs(group: Group) -> Iterator[tuple[str, ...]]:
    """Yield every command of a group."""
    if group.commands:
        require(group.commands.start and group.commands.stop and group.commands.status, group)
        require(Action.RESTART not in group.actions or group.commands.restart, group)
    for argv in (group.check, *(group.commands or ())):
        if argv:
            yield argv


def _lines(
    parse: Callable[[bytes], Any],
    encode: Callable[[Any], bytes],
    keeps: Callable[[object, object], bool] = is_same,
) -> Lines:
    returned = get_type_hints(parse)["return"]
    kinds = [kind for kind in get_args(returned) if kind is not type(None)]
    return Lines(parse, encode, reduce(or_, kinds) if kinds else returned, keeps)


LINES = {
    "request": _lines(parse_request, encode_message),
    "reply": _lines(parse_reply, encode_message, is_understood),
    "question": _lines(parse_control_request, encode_control_request),
    "answer": _lines(parse_control_reply, encode_control_reply, is_understood),
}
CONFIGS: dict[str, Rule] = {"config": Configs(parse_config), "backends": Backends(parse_config)}
RULES: dict[str, Rule] = {**LINES, **CONFIGS}
