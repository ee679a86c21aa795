"""Derives valid names and ids from those in Homebridge. Pure: no I/O."""

import re
import unicodedata
from typing import Final

from hkswitch.model.config_values import MOST_NAME, character_classes, spoken_form
from hkswitch.model.group import Group
from hkswitch.model.printable import JOINERS

MOST_ID: Final = 64

_ALLOWED_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
_RESTART_WORD = re.compile(r"restart\s+(?=\S)|(?<=\S)\s+restart$", re.IGNORECASE)


def name_of(text: str) -> str:
    """Reduce `text` to a name by Apple's rule.

    It has letters, digits, spaces and apostrophes, and a letter or digit at both ends.
    """
    composed = unicodedata.normalize("NFC", text[:1000]).replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
    kept, before = "", " "
    for char, kind in zip(composed, character_classes(composed), strict=True):
        before = kind if kind in "LA'" or (kind in "MV" and before in "LAMV") else " "
        kept += " " if before == " " else char
    return _cut(" ".join(kept.split()), MOST_NAME) or "Switch"


def id_of(text: str) -> str:
    """Convert `text` to the id of a group."""
    if _ALLOWED_ID.fullmatch(text):
        return text
    letters = unicodedata.normalize("NFKD", text[:1000]).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", letters).strip("-")[:MOST_ID].strip("-") or "switch"


def without_restart(name: str) -> str:
    """Remove the word "restart" from the beginning or the end of a name."""
    return _RESTART_WORD.sub("", name.strip(), count=1)


class Taken:
    """The names and ids that are taken, of groups and of their restart switches."""

    def __init__(self) -> None:
        self._names: set[str] = set()
        self._ids: set[str] = set()
        self._aids: set[int] = set()

    def take(self, group_id: str, name: str, *, restart: bool) -> tuple[str, str]:
        """Return a unique id and name: these, or with a number if they are taken."""
        most = MOST_NAME - len("Restart ") if restart else MOST_NAME
        group_id = self._free_id(group_id)
        name = self._free_name(_cut(name, most), most, restart=restart)
        group = Group(group_id, name)
        self._ids.add(group_id)
        self._aids |= {group.aid, group.restart_aid}
        self._names |= self._heard(name, restart=restart)
        return group_id, name

    def _free_id(self, wanted: str) -> str:
        candidate, number = wanted, 1
        while not self._has_room(candidate):
            number += 1
            suffix = f"-{number}"
            candidate = wanted[: MOST_ID - len(suffix)].rstrip("-") + suffix
        return candidate

    def _has_room(self, group_id: str) -> bool:
        group = Group(group_id, "")
        return group_id not in self._ids and not self._aids & {group.aid, group.restart_aid}

    def _free_name(self, wanted: str, most: int, *, restart: bool) -> str:
        candidate, number = wanted, 1
        while self._heard(candidate, restart=restart) & self._names:
            number += 1
            suffix = f" {number}"
            candidate = _cut(wanted, most - len(suffix)) + suffix
        return candidate

    def _heard(self, name: str, *, restart: bool) -> set[str]:
        """Return a group's names as Siri hears them."""
        names = [name, Group("", name).restart_name] if restart else [name]
        return {*map(spoken_form, names)}


def _cut(name: str, most: int) -> str:
    return name.strip(" '")[:most].rstrip(f" '{JOINERS}")
