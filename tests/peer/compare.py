"""Compares what two bridges said, and finds the entry of the list that explains each difference. Pure."""

import re
from collections.abc import Iterable, Iterator, Sequence
from enum import StrEnum
from functools import cache
from itertools import zip_longest
from typing import Final, NamedTuple

Transcript = dict[str, list[str]]
"""What a bridge said on each connection."""

NOTHING: Final = "-"
ENDS: Final = ("closed", "silence")
"""After one of these a connection has nothing to compare."""


class Judgement(StrEnum):
    """The judgement by the specification."""

    OURS = "hkswitch is right"
    EITHER = "both may be"
    FAULT = "HAP-NodeJS is right: to be fixed"


class Difference(NamedTuple):
    """Lines that differ for a known reason. A `*` stands for anything."""

    scenarios: tuple[str, ...]
    ours: str
    theirs: str
    judged: Judgement
    why: str

    def explains(self, name: str, ours: str, theirs: str) -> bool:
        if not (like(self.ours, ours) and like(self.theirs, theirs)):
            return False
        return any(like(pattern, name) for pattern in self.scenarios)


class Found(NamedTuple):
    """Two lines that are not the same."""

    name: str
    connection: str
    ours: str
    theirs: str

    def __str__(self) -> str:
        return f"{self.name} ({self.connection})\n    hkswitch:   {self.ours}\n    HAP-NodeJS: {self.theirs}"


@cache
def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(".*".join(map(re.escape, text.split("*"))), re.DOTALL)


def like(pattern: str, text: str) -> bool:
    """Whether a pattern fits all of a text."""
    return bool(_pattern(pattern).fullmatch(text))


def compare(name: str, ours: Transcript, theirs: Transcript) -> Iterator[Found]:
    """The lines that differ, up to the end of each connection."""
    for connection in ours:
        pairs = zip_longest(ours[connection], theirs[connection], fillvalue=NOTHING)
        for our_line, their_line in pairs:
            if our_line != their_line:
                yield Found(name, connection, our_line, their_line)
            if our_line.startswith(ENDS) or their_line.startswith(ENDS):
                break


def explanation(found: Found, known: Sequence[Difference]) -> Difference | None:
    """The first entry that explains it."""
    return next((each for each in known if each.explains(found.name, found.ours, found.theirs)), None)


def unexplained(found: Iterable[Found], known: Sequence[Difference]) -> list[Found]:
    return [each for each in found if explanation(each, known) is None]


def unused(found: Iterable[Found], known: Sequence[Difference]) -> list[Difference]:
    """The entries that explain nothing any more: what they say is not so, or was fixed."""
    used = {id(explanation(each, known)) for each in found}
    return [each for each in known if id(each) not in used]
