"""Captures the mDNS packets on an interface of a host, and sends queries there."""

import errno
import itertools
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Final

from zeroconf import (  # type: ignore[attr-defined] # not in its __all__
    DNSAddress,
    DNSIncoming,
    DNSOutgoing,
    DNSPointer,
    DNSQuestion,
    DNSService,
)

from tests.host.machine import Host

MDNS_GROUP: Final = "224.0.0.251"
MDNS_PORT: Final = 5353
PTR: Final = 12
IN: Final = 1

_ETH_P_ALL: Final = 0x0003
_SOL_PACKET: Final = 263  # packet(7); the socket module has no names for these
_PACKET_STATISTICS: Final = 6
_SO_RCVBUFFORCE: Final = 33
_BUFFER_BYTES: Final = 8 << 20
_MOST_FRAME_BYTES: Final = 1 << 16
_ids = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Packet:
    """A UDP packet on the wire; `sent` tells whether the captured host sent it."""

    sent: bool
    source_mac: str
    source: str
    source_port: int
    destination: str
    destination_port: int
    payload: bytes = field(repr=False)

    @property
    def is_mdns(self) -> bool:
        """Whether the source or destination port is mDNS's; so legacy unicast responses count."""
        return MDNS_PORT in {self.source_port, self.destination_port}

    @property
    def message(self) -> DNSIncoming:
        """The DNS message in the packet, which must be valid."""
        message = DNSIncoming(self.payload)
        assert message.valid, self
        return message

    @property
    def names(self) -> frozenset[str]:
        """Every name in the message: of questions, of records, and in the data of records."""
        message = self.message
        entries = (*message.questions, *message.answers())
        return frozenset(name.lower() for entry in entries for name in (entry.name, *_targets(entry)))

    def mentions(self, text: str) -> bool:
        """Return whether a name in the message contains this text."""
        return any(text.lower() in name for name in self.names)

    @property
    def is_goodbye(self) -> bool:
        """Whether the packet is a goodbye: all its records have a TTL of 0."""
        records = self.message.answers()
        return bool(records) and all(record.ttl == 0 for record in records)

    def addresses(self, name: str) -> frozenset[str]:
        """Return the IPv4 and IPv6 addresses that the message gives for a name; a goodbye gives none."""
        return frozenset(
            str(ip_address(record.address))
            for record in self.message.answers()
            if isinstance(record, DNSAddress) and record.name.lower() == name.lower() and record.ttl
        )

    def targets(self, name: str) -> frozenset[tuple[str, int]]:
        """Return the host names and ports that the message gives for a service; a goodbye gives none."""
        return frozenset(
            (record.server, record.port)
            for record in self.message.answers()
            if isinstance(record, DNSService) and record.name.lower() == name.lower() and record.ttl
        )


class Capture:
    """The UDP packets on an interface since the capture started; the kernel buffers them until read."""

    def __init__(self, tap: socket.socket) -> None:
        self._tap = tap
        self._packets: list[Packet] = []

    def packets(self) -> tuple[Packet, ...]:
        """Return all packets so far, in order."""
        for frame, packet_type in self._frames():
            packet = _parsed(frame, sent=packet_type == socket.PACKET_OUTGOING)
            self._packets += [] if packet is None else [packet]
        _, lost = struct.unpack("II", self._tap.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8))
        assert lost == 0, "the kernel dropped frames"
        return tuple(self._packets)

    def sent(self) -> tuple[Packet, ...]:
        """Return the packets that the host sent."""
        return tuple(packet for packet in self.packets() if packet.sent)

    def sent_mdns(self) -> tuple[Packet, ...]:
        """Return the mDNS packets that the host sent."""
        return tuple(packet for packet in self.sent() if packet.is_mdns)

    def frames(self) -> list[tuple[bytes, bool]]:
        """Return all frames since the last call, of any protocol, and whether the host sent each."""
        return [(frame, packet_type == socket.PACKET_OUTGOING) for frame, packet_type in self._frames()]

    def _frames(self) -> Iterator[tuple[bytes, int]]:
        while True:
            try:
                frame, (_, _, packet_type, *_) = self._tap.recvfrom(_MOST_FRAME_BYTES, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENETDOWN:  # reported once per outage; the interface may come back
                    raise
            else:
                yield frame, packet_type


@contextmanager
def captured(host: Host, interface: str) -> Iterator[Capture]:
    """Capture an interface of a host, in both directions."""
    with host.network():
        tap = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)  # receives nothing before it is bound
    with tap:
        tap.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER_BYTES)
        tap.bind((interface, _ETH_P_ALL))
        yield Capture(tap)


def ask(
    name: str, *, by: str, to: str = MDNS_GROUP, from_port: int = MDNS_PORT, unicast_answer: bool = False
) -> None:
    """Send a PTR query from the interface with the address `by`, in the network of the calling thread.

    A query from another port than mDNS's is a legacy query, and gets its response at that port.
    """
    question = DNSQuestion(name, PTR, IN)
    question.unicast = unicast_answer
    query = DNSOutgoing(0)
    query.add_question(question)
    (message,) = query.packets()
    unique_message = (
        struct.pack("!H", next(_ids)) + message[2:]
    )  # a repeated question is not answered again so soon
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(by))
        sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 255)
        sender.bind((by, from_port))
        sender.sendto(unique_message, (to, MDNS_PORT))


def _targets(entry: object) -> tuple[str, ...]:
    match entry:
        case DNSPointer():
            return (entry.alias,)
        case DNSService():
            return (entry.server,)
    return ()


def _parsed(frame: bytes, *, sent: bool) -> Packet | None:
    """Parse an Ethernet frame with a UDP packet; mDNS needs no fragments or extension headers."""
    source_mac, (ether_type,), packet = frame[6:12], struct.unpack("!H", frame[12:14]), frame[14:]
    match ether_type:
        case 0x0800:  # IPv4
            protocol, source, destination = packet[9], packet[12:16], packet[16:20]
            datagram = packet[(packet[0] & 0x0F) * 4 :]
        case 0x86DD:  # IPv6
            protocol, source, destination, datagram = packet[6], packet[8:24], packet[24:40], packet[40:]
        case _:
            return None
    if protocol != socket.IPPROTO_UDP:
        return None
    source_port, destination_port, length = struct.unpack("!HHH", datagram[:6])
    return Packet(
        sent,
        source_mac.hex(":"),
        str(ip_address(source)),
        source_port,
        str(ip_address(destination)),
        destination_port,
        datagram[8:length],
    )
