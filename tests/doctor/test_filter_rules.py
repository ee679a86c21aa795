"""How `hkswitch doctor` judges what nft and iptables print; tests/host/test_firewalls.py has real ones."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from hkswitch.doctor import iptables, nftables
from hkswitch.doctor.finding import Verdict
from hkswitch.doctor.programs import Completed
from hkswitch.doctor.traffic import Traffic, traffic_to
from hkswitch.network.choice import NoDefaultRoute
from tests.doctor.firewalls import BOTH, BY_IPV4, BY_IPV6, OK, ON_TWO, SKIP, TODO, judged

Json = dict[str, Any]
UNKNOWN = traffic_to(51826, NoDefaultRoute(), ())


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


def network(address: str, length: int) -> Json:
    return {"prefix": {"addr": address, "len": length}}


ACCEPT, DROP, REJECT = {"accept": None}, {"drop": None}, {"reject": {"type": "icmp", "expr": "x"}}
COUNTER = {"counter": {"packets": 0, "bytes": 0}}
STATES = {"vmap": {"key": {"ct": {"key": "state"}}, "data": {"set": [["invalid", DROP]]}}}
JUMP = {"jump": {"target": "other"}}
MDNS = (to_port("udp", 5353), ACCEPT)
TCP = (to_port("tcp", 51826), COUNTER, ACCEPT)
NO_CHAINS: tuple[object, ...] = ({}, None, 1, [], {"family": []})
OPEN = chain("input", "accept")
CLOSED = chain("input", "drop")


def titles(said: str, traffic: Traffic) -> list[str]:
    found = [nftables.judged(each, traffic) for each in nftables.input_chains(said, traffic)]
    return [finding.verdict for finding in found if finding is not None]


@pytest.mark.parametrize(
    ("said", "verdicts"),
    [
        ("", []),
        (ruleset(), []),
        (ruleset(OPEN), []),
        (ruleset(OPEN, *rules("input", [COUNTER])), []),
        (ruleset(chain("forward", "drop", hook="forward")), []),
        (ruleset(chain("input", "drop", family="bridge")), []),
        (ruleset(chain("input", "drop", family="ip6")), []),
        # Earlier hooks: Docker denies packets for containers there.
        (ruleset(chain("PREROUTING", "drop", "ip", hook="prerouting")), []),
        (ruleset(chain("ingress", "drop", "netdev", hook="ingress")), []),
        # Like ufw when it is disabled: its chains stay, and are empty.
        (ruleset(OPEN, chain("other"), *rules("input", [COUNTER, JUMP])), []),
        # Like Docker and libvirt: what they deny is forwarded.
        (ruleset(OPEN, chain("other"), *rules("other", [DROP])), []),
        (ruleset(OPEN, *rules("input", [JUMP]), *rules("other", [to_port("tcp", 22), DROP])), []),
        (ruleset(chain("input", "drop", family="ip")), [TODO]),
        (ruleset(CLOSED), [TODO]),
        (ruleset(OPEN, CLOSED), [TODO]),
        (ruleset(OPEN, *rules("input", [DROP])), [TODO]),
        (ruleset(OPEN, *rules("input", [on("lan0"), REJECT])), [TODO]),
        (ruleset(OPEN, *rules("input", [STATES])), [TODO]),
        (ruleset(OPEN, *rules("input", [{"xt": None}])), [TODO]),
        (ruleset(OPEN, *rules("input", [JUMP]), *rules("other", [DROP])), [TODO]),
        (ruleset(OPEN, *rules("input", [JUMP]), *rules("other", [JUMP], [DROP])), [TODO]),
        (ruleset(OPEN, *rules("input", [ACCEPT])), [OK]),
    ],
)
def test_a_chain_that_may_deny_incoming_packets_is_found(said: str, verdicts: list[Verdict]) -> None:
    assert titles(said, BY_IPV4) == verdicts


@pytest.mark.parametrize(
    ("rule", "denies"),
    [
        # fail2ban's, in all its forms, and CrowdSec's
        ((to_port("tcp", 22), source("@addr-set-sshd"), REJECT), False),
        ((to_port("tcp", {"set": [80, 443]}), source("@addr-set-web"), REJECT), False),
        ((to_port("tcp", {"range": [1, 51826]}), source("@addr-set-web"), REJECT), False),
        ((source("@addr-set-sshd"), REJECT), False),
        ((source("@addr6-set-sshd", "ip6"), REJECT), False),
        ((source("203.0.113.9"), COUNTER, DROP), False),
        # other ports, sources, interfaces and states
        ((to_port("tcp", 22), DROP), False),
        ((to_port("tcp", {"set": [22, {"range": [6000, 6063]}]}), DROP), False),
        ((to_port("tcp", 5353), DROP), False),
        ((source({"set": [network("10.8.0.0", 24), "10.77.0.66"]}), DROP), False),
        ((source({"range": ["10.8.0.1", "10.8.0.200"]}), DROP), False),
        ((source("aa:bb:cc:dd:ee:ff", "ether"), DROP), False),
        ((on({"set": ["wan0", "ppp*"]}), DROP), False),
        ((state("invalid"), DROP), False),
        ((), True),
        ((to_port("tcp", 51826), DROP), True),
        ((to_port("th", {"range": [5000, 6000]}), DROP), True),
        ((to_port("tcp", {"set": [22, 51826]}), REJECT), True),
        ((to_port("tcp", 22, "!="), DROP), True),
        ((to_port("tcp", "@closed"), DROP), True),
        ((source(network("10.77.0.0", 24)), DROP), True),
        ((source({"set": ["192.0.2.1", {"range": ["10.77.0.0", "10.77.0.255"]}]}), DROP), True),
        ((source(network("10.8.0.0", 24), operator="!="), DROP), True),
        ((source("@lan", operator="!="), DROP), True),
        ((on("lan*"), DROP), True),
        ((on("@lans"), DROP), True),
        ((state(["new", "invalid"]), DROP), True),
        (({"limit": {"rate": 10}}, DROP), True),
    ],
)
def test_a_rule_that_denies_other_ports_or_particular_sources_says_nothing_about_phones(
    rule: tuple[object, ...], denies: bool
) -> None:
    said = ruleset(OPEN, *rules("input", rule or (DROP,)))
    assert titles(said, BY_IPV4) == ([TODO] if denies else [])


BY_HAND = (
    """run `sudo nft insert rule inet filter input iifname "lan0" udp dport 5353 accept` and `sudo nft"""
)


@pytest.mark.parametrize(
    ("added", "verdict", "words"),
    [
        ((MDNS, TCP), OK, "nftables accepts 5353/udp and 51826/tcp (chain input of table inet filter)"),
        ((MDNS, (to_port("tcp", 22), ACCEPT), TCP), OK, "accepts 5353/udp and 51826/tcp"),
        ((MDNS, (on("lan0"), to_port("tcp", 51826), ACCEPT)), OK, "accepts"),
        ((MDNS, (to_port("tcp", {"set": [22, 51826]}), ACCEPT)), OK, "accepts"),
        ((MDNS, (source(network("10.77.0.0", 24)), *TCP)), OK, "accepts"),
        ((MDNS, (source("@banned"), DROP), (state("invalid"), DROP), (state(["new"]), *TCP)), OK, "accepts"),
        ((MDNS, (JUMP,), TCP), OK, "accepts"),
        (((on("lan0"), ACCEPT),), OK, "accepts"),
        ((), TODO, "nftables is active (chain input of table inet filter); `sudo nft list chain inet f"),
        ((), TODO, BY_HAND),
        ((MDNS,), TODO, "tcp dport 51826 accept`, and add these rules to your nftables config"),
        ((TCP,), TODO, "unless they accept 5353/udp and 51826/tcp"),
        ((MDNS, (to_port("tcp", 51827), ACCEPT)), TODO, "is active"),
        ((MDNS, (to_port("udp", 51826), ACCEPT)), TODO, "is active"),
        ((MDNS, (to_port("tcp", 51826, "!="), ACCEPT)), TODO, "is active"),
        ((MDNS, (to_port("tcp", 51826), DROP)), TODO, "is active"),
        ((MDNS, (on("wan0"), *TCP)), TODO, "is active"),
        ((MDNS, (source(network("10.8.0.0", 24)), *TCP)), TODO, "is active"),
        ((MDNS, (source("10.77.0.1"), *TCP)), TODO, "is active"),
        ((MDNS, (source(network("fd00::", 64), "ip6"), *TCP)), TODO, "is active"),
        ((MDNS, (source("@phones"), *TCP)), TODO, "is active"),
        ((MDNS, (state(["established", "related"]), ACCEPT)), TODO, "is active"),
        ((MDNS, ({"limit": {"rate": 1}}, *TCP)), TODO, "is active"),
        ((MDNS, ("notrack", *TCP)), TODO, "is active"),
        ((MDNS, ("notrack",)), TODO, "is active"),
        (((DROP,), MDNS, TCP), TODO, "is active"),
        ((MDNS, ({"jump": {"target": "denies"}},), TCP), TODO, "is active"),
        ((MDNS, ({"goto": {"target": "other"}},), TCP), TODO, "is active"),
        ((MDNS, ({"return": None},), TCP), TODO, "is active"),
    ],
)
def test_only_rules_that_accept_both_ports_from_the_bridges_network_are_ok(
    added: tuple[tuple[object, ...], ...], verdict: Verdict, words: str
) -> None:
    said = ruleset(CLOSED, *rules("input", *added), *rules("denies", [DROP]))
    [closed] = nftables.input_chains(said, BOTH)
    judged(nftables.judged(closed, BOTH), verdict, words)


