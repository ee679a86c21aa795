"""`hkswitch run`: the daemon."""

import os
from pathlib import Path

import click

from hkswitch.cli.entry import in_event_loop
from hkswitch.cli.options import config_option, examples, state_option
from hkswitch.daemon import logs, service


@click.command(epilog=examples("sudo systemctl start hkswitch", "journalctl -u hkswitch"))
@config_option
@state_option
def run(config_file: Path, state_folder: Path) -> None:
    """Run the daemon (hkswitch.service does this)."""
    logs.begin(os.environ)
    in_event_loop(service.run(config_file, state_folder))
