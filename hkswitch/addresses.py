"""Which addresses the bridge serves on and advertises. Reads the kernel's tables, sends nothing."""

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Final

import ifaddr

from hkswitch.core.config import BridgeConfig
from hkswitch.core.errors import Failure

ROUTES: Final = Path("/proc/net/route")
LOOPBACK: Final = "127.0.0.1"


class NoAddress(Failure):
    """There is no address to serve on; `str()` says why."""


class NoDefaultRoute(NoAddress):
    """Nothing was configured, and there is no default route either."""

    def __str__(self) -> str:
        return "there is no default route to choose an address by; set bridge.interface or bridge.address"


def of_bridge(config: BridgeConfig) -> tuple[str, ...]:
    """The configured addresses, those of the configured interfaces, or those of the default route's."""
    if config.addresses:
        return config.addresses
    if config.interfaces:
        return tuple(address for name in config.interfaces for address in of_interface(name))
    interface = default_interface(ROUTES.read_text(encoding="ascii"))
    if interface is None:
        raise NoDefaultRoute
    return of_interface(interface)


def of_interface(name: str) -> tuple[str, ...]:
    """The IPv4 addresses of an interface, or else its IPv6 addresses that are valid beyond the link."""
    adapters = {adapter.name: adapter for adapter in ifaddr.get_adapters()}
    if name not in adapters:
        raise NoAddress(
            f"there is no interface {name} with an address; there are: {', '.join(sorted(adapters))}"
        )
    found = [ip_address(ip.ip if isinstance(ip.ip, str) else ip.ip[0]) for ip in adapters[name].ips]
    if not (best := preferred(found)):
        raise NoAddress(f"the interface {name} has no address that a phone could reach")
    return tuple(str(address) for address in best)


def preferred(found: Iterable[IPv4Address | IPv6Address]) -> list[IPv4Address | IPv6Address]:
    """IPv4 if there is any: IPv6 addresses of homes come and go. Pure."""
    usable = [address for address in found if not address.is_link_local]
    return [address for address in usable if address.version == 4] or usable


def default_interface(routes: str) -> str | None:
    """The interface of the default route with the lowest metric in /proc/net/route (proc(5)). Pure."""
    rows = [line.split() for line in routes.splitlines()[1:]]
    defaults = [row for row in rows if row[1] == "00000000" and row[7] == "00000000"]
    return min(defaults, key=lambda row: int(row[6]))[0] if defaults else None
