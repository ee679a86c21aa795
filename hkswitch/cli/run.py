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
@click.option(
    "--verbose",
    is_flag=True,
    envvar="HKSWITCH_DEBUG",
    show_envvar=True,
    help="Write the debug log: requests, events and states, without secrets",
)
def run(config_file: Path, state_folder: Path, *, verbose: bool) -> None:
    """Run the daemon (hkswitch.service does this).

    SIGUSR1 turns the debug log on and off: `systemctl kill --kill-whom=main -s USR1 hkswitch`.
    """
    logs.begin(os.environ, verbose=verbose)
    in_event_loop(service.run(config_file, state_folder))
