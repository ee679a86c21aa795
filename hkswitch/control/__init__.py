"""The control socket: the daemon answers there what the command line asks.

Who asks is what the kernel says, never what the line says. What can be asked is the closed list of
protocol/control.py.
"""

from pathlib import Path
from typing import Final

STATE_FOLDER: Final = Path("/var/lib/hkswitch")
RUNTIME_FOLDER: Final = Path("/run/hkswitch")
SOCKET_NAME: Final = "control.sock"
PRIVILEGED_NAME: Final = "admin.sock"
"""Beside the other one: for root, the daemon's user and the group hkswitch, and others cannot crowd it."""

LONGEST_PATH_BYTES: Final = 107
"""What Linux has room for in a unix socket's address."""

ANSWER_WITHIN_SECONDS: Final = 10
"""Also for an answer to leave: a client may not read it."""


def is_of_service(path: Path) -> bool:
    """Whether a socket is the service's, and not one of a demo or of a second bridge."""
    return path.parent == RUNTIME_FOLDER


def socket_of(state_folder: Path) -> Path:
    """Where the daemon of a state folder listens: one with a folder of its own is apart from the service."""
    folder = RUNTIME_FOLDER if state_folder == STATE_FOLDER else state_folder
    return folder / SOCKET_NAME
