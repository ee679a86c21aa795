"""How `hkswitch doctor` judges what firewalld prints; tests/host/test_firewalls.py has a real one."""

import pytest

from hkswitch.doctor import firewalld
from hkswitch.doctor.packet_filter import Traffic
from tests.doctor.firewalls import BOTH, BY_IPV4, BY_IPV6, OK, ON_TWO, TODO, UNKNOWN, judged

LISTED = """\
home (active)
  target: {target}
  ingress-priority: 0
  interfaces: lan0
  sources:
  services: {services}
  ports: {ports}
  forward: yes
  source-ports:
  rich rules:
{rules}
"""


def listed(
    services: str = "ssh mdns", ports: str = "51826/tcp", target: str = "default", rule: str = ""
) -> str:
    return LISTED.format(target=target, services=services, ports=ports, rules=rule and f"\t{rule}")


@pytest.mark.parametrize(
    ("zone", "words"),
    [
        (listed(), ""),
        (listed(ports="80/tcp 51000-52000/tcp"), ""),
        (listed(services="ssh", ports="51826/tcp 5353/udp"), ""),
        (listed(services="", ports="", target="ACCEPT"), ""),
        (
            listed(services="", ports="", target="DROP"),
            "zone home does not list 5353/udp and 51826/tcp as open",
        ),
        (listed(ports="51826/udp"), "does not list 51826/tcp as open; unless another rule"),
        (listed(ports="52000-53000/tcp"), "does not list 51826/tcp as open"),
        (listed(services="mdns-other"), "does not list 5353/udp as open"),
        (
            listed(ports=""),
            "`sudo firewall-cmd --permanent --zone=home --add-port=51826/tcp` and `sudo firewall-cmd",
        ),
        (
            listed(target="ACCEPT", rule="rule drop"),
            "zone home may deny 5353/udp and 51826/tcp; unless you want that, run",
        ),
        (
            listed(rule='rule family="ipv4" drop'),
            """--zone=home --remove-rich-rule='rule family="ipv4" drop'`""",
        ),
    ],
)
def test_a_zone_lists_both_ports_as_open_or_the_rest_is_opened_by_one_command(zone: str, words: str) -> None:
    judged(firewalld.judged(zone, DEFAULT_POLICY, BOTH), TODO if words else OK, words)


def policy(ingress: str = "ANY", egress: str = "HOST", target: str = "CONTINUE", rule: str = "") -> str:
    zones = f"  ingress-zones: {ingress}\n  egress-zones: {egress}\n"
    return f"mine (active)\n  priority: -5\n  target: {target}\n{zones}  rich rules: \n\t{rule}\n"


DEFAULT_POLICY = policy(rule='rule family="ipv6" icmp-type name="neighbour-solicitation" accept')


@pytest.mark.parametrize(
    ("printed", "words"),
    [
        ("", ""),
        (DEFAULT_POLICY, ""),
        (policy(target="ACCEPT"), ""),
        (policy(ingress="libvirt-routed", target="REJECT"), ""),
        (policy(egress="docker", target="DROP"), ""),
        (policy(egress="ANY", target="DROP"), ""),
        (policy(ingress="", target="DROP"), ""),
        (policy(rule='rule family="ipv4" source address="203.0.113.9" drop'), ""),
        (policy(target="DROP"), "firewalld is active, and policy mine may deny 5353/udp and 51826/tcp"),
        (policy(target="REJECT"), "`sudo firewall-cmd --permanent --policy=mine --set-target=CONTINUE`"),
        (policy(ingress="work home", target="DROP"), "policy mine may deny"),
        (DEFAULT_POLICY + policy(target="%%REJECT%%"), "policy mine may deny"),
        (
            policy(rule="rule drop"),
            "--policy=mine --remove-rich-rule='rule drop'` and `sudo firewall-cmd --re",
        ),
        (
            policy(rule='rule family="ipv4" reject', target="DROP"),
            "reject'` and `sudo firewall-cmd --permanent",
        ),
    ],
)
def test_a_policy_in_front_of_the_zones_that_may_deny_phones_is_found(printed: str, words: str) -> None:
    judged(firewalld.judged(listed(), printed, BOTH), TODO if words else OK, words)


