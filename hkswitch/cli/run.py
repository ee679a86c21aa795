"""`hkswitch run`: the daemon. hkswitch.service passes no options, so it does not wait for click."""

import os
from pathlib import Path
from typing import Final

from hkswitch.cli.entry import in_event_loop
from hkswitch.control import STATE_FOLDER
from hkswitch.daemon.launch import launch
from hkswitch.model.config_file import DEFAULT

_OFF: Final = {"", "0", "no", "false", "off"}
"""Values of HKSWITCH_DEBUG; a misspelled one must not keep the bridge from starting."""


def run(config_file: Path = DEFAULT, state_folder: Path = STATE_FOLDER, *, verbose: bool = False) -> None:
    """Run the daemon until SIGTERM; raises `Failure` if it cannot start."""
    launched = launch(config_file, state_folder)
    from hkswitch.daemon import logs, service  # noqa: PLC0415 -- slow: the helper starts meanwhile

    logs.begin(os.environ, verbose=verbose or is_on(os.environ.get("HKSWITCH_DEBUG", "")))
    in_event_loop(service.run(config_file, state_folder, launched))


def is_on(value: str) -> bool:
    """Return whether this value of HKSWITCH_DEBUG turns the debug log on."""
    return value.strip().lower() not in _OFF
