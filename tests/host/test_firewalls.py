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
    "ufw": (
        ("ufw --force enable",),
        ("ufw --force reset",),
        "ufw is active, and does not plainly allow 51826/tcp",
    ),
    "firewalld": (
        FIREWALLD,
        ("systemctl stop firewalld", "rm /etc/firewalld/zones/home.xml*"),
        "firewalld is active, and zone home does not list 51826/tcp as open",
    ),
    "nftables": (NFTABLES, ("nft delete table inet filter",), "(chain input of table inet filter)"),
    "iptables": (IPTABLES, NO_IPTABLES, "iptables is active"),
}


@pytest.mark.parametrize("name", FIREWALL_CASES)
def test_an_active_firewall_is_named_to_root_and_the_commands_that_are_given_open_the_ports(
    host: Host, name: str
) -> None:
    start, stop, says = FIREWALL_CASES[name]
    with active(host, start, stop):
        assert found(host, "nobody") == ("skip", "needs root", "run `sudo hkswitch doctor`")
        verdict, what, advice = found(host)
        assert (verdict, says in what) == ("todo", True)
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


BAD_POLICY: Final = """\
<policy target="DROP" priority="-5">
  <ingress-zone name="ANY"/>
  <egress-zone name="HOST"/>
</policy>
"""
DIRECT: Final = "firewall-cmd --direct --{}-rule ipv4 filter INPUT 0 -p tcp --dport 51826 -j DROP"


def test_firewalld_is_judged_by_the_zone_of_the_phones_and_what_comes_before_it(host: Host) -> None:
    in_public = ("systemctl start firewalld", "firewall-cmd --zone=public --add-port=51000-52000/tcp")
    stop = ("systemctl stop firewalld", "rm -f /etc/firewalld/zones/* /etc/firewalld/policies/*")
    with active(host, in_public, stop):
        verdict, what, advice = found(host)
        assert (verdict, "does not list 5353/udp as open" in what) == ("todo", True)
        assert "--zone=public --add-port=5353/udp`" in advice
        # fail2ban's rule for one address says nothing about phones, but one for their network does.
        ban = 'rule family="ipv4" source address="{}" port port="51826" protocol="tcp" reject'
        one = f"--add-rich-rule={ban.format('203.0.113.9')}"
        host.run("firewall-cmd", "--zone=public", "--add-service=mdns")
        host.run("firewall-cmd", "--zone=public", one)
        assert found(host)[:2] == ("ok", f"firewalld allows {OPEN} in zone public")
        host.run("firewall-cmd", "--zone=public", f"--add-rich-rule={ban.format('10.77.0.0/24')}")
        host.run("firewall-cmd", "--runtime-to-permanent")
        _, what, advice = found(host)
        assert "zone public may deny" in what
        host.write("/etc/firewalld/policies/bad.xml", BAD_POLICY)
        run_printed(host, advice)
        _, what, advice = found(host)
        assert "policy bad may deny" in what
        run_printed(host, advice)
        assert found(host)[0] == "ok"
        # Direct rules, and tables of others, come before or after all that.
        for start, end, says in (
            (DIRECT.format("add"), DIRECT.format("remove"), "iptables is active"),
            (IN_FRONT, "nft delete table inet x", "(chain in of table inet x)"),
        ):
            with active(host, (start,), (end,)):
                verdict, what, _ = found(host)
                assert (verdict, says in what) == ("todo", True), what
        # A zone of their network wins over that of the interface.
        host.run("firewall-cmd", "--zone=drop", "--add-source=10.77.0.0/24")
        assert "zone drop does not list" in found(host)[1]
        host.run("firewall-cmd", "--panic-on")
        _, what, advice = found(host)
        assert "panic mode" in what
        run_printed(host, advice)


IN_FRONT: Final = """\
nft add table inet x
nft 'add chain inet x in { type filter hook input priority -5; }'
nft add rule inet x in tcp dport 51826 drop
"""
PROFILE: Final = "[Home]\ntitle=Home\ndescription=Home\nports=51826/tcp\n"
UFW_CASES: Final = (
    ("ok", ("allow 51826/tcp",)),
    (
        "ok",
        ("limit 22/tcp", "reject from 203.0.113.9", "allow from 10.77.0.0/24 to any port 51826 proto tcp"),
    ),
    ("ok", ("deny 80,443/tcp", "allow log proto tcp from 10.0.0.0/8", "deny 51826/tcp")),
    ("todo", ("deny 51000:52000/tcp", "allow 51826/tcp")),
    ("todo", ("deny proto tcp from any to 10.77.0.1", "allow 51826/tcp")),
    ("todo", ("deny Home", "allow 51826/tcp")),
    ("todo", ("allow from any port 5000 to any port 51826 proto tcp",)),
    ("todo", ("allow from ::/0 to any port 51826 proto tcp",)),
)


def test_the_first_rule_of_ufw_that_may_concern_the_phones_decides(host: Host) -> None:
    host.write("/etc/ufw/applications.d/home", PROFILE)
    with active(host, ("ufw --force enable",), ("ufw --force reset",)):
        for verdict, rules in UFW_CASES:
            run_all(host, [f"ufw {rule}" for rule in rules])
            there = found(host)
            assert (there[0], "ufw" in there[1]) == (verdict, True), (rules, there)
            run_all(host, [f"ufw delete {rule}" for rule in rules])
        run_all(host, ("ufw deny 51826/tcp", "ufw default deny outgoing"))
        open_as_told(host)
        first = "INPUT -p tcp --dport 51826 -j DROP"
        with active(host, (f"iptables -I {first}",), (f"iptables -D {first}",)):
            assert found(host)[:2] == ("todo", "iptables is active")


NOT_BY_IPTABLES: Final = """\
nft 'add table ip filter'
nft 'add chain ip filter INPUT {{ type filter hook input priority {}; policy drop; }}'
nft 'add set ip filter lan {{ type ipv4_addr; flags interval; elements = {{ 192.168.7.0/24 }}; }}'
nft 'add rule ip filter INPUT ip saddr @lan tcp dport 51826 accept'
nft 'add rule ip filter INPUT ip saddr @lan udp dport 5353 accept'
nft 'add rule ip filter INPUT tcp dport {{ 51826, 99 }} drop'
"""


@pytest.mark.parametrize(
    ("priority", "says"), [(0, "iptables is active"), (5, "(chain INPUT of table ip filter)")]
)
def test_rules_of_nft_in_the_chain_of_iptables_are_judged_as_nft_lists_them(
    host: Host, priority: int, says: str
) -> None:
    with active(host, (NOT_BY_IPTABLES.format(priority),), ("nft delete table ip filter",)):
        verdict, what, advice = found(host)
        assert (verdict, says in what) == ("todo", True), what
        run_printed(host, advice)
        assert found(host)[0] == "ok"


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
