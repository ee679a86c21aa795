"""The requester: the daemon, over a pipe or over a socket that systemd accepted. Runs as root."""

import asyncio
import fcntl
import os
import pwd
import select
import socket
import stat
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Final, NamedTuple, Self

from hkswitch.model.errors import Exit, Failure
from hkswitch.model.installation import DAEMON_USER, HOST_NAME
from hkswitch.model.printable import escaped
from hkswitch.model.unit_state import HelperTransport
from hkswitch.protocol.credentials import credentials_of
from hkswitch.protocol.helper import LONGEST_REQUEST_BYTES, SOCKET_IS_SET
from hkswitch.serviceswitch.dispatcher import LineTooLong
from hkswitch.serviceswitch.policy import Refusal

REMOTE_SILENCE_SECONDS: Final = 10
"""The time without a line after which the helper of another host's bridge exits. Daemons ping every 5 s.

What a network that was cut delivers later must not be carried out: nobody waits for it any longer.
"""

MOST_FOR_A_BRIDGE: Final = 8
"""Helpers at the same time: one, those of connections that were cut, and trials by hand."""

TOO_LONG: Final = f"a request line is longer than {LONGEST_REQUEST_BYTES} bytes; exiting"


class Requester(NamedTuple):
    """The process at the other end of standard input, as the kernel knows it.

    Over a socket, `peer_uid` and `peer_pid` are those of the process that connected.
    """

    is_pipe: bool = False
    peer_uid: int | None = None
    peer_pid: int | None = None

    @classmethod
    def of_standard_input(cls) -> Self:
        """Return the requester that the kernel reports."""
        mode = os.fstat(0).st_mode
        peer = _peer(0) if stat.S_ISSOCK(mode) else ()
        return cls(stat.S_ISFIFO(mode) and _ends_with_its_caller(), *peer)


def _ends_with_its_caller() -> bool:
    """Tell whether end of file can occur: this process must not hold the other end of a pipe itself."""
    # TRUST: the caller created the pipes. One that is open at both ends, or leads back here, never ends.
    given, taken = os.fstat(0), os.fstat(1)
    one_way = fcntl.fcntl(0, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY
    if stat.S_ISFIFO(taken.st_mode):
        one_way = one_way and fcntl.fcntl(1, fcntl.F_GETFL) & os.O_ACCMODE == os.O_WRONLY
    return one_way and not os.path.samestat(given, taken)


def bridge_in(arguments: Sequence[str]) -> str:
    """Return the bridge of another host in `serve --for BRIDGE`; empty if there is none. Raises `Failure`."""
    match arguments:
        case ["serve", "--for", bridge]:
            # TRUST: only the audit log has it. sudoers and sshd's file tie it to the key.
            if HOST_NAME.fullmatch(bridge):
                return bridge
            raise Failure(f"invalid name of a bridge: {escaped(bridge)}", Exit.USAGE)
    return ""


def take_place(bridge: str, folder: str = "/run") -> int:
    """Take one of the places of a bridge's helpers, which are few; return the descriptor that holds it.

    Raises `Failure` if there is none left.
    """
    # TRUST: each connection of a key starts a helper, and sshd does not limit their number.
    for number in range(MOST_FOR_A_BRIDGE):
        path = f"{folder}/hkswitch-remote-{bridge}.{number}"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return descriptor
        except BlockingIOError:
            os.close(descriptor)
    raise Failure(f"the bridge {bridge} has {MOST_FOR_A_BRIDGE} connections; it may have no more")


def admit(requester: Requester, daemon_uid: int | None) -> None:
    """Admit a pipe, which only sudo's rule can provide, and the daemon's connection.

    Raises:
        Refusal: If a process of another user connected.
        Failure: If standard input is neither a pipe nor a socket.
    """
    if requester.is_pipe:
        return
    if requester.peer_uid is None:
        raise Failure("cannot serve: standard input is neither a pipe nor a socket", Exit.USAGE)
    # TRUST: the kernel recorded who connected. The socket's mode denies others; this does not rely on it.
    if requester.peer_uid != daemon_uid:
        raise Refusal(f"only the user {DAEMON_USER} may connect")


def admit_by_config(
    requester: Requester, by_uid: int, daemon_uid: int | None, helper: HelperTransport
) -> None:
    """Refuse the daemon's user a transport that the config does not name.

    Other users have sudo rules of their own.

    Raises:
        Refusal: If sudo started this for the daemon's user, and the config says `helper: socket`.
    """
    # TRUST: sudo may allow more than the administrator remembers; root's file decides.
    if requester.is_pipe and by_uid == daemon_uid and helper is HelperTransport.SOCKET:
        raise Refusal(SOCKET_IS_SET)


def daemon_uid() -> int | None:
    """Look up the daemon's user; None if there is no such user."""
    try:
        return pwd.getpwnam(DAEMON_USER).pw_uid
    except KeyError:
        return None


def has_hung_up() -> bool:
    """Tell whether the other end of standard input was closed, even if unread lines remain."""
    poll = select.poll()
    poll.register(0, select.POLLRDHUP)
    return bool(poll.poll(0))


async def lines(silence_seconds: float | None = None) -> AsyncIterator[bytes]:
    """Read the lines of standard input, to their end or that of the time; raises `LineTooLong`."""
    asyncio.get_running_loop().set_exception_handler(_ignore_reset)
    reader = asyncio.StreamReader(limit=LONGEST_REQUEST_BYTES)
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(0, "rb", buffering=0)
    )
    return each_line(reader, silence_seconds)


async def each_line(
    reader: asyncio.StreamReader,
    silence_seconds: float | None,
    clock: Callable[[], float] = lambda: time.clock_gettime(time.CLOCK_BOOTTIME),
) -> AsyncIterator[bytes]:
    """Yield lines to the end or, if there is a limit, to a silence; raises `LineTooLong` or `Failure`.

    `clock` goes on while the host is suspended, and the event loop's does not.
    """
    heard_seconds = clock()
    while True:
        try:
            async with asyncio.timeout(silence_seconds):
                line = await reader.readline()
        except TimeoutError:
            raise Failure(f"the daemon was silent for {silence_seconds} s; exiting") from None
        except ValueError:
            raise LineTooLong(TOO_LONG) from None
        except ConnectionResetError:
            return
        if not line:
            return
        if silence_seconds is not None and clock() - heard_seconds > silence_seconds:
            raise Failure(f"this host was suspended for more than {silence_seconds} s; exiting")
        heard_seconds = clock()
        yield line


def _ignore_reset(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Ignore a daemon that closed its socket before it had read everything: this is no error."""
    if not isinstance(context.get("exception"), ConnectionResetError):
        loop.default_exception_handler(context)


def _peer(descriptor: int) -> tuple[int, ...]:
    """Return the user and the process that connected; nothing if it is not a unix socket."""
    with socket.socket(fileno=os.dup(descriptor)) as connection:
        if connection.family != socket.AF_UNIX:
            return ()
        credentials = credentials_of(connection)
    return credentials.user_id, credentials.process_id
