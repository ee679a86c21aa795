"""The control socket, by which the command line reaches the daemon.

The kernel identifies the client, never the message. protocol/control.py has the closed list of operations.
"""

from pathlib import Path
from typing import Final

STATE_FOLDER: Final = Path("/var/lib/hkswitch")
RUNTIME_FOLDER: Final = Path("/run/hkswitch")
SOCKET_NAME: Final = "control.sock"
PRIVILEGED_NAME: Final = "admin.sock"
"""The second socket, for root, the daemon's user and the group hkswitch: others cannot fill its queue."""

LONGEST_PATH_BYTES: Final = 107
"""The limit of Linux for the address of a unix socket."""

REPLY_WITHIN_SECONDS: Final = 10
"""Also the time to send a reply: a client may not read it."""


def is_of_service(path: Path) -> bool:
    """Tell whether a socket is the service's, and not one of a demo or of a second bridge."""
    return path.parent == RUNTIME_FOLDER


def socket_of(state_folder: Path) -> Path:
    """Return where the daemon of a state folder listens; the service listens in its runtime folder."""
    folder = RUNTIME_FOLDER if state_folder == STATE_FOLDER else state_folder
    return folder / SOCKET_NAME
