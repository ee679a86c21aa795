"""How `hkswitch doctor` judges what nft and iptables print; tests/host/test_firewalls.py has real ones."""

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from hkswitch.doctor.packet_filter import Packet, Traffic, chain_of_iptables, chains_of_nft
from tests.doctor.firewalls import BOTH, BY_IPV4, BY_IPV6, ON_TWO, UNKNOWN

Json = dict[str, Any]
Fate = bool | None
ACCEPTED, DENIED, PASSES = True, False, None


def chain(name: str, policy: str = "", family: str = "inet", hook: str = "input") -> Json:
    base = {"type": "filter", "hook": hook, "prio": 0, "policy": policy} if policy else {}
    return {"chain": {"family": family, "table": "filter", "name": name, "handle": 1, **base}}


def rules(name: str, *expressions: Sequence[object], family: str = "inet") -> list[Json]:
    place = {"family": family, "table": "filter", "chain": name, "handle": 4}
    return [{"rule": {**place, "expr": list(expression)}} for expression in expressions]


def ruleset(*items: Json) -> str:
    about = {"version": "1.0.6", "release_name": "Lester Gooch #5", "json_schema_version": 1}
    table = {"family": "inet", "name": "filter"}
    return json.dumps({"nftables": [{"metainfo": about}, {"table": table}, *items]})


def is_(left: Mapping[str, object], right: object, operator: str = "==") -> Json:
    return {"match": {"op": operator, "left": left, "right": right}}


def to_port(protocol: str, right: object, operator: str = "==") -> Json:
    return is_(payload(protocol, "dport"), right, operator)


def source(right: object, protocol: str = "ip", operator: str = "==") -> Json:
    return is_(payload(protocol, "saddr"), right, operator)


def payload(protocol: str, field: str) -> Json:
    return {"payload": {"protocol": protocol, "field": field}}


def on(right: object) -> Json:
    return is_({"meta": {"key": "iifname"}}, right)


def state(right: object) -> Json:
    return is_({"ct": {"key": "state"}}, right, "in")


def set_(name: str, *flags: str, kind: str = "ipv4_addr") -> Json:
    more = {"flags": list(flags)} if flags else {}
    return {"set": {"family": "inet", "table": "filter", "name": name, "type": kind, **more}}


def network(address: str, length: int) -> Json:
    return {"prefix": {"addr": address, "len": length}}


ACCEPT, DROP, REJECT = {"accept": None}, {"drop": None}, {"reject": {"type": "icmp", "expr": "x"}}
COUNTER = {"counter": {"packets": 0, "bytes": 0}}
STATES = {"vmap": {"key": {"ct": {"key": "state"}}, "data": {"set": [["invalid", DROP]]}}}
JUMP = {"jump": {"target": "other"}}
MDNS = (to_port("udp", 5353), ACCEPT)
TCP = (to_port("tcp", 51826), COUNTER, ACCEPT)
NO_CHAINS: tuple[object, ...] = ({}, None, 1, [], {"family": []})
L4_TCP = is_({"meta": {"key": "l4proto"}}, "tcp")
SETS = (
    *(set_("addr-set-sshd"), set_("addr-set-web", "timeout"), set_("addr6-set-sshd", kind="ipv6_addr")),
    set_("networks", "interval"),
)
OPEN = chain("input", "accept")
CLOSED = chain("input", "drop")


