"""Who is at the other end of a unix socket, as the kernel knows it. Decides nothing."""

import errno
import socket
import struct
from dataclasses import dataclass
from typing import Final

SO_PEERGROUPS: Final = 59  # not in `socket` yet
LARGEST_OPTION_BYTES: Final = 1024
"""Python reads no larger socket option."""

_CREDENTIALS: Final = struct.Struct("iII")  # struct ucred


@dataclass(frozen=True, slots=True)
class Peer:
    """A process that connected, as it was at that moment."""

    user_id: int
    group_id: int
    groups: frozenset[int] = frozenset()
    """Supplementary ones."""


def peer_of(connection: socket.socket) -> Peer:
    """The peer of a connected unix socket."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _, user_id, group_id = _CREDENTIALS.unpack(credentials)
    return Peer(user_id, group_id, _groups(connection))


def _groups(connection: socket.socket) -> frozenset[int]:
    """The supplementary groups; none if they are more than the 256 that Python can read."""
    try:
        found = connection.getsockopt(socket.SOL_SOCKET, SO_PEERGROUPS, LARGEST_OPTION_BYTES)
    except OSError as error:
        if error.errno != errno.ERANGE:
            raise
        return frozenset()
    return frozenset(group for (group,) in struct.iter_unpack("I", found))