@pytest.mark.parametrize(
    ("traffic", "rule", "verdict"),
    [
        (BY_IPV6, (source(network("fd00::", 64), "ip6"), ACCEPT), OK),
        (BY_IPV6, (source(network("10.77.0.0", 24)), ACCEPT), TODO),
        (ON_TWO, (on({"set": ["lan0", "lan1"]}), ACCEPT), OK),
        (ON_TWO, (on("lan0"), ACCEPT), TODO),
        (UNKNOWN, (ACCEPT,), OK),
        (UNKNOWN, (source(network("10.77.0.0", 24)), ACCEPT), TODO),
        (UNKNOWN, (on("lan0"), ACCEPT), TODO),
    ],
)
def test_the_rule_must_fit_the_bridges_addresses_and_all_its_interfaces(
    traffic: Traffic, rule: tuple[object, ...], verdict: Verdict
) -> None:
    assert titles(ruleset(CLOSED, *rules("input", rule)), traffic) == [verdict]


def test_the_commands_of_nft_are_printed_for_each_interface_or_without_one_for_all() -> None:
    [closed] = nftables.input_chains(ruleset(CLOSED), ON_TWO)
    found = nftables.judged(closed, ON_TWO)
    assert found is not None
    assert found.advice.count("`sudo nft insert rule inet filter input iifname") == 4
    judged(
        nftables.judged(closed, UNKNOWN), TODO, "`sudo nft insert rule inet filter input udp dport 5353 acc"
    )


