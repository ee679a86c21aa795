"""Reads the user and the groups of a process that connected to the control socket. Decides nothing."""

import errno
import socket
import struct
from typing import Final, NamedTuple

from hkswitch.protocol.credentials import credentials_of

SO_PEERGROUPS: Final = 59  # not in `socket` yet
LARGEST_OPTION_BYTES: Final = 1024
"""Python reads no larger socket option."""


class Peer(NamedTuple):
    """A process that connected, with its credentials at that moment."""

    user_id: int
    group_id: int
    groups: frozenset[int] = frozenset()
    """The supplementary groups."""


def peer_of(connection: socket.socket) -> Peer:
    """Return the peer of a connected unix socket."""
    _, user_id, group_id = credentials_of(connection)
    return Peer(user_id, group_id, _groups(connection))


def _groups(connection: socket.socket) -> frozenset[int]:
    """Return the supplementary groups; none if there are more than the 256 that Python can read."""
    try:
        found = connection.getsockopt(socket.SOL_SOCKET, SO_PEERGROUPS, LARGEST_OPTION_BYTES)
    except OSError as error:
        if error.errno != errno.ERANGE:
            raise
        return frozenset()
    return frozenset(group for (group,) in struct.iter_unpack("I", found))
