"""The text of a config by lines and by the positions of its nodes. Pure: no I/O.

Nodes know where they begin, but not where they end. So an edit is a guess about the end of a group, and
splice.py compares what the guess means with what was intended.
"""

import re
from functools import cached_property
from typing import Final, NamedTuple

from hkswitch.model.yaml_nodes import Mapping, Node, Position, Scalar, Sequence, read

GROUPS: Final = "groups"
HOSTS: Final = "hosts"

_END_OF_DOCUMENT = re.compile(rb"\.\.\.(\s|$)")

Plain = tuple[object, ...]
"""What a node means, without its position."""


def plain(node: Node) -> Plain:
    """Return what a node means; equal if and only if hkswitch reads two nodes alike."""
    match node:
        case Mapping(entries=entries):
            return ("mapping", *((key.text, plain(value)) for key, value in entries))
        case Sequence(items=items):
            return ("list", *map(plain, items))
        case Scalar(text=text, is_text=is_text):
            return ("value", text, is_text)
    return ("invalid", node.position)


class ConfigEntry(NamedTuple):
    """A key of a mapping and its value."""

    key: Scalar
    value: Node


class ConfigText:
    """A config that has a sound tree, and its lines with their ends; one of its sections is to be changed."""

    def __init__(self, data: bytes, section: str = GROUPS) -> None:
        self.data = data
        self.section_name = section
        self.lines = [line for line in re.split(rb"(?<=\n)", data) if line]  # as the parser does
        self.root = read(data, [])

    @cached_property
    def sections(self) -> tuple[ConfigEntry, ...]:
        """The top-level keys; none in an empty file."""
        return entries_in(self.root)

    @cached_property
    def section(self) -> ConfigEntry | None:
        """The key of the section and its value, if it is there."""
        return next((each for each in self.sections if each.key.text == self.section_name), None)

    @property
    def entries(self) -> tuple[ConfigEntry, ...]:
        """The entries of the section."""
        return () if self.section is None else entries_in(self.section.value)

    def changed(self, data: bytes) -> "ConfigText":
        """Return another text with the same section to change."""
        return ConfigText(data, self.section_name)

    @property
    def newline(self) -> bytes:
        """The end of a line, as most lines have it."""
        windows = self.data.count(b"\r\n")
        return b"\r\n" if windows > self.data.count(b"\n") - windows else b"\n"

    def offset(self, position: Position) -> int:
        """Return the number of bytes before a position."""
        line = self.lines[position.line - 1] if position.line <= len(self.lines) else b""
        return sum(map(len, self.lines[: position.line - 1])) + len(
            line.decode()[: position.column - 1].encode()
        )

    def is_flow(self, node: Node) -> bool:
        """Whether a mapping is in flow style: in braces."""
        at = self.offset(node.position)
        return isinstance(node, Mapping) and self.data[at : at + 1] == b"{"

    def after(self, entry: ConfigEntry) -> int:
        """Return the index of the line at which what follows a section begins: the next one, or the end."""
        later = [each.key.position.line for each in self.sections]
        line = entry.key.position.line
        if following := [each for each in later if each > line]:
            return min(following) - 1
        ends = (n for n in range(line, len(self.lines)) if _END_OF_DOCUMENT.match(self.lines[n]))
        return next(ends, len(self.lines))

    def is_blank(self, index: int) -> bool:
        return not self.lines[index].strip()

    def is_comment(self, index: int) -> bool:
        return self.lines[index].lstrip().startswith(b"#")

    def indent(self, index: int) -> int:
        """Return the number of spaces at the beginning of a line."""
        line = self.lines[index]
        return len(line) - len(line.lstrip(b" "))

    def first_line_of(self, entry: ConfigEntry) -> int:
        """Return the index of an entry's first line: of the comment right above it, or of its key."""
        index, indent = entry.key.position.line - 1, entry.key.position.column - 1
        while index > 0 and self.is_comment(index - 1) and self.indent(index - 1) == indent:
            index -= 1
        return index

    def end_of_content(self, least: int, end: int, comments_from: int) -> int:
        """Return the index after the last line of content before `end`, but not below `least`.

        A comment is content if it is indented by `comments_from` spaces or more.
        """
        while end > least and (
            self.is_blank(end - 1) or (self.is_comment(end - 1) and self.indent(end - 1) < comments_from)
        ):
            end -= 1
        return end


def entries_in(node: Node) -> tuple[ConfigEntry, ...]:
    """Return the keys and values of a mapping; none of any other node."""
    return tuple(ConfigEntry(*each) for each in node.entries) if isinstance(node, Mapping) else ()
