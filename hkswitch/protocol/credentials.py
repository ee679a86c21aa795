"""SO_PEERCRED: the process that connected to a unix socket, as recorded by the kernel. Decides nothing."""

import socket
import struct
from typing import Final, NamedTuple

_UCRED: Final = struct.Struct("iII")  # struct ucred (unix(7))


class Credentials(NamedTuple):
    """The process that connected, its user and its primary group."""

    process_id: int
    user_id: int
    group_id: int


def credentials_of(connection: socket.socket) -> Credentials:
    """Read the credentials of the peer of a connected unix socket."""
    found = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    return Credentials(*_UCRED.unpack(found))
