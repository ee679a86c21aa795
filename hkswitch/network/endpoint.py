"""The endpoint of the bridge on the network. Pure: no I/O."""

from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network

Network = IPv4Network | IPv6Network
"""A range of addresses that are reached without a router."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The addresses that the bridge listens on and advertises, and the interfaces that it accepts, by index.

    `lack` names what else is chosen but missing, and why; `remedy` is the fix. Both are ignored in
    comparisons. `networks` are those of the interfaces; if empty, packets from beyond a router are not
    recognised.
    """

    addresses: tuple[str, ...]
    interfaces: frozenset[int]
    lack: str = field(default="", compare=False)
    remedy: str = field(default="", compare=False)
    networks: frozenset[Network] = frozenset()

    def __str__(self) -> str:
        return ", ".join(self.addresses)

    def within(self, other: "Endpoint") -> "Endpoint | None":
        """Return the part that is also in another endpoint, or None if there is none."""
        addresses = tuple(address for address in self.addresses if address in other.addresses)
        interfaces = self.interfaces & other.interfaces
        lost = self.interfaces and not interfaces
        kept = Endpoint(addresses, interfaces, other.lack, other.remedy, other.networks)
        return kept if addresses and not lost else None
