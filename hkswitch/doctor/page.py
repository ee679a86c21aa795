"""The findings as lines for people, and as JSON for programs.

The keys that are there stay there, and mean the same, as long as `version` does; new ones may come.
"""

import json
from collections.abc import Iterable
from typing import Final

from rich.console import Console
from rich.text import Text

from hkswitch.doctor.finding import Finding, Verdict
from hkswitch.model.errors import Exit

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
