"""Writes groups and comments about them as a readable config. Pure: no I/O."""

import re
from collections.abc import Iterable, Iterator
from typing import Final

from hkswitch.homebridge.groups import NewGroup
from hkswitch.homebridge.wording import LONGEST_EXCERPT
from hkswitch.model.printable import escaped

_NEEDS_NO_QUOTES = re.compile(r"[A-Za-z/][A-Za-z0-9_./@-]*( [A-Za-z0-9_./@-]+)*")
_NO_TEXT: Final = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null"})
_ESCAPES: Final = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t"})


def config(head: Iterable[str], groups: Iterable[Iterable[str]]) -> str:
    """Return the whole file: its first comment, and the lines of each group."""
    blocks = ["\n".join(comment(head)) + "\n\ngroups:", *("\n".join(lines) for lines in groups)]
    return "\n\n".join(blocks).replace("groups:\n\n", "groups:\n", 1) + "\n"


def comment(lines: Iterable[str], indent: str = "") -> list[str]:
    """Return the lines as comments."""
    return [f"{indent}# {escaped(line, LONGEST_EXCERPT)}".rstrip() for line in lines]


def group(group_id: str, name: str, value: NewGroup) -> list[str]:
    """Return the lines of a group."""
    return [f"  {line}" for line in (f"{_text(group_id)}:", f"  name: {_text(name)}", *_lines(value))]


def _lines(value: NewGroup) -> Iterator[str]:
    if value.units:
        yield f"  units: {_list(map(_short, value.units))}"
    else:
        yield "  commands:"
        yield from (f"    {name}: {_list(argv)}" for name, argv in value.commands)
        yield "  detach: true"
    if value.actions:
        yield f"  actions: {_list(value.actions)}"
    for key in ("user", "directory"):
        if text := getattr(value, key):
            yield f"  {key}: {_text(text)}"
    for key in ("assume_state", "momentary"):
        if getattr(value, key):
            yield f"  {key}: true"
    for key in ("interval_seconds", "timeout_seconds"):
        if number := getattr(value, key):
            yield f"  {key}: {number}"


def _list(items: Iterable[str]) -> str:
    return f"[{', '.join(_text(item) for item in items)}]"


def _short(unit: str) -> str:
    """Return the unit without '.service', unless the rest would be read as another unit."""
    stem = unit.removesuffix(".service")
    return unit if "." in stem else stem


def _text(text: str) -> str:
    """Return `text` as a YAML scalar that hkswitch reads as exactly this text."""
    if _NEEDS_NO_QUOTES.fullmatch(text) and text.casefold() not in _NO_TEXT:
        return text
    return f'"{text.translate(_ESCAPES)}"'
