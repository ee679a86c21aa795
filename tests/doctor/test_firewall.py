"""What `hkswitch doctor` makes of firewalls: by what nft 1.0.6, firewall-cmd and ufw print."""

import json
from collections.abc import Sequence
from typing import Any

import pytest

from hkswitch.doctor import firewall, firewalld, packets, ufw
from hkswitch.doctor.finding import Finding, Verdict
from hkswitch.doctor.programs import Ran
from hkswitch.network.choice import NoDefaultRoute
from hkswitch.network.endpoint import Endpoint

OK, WRONG, UNKNOWN, _ = Verdict
HERE = Endpoint(("10.77.0.1", "fd00::1"), frozenset({1}))
SENT = firewall.packets_of(51826, HERE, ("lan0",))
NAMES = ("mdns4", "tcp4", "mdns6", "tcp6")

Json = dict[str, Any]


def judged(finding: Finding | None, verdict: Verdict, words: str) -> None:
    assert finding is not None
    assert (finding.verdict, words in str(finding)) == (verdict, True), str(finding)
    assert (finding.verdict is WRONG) <= bool(finding.advice), "what to do?"


# nftables


def compare(left: Json, right: object, operator: str = "==") -> Json:
    return {"match": {"op": operator, "left": left, "right": right}}


def field(protocol: str, name: str = "dport") -> Json:
    return {"payload": {"protocol": protocol, "field": name}}


def meta(key: str) -> Json:
    return {"meta": {"key": key}}


def prefix(address: str, length: int) -> Json:
    return {"prefix": {"addr": address, "len": length}}


def vmap(key: Json, data: object) -> Json:
    return {"vmap": {"key": key, "data": data}}


def chain(name: str, policy: str = "", family: str = "inet") -> Json:
    hook = {"type": "filter", "hook": "input", "prio": 0, "policy": policy} if policy else {}
    return {"chain": {"family": family, "table": "filter", "name": name, "handle": 1, **hook}}


def rules(name: str, *expressions: Sequence[object]) -> list[Json]:
    place = {"family": "inet", "table": "filter", "chain": name, "handle": 4}
    return [{"rule": {**place, "expr": list(expression)}} for expression in expressions]


def ruleset(*items: Json) -> Json:
    about = {"version": "1.0.6", "release_name": "Lester Gooch #5", "json_schema_version": 1}
    return {"nftables": [{"metainfo": about}, {"table": {"family": "inet", "name": "filter"}}, *items]}


def closed(*expressions: Sequence[object]) -> Json:
    """A chain whose policy is to drop."""
    return ruleset(chain("input", "drop"), *rules("input", *expressions))


def opened(*expressions: Sequence[object]) -> Json:
    """A chain whose policy is to accept."""
    return ruleset(chain("input", "accept"), *rules("input", *expressions))


def beside(name: str, inside: Sequence[Sequence[object]], *expressions: Sequence[object]) -> Json:
    """A chain whose policy is to drop, and another that it may jump to."""
    return ruleset(chain("input", "drop"), chain(name), *rules(name, *inside), *rules("input", *expressions))


ACCEPT, DROP, RETURN = {"accept": None}, {"drop": None}, {"return": None}
REJECT = {"reject": {"type": "tcp reset"}}
COUNTER = {"counter": {"packets": 0, "bytes": 0}}
LIMIT = {"limit": {"rate": 10, "per": "second"}}
XT_MATCH = {"xt": {"type": "match", "name": "multiport"}}
XT_LOG = {"xt": {"type": "target", "name": "LOG"}}
XT_REJECT = {"xt": {"type": "target", "name": "REJECT"}}
STATE = {"ct": {"key": "state"}}
STATES = {"set": [["invalid", DROP], ["established", ACCEPT], ["related", ACCEPT]]}
INTERFACES = {"set": [["lan0", {"jump": {"target": "lan"}}], ["wan0", DROP]]}
ESTABLISHED = (compare(STATE, ["established", "related"], "in"), ACCEPT)
MDNS = (compare(field("ip", "daddr"), "224.0.0.251"), compare(field("udp"), 5353), ACCEPT)
TCP = (compare(field("tcp"), 51826), COUNTER, {"log": None}, ACCEPT)
FEW, MANY = {"set": [22, {"range": [80, 90]}]}, {"set": [22, {"range": [51800, 51900]}]}
EITHER = {"set": ["tcp", "udp"]}
BOTH = (compare(meta("l4proto"), EITHER), compare(field("th"), {"set": [5353, 51826]}), ACCEPT)
TYPE = {"fib": {"result": "type", "flags": ["daddr"]}}
GROUPS = prefix("224.0.0.0", 4)

