"""Where the bridge is in the network. Pure: no I/O."""

from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network

Network = IPv4Network | IPv6Network
"""The addresses that are reached by no router."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The addresses that the bridge listens on and advertises, and the interfaces that it hears, by index.

    `lack`: what else was chosen and is not there, and why; `remedy`: what to do about it. They make no
    other place. `networks`: those of the interfaces. Without any, it is not known what comes from beyond a
    router.
    """

    addresses: tuple[str, ...]
    interfaces: frozenset[int]
    lack: str = field(default="", compare=False)
    remedy: str = field(default="", compare=False)
    networks: frozenset[Network] = frozenset()

    def __str__(self) -> str:
        return ", ".join(self.addresses)

    def within(self, other: "Endpoint") -> "Endpoint | None":
        """What is in another place too; None if that is no place."""
        addresses = tuple(address for address in self.addresses if address in other.addresses)
        interfaces = self.interfaces & other.interfaces
        lost = self.interfaces and not interfaces
        kept = Endpoint(addresses, interfaces, other.lack, other.remedy, other.networks)
        return kept if addresses and not lost else None
