"""Sends lines to journald in order, and can tell whether journald has read them. Runs as root.

It implements journald's native protocol (systemd.journal-fields(7), "Native Journal Protocol") without a
library. It decides nothing and never blocks the event loop: while the socket is full, lines are queued, and
sent before the next line.
"""

import asyncio
import fcntl
import select
import socket
import sys
import termios
import time
from collections import deque
from collections.abc import Mapping
from typing import Final, Self

from hkswitch.model.errors import Failure
from hkswitch.serviceswitch.stdio import print_error

JOURNAL_SOCKET: Final = "/run/systemd/journal/socket"

MOST_QUEUED_LINES: Final = 512
"""While the socket is full; further lines go to standard error."""

READ_BY_JOURNALD_WITHIN_SECONDS: Final = 1.0
"""Root does not act on a decision that journald has not read by then."""

FLUSH_WITHIN_SECONDS: Final = 3
"""When this process exits."""

_READ_POLL_SECONDS: Final = 0.01
"""The pause between checks whether journald has read a line, if nothing reports that it has read."""

Fields = Mapping[str, str]


class NotRecorded(Failure):
    """A decision that is not in the journal, so it must not be acted on."""

    def __init__(self, why: str) -> None:
        super().__init__(f"cannot record the decision in the journal: {why}; nothing was done")


class Journal:
    """A connection to journald, as a context manager."""

    def __init__(self, path: str = JOURNAL_SOCKET) -> None:
        """`path` is the path of journald's socket."""
        self._path = path
        self._queued: deque[Fields] = deque()
        self._held = ""
        self._read: asyncio.Future[None] | None = None
        """Done when journald has read all lines; None if nothing waits for that."""

    def __enter__(self) -> Self:
        """Create the descriptors early, before the caller's resource limits can prevent it."""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        # The kernel reports a socket as writable each time that a datagram of it has been read (sock_wfree in
        # net/core/sock.c), even if it was writable before: only an edge-triggered epoll sees that.
        self._reads = select.epoll()
        self._reads.register(self._socket, select.EPOLLOUT | select.EPOLLET)
        return self

    def __exit__(self, *_: object) -> None:
        """Wait until journald has read everything: it can look up the unit only of a live process."""
        self._held = ""
        deadline_seconds = time.monotonic() + FLUSH_WITHIN_SECONDS
        while not self._is_empty() and time.monotonic() < deadline_seconds:
            self._reads.poll(_READ_POLL_SECONDS)
        for fields in self._queued:
            print_error(fields["MESSAGE"])
        self._reads.close()
        self._socket.close()

    def hold(self, why: str) -> None:
        """Send nothing until `release`: journald would attribute it to another unit."""
        self._held = why

    def release(self) -> None:
        """Send the held lines."""
        self._held = ""
        self._flush()

    def send(self, fields: Fields) -> None:
        """Send a line, at once or when the socket has room."""
        if len(self._queued) >= MOST_QUEUED_LINES:
            print_error(fields["MESSAGE"])
            return
        self._queued.append(fields)
        self._flush()

    async def record(self, fields: Fields) -> None:
        """Send a line and wait until journald has read it; raises `NotRecorded`.

        A line in the socket is not enough: journald reads the sender's unit from /proc, and a sender that has
        been killed has none, so `hkswitch audit` would not find the line.
        """
        loop = asyncio.get_running_loop()
        deadline_seconds, is_sent = loop.time() + READ_BY_JOURNALD_WITHIN_SECONDS, False
        while not (is_sent := is_sent or self._is_sent(fields)) or self._is_unread():
            if loop.time() > deadline_seconds:
                unread = f"journald did not read it within {READ_BY_JOURNALD_WITHIN_SECONDS:g} s"
                raise NotRecorded(self._held or unread)
            await asyncio.wait([self._reading(loop)], timeout=_READ_POLL_SECONDS)

    def _reading(self, loop: asyncio.AbstractEventLoop) -> asyncio.Future[None]:
        """Return what is done when journald has read all lines, unless it has done so already."""
        if self._read is None:
            self._read = loop.create_future()
            loop.add_reader(self._reads, self._note_read)
        return self._read

    def _note_read(self) -> None:
        self._reads.poll(0)  # first: what is read from now on is reported again
        if self._read is not None and not self._is_unread():
            self._read.set_result(None)
            self._read = None
            asyncio.get_running_loop().remove_reader(self._reads)

    def _is_sent(self, fields: Fields) -> bool:
        self._flush()
        if self._held or self._queued:
            return False
        try:
            self._socket.sendto(encode(fields), self._path)
        except BlockingIOError:
            return False  # the socket is full
        except OSError as error:
            raise NotRecorded(f"{self._path}: {error.strerror}") from None
        return True

    def _is_unread(self) -> bool:
        """Tell whether journald has yet to read something (SIOCOUTQ in unix(7))."""
        unread = fcntl.ioctl(self._socket, termios.TIOCOUTQ, bytes(4))
        return int.from_bytes(unread, sys.byteorder) > 0

    def _is_empty(self) -> bool:
        self._flush()
        return not self._queued and not self._is_unread()

    def _flush(self) -> None:
        while self._queued and not self._held:
            try:
                self._socket.sendto(encode(self._queued[0]), self._path)
            except BlockingIOError:
                return  # the socket is full
            except OSError:
                print_error(self._queued[0]["MESSAGE"])
            self._queued.popleft()


def encode(fields: Fields) -> bytes:
    """Encode a datagram for journald; a value with a newline has a length prefix, so it cannot add fields."""
    return b"".join(_encode(name.encode(), value.encode()) for name, value in fields.items())


def _encode(name: bytes, value: bytes) -> bytes:
    if b"\n" in value:
        return name + b"\n" + len(value).to_bytes(8, "little") + value + b"\n"
    return name + b"=" + value + b"\n"
