"""Converts YAML nodes to values by a table of keys, and reports every problem. Pure: no I/O.

The tables are in config_keys.py. An invalid value is reported, and the default of its key is used.
"""

from collections.abc import Callable
from typing import Any, Final, NamedTuple, TypeVar

from hkswitch.model.config_values import Convert, closest, program, unknown
from hkswitch.model.config_values import argument as argument_of
from hkswitch.model.errors import Problem
from hkswitch.model.group import Argv
from hkswitch.model.yaml_nodes import InvalidNode, Mapping, Node, Scalar, Sequence, shown

MOST_LIST_ITEMS: Final = 128

T = TypeVar("T")


class ListOf(NamedTuple):
    """A list of distinct values; `or_one` also allows a single value in place of a list of one."""

    convert: Convert[Any]
    or_one: bool = False


class CommandLine(NamedTuple):
    """A program and its arguments."""


class Section(NamedTuple):
    """A mapping with keys of its own; `make` receives their values as keyword arguments."""

    keys: tuple["Key", ...]
    make: Callable[..., Any] = dict


class Entries(NamedTuple):
    """A mapping from ids to sections."""

    convert_id: Convert[str]
    keys: tuple["Key", ...]
    noun: str
    """The word for an entry, such as `group`."""


class Key(NamedTuple):
    """A config key: everything that the parser and the documentation know about it.

    `kind` is a function if the value is a single one. The example file and the manual page print `text`, and
    `default_text`: the default in words, for a default that needs an explanation.
    """

    name: str
    kind: Convert[Any] | ListOf | CommandLine | Section | Entries
    text: str
    default: Any = ()
    default_text: str = ""
    required: bool = False
    instead_of: str = ""
    """An earlier key that this one replaces; the two cannot be combined."""
    beside: str = ""
    """A required key that may be missing if this one is present; the two can be combined."""
    only_with: tuple[str, ...] = ()
    """The key applies only if one of these is present."""
    remedy: str = "add that or remove this key"
    """The remedy if none of them is present."""
    field: str = ""
    """The field of the value class, if it has another name."""


class SectionContent(NamedTuple):
    """A section's values by field name, and the nodes of the keys that are present."""

    values: dict[str, Any]
    nodes: dict[str, Node]


class Entry(NamedTuple):
    """One of `Entries`; an invalid id is empty."""

    id: str
    key: Scalar
    content: SectionContent


