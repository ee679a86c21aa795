"""How `hkswitch doctor` judges what firewalld prints; tests/host/test_firewalls.py has a real one."""

import pytest

from hkswitch.doctor import firewalld
from hkswitch.doctor.traffic import Traffic, traffic_to
from hkswitch.network.choice import NoDefaultRoute
from tests.doctor.firewalls import BOTH, BY_IPV4, BY_IPV6, ON_TWO, TODO, judged

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
            "a rich rule of zone home may deny 5353/udp and 51826/tcp",
        ),
        (
            listed(rule='rule family="ipv4" drop'),
            """--zone=home --remove-rich-rule='rule family="ipv4" drop'`""",
        ),
    ],
)
def test_a_zone_lists_both_ports_as_open_or_the_rest_is_opened_by_one_command(zone: str, words: str) -> None:
    found = firewalld.judged("home", zone, BOTH)
    if words:
        judged(found, TODO, words)
    else:
        assert found is None


@pytest.mark.parametrize(
    ("rule", "denies"),
    [
        ("rule drop", True),
        ('rule family="ipv4" reject type="icmp-admin-prohibited"', True),
        ('rule priority="-1" family="ipv4" source address="10.77.0.0/24" drop', True),
        ('rule family="ipv4" source NOT address="10.8.0.0/24" reject', True),
        ('rule family="ipv4" port port="51000-52000" protocol="tcp" drop', True),
        ('rule service name="mdns" reject', True),
        # What fail2ban adds, and what says nothing about phones.
        ('rule family="ipv4" source address="203.0.113.9" port port="51826" protocol="tcp" reject', False),
        ('rule family="ipv4" source address="10.77.0.66" reject', False),
        ('rule family="ipv4" source address="10.8.0.0/24" drop', False),
        ('rule family="ipv4" source ipset="banned" drop', False),
        ('rule source mac="00:11:22:33:44:55" drop', False),
        ('rule family="ipv6" drop', False),
        ('rule port port="22" protocol="tcp" drop', False),
        ('rule port port="51826" protocol="udp" drop', False),
        ('rule service name="ssh" reject', False),
        ('rule protocol value="icmp" drop', False),
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
        ("work\n  sources: 10.77.0.0/24\nhome\n  interfaces: lan0\n", BOTH, ("work",)),
        ("work\n  sources: ipset:phones 10.0.0.0/8\n", BY_IPV4, ("work",)),
        ("work\n  sources: fd00::/64\n", BY_IPV6, ("work",)),
        # Other sources: one phone, a VPN, and the version of IP that phones do not need.
        ("work\n  sources: 10.77.0.9\nhome\n  interfaces: lan0\n", BOTH, ("home",)),
        ("vpn\n  sources: 10.8.0.0/24\nhome\n  interfaces: lan0\n", BOTH, ("home",)),
        ("work\n  sources: fd00::/64\nhome\n  interfaces: lan0\n", BOTH, ("home",)),
        # Empty: the default zone.
        ("home\n  interfaces: eth0\n", BOTH, ("",)),
        ("", BOTH, ("",)),
        ("home\n  interfaces: lan0\n", traffic_to(51826, NoDefaultRoute(), ()), ("",)),
    ],
)
def test_a_zone_of_the_phones_source_wins_over_that_of_the_interface(
    active: str, traffic: Traffic, zones: tuple[str, ...]
) -> None:
    assert firewalld.zones_of(active, traffic) == zones
