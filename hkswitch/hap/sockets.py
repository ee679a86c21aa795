"""Sockets that listen on an endpoint and receive from the chosen interfaces only.

Linux only; needs no privilege.

A socket that is bound to an address still receives packets for that address from other interfaces, and an
mDNS socket, which is bound to no address, receives everything, even from beyond routers.
"""

import asyncio
import ctypes
import socket
import struct
from collections.abc import Callable, Iterable, Iterator
from ipaddress import ip_network
from typing import Final, Protocol

from hkswitch.network.endpoint import Endpoint, Network

BACKLOG: Final = 64
SO_ATTACH_FILTER, SO_BINDTOIFINDEX = 26, 62  # socket(7); the socket module has no names for them
LOAD_WORD, LOAD_BYTE, AND = 0x20, 0x30, 0x54  # linux/bpf_common.h
JUMP, JUMP_IF_EQUAL, RETURN = 0x05, 0x15, 0x06
INTERFACE_INDEX: Final = 0xFFFFF000 + 8  # SKF_AD_OFF + SKF_AD_IFINDEX of linux/filter.h
NETWORK_HEADER: Final = 0xFFF00000  # SKF_NET_OFF: from here on, the IP header
EVERYTHING: Final = 0xFFFFFFFF
LOOPBACK_INTERFACE: Final = 1  # LOOPBACK_IFINDEX in net/flow.h, in each network namespace

LINK_LOCAL: Final = ip_network("fe80::/10")
GROUPS_OF_IPV4: Final = ip_network("224.0.0.0/24")
GROUPS_OF_IPV6: Final = ip_network("ff02::/16")
"""Multicast groups that routers do not forward (RFC 5771, 4, and RFC 4291, 2.7)."""

SEND_BUFFER_BYTES: Final = 128 * 1024
"""Kernel memory for a controller that does not read; the default is up to 4 MB, which counts as the
daemon's memory."""


class SupportsSetsockopt(Protocol):
    """A socket, or the socket of an asyncio transport."""

    def setsockopt(self, level: int, name: int, value: int | bytes, /) -> None:
        """Set an option of the socket."""


def bindings(endpoint: Endpoint) -> Iterator[tuple[str, int]]:
    """Yield each address with each interface that may reach it: the chosen ones and loopback."""
    for address in endpoint.addresses:
        for interface in {*endpoint.interfaces, LOOPBACK_INTERFACE}:
            if (
                "%" not in address or interface != LOOPBACK_INTERFACE
            ):  # a link-local address belongs to one interface
                yield address, interface


def listening_socket(address: str, port: int, interface: int) -> socket.socket:
    """Open a socket that listens on an address and accepts from one interface only; raises `OSError`."""
    [(family, kind, protocol, _, bound), *_] = socket.getaddrinfo(
        address, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST | socket.AI_PASSIVE
    )
    made = socket.socket(family, kind, protocol)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        # No keepalive: it would wake phones, and HAP forbids it. If a phone leaves the house without closing
        # its connection, the first event that cannot be delivered closes it.
        # The filter below would require CAP_NET_ADMIN on TCP sockets.
        made.setsockopt(socket.SOL_SOCKET, SO_BINDTOIFINDEX, interface)
        made.bind(bound)
        made.listen(BACKLOG)
    except OSError:
        made.close()
        raise
    return made


def hear_only(heard: SupportsSetsockopt, endpoint: Endpoint) -> None:
    """Drop datagrams from other interfaces and from beyond a router (RFC 6762, 11).

    Uses a filter (socket(7)). Loopback is always accepted. Routers do not forward link-local multicast; any
    other datagram could make the bridge answer a forged sender anywhere.
    """
    allowed = sorted(endpoint.interfaces - {LOOPBACK_INTERFACE})
    program = [
        _instruction(LOAD_WORD, INTERFACE_INDEX),
        *_if_equal(LOOPBACK_INTERFACE, EVERYTHING),
        *(
            _instruction(JUMP_IF_EQUAL, index, if_true=len(allowed) - number)
            for number, index in enumerate(allowed)
        ),
        _instruction(RETURN, 0),
        *(_if_on_link(endpoint.networks) if endpoint.networks else [_instruction(RETURN, EVERYTHING)]),
    ]
    code = ctypes.create_string_buffer(b"".join(program))
    # struct sock_fprog: the number of instructions and a pointer to them.
    heard.setsockopt(
        socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("@HP", len(program), ctypes.addressof(code))
    )


