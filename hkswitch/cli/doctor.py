"""`hkswitch doctor`: prints the findings of the doctor."""

import sys
from pathlib import Path

import click

from hkswitch.cli.entry import in_event_loop
from hkswitch.cli.options import config_option, examples, json_option, state_option
from hkswitch.cli.render import console
from hkswitch.doctor import checks, finding


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
        finding.show(findings, console())
    sys.exit(finding.exit_code(findings))
