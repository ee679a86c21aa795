"""A journal of the tests: a socket that takes what journald would, at once, and takes it apart."""

import select
import socket
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import pytest

WITHIN_SECONDS = 5


@dataclass(frozen=True, eq=False)
class Journal:
    """A socket at `path`; use it in a `with`. It takes nothing while it is stopped."""

    path: str
    socket: socket.socket
    _goes_on: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _lines: deque[dict[str, str]] = field(default_factory=deque)

    @classmethod
    def at(cls, path: Path, *, stopped: bool = False) -> Self:
        """Take datagrams at a path; what was there is gone."""
        path.unlink(missing_ok=True)
        taking = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        taking.bind(str(path))
        journal = cls(str(path), taking)
        if not stopped:
            journal.go_on()
        threading.Thread(target=journal._take_all, daemon=True).start()
        return journal

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Take no more."""
        with self._lock, suppress(OSError):  # it is closed
            self.socket.shutdown(socket.SHUT_RD)  # who waits for it would keep it open
            self.socket.close()
        self._goes_on.set()

    def stop(self) -> None:
        """Take nothing until it goes on."""
        self._goes_on.clear()
        with self._lock:
            pass  # what was being taken has been

    def go_on(self) -> None:
        """Take what comes, and came."""
        self._goes_on.set()

    def read(self) -> dict[str, str]:
        """The next line; it must come soon."""
        deadline_seconds = time.monotonic() + WITHIN_SECONDS
        while not self._lines:
            assert time.monotonic() < deadline_seconds, "no line"
            time.sleep(0.002)
        return self._lines.popleft()

    def read_all(self) -> list[dict[str, str]]:
        """The lines that are there."""
        with self._lock:
            self._take()
        lines = [*self._lines]
        self._lines.clear()
        return lines

    def _take_all(self) -> None:
        while self._goes_on.wait():
            with suppress(ValueError, OSError):  # it was closed
                select.select([self.socket], [], [], 1)
            with self._lock:
                if self.socket.fileno() < 0:
                    return
                if self._goes_on.is_set():
                    self._take()

    def _take(self) -> None:
        with suppress(BlockingIOError):
            while True:
                self._lines.append(decode(self.socket.recv(10**6)))


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal.at(tmp_path / "journal") as taking:
        yield taking


@pytest.fixture
def stopped_journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal.at(tmp_path / "journal", stopped=True) as taking:
        yield taking


def decode(datagram: bytes) -> dict[str, str]:
    """The fields of a datagram of journald's native protocol, each of which must be there once."""
    fields: dict[str, str] = {}
    while datagram:
        line, _, datagram = datagram.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if not equals:
            length = int.from_bytes(datagram[:8], "little")
            value, end, datagram = datagram[8 : 8 + length], datagram[8 + length], datagram[9 + length :]
            assert end == ord("\n")
        assert fields.setdefault(name.decode(), value.decode()) == value.decode()
    return fields
