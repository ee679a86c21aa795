"""Chooses the addresses on which the bridge serves. Pure: no I/O."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

from hkswitch.model.config import BridgeConfig
from hkswitch.model.errors import Failure

_UP, _LOOPBACK, _POINT_TO_POINT, _MULTICAST = 0x1, 0x8, 0x10, 0x1000  # netdevice(7)
_TEMPORARY, _DAD_FAILED, _DEPRECATED, _TENTATIVE = 0x01, 0x08, 0x20, 0x40  # linux/if_addr.h

MOST_NAMED_INTERFACES: Final = 16
"""Interfaces to list in one sentence."""

_NO_LAN: Final = (
    r"docker.*|br-[0-9a-f]{12}",  # Docker: its own bridges and those of its networks
    r"(podman|cni|nerdctl).*",  # Podman and containerd
    r"(cali|flannel|cilium|kube|weave|vxlan\.calico).*",  # Kubernetes
    r"(lxcbr|lxdbr|incusbr).*",  # LXC, LXD and Incus, which hide what is behind them
    r"veth.*|v[ebz]-.*",  # virtual Ethernet pairs of containers; systemd-nspawn's have a dash
    r"(virbr|vnet|vmnet|vboxnet).*",  # libvirt, VMware and VirtualBox
    r"(fwbr|fwpr|fwln).*",  # Proxmox: the firewall of one guest; its vmbr0 is a LAN
    r"(tap|zt).*",  # guests, and tunnels that look like Ethernet, such as OpenVPN's and ZeroTier's
)


class NoAddress(Failure):
    """A machine without an address to serve on, for now.

    `wanted` names what the bridge waits for, `why` is the reason alone, and `remedy` is the fix.
    """

    def __init__(self, why: str, wanted: str = "the network", remedy: str = "") -> None:
        super().__init__(why)
        self.why = why
        self.wanted = wanted
        self.remedy = remedy


class NoDefaultRoute(NoAddress):
    """A config that chooses no address, on a machine without a default route."""

    def __init__(self, remedy: str = "") -> None:
        """`remedy` replaces the usual one where the config has no network settings."""
        why = "cannot choose an address without a default route"
        super().__init__(why, remedy=remedy or "set bridge.interface")
        self._said = remedy or "set bridge.interface or bridge.address"

    def __str__(self) -> str:
        return f"{self.why}; {self._said}"


@dataclass(frozen=True, slots=True)
class Address:
    """An address of this machine.

    `label` is its interface, or an alias like eth0:1; `flags` are for IPv6 only.
    """

    label: str
    ip: IPv4Address | IPv6Address
    flags: int = 0

    def __str__(self) -> str:
        scoped = self.ip.version == 6 and self.ip.is_link_local
        return f"{self.ip}%{self.label}" if scoped else str(self.ip)

    @property
    def is_ready(self) -> bool:
        """Whether a socket can bind to it: duplicate address detection has succeeded."""
        return not self.flags & (_TENTATIVE | _DAD_FAILED)

    @property
    def is_reachable(self) -> bool:
        """Whether phones can reach it, and will still be able to later."""
        return self.is_ready and not self.flags & (_TEMPORARY | _DEPRECATED) and not self.ip.is_link_local


@dataclass(frozen=True, slots=True)
class Machine:
    """The kernel's tables: links with flags, addresses, and interfaces with a default route (best first)."""

    links: Mapping[str, int]
    addresses: tuple[Address, ...] = ()
    defaults: tuple[str, ...] = ()

    def is_up(self, label: str) -> bool:
        """Return whether an interface exists and is up; one that is down keeps its addresses."""
        return bool(self.links.get(interface_of(label), 0) & _UP)


def choose(config: BridgeConfig, machine: Machine, staying: frozenset[str] = frozenset()) -> tuple[str, ...]:
    """Choose addresses for a config, or raise `NoAddress`.

    `staying` are the current default interfaces. Pure.
    """
    if config.addresses:
        return _configured(_wanted(config), machine)
    if config.interfaces:
        return _of_interfaces(config.interfaces, machine)
    if (interface := _default(machine)) is not None:
        return _of_interfaces((interface,), machine)
    # A restarting router or a VPN may remove the route while phones can still reach the bridge.
    left = tuple(sorted(name for name in staying if is_lan(name, machine.links.get(name, 0))))
    try:
        return _of_interfaces(left, machine)
    except NoAddress:
        raise NoDefaultRoute from None