PASS = dict.fromkeys(NAMES, "accept")
FAIL = dict.fromkeys(NAMES, "drop")
MAY = dict.fromkeys(NAMES, "accept drop")
TCP_ONLY = FAIL | {"tcp4": "accept", "tcp6": "accept"}
MDNS_ONLY = FAIL | {"mdns4": "accept", "mdns6": "accept"}
MAY_BY_IPV4 = FAIL | {"mdns4": "accept drop", "tcp4": "accept drop"}


@pytest.mark.parametrize(
    ("said", "becomes"),
    [
        (ruleset(), PASS),
        (opened(), PASS),
        (closed(), FAIL),
        (closed(ESTABLISHED, [compare(meta("iifname"), "lo"), ACCEPT]), FAIL),
        (closed(ESTABLISHED, MDNS, TCP), PASS | {"mdns6": "drop"}),
        (closed([vmap(STATE, STATES)], TCP), TCP_ONLY),
        (closed([vmap(STATE, "@verdicts")]), MAY),
        (closed([compare(field("tcp"), MANY), ACCEPT]), TCP_ONLY),
        (closed([compare(field("tcp"), FEW), ACCEPT]), FAIL),
        (
            closed([compare(field("tcp"), "homekit"), ACCEPT]),
            FAIL | {"tcp4": "accept drop", "tcp6": "accept drop"},
        ),
        (closed(BOTH), PASS),
        (closed([compare(meta("iifname"), "lan*"), ACCEPT]), PASS),
        (closed([compare(meta("iifname"), "wan0"), ACCEPT]), FAIL),
        (closed([compare(meta("iifname"), "wan0", "!="), ACCEPT]), PASS),
        (closed([compare(meta("nfproto"), "ipv6"), ACCEPT]), FAIL | {"mdns6": "accept", "tcp6": "accept"}),
        (closed([compare(meta("pkttype"), "multicast"), ACCEPT]), MDNS_ONLY),
        (closed([compare(meta("mark"), 7), ACCEPT]), MAY),
        (closed([compare(field("ip6", "nexthdr"), "ipv6-icmp"), ACCEPT]), FAIL),
        (closed([compare(field("ip", "saddr"), prefix("10.0.0.0", 8)), ACCEPT]), MAY_BY_IPV4),
        (closed([compare(field("ip", "saddr"), "@friends"), ACCEPT]), MAY_BY_IPV4),
        (closed([compare(field("ip", "daddr"), GROUPS), ACCEPT]), MAY_BY_IPV4 | {"mdns4": "accept"}),
        (closed([compare(TYPE, "multicast"), ACCEPT]), MDNS_ONLY),
        (closed([LIMIT, ACCEPT]), MAY),
        (closed([XT_MATCH, ACCEPT]), MAY),
        (closed([{"xt": None}]), MAY),
        (closed([XT_LOG], [ACCEPT]), PASS),
        (closed(["notrack"], [ACCEPT]), PASS),
        (opened([XT_REJECT]), FAIL),
        (opened([compare(field("tcp"), 22, "!="), compare(STATE, "new", "in"), REJECT]), MDNS_ONLY),
        (opened([compare(field("udp"), 53, "!="), DROP]), TCP_ONLY),
        (opened([{"queue": {"num": 0}}]), MAY),
        (closed([{"jump": {"target": "nowhere"}}]), MAY),
        (beside("lan", [TCP, [RETURN], [ACCEPT]], [vmap(meta("iifname"), INTERFACES)]), TCP_ONLY),
        (beside("lan", [TCP], [{"jump": {"target": "lan"}}], [ACCEPT]), PASS),
        (beside("lan", [TCP], [{"goto": {"target": "lan"}}], [ACCEPT]), TCP_ONLY),
        (beside("loop", [[{"jump": {"target": "loop"}}]], [{"jump": {"target": "loop"}}]), MAY),
        (ruleset(chain("input", "drop", family="ip")), PASS | {"mdns4": "drop", "tcp4": "drop"}),
        (ruleset(chain("input", "drop", family="bridge")), PASS),
    ],
)
def test_what_becomes_of_a_packet(said: Json, becomes: dict[str, str]) -> None:
    among = packets.chains(said)
    found = {}
    for name, packet in zip(NAMES, SENT, strict=True):
        ends = [packets.outcomes(each, packet, among) for each in among if each.hears(packet)]
        found[name] = " ".join(sorted(frozenset().union(*ends))) or "accept"
    assert found == becomes


