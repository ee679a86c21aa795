"""The ways to take a group or a host out of a config, the most natural one first. Pure: no I/O."""

from collections.abc import Iterator, Sequence

from hkswitch.editing.additions import MOST_BRACES
from hkswitch.editing.config_text import ConfigEntry, ConfigText


def removals(text: ConfigText, key: str) -> Iterator[bytes]:
    """Yield texts that may lack the entry, and have everything else unchanged.

    The comment right above the entry, and comments inside it, go with it.
    """
    section, entries = text.section, text.entries
    number = next((n for n, entry in enumerate(entries) if entry.key.text == key), None)
    if section is None or number is None:
        return
    if text.is_flow(section.value):
        end = sum(map(len, text.lines[: text.after(section)]))
        yield from _from_braces(text, entries, number, end)
    else:
        yield from _from_block(text, section, number)


def section_removals(text: ConfigText) -> Iterator[bytes]:
    """Yield texts that may lack the whole section, with its last entry."""
    section = text.section
    if section is None:
        return
    if text.is_flow(text.root):
        yield from _from_braces(text, text.sections, text.sections.index(section), len(text.data))
        return
    end = text.end_of_content(section.key.position.line, text.after(section), section.key.position.column)
    first = text.first_line_of(section)
    blank = first
    while blank > 0 and text.is_blank(blank - 1):
        blank -= 1
    yield _cut(text, blank, end)
    yield _cut(text, first, end)


def _from_block(text: ConfigText, section: ConfigEntry, number: int) -> Iterator[bytes]:
    entry, *later = text.entries[number:]
    first = max(text.first_line_of(entry), section.key.position.line)
    following = text.first_line_of(later[0]) if later else text.after(section)
    end = text.end_of_content(entry.key.position.line, following, entry.key.position.column)
    yield _cut(text, *_with_blank_lines(text, first, end))
    yield _cut(text, first, end)
    while end < len(text.lines) and text.is_blank(end):
        end += 1  # a text above that keeps its empty lines must not get more of them
    yield _cut(text, first, end)


def _with_blank_lines(text: ConfigText, first: int, end: int) -> tuple[int, int]:
    """Extend an entry's lines by the empty ones after it; at the end of a section, by those before it."""
    last = end
    while last < len(text.lines) and text.is_blank(last):
        last += 1
    is_followed = last < len(text.lines) and text.indent(last) > 0
    if is_followed:
        return first, last
    while first > 0 and text.is_blank(first - 1):
        first -= 1
    return first, end


def _cut(text: ConfigText, first: int, end: int) -> bytes:
    return b"".join((*text.lines[:first], *text.lines[end:]))


def _from_braces(text: ConfigText, entries: Sequence[ConfigEntry], number: int, end: int) -> Iterator[bytes]:
    """Take one of these entries out of their braces, which end before the offset `end`."""
    data = text.data
    start = text.offset(entries[number].key.position)
    if number + 1 < len(entries):
        yield data[:start] + data[text.offset(entries[number + 1].key.position) :]
        return
    comma = data.rfind(b",", 0, start)
    at = text.offset(entries[number].value.position)
    for _ in range(MOST_BRACES):
        at = data.find(b"}", at, end)
        if at < 0:
            return
        yield data[:comma] + data[at:]
        at += 1
