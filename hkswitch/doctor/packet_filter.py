"""The packets that the bridge needs, and what the kernel's chains do to them. Pure: no I/O.

It reads what `nft -j` and `iptables -S` print, and is not the kernel's evaluation. A packet is accepted if
a rule of the chain itself plainly accepts it, and nothing before may deny it: a rule that is not understood
may, and so may a chain with such a rule that is jumped to. A rule for other ports, interfaces or states, or
for particular sources (addresses, other networks), says nothing about phones and is ignored, like the rules
of fail2ban.
"""

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from fnmatch import fnmatchcase
from ipaddress import ip_network
from typing import Any, Final, NamedTuple

from hkswitch.model.errors import Failure
from hkswitch.network.endpoint import Endpoint, Network
from hkswitch.network.mdns_port import MDNS_PORT

IPV4, IPV6, ICMPV6 = "ip", "ip6", "ipv6-icmp"
"""The IP versions and ICMPv6, as nftables calls them."""

NEIGHBOURS: Final = {"nd-neighbor-solicit": 135, "nd-neighbor-advert": 136}
"""The types of ICMPv6 packets without which no other IPv6 packet arrives."""

FIREWALLD, UFW = "firewalld", "ufw"

UFW_RULES: Final = "-before-input"
"""The end of the name of the first chain of ufw that may accept or deny packets."""

DENYING: Final = frozenset({"drop", "reject", "queue", "vmap"})
HARMLESS: Final = frozenset({"counter", "log"})

LAYERS: Final = {"icmpv6": ICMPV6, **{name: name for name in ("tcp", "udp", "icmp", "ip", "ip6")}}
"""The protocols of headers, and their names in packets."""

Ports = tuple[tuple[int, int], ...]
"""Ranges of ports, each with its first and its last."""


class Packet(NamedTuple):
    """A packet to a port (or of a type of ICMPv6). Its interface is empty if that is not known."""

    protocol: str
    port: int
    interface: str
    family: str


class Traffic(NamedTuple):
    """The packets from the phones: to two ports, on the bridge's interfaces, from its networks.

    Without networks, these are not known.
    """

    port: int
    interfaces: tuple[str, ...]
    networks: tuple[Network, ...]

    @property
    def ports(self) -> tuple[tuple[str, int], ...]:
        """Both ports, each after its protocol."""
        return ("udp", MDNS_PORT), ("tcp", self.port)

    @property
    def families(self) -> tuple[str, ...]:
        """The IP versions of the bridge; IPv4 if that is not known."""
        versions = {network.version for network in self.networks}
        return tuple(family for family in (IPV4, IPV6) if _version(family) in versions) or (IPV4,)

    def packets(self, family: str) -> tuple[Packet, ...]:
        """Return the packets that must arrive on each interface."""
        neighbours = [(ICMPV6, kind) for kind in NEIGHBOURS.values() if family == IPV6]
        return tuple(
            Packet(protocol, port, interface, family)
            for interface in self.interfaces or ("",)
            for protocol, port in (*self.ports, *neighbours)
        )

    def comes_from(self, source: Network, family: str) -> bool | None:
        """Whether the phones' networks are in a rule's source; None: in part. An address is no network."""
        if source.version != _version(family) or source.num_addresses == 1:
            return False
        networks = [network for network in self.networks if network.version == source.version]
        if source.prefixlen == 0 or (networks and all(_contains(source, each) for each in networks)):
            return True
        return None if any(source.overlaps(network) for network in networks) else False

    def __str__(self) -> str:
        return f"{MDNS_PORT}/udp and {self.port}/tcp"


def traffic_to(port: int, endpoint: Endpoint | Failure, interfaces: tuple[str, ...]) -> Traffic:
    """Return the traffic of a bridge; an address whose network is not known stands for it."""
    addresses = () if isinstance(endpoint, Failure) else endpoint.addresses
    networks = () if isinstance(endpoint, Failure) else endpoint.networks
    alone = [ip_network(address.partition("%")[0]) for address in addresses]
    found = (next((each for each in networks if _contains(each, address)), address) for address in alone)
    return Traffic(port, interfaces, tuple(dict.fromkeys(found)))


def network_of(text: str) -> Network | None:
    """Parse a network or an address; None for anything else, such as the name of a set."""
    with suppress(ValueError):
        return ip_network(text, strict=False)
    return None


