"""mDNS for tests: a service, encoded packets, and the packets that an advertiser sends."""

import asyncio
import os
import random
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import pytest
from zeroconf import DNSIncoming, DNSOutgoing, DNSPointer, ServiceInfo  # type: ignore[attr-defined]
from zeroconf.asyncio import AsyncZeroconf

from hkswitch.hap.advertiser import Advertiser

HAP = "_hap._tcp.local."
IP_MULTICAST_ALL = 49
"""An option of Linux, from <linux/in.h>; Python's socket has it from 3.14 on."""
_SUFFIX = f"{os.getpid() & 0xFFFFFF:06X}"
"""Another one in each process: tests that run in parallel hear each other on the loopback interface."""
NAME, HOST = f"Test {_SUFFIX}", f"Test-{_SUFFIX}"
OTHER = "10.0.0.9"
QUERY, RESPONSE = 0x0000, 0x8400
A_IN, AAAA_IN, SRV_IN, TXT_IN, NSEC_IN, UNIQUE = (1, 1), (28, 1), (33, 1), (16, 1), (47, 1), 0x8000


def info(
    name: str = NAME, host: str = HOST, addresses: tuple[str, ...] = ("127.0.0.1",), port: int = 51826
) -> ServiceInfo:
    """Return the service as HAP-python builds it."""
    return ServiceInfo(
        HAP,
        f"{name}.{HAP}",
        port,
        properties={"sf": "1"},
        server=f"{host}.local.",
        parsed_addresses=list(addresses),
    )


@dataclass
class Said:
    """The packets that an advertiser sent, with their times."""

    messages: list[tuple[float, DNSIncoming]] = field(default_factory=list)

    def take(self, out: DNSOutgoing, *_: object, **__: object) -> None:
        now_seconds = asyncio.get_running_loop().time()
        self.messages += [(now_seconds, DNSIncoming(packet)) for packet in out.packets()]

    @property
    def probes(self) -> list[float]:
        return [at for at, message in self.messages if message.is_query()]

    @property
    def announcements(self) -> list[float]:
        return [at for at, message in self.messages if not message.is_query()]

    @property
    def names(self) -> list[str]:
        """Return the announced instances."""
        return [
            record.alias.removesuffix(f".{HAP}")
            for _, message in self.messages
            for record in message.answers()
            if isinstance(record, DNSPointer)
        ]


@asynccontextmanager
async def advertising(address: str) -> AsyncIterator[Advertiser]:
    """Provide an advertiser on an address within the block."""
    made = Advertiser([address])
    try:
        await made.zeroconf.async_wait_for_start()
        yield made
    finally:
        await made.stop_announcing()
        await made.async_close()


def overheard(ours: Advertiser, monkeypatch: pytest.MonkeyPatch) -> Said:
    """Record what it sends from now on, send nothing, and let it hear nothing but what `hear` delivers."""
    taken = Said()
    for reader in ours.zeroconf.engine.readers:
        leave_group(reader.transport.get_extra_info("socket"))
    monkeypatch.setattr(ours.zeroconf, "async_send", taken.take)
    return taken


def leave_group(reader: socket.socket) -> None:
    """Receive no more multicast packets of the loopback interface: it has those of parallel tests, too."""
    membership = struct.pack("4s4xi", socket.inet_aton("224.0.0.251"), socket.if_nametoindex("lo"))
    with suppress(OSError):  # only one of the sockets is a member
        reader.setsockopt(socket.IPPROTO_IP, socket.IP_DROP_MEMBERSHIP, membership)
    # Without this, Linux delivers what any socket of the machine has joined.
    reader.setsockopt(socket.IPPROTO_IP, IP_MULTICAST_ALL, 0)


def hear(ours: Advertiser, packet: bytes, sender: str = OTHER, port: int = 5353) -> None:
    """Deliver a packet to it, as its socket does."""
    protocol = ours.zeroconf.engine.readers[0].transport.get_protocol()
    assert isinstance(protocol, asyncio.DatagramProtocol)
    protocol.datagram_received(packet, (sender, port))


def message(flags: int, *, questions: int = 0, answers: int = 0, authorities: int = 0) -> bytes:
    return struct.pack("!6H", random.getrandbits(16), flags, questions, answers, authorities, 0)


def labels(name: str) -> bytes:
    parts = [part.encode() for part in name.rstrip(".").split(".")]
    return b"".join(bytes([len(part)]) + part for part in parts) + b"\0"


def record(name: str, kind: tuple[int, int], data: bytes, ttl: int = 120, unique: int = UNIQUE) -> bytes:
    kind_number, class_number = kind
    return labels(name) + struct.pack("!HHIH", kind_number, class_number | unique, ttl, len(data)) + data


def srv(name: str, host: str, ttl: int = 120, port: int = 51826, unique: int = UNIQUE) -> bytes:
    return record(name, SRV_IN, struct.pack("!3H", 0, 0, port) + labels(host), ttl, unique)


@asynccontextmanager
async def twin(device_id: str, name: str, address: str) -> AsyncIterator[None]:
    """Announce a second bridge with the same identity, such as one that was started again."""
    service = ServiceInfo(
        HAP,
        f"{name}.{HAP}",
        port=51999,
        properties={"id": device_id, "c#": "2"},
        server="twin.local.",
        parsed_addresses=[address],
    )
    announcer = AsyncZeroconf(interfaces=[address])
    try:
        await (await announcer.async_register_service(service))
        yield
    finally:
        await announcer.async_unregister_all_services()
        await announcer.async_close()
