"""The result of a check, and how results are printed: as aligned lines, and as JSON.

`as_json` keeps its keys and their meaning as long as `JSON_VERSION` stays the same; new keys may be added.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from hkswitch.model.errors import Exit
from hkswitch.model.printable import printable_line

WITH_SUDO: Final = "run `sudo hkswitch doctor`"
NO_CONFIG: Final = "there is no valid configuration"
JSON_VERSION: Final = 2

MOST_NAMED: Final = 3
"""Of several things with the same problem."""

_VERDICT_WIDTH: Final = 8
_CHECK_WIDTH: Final = 16


class Check(StrEnum):
    """The checks, in the order in which they are shown."""

    CONFIGURATION = "configuration"
    TRUST = "trust"
    USER = "user"
    STATE = "state"
    SUDO = "sudo"
    PRIVILEGES = "privileges"
    SERVICE = "service"
    HELPER = "helper"
    BUS = "bus"
    UNITS = "units"
    CONTAINERS = "containers"
    RULES = "rules"
    ALERTS = "alerts"
    HOSTS = "hosts"
    BRIDGES = "bridges"
    NETWORK = "network"
    PORT = "port"
    MDNS = "mdns"
    FIREWALL = "firewall"
    CLOCK = "clock"
    PAIRING = "pairing"


IF_USED: Final = frozenset({Check.HOSTS, Check.BRIDGES})
"""Checks without a line where no other host is used; there is a line for each host."""


class Verdict(StrEnum):
    """The outcome of a check."""

    OK = "ok"
    FAIL = "FAIL"
    """Something is broken. Only this affects the exit code."""
    WARN = "warn"
    """It works, but may not be what the user intended."""
    TODO = "todo"
    """Nothing is broken, but a step is left to do, or to verify."""
    SKIP = "skip"
    """The check could not be carried out."""


VERDICT_STYLES: Final = {
    Verdict.OK: "green",
    Verdict.FAIL: "bold red",
    Verdict.WARN: "bold yellow",
    Verdict.TODO: "cyan",
    Verdict.SKIP: "yellow",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of a check: what was found, and what to do about it."""

    check: Check
    verdict: Verdict
    what: str
    advice: str = ""

    def __str__(self) -> str:
        return f"{self.what}; {self.advice}" if self.advice else self.what


def ok(check: Check, what: str) -> Finding:
    return Finding(check, Verdict.OK, printable_line(what))


def fail(check: Check, what: str, advice: str) -> Finding:
    return Finding(check, Verdict.FAIL, printable_line(what), printable_line(advice))


def warn(check: Check, what: str, advice: str) -> Finding:
    return Finding(check, Verdict.WARN, printable_line(what), printable_line(advice))


def todo(check: Check, what: str, advice: str) -> Finding:
    return Finding(check, Verdict.TODO, printable_line(what), printable_line(advice))


def skip(check: Check, why: str, advice: str = "") -> Finding:
    return Finding(check, Verdict.SKIP, printable_line(why), printable_line(advice))


def needs_root(check: Check) -> Finding:
    return skip(check, "needs root", WITH_SUDO)


def counted(number: int, noun: str) -> str:
    """Return `1 group`, or `2 groups`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def several(items: Sequence[str], separator: str = ", ") -> str:
    """Return the first of the items, and the number of the others."""
    more = len(items) - MOST_NAMED
    return separator.join((*items[:MOST_NAMED], *((f"and {more} more",) if more > 0 else ())))


def lines(findings: Iterable[Finding]) -> list[str]:
    """Return one line for each finding, in aligned columns."""
    return ["".join(columns(finding)) for finding in findings]


def as_json(findings: Iterable[Finding]) -> str:
    checks = [
        {
            "check": finding.check.value,
            "verdict": finding.verdict.value.lower(),
            "finding": finding.what,
            "advice": finding.advice,
        }
        for finding in findings
    ]
    return json.dumps({"version": JSON_VERSION, "checks": checks}, indent=2)


def exit_code(findings: Iterable[Finding]) -> Exit:
    """Return `UNAVAILABLE` if any check failed; no other verdict affects it."""
    has_failed = any(finding.verdict is Verdict.FAIL for finding in findings)
    return Exit.UNAVAILABLE if has_failed else Exit.OK


def columns(finding: Finding) -> tuple[str, str, str]:
    """Return verdict and check, padded to the widths of their columns, and the finding itself."""
    return f"{finding.verdict:<{_VERDICT_WIDTH}}", f"{finding.check:<{_CHECK_WIDTH}}", str(finding)


def rights(path: str | Path, owners: str, mode: int) -> str:
    """Return the advice that gives a file its owner, its group and its mode."""
    return f"run `sudo chown {owners} {path}` and `sudo chmod {mode:04o} {path}`"
