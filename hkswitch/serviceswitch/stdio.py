"""Writes to the caller's descriptors: they may be closed, full, or read by nobody. Runs as root.

It must never wait for ever: a root process that hangs on its caller's pipe would outlive all that ends it.
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
from dataclasses import dataclass
from typing import Final, NoReturn

from hkswitch.model.errors import Exit, Failure
from hkswitch.protocol.helper import Finished, Reply, encode_message
from hkswitch.serviceswitch.states import States

READ_WITHIN_SECONDS: Final = 5
"""For who runs one command, and waits for what it prints."""

TERMINAL_WITHIN_SECONDS: Final = 1
"""For a complaint."""

DAEMON_READS_WITHIN_SECONDS: Final = 30.0
"""A daemon that was stopped, or that swaps, may go on."""

MOST_WAITING: Final = 1024
"""Replies; a daemon that asks and does not read is not listened to meanwhile."""

Write = Callable[[bytes], Awaitable[None]]
"""Writes all of it, as fast as it is read; raises `Unheard`."""


@dataclass(eq=False)
class Unheard(Failure):
    """The answers reach nobody."""

    why: str
    exit_code = Exit.OUTPUT

    def __str__(self) -> str:
        return f"the answers reach nobody ({self.why}); ending"


class Output:
    """The replies to the daemon, in order, and between them the states, as fast as it reads them."""

    def __init__(self, write: Write, states: States) -> None:
        """Nothing is written before `keep_writing`."""
        self._write = write
        self._states = states
        self._replies: deque[tuple[Reply, asyncio.Future[None] | None]] = deque()
        self._more = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()

    def say(self, reply: Reply) -> None:
        """Write a reply when its turn comes."""
        self._add(reply, None)

    async def said(self, reply: Reply) -> None:
        """The same, and wait until it was written."""
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._add(reply, written)
        await written

    async def room(self) -> None:
        """Wait until some of what was said has been read."""
        await self._room.wait()

    def tell(self) -> None:
        """There are states to be told."""
        self._more.set()

    async def keep_writing(self) -> NoReturn:
        """Write until cancelled; raises `Unheard` if nobody reads."""
        while True:
            await self._more.wait()
            self._more.clear()
            while (line := self._next()) is not None:
                reply, written = line
                await self._write(encode_message(reply))
                if len(self._replies) <= MOST_WAITING:
                    self._room.set()
                if written is not None and not written.done():
                    written.set_result(None)

    def _add(self, reply: Reply, written: asyncio.Future[None] | None) -> None:
        self._replies.append((reply, written))
        self._more.set()
        if len(self._replies) > MOST_WAITING:
            self._room.clear()

    def _next(self) -> tuple[Reply, asyncio.Future[None] | None] | None:
        """What is to be written next. The states that a request led to come before its result."""
        if self._replies and not isinstance(self._replies[0][0], Finished):
            return self._replies.popleft()
        if (told := self._states.next()) is not None:
            return told, None
        return self._replies.popleft() if self._replies else None


async def to_daemon(data: bytes) -> None:
    """Write to standard output, as fast as it is read; raises `Unheard`."""
    try:
        while data:
            if not _is_ready(1, 0):
                await _until_ready(1)
            data = data[os.write(1, data[: select.PIPE_BUF]) :]  # a ready pipe has room for so much
    except OSError as error:
        raise Unheard(str(error.strerror)) from None


async def _until_ready(descriptor: int) -> None:
    loop, ready = asyncio.get_running_loop(), asyncio.Event()
    loop.add_writer(descriptor, ready.set)
    try:
        async with asyncio.timeout(DAEMON_READS_WITHIN_SECONDS):
            await ready.wait()
    except TimeoutError:
        raise Unheard(f"nothing was read within {DAEMON_READS_WITHIN_SECONDS:g} s") from None
    finally:
        loop.remove_writer(descriptor)


def write(descriptor: int, data: bytes, within_seconds: float = READ_WITHIN_SECONDS) -> None:
    """Write all of `data` within this time; raises `Unheard` if it is not read."""
    unread = Unheard(f"nothing was read within {within_seconds} s")
    if not os.isatty(descriptor):
        _write(descriptor, data, time.monotonic() + within_seconds, unread)
        return
    # A terminal that takes one byte may not take two: a write waits for the rest, so it must not be our wait.
    writing = threading.Thread(target=_write_and_wait, args=(descriptor, data), daemon=True)
    try:
        writing.start()
    except RuntimeError as error:  # the caller's limits
        raise Unheard(str(error)) from None
    writing.join(within_seconds)
    if writing.is_alive():
        raise unread


def _write(descriptor: int, data: bytes, deadline_seconds: float, unread: Unheard) -> None:
    try:
        while data:
            if not _is_ready(descriptor, max(0, deadline_seconds - time.monotonic())):
                raise unread
            data = data[os.write(descriptor, data[: select.PIPE_BUF]) :]
    except OSError as error:
        raise Unheard(str(error.strerror)) from None


def _write_and_wait(descriptor: int, data: bytes) -> None:
    with suppress(OSError):  # it is gone
        while data:
            data = data[os.write(descriptor, data) :]


def _is_ready(descriptor: int, within_seconds: float) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    return any(ready & select.POLLOUT for _, ready in poll.poll(within_seconds * 1000))


def complain(sentence: str) -> None:
    """Say a sentence on standard error, if that takes it at once."""
    within_seconds = TERMINAL_WITHIN_SECONDS if os.isatty(2) else 0
    with suppress(Unheard):
        write(2, f"serviceswitch: {sentence}\n".encode(errors="backslashreplace"), within_seconds)


def keep_answers_out_of_the_journal() -> None:
    """Write nothing to a datagram socket: it may be journald's, which would take it for this process's line.

    Complaints go nowhere then, nor to a terminal, which could hold this process up.
    Raises `Unheard` if standard output is such a socket.
    """
    # TRUST: the caller chose what these are.
    if _is_datagram_socket(1):
        raise Unheard("standard output is a datagram socket")
    if os.isatty(2) or _is_datagram_socket(2):
        with open(os.devnull, "wb") as nowhere:  # noqa: PTH123 -- no path of anyone's
            os.dup2(nowhere.fileno(), 2)


def _is_datagram_socket(descriptor: int) -> bool:
    if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
        return False
    with socket.socket(fileno=os.dup(descriptor)) as given:
        return given.type != socket.SOCK_STREAM


def hold_standard_descriptors() -> None:
    """Open what is closed of standard input, output and error, so that nothing else takes their numbers."""
    descriptor = os.open(os.devnull, os.O_RDWR)
    while descriptor <= 2:
        descriptor = os.dup(descriptor)
    os.close(descriptor)