def _if_on_link(networks: Iterable[Network]) -> list[bytes]:
    """Accept only datagrams to link-local multicast, or from an address on the link.

    An IPv6 socket may receive IPv4 too.
    """
    ordered = sorted(networks, key=str)
    ipv4 = [*_if_within(16, GROUPS_OF_IPV4)]  # the destination in the header of RFC 791
    ipv6 = [*_if_within(24, GROUPS_OF_IPV6), *_if_within(8, LINK_LOCAL)]  # in that of RFC 8200
    for network in ordered:
        if network.version == 6:
            ipv6 += _if_within(8, network)
        else:
            ipv4 += _if_within(12, network)
    return [
        _instruction(LOAD_BYTE, NETWORK_HEADER),
        _instruction(AND, 0xF0),
        _instruction(JUMP_IF_EQUAL, 0x40, if_true=1),
        _instruction(JUMP, len(ipv4) + 1),
        *ipv4,
        _instruction(RETURN, 0),
        *ipv6,
        _instruction(RETURN, 0),
    ]


def _if_within(offset: int, network: Network) -> Iterator[bytes]:
    """Accept if the address at this offset in the IP header is in a network."""
    words = list(struct.iter_unpack("!LL", b"".join(_words(network))))
    for number, (mask, wanted) in enumerate(words):
        behind = 3 * (len(words) - number) - 2  # instructions to what follows
        yield _instruction(LOAD_WORD, NETWORK_HEADER + offset + 4 * number)
        yield _instruction(AND, mask)
        yield _instruction(JUMP_IF_EQUAL, wanted, if_false=behind)
    yield _instruction(RETURN, EVERYTHING)


def _words(network: Network) -> Iterator[bytes]:
    """Yield mask and address, four bytes of each in turn, for the non-zero words of the mask."""
    mask, address = network.netmask.packed, network.network_address.packed
    for at in range(0, len(mask), 4):
        if any(mask[at : at + 4]):
            yield mask[at : at + 4] + address[at : at + 4]


def _if_equal(value: int, result: int) -> Iterator[bytes]:
    yield _instruction(JUMP_IF_EQUAL, value, if_false=1)
    yield _instruction(RETURN, result)


def _instruction(code: int, operand: int, *, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("@HBBI", code, if_true, if_false, operand)


class CannotBind(OSError):
    """A failure to open the sockets on `addresses`, a part of an endpoint."""

    def __init__(self, error: OSError, addresses: tuple[str, ...]) -> None:
        super().__init__(error.errno, error.strerror or str(error))
        self.addresses = addresses


class ListeningSockets:
    """Listening sockets on one port, one for each address and interface."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, port: int, connect: Callable[[], asyncio.Protocol]
    ) -> None:
        """`connect` creates the protocol for a new connection."""
        self._loop = loop
        self._port = port
        self._connect = connect
        self._servers: dict[tuple[str, int], asyncio.Server] = {}
        self._open: set[tuple[str, int]] = set()
        """The addresses and interfaces that accept connections, to reject those on others during a change."""

    async def move(self, endpoint: Endpoint) -> None:
        """Listen on this endpoint only; raises `CannotBind` and then changes nothing."""
        wanted = set(bindings(endpoint))
        opened: dict[tuple[str, int], asyncio.Server] = {}
        refused: dict[str, OSError] = {}
        self._open |= wanted
        try:
            for binding in (binding for binding in bindings(endpoint) if binding not in self._servers):
                try:
                    opened[binding] = await self._opened(*binding)
                except OSError as error:
                    refused.setdefault(binding[0], error)
            if refused:
                first = next(iter(refused.values()))
                same = tuple(address for address, error in refused.items() if error.errno == first.errno)
                raise CannotBind(first, same) from first
        except BaseException:
            for server in opened.values():
                server.close()
            self._open = {*self._servers}
            raise
        self._open = wanted
        for gone in self._servers.keys() - wanted:
            self._servers.pop(gone).close()
        self._servers |= opened

    def close(self) -> None:
        """Close all sockets."""
        self._open = set()
        while self._servers:
            self._servers.popitem()[1].close()

    async def _opened(self, address: str, interface: int) -> asyncio.Server:
        def made() -> asyncio.Protocol:
            if (address, interface) not in self._open:
                raise ConnectionAbortedError  # makes asyncio close it
            return self._connect()

        bound = listening_socket(address, self._port, interface)
        try:
            server = await self._loop.create_server(made, sock=bound, backlog=1)
        except BaseException:
            bound.close()
            raise
        # asyncio tries to accept `backlog` connections at once, and starts a timer for each attempt that
        # fails for lack of file descriptors: with a larger backlog, those timers would soon use all CPU time.
        bound.listen(BACKLOG)
        return server
