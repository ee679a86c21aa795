"""`hkswitch reload`: asks the daemon to apply the configuration, and prints the outcome."""

from pathlib import Path
from typing import Final

import click

from hkswitch.cli.layout import say
from hkswitch.cli.options import examples, state_option
from hkswitch.control import client, socket_of
from hkswitch.protocol.control import ControlRequest, Operation

RELOADED_WITHIN_SECONDS: Final = 60
"""Long enough for the daemon to finish its start, and for another reload to end first."""


@click.command(epilog=examples("sudo hkswitch reload"))
@state_option
def reload(state_folder: Path) -> None:
    """Apply a changed configuration.

    The daemon keeps running, and an invalid configuration changes nothing. `sudo systemctl reload hkswitch`
    does the same.
    """
    note = request_reload(state_folder)
    say(f"reloaded: {note}" if note else "reloaded")


def request_reload(state_folder: Path) -> str:
    """Reload, and return the daemon's note, which is usually empty. Raises `Failure` if the reload fails."""
    with client.PendingRequest(socket_of(state_folder), ControlRequest(Operation.RELOAD)) as asked:
        return asked.end(within_seconds=RELOADED_WITHIN_SECONDS)
