"""Where requests come from, and from whom: a pipe, or a socket that systemd accepted. Runs as root."""

import asyncio
import fcntl
import os
import pwd
import select
import socket
import stat
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Final, Self

from hkswitch.model.errors import Exit, Failure
from hkswitch.model.unit_state import HelperTransport
from hkswitch.protocol.helper import LONGEST_REQUEST_BYTES
from hkswitch.serviceswitch.dispatcher import LineTooLong
from hkswitch.serviceswitch.policy import Refusal

DAEMON: Final = "hkswitch"
"""The only user that may connect."""

_CREDENTIALS: Final = struct.Struct("iII")  # struct ucred


class NoSource(Failure):
    """Nobody speaks on standard input."""

    exit_code = Exit.USAGE

    def __str__(self) -> str:
        return "serve is for the daemon, which speaks to it over a pipe or a socket"


@dataclass(frozen=True, slots=True)
class Source:
    """What standard input is, as the kernel knows it. `peer_uid`, `peer_pid`: who connected to a socket."""

    is_pipe: bool = False
    peer_uid: int | None = None
    peer_pid: int | None = None

    @classmethod
    def of_standard_input(cls) -> Self:
        """Look at it."""
        mode = os.fstat(0).st_mode
        peer = _peer(0) if stat.S_ISSOCK(mode) else ()
        return cls(stat.S_ISFIFO(mode) and _ends_with_its_caller(), *peer)


def _ends_with_its_caller() -> bool:
    """Whether this process sees the end of its caller: it must not hold the other end of a pipe itself."""
    # TRUST: the caller made the pipes. One that is open for both ends, or leads back here, never has an end.
    given, taken = os.fstat(0), os.fstat(1)
    one_way = fcntl.fcntl(0, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY
    if stat.S_ISFIFO(taken.st_mode):
        one_way = one_way and fcntl.fcntl(1, fcntl.F_GETFL) & os.O_ACCMODE == os.O_WRONLY
    return one_way and not os.path.samestat(given, taken)


def admit(source: Source, daemon_uid: int | None) -> None:
    """Let a pipe through, which sudo's rule led to, and the daemon's connection.

    Raises:
        NoSource: If it is neither.
        Refusal: If somebody else connected.
    """
    if source.is_pipe:
        return
    if source.peer_uid is None:
        raise NoSource
    # TRUST: the kernel noted who connected. The socket's mode keeps others out; this does not rely on it.
    if source.peer_uid != daemon_uid:
        raise Refusal(f"only the user {DAEMON} may connect")


def admit_by_config(source: Source, by_uid: int, daemon_uid: int | None, helper: HelperTransport) -> None:
    """Refuse the daemon's user a way that the config does not name; others have rules of their own in sudo.

    Raises:
        Refusal: If sudo started this for the daemon's user, and it must use the socket.
    """
    # TRUST: sudo may allow more than the administrator remembers; root's file decides.
    if source.is_pipe and by_uid == daemon_uid and helper is HelperTransport.SOCKET:
        raise Refusal(f"`helper: socket` is set: the user {DAEMON} cannot use sudo; restart hkswitch")


def daemon_uid() -> int | None:
    """The daemon's user, if there is one."""
    try:
        return pwd.getpwnam(DAEMON).pw_uid
    except KeyError:
        return None


def has_hung_up() -> bool:
    """Whether the other end of standard input was closed, even if lines of it are still to be read."""
    poll = select.poll()
    poll.register(0, select.POLLRDHUP)
    return bool(poll.poll(0))


async def lines() -> AsyncIterator[bytes]:
    """The lines of standard input; raises `LineTooLong`."""
    asyncio.get_running_loop().set_exception_handler(_unless_reset)
    reader = asyncio.StreamReader(limit=LONGEST_REQUEST_BYTES)
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(0, "rb", buffering=0)
    )
    return _each(reader)


async def _each(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while True:
        try:
            line = await reader.readline()
        except ValueError:
            raise LineTooLong from None
        except ConnectionResetError:
            return
        if not line:
            return
        yield line


def _unless_reset(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """A daemon that closed its socket before it had read all that it was told is no error."""
    if not isinstance(context.get("exception"), ConnectionResetError):
        loop.default_exception_handler(context)


def _peer(descriptor: int) -> tuple[int, ...]:
    """The user and the process that connected; empty if it is no unix socket."""
    with socket.socket(fileno=os.dup(descriptor)) as connection:
        if connection.family != socket.AF_UNIX:
            return ()
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, _ = _CREDENTIALS.unpack(credentials)
    return uid, pid
