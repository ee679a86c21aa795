"""Which firewall `hkswitch doctor` asks; tests/host/test_firewalls.py has real ones."""

from collections.abc import Callable, Mapping
from pathlib import Path

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
from tests.doctor.firewalls import BOTH, HERE, OK, SKIP, TODO, judged
from tests.doctor.test_filter_rules import CLOSED, OPEN, chain, ruleset

UFW = "Status: active\nDefault: deny (incoming), allow (outgoing)\n"
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
    "firewall-cmd --get-default-zone": Completed(0, "public\n"),
    "firewall-cmd --zone=public --list-all": LISTED,
}
EMPTY = Completed(0, ruleset(OPEN))
OPEN_LISTED, CLOSED_LISTED = Completed(0, "-P INPUT ACCEPT\n"), Completed(0, "-P INPUT DROP\n")
DENIES = Completed(0, ruleset(CLOSED))
DENIES_BY_IPTABLES = Completed(0, ruleset(chain("INPUT", "drop", "ip")))


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
                "iptables -S": Completed(0, ACCEPTED),
            },
            0,
            OK,
            "iptables accepts 5353/udp and 51826/tcp",
        ),
        *(
            (
                {"nft -j list ruleset": DENIES_BY_IPTABLES, "iptables -S": not_its_own},
                0,
                TODO,
                "nftables is active (chain INPUT of table ip filter)",
            )
            for not_its_own in (Completed(0, "-P INPUT ACCEPT\n"), FAILS)
        ),
        ({"iptables -S": Completed(0, "-P INPUT DROP\n")}, 0, TODO, "iptables is active"),
        ({"iptables -S": FAILS}, 1000, SKIP, "needs root"),
        (
            {
                "iptables -S": Completed(0, "-P INPUT ACCEPT\n"),
                "ip6tables -S": Completed(0, "-P INPUT DROP\n"),
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
        ("nat\nfilter\n", {"iptables-legacy -S": OPEN_LISTED}, OK, "no active firewall"),
        ("filter\n", {"iptables-legacy -S": Completed(0, ACCEPTED)}, OK, "iptables-legacy accepts"),
        ("nat\nfilter\n", {"iptables-legacy -S": CLOSED_LISTED}, TODO, "iptables-legacy is active"),
        ("filter\n", {"iptables-legacy -S": FAILS}, SKIP, "iptables-legacy failed: you must be root"),
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
    for nft in ({}, {"nft -j list ruleset": EMPTY}):
        legacy(tables, {**nft, **programs})
        judged((await firewall.firewall(context(0)))[0], verdict, words)


async def test_a_firewall_that_is_found_comes_before_tables_that_are_unseen(
    legacy: Callable[..., None],
) -> None:
    legacy("filter\n", {"nft -j list ruleset": DENIES})
    judged((await firewall.firewall(context(0)))[0], TODO, "nftables is active")


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