def fate(said: str, traffic: Traffic, managers: Sequence[str] = ()) -> Fate:
    """What happens to all packets: one is denied, all are accepted, or nothing concerns them."""
    fates = {each for chain in chains_of_nft(said, traffic, managers) for each in chain.fates.values()}
    return DENIED if DENIED in fates else ACCEPTED if ACCEPTED in fates else PASSES


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("", PASSES),
        (ruleset(), PASSES),
        (ruleset(OPEN), PASSES),
        (ruleset(OPEN, *rules("input", [COUNTER])), PASSES),
        (ruleset(chain("forward", "drop", hook="forward")), PASSES),
        (ruleset(chain("input", "drop", family="bridge")), PASSES),
        (ruleset(chain("input", "drop", family="ip6")), PASSES),
        # Earlier hooks: Docker denies packets for containers there.
        (ruleset(chain("PREROUTING", "drop", "ip", hook="prerouting")), PASSES),
        (ruleset(chain("ingress", "drop", "netdev", hook="ingress")), PASSES),
        # Like ufw when it is disabled: its chains stay, and are empty.
        (ruleset(OPEN, chain("other"), *rules("input", [COUNTER, JUMP])), PASSES),
        # Like Docker and libvirt: what they deny is forwarded.
        (ruleset(OPEN, chain("other"), *rules("other", [DROP])), PASSES),
        (ruleset(OPEN, *rules("input", [JUMP]), *rules("other", [to_port("tcp", 22), DROP])), PASSES),
        (ruleset(chain("input", "drop", family="ip")), DENIED),
        (ruleset(CLOSED), DENIED),
        (ruleset(OPEN, CLOSED), DENIED),
        (ruleset(OPEN, *rules("input", [DROP])), DENIED),
        (ruleset(OPEN, *rules("input", [on("lan0"), REJECT])), DENIED),
        (ruleset(OPEN, *rules("input", [STATES])), DENIED),
        (ruleset(OPEN, *rules("input", [{"xt": None}])), DENIED),
        (ruleset(OPEN, *rules("input", [JUMP]), *rules("other", [DROP])), DENIED),
        (ruleset(OPEN, *rules("input", [JUMP]), *rules("other", [JUMP], [DROP])), DENIED),
        (ruleset(OPEN, *rules("input", [ACCEPT])), ACCEPTED),
    ],
)
def test_a_chain_that_may_deny_incoming_packets_is_found(said: str, expected: Fate) -> None:
    assert fate(said, BY_IPV4) is expected


@pytest.mark.parametrize(
    ("rule", "denies"),
    [
        # fail2ban's, in all its forms, and CrowdSec's
        ((to_port("tcp", 22), source("@addr-set-sshd"), REJECT), False),
        ((to_port("tcp", {"set": [80, 443]}), source("@addr-set-web"), REJECT), False),
        ((to_port("tcp", {"range": [1, 51826]}), source("@addr-set-web"), REJECT), False),
        ((L4_TCP, source("@addr-set-sshd"), REJECT), False),
        ((source("@addr6-set-sshd", "ip6"), REJECT), False),
        ((source("203.0.113.9"), COUNTER, {"xt": {"type": "target", "name": "REJECT"}}), False),
        # other ports, protocols, sources, interfaces and states
        ((to_port("tcp", 22), DROP), False),
        ((to_port("tcp", {"set": [22, {"range": [6000, 6063]}]}), DROP), False),
        ((to_port("tcp", 5353), DROP), False),
        ((to_port("tcp", 22), {"vmap": {}}), False),
        ((is_(payload("icmp", "type"), "echo-request"), DROP), False),
        ((is_(payload("ip", "protocol"), "icmp"), DROP), False),
        ((is_(payload("ip6", "nexthdr"), "tcp"), DROP), False),
        ((source({"set": [network("10.8.0.0", 24), "10.77.0.66"]}), DROP), False),
        ((on({"set": ["wan0", "ppp*"]}), DROP), False),
        ((state("invalid"), DROP), False),
        (({"mangle": {}}, COUNTER), False),
        ((), True),
        ((COUNTER, {"log": None}, DROP), True),
        (({"queue": None},), True),
        (({"new verb": None},), True),
        (({"xt": None}, COUNTER, {"xt": None}), True),
        (({"vmap": {}}, COUNTER), True),
        ((to_port("tcp", 51826), DROP), True),
        ((to_port("th", {"range": [5000, 6000]}), DROP), True),
        ((to_port("tcp", {"set": [22, 51826]}), REJECT), True),
        ((to_port("tcp", 22, "!="), DROP), True),
        ((to_port("tcp", "@closed"), DROP), True),
        ((to_port("tcp", "@addr-set-web"), DROP), True),
        ((is_(payload("ip", "protocol"), "tcp"), DROP), True),
        ((is_(payload("ip", "daddr"), "10.77.0.1"), DROP), True),
        ((is_(payload("ether", "type"), "ip"), DROP), True),
        ((source("aa:bb:cc:dd:ee:ff", "ether"), DROP), True),
        ((source(network("10.77.0.0", 24)), DROP), True),
        ((source(network("10.77.0.128", 25)), DROP), True),
        ((source({"set": ["192.0.2.1", {"range": ["10.77.0.0", "10.77.0.255"]}]}), DROP), True),
        ((source(network("10.8.0.0", 24), operator="!="), DROP), True),
        ((source("@networks"), DROP), True),
        ((source("@unknown"), DROP), True),
        ((source("@addr-set-sshd", operator="!="), DROP), True),
        ((on("lan*"), DROP), True),
        ((on("@lans"), DROP), True),
        ((state(["new", "invalid"]), DROP), True),
        (({"limit": {"rate": 10}}, DROP), True),
    ],
)
def test_a_rule_that_denies_other_ports_or_particular_sources_says_nothing_about_phones(
    rule: tuple[object, ...], denies: bool
) -> None:
    for place in (
        rules("input", rule or (DROP,)),
        [*rules("input", [JUMP]), *rules("other", rule or (DROP,))],
    ):
        assert fate(ruleset(OPEN, *SETS, *place), BY_IPV4) is (DENIED if denies else PASSES)