@pytest.mark.parametrize(
    "said",
    [
        *("no JSON", "null", "7", "{}", "[]", '{"nftables": 1}', '{"nftables": [1]}', '{"nftables": null}'),
        *(ruleset({"chain": value}) for value in NO_CHAINS),
        *(ruleset({"rule": value}) for value in NO_CHAINS),
        ruleset({"rule": {"family": [], "table": "filter", "chain": "input", "expr": []}}),
        ruleset(*rules("input", [source(network("10.0.0.0", 99))])),
        ruleset(*rules("input", [source({"range": ["10.0.0.9", "10.0.0.1"]})])),
        "[" * 100_000,
        '{"nftables":' * 100_000,
        "9" * 10_000,
    ],
)
def test_a_malformed_ruleset_is_an_error_that_is_caught(said: str) -> None:
    with pytest.raises(ValueError, match="cannot read the output of nft"):
        nftables.input_chains(said, BY_IPV4)


# iptables

UDP, TCP_ = "-A INPUT -p udp -m udp --dport 5353 -j ACCEPT", "-A INPUT -p tcp -m tcp --dport 51826 -j ACCEPT"
ON_LAN = [line.replace("INPUT -p", "INPUT -i lan0 -p") for line in (UDP, TCP_)]
F2B = (
    "-N f2b-sshd",
    "-A f2b-sshd -s 203.0.113.9/32 -j REJECT --reject-with icmp-port-unreachable",
    "-A f2b-sshd -j RETURN",
)


def listing(policy: str, *lines: str) -> Completed:
    return Completed(0, "\n".join((f"-P INPUT {policy}", "-P FORWARD DROP", *lines, "")))