@pytest.mark.parametrize("said", [{}, {"nftables": [{"rule": {}}]}, {"nftables": [1]}, {"nftables": 1}])
def test_what_is_no_ruleset_is_an_error_that_is_caught(said: Json) -> None:
    with pytest.raises(ValueError, match="no ruleset"):
        packets.chains(said)


def printed(said: Json) -> Ran:
    return Ran(0, json.dumps(said))


BY_HAND = "`sudo nft insert rule inet filter input tcp dport 51826 accept`, and keep it"
LATER = ruleset(chain("a", "accept"), chain("b", "accept"), *rules("b", [DROP]))


@pytest.mark.parametrize(
    ("ran", "verdict", "words"),
    [
        (Ran(0, ""), OK, "it lets in 5353/udp and 51826/tcp"),
        (printed(closed(MDNS, TCP)), OK, "it lets in"),
        (printed(closed(MDNS)), WRONG, f"table inet filter, chain input drops 51826/tcp; {BY_HAND}"),
        (printed(closed(TCP)), WRONG, "drops 5353/udp"),
        (printed(LATER), WRONG, "chain b drops"),
        (printed(closed([XT_MATCH, ACCEPT])), UNKNOWN, "may drop 5353/udp; look whether it lets in"),
        (Ran(1, "", "Operation not permitted (you must be root)\n"), UNKNOWN, "you must be root); run it"),
    ],
)
def test_nftables_lets_phones_in(ran: Ran, verdict: Verdict, words: str) -> None:
    by_ipv4 = firewall.packets_of(51826, Endpoint(("10.77.0.1",), frozenset({1})), ("lan0",))
    judged(firewall.nftables_lets_in(ran, by_ipv4, "run it with sudo"), verdict, words)


def test_without_a_network_packets_come_from_anywhere() -> None:
    sent = firewall.packets_of(51826, NoDefaultRoute(), ())
    assert [(packet.family, packet.interface) for packet in sent] == [("ip", ""), ("ip", "")]
    [heard] = packets.chains(closed([compare(meta("iifname"), "lan0"), ACCEPT]))
    assert packets.outcomes(heard, sent[1], (heard,)) == {"accept", "drop"}


@pytest.mark.parametrize(
    ("ran", "verdict", "words"),
    [
        (Ran(0, "-P INPUT ACCEPT\n"), OK, "it lets in"),
        (Ran(0, "-P INPUT DROP\n"), UNKNOWN, "iptables has rules; look whether they let in 5353/udp"),
        (Ran(0, "-P INPUT ACCEPT\n-A INPUT -j DROP\n"), UNKNOWN, "iptables has rules"),
        (Ran(4, "", "Permission denied (you must be root)\n"), UNKNOWN, "run it with sudo"),
    ],
)
def test_of_iptables_only_that_it_has_no_rules_is_told(ran: Ran, verdict: Verdict, words: str) -> None:
    judged(firewall.iptables_lets_in(ran, SENT, "run it with sudo"), verdict, words)


# firewalld

ZONE = """\
public (active)
  target: {target}
  icmp-block-inversion: no
  interfaces: lan0
  services: {services}
  ports: {ports}
  forward: yes
  masquerade: no
  rich rules:
{rich}"""
MDNS_SERVICE = "mdns\n  ports: 5353/udp\n  destination: ipv4:224.0.0.251 ipv6:ff02::fb\n"
ADD_PORT = "--permanent --zone=public --add-port=51826/tcp && sudo firewall-cmd --reload`"