def ports_in(text: str) -> Ports:
    """Parse `22,80:90` or `22 80-90`; leave out anything else."""
    found = (re.fullmatch(r"(\d{1,5})(?:[:-](\d{1,5}))?", part) for part in re.split(r"[,\s]+", text))
    return tuple((int(each[1]), int(each[2] or each[1])) for each in found if each)


def has_port(ports: Ports, port: int) -> bool:
    return any(first <= port <= last for first, last in ports)


def _version(family: str) -> int:
    return 6 if family == IPV6 else 4


def _contains(outer: Network, inner: Network) -> bool:
    return outer.overlaps(inner) and outer.prefixlen <= inner.prefixlen


Fate = bool | None
"""Whether a packet is accepted or may be denied; None: no rule and no policy decides that."""


class Chain(NamedTuple):
    """A chain for incoming packets, and what it does to those from phones."""

    family: str
    table: str
    name: str
    priority: int
    fates: Mapping[Packet, Fate]


def chain_of_iptables(family: str, printed: str, traffic: Traffic, managers: Collection[str] = ()) -> Chain:
    """Judge the output of `iptables -S INPUT`; raises ValueError."""
    policy, *rules = printed.strip().split("\n")
    if policy not in {"-P INPUT ACCEPT", "-P INPUT DROP"}:
        raise ValueError(f"cannot read the output of iptables: it begins with {policy[:80]!r}")
    fates: dict[Packet, Fate] = {}
    for packet in traffic.packets(family):
        decisions = (_by_line(rule, packet, managers) for rule in rules)
        end = None if policy.endswith("ACCEPT") else False
        fates[packet] = next((each for each in decisions if each is not None), end)
    return Chain(family, "filter", "INPUT", 0, fates)


def _by_line(rule: str, packet: Packet, managers: Collection[str]) -> Fate:
    """Return what a rule decides: only those are understood that the doctor prints, and ufw's."""
    port = "" if packet.protocol == ICMPV6 else f"-m {packet.protocol} --dport {packet.port} "
    on, to = f"-i {packet.interface} ", f"-p {packet.protocol} {port}"
    own = ("-j ufw-before-input", "-j ufw6-before-input") if UFW in managers else ()
    accepting = (f"{to}-j ACCEPT", f"{on}{to}-j ACCEPT", f"{on}-j ACCEPT", *own)
    if rule.removeprefix("-A INPUT ") in accepting:
        return True
    is_harmless = rule.endswith(" -j ACCEPT") or (own and rule.startswith("-A INPUT -j ufw"))
    return None if is_harmless else False


def chains_of_nft(printed: str, traffic: Traffic, managers: Collection[str] = ()) -> list[Chain]:
    """Judge the chains in the output of `nft -j -t list ruleset`; raises ValueError.

    `managers`: firewalld or ufw, whose own rules are known to allow the packets.
    """
    try:
        items = json.loads(printed)["nftables"] if printed else []
        return list(_chains(items, traffic, managers))
    except (AttributeError, LookupError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"cannot read the output of nft: {type(error).__name__}: {error}") from error


def _chains(items: Sequence[Any], traffic: Traffic, managers: Collection[str]) -> Iterator[Chain]:
    tables: dict[tuple[str, str], _Table] = {}

    def objects(kind: str) -> Iterator[tuple[_Table, Any]]:
        for each in (item[kind] for item in items if kind in item):
            new = _Table({}, set(), traffic, UFW in managers)
            yield tables.setdefault((each["family"], each["table"]), new), each

    for table, rule in objects("rule"):
        table.rules.setdefault(rule["chain"], []).append(rule["expr"])
    for table, named in objects("set"):
        if "interval" not in named.get("flags", ()):
            table.addresses.add(f"@{named['name']}")
    for table, chain in objects("chain"):
        families = [family for family in traffic.families if chain["family"] in {"inet", family}]
        if chain.get("hook") == "input" and not chain["table"] == FIREWALLD in managers:
            end = None if chain.get("policy", "accept") == "accept" else False
            packets = (packet for family in families for packet in traffic.packets(family))
            fates = {packet: table.fate(chain["name"], packet, end) for packet in packets}
            yield Chain(chain["family"], chain["table"], chain["name"], chain.get("prio", 0), fates)