@pytest.mark.parametrize(
    ("listed", "verdict", "words"),
    [
        (listing("DROP", UDP, TCP_), OK, "iptables accepts 5353/udp and 51826/tcp"),
        (listing("ACCEPT", UDP, TCP_, "-A INPUT -j REJECT"), OK, "iptables accepts"),
        (listing("DROP", *ON_LAN), OK, "accepts"),
        (
            listing(
                "DROP", UDP, "-A INPUT -s 10.77.0.0/24 -p tcp -m multiport --dports 22,51000:52000 -j ACCEPT"
            ),
            OK,
            "",
        ),
        (listing("DROP", '-A INPUT -i lan+ -m comment --comment "my phones" -j ACCEPT'), OK, ""),
        (
            listing(
                "DROP",
                *F2B,
                "-A INPUT -p tcp -m multiport --dports 22 -j f2b-sshd",
                "-A INPUT -j f2b-sshd",
                UDP,
                TCP_,
            ),
            OK,
            "accepts",
        ),
        (
            listing("DROP", "-A INPUT -m conntrack --ctstate INVALID -j DROP", "-A INPUT -j LOG", UDP, TCP_),
            OK,
            "",
        ),
        (listing("DROP"), TODO, "iptables is active; `sudo iptables -S` shows the rules; unless"),
        (listing("DROP"), TODO, "`sudo iptables -I INPUT -i lan0 -p tcp --dport 51826 -j ACCEPT`"),
        (listing("ACCEPT", "-A INPUT -j DROP"), TODO, "iptables is active"),
        (listing("ACCEPT", "-A INPUT -j REJECT", UDP, TCP_), TODO, "is active"),
        (listing("ACCEPT", "-A INPUT -j NFQUEUE --queue-num 0"), TODO, "is active"),
        (
            listing("ACCEPT", "-N other", "-A INPUT -j other", "-A other ! -s 10.8.0.0/24 -j DROP"),
            TODO,
            "is active",
        ),
        (listing("DROP", UDP, TCP_.replace("INPUT", "INPUT -i wg0")), TODO, "is active"),
        (listing("DROP", UDP, TCP_.replace("INPUT", "INPUT -s 10.8.0.0/24")), TODO, "is active"),
        (listing("DROP", UDP, TCP_.replace("--dport", "! --dport")), TODO, "is active"),
        (listing("DROP", UDP, "-A INPUT -m socket -j ACCEPT"), TODO, "is active"),
        (
            listing("DROP", UDP, "-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"),
            TODO,
            "is active",
        ),
        (listing("DROP", "-A INPUT -j RETURN", UDP, TCP_), TODO, "is active"),
        (listing("ACCEPT", "-A INPUT -m comment --comment ! -j DROP"), TODO, "is active"),
        (listing("ACCEPT", "-A INPUT -m comment --comment -p -j DROP"), TODO, "is active"),
        (
            listing("DROP", UDP, r'-A INPUT -s 10.8.0.9/32 -m comment --comment "\" -j ACCEPT"'),
            TODO,
            "is active",
        ),
        (listing("DROP", "-N other", "-A INPUT -g other", UDP, TCP_), TODO, "is active"),
        (Completed(4, "", "Permission denied (you must be root)\n"), SKIP, "failed: Permission"),
    ],
)
def test_iptables(listed: Completed, verdict: Verdict, words: str) -> None:
    judged(iptables.judged("iptables", listed, BOTH), verdict, words)


@pytest.mark.parametrize(
    "lines",
    [
        (),
        (*F2B, "-A INPUT -p tcp -m multiport --dports 22 -j f2b-sshd"),
        (*F2B, "-A INPUT -p tcp -j f2b-sshd"),
        ("-A INPUT -p tcp -m set --match-set f2b-sshd src -j REJECT",),
        # Tailscale's
        ("-N ts-input", "-A INPUT -j ts-input", "-A ts-input -s 100.64.0.0/10 ! -i tailscale0 -j DROP"),
    ],
)
def test_an_iptables_that_denies_nothing_to_phones_is_not_active(lines: tuple[str, ...]) -> None:
    assert iptables.judged("iptables", listing("ACCEPT", *lines), BY_IPV4) is None


@pytest.mark.parametrize("text", ["-P", "-N", "-A", "-A INPUT", "-A INPUT -j", "!", "-A INPUT ! !", "\0"])
def test_a_malformed_line_of_iptables_accepts_nothing(text: str) -> None:
    judged(iptables.judged("iptables", listing("DROP", text), BOTH), TODO, "iptables is active")


@pytest.mark.parametrize("printed", ["", "\0", "-P", "[]", "-P FORWARD ACCEPT"])
def test_other_text_than_that_of_iptables_is_an_error_that_is_caught(printed: str) -> None:
    with pytest.raises(ValueError, match="cannot read the output of iptables"):
        iptables.judged("iptables", Completed(0, printed), BOTH)
