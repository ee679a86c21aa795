"""A journal of the tests: a socket that takes what journald would, and takes it apart."""

import socket
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import pytest


@dataclass(frozen=True)
class Journal:
    """A socket at `path`; use it in a `with`."""

    path: str
    socket: socket.socket

    @classmethod
    def at(cls, path: Path) -> Self:
        """Take datagrams at a path; what was there is gone."""
        path.unlink(missing_ok=True)
        taking = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        taking.bind(str(path))
        taking.settimeout(5)
        return cls(str(path), taking)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Take no more."""
        self.socket.close()

    def read(self) -> dict[str, str]:
        """The next line; it must come soon."""
        return decode(self.socket.recv(10**6))

    def read_all(self) -> list[dict[str, str]]:
        """The lines that are there."""
        lines = []
        self.socket.settimeout(0)
        with suppress(BlockingIOError):
            while True:
                lines.append(decode(self.socket.recv(10**6)))
        self.socket.settimeout(5)
        return lines


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal.at(tmp_path / "journal") as taking:
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
