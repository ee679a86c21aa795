"""`hkswitch reload`: has the daemon apply the configuration, and tells the outcome. Reads no file itself."""

from pathlib import Path
from typing import Final

from hkswitch.control import client, socket_of
from hkswitch.protocol.control import ControlRequest, Operation

WITHIN_SECONDS: Final = 60
"""A daemon that is starting is waited for, and so is another reload."""


def reload(state_folder: Path) -> str:
    """Returns what is worth telling about it, nothing for most; raises `Failure` if it was not reloaded."""
    with client.PendingRequest(socket_of(state_folder), ControlRequest(Operation.RELOAD)) as asked:
        return asked.end(within_seconds=WITHIN_SECONDS)
