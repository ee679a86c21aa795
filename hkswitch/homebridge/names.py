"""Derives valid names and ids from those in Homebridge. Pure: no I/O."""

import re
import unicodedata
from typing import Final

from hkswitch.model.config_values import MOST_NAME, character_classes, spoken_form
from hkswitch.model.group import Group
from hkswitch.model.printable import JOINERS

MOST_ID: Final = 64


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
    letters = unicodedata.normalize("NFKD", text[:1000]).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", letters).strip("-")[:MOST_ID].strip("-") or "switch"


class Taken:
    """The names and ids that are taken."""

    def __init__(self) -> None:
        self._names: set[str] = set()
        self._aids: set[int] = set()

    def take(self, text: str) -> tuple[str, str]:
        """Return a unique id and name for a switch of this name: with a number if they are taken."""
        return self._free_id(id_of(text)), self._free_name(name_of(text))

    def _free_id(self, wanted: str) -> str:
        candidate, number = wanted, 1
        while self._aids & (aids := {*Group(candidate, "").aids}):
            number += 1
            suffix = f"-{number}"
            candidate = wanted[: MOST_ID - len(suffix)].rstrip("-") + suffix
        self._aids |= aids
        return candidate

    def _free_name(self, wanted: str) -> str:
        candidate, number = wanted, 1
        while (heard := spoken_form(candidate)) in self._names:
            number += 1
            suffix = f" {number}"
            candidate = _cut(wanted, MOST_NAME - len(suffix)) + suffix
        self._names.add(heard)
        return candidate


def _cut(name: str, most: int) -> str:
    return name.strip(" '")[:most].rstrip(f" '{JOINERS}")