class _Table(NamedTuple):
    """A table: the rules of each chain, and the names of the sets that hold only single addresses."""

    rules: dict[str, list[Sequence[Any]]]
    addresses: set[str]
    traffic: Traffic
    is_open_in_ufw: bool

    def fate(self, chain: str, packet: Packet, end: Fate) -> Fate:
        """Return what a chain decides about a packet."""
        seen: set[str] = set()
        for verb, target in self._effects(chain, packet):
            is_of_ufw = self.is_open_in_ufw and target.startswith(UFW)
            if verb == "accept" or (is_of_ufw and target.endswith(UFW_RULES)):
                return True
            if verb not in {"continue", "jump"} or (not is_of_ufw and self._may_deny(target, packet, seen)):
                return False
        return end

    def _may_deny(self, chain: str, packet: Packet, seen: set[str]) -> bool:
        """Whether a chain, or one that it leads to, may deny a packet. `seen`: those that do not."""
        waiting = [chain]
        while waiting:
            name = waiting.pop()
            if name not in seen:
                seen.add(name)
                effects = list(self._effects(name, packet))
                if "drop" in (verb for verb, _ in effects):
                    return True
                waiting += [target for _, target in effects]
        return False

    def _effects(self, chain: str, packet: Packet) -> Iterator[tuple[str, str]]:
        """Yield what each rule does to a packet: one of nft's verbs, and the chain that it leads to."""
        return (self._effect(rule, packet) for rule in self.rules.get(chain, ()))

    def _effect(self, rule: Sequence[Any], packet: Packet) -> tuple[str, str]:
        is_certain = True
        for statement in rule:
            [(verb, what)] = statement.items()
            match verb:
                case "match":
                    passes = self._passes(what, packet)
                    if passes is False:
                        return "continue", ""
                    is_certain = is_certain and passes is True
                case "accept":
                    return ("accept" if is_certain else "continue"), ""
                case "jump" | "goto" | "return":
                    return verb, what["target"] if what else ""
                case _ if verb in DENYING or (statement is rule[-1] and verb not in HARMLESS):
                    return "drop", ""
                case _ if verb not in HARMLESS:
                    is_certain = False  # such as a limit, or an extension of iptables
        return "continue", ""

    def _passes(self, test: Mapping[str, Any], packet: Packet) -> bool | None:
        """Whether a packet passes a test; None: perhaps."""
        if test["op"] not in {"==", "in"}:
            return None
        right = test["right"]
        items = right["set"] if isinstance(right, dict) and "set" in right else right
        results = {
            self._equals(test["left"], item, packet)
            for item in (items if isinstance(items, list) else [items])
        }
        return True if True in results else None if None in results else False

    def _equals(self, left: object, item: object, packet: Packet) -> bool | None:
        match left, item:
            case {"payload": {"protocol": layer}}, _ if LAYERS.get(layer, packet.family) not in packet:
                return False
            case {"payload": {"field": "saddr"}}, _:
                return self._comes_from(item, packet)
            case _, str() if item.startswith("@"):
                return None
            case {"payload": {"field": "dport"}}, {"range": [first, last]}:
                return bool(first <= packet.port <= last)
            case {"payload": {"field": "dport"}}, int():
                return item == packet.port
            case {"payload": {"protocol": "icmpv6", "field": "type"}}, str():
                return NEIGHBOURS.get(item) == packet.port
            case {"payload": {"field": "protocol" | "nexthdr"}} | {"meta": {"key": "l4proto"}}, str():
                return item == packet.protocol
            case {"meta": {"key": "iif" | "iifname"}}, str() if packet.interface:
                return fnmatchcase(packet.interface, item)
            case {"ct": {"key": "state"}}, _:
                return item == ("untracked" if packet.protocol == ICMPV6 else "new")
            case _:
                return None

    def _comes_from(self, item: object, packet: Packet) -> bool | None:
        match item:
            case {"prefix": {"addr": address, "len": length}}:
                return self.traffic.comes_from(ip_network(f"{address}/{length}", strict=False), packet.family)
            case str() if network := network_of(item):
                return self.traffic.comes_from(network, packet.family)
            case _:
                return False if str(item) in self.addresses else None
