"""Reads the output of `nft -j list ruleset`, and judges its chains for incoming packets. Pure: no I/O.

Only chains at the hook `input` are read, and not those that see packets earlier (`prerouting`, `ingress`):
Docker and others deny packets for containers there.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from ipaddress import ip_address, ip_network, summarize_address_range
from typing import Any, Final, NamedTuple

from hkswitch.doctor.filter_rules import (
    Chains,
    Fate,
    Outcome,
    Rule,
    Test,
    fates,
    from_any_of,
    in_a_state,
    on_any_of,
    perhaps,
)
from hkswitch.doctor.finding import Check, Finding, ok, todo
from hkswitch.doctor.traffic import IPV4, IPV6, Ports, Traffic, has_port, network_of
from hkswitch.network.endpoint import Network

DENYING: Final = frozenset({"drop", "reject", "queue", "vmap", "xt"})
"""The statements that deny packets, or may do so; "xt" is any extension of iptables."""

HARMLESS: Final = frozenset({"counter", "log"})
"""The statements that are neither a test nor a verdict."""


class Chain(NamedTuple):
    """A chain for incoming packets, with all chains of its table."""

    family: str
    table: str
    name: str
    is_open: bool
    """Whether its policy accepts packets."""
    chains: Chains

    @property
    def place(self) -> str:
        """The arguments of nft."""
        return f"{self.family} {self.table} {self.name}"

    def fates(self, traffic: Traffic) -> set[Fate]:
        """Return what it does to the packets from phones."""
        family = self.family if self.family in {IPV4, IPV6} else traffic.families[0]
        return fates(self.chains, self.name, family, traffic, is_open=self.is_open)


def input_chains(printed: str, traffic: Traffic) -> list[Chain]:
    """Return the chains for incoming packets of the bridge's IP versions; raises ValueError."""
    try:
        return list(_input_chains(json.loads(printed or '{"nftables": []}'), traffic))
    except (AttributeError, LookupError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"cannot read the output of nft: {type(error).__name__}: {error}") from error


def judged(chain: Chain, traffic: Traffic) -> Finding | None:
    """Judge a chain; None if it neither denies nor accepts what the bridge needs."""
    found = chain.fates(traffic)
    title = f"chain {chain.name} of table {chain.family} {chain.table}"
    if Fate.MAY_BE_DENIED in found:
        return todo(Check.FIREWALL, f"nftables is active ({title})", _advice(chain.place, traffic))
    if Fate.IS_ACCEPTED in found:
        return ok(Check.FIREWALL, f"nftables accepts {traffic} ({title})")
    return None


def _advice(place: str, traffic: Traffic) -> str:
    commands = [
        f"`sudo nft insert rule {place} {on}{protocol} dport {port} accept`"
        for on in [f'iifname "{interface}" ' for interface in traffic.interfaces] or [""]
        for protocol, port in traffic.ports
    ]
    return (
        f"`sudo nft list chain {place}` shows the rules; unless they accept {traffic}, run "
        f"{' and '.join(commands)}, "
        "and add these rules to your nftables configuration (such as /etc/nftables.conf)"
    )


def _input_chains(ruleset: Mapping[str, Any], traffic: Traffic) -> Iterator[Chain]:
    chains: dict[tuple[str, str], dict[str, list[Rule]]] = {}
    for rule in _objects(ruleset, "rule"):
        family, table, name = _names(rule, "family", "table", "chain")
        chains.setdefault((family, table), {}).setdefault(name, []).append(_rule(rule["expr"]))
    for chain in _objects(ruleset, "chain"):
        family, table, name = _names(chain, "family", "table", "name")
        if chain.get("hook") == "input" and family in {"inet", *traffic.families}:
            is_open = chain.get("policy", "accept") == "accept"
            yield Chain(family, table, name, is_open, chains.get((family, table), {}))


def _names(item: Mapping[str, object], *keys: str) -> tuple[str, ...]:
    names = tuple(item[key] for key in keys)
    if strange := [name for name in names if not isinstance(name, str)]:
        raise TypeError(f"{strange[0]!r} is not a name")
    return tuple(map(str, names))


def _objects(ruleset: Mapping[str, Any], kind: str) -> list[Any]:
    return [each[kind] for each in ruleset["nftables"] if kind in each]


def _rule(expression: Sequence[Any]) -> Rule:
    rule = Rule()
    for statement in expression:
        match statement:
            case {"match": {"op": "==" | "in", "left": left, "right": right}}:
                rule = rule._replace(tests=(*rule.tests, _test(left, right)))
            case {"accept": _}:
                rule = rule._replace(outcome=Outcome.ACCEPTS)
            case {"jump": {"target": str(target)}}:
                rule = rule._replace(target=target)
            case {"goto": {"target": str(target)}}:
                rule = rule._replace(target=target, outcome=Outcome.RETURNS)
            case {"return": _}:
                rule = rule._replace(outcome=Outcome.RETURNS)
            case dict() if DENYING & statement.keys():
                return rule._replace(outcome=Outcome.MAY_DENY)
            case dict() if HARMLESS & statement.keys():
                pass
            case _:
                rule = rule._replace(tests=(*rule.tests, perhaps))
    return rule


def _test(left: object, right: object) -> Test:
    items = _items(right)
    match left:
        case {"payload": {"protocol": str(protocol), "field": "dport"}}:
            return _to_ports(protocol, items)
        case {"payload": {"protocol": str(protocol), "field": "saddr"}}:
            is_ip = protocol in {IPV4, IPV6}
            return from_any_of([network for item in items if is_ip for network in _networks_of(item)])
        case {"meta": {"key": "iifname" | "iif"}}:
            is_set = any(str(item).startswith("@") for item in items)
            return perhaps if is_set else on_any_of([str(item) for item in items])
        case {"ct": {"key": "state"}}:
            return in_a_state(is_new="new" in items)
        case _:
            return perhaps


def _items(right: object) -> list[object]:
    """Return what a packet is compared with: the elements of a set, or a single value."""
    match right:
        case {"set": list(items)} | list(items):
            return items
        case _:
            return [right]


def _to_ports(protocol: str, items: Sequence[object]) -> Test:
    ports: list[tuple[int, int]] = []
    for item in items:
        match item:
            case int(port):
                ports.append((port, port))
            case {"range": [int(first), int(last)]}:
                ports.append((first, last))
            case _:
                return perhaps  # such as the name of a set
    found: Ports = tuple(ports)
    return lambda packet, _: protocol in {packet.protocol, "th"} and has_port(found, packet.port)


def _networks_of(item: object) -> Iterator[Network]:
    """Yield the networks that make up a source; none for the name of a set."""
    match item:
        case {"prefix": {"addr": str(address), "len": int(length)}}:
            yield ip_network(f"{address}/{length}", strict=False)
        case {"range": [str(first), str(last)]}:
            yield from summarize_address_range(ip_address(first), ip_address(last))
        case str(text) if network := network_of(text):
            yield network
