"""`hkswitch run`: the daemon."""

import os
from pathlib import Path
from typing import Final

import click

from hkswitch.cli.entry import in_event_loop
from hkswitch.cli.options import config_option, examples, state_option
from hkswitch.daemon.launch import launch

_OFF: Final = {"", "0", "no", "false", "off"}
"""Values of HKSWITCH_DEBUG; a misspelled one must not keep the bridge from starting."""


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
    launched = launch(config_file, state_folder)
    from hkswitch.daemon import logs, service  # noqa: PLC0415 -- slow: the helper starts meanwhile

    logs.begin(os.environ, verbose=verbose or is_on(os.environ.get("HKSWITCH_DEBUG", "")))
    in_event_loop(service.run(config_file, state_folder, launched))


def is_on(value: str) -> bool:
    """Return whether this value of HKSWITCH_DEBUG turns the debug log on."""
    return value.strip().lower() not in _OFF
