"""What nftables would do with a packet that comes in, by what `nft -j list ruleset` prints. Pure: no I/O.

Three-valued: where a rule looks at more than is known of a packet, it may match or not, and what follows
from either is possible. So `{"drop"}` is certain, and `{"accept", "drop"}` is an honest "perhaps".
Only chains at the input hook are looked at. libnftables-json(5) describes the format.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from ipaddress import ip_address, ip_network
from typing import Any, Final

ACCEPT, DROP, RETURN, ON = "accept", "drop", "return", "on"
"""What comes of a rule or a chain; `ON` is that the next rule is looked at."""

MOST_JUMPS: Final = 16
"""As many as the kernel follows."""

_NFPROTO: Final = {"ip": "ipv4", "ip6": "ipv6"}
_TRANSPORTS: Final = frozenset(
    {"tcp", "udp", "udplite", "sctp", "dccp", "icmp", "icmpv6", "igmp", "ah", "esp"}
)
_ENDS: Final = {"accept": ACCEPT, "drop": DROP, "reject": DROP, "return": RETURN, "continue": ON}
_XT_ENDS: Final = {"ACCEPT": ACCEPT, "DROP": DROP, "REJECT": DROP, "RETURN": RETURN}

Outcomes = frozenset[str]
Json = Any


@dataclass(frozen=True, slots=True)
class Packet:
    """The first one of a new connection. `destination` and `interface` are empty if they are not known."""

    family: str
    protocol: str
    port: int
    destination: str = ""
    interface: str = ""

    @property
    def is_multicast(self) -> bool:
        """Whether it is for a group."""
        return bool(self.destination) and ip_address(self.destination).is_multicast

    def __str__(self) -> str:
        return f"{self.port}/{self.protocol}"


def ports_of(packets: Iterable[Packet]) -> str:
    """What they are for, as words for a sentence."""
    return " and ".join(dict.fromkeys(str(packet) for packet in packets))


@dataclass(frozen=True, slots=True)
class Chain:
    """A chain, and its rules in their order."""

    family: str
    table: str
    name: str
    is_input: bool
    policy: str
    rules: tuple[list[Json], ...]

    def __str__(self) -> str:
        return f"table {self.family} {self.table}, chain {self.name}"

    def hears(self, packet: Packet) -> bool:
        """Whether packets of this kind come here first."""
        return self.is_input and self.family in {"inet", packet.family}


def chains(ruleset: Mapping[str, Json]) -> tuple[Chain, ...]:
    """All chains in what nft prints; raises `ValueError` if it is something else."""
    rules: dict[tuple[Json, ...], list[list[Json]]] = {}
    made: list[Chain] = []
    try:
        for item in ruleset["nftables"]:
            if (rule := item.get("rule")) is not None:
                rules.setdefault((rule["family"], rule["table"], rule["chain"]), []).append(rule["expr"])
        for item in ruleset["nftables"]:
            if (chain := item.get("chain")) is not None:
                key = (chain["family"], chain["table"], chain["name"])
                hooked = chain.get("hook") == "input" and chain["family"] in {"ip", "ip6", "inet"}
                made.append(Chain(*key, hooked, chain.get("policy", ACCEPT), tuple(rules.get(key, ()))))
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError("this is no ruleset of nftables") from error
    return tuple(made)


def outcomes(chain: Chain, packet: Packet, among: tuple[Chain, ...]) -> Outcomes:
    """What may become of a packet in a chain at a hook: accepted, dropped, or perhaps either."""
    table = {each.name: each for each in among if (each.family, each.table) == (chain.family, chain.table)}
    ends = _through(chain, packet, table, 0)
    return frozenset(chain.policy if end in {ON, RETURN} else end for end in ends)


def _through(chain: Chain, packet: Packet, table: Mapping[str, Chain], jumps: int) -> Outcomes:
    possible: set[str] = set()
    for rule in chain.rules:
        ends = set(_of_rule(rule, packet, table, jumps))
        possible |= ends - {ON}
        if ON not in ends:
            return frozenset(possible)
    return frozenset({*possible, ON})


def _of_rule(rule: list[Json], packet: Packet, table: Mapping[str, Chain], jumps: int) -> Iterator[str]:
    """What may come of a rule."""
    for statement in rule:
        if statement == {"xt": None}:  # older nft does not say what iptables has there
            yield from (ACCEPT, DROP, ON)
            return
        [(kind, body)] = statement.items() if isinstance(statement, dict) else [(statement, None)]
        match _matches(kind, body, packet):
            case False:
                yield ON
                return
            case None:
                yield ON  # perhaps, and perhaps what follows
            case True:
                pass
        if (ends := _ends(kind, body, packet, table, jumps)) is not None:
            yield from ends
            return
    yield ON


def _matches(kind: str, body: Json, packet: Packet) -> bool | None:
    """Whether a packet gets past a statement of a rule; None for perhaps."""
    match kind, body:
        case "match", {"op": "==" | "in" | "!=" as operator, "left": left, "right": right}:
            value = _value(left, packet)
            found = _compare(value, right)
            return found if value is _Other or operator != "!=" or found is None else not found
        case (("match" | "limit" | "quota" | "set" | "ct count" | "meter"), _):
            return None
        case "xt", {"type": "match"}:
            return None
    return True


def _ends(kind: str, body: Json, packet: Packet, table: Mapping[str, Chain], jumps: int) -> Outcomes | None:
    """What may come of a statement that says so, None of others."""
    match kind, body:
        case (("jump" | "goto"), {"target": target}):
            if target not in table or jumps >= MOST_JUMPS:
                return frozenset({ACCEPT, DROP})
            ends = _through(table[target], packet, table, jumps + 1)
            after = ON if kind == "jump" else RETURN
            return frozenset(after if end in {ON, RETURN} else end for end in ends)
        case "queue", _:
            return frozenset({ACCEPT, DROP})
        case "xt", {"name": str(name)} if name in _XT_ENDS:
            return frozenset({_XT_ENDS[name]})
        case "vmap", {"key": key, "data": data}:
            return _mapped(_value(key, packet), data, packet, table, jumps)
        case str(), _ if kind in _ENDS:
            return frozenset({_ENDS[kind]})
    return None


def _mapped(value: Json, data: Json, packet: Packet, table: Mapping[str, Chain], jumps: int) -> Outcomes:
    pairs = data.get("set") if isinstance(data, dict) else None
    if pairs is None:
        return frozenset({ACCEPT, DROP, ON})
    possible: set[str] = set()
    for element, verdict in pairs:
        found = _compare(value, element)
        if found is False:
            continue
        [(kind, body)] = verdict.items()
        possible |= _ends(kind, body, packet, table, jumps) or {ON}
        if found:
            return frozenset(possible)
    return frozenset({*possible, ON})


class _Other:
    """The value of what a packet does not have."""


def _value(left: Json, packet: Packet) -> Json:
    """What a packet has there; None if that is not known."""
    match left:
        case {"meta": {"key": str(key)}}:
            kind = "multicast" if packet.is_multicast else "host"
            name = packet.interface or None
            known = {"l4proto": packet.protocol, "protocol": packet.family, "pkttype": kind}
            return (known | {"nfproto": _NFPROTO[packet.family], "iifname": name, "iif": name}).get(key)
        case {"payload": {"protocol": str(header), "field": str(field)}}:
            return _field(header, field, packet)
        case {"fib": {"result": "type", "flags": ["daddr"] | "daddr"}}:
            return "multicast" if packet.is_multicast else "local"
        case {"ct": {"key": "state"}}:
            return "new"
    return None


def _field(header: str, field: str, packet: Packet) -> Json:
    if header == "th" or header in _TRANSPORTS:
        if header not in {"th", packet.protocol}:
            return _Other
        return packet.port if field == "dport" else None
    if header not in _NFPROTO:
        return None
    if header != packet.family:
        return _Other
    known = {"protocol": packet.protocol, "nexthdr": packet.protocol, "daddr": packet.destination}
    return known.get(field) or None


def _compare(value: Json, right: Json) -> bool | None:
    """Whether a value is what stands on the right, or among it; None for perhaps."""
    if value is _Other:
        return False
    match right:
        case _ if value is None:
            return None
        case {"set": [*items]} | [*items]:
            found = {_compare(value, item) for item in items}
            return True if True in found else None if None in found else False
        case {"range": [int(first), int(last)]} if isinstance(value, int):
            return first <= value <= last
        case {"prefix": {"addr": str(address), "len": int(length)}} if isinstance(value, str):
            return _within(value, address, length)
        case str() if right.startswith("@"):
            return None  # a set that somebody filled
        case str() if isinstance(value, str):
            return fnmatchcase(value, right) if right.endswith("*") else value == right
        case int() if isinstance(value, int):
            return value == right
    return None


def _within(address: str, network: str, length: int) -> bool | None:
    try:
        return ip_address(address) in ip_network(f"{network}/{length}", strict=False)
    except ValueError:
        return None
