"""`run` as a command of click; run.py does what it says."""

from pathlib import Path

import click

from hkswitch.cli import run as daemon
from hkswitch.cli.options import config_option, examples, state_option


@click.command(epilog=examples("sudo systemctl start hkswitch", "sudo journalctl -u hkswitch"))
@config_option
@state_option
@click.option(
    "--verbose",
    is_flag=True,
    help="Write the debug log, without secrets; so does HKSWITCH_DEBUG=1",
)
def run(config_file: Path, state_folder: Path, *, verbose: bool) -> None:
    """Run the daemon (hkswitch.service does this).

    SIGUSR1 turns the debug log on and off: `sudo systemctl kill --kill-whom=main -s USR1 hkswitch`.
    """
    daemon.run(config_file, state_folder, verbose=verbose)
