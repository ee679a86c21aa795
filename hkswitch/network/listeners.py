"""Who listens on a TCP port of this machine. Only reads /proc, and needs no privilege."""

import pwd
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hkswitch.model.printable import printable

PROC: Final = Path("/proc")
TABLES: Final = ("self/net/tcp", "self/net/tcp6")  # net/ is not there in a unit with ProcSubset=pid

_LISTEN: Final = "0A"  # TCP_LISTEN in linux/tcp_states.h


@dataclass(frozen=True, slots=True)
class Listener:
    """A socket that waits for connections, and whose it is."""

    port: int
    user_id: int
    inode: str


def holder(port: int) -> str:
    """Who listens on a port, as words for a sentence; empty if nobody does."""
    found = [each for table in TABLES for each in listeners(_text(PROC / table)) if each.port == port]
    if not found:
        return ""
    process = _process_of({f"socket:[{each.inode}]" for each in found})
    return process or f"a program of user {_user(found[0].user_id)}"


def listeners(table: str) -> tuple[Listener, ...]:
    """The listening sockets in /proc/net/tcp or tcp6 (proc(5)). Pure."""
    rows = [line.split() for line in table.splitlines()[1:]]
    return tuple(
        Listener(int(row[1].rpartition(":")[2], 16), int(row[7]), row[9]) for row in rows if row[3] == _LISTEN
    )


def _process_of(sockets: set[str]) -> str:
    """The first process that has one of the sockets open; empty if all that do hide it."""
    for number in sorted(int(folder.name) for folder in _entries(PROC) if folder.name.isdecimal()):
        folder = PROC / str(number)
        if any(_target(file) in sockets for file in _entries(folder / "fd")):
            name = printable(_text(folder / "comm").strip())
            return f"process {number} ({name})" if name else f"process {number}"
    return ""


def _user(user_id: int) -> str:
    try:
        return pwd.getpwuid(user_id).pw_name
    except KeyError:
        return str(user_id)


# Processes end while they are looked at, and those of others may hide: all that is then nothing.


def _entries(folder: Path) -> Iterable[Path]:
    with suppress(OSError):
        return list(folder.iterdir())
    return ()


def _target(link: Path) -> str:
    with suppress(OSError):
        return str(link.readlink())
    return ""


def _text(file: Path) -> str:
    with suppress(OSError):
        return file.read_text(encoding="utf-8", errors="replace")
    return ""
