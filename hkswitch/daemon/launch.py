"""The daemon's first steps: reads the config and starts the helper, before its other parts are imported.

The helper also imports for a tenth of a second, meanwhile, on another processor. So this module must import
neither asyncio nor HomeKit.
"""

import os
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from hkswitch.backend.spawning import Child, spawn
from hkswitch.backend.sudo_command import sudo_command
from hkswitch.control import START_SERVICE, STATE_FOLDER
from hkswitch.model.config import Config
from hkswitch.model.config_file import CONFIG_TIMEOUT_SECONDS, read_in_time
from hkswitch.model.errors import Exit, Failure
from hkswitch.model.installation import DAEMON_UNIT
from hkswitch.model.unit_state import HelperTransport


class Launched(NamedTuple):
    """What the daemon begins with."""

    config: Config
    helper: Child | None = None
    """The first helper; None if there is none yet, because it uses the socket, or could not be started."""


def launch(config_file: Path, state_folder: Path) -> Launched:
    """Read the config, and start the helper if sudo starts it; raises `Failure`."""
    _refuse_others(state_folder)
    config = read_in_time(config_file, CONFIG_TIMEOUT_SECONDS)
    return Launched(config, None if config.helper is HelperTransport.SOCKET else _helper())


def _helper() -> Child | None:
    try:
        # TRUST: crosses to root. The command is literal; only requests in protocol/helper.py follow.
        return spawn(sudo_command())
    except (OSError, MemoryError):
        return None  # the transport tries again, and reports why it fails


def _refuse_others(state_folder: Path) -> None:
    """Refuse to serve the service's bridge as another user, root included; raises `Failure`.

    Root could read and write the files there, but the service could not read those that root made.
    """
    with suppress(OSError):  # there is no bridge yet, or the failure to read it says why
        if state_folder == STATE_FOLDER and state_folder.stat().st_uid != os.geteuid():
            why = f"the bridge in {state_folder} belongs to another user, and {DAEMON_UNIT} serves it"
            remedy = f"{START_SERVICE}, or pass another --state-dir"
            raise Failure(f"cannot run the daemon: {why}; {remedy}", Exit.DENIED)
