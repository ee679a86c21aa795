"""Sockets that hear only what came in by chosen interfaces. Linux only; needs no privilege.

A socket that is bound to an address still gets what is sent to that address by way of another interface, and
an mDNS socket, which is bound to none, gets everything.
"""

import ctypes
import socket
import struct
from collections.abc import Iterable, Iterator
from typing import Final, Protocol

from hkswitch.network.endpoint import Place

BACKLOG: Final = 64
SO_ATTACH_FILTER, SO_BINDTOIFINDEX = 26, 62  # socket(7); the socket module has no names for them
LOAD_WORD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06  # linux/bpf_common.h
INTERFACE_INDEX: Final = 0xFFFFF000 + 8  # SKF_AD_OFF + SKF_AD_IFINDEX of linux/filter.h
EVERYTHING: Final = 0xFFFFFFFF
LOOPBACK: Final = 1  # LOOPBACK_IFINDEX in net/flow.h, in each network namespace

SEND_BUFFER_BYTES: Final = 128 * 1024
"""Of the kernel's memory for a controller that does not read; it would take up to 4 MB, from ours."""


class Socket(Protocol):
    """What is needed of a socket; that of a transport has it too."""

    def setsockopt(self, level: int, name: int, value: int | bytes, /) -> None:
        """Set an option of the socket."""


def ways(place: Place) -> Iterator[tuple[str, int]]:
    """Each address with each interface by which it may be reached: the chosen ones, and from this machine."""
    for address in place.addresses:
        for interface in {*place.interfaces, LOOPBACK}:
            if "%" not in address or interface != LOOPBACK:  # its scope is its one interface
                yield address, interface


def listening(address: str, port: int, interface: int) -> socket.socket:
    """A socket that listens on an address for what comes by one interface; raises `OSError`."""
    [(family, kind, protocol, _, bound), *_] = socket.getaddrinfo(
        address, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST | socket.AI_PASSIVE
    )
    made = socket.socket(family, kind, protocol)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        # No keepalive: it would wake phones, and HAP forbids it. An event that cannot be delivered
        # ends the connection of a phone that left the house without a word.
        # No filter as below: on a TCP socket the kernel wants CAP_NET_ADMIN for that.
        made.setsockopt(socket.SOL_SOCKET, SO_BINDTOIFINDEX, interface)
        made.bind(bound)
        made.listen(BACKLOG)
    except OSError:
        made.close()
        raise
    return made


def hear_only(heard: Socket, interfaces: Iterable[int]) -> None:
    """Drop the datagrams that come in by other interfaces; loopback is always heard (socket(7))."""
    allowed = sorted({*interfaces, LOOPBACK})
    program = [
        _instruction(LOAD_WORD, INTERFACE_INDEX),
        *(
            _instruction(JUMP_IF_EQUAL, index, if_true=len(allowed) - number)
            for number, index in enumerate(allowed)
        ),
        _instruction(RETURN, 0),
        _instruction(RETURN, EVERYTHING),
    ]
    code = ctypes.create_string_buffer(b"".join(program))
    # struct sock_fprog: the number of instructions, and where they are.
    heard.setsockopt(
        socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("@HP", len(program), ctypes.addressof(code))
    )


def _instruction(code: int, operand: int, *, if_true: int = 0) -> bytes:
    return struct.pack("@HBBI", code, if_true, 0, operand)
