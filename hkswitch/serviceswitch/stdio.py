"""Writes to the caller's descriptors, which may be closed, full or unread. Runs as root.

Every write has a time limit: the caller could not kill a root process that hangs on its pipe.
"""

import asyncio
import os
import select
import socket
import stat
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, NoReturn

from hkswitch.model.errors import Exit, Failure
from hkswitch.protocol.helper import Finished, Reply, encode_message
from hkswitch.serviceswitch.states import UnsentStates

OUTPUT_READ_WITHIN_SECONDS: Final = 5
"""For the output of a single command."""

ERROR_READ_WITHIN_SECONDS: Final = 1
"""For an error message on a terminal."""

DAEMON_READS_WITHIN_SECONDS: Final = 30.0
"""A daemon that was suspended, or that swaps, may recover."""

MOST_QUEUED_REPLIES: Final = 1024
"""The helper reads no further request while more are queued."""

Write = Callable[[bytes], Awaitable[None]]
"""Writes all of it, as fast as it is read; raises `OutputUnwritable`."""


class OutputUnwritable(Failure):
    """Output that cannot be written, or that is not read in time."""

    exit_code = Exit.OUTPUT


def _unwritable(why: str) -> OutputUnwritable:
    return OutputUnwritable(f"cannot write the output: {why}; exiting")


class ReplyWriter:
    """The replies to the daemon, in order, and the states between them, as fast as it reads them."""

    def __init__(self, write: Write, states: UnsentStates) -> None:
        """Nothing is written before `keep_writing`."""
        self._write = write
        self._states = states
        self._replies: deque[tuple[Reply, asyncio.Future[None] | None]] = deque()
        self._more = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()

    def send(self, reply: Reply) -> None:
        """Queue a reply."""
        self._add(reply, None)

    async def deliver(self, reply: Reply) -> None:
        """Queue a reply, and wait until it is written."""
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._add(reply, written)
        await written

    async def until_room(self) -> None:
        """Wait while too many replies are queued."""
        await self._room.wait()

    def wake(self) -> None:
        """Write the unsent states."""
        self._more.set()

    async def keep_writing(self) -> NoReturn:
        """Write until cancelled; raises `OutputUnwritable`."""
        while True:
            await self._more.wait()
            self._more.clear()
            while lines := self._next_lines():
                await self._write(b"".join(line for line, _ in lines))
                if len(self._replies) <= MOST_QUEUED_REPLIES:
                    self._room.set()
                for _, written in lines:
                    if written is not None and not written.done():
                        written.set_result(None)

    def _add(self, reply: Reply, written: asyncio.Future[None] | None) -> None:
        self._replies.append((reply, written))
        self._more.set()
        if len(self._replies) > MOST_QUEUED_REPLIES:
            self._room.clear()

    def _next_lines(self) -> list[tuple[bytes, asyncio.Future[None] | None]]:
        """Take the next lines, about as many as one write takes."""
        lines: list[tuple[bytes, asyncio.Future[None] | None]] = []
        room = select.PIPE_BUF
        while room > 0 and (message := self._next()) is not None:
            reply, written = message
            lines.append((encode_message(reply), written))
            room -= len(lines[-1][0])
        return lines

    def _next(self) -> tuple[Reply, asyncio.Future[None] | None] | None:
        """Take the next message to write: the states that a request led to come before its result."""
        if self._replies and not isinstance(self._replies[0][0], Finished):
            return self._replies.popleft()
        if (states := self._states.next()) is not None:
            return states, None
        return self._replies.popleft() if self._replies else None


async def to_daemon(data: bytes) -> None:
    """Write to standard output, as fast as it is read; raises `OutputUnwritable`."""
    try:
        while data:
            if not _is_ready(1, 0):
                await _until_ready(1)
            data = data[os.write(1, data[: select.PIPE_BUF]) :]  # POLLOUT promises room for this
    except OSError as error:
        raise _unwritable(str(error.strerror)) from None


async def _until_ready(descriptor: int) -> None:
    loop, ready = asyncio.get_running_loop(), asyncio.Event()
    loop.add_writer(descriptor, ready.set)
    try:
        async with asyncio.timeout(DAEMON_READS_WITHIN_SECONDS):
            await ready.wait()
    except TimeoutError:
        raise _unwritable(f"not read within {DAEMON_READS_WITHIN_SECONDS:g} s") from None
    finally:
        loop.remove_writer(descriptor)


def write(descriptor: int, data: bytes, within_seconds: float = OUTPUT_READ_WITHIN_SECONDS) -> None:
    """Write all of `data` within this time; raises `OutputUnwritable`."""
    unread = _unwritable(f"not read within {within_seconds} s")
    if not os.isatty(descriptor):
        _write(descriptor, data, time.monotonic() + within_seconds, unread)
        return
    # A terminal with room for one byte may not have room for two, so the write may block: use a thread.
    writing = threading.Thread(target=_write_and_wait, args=(descriptor, data), daemon=True)
    try:
        writing.start()
    except RuntimeError as error:  # the caller's limits
        raise _unwritable(str(error)) from None
    writing.join(within_seconds)
    if writing.is_alive():
        raise unread


def _write(descriptor: int, data: bytes, deadline_seconds: float, unread: OutputUnwritable) -> None:
    try:
        while data:
            if not _is_ready(descriptor, max(0, deadline_seconds - time.monotonic())):
                raise unread
            data = data[os.write(descriptor, data[: select.PIPE_BUF]) :]
    except OSError as error:
        raise _unwritable(str(error.strerror)) from None


def _write_and_wait(descriptor: int, data: bytes) -> None:
    with suppress(OSError):  # the terminal is gone
        while data:
            data = data[os.write(descriptor, data) :]


def _is_ready(descriptor: int, within_seconds: float) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    return any(ready & select.POLLOUT for _, ready in poll.poll(within_seconds * 1000))


def print_error(sentence: str) -> None:
    """Write a sentence to standard error, unless that would block."""
    within_seconds = ERROR_READ_WITHIN_SECONDS if os.isatty(2) else 0
    with suppress(OutputUnwritable):
        write(2, f"serviceswitch: {sentence}\n".encode(errors="backslashreplace"), within_seconds)


def keep_replies_out_of_the_journal() -> None:
    """Write nothing to a datagram socket: it may be journald's, which would attribute it to this process.

    Error messages to such a socket are dropped; so are those to a terminal, which could block this process.
    Raises `OutputUnwritable` if standard output is such a socket.
    """
    # TRUST: the caller chose these descriptors.
    if _is_datagram_socket(1):
        raise _unwritable("standard output is a datagram socket")
    if os.isatty(2) or _is_datagram_socket(2):
        with open(os.devnull, "wb") as nowhere:  # noqa: PTH123 -- a constant path
            os.dup2(nowhere.fileno(), 2)


def _is_datagram_socket(descriptor: int) -> bool:
    if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
        return False
    with socket.socket(fileno=os.dup(descriptor)) as given:
        return given.type != socket.SOCK_STREAM


def hold_standard_descriptors() -> None:
    """Open closed standard descriptors on /dev/null, so that no other file gets their numbers."""
    descriptor = os.open(os.devnull, os.O_RDWR)
    while descriptor <= 2:
        descriptor = os.dup(descriptor)
    os.close(descriptor)
