"""Finds the unit that was probably meant by a name that does not exist. Pure: no I/O."""

from collections.abc import Collection, Iterable
from typing import Final

from hkswitch.model.config_values import closest
from hkswitch.model.misspelt_suffixes import unit_meant

LEAST_SIMILARITY: Final = 0.7
"""The least ratio of difflib: ngnix is similar to nginx (0.8), but smb is not similar to nmb (0.67)."""


def similar(unit: str, known: Iterable[str]) -> str:
    """Return the most similar of the known names; empty if none is similar.

    The suffix must be equal, as too many names share it. An instance is compared with templates.
    """
    stem, dot, kind = template_of(unit).rpartition(".")
    stems = (name.removesuffix(dot + kind) for name in known if name.endswith(dot + kind))
    among = sorted(each for each in stems if each.endswith("@") is stem.endswith("@"))
    if found := closest(stem, tuple(among), LEAST_SIMILARITY):
        return found + (unit.partition("@")[2] or f".{kind}")
    return ""


def other_kind(unit: str, known: Iterable[str]) -> str:
    """Return the known unit that has the name of a service and another suffix; empty unless there is one."""
    stem = unit.removesuffix(".service")
    found = sorted({name for name in known if name.rpartition(".")[0] == stem and name != unit})
    return found[0] if len(found) == 1 and stem != unit else ""


def without_misspelt_suffix(unit: str, known: Collection[str]) -> str:
    """Return the known unit that was meant by one like nginx.servic.service; empty unless there is one."""
    meant = unit_meant(unit)
    if not meant or meant in known:
        return meant
    return similar(meant, known)


def template_of(unit: str) -> str:
    """Return the template of an instance, or the unit itself."""
    stem, dot, kind = unit.rpartition(".")
    prefix, at, _ = stem.partition("@")
    return prefix + at + dot + kind
