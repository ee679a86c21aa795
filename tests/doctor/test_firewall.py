"""Which firewall `hkswitch doctor` asks; tests/host/test_firewalls.py has real ones."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from hkswitch.control import client
from hkswitch.doctor import firewall, firewalld, ufw
from hkswitch.doctor.context import Context
from hkswitch.doctor.finding import Verdict
from hkswitch.doctor.packet_filter import Packet, Traffic, chains_of_nft, network_of, ports_in, traffic_to
from hkswitch.doctor.programs import Completed, NotInstalled
from hkswitch.model.config import BridgeConfig, Config
from hkswitch.model.errors import ConfigUnreadable
from hkswitch.network.endpoint import Endpoint
from tests.doctor.firewalls import BOTH, BY_IPV6, NETWORKS, OK, ON_TWO, SKIP, TODO, UNKNOWN, judged
from tests.doctor.test_packet_filter import (
    CLOSED,
    JUMPS_OF_UFW,
    MDNS,
    OPEN,
    TCP,
    TO_51826,
    chain,
    rules,
    ruleset,
)

UFW = "Status: active\nDefault: deny (incoming), allow (outgoing)\n\nTo  Action  From\n--  ------  ----\n"
UFW_ALLOWS = Completed(0, f"{UFW}51826/tcp                  ALLOW IN    Anywhere\n")
ACCEPTED = (
    "-P INPUT DROP\n"
    "-A INPUT -p udp -m udp --dport 5353 -j ACCEPT\n-A INPUT -p tcp -m tcp --dport 51826 -j ACCEPT\n"
)

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
    "firewall-cmd --list-all": LISTED,
    "firewall-cmd --list-all-policies": Completed(0, ""),
}
OPEN_LISTED, CLOSED_LISTED = Completed(0, "-P INPUT ACCEPT\n"), Completed(0, "-P INPUT DROP\n")
INPUT = chain("INPUT", "drop", "ip")


OF_SOURCE = {
    "firewall-cmd --get-active-zones": Completed(0, "work\n  sources: 10.0.0.0/8\n"),
    "firewall-cmd --list-all --zone=work": Completed(0, "work\n  target: default\n  services: mdns\n"),
}


def by_nft(*items: dict[str, Any]) -> dict[str, Completed]:
    return {"nft -j -t list ruleset": Completed(0, ruleset(*items))}


EMPTY, DENIES = by_nft(OPEN), by_nft(CLOSED)
DROPS = chain("input", "accept"), *rules("input", TO_51826)


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
    monkeypatch.setattr(firewall, "LEGACY_TABLES", dict.fromkeys(("ip", "ip6"), Path("/nonexistent")))


@pytest.mark.parametrize(
    ("answers", "user_id", "verdict", "words"),
    [
        ({}, 0, OK, "no active firewall was found"),
        ({}, 1000, OK, "no active firewall was found"),
        (ASKED, 1000, OK, "firewalld allows 5353/udp and 51826/tcp in zone public"),
        (ASKED | {"firewall-cmd --list-all": NOTHING_LISTED}, 0, TODO, "not list 5353/udp and"),
        (
            ASKED | {"firewall-cmd --query-panic": YES},
            0,
            TODO,
            "panic mode, in which it drops all packets; run",
        ),
        (ASKED | {"firewall-cmd --list-all": TRUSTED}, 0, OK, "firewalld allows"),
        (ASKED | {"firewall-cmd --list-all": FAILS}, 0, SKIP, "firewall-cmd failed: you"),
        (
            ASKED | {"firewall-cmd --state": FAILS, "firewall-cmd --get-active-zones": FAILS},
            1000,
            SKIP,
            "needs root; run `sudo hkswitch doctor`",
        ),
        (ASKED | {"firewall-cmd --list-all-policies": FAILS}, 0, SKIP, "firewall-cmd failed: you"),
        ({"firewall-cmd --state": STOPPED, **DENIES}, 0, TODO, "nftables is active (chain input of table in"),
        ({"ufw status verbose": Completed(0, UFW), **DENIES}, 0, TODO, "ufw is active"),
        ({"ufw status verbose": FAILS, "nft -j -t list ruleset": FAILS}, 1000, SKIP, "needs root"),
        ({"ufw status verbose": Completed(0, "Status: inactive"), **EMPTY}, 0, OK, "no active firewall"),
        ({"nft -j -t list ruleset": FAILS}, 0, SKIP, "nft failed: you must be root"),
        (by_nft(CLOSED, *rules("input", MDNS, TCP)), 0, OK, "nftables accepts 5353/udp and 51826/tcp (chain"),
        # Other rules of the kernel also apply to what firewalld or ufw allows.
        (ASKED | EMPTY, 0, OK, "firewalld allows"),
        (ASKED | OF_SOURCE, 0, TODO, "zone work does not list 51826/tcp as open"),
        (ASKED | by_nft(*DROPS), 0, TODO, "nftables is active"),
        (ASKED | {"nft -j -t list ruleset": FAILS}, 1000, SKIP, "needs root"),
        (ASKED | {"iptables -S INPUT": CLOSED_LISTED}, 0, TODO, "iptables is active"),
        (ASKED | {"ufw status verbose": Completed(0, UFW)}, 0, TODO, "ufw is active"),
        ({"ufw status verbose": UFW_ALLOWS}, 0, OK, "ufw allows 51826/tcp"),
        (
            {"ufw status verbose": UFW_ALLOWS} | by_nft(CLOSED, *rules("input", *JUMPS_OF_UFW)),
            0,
            OK,
            "ufw allows",
        ),
        ({"ufw status verbose": UFW_ALLOWS} | by_nft(*DROPS), 0, TODO, "nftables is active"),
        # The rules of iptables, in the words of the program that can change them.
        (by_nft(INPUT), 0, TODO, "chain INPUT of table ip filter"),
        (
            by_nft(INPUT) | {"iptables": OPEN_LISTED},
            0,
            TODO,
            "`sudo iptables -I INPUT -p tcp --dport 51826 -j",
        ),
        (
            by_nft({"chain": INPUT["chain"] | {"prio": 5}}) | {"iptables": OPEN_LISTED},
            0,
            TODO,
            "sudo nft insert",
        ),
        (
            by_nft(INPUT, *rules("INPUT", MDNS, TCP, family="ip")) | {"iptables": FAILS},
            0,
            OK,
            "iptables accepts",
        ),
        ({"iptables -S INPUT": CLOSED_LISTED}, 0, TODO, "iptables is active"),
        ({"iptables -S INPUT": Completed(0, ACCEPTED)}, 0, OK, "iptables accepts 5353/udp and 51826/tcp"),
        ({"iptables -S INPUT": FAILS}, 1000, SKIP, "needs root"),
        ({"iptables -S INPUT": OPEN_LISTED, "ip6tables -S INPUT": OPEN_LISTED}, 0, OK, "no active firewall"),
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


@pytest.fixture
def legacy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., None]:
    """Have these tables of iptables-legacy, and the programs that give these answers."""

    def have(tables: str, answers: Mapping[str, Completed]) -> None:
        installed(monkeypatch, answers)
        names = tmp_path / "ip_tables_names"
        names.write_text(tables)
        monkeypatch.setattr(firewall, "LEGACY_TABLES", {"ip": names, "ip6": tmp_path / "none"})

    return have


@pytest.mark.parametrize(
    ("tables", "programs", "verdict", "words"),
    [
        ("", {}, OK, "no active firewall"),
        ("nat\n", {}, OK, "no active firewall"),
        ("nat\nfilter\n", {"iptables-legacy -S INPUT": OPEN_LISTED}, OK, "no active firewall"),
        ("filter\n", {"iptables-legacy -S INPUT": Completed(0, ACCEPTED)}, OK, "iptables-legacy accepts"),
        ("nat\nfilter\n", {"iptables-legacy -S INPUT": CLOSED_LISTED}, TODO, "iptables-legacy is active"),
        ("filter\n", {"iptables-legacy -S INPUT": FAILS}, SKIP, "iptables-legacy failed: you must be root"),
        (
            "filter\n",
            {},
            SKIP,
            "has tables of iptables-legacy, which nft does not list, and iptables-legacy is n",
        ),
        ("filter\n", {}, SKIP, "install it (on Debian, the package iptables)"),
    ],
)
async def test_rules_that_nft_does_not_show_are_found_or_said_to_be_unseen(
    legacy: Callable[..., None], tables: str, programs: Mapping[str, Completed], verdict: Verdict, words: str
) -> None:
    for nft in ({}, EMPTY):
        legacy(tables, {**nft, **programs})
        judged((await firewall.firewall(context(0)))[0], verdict, words)


async def test_a_firewall_that_is_found_comes_before_tables_that_are_unseen(
    legacy: Callable[..., None],
) -> None:
    legacy("filter\n", DENIES)
    judged((await firewall.firewall(context(0)))[0], TODO, "nftables is active")


def commands(traffic: Traffic, *chains: dict[str, Any]) -> list[str]:
    """Those that open the chains that nft lists, where no iptables is installed."""
    found = [firewall.judged(each, traffic) for each in chains_of_nft(ruleset(*chains), traffic)]
    return [command for each in found if each for command in re.findall(r"`([^`]+ accept)`", str(each))]


def test_a_command_is_printed_for_each_packet_that_may_be_denied(monkeypatch: pytest.MonkeyPatch) -> None:
    insert = "sudo nft insert rule inet filter input"
    mdns, tcp, neighbours = "udp dport 5353 accept", "tcp dport 51826 accept", "meta l4proto ipv6-icmp accept"
    assert commands(UNKNOWN, CLOSED) == [f"{insert} {mdns}", f"{insert} {tcp}"]
    assert commands(UNKNOWN, CLOSED, *rules("input", MDNS)) == [f"{insert} {tcp}"]
    assert commands(BOTH, CLOSED) == [f'{insert} iifname "lan0" {each}' for each in (mdns, tcp, neighbours)]
    assert len(commands(ON_TWO, CLOSED)) == 6
    installed(monkeypatch, {"ip6tables": FAILS})
    judged(
        firewall.judged(chains_of_nft(ruleset(chain("INPUT", "drop", "ip6")), BY_IPV6)[0], BY_IPV6),
        TODO,
        "and `sudo ip6tables -I INPUT -i lan0 -p ipv6-icmp -j ACCEPT`, and save them",
    )


def test_without_a_network_packets_come_over_ipv4_from_anywhere() -> None:
    assert (UNKNOWN, UNKNOWN.families) == (Traffic(51826, (), ()), ("ip",))
    assert UNKNOWN.packets("ip") == (Packet("udp", 5353, "", "ip"), Packet("tcp", 51826, "", "ip"))
    assert BOTH.families == ("ip", "ip6")


@pytest.mark.parametrize(
    ("addresses", "source", "is_ours"),
    [
        (("10.77.0.1",), "10.77.0.0/24", True),
        (("10.77.0.1",), "10.0.0.0/8", True),
        (("10.77.0.1",), "0.0.0.0/0", True),
        (("10.77.0.1", "192.0.2.1"), "0.0.0.0/0", True),
        (("172.16.0.1",), "172.16.0.0/30", True),
        (("fe80::1%lan0",), "fe80::/64", True),
        ((), "0.0.0.0/0", True),
        (("10.77.0.1",), "10.77.0.0/25", None),
        (("10.77.0.1",), "10.77.0.128/25", None),
        (("10.77.0.1", "192.0.2.1"), "10.0.0.0/8", None),
        (("10.77.0.1",), "10.8.0.0/24", False),
        (("10.77.0.1",), "10.77.0.1", False),
        (("10.77.0.1",), "::/0", False),
        (("fd00::1",), "0.0.0.0/0", False),
        ((), "10.77.0.0/24", False),
    ],
)
def test_a_source_is_the_phones_if_it_contains_the_networks_of_the_bridge(
    addresses: tuple[str, ...], source: str, is_ours: bool | None
) -> None:
    traffic = traffic_to(51826, Endpoint(addresses, frozenset(), networks=NETWORKS), ())
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
        endpoint=Endpoint(("10.77.0.1",), frozenset()),
        unit=ConfigUnreadable("config.yaml", "none"),
        bridge=client.NoDaemon(Path("/nowhere/control.sock")),
    )
