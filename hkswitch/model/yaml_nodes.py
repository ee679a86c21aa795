"""Parses YAML text into a tree of nodes with their lines and columns. Pure: no I/O.

Only this module uses PyYAML, so that root and the daemon cannot interpret a file differently. It accepts only
plain YAML: no aliases, anchors, tags, merge keys, duplicate keys or second documents. It reads
PyYAML's events, which are flat, so that nothing recurses before the depth is checked.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import yaml
from yaml.resolver import Resolver

from hkswitch.model.errors import Problem
from hkswitch.model.printable import is_printable

MOST_CONFIG_BYTES = 1 << 20
MOST_LEVELS = 8
MOST_INVISIBLE = 100
HIDDEN = "\ue000"
"""Stands in for a rejected invisible character, so that the rest can be parsed."""

_RESOLVER = Resolver()
_LAYOUT = frozenset("\t\r\x85\u2028\u2029")  # with these, lines and indentation are ambiguous

_LIKELY_CAUSES = {
    "expected key": "the indentation differs from that of the keys above",
    "<block end>": "the indentation differs from that of the keys above",  # PyYAML without libyaml
    "mapping values": "two keys in one line, or a ':' or the space after it is missing above",
    "expected ','": "a comma or a closing bracket is missing",
    "unexpected end": "a closing quotation mark is missing",
}


@dataclass(frozen=True, slots=True)
class Position:
    """The position of a value. `line` and `column` count from 1; `path` looks like `groups.web.units[0]`."""

    line: int
    column: int
    path: str = ""

    def problem(self, message: str) -> Problem:
        """Return a problem at this position."""
        return Problem(self.line, self.column, self.path, message)


@dataclass(frozen=True, slots=True)
class Node:
    """A value and its position."""

    position: Position


@dataclass(frozen=True, slots=True)
class InvalidNode(Node):
    """A value whose problem has already been reported; readers ignore it."""


@dataclass(frozen=True, slots=True)
class Scalar(Node):
    """A single value as written. Unless `is_text`, it is a number, a boolean, a date or null in YAML."""

    text: str
    is_text: bool

    @property
    def empty(self) -> bool:
        """Whether there is no value at all, as in `key:`."""
        return not self.text and not self.is_text


@dataclass(frozen=True, slots=True)
class Sequence(Node):
    """A list."""

    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Mapping(Node):
    """Keys and values in the file's order. Keys are text and distinct.

    Unless `sound`, a key was rejected, so a key that seems to be missing may be present.
    """

    entries: tuple[tuple[Scalar, Node], ...]
    sound: bool


def read(data: bytes, problems: list[Problem]) -> Node:
    """Return the tree in `data`, or an empty scalar if there is none; adds every problem to `problems`."""
    try:
        text = _decoded(data, problems)
        if not _LAYOUT.isdisjoint(text):
            return InvalidNode(Position(1, 1))
        events = yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        return _Builder(events, problems).document()
    except _Unreadable as error:
        problem = error.problem
    except (yaml.YAMLError, ValueError, OverflowError) as error:  # the last two for "\UFFFFFFFF"
        problem = _syntax_problem(error)
    problems.append(problem)
    return InvalidNode(Position(1, 1))


def shown(text: str) -> str:
    """Return `text` quoted, shortened and without control characters, for a terminal or a log."""
    return repr(_short(text))


def not_text(scalar: Scalar) -> str:
    """Return the error message for a scalar that must be text but is not."""
    return "must not be empty" if scalar.empty else f'must be text; put it in quotes: "{_short(scalar.text)}"'


def _short(text: str) -> str:
    return text if len(text) <= 64 else f"{text[:63]}…"


class _Unreadable(Exception):
    """A problem after which the rest cannot be read."""

    def __init__(self, position: Position, message: str) -> None:
        super().__init__(message)
        self.problem = position.problem(message)


def _decoded(data: bytes, problems: list[Problem]) -> str:
    """Decode the text; report invisible characters, up to a limit, and replace them with `HIDDEN`."""
    if len(data) > MOST_CONFIG_BYTES:
        raise _Unreadable(
            Position(1, 1), f"the file is too large; at most {MOST_CONFIG_BYTES} bytes are allowed"
        )
    try:
        text = data.decode().replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        message = "this is not UTF-8; save the file as UTF-8"
        raise _Unreadable(_end(data[: error.start].decode()), message) from None
    if is_printable(text.replace("\n", "")):
        return text
    refused = (index for index, char in enumerate(text) if char != "\n" and not is_printable(char))
    for index in islice(refused, MOST_INVISIBLE):  # PyYAML and libyaml disagree on where a tab may be
        what = "a tab" if text[index] == "\t" else f"the invisible character U+{ord(text[index]):04X}"
        problems.append(_end(text[:index]).problem(f"{what} is not allowed; remove it or use spaces"))
    shown = (c if c == "\n" or c in _LAYOUT or is_printable(c) else HIDDEN for c in text)
    return "".join(shown) if problems else text


def _end(text: str) -> Position:
    """Return the position of the character after `text`."""
    return Position(text.count("\n") + 1, len(text) - text.rfind("\n"))


def _start(event: yaml.Event, path: str = "") -> Position:
    mark = event.start_mark
    return Position(mark.line + 1, mark.column + 1, path) if mark else Position(1, 1, path)


def _syntax_problem(error: Exception) -> Problem:
    """Return the likely cause and PyYAML's message as a problem."""
    if not (isinstance(error, yaml.MarkedYAMLError) and (mark := error.problem_mark)):
        return Position(1, 1).problem(f"not valid YAML: {error}")
    words = " ".join(part for part in (error.problem, error.context) if part)
    meant = next((f"{cause} ({words})" for part, cause in _LIKELY_CAUSES.items() if part in words), words)
    return Position(mark.line + 1, mark.column + 1).problem(f"not valid YAML: {meant}")