@pytest.mark.parametrize(
    ("added", "expected"),
    [
        ((MDNS, TCP), ACCEPTED),
        ((MDNS, (to_port("tcp", 22), ACCEPT), TCP), ACCEPTED),
        ((MDNS, (on("lan0"), to_port("tcp", 51826), ACCEPT)), ACCEPTED),
        ((MDNS, (to_port("tcp", {"set": [22, 51826]}), ACCEPT)), ACCEPTED),
        ((MDNS, (source(network("10.77.0.0", 24)), *TCP)), ACCEPTED),
        (
            (MDNS, (source("@addr-set-sshd"), DROP), (state("invalid"), DROP), (state(["new"]), *TCP)),
            ACCEPTED,
        ),
        ((MDNS, (JUMP,), TCP), ACCEPTED),
        (((on("lan0"), ACCEPT),), ACCEPTED),
        ((), DENIED),
        ((MDNS,), DENIED),
        ((TCP,), DENIED),
        ((MDNS, (to_port("tcp", 51827), ACCEPT)), DENIED),
        ((MDNS, (to_port("udp", 51826), ACCEPT)), DENIED),
        ((MDNS, (to_port("tcp", 51826, "!="), ACCEPT)), DENIED),
        ((MDNS, (to_port("tcp", 51826), DROP)), DENIED),
        ((MDNS, (source({"set": [network("10.0.0.0", 8), "192.0.2.1"]}), *TCP)), ACCEPTED),
        ((MDNS, (is_(payload("ip", "protocol"), "tcp"), ACCEPT)), ACCEPTED),
        ((MDNS, (L4_TCP, {"xt": None}, COUNTER, JUMP), TCP), ACCEPTED),
        ((MDNS, (to_port("tcp", 22), DROP), TCP, (DROP,)), ACCEPTED),
        ((MDNS, (on("wan0"), *TCP)), DENIED),
        ((MDNS, (source(network("10.77.0.0", 25)), *TCP)), DENIED),
        ((MDNS, (source("@networks"), *TCP)), DENIED),
        ((MDNS, ({"xt": None}, *TCP)), DENIED),
        ((MDNS, (JUMP,)), DENIED),
        ((({"vmap": {}}, COUNTER), MDNS, TCP), DENIED),
        ((MDNS, (source(network("10.8.0.0", 24)), *TCP)), DENIED),
        ((MDNS, (source("10.77.0.1"), *TCP)), DENIED),
        ((MDNS, (source(network("fd00::", 64), "ip6"), *TCP)), DENIED),
        ((MDNS, (source("@phones"), *TCP)), DENIED),
        ((MDNS, (state(["established", "related"]), ACCEPT)), DENIED),
        ((MDNS, ({"limit": {"rate": 1}}, *TCP)), DENIED),
        ((MDNS, ({"notrack": None}, *TCP)), DENIED),
        ((MDNS, ({"notrack": None},)), DENIED),
        (((DROP,), MDNS, TCP), DENIED),
        ((MDNS, ({"jump": {"target": "denies"}},), TCP), DENIED),
        ((MDNS, ({"goto": {"target": "other"}},), TCP), DENIED),
        ((MDNS, ({"return": None},), TCP), DENIED),
    ],
)
def test_only_rules_that_accept_both_ports_from_the_bridges_network_are_ok(
    added: tuple[tuple[object, ...], ...], expected: Fate
) -> None:
    others = (*rules("denies", [DROP]), *rules("other", [source("203.0.113.9"), DROP], [{"return": None}]))
    assert fate(ruleset(CLOSED, *SETS, *rules("input", *added), *others), BY_IPV4) is expected


