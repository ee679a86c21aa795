"""`status` as a command of click; status.py does what it says."""

import sys
from pathlib import Path

import click

from hkswitch.cli.options import config_option, examples, json_option, state_option
from hkswitch.cli.status import show, show_each


@click.command(epilog=examples("hkswitch status", "hkswitch status web", "hkswitch status --watch"))
@click.argument("groups", nargs=-1, metavar="[GROUP]...")
@config_option
@state_option
@json_option
@click.option("--watch", "watched", is_flag=True, help="Update after each change, until Ctrl-C")
def status(
    groups: tuple[str, ...], config_file: Path, state_folder: Path, *, as_json: bool, watched: bool
) -> None:
    """Show each group with its units and containers.

    Other hosts come first, each with its connection. With one GROUP, the exit code is 0 if it is on, and 3 if
    not. While the service is stopped, the states come from systemd, and for root also from container engines,
    and those of other hosts are unknown; only then is --config read. Problems, if there are any, are listed
    at the end, with their remedies. --watch needs a running daemon, and reconnects when it restarts.
    """
    if watched:
        show_each(groups, state_folder, as_json=as_json)
    else:
        sys.exit(show(groups, config_file, state_folder, as_json=as_json))
