"""journald's socket: takes lines in order, and can tell whether journald has read them. Runs as root.

It speaks journald's native protocol (systemd.journal-fields(7), "Native Journal Protocol"), by no library. It
decides nothing and never blocks the event loop: lines for which a full journal has no room wait for the next.
"""

import asyncio
import fcntl
import socket
import sys
import termios
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Self

from hkswitch.model.errors import Exit, Failure
from hkswitch.serviceswitch.stdio import complain

PATH: Final = "/run/systemd/journal/socket"

MOST_WAITING: Final = 512
"""Lines that a full journal may get later; others go to standard error."""

TAKEN_WITHIN_SECONDS: Final = 1.0
"""A decision that journald has not read by then is not acted on."""

FLUSH_WITHIN_SECONDS: Final = 3
"""At the end of this process."""

_PAUSES_SECONDS: Final = (0.0005, 0.02)
"""Between two looks at whether journald has read a line: the first, and the longest."""

Fields = Mapping[str, str]


@dataclass(eq=False)
class Unwritten(Failure):
    """A decision is not in the journal, so it must not be acted on."""

    why: str
    exit_code = Exit.UNAVAILABLE

    def __str__(self) -> str:
        return f"not done, because the journal has no record of it: {self.why}"


class Journal:
    """Sends lines to journald, while it is entered."""

    def __init__(self, path: str = PATH) -> None:
        """`path` is where journald's socket is."""
        self._path = path
        self._waiting: deque[Fields] = deque()
        self._held = ""

    def __enter__(self) -> Self:
        """Make the socket first of all: a limit of the caller's must not leave us without it later."""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        return self

    def __exit__(self, *_: object) -> None:
        """Wait for room, and until all was read: journald finds the unit only of a process that lives."""
        self._held = ""
        deadline_seconds = time.monotonic() + FLUSH_WITHIN_SECONDS
        while not self._is_empty() and time.monotonic() < deadline_seconds:
            time.sleep(_PAUSES_SECONDS[0])
        for fields in self._waiting:
            complain(fields["MESSAGE"])
        self._socket.close()

    def hold(self, why: str) -> None:
        """Send nothing until `release`: journald would take it for lines of another unit."""
        self._held = why

    def release(self) -> None:
        """Send what was held."""
        self._held = ""
        self._flush()

    def send(self, fields: Fields) -> None:
        """Send a line, at once or when there is room."""
        if len(self._waiting) >= MOST_WAITING:
            complain(fields["MESSAGE"])
            return
        self._waiting.append(fields)
        self._flush()

    async def record(self, fields: Fields) -> None:
        """Send a line and wait until journald has read it; raises `Unwritten`.

        A line that only waits in the socket is not enough: journald reads the sender's unit from /proc, and a
        sender that was killed by then has none, so that the query of the audit would not find the line.
        """
        loop = asyncio.get_running_loop()
        deadline_seconds, is_sent = loop.time() + TAKEN_WITHIN_SECONDS, False
        pause_seconds, longest_seconds = _PAUSES_SECONDS
        while not (is_sent := is_sent or self._is_sent(fields)) or self._is_unread():
            if loop.time() > deadline_seconds:
                raise Unwritten(self._held or f"journald took nothing within {TAKEN_WITHIN_SECONDS:g} s")
            await asyncio.sleep(pause_seconds)
            pause_seconds = min(2 * pause_seconds, longest_seconds)

    def _is_sent(self, fields: Fields) -> bool:
        self._flush()
        if self._held or self._waiting:
            return False
        try:
            self._socket.sendto(encode(fields), self._path)
        except BlockingIOError:
            return False  # it is full
        except OSError as error:
            raise Unwritten(f"{self._path}: {error.strerror}") from None
        return True

    def _is_unread(self) -> bool:
        """Whether some of what was sent is still in the socket (SIOCOUTQ in unix(7))."""
        unread = fcntl.ioctl(self._socket, termios.TIOCOUTQ, bytes(4))
        return int.from_bytes(unread, sys.byteorder) > 0

    def _is_empty(self) -> bool:
        self._flush()
        return not self._waiting and not self._is_unread()

    def _flush(self) -> None:
        while self._waiting and not self._held:
            try:
                self._socket.sendto(encode(self._waiting[0]), self._path)
            except BlockingIOError:
                return  # it is full
            except OSError:
                complain(self._waiting[0]["MESSAGE"])
            self._waiting.popleft()


def encode(fields: Fields) -> bytes:
    """Make a datagram for journald. A value with a newline has its length before it: it adds no field."""
    return b"".join(_encode(name.encode(), value.encode()) for name, value in fields.items())


def _encode(name: bytes, value: bytes) -> bytes:
    if b"\n" in value:
        return name + b"\n" + len(value).to_bytes(8, "little") + value + b"\n"
    return name + b"=" + value + b"\n"