class Reader:
    """A converter of nodes to values, which adds every problem to `problems`."""

    def __init__(self, problems: list[Problem]) -> None:
        self._problems = problems

    def refuse(self, node: Node, message: str) -> None:
        """Report a problem with `node`, unless one has already been reported."""
        if not isinstance(node, InvalidNode):
            self._problems.append(node.position.problem(message))

    def section(self, node: Node, keys: tuple[Key, ...]) -> SectionContent:
        """Read a mapping that may have these keys."""
        mapping = self._mapping(node)
        nodes = {key.text: value for key, value in mapping.entries}
        names = tuple(key.name for key in keys)
        unknown_keys = [key for key, _ in mapping.entries if key.text not in names]
        for key in unknown_keys:
            self.refuse(key, unknown("key", key.text, names))
        if mapping.sound:
            meant = nodes.keys() | {closest(key.text, names) for key in unknown_keys}
            meant |= self._note_missing(node, keys, meant)
            self._note_misplaced(keys, nodes, meant)
        self._note_conflicts(keys, nodes)
        return SectionContent(
            {key.field or key.name: self._read(nodes.get(key.name), key) for key in keys}, nodes
        )

    def missing(self, node: Node, keys: tuple[Key, ...], names: set[str]) -> list[Key]:
        """Return the keys of these names that a section lacks, for rules that involve several sections."""
        known = tuple(key.name for key in keys)
        meant = {closest(key.text, known) for key, _ in node.entries} if isinstance(node, Mapping) else set()
        is_readable = node.sound if isinstance(node, Mapping) else isinstance(node, Scalar) and node.empty
        return [key for key in keys if key.name in names - meant] if is_readable else []

    def _note_missing(self, node: Node, keys: tuple[Key, ...], meant: set[str]) -> set[str]:
        """Report missing required keys, and return them."""
        missing = set()
        for key in (key for key in keys if key.required):
            others = [other.name for other in keys if key.name in {other.instead_of, other.beside}]
            if not meant & {key.name, *others}:
                missing.add(key.name)
                instead = f", or {_either(others)} in its place" if others else ""
                self.refuse(node, f"the key '{key.name}' is missing; it is required{instead}")
        return missing

    def _note_misplaced(self, keys: tuple[Key, ...], nodes: dict[str, Node], meant: set[str]) -> None:
        for key in keys:
            if key.name in nodes and key.only_with and not meant & {*key.only_with}:
                self.refuse(nodes[key.name], f"applies only with {_either(key.only_with)}; {key.remedy}")

    def _note_conflicts(self, keys: tuple[Key, ...], nodes: dict[str, Node]) -> None:
        present = [key for key in keys if key.name in nodes]
        for key in present:
            rivals = [other.name for other in present if key.instead_of in {other.name, other.beside}]
            if key.instead_of and rivals:
                self.refuse(nodes[key.name], f"cannot be combined with '{rivals[0]}'; keep one of the two")

    def _read(self, node: Node | None, key: Key) -> Any:  # noqa: ANN401 -- each key has its own type
        match key.kind:
            case _ if node is None:
                return key.default
            case ListOf(convert, or_one):
                return self._items(node, convert, or_one=or_one)
            case CommandLine():
                return self._argv(node)
            case Section(keys, make):
                return make(**self.section(node, keys).values)
            case Entries():
                return self._entries(node, key.kind)
            case convert:
                return self.value(node, convert, key.default)

    def _entries(self, node: Node, kind: Entries) -> tuple[Entry, ...]:
        mapping = self._mapping(node)
        if mapping.sound and not mapping.entries:
            self.refuse(node, f"must have at least one {kind.noun}, indented below it")
        return tuple(
            Entry(self.value(key, kind.convert_id, ""), key, self.section(value, kind.keys))
            for key, value in mapping.entries
        )

    def _argv(self, node: Node) -> Argv:
        """Return a program and its arguments; arguments may repeat, and may be empty."""
        match node:
            case Sequence(items=(first, *others)):
                if len(others) >= MOST_LIST_ITEMS:
                    self.refuse(node, f"has {len(others) + 1} items; at most {MOST_LIST_ITEMS} are allowed")
                return self.value(first, program, ""), *(
                    self.value(other, argument_of, "") for other in others
                )
            case _:
                rule = "a program and its arguments, like [/usr/bin/docker, start, web]"
                self.refuse(node, f"must be a list: {rule}")
        return ()

    def _mapping(self, node: Node) -> Mapping:
        match node:
            case Mapping():
                return node
            case Scalar(empty=True):
                return Mapping(node.position, (), sound=True)
        self.refuse(node, "must be a mapping, lines like 'key: value', with the space")
        return Mapping(node.position, (), sound=False)

    def _items(self, node: Node, convert: Convert[T], *, or_one: bool) -> tuple[T, ...]:
        """Return all values of a list, or none if one of them is invalid."""
        match node:
            case Sequence(items=items) if items:
                return self._distinct(node, items, convert)
            case Sequence() | Scalar(empty=True):
                self.refuse(node, "must not be empty; list at least one")
            case Scalar() if or_one:
                return self._distinct(node, (node,), convert)
            case _:
                self.refuse(node, "must be a list, like [one, two]")
        return ()

    def _distinct(self, node: Node, items: tuple[Node, ...], convert: Convert[T]) -> tuple[T, ...]:
        if len(items) > MOST_LIST_ITEMS:
            self.refuse(node, f"has {len(items)} items; at most {MOST_LIST_ITEMS} are allowed")
        first: dict[T, Node] = {}
        for item in items:
            value = self.value(item, convert, None)
            if value is not None and first.setdefault(value, item) is not item:
                self.refuse(item, f"{shown(str(value))} is already listed; list it once")
        return tuple(first) if len(first) == len(items) else ()

    def value(self, node: Node, convert: Convert[T], default: T) -> T:
        """Convert a single value, or report the problem and return `default`."""
        if isinstance(node, Scalar):
            try:
                return convert(node)
            except ValueError as error:
                self.refuse(node, str(error))
        else:
            self.refuse(node, "must be a single value, not a list or a mapping")
        return default


def _either(names: list[str] | tuple[str, ...]) -> str:
    return " or ".join(f"'{name}'" for name in names)
