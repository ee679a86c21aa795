"""How `hkswitch doctor` judges what firewalls print; tests/host/test_firewalls.py has real ones."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from hkswitch.control import client
from hkswitch.doctor import firewall, firewalld, ufw
from hkswitch.doctor.context import Context
from hkswitch.doctor.finding import Verdict
from hkswitch.doctor.programs import Completed, NotInstalled
from hkswitch.doctor.traffic import Packet, Traffic, network_of, ports_in, traffic_to
from hkswitch.model.config import BridgeConfig, Config
from hkswitch.model.errors import ConfigUnreadable
from hkswitch.network.choice import NoDefaultRoute
from hkswitch.network.endpoint import Endpoint
from tests.doctor.firewalls import BOTH, BY_IPV4, HERE, OK, SKIP, TODO, judged

Json = dict[str, Any]


# nftables


def chain(name: str, policy: str = "", family: str = "inet", hook: str = "input") -> Json:
    base = {"type": "filter", "hook": hook, "prio": 0, "policy": policy} if policy else {}
    return {"chain": {"family": family, "table": "filter", "name": name, "handle": 1, **base}}


def rules(name: str, *expressions: Sequence[object], family: str = "inet") -> list[Json]:
    place = {"family": family, "table": "filter", "chain": name, "handle": 4}
    return [{"rule": {**place, "expr": list(expression)}} for expression in expressions]


def ruleset(*items: Json) -> Json:
    about = {"version": "1.0.6", "release_name": "Lester Gooch #5", "json_schema_version": 1}
    return {"nftables": [{"metainfo": about}, {"table": {"family": "inet", "name": "filter"}}, *items]}


def to_port(protocol: str, right: object, operator: str = "==") -> Json:
    left = {"payload": {"protocol": protocol, "field": "dport"}}
    return {"match": {"op": operator, "left": left, "right": right}}


ACCEPT, DROP = {"accept": None}, {"drop": None}
COUNTER = {"counter": {"packets": 0, "bytes": 0}}
FROM_LAN = {"match": {"op": "==", "left": {"meta": {"key": "iifname"}}, "right": "lan0"}}
STATES = {"vmap": {"key": {"ct": {"key": "state"}}, "data": {"set": [["invalid", DROP]]}}}
JUMP = {"jump": {"target": "other"}}
MDNS = (to_port("udp", 5353), ACCEPT)
TCP = (to_port("tcp", 51826), COUNTER, ACCEPT)
OPEN = chain("input", "accept")
CLOSED = chain("input", "drop")


@pytest.mark.parametrize(
    ("said", "names"),
    [
        (ruleset(), []),
        (ruleset(OPEN), []),
        (ruleset(OPEN, *rules("input", [COUNTER], [ACCEPT])), []),
        (ruleset(chain("forward", "drop", hook="forward")), []),
        (ruleset(chain("input", "drop", family="bridge")), []),
        (ruleset(chain("input", "drop", family="ip6")), []),
        (ruleset(chain("input", "drop", family="ip")), ["input"]),
        (ruleset(CLOSED), ["input"]),
        (ruleset(OPEN, *rules("input", [DROP])), ["input"]),
        (ruleset(OPEN, *rules("input", [FROM_LAN, {"reject": None}])), ["input"]),
        (ruleset(OPEN, *rules("input", [STATES])), ["input"]),
        (ruleset(OPEN, *rules("input", [{"xt": None}])), ["input"]),
        # Like ufw when it is disabled: its chains stay, and are empty.
        (ruleset(OPEN, chain("other"), *rules("input", [COUNTER, JUMP])), []),
        (ruleset(OPEN, chain("other"), *rules("input", [JUMP]), *rules("other", [DROP])), ["input"]),
        # Like Docker and libvirt: what they deny is forwarded.
        (ruleset(OPEN, chain("other"), *rules("other", [DROP])), []),
    ],
)
def test_a_chain_that_may_deny_incoming_packets_is_found(said: Json, names: list[str]) -> None:
    assert [each["name"] for each in firewall.denying_chains(said, BY_IPV4.families)] == names


@pytest.mark.parametrize("said", [{}, {"nftables": [1]}, {"nftables": 1}])
def test_a_malformed_ruleset_is_an_error_that_is_caught(said: Json) -> None:
    with pytest.raises(ValueError, match="no ruleset"):
        list(firewall.denying_chains(said, BY_IPV4.families))


BY_HAND = "run `sudo nft insert rule inet filter input udp dport 5353 accept` and `sudo nft insert rule"


@pytest.mark.parametrize(
    ("added", "verdict", "words"),
    [
        ((MDNS, TCP), OK, "accept 5353/udp and 51826/tcp (chain input of table inet filter)"),
        ((), TODO, "nftables is active (chain input of table inet filter); `sudo nft list chain inet f"),
        ((), TODO, BY_HAND),
        ((MDNS,), TODO, "filter input tcp dport 51826 accept`, and add both rules to your nftables config"),
        ((TCP,), TODO, "unless they accept 5353/udp and 51826/tcp"),
        ((MDNS, (to_port("tcp", 51827), ACCEPT)), TODO, "is active"),
        ((MDNS, (to_port("udp", 51826), ACCEPT)), TODO, "is active"),
        ((MDNS, (to_port("tcp", 51826, "!="), ACCEPT)), TODO, "is active"),
        ((MDNS, (to_port("tcp", 51826), DROP)), TODO, "is active"),
        ((MDNS, (FROM_LAN, to_port("tcp", 51826), ACCEPT)), TODO, "is active"),
        ((MDNS, ("notrack",)), TODO, "is active"),
        (((DROP,), MDNS, TCP), TODO, "is active"),
        ((MDNS, (to_port("tcp", 22), DROP), TCP), TODO, "is active"),
        ((MDNS, (to_port("tcp", 22), ACCEPT), TCP), OK, "accept 5353/udp and 51826/tcp"),
        ((MDNS, ({"jump": {"target": "bans"}},), TCP), TODO, "is active"),
    ],
)
def test_only_rules_that_accept_both_ports_whatever_else_is_ok(
    added: tuple[tuple[object, ...], ...], verdict: Verdict, words: str
) -> None:
    said = ruleset(CLOSED, *rules("input", *added))
    judged(firewall.nftables_chain(said, CLOSED["chain"], BY_IPV4), verdict, words)


# iptables

ACCEPTED = "-A INPUT -p udp -m udp --dport 5353 -j ACCEPT\n-A INPUT -p tcp -m tcp --dport 51826 -j ACCEPT\n"


@pytest.mark.parametrize(
    ("listed", "verdict", "words"),
    [
        (Completed(0, f"-P INPUT DROP\n{ACCEPTED}"), OK, "has rules that accept 5353/udp and 51826/tcp"),
        (
            Completed(0, "-P INPUT DROP\n"),
            TODO,
            "is active; `sudo iptables -S INPUT` shows the rules; unless",
        ),
        (Completed(0, "-P INPUT DROP\n"), TODO, "`sudo iptables -I INPUT -p tcp --dport 51826 -j ACCEPT`"),
        (Completed(0, "-P INPUT ACCEPT\n-A INPUT -j DROP\n"), TODO, "iptables is active"),
        (Completed(0, f"-P INPUT ACCEPT\n-A INPUT -j REJECT\n{ACCEPTED}"), TODO, "iptables is active"),
        (Completed(0, f"-P INPUT ACCEPT\n{ACCEPTED}-A INPUT -j REJECT\n"), OK, "has rules that accept"),
        (Completed(4, "", "Permission denied (you must be root)\n"), SKIP, "failed: Permission"),
    ],
)
def test_iptables(listed: Completed, verdict: Verdict, words: str) -> None:
    judged(firewall.iptables_rules("iptables", listed, BY_IPV4), verdict, words)


def test_iptables_without_rules_is_not_active() -> None:
    assert firewall.iptables_rules("iptables", Completed(0, "-P INPUT ACCEPT\n"), BY_IPV4) is None


# Which one it is

UFW = "Status: active\nDefault: deny (incoming), allow (outgoing)\n"
RUNNING = Completed(0, "running\n")
STOPPED = Completed(252, "", "not running\n")
FAILS = Completed(1, "", "you must be root\n")
NO, YES = Completed(1, "no\n"), Completed(0, "yes\n")
LISTED = Completed(0, "public\n  target: default\n  services: mdns\n  ports: 51826/tcp\n")
NOTHING_LISTED = Completed(0, "public\n  target: default\n  services: ssh\n  ports:\n")
TRUSTED = Completed(0, "trusted (active)\n  target: ACCEPT\n")
ASKED = {
    "firewall-cmd --state": RUNNING,
    "firewall-cmd --query-panic": NO,
    "firewall-cmd --get-active-zones": Completed(0, "vpn\n  interfaces: wg0\n"),
    "firewall-cmd --get-default-zone": Completed(0, "public\n"),
    "firewall-cmd --zone=public --list-all": LISTED,
}
EMPTY = Completed(0, json.dumps(ruleset(OPEN)))
DENIES = Completed(0, json.dumps(ruleset(CLOSED)))
DENIES_BY_IPTABLES = Completed(0, json.dumps(ruleset(chain("INPUT", "drop", "ip"))))


def installed(monkeypatch: pytest.MonkeyPatch, answers: Mapping[str, Completed]) -> None:
    """Have the programs that give these answers, and no other."""
    programs = {command.split()[0] for command in answers}

    async def run(program: str, *arguments: str) -> Completed:
        if program not in programs:
            raise NotInstalled(f"{program} is not installed")
        return answers[" ".join((program, *arguments))]

    for module in (firewall, firewalld, ufw):
        monkeypatch.setattr(module, "run", run)
    monkeypatch.setattr(firewall, "path_of", lambda program: program if program in programs else None)
    monkeypatch.setattr(firewall, "LEGACY_TABLES", {})


@pytest.mark.parametrize(
    ("answers", "user_id", "verdict", "words"),
    [
        ({}, 0, OK, "no active firewall was found"),
        ({}, 1000, OK, "no active firewall was found"),
        (ASKED, 1000, OK, "firewalld allows 5353/udp and 51826/tcp in zone public"),
        (ASKED | {"firewall-cmd --zone=public --list-all": NOTHING_LISTED}, 0, TODO, "not list 5353/udp and"),
        (
            ASKED | {"firewall-cmd --query-panic": YES},
            0,
            TODO,
            "panic mode, in which it drops all packets; run",
        ),
        (ASKED | {"firewall-cmd --zone=public --list-all": TRUSTED}, 0, OK, "firewalld allows"),
        (ASKED | {"firewall-cmd --zone=public --list-all": FAILS}, 0, SKIP, "firewall-cmd failed: you"),
        ({"firewall-cmd --state": FAILS}, 1000, SKIP, "needs root; run `sudo hkswitch doctor`"),
        ({"firewall-cmd --state": STOPPED, "nft -j list ruleset": DENIES}, 0, TODO, "nftables is active"),
        (
            {"ufw status verbose": Completed(0, UFW), "nft -j list ruleset": DENIES},
            0,
            TODO,
            "ufw",
        ),
        ({"ufw status verbose": FAILS, "nft -j list ruleset": FAILS}, 1000, SKIP, "needs root"),
        (
            {"ufw status verbose": Completed(0, "Status: inactive"), "nft -j list ruleset": EMPTY},
            0,
            OK,
            "no act",
        ),
        ({"nft -j list ruleset": FAILS}, 0, SKIP, "nft failed: you must be root"),
        ({"nft -j list ruleset": DENIES_BY_IPTABLES}, 0, TODO, "chain INPUT of table ip filter"),
        (
            {
                "nft -j list ruleset": DENIES_BY_IPTABLES,
                "iptables -S INPUT": Completed(0, f"-P INPUT DROP\n{ACCEPTED}"),
            },
            0,
            OK,
            "iptables has rules that accept",
        ),
        *(
            (
                {"nft -j list ruleset": DENIES_BY_IPTABLES, "iptables -S INPUT": not_its_own},
                0,
                TODO,
                "nftables is active (chain INPUT of table ip filter)",
            )
            for not_its_own in (Completed(0, "-P INPUT ACCEPT\n"), FAILS)
        ),
        ({"iptables -S INPUT": Completed(0, "-P INPUT DROP\n")}, 0, TODO, "iptables is active"),
        ({"iptables -S INPUT": FAILS}, 1000, SKIP, "needs root"),
        (
            {
                "iptables -S INPUT": Completed(0, "-P INPUT ACCEPT\n"),
                "ip6tables -S INPUT": Completed(0, "-P INPUT DROP\n"),
            },
            0,
            TODO,
            "ip6tables is active",
        ),
    ],
)
async def test_the_firewall_that_is_active_is_asked(
    monkeypatch: pytest.MonkeyPatch,
    answers: Mapping[str, Completed],
    user_id: int,
    verdict: Verdict,
    words: str,
) -> None:
    installed(monkeypatch, answers)
    (found,) = await firewall.firewall(context(user_id))
    judged(found, verdict, words)


async def test_rules_that_nft_does_not_show_are_found(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tables = tmp_path / "ip_tables_names"
    legacy = {"iptables-legacy -S INPUT": Completed(0, "-P INPUT DROP\n")}
    installed(monkeypatch, {"nft -j list ruleset": EMPTY} | legacy)
    monkeypatch.setattr(firewall, "LEGACY_TABLES", {"iptables-legacy": tables})
    judged((await firewall.firewall(context(0)))[0], OK, "no active firewall")
    tables.write_text("nat\n")
    judged((await firewall.firewall(context(0)))[0], OK, "no active firewall")
    tables.write_text("nat\nfilter\n")
    judged((await firewall.firewall(context(0)))[0], TODO, "iptables-legacy is active")


def test_without_a_network_packets_come_over_ipv4_from_anywhere() -> None:
    unknown = traffic_to(51826, NoDefaultRoute(), ())
    assert (unknown, unknown.families) == (Traffic(51826, (), ()), ("ip",))
    assert unknown.packets("ip") == (Packet("udp", 5353, "", "ip"), Packet("tcp", 51826, "", "ip"))
    assert BOTH.families == ("ip", "ip6")


@pytest.mark.parametrize(
    ("addresses", "source", "is_ours"),
    [
        (("10.77.0.1",), "10.77.0.0/24", True),
        (("10.77.0.1",), "0.0.0.0/0", True),
        (("fe80::1%lan0",), "fe80::/64", True),
        ((), "0.0.0.0/0", True),
        (("10.77.0.1",), "10.8.0.0/24", False),
        (("10.77.0.1",), "10.77.0.1", False),
        (("10.77.0.1",), "::/0", False),
        (("fd00::1",), "0.0.0.0/0", False),
        ((), "10.77.0.0/24", False),
    ],
)
def test_a_source_is_the_bridges_network_if_its_address_is_in_it(
    addresses: tuple[str, ...], source: str, is_ours: bool
) -> None:
    traffic = traffic_to(51826, Endpoint(addresses, frozenset()), ())
    found = network_of(source)
    assert found is not None
    assert traffic.comes_from(found, traffic.families[0]) is is_ours


@pytest.mark.parametrize(
    ("text", "ports"),
    [
        ("22,80:90", ((22, 22), (80, 90))),
        ("22 51000-52000", ((22, 22), (51000, 52000))),
        ("", ()),
        ("ssh,123456,-1,5353/udp,1-2-3", ()),
    ],
)
def test_ports_are_parsed(text: str, ports: tuple[tuple[int, int], ...]) -> None:
    assert ports_in(text) == ports


def context(user_id: int) -> Context:
    return Context(
        config_file=Path("config.yaml"),
        state_folder=Path("/nowhere"),
        user_id=user_id,
        account=None,
        config=Config(BridgeConfig(), ()),
        endpoint=Endpoint(HERE.addresses, frozenset()),
        unit=ConfigUnreadable("config.yaml", "none"),
        bridge=client.NoDaemon(Path("/nowhere/control.sock")),
    )
