"""`hkswitch doctor` on a host with real firewalls: it names each, and the commands that open the ports."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import pytest

from tests.host.machine import ADDRESS, INTERFACE, Boot, Host, booted, eventually, install
from tests.host.rootfs import CHECKOUT, FIREWALLS, root_folder, wheels_folder

CONFIG: Final = f"""\
bridge:
  address: {ADDRESS}
groups:
  web:
    units: [nginx]
"""
OPEN: Final = "5353/udp and 51826/tcp"
NONE: Final = ("ok", "no active firewall was found")

CHAIN: Final = "add chain inet filter input { type filter hook input priority filter; policy drop; }"
NFTABLES: Final = ("nft add table inet filter", f"nft '{CHAIN}'", "nft add rule inet filter input counter")
IPTABLES: Final = ("iptables -P INPUT DROP", "iptables -A INPUT -i lo -j ACCEPT")
NO_IPTABLES: Final = ("iptables -P INPUT ACCEPT", "iptables -F INPUT")
FIREWALLD: Final = (
    "systemctl start firewalld",
    f"firewall-cmd --permanent --zone=home --change-interface={INTERFACE}",
    "firewall-cmd --reload",
)


@pytest.fixture(scope="module")
def host(boot: Boot, tmp_path_factory: pytest.TempPathFactory, staging: str) -> Iterator[Host]:
    """A host with hkswitch and every firewall. `boot` skips where none can be booted."""
    read_only = {"/src": CHECKOUT, "/wheels": wheels_folder(FIREWALLS, print)}
    log = tmp_path_factory.mktemp("firewalls") / "host.log"
    with booted(FIREWALLS.name, root_folder(FIREWALLS, print), read_only, log, (staging,)) as host:
        install(host)
        host.write("/etc/hkswitch/config.yaml", CONFIG)
        yield host


@pytest.fixture(autouse=True)
def nothing_stays(host: Host) -> Iterator[None]:
    """Fails a test that leaves a firewall active."""
    yield
    assert found(host)[:2] == NONE


def found(host: Host, user: str | None = None) -> tuple[str, str, str]:
    """The verdict on the firewall, the finding, and the advice."""
    checks = json.loads(host.run("hkswitch", "doctor", "--json", user=user, check=False).stdout)["checks"]
    [check] = [check for check in checks if check["check"] == "firewall"]
    return check["verdict"], check["finding"], check["advice"]


@contextmanager
def active(host: Host, start: tuple[str, ...], stop: tuple[str, ...]) -> Iterator[None]:
    try:
        run_all(host, start)
        yield
    finally:
        run_all(host, stop)


def run_all(host: Host, commands: tuple[str, ...] | list[str]) -> None:
    host.run("sh", "-ec", "\n".join(commands))


FIREWALL_CASES: Final = {
    "ufw": (("ufw --force enable",), ("ufw --force reset",), "ufw is active, and allows 5353/udp by default"),
    "firewalld": (
        FIREWALLD,
        ("systemctl stop firewalld", "rm /etc/firewalld/zones/home.xml*"),
        "firewalld is active, and zone home does not list 51826/tcp as open",
    ),
    "nftables": (NFTABLES, ("nft delete table inet filter",), "(chain input of table inet filter)"),
    "iptables": (IPTABLES, NO_IPTABLES, "iptables is active"),
}


@pytest.mark.parametrize("name", FIREWALL_CASES)
def test_an_active_firewall_is_named_and_the_commands_that_are_given_open_the_ports(
    host: Host, name: str
) -> None:
    start, stop, says = FIREWALL_CASES[name]
    with active(host, start, stop):
        verdict, what, advice = found(host)
        assert verdict == "todo"
        assert says in what
        assert (INTERFACE in advice) is (name != "firewalld")  # its zone is that of the interface
        run_printed(host, advice)
        eventually(lambda: found(host)[0] == "ok")
        assert "51826/tcp" in found(host)[1]


def open_as_told(host: Host) -> None:
    """Run the commands that the doctor prints, after which the ports are open."""
    run_printed(host, found(host)[2])
    eventually(lambda: found(host)[0] == "ok")


def run_printed(host: Host, advice: str) -> None:
    run_all(host, re.findall(r"`sudo ([^`]+)`", advice))


def test_firewalld_is_judged_by_the_zone_of_the_phones_and_what_comes_before_it(host: Host) -> None:
    in_public = ("systemctl start firewalld", "firewall-cmd --zone=public --add-port=51000-52000/tcp")
    stop = ("systemctl stop firewalld", "rm -f /etc/firewalld/zones/*")
    with active(host, in_public, stop):
        verdict, what, advice = found(host)
        assert (verdict, "does not list 5353/udp as open" in what) == ("todo", True)
        assert "--zone=public --add-port=5353/udp`" in advice
        host.run("firewall-cmd", "--zone=public", "--add-service=mdns")
        assert found(host)[:2] == ("ok", f"firewalld allows {OPEN} in zone public")
        # fail2ban's rule for one address says nothing about phones, but one for their network does.
        ban = 'rule family="ipv4" source address="{}" port port="51826" protocol="tcp" reject'
        host.run("firewall-cmd", "--zone=public", f"--add-rich-rule={ban.format('203.0.113.9')}")
        assert found(host)[0] == "ok"
        host.run("firewall-cmd", "--zone=public", f"--add-rich-rule={ban.format('10.77.0.0/24')}")
        host.run("firewall-cmd", "--runtime-to-permanent")
        _, what, advice = found(host)
        assert "a rich rule of zone public may deny" in what
        run_printed(host, advice)
        assert found(host)[0] == "ok"
        # A zone of their network wins over that of the interface.
        host.run("firewall-cmd", "--zone=work", "--add-source=10.77.0.0/24")
        assert "zone work does not list" in found(host)[1]
        host.run("firewall-cmd", "--panic-on")
        _, what, advice = found(host)
        assert "panic mode" in what
        run_printed(host, advice)
        assert "zone work does not list" in found(host)[1]


UFW_CASES: Final = (
    ("allow in on lan0 to any port 51826 proto tcp", "ok", "ufw allows 51826/tcp, and"),
    ("allow from 10.77.0.0/24 to any port 51826 proto tcp", "ok", "ufw allows 51826/tcp from 10.77.0.0/24"),
    ("allow 80,51000:52000/tcp", "ok", "ufw allows 51826/tcp, and"),
    ("allow log proto tcp from 10.0.0.0/8", "ok", "ufw allows 51826/tcp from 10.0.0.0/8"),
    ("deny from 10.77.0.0/24", "todo", "a rule denies 51826/tcp"),
    ("deny from 203.0.113.9", "todo", "no rule names 51826/tcp"),
    ("allow from 10.8.0.0/24 to any port 51826 proto tcp", "todo", "51826/tcp only from 10.8.0.0/24"),
    ("allow from ::/0 to any port 51826 proto tcp", "todo", "51826/tcp only from Anywhere (v6)"),
)


def test_the_rules_of_ufw_about_the_bridges_network_are_read(host: Host) -> None:
    with active(host, ("ufw --force enable",), ("ufw --force reset",)):
        for rule, verdict, says in UFW_CASES:
            run_all(host, (f"ufw {rule}",))
            there = found(host)
            run_all(host, (f"ufw delete {rule}",))
            assert (there[0], says in there[1]) == (verdict, True), there
        run_all(host, ("ufw deny 51826/tcp",))
        open_as_told(host)


F2B: Final = """\
nft 'add table inet f2b-table'
nft 'add chain inet f2b-table f2b-chain { type filter hook input priority -1; policy accept; }'
nft 'add set inet f2b-table addr-set-sshd { type ipv4_addr; elements = { 203.0.113.9 }; }'
nft 'add set inet f2b-table addr6-set-sshd { type ipv6_addr; }'
nft 'add rule inet f2b-table f2b-chain tcp dport { 22 } ip saddr @addr-set-sshd reject'
nft 'add rule inet f2b-table f2b-chain meta l4proto tcp ip6 saddr @addr6-set-sshd reject'
nft 'add rule inet f2b-table f2b-chain ip saddr @addr-set-sshd reject'
nft 'add rule inet f2b-table f2b-chain ct state invalid drop'
nft 'add chain inet f2b-table before { type filter hook prerouting priority -300; policy accept; }'
nft 'add rule inet f2b-table before ip daddr 172.17.0.2 drop'
"""
F2B_OF_IPTABLES: Final = """\
iptables -N f2b-sshd
iptables -A f2b-sshd -s 203.0.113.9 -j REJECT
iptables -A f2b-sshd -j RETURN
iptables -I INPUT -p tcp -m multiport --dports 22 -j f2b-sshd
iptables -I INPUT -p tcp -j f2b-sshd
"""
NO_F2B: Final = ("nft delete table inet f2b-table", "iptables -F", "iptables -X")


def test_what_fail2ban_and_docker_deny_says_nothing_about_phones(host: Host) -> None:
    with active(host, (F2B, F2B_OF_IPTABLES), NO_F2B):
        assert found(host)[:2] == NONE
        with active(host, ("iptables -P INPUT DROP",), ("iptables -P INPUT ACCEPT",)):
            assert found(host)[:2] == ("todo", "iptables is active")
            open_as_told(host)
            run_all(host, ("iptables -I INPUT -p tcp -j f2b-sshd",))  # as when fail2ban restarts
            assert found(host)[:2] == ("ok", f"iptables accepts {OPEN}")


def test_rules_of_iptables_legacy_are_seen_which_nft_does_not_list(host: Host) -> None:
    legacy = "iptables-legacy -P INPUT"
    with active(host, (f"{legacy} DROP",), (f"{legacy} ACCEPT", "iptables-legacy -F INPUT")):
        assert found(host)[:2] == ("todo", "iptables-legacy is active")
        with active(host, ("mv /usr/sbin/iptables-legacy /root",), ("mv /root/iptables-legacy /usr/sbin",)):
            verdict, what, _ = found(host)
            assert (verdict, "iptables-legacy is not installed" in what) == ("skip", True)
        open_as_told(host)


@pytest.mark.parametrize("name", FIREWALL_CASES)
def test_without_root_the_firewall_is_skipped_and_never_called_ok(host: Host, name: str) -> None:
    start, stop, _ = FIREWALL_CASES[name]
    with active(host, start, stop):
        assert found(host, "nobody") == ("skip", "needs root", "run `sudo hkswitch doctor`")