NEIGHBOURS = (is_(payload("icmpv6", "type"), {"set": ["nd-neighbor-solicit", "nd-neighbor-advert"]}), ACCEPT)
SOLICIT, ADVERT = (
    (is_(payload("icmpv6", "type"), f"nd-neighbor-{kind}"), ACCEPT) for kind in ("solicit", "advert")
)
ICMPV6 = (is_({"meta": {"key": "l4proto"}}, {"set": ["icmp", "ipv6-icmp"]}), ACCEPT)


@pytest.mark.parametrize(
    ("traffic", "added", "expected"),
    [
        (BY_IPV6, [(source(network("fd00::", 64), "ip6"), ACCEPT)], ACCEPTED),
        (BY_IPV6, [MDNS, TCP, NEIGHBOURS], ACCEPTED),
        (BY_IPV6, [MDNS, TCP, SOLICIT, ADVERT], ACCEPTED),
        (BY_IPV6, [MDNS, TCP, ICMPV6], ACCEPTED),
        (BY_IPV6, [MDNS, TCP, (is_(payload("ip6", "nexthdr"), "ipv6-icmp"), ACCEPT)], ACCEPTED),
        (BY_IPV6, [(state("invalid"), DROP), MDNS, TCP, (on("lan0"), *ICMPV6)], ACCEPTED),
        (BY_IPV6, [(source(network("10.77.0.0", 24)), ACCEPT)], DENIED),
        (BY_IPV6, [MDNS, TCP], DENIED),
        (BY_IPV6, [MDNS, TCP, SOLICIT], DENIED),
        (BY_IPV6, [MDNS, TCP, (is_(payload("icmp", "type"), "echo-request"), ACCEPT)], DENIED),
        (BY_IPV6, [MDNS, TCP, (state(["established", "new"]), *ICMPV6)], DENIED),
        (BY_IPV6, [(is_(payload("icmpv6", "type"), "@kinds"), DROP), MDNS, TCP, ICMPV6], DENIED),
        (BOTH, [MDNS, TCP, ICMPV6], ACCEPTED),
        (BOTH, [MDNS, TCP], DENIED),
        (BOTH, [(source(network("10.77.0.0", 24)), ACCEPT)], DENIED),
        (ON_TWO, [(on({"set": ["lan0", "lan1"]}), ACCEPT)], ACCEPTED),
        (ON_TWO, [(on("lan0"), ACCEPT)], DENIED),
        (UNKNOWN, [(ACCEPT,)], ACCEPTED),
        (UNKNOWN, [(source(network("10.77.0.0", 24)), ACCEPT)], DENIED),
        (UNKNOWN, [(on("lan0"), ACCEPT)], DENIED),
    ],
)
def test_the_rules_must_fit_all_ip_versions_and_interfaces_of_the_bridge(
    traffic: Traffic, added: Sequence[Sequence[object]], expected: Fate
) -> None:
    assert fate(ruleset(CLOSED, *rules("input", *added)), traffic) is expected


JUMPS_OF_UFW = [[{"jump": {"target": f"ufw-{name}-input"}}] for name in ("before-logging", "before", "after")]
BY_UFW = (chain("input", "drop"), *rules("ufw-before-logging-input", [{"xt": None}]))
TO_51826 = (to_port("tcp", 51826), DROP)


