"""Writes groups and comments about them as a readable config. Pure: no I/O."""

import re
from collections.abc import Iterable, Iterator
from typing import Final

from hkswitch.homebridge.wording import LONGEST_EXCERPT
from hkswitch.model.group import STATUS_INTERVAL_SECONDS, TIMEOUT_SECONDS, Argv, Group
from hkswitch.model.printable import escaped
from hkswitch.model.unit_state import Action

_NEEDS_NO_QUOTES = re.compile(r"[A-Za-z/][A-Za-z0-9_./@-]*( [A-Za-z0-9_./@-]+)*")
_NO_TEXT: Final = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null"})
_USUAL_ACTIONS: Final = frozenset({Action.START, Action.STOP})
_PLACEHOLDER: Final = "[]  # a program by its absolute path, and its arguments"


def config(head: Iterable[str], groups: Iterable[Iterable[str]]) -> str:
    """Return the whole file: its first comment, and the lines of each group."""
    blocks = ["\n".join(comment(head)) + "\n\ngroups:", *("\n".join(lines) for lines in groups)]
    return "\n\n".join(blocks).replace("groups:\n\n", "groups:\n", 1) + "\n"


def comment(lines: Iterable[str], indent: str = "") -> list[str]:
    """Return the lines as comments."""
    return [f"{indent}# {escaped(line, LONGEST_EXCERPT)}".rstrip() for line in lines]


def group(value: Group, *, commented_out: bool = False) -> list[str]:
    """Return the lines of a group, which may be incomplete if it is commented out."""
    prefix = "  # " if commented_out else "  "
    return [f"{prefix}{line}" for line in _lines(value)]


def _lines(value: Group) -> Iterator[str]:
    yield f"{_text(value.id)}:"
    yield f"  name: {_text(value.name)}"
    if value.commands is None:
        yield f"  units: {_list(_short(unit) for unit in value.units)}"
    else:
        yield "  commands:"
        for action in ("start", "stop", "status"):
            argv: Argv = getattr(value.commands, action)
            yield f"    {action}: {_list(argv) if argv else _PLACEHOLDER}"
        if value.interval_seconds != STATUS_INTERVAL_SECONDS:
            yield f"  interval_seconds: {value.interval_seconds}"
        if value.timeout_seconds != TIMEOUT_SECONDS:
            yield f"  timeout_seconds: {value.timeout_seconds}"
    if value.actions != (frozenset(Action) if value.restart else _USUAL_ACTIONS):
        yield f"  actions: {_list(action.value for action in Action if action in value.actions)}"
    if value.restart:
        yield "  restart: true"


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
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