class _Builder:
    """A builder of nodes from events, which reports problems on the way."""

    def __init__(self, events: Iterator[yaml.Event], problems: list[Problem]) -> None:
        self._events = events
        self._problems = problems

    def document(self) -> Node:
        root: Node | None = None
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                if root:
                    raise _Unreadable(_start(event), "only one document is allowed; remove '---'")
                root = self._node(next(self._events), path="", level=1)
        return root or Scalar(Position(1, 1), text="", is_text=False)

    def _node(self, event: yaml.Event, path: str, level: int) -> Node:
        position = _start(event, path)
        if isinstance(event, yaml.CollectionStartEvent) and level > MOST_LEVELS:
            raise _Unreadable(position, f"nested too deeply; at most {MOST_LEVELS} levels are allowed")
        if notation := _forbidden(event):
            message = f"{shown(notation)} is not allowed; write the value without anchors, aliases and tags"
            self._problems.append(position.problem(message))
        node = self._value(event, position, level)
        return InvalidNode(position) if getattr(event, "tag", None) else node

    def _value(self, event: yaml.Event, position: Position, level: int) -> Node:
        match event:
            case yaml.ScalarEvent() if self._problems and HIDDEN in event.value:
                return InvalidNode(position)
            case yaml.ScalarEvent():
                return Scalar(
                    position, event.value, is_text=bool(event.style) or _resolves_to_text(event.value)
                )
            case yaml.SequenceStartEvent():
                return Sequence(position, tuple(self._items(position.path, level + 1)))
            case yaml.MappingStartEvent():
                return self._mapping(position, level + 1)
        return InvalidNode(position)  # an alias

    def _items(self, path: str, level: int) -> Iterator[Node]:
        for index, event in enumerate(self._until_the_end()):
            yield self._node(event, f"{path}[{index}]", level)

    def _mapping(self, position: Position, level: int) -> Mapping:
        entries: dict[str, tuple[Scalar, Node]] = {}
        sound = True
        for event in self._until_the_end():
            path = _below(position.path, event)
            key = self._node(event, path, level)
            value = self._node(next(self._events), path, level)
            if isinstance(key, Scalar) and key.is_text:
                first, _ = entries.setdefault(key.text, (key, value))
                if first is not key:
                    self._note(
                        key,
                        f"duplicate key {shown(key.text)}; the first one is on line {first.position.line}",
                    )
            else:
                sound = False
                self._note(key, _bad_key(key))
        return Mapping(position, tuple(entries.values()), sound)

    def _until_the_end(self) -> Iterator[yaml.Event]:
        for event in self._events:
            if isinstance(event, yaml.CollectionEndEvent):
                return
            yield event

    def _note(self, node: Node, message: str) -> None:
        if not isinstance(node, InvalidNode):
            self._problems.append(node.position.problem(message))


def _resolves_to_text(plain: str) -> bool:
    tag = _RESOLVER.resolve(yaml.ScalarNode, plain, (True, False))  # type: ignore[no-untyped-call] # untyped in its stubs
    return bool(tag == "tag:yaml.org,2002:str")


def _forbidden(event: yaml.Event) -> str:
    """Return notation that can expand without limit, create objects or hide a value's type."""
    if anchor := getattr(event, "anchor", None):
        return f"*{anchor}" if isinstance(event, yaml.AliasEvent) else f"&{anchor}"
    return (getattr(event, "tag", None) or "").replace("tag:yaml.org,2002:", "!!")


def _bad_key(key: Node) -> str:
    if not isinstance(key, Scalar):
        return "a key must be text, not a list or a mapping"
    return (
        "merge key '<<' is not allowed; write the keys out" if key.text == "<<" else f"a key {not_text(key)}"
    )


def _below(path: str, key: yaml.Event) -> str:
    name = shown(key.value)[1:-1] if isinstance(key, yaml.ScalarEvent) else "?"
    return f"{path}.{name}" if path else name
