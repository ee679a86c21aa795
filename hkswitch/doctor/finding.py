"""What was found at a point, and what to do about it. Pure: no I/O."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from rich.console import Console
from rich.text import Text

from hkswitch.model.errors import Exit
from hkswitch.model.printable import printable_line

WITH_SUDO: Final = "run it with sudo"
NO_CONFIG: Final = "there is no valid configuration"


class Point(StrEnum):
    """What is looked at, in the order in which it is shown."""

    CONFIGURATION = "configuration"
    TRUST = "trust"
    USER = "user"
    STATE = "state"
    SUDOERS = "sudoers"
    PRIVILEGES = "no-new-privileges"
    SERVICE = "service"
    HELPER = "helper"
    BUS = "bus"
    UNITS = "units"
    NETWORK = "network"
    PORT = "port"
    MDNS = "mdns"
    FIREWALL = "firewall"
    CLOCK = "clock"
    PAIRED = "paired"


class Verdict(StrEnum):
    """How it is."""

    OK = "ok"
    WRONG = "wrong"
    UNKNOWN = "unknown"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Finding:
    """How it is at a point. `advice` is what to do, where something is."""

    point: Point
    verdict: Verdict
    what: str
    advice: str = ""

    def __str__(self) -> str:
        return f"{self.what}; {self.advice}" if self.advice else self.what


def ok(point: Point, what: str) -> Finding:
    """Nothing has to be done."""
    return Finding(point, Verdict.OK, printable_line(what))


def warning(point: Point, what: str, advice: str) -> Finding:
    """It works, and may be meant otherwise."""
    return Finding(point, Verdict.WARNING, printable_line(what), printable_line(advice))


def wrong(point: Point, what: str, advice: str) -> Finding:
    """Something has to be done."""
    return Finding(point, Verdict.WRONG, printable_line(what), printable_line(advice))


def unknown(point: Point, why: str, advice: str = "") -> Finding:
    """It cannot be told."""
    return Finding(point, Verdict.UNKNOWN, f"cannot tell: {printable_line(why)}", printable_line(advice))


def counted(number: int, what: str) -> str:
    """`1 group`, `2 groups`."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


VERSION: Final = 1

WORDS: Final = {Verdict.OK: "ok", Verdict.WARNING: "warn", Verdict.WRONG: "WRONG", Verdict.UNKNOWN: "?"}
STYLES: Final = {
    Verdict.OK: "green",
    Verdict.WARNING: "bold yellow",
    Verdict.WRONG: "bold red",
    Verdict.UNKNOWN: "yellow",
}

_WIDTH: Final = max(map(len, WORDS.values()))


def lines(findings: Iterable[Finding]) -> list[str]:
    """A line for each point."""
    return [f"{_word(finding)} {finding.point}: {finding}" for finding in findings]


def show(findings: Iterable[Finding], console: Console) -> None:
    """Print the lines, with colours on a terminal."""
    for finding in findings:
        word = (_word(finding), STYLES[finding.verdict])
        console.print(Text.assemble(word, f" {finding.point}: {finding}"), soft_wrap=True)


def as_json(findings: Iterable[Finding]) -> str:
    """For programs."""
    points = [
        {
            "point": finding.point.value,
            "verdict": finding.verdict.value,
            "finding": finding.what,
            "advice": finding.advice,
        }
        for finding in findings
    ]
    return json.dumps({"version": VERSION, "points": points}, indent=2)


def exit_code(findings: Iterable[Finding]) -> Exit:
    """Whether anything is wrong; a warning is not, nor what cannot be told."""
    is_wrong = any(finding.verdict is Verdict.WRONG for finding in findings)
    return Exit.UNAVAILABLE if is_wrong else Exit.OK


def _word(finding: Finding) -> str:
    return f"{WORDS[finding.verdict]:<{_WIDTH}}"
