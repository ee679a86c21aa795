"""The ways to write a new group or host into a config, the most natural one first. Pure: no I/O."""

import re
from collections.abc import Iterator
from typing import Final

from hkswitch.editing.config_text import ConfigEntry, ConfigText, entries_in
from hkswitch.editing.yaml_text import NewEntry
from hkswitch.model.yaml_nodes import Mapping, Scalar

STEP: Final = 2
"""Spaces of indentation, where the file has no example."""

MOST_BRACES: Final = 64
"""Closing braces to try as the end of a section."""

_EMPTY_BRACES = re.compile(rb"[ ]*\{[ ]*\}")


def additions(text: ConfigText, entry: NewEntry) -> Iterator[bytes]:
    """Yield texts that may have the entry as the last of its section, and everything else unchanged."""
    section = text.section
    if section is None:
        if not text.is_flow(text.root):
            yield from _new_section(text, entry)
    elif text.is_flow(section.value) and text.entries:
        yield from _in_braces(text, section, entry)
    elif text.is_flow(section.value):
        yield from _instead_of_braces(text, section, entry)
    elif isinstance(section.value, Mapping) or (isinstance(section.value, Scalar) and section.value.empty):
        yield from _in_block(text, section, entry)


def _new_section(text: ConfigText, entry: NewEntry) -> Iterator[bytes]:
    """Add the section to the end of the file, or before the end of its document."""
    last = text.sections[-1] if text.sections else None
    margin = last.key.position.column - 1 if last else 0
    lines = [f"{text.section_name}:", *(f"{' ' * STEP}{line}" for line in entry.block_lines())]
    at = text.after(last) if last else len(text.lines)
    for index in dict.fromkeys((at, text.end_of_content(0, at, margin))):
        is_below_text = index > 0 and not text.is_blank(index - 1)
        yield _inserted(text, index, lines, margin, blank=is_below_text)


def _in_block(text: ConfigText, section: ConfigEntry, entry: NewEntry) -> Iterator[bytes]:
    margin, step = _indentation(text, section)
    first, end = section.key.position.line, text.after(section)
    nearest = text.end_of_content(first, end, margin)
    farther = (text.end_of_content(first, end, len(text.data)), end)
    for index in dict.fromkeys((nearest, *farther)):
        for blank in dict.fromkeys((_wants_blank(text, index), False)):
            yield _inserted(text, index, entry.block_lines(step), margin, blank=blank)


def _indentation(text: ConfigText, section: ConfigEntry) -> tuple[int, int]:
    """Return the spaces before an entry's key, and before its own keys in addition to those."""
    for key, value in text.entries:
        if isinstance(value, Mapping) and not text.is_flow(value):
            return key.position.column - 1, value.position.column - key.position.column
    if text.entries:
        return text.entries[0].key.position.column - 1, STEP
    outer = section.key.position.column
    others = [entries_in(each.value)[0].key.position for each in text.sections if entries_in(each.value)]
    inner = [each.column for each in others if each.column > outer and not text.is_flow(text.root)]
    step = inner[0] - outer if inner and inner[0] - outer <= 2 * STEP else STEP
    return outer - 1 + step, step


def _wants_blank(text: ConfigText, index: int) -> bool:
    """Whether an empty line belongs before a new entry: as between the others, and after a comment."""
    entries = text.entries
    if text.is_comment(index - 1):
        return True
    first_lines = (text.first_line_of(entry) for entry in entries[1:])
    return any(text.is_blank(line - 1) for line in first_lines)


def _inserted(text: ConfigText, index: int, lines: list[str], margin: int, *, blank: bool) -> bytes:
    """Return the text with more lines before the one at `index`."""
    before, after = b"".join(text.lines[:index]), b"".join(text.lines[index:])
    newline = text.newline
    block = newline.join(f"{' ' * margin}{line}".encode() for line in lines)
    if blank:
        block = newline + block
    if before and not before.endswith(b"\n"):  # the file has no end of line at its end, and needs none
        return before + newline + block
    return before + block + newline + after


def _instead_of_braces(text: ConfigText, section: ConfigEntry, entry: NewEntry) -> Iterator[bytes]:
    """Replace `{}` by lines below the key; in a file in flow style, put the entry into the braces."""
    at = text.offset(section.value.position)
    if text.is_flow(text.root):
        yield text.data[: at + 1] + entry.flow.encode() + text.data[at + 1 :]
        return
    start = len(text.data[:at].rstrip(b" "))
    if braces := _EMPTY_BRACES.match(text.data, start):
        yield from additions(text.changed(text.data[:start] + text.data[braces.end() :]), entry)


def _in_braces(text: ConfigText, section: ConfigEntry, entry: NewEntry) -> Iterator[bytes]:
    """Add the entry before a closing brace after the last one."""
    data = text.data
    end = sum(map(len, text.lines[: text.after(section)]))
    at = text.offset(text.entries[-1].value.position)
    for _ in range(MOST_BRACES):
        at = data.find(b"}", at, end)
        if at < 0:
            return
        before = data[:at].rstrip()
        comma = b" " if before.endswith(b",") else b", "
        tail = len(data[:at].rstrip(b" "))
        yield data[:tail] + comma + entry.flow.encode() + data[tail:]
        at += 1
