"""Finds the process that has a TCP or UDP port of this machine. Only reads /proc; needs no privilege."""

import pwd
import sys
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Final

from hkswitch.model.printable import printable

PROC: Final = Path("/proc")
TCP_TABLES: Final = ("self/net/tcp", "self/net/tcp6")  # /proc/net is missing in a unit with ProcSubset=pid
UDP_TABLES: Final = ("self/net/udp", "self/net/udp6")

_READY_STATES: Final = {"0A", "07"}
"""TCP_LISTEN and TCP_CLOSE in linux/tcp_states.h; a UDP socket without a peer is in the latter."""


@dataclass(frozen=True, slots=True)
class Listener:
    """A socket that listens, or receives from any peer, and its owner."""

    address: IPv4Address | IPv6Address
    port: int
    user_id: int
    inode: str

    def is_in_the_way_of(self, address: str) -> bool:
        """Return whether it occupies its port on this address, maybe among others."""
        wanted = ip_address(address.partition("%")[0])
        # An IPv6 socket that is bound to all addresses may accept IPv4 too.
        has_all = self.address.is_unspecified and self.address.version >= wanted.version
        return has_all or self.address == wanted


def holder(port: int, addresses: Collection[str] = ()) -> str:
    """Describe the process that listens on a port, for a sentence; empty if there is none.

    With `addresses`, it considers only sockets on these.
    """
    rows = _at(port, TCP_TABLES)
    return _described([each for each in rows if not addresses or any(map(each.is_in_the_way_of, addresses))])


def udp_holders(port: int) -> tuple[str, ...]:
    """Describe each process that receives on a UDP port, for a sentence."""
    return tuple(dict.fromkeys(_described([each]) for each in _at(port, UDP_TABLES)))


def _at(port: int, tables: Iterable[str]) -> list[Listener]:
    return [each for table in tables for each in listeners(_text(PROC / table)) if each.port == port]


def _described(found: Sequence[Listener]) -> str:
    if not found:
        return ""
    process = _process_of({f"socket:[{each.inode}]" for each in found})
    return process or f"a program of user {_user(found[0].user_id)}"


def listeners(table: str) -> tuple[Listener, ...]:
    """Parse the sockets without a peer in /proc/net/tcp, tcp6, udp or udp6 (proc(5)). Pure."""
    rows = [line.split() for line in table.splitlines()[1:]]
    return tuple(
        Listener(_address(row[1]), int(row[1].rpartition(":")[2], 16), int(row[7]), row[9])
        for row in rows
        if row[3] in _READY_STATES
    )


def _address(text: str) -> IPv4Address | IPv6Address:
    """Parse an address in 32-bit words of the machine's byte order."""
    packed = bytes.fromhex(text.partition(":")[0])
    words = [packed[at : at + 4] for at in range(0, len(packed), 4)]
    joined = b"".join(word[::-1] if sys.byteorder == "little" else word for word in words)
    return IPv4Address(joined) if len(joined) == 4 else IPv6Address(joined)


def _process_of(sockets: set[str]) -> str:
    """Describe the first process that has one of the sockets open; empty if permissions hide it."""
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


# Processes may exit in the meantime, and those of other users may be hidden: both are treated as empty.


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
