"""The control socket, through which the command line reaches the daemon.

The kernel, not the message, identifies the client. protocol/control.py has the closed list of operations.
"""

from pathlib import Path
from typing import Final

STATE_FOLDER: Final = Path("/var/lib/hkswitch")
RUNTIME_FOLDER: Final = Path("/run/hkswitch")
SOCKET_NAME: Final = "control.sock"
PRIVILEGED_NAME: Final = "admin.sock"
"""The second socket, for root, the daemon's user and the group hkswitch: no other user can fill its queue."""

START_SERVICE: Final = "run `sudo systemctl start hkswitch`"

LONGEST_PATH_BYTES: Final = 107
"""The limit of Linux for the address of a unix socket."""

REPLY_WITHIN_SECONDS: Final = 10
"""Also the time limit for sending a reply, in case the client does not read it."""


def is_of_service(path: Path) -> bool:
    """Whether a socket belongs to the service, and not to a demo or a second bridge."""
    return path.parent == RUNTIME_FOLDER


def socket_of(state_folder: Path) -> Path:
    """Return the socket of a state folder's daemon; that of the service is in its runtime folder."""
    folder = RUNTIME_FOLDER if state_folder == STATE_FOLDER else state_folder
    return folder / SOCKET_NAME
