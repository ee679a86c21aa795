"""Which addresses of a machine the bridge serves on. Pure: no I/O."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

from hkswitch.model.config import BridgeConfig
from hkswitch.model.errors import Failure

_UP, _LOOPBACK, _POINT_TO_POINT, _MULTICAST = 0x1, 0x8, 0x10, 0x1000  # netdevice(7)
_TEMPORARY, _DAD_FAILED, _DEPRECATED, _TENTATIVE = 0x01, 0x08, 0x20, 0x40  # linux/if_addr.h

MOST_NAMED: Final = 16
"""Interfaces in a sentence."""

_NO_LAN: Final = (
    r"docker.*|br-[0-9a-f]{12}",  # Docker: its own bridges, and those of its networks
    r"(podman|cni|nerdctl).*",  # Podman and containerd
    r"(cali|flannel|cilium|kube|weave|vxlan\.calico).*",  # Kubernetes
    r"(lxcbr|lxdbr|incusbr).*",  # LXC, LXD and Incus, which hide what is behind them
    r"veth.*|v[ebz]-.*",  # one end of a container's cable; systemd-nspawn's have a dash
    r"(virbr|vnet|vmnet|vboxnet).*",  # libvirt, VMware and VirtualBox
    r"(fwbr|fwpr|fwln).*",  # Proxmox: the firewall of one guest; its vmbr0 is a LAN
    r"(tap|zt).*",  # guests and tunnels that pass for Ethernet, as OpenVPN's and ZeroTier's
)


class NoAddress(Failure):
    """There is no address to serve on now; `str()` says why, and `wanted` what is waited for."""

    def __init__(self, why: str = "", wanted: str = "the network") -> None:
        super().__init__(why)
        self.wanted = wanted


class NoDefaultRoute(NoAddress):
    """Nothing was configured, and there is no default route either."""

    def __init__(self, remedy: str = "set bridge.interface or bridge.address") -> None:
        """`remedy` is another one where those are not read."""
        super().__init__(f"there is no default route to choose an address by; {remedy}", "a default route")


@dataclass(frozen=True, slots=True)
class Address:
    """An address of this machine. `label` is its interface, or an alias like eth0:1; `flags` are IPv6's."""

    label: str
    ip: IPv4Address | IPv6Address
    flags: int = 0

    def __str__(self) -> str:
        scoped = self.ip.version == 6 and self.ip.is_link_local
        return f"{self.ip}%{self.label}" if scoped else str(self.ip)

    @property
    def is_ready(self) -> bool:
        """Whether the kernel lets a socket be bound to it: it found that no other machine has it."""
        return not self.flags & (_TENTATIVE | _DAD_FAILED)

    @property
    def is_reachable(self) -> bool:
        """Whether a phone can reach it, and can do so tomorrow."""
        return self.is_ready and not self.flags & (_TEMPORARY | _DEPRECATED) and not self.ip.is_link_local


@dataclass(frozen=True, slots=True)
class Machine:
    """What the kernel says: links with their flags, addresses, who has a default route (best first)."""

    links: Mapping[str, int]
    addresses: tuple[Address, ...] = ()
    defaults: tuple[str, ...] = ()

    def is_up(self, label: str) -> bool:
        """Whether an interface is there and up; one that is down keeps addresses that no phone reaches."""
        return bool(self.links.get(interface_of(label), 0) & _UP)


def choose(config: BridgeConfig, machine: Machine, staying: frozenset[str] = frozenset()) -> tuple[str, ...]:
    """`of_bridge` on any machine, where the bridge is on the interfaces `staying` by default. Pure."""
    if config.addresses:
        return _configured(_wanted(config), machine)
    if config.interfaces:
        return _of_interfaces(config.interfaces, machine)
    if (interface := _default(machine)) is not None:
        return _of_interfaces((interface,), machine)
    # A router that restarts, or a VPN, may take the route away, and phones still reach the bridge.
    left = tuple(sorted(name for name in staying if is_lan(name, machine.links.get(name, 0))))
    try:
        return _of_interfaces(left, machine)
    except NoAddress:
        raise NoDefaultRoute from None


def lack(config: BridgeConfig, machine: Machine) -> str:
    """What is waited for beside the addresses that are there, and why; empty if all are. Pure."""
    if config.addresses:
        missing = _missing(_wanted(config), machine)
        return f"{' and '.join(missing)}: {_no_interface_has(missing)}" if missing else ""
    if config.interfaces:
        names = tuple(name for name in config.interfaces if not _reachable(name, machine))
        return f"{' and '.join(names)}: {_lacks(names, machine)}" if names else ""
    if _default(machine) is None:
        return f"{NoDefaultRoute().wanted}: {NoDefaultRoute()}"
    return ""


def is_lan(name: str, flags: int) -> bool:
    """Whether phones may be behind this interface, not containers, virtual machines or a tunnel. Pure."""
    if not flags & _UP or not flags & _MULTICAST or flags & (_LOOPBACK | _POINT_TO_POINT):
        return False
    return not any(re.fullmatch(pattern, name) for pattern in _NO_LAN)


def interface_of(label: str) -> str:
    """The interface of an alias like eth0:1, or of itself."""
    return label.partition(":")[0]


def _wanted(config: BridgeConfig) -> tuple[str, ...]:
    return tuple(str(ip_address(text)) for text in config.addresses)


def _configured(wanted: tuple[str, ...], machine: Machine) -> tuple[str, ...]:
    missing = _missing(wanted, machine)
    if there := tuple(text for text in wanted if text not in missing):
        return there
    raise NoAddress(_no_interface_has(missing), " or ".join(missing))


def _missing(wanted: tuple[str, ...], machine: Machine) -> list[str]:
    there = {str(each) for each in machine.addresses if each.is_ready and machine.is_up(each.label)}
    return [text for text in wanted if not ip_address(text).is_loopback and text not in there]


def _no_interface_has(missing: list[str]) -> str:
    return f"no interface that is up has the address {' or '.join(missing)}"


def _default(machine: Machine) -> str | None:
    return next((name for name in machine.defaults if is_lan(name, machine.links.get(name, 0))), None)


def _of_interfaces(names: tuple[str, ...], machine: Machine) -> tuple[str, ...]:
    """IPv4 first: IPv6 addresses of homes come and go."""
    found = [ip for name in names for ip in _reachable(name, machine)]
    if not found:
        raise NoAddress(_lacks(names, machine), " or ".join(names))
    return tuple(dict.fromkeys(str(ip) for ip in sorted(found, key=lambda ip: ip.version)))


def _reachable(name: str, machine: Machine) -> list[IPv4Address | IPv6Address]:
    if not machine.is_up(name):
        return []
    there = [each for each in machine.addresses if each.is_reachable]
    return [each.ip for each in there if name in {each.label, interface_of(each.label)}]


def _lacks(names: tuple[str, ...], machine: Machine) -> str:
    why = " and ".join(_lack(name, machine) for name in names)
    if all(map(machine.is_up, names)):
        return why
    # Containers come and go, and each would be a line in the log.
    there = sorted(name for name in machine.links if is_lan(name, _UP | _MULTICAST))
    more = f" and {len(there) - MOST_NAMED} more" if len(there) > MOST_NAMED else ""
    return f"{why}; there are: {', '.join(there[:MOST_NAMED])}{more}"


def _lack(name: str, machine: Machine) -> str:
    if machine.is_up(name):
        return f"the interface {name} has no address that a phone could reach"
    if interface_of(name) in machine.links:
        return f"the interface {name} is down"
    return f"there is no interface {name} with an address"