@pytest.mark.parametrize(
    ("managers", "said", "expected"),
    [
        (["firewalld"], ruleset(CLOSED).replace('"filter"', '"firewalld"'), PASSES),
        (["ufw"], ruleset(*BY_UFW, *rules("input", *JUMPS_OF_UFW)), ACCEPTED),
        (["ufw"], ruleset(*BY_UFW, *rules("input", *JUMPS_OF_UFW, [DROP])), ACCEPTED),
        (["ufw"], ruleset(*BY_UFW, *rules("input", JUMPS_OF_UFW[0], TO_51826, *JUMPS_OF_UFW[1:])), DENIED),
        (["ufw"], ruleset(*BY_UFW, *rules("input", TO_51826, *JUMPS_OF_UFW)), DENIED),
        (["ufw"], ruleset(CLOSED), DENIED),
        (["ufw"], ruleset(CLOSED).replace('"filter"', '"ufw"'), DENIED),
        (["firewalld"], ruleset(CLOSED), DENIED),
        (["firewalld"], ruleset(*BY_UFW, *rules("input", *JUMPS_OF_UFW)), DENIED),
        ([], ruleset(*BY_UFW, *rules("input", *JUMPS_OF_UFW)), DENIED),
        ([], ruleset(CLOSED).replace('"filter"', '"firewalld"'), DENIED),
    ],
)
def test_only_the_rules_of_a_manager_that_allows_the_packets_are_passed_over(
    managers: list[str], said: str, expected: Fate
) -> None:
    assert fate(said, BY_IPV4, managers) is expected


def test_thousands_of_chains_are_each_visited_once_for_each_packet() -> None:
    names = [f"to{number}" for number in range(3000)]
    jumps = [[{"jump": {"target": name}}] for name in names]
    inside = [rule for name in names for rule in rules(name, *jumps[:2], (to_port("tcp", 22), DROP))]
    started = time.process_time()
    assert fate(ruleset(CLOSED, *rules("input", *jumps, MDNS, TCP), *inside), BY_IPV4) is ACCEPTED
    assert time.process_time() - started < 3


@pytest.mark.parametrize(
    "said",
    [
        *("no JSON", "null", "7", "{}", "[]", '{"nftables": 1}', '{"nftables": [1]}', '{"nftables": null}'),
        *(ruleset({"chain": value}) for value in NO_CHAINS),
        *(ruleset({"rule": value}) for value in NO_CHAINS),
        *(ruleset({"set": value}) for value in NO_CHAINS),
        ruleset({"rule": {"family": [], "table": "filter", "chain": "input", "expr": []}}),
        *(
            ruleset(OPEN, *rules("input", [statement]))
            for statement in (
                source(network("10.0.0.0", 99)),
                {"match": 1},
                {"jump": {"no": 1}},
                {},
                "drop",
                None,
            )
        ),
        "[" * 100_000,
        '{"nftables":' * 100_000,
        "9" * 10_000,
    ],
)
def test_a_malformed_ruleset_is_an_error_that_is_caught(said: str) -> None:
    with pytest.raises(ValueError, match="cannot read the output of nft"):
        chains_of_nft(said, BY_IPV4)


# iptables

UDP, TCP_ = "-A INPUT -p udp -m udp --dport 5353 -j ACCEPT", "-A INPUT -p tcp -m tcp --dport 51826 -j ACCEPT"
ON_LAN = [line.replace("INPUT -p", "INPUT -i lan0 -p") for line in (UDP, TCP_)]
OTHERS = ("-A INPUT -s 10.8.0.0/24 -j ACCEPT", "-A INPUT -p tcp -m tcp --dport 22 -j ACCEPT")
REPLIES = (
    "-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
    "-A INPUT -i lo -j ACCEPT",
)
TO_UFW = [f"-A INPUT -j ufw-{name}-input" for name in ("before-logging", "before", "after")]


def listing(policy: str, *lines: str) -> str:
    return "\n".join((f"-P INPUT {policy}", *lines, ""))