@pytest.mark.parametrize("printed", ["", "\n", "home\n", "home\n  target:\n", "  target: default\n"])
def test_zones_that_cannot_be_read_are_an_error_that_is_caught(printed: str) -> None:
    with pytest.raises(ValueError, match="cannot read the output of firewall-cmd"):
        firewalld.judged(printed, "", BOTH)


def test_each_zone_of_the_phones_must_list_both_ports() -> None:
    zones = listed() + listed(ports="").replace("home", "work")
    judged(firewalld.judged(zones, "", ON_TWO), TODO, "zone work does not list 51826/tcp as open")
    judged(
        firewalld.judged(listed() + listed().replace("home", "work"), "", ON_TWO), OK, "zone home and work"
    )


@pytest.mark.parametrize(
    ("rule", "denies"),
    [
        ("rule drop", True),
        ('rule family="ipv4" reject type="icmp-admin-prohibited"', True),
        ('rule priority="-1" family="ipv4" source address="10.77.0.0/24" drop', True),
        ('rule family="ipv4" source NOT address="10.8.0.0/24" reject', True),
        ('rule family="ipv4" port port="51000-52000" protocol="tcp" drop', True),
        ('rule service name="mdns" reject', True),
        ('rule family="ipv4" source address="10.77.0.128/25" drop', True),
        ('rule source-port port="22" protocol="tcp" drop', True),
        # Not plainly others.
        ('rule family="ipv4" source ipset="banned" drop', True),
        ('rule source mac="00:11:22:33:44:55" drop', True),
        ('rule service name="ssh" reject', True),
        # What fail2ban adds, and what says nothing about phones.
        ('rule family="ipv4" source address="203.0.113.9" port port="51826" protocol="tcp" reject', False),
        ('rule family="ipv4" source address="10.77.0.66" reject', False),
        ('rule family="ipv4" source address="10.8.0.0/24" drop', False),
        ('rule port port="22" protocol="tcp" drop', False),
        ('rule port port="51826" protocol="udp" drop', False),
        ('rule family="ipv4" source address="10.77.0.0/24" accept', False),
        ('rule log prefix="drop" accept', False),
    ],
)
def test_a_rich_rule_that_denies_phones_is_found(rule: str, denies: bool) -> None:
    assert firewalld.denies(rule, BY_IPV4) is denies


@pytest.mark.parametrize(
    ("active", "traffic", "zones"),
    [
        ("home\n  interfaces: lan0\n", BOTH, ("home",)),
        ("home (default)\n  interfaces: eth0 lan0\n  sources:\n", BOTH, ("home",)),
        ("home\n  interfaces: lan0\nwork\n  interfaces: lan1\n", ON_TWO, ("home", "work")),
        ("work\n  sources: 10.77.0.0/24\nhome\n  interfaces: lan0\n", BY_IPV4, ("work",)),
        ("work\n  sources: ipset:phones 10.0.0.0/8\n", BY_IPV4, ("work",)),
        ("work\n  sources: fd00::/64\n", BY_IPV6, ("work",)),
        ("work\n  sources: fd00::/64 10.77.0.0/24\nhome\n  interfaces: lan0\n", BOTH, ("work",)),
        # One version of IP, or a part of the network: the rest is in the zone of the interface.
        ("work\n  sources: 10.77.0.0/24\nhome\n  interfaces: lan0\n", BOTH, ("work", "home")),
        ("work\n  sources: 10.77.0.0/25\nhome\n  interfaces: lan0\n", BY_IPV4, ("work", "home")),
        # Other sources: one phone, and a VPN.
        ("work\n  sources: 10.77.0.9\nhome\n  interfaces: lan0\n", BOTH, ("home",)),
        ("vpn\n  sources: 10.8.0.0/24\nhome\n  interfaces: lan0\n", BOTH, ("home",)),
        ("work\n  sources: fd00::/64\nhome\n  interfaces: lan0\n", BY_IPV4, ("home",)),
        ("home\n  interfaces: eth0\n", BOTH, ("",)),
        ("", BOTH, ("",)),
        ("home\n  interfaces: lan0\n", UNKNOWN, ("",)),
    ],
)
def test_a_zone_of_the_phones_source_wins_over_that_of_the_interface(
    active: str, traffic: Traffic, zones: tuple[str, ...]
) -> None:
    assert firewalld.zones_of(active, traffic) == zones
