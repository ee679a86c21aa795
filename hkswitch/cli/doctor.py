"""`hkswitch doctor`: prints the findings of the doctor."""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import click
from rich.console import Console
from rich.text import Text

from hkswitch.cli.entry import in_event_loop
from hkswitch.cli.layout import NARROWEST_COLUMNS, cells, wrapped
from hkswitch.cli.options import config_option, examples, json_option, state_option
from hkswitch.cli.rich_console import FittedConsole
from hkswitch.doctor import checks, finding

LEAST_BESIDE_CELLS: Final = 40
"""A terminal with less room beside the check has the finding below it."""


@click.command(epilog=examples("sudo hkswitch doctor", "hkswitch doctor --json"))
@config_option
@state_option
@json_option
def doctor(config_file: Path, state_folder: Path, *, as_json: bool) -> None:
    """Diagnose problems and suggest fixes.

    Some checks need root and are skipped without it. The exit code is 69 if a check fails.
    """
    findings = in_event_loop(checks.diagnose(config_file.absolute(), state_folder))
    if as_json:
        click.echo(finding.as_json(findings))
    else:
        show_findings(findings, FittedConsole())
    sys.exit(finding.exit_code(findings))


def show_findings(findings: Iterable[finding.Finding], terminal: Console) -> None:
    """Print a line for each finding; on a terminal in color, and broken between words."""
    for each in findings:
        verdict, check, text = finding.columns(each)
        line = verdict + check + text
        if terminal.is_terminal:
            line = _laid_out(verdict + check, text, max(terminal.width, NARROWEST_COLUMNS))
        shown = Text(line)
        shown.stylize(finding.VERDICT_STYLES[each.verdict], 0, len(verdict.rstrip()))
        terminal.print(shown, soft_wrap=True)


def _laid_out(heading: str, text: str, columns: int) -> str:
    """Put the text beside its heading, or below it if there is little room."""
    if cells(heading + text) <= columns:
        return heading + text
    if columns - len(heading) >= LEAST_BESIDE_CELLS:
        first, *rest = wrapped(text, columns - len(heading), 0)
        return "\n".join((heading + first, *(" " * len(heading) + line for line in rest)))
    return "\n".join((heading.rstrip(), *(f"    {line}" for line in wrapped(text, columns - 4, 0))))