def of_zone(zone: dict[str, str]) -> Finding | None:
    settings = {"target": "default", "services": "", "ports": "", "rich": ""} | zone
    services = {"mdns": MDNS_SERVICE} if "mdns" in settings["services"] else {}
    return firewalld.zone_lets_in("public", ZONE.format(**settings), services, SENT)


@pytest.mark.parametrize(
    "zone",
    [
        {"services": "dhcpv6-client mdns ssh", "ports": "51826/tcp"},
        {"services": "ssh", "ports": "1025-65535/udp 1025-65535/tcp"},
        {"target": "ACCEPT"},
    ],
)
def test_a_zone_of_firewalld_that_lets_phones_in_is_well(zone: dict[str, str]) -> None:
    assert of_zone(zone) is None


@pytest.mark.parametrize(
    ("zone", "verdict", "words"),
    [
        ({"services": "mdns"}, WRONG, f"zone public keeps out 51826/tcp; `sudo firewall-cmd {ADD_PORT}"),
        ({"ports": "51826/tcp"}, WRONG, "keeps out 5353/udp"),
        ({"target": "DROP"}, WRONG, "--add-port=5353/udp --add-port=51826/tcp"),
        ({"services": "mdns", "ports": "51826/udp 51827/tcp 80-90/tcp"}, WRONG, "keeps out 51826/tcp"),
        ({"services": "mdns", "rich": "\trule port port=1 accept\n"}, UNKNOWN, "rich rules"),
    ],
)
def test_a_zone_of_firewalld_that_does_not_is_said(
    zone: dict[str, str], verdict: Verdict, words: str
) -> None:
    judged(of_zone(zone), verdict, words)


# ufw

UFW = """\
Status: active
Logging: on (low)
Default: deny (incoming), allow (outgoing), disabled (routed)
New profiles: skip

To                         Action      From
--                         ------      ----
22/tcp                     ALLOW IN    Anywhere
137,138/udp (Samba)        ALLOW IN    Anywhere
{rule}
22/tcp (v6)                ALLOW IN    Anywhere (v6)
"""


@pytest.mark.parametrize(
    ("rule", "verdict", "words"),
    [
        ("51826/tcp                  ALLOW IN    192.168.1.0/24", OK, "ufw lets in 5353/udp and 51826/tcp"),
        ("51826                      LIMIT IN    Anywhere", OK, "ufw lets in"),
        ("51820:51830/tcp on lan0    ALLOW IN    Anywhere                   # phones", OK, "ufw lets in"),
        ("", WRONG, "ufw keeps out 51826/tcp; `sudo ufw allow 51826/tcp`"),
        ("51826/udp                  ALLOW IN    Anywhere", WRONG, "ufw keeps out"),
        ("51826/tcp                  DENY IN     Anywhere", WRONG, "ufw keeps out"),
        ("51826/tcp                  ALLOW OUT   Anywhere", WRONG, "ufw keeps out"),
        ("Home                       ALLOW IN    Anywhere", UNKNOWN, "rules without ports"),
        ("Anywhere                   ALLOW IN    10.0.0.0/8", UNKNOWN, "rules without ports"),
    ],
)
def test_ufw_lets_phones_in(rule: str, verdict: Verdict, words: str) -> None:
    judged(ufw.status_lets_in(Ran(0, UFW.format(rule=rule)), SENT), verdict, words)


def test_a_ufw_that_lets_in_everything_is_well() -> None:
    everything = UFW.format(rule="").replace("deny (incoming)", "allow (incoming)")
    judged(ufw.status_lets_in(Ran(0, everything), SENT), OK, "what it does not know")


@pytest.mark.parametrize("ran", [Ran(0, "Status: inactive\n"), Ran(1, "", "ERROR: You need to be root\n")])
def test_a_ufw_that_says_nothing_is_passed_over(ran: Ran) -> None:
    assert ufw.status_lets_in(ran, SENT) is None
