"""Writes values as YAML that hkswitch reads as exactly these values. Pure: no I/O."""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from hkswitch.model.group import AccessoryType, Engine, Group

_NEEDS_NO_QUOTES = re.compile(r"[A-Za-z/][A-Za-z0-9_./@-]*( [A-Za-z0-9_./@-]+)*")
_NO_TEXT: Final = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null"})
_ESCAPES: Final = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t"})


class NewEntry(NamedTuple):
    """An entry to add to a section: its key, and the keys in it with their values, both as YAML."""

    key: str
    values: tuple[tuple[str, str], ...]

    def block_lines(self, step: int = 2) -> list[str]:
        """Return its lines in block style; `step`: spaces before its keys."""
        return [f"{self.key}:", *(f"{' ' * step}{key}: {value}" for key, value in self.values)]

    @property
    def flow(self) -> str:
        """It in flow style."""
        return f"{self.key}: {{{', '.join(f'{key}: {value}' for key, value in self.values)}}}"


def yaml_scalar(text: str) -> str:
    """Return a scalar for this text, with quotes where they are needed."""
    if _NEEDS_NO_QUOTES.fullmatch(text) and text.casefold() not in _NO_TEXT:
        return text
    return f'"{text.translate(_ESCAPES)}"'


def flow_list(items: Iterable[str]) -> str:
    return f"[{', '.join(yaml_scalar(item) for item in items)}]"


def short_unit(unit: str) -> str:
    """Return the unit without '.service', unless the rest would be read as another unit."""
    stem = unit.removesuffix(".service")
    return unit if "." in stem else stem


def member_keys(
    units: Sequence[str], containers: Sequence[str], engine: Engine, compose: str = ""
) -> Iterator[tuple[str, str]]:
    """Yield the keys of a group's members, and their values as YAML."""
    if units:
        yield "units", flow_list(map(short_unit, units))
    if containers:
        yield "containers", flow_list(containers)
    if compose:
        yield "compose", yaml_scalar(compose)
    if engine is not Engine.DOCKER and (containers or compose):
        yield "engine", engine


def keys_of(group: Group) -> Iterator[tuple[str, str]]:
    """Yield the keys of a group with members, or of another host, with their values, but for defaults."""
    yield "name", yaml_scalar(group.name)
    if (place := group.elsewhere) is not None:
        yield "host", yaml_scalar(place.host.name)
        if place.group != group.id:
            yield "group", yaml_scalar(place.group)
    yield from member_keys(group.units, group.containers, group.engine, group.compose)
    if group.type is not AccessoryType.SWITCH:
        yield "type", group.type
    if group.restart:
        yield "restart", "true"
    if group.alert:
        yield "alert", group.alert


def group_entry(group: Group) -> NewEntry:
    """Return a group as an entry to add."""
    return NewEntry(yaml_scalar(group.id), tuple(keys_of(group)))


def block_lines(group: Group) -> list[str]:
    """Return the lines of a group in block style."""
    return group_entry(group).block_lines()
