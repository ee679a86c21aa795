"""The ways to take a group out of a config, the most natural one first. Pure: no I/O."""

from collections.abc import Iterator

from hkswitch.editing.additions import MOST_BRACES
from hkswitch.editing.config_text import ConfigEntry, ConfigText


def removals(text: ConfigText, group_id: str) -> Iterator[bytes]:
    """Yield texts that may lack the group, and have everything else unchanged.

    The comment right above the group, and comments inside it, go with it.
    """
    section, entries = text.groups, text.entries
    number = next((n for n, entry in enumerate(entries) if entry.key.text == group_id), None)
    if section is None or number is None:
        return
    if text.is_flow(section.value):
        yield from _from_braces(text, section, number)
    else:
        yield from _from_block(text, section, number)


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
    """Extend the lines of a group by the empty ones after it; at the end of a section, by those before it."""
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


def _from_braces(text: ConfigText, section: ConfigEntry, number: int) -> Iterator[bytes]:
    entries, data = text.entries, text.data
    start = text.offset(entries[number].key.position)
    if number + 1 < len(entries):
        yield data[:start] + data[text.offset(entries[number + 1].key.position) :]
        return
    comma = data.rfind(b",", 0, start)
    end = sum(map(len, text.lines[: text.after(section)]))
    at = text.offset(entries[number].value.position)
    for _ in range(MOST_BRACES):
        at = data.find(b"}", at, end)
        if at < 0:
            return
        yield data[:comma] + data[at:]
        at += 1
