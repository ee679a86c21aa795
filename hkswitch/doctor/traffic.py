"""The incoming packets that the bridge needs, as firewalls describe packets. Pure: no I/O."""

import re
from collections.abc import Iterator
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final, NamedTuple

from hkswitch.model.errors import Failure
from hkswitch.network.endpoint import Endpoint, Network

MDNS_PORT: Final = 5353

IPV4, IPV6 = "ip", "ip6"
"""The IP versions, as nftables calls them."""

Ports = tuple[tuple[int, int], ...]
"""Ranges of ports, each with its first and its last."""


class Packet(NamedTuple):
    """A packet that starts a connection, or an mDNS query. Its interface is empty if that is not known."""

    protocol: str
    port: int
    interface: str
    family: str


class Traffic(NamedTuple):
    """The packets from the phones: to two ports, on the bridge's interfaces, from its network.

    Without addresses, the bridge's network is not known.
    """

    port: int
    interfaces: tuple[str, ...]
    addresses: tuple[IPv4Address | IPv6Address, ...]

    @property
    def ports(self) -> tuple[tuple[str, int], ...]:
        """Both ports, each after its protocol."""
        return ("udp", MDNS_PORT), ("tcp", self.port)

    @property
    def families(self) -> tuple[str, ...]:
        """The IP versions of the bridge, the one that phones need first; IPv4 if that is not known."""
        versions = sorted({address.version for address in self.addresses})
        return tuple(IPV6 if version == ip_version(IPV6) else IPV4 for version in versions) or (IPV4,)

    def packets(self, family: str) -> tuple[Packet, ...]:
        """Return a packet to each port on each interface."""
        return tuple(
            Packet(protocol, port, interface, family)
            for interface in self.interfaces or ("",)
            for protocol, port in self.ports
        )

    def comes_from(self, source: Network, family: str) -> bool:
        """Whether the bridge's network is in the source of a rule: its own address, but not that alone."""
        if source.version != ip_version(family):
            return False
        return source.prefixlen == 0 or (
            source.num_addresses > 1 and any(address in source for address in self.addresses)
        )

    def __str__(self) -> str:
        return f"{MDNS_PORT}/udp and {self.port}/tcp"


def traffic_to(port: int, endpoint: Endpoint | Failure, interfaces: tuple[str, ...]) -> Traffic:
    addresses = () if isinstance(endpoint, Failure) else endpoint.addresses
    return Traffic(port, interfaces, tuple(map(ip_address, addresses)))


def ip_version(family: str) -> int:
    return 6 if family == IPV6 else 4


def network_of(text: str) -> Network | None:
    """Parse a network or an address; None for anything else, such as the name of a set."""
    with suppress(ValueError):
        return ip_network(text, strict=False)
    return None


def ports_in(text: str) -> Ports:
    """Parse `22,80:90` or `22 80-90`; leave out anything else."""
    return tuple(_ports_in(text))


def _ports_in(text: str) -> Iterator[tuple[int, int]]:
    for part in re.split(r"[,\s]+", text):
        if found := re.fullmatch(r"(\d{1,5})(?:[:-](\d{1,5}))?", part):
            yield int(found[1]), int(found[2] or found[1])


def has_port(ports: Ports, port: int) -> bool:
    return any(first <= port <= last for first, last in ports)