def lack(config: BridgeConfig, machine: Machine) -> NoAddress | None:
    """Return the chosen addresses that are missing, and why; None if all are present. Pure."""
    if config.addresses:
        missing = _missing(_wanted(config), machine)
        return _no_interface_has(missing, machine, " and ") if missing else None
    if config.interfaces:
        names = tuple(name for name in config.interfaces if not _reachable(name, machine))
        return _lacks(names, machine, " and ") if names else None
    return NoDefaultRoute() if _default(machine) is None else None


def is_lan(name: str, flags: int) -> bool:
    """Return whether phones may be on this interface, rather than containers, virtual machines or a tunnel.

    Pure.
    """
    if not flags & _UP or not flags & _MULTICAST or flags & (_LOOPBACK | _POINT_TO_POINT):
        return False
    return not any(re.fullmatch(pattern, name) for pattern in _NO_LAN)


def interface_of(label: str) -> str:
    """Return the interface of an alias like eth0:1, or the interface itself."""
    return label.partition(":")[0]


def _wanted(config: BridgeConfig) -> tuple[str, ...]:
    return tuple(str(ip_address(text)) for text in config.addresses)


def _configured(wanted: tuple[str, ...], machine: Machine) -> tuple[str, ...]:
    missing = _missing(wanted, machine)
    if there := tuple(text for text in wanted if text not in missing):
        return there
    raise _no_interface_has(missing, machine, " or ")


def _missing(wanted: tuple[str, ...], machine: Machine) -> list[str]:
    there = {str(each) for each in machine.addresses if each.is_ready and machine.is_up(each.label)}
    return [text for text in wanted if not ip_address(text).is_loopback and text not in there]


def _no_interface_has(missing: list[str], machine: Machine, joint: str) -> NoAddress:
    why = f"no interface that is up has the address {' or '.join(missing)}"
    having = (interface_of(each.label) for each in machine.addresses if str(each) in missing)
    down = dict.fromkeys(name for name in having if not machine.is_up(name))
    remedy = " and ".join(map(_bring_up, down))
    remedy = remedy or f"assign {' and '.join(missing)} to an interface that is up, or change bridge.address"
    return NoAddress(why, joint.join(missing), remedy)


def _default(machine: Machine) -> str | None:
    return next((name for name in machine.defaults if is_lan(name, machine.links.get(name, 0))), None)


def _of_interfaces(names: tuple[str, ...], machine: Machine) -> tuple[str, ...]:
    """Return the addresses, IPv4 first: the IPv6 prefixes of home networks change."""
    found = [ip for name in names for ip in _reachable(name, machine)]
    if not found:
        raise _lacks(names, machine, " or ")
    return tuple(dict.fromkeys(str(ip) for ip in sorted(found, key=lambda ip: ip.version)))


def _reachable(name: str, machine: Machine) -> list[IPv4Address | IPv6Address]:
    if not machine.is_up(name):
        return []
    there = [each for each in machine.addresses if each.is_reachable]
    return [each.ip for each in there if name in {each.label, interface_of(each.label)}]


def _lacks(names: tuple[str, ...], machine: Machine, joint: str) -> NoAddress:
    lacks = [_lack(name, machine) for name in names]
    why = " and ".join(each for each, _ in lacks)
    remedy = " and ".join(remedy for _, remedy in lacks)
    return NoAddress(f"{why}{_there(names, machine)}", joint.join(names), remedy)


def _there(names: tuple[str, ...], machine: Machine) -> str:
    """List the interfaces that could be chosen instead, if one of `names` is missing or down."""
    if all(map(machine.is_up, names)):
        return ""
    # Not those of containers, which come and go: each change would be a log line.
    others = machine.links.keys() - set(map(interface_of, names))
    there = sorted(name for name in others if is_lan(name, machine.links[name]))
    more = f" and {len(there) - MOST_NAMED_INTERFACES} more" if len(there) > MOST_NAMED_INTERFACES else ""
    return f"; available interfaces: {', '.join(there[:MOST_NAMED_INTERFACES])}{more}" if there else ""


def _lack(name: str, machine: Machine) -> tuple[str, str]:
    """Return why the bridge cannot serve on an interface, and the remedy."""
    if machine.is_up(name):
        return f"the interface {name} has no address that a phone can reach", f"assign an address to {name}"
    if (interface := interface_of(name)) in machine.links:
        return f"the interface {name} is down", _bring_up(interface)
    return f"there is no interface {name}", f"connect {name}, or change bridge.interface"


def _bring_up(interface: str) -> str:
    return f"bring {interface} up: `sudo ip link set {interface} up`"