def fate_by_iptables(listed: str, managers: Sequence[str] = ()) -> Fate:
    fates = {*chain_of_iptables("ip", listed, BY_IPV4, managers).fates.values()}
    return DENIED if DENIED in fates else ACCEPTED if ACCEPTED in fates else PASSES


@pytest.mark.parametrize(
    ("listed", "expected"),
    [
        (listing("ACCEPT"), PASSES),
        (listing("ACCEPT", *OTHERS), PASSES),
        (listing("ACCEPT", UDP, TCP_, "-A INPUT -j REJECT"), ACCEPTED),
        (listing("DROP", UDP, TCP_), ACCEPTED),
        (listing("DROP", *OTHERS, *ON_LAN), ACCEPTED),
        (listing("DROP", "-A INPUT -i lan0 -j ACCEPT"), ACCEPTED),
        (listing("DROP", UDP, TCP_, "-A INPUT -p tcp -m multiport --dports 22 -j f2b-sshd"), ACCEPTED),
        (listing("DROP"), DENIED),
        (listing("DROP", *REPLIES), DENIED),
        (listing("DROP", *REPLIES, UDP, TCP_), ACCEPTED),
        (listing("DROP", UDP, *OTHERS), DENIED),
        (listing("DROP", "-A INPUT -j DROP", UDP, TCP_), DENIED),
        (listing("DROP", "-A INPUT -j other", UDP, TCP_), DENIED),
        (listing("DROP", "-A INPUT -j RETURN", UDP, TCP_), DENIED),
        (listing("ACCEPT", "-A INPUT -j NFQUEUE --queue-num 0"), DENIED),
        (listing("ACCEPT", '-A INPUT -j NFLOG --nflog-prefix "-j ACCEPT"'), DENIED),
        (listing("DROP", UDP, TCP_.replace("INPUT", "INPUT -i wg0")), DENIED),
        (listing("DROP", UDP, TCP_.replace("INPUT", "INPUT -s 10.8.0.0/24")), DENIED),
        (listing("DROP", UDP, TCP_.replace("--dport", "! --dport")), DENIED),
        (listing("DROP", UDP, TCP_.replace("51826", "518260")), DENIED),
        *(
            (listing("DROP", UDP, text), DENIED)
            for text in ("-P", "-N", "-A", "-A INPUT", "-A INPUT -j", "!", "-A INPUT ! !", "\0")
        ),
    ],
)
def test_only_the_printed_rules_of_iptables_before_any_other_are_ok(listed: str, expected: Fate) -> None:
    assert fate_by_iptables(listed) is expected


@pytest.mark.parametrize(
    ("managers", "lines", "expected"),
    [
        (["ufw"], TO_UFW, ACCEPTED),
        (["ufw"], [TO_UFW[0], "-A INPUT -p tcp -m tcp --dport 51826 -j DROP", *TO_UFW[1:]], DENIED),
        ([], TO_UFW, DENIED),
    ],
)
def test_the_rules_of_a_ufw_that_allows_the_packets_are_passed_over_in_iptables(
    managers: list[str], lines: list[str], expected: Fate
) -> None:
    assert fate_by_iptables(listing("DROP", *lines), managers) is expected


def test_ip6tables_must_accept_neighbours_too() -> None:
    def fates(*lines: str) -> dict[Packet, Fate]:
        return dict(chain_of_iptables("ip6", listing("DROP", UDP, TCP_, *lines), BY_IPV6).fates)

    assert DENIED in fates().values()
    assert {*fates("-A INPUT -i lan0 -p ipv6-icmp -j ACCEPT").values()} == {ACCEPTED}


INCOMPATIBLE = (
    "# Table `filter' contains incompatible base-chains, use 'nft' tool to list them.\n-P INPUT ACCEPT\n"
)


@pytest.mark.parametrize("printed", ["", "\0", "-P", "[]", "-P FORWARD ACCEPT", "-P INPUT", INCOMPATIBLE])
def test_other_text_than_that_of_iptables_is_an_error_that_is_caught(printed: str) -> None:
    with pytest.raises(ValueError, match="cannot read the output of iptables"):
        chain_of_iptables("ip", printed, BOTH)
