"""Where the bridge is in the network. Pure: no I/O."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Place:
    """The addresses that the bridge listens on and advertises, and the interfaces that it hears, by index."""

    addresses: tuple[str, ...]
    interfaces: frozenset[int]

    def __str__(self) -> str:
        return ", ".join(self.addresses)
