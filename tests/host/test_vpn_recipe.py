"""The recipe of docs/recipes.md for containers behind a VPN, with real Docker, nftables and WireGuard.

`OUTSIDE` responds at the far end of the tunnel and behind the default route, so only a capture of all
interfaces tells which way a packet left. The kernel's reverse-path filter is strict.
"""

import re
import socket
import struct
from collections.abc import Iterator
from ipaddress import ip_address
from typing import Final

import pytest

from hkswitch.model.errors import Exit
from tests.host.machine import ADDRESS, Host, eventually
from tests.host.recipes import CONFIG, Recipe, applied, recipes
from tests.host.test_recipes import docker, host, sh, wireguard
from tests.support.controller import Controller

__all__ = ["docker", "host", "wireguard"]

TITLE: Final = "Containers behind a VPN"
UNIT: Final = "/etc/systemd/system/container-vpn.service"
TUNNEL: Final = "wg-quick@wg0"
OUTSIDE: Final = "9.9.9.9"
OUTSIDE_IPV6: Final = "fd00:9::9"
LOOPBACK: Final = "127.0.0.1"

BY_TUNNEL: Final = {"wg0"}
BY_DEFAULT: Final = {"uplink0"}
NOWHERE: Final[set[str]] = set()

DEFAULT_ROUTE: Final = f"""
ip netns add internet
ip link add uplink0 type veth peer name internet0 netns internet
ip address add 192.168.1.2/24 dev uplink0
ip address add fd00:1::2/64 dev uplink0 nodad
ip link set uplink0 up
ip -n internet address add 192.168.1.1/24 dev internet0
ip -n internet address add fd00:1::1/64 dev internet0 nodad
ip -n internet link set internet0 up
for end in internet far; do
    ip -n $end link set lo up
    ip -n $end address add {OUTSIDE} dev lo
done
ip -n internet address add {OUTSIDE_IPV6} dev lo
ip -n internet route add fd00:30::/64 via fd00:1::2
ip route replace default via 192.168.1.1 dev uplink0
ip -6 route add default via fd00:1::1 dev uplink0
sysctl --quiet net.ipv6.conf.all.forwarding=1 net.ipv4.conf.all.rp_filter=1
"""

WEB: Final = "mkdir /www; echo served >/www/index.html; exec /bin/busybox httpd -f -h /www"
CONTAINERS: Final = ("torrent", "web", "other")
"""Two behind the VPN, of which one publishes a port, and one in Docker's own network."""

IPV6_IN_THE_CONTAINER: Final = """
ip address add fd00:30::1/64 dev vpn0 nodad
nsenter --net --target=$(docker inspect --format='{{.State.Pid}}' torrent) sh -ec '
    echo 0 >/proc/sys/net/ipv6/conf/eth0/disable_ipv6
    ip address add fd00:30::2/64 dev eth0 nodad
    ip route add default via fd00:30::1'
"""

PING: Final = ("ping", "-c2", "-i0.1", "-W2")
"""Two packets: the kernel drops the first one of a flow that changes its interface, and forgets the flow."""

BRIEF: Final = ("timeout", "0.5", "/bin/busybox")
"""Runs a ping that gets no reply."""

STATE: Final = "ip rule; ip -6 rule; ip -4 route show table all | sed 's/ linkdown//'; nft list ruleset inet"
"""Docker's own rules are in tables of the families ip and ip6."""

_ETH_P_ALL: Final = 0x0003
_SOL_PACKET: Final = 263  # packet(7); the socket module has no names for these
_PACKET_STATISTICS: Final = 6
_SO_RCVBUFFORCE: Final = 33
_BUFFER_BYTES: Final = 8 << 20


class Departures:
    """The packets that a host sends on any interface; the kernel buffers them until read."""

    def __init__(self, tap: socket.socket) -> None:
        self._tap = tap

    def interfaces(self, destination: str) -> set[str]:
        """Return the interfaces of the packets to an address since the last call; forget all others."""
        wanted = ip_address(destination).packed
        address = slice(24, 40) if len(wanted) == 16 else slice(16, 20)
        found = set()
        while True:
            try:
                packet, (interface, _, packet_type, *_) = self._tap.recvfrom(1 << 16, socket.MSG_DONTWAIT)
            except BlockingIOError:
                break
            if packet_type == socket.PACKET_OUTGOING and packet[address] == wanted:
                found.add(interface)
        _, lost = struct.unpack("II", self._tap.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8))
        assert lost == 0, "the kernel dropped packets"
        return found


@pytest.fixture(scope="module")
def departures(host: Host) -> Iterator[Departures]:
    with host.network():
        tap = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ETH_P_ALL))
    with tap:
        tap.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER_BYTES)
        yield Departures(tap)


@pytest.fixture(scope="module")
def recipe(host: Host, wireguard: None) -> Iterator[Recipe]:
    """The recipe, applied, with the lines that it adds to the tunnel's configuration."""
    sh(host, DEFAULT_ROUTE)
    recipe = recipes()[TITLE]
    tunnel = host.read("/etc/wireguard/wg0.conf")
    head, peer = tunnel.split("\n\n")
    head = "\n".join((head, recipe.quoted("Table = "), recipe.quoted("PostUp = ")))
    peer = peer.replace("AllowedIPs = 10.9.0.0/24", recipe.quoted("AllowedIPs = "))
    host.write("/etc/wireguard/wg0.conf", f"{head}\n\n{peer}", 0o600)
    with applied(recipe, host):
        host.run("systemctl", "start", TUNNEL)
        host.run("ip", "route", "flush", "table", "500")
        yield recipe
        host.run("systemctl", "stop", TUNNEL)


@pytest.fixture(scope="module")
def containers(host: Host, docker: None, recipe: Recipe) -> None:
    """All containers, running."""
    network, _ = recipe.commands
    host.run(*network)
    run = "docker run --detach --stop-signal=KILL --name"
    behind = recipe.quoted("--network vpn --dns")
    sh(host, f"{run}=torrent {behind} server")
    sh(host, f'{run}=web --network vpn --publish=8080:80 server /bin/busybox sh -c "$0"', WEB)
    sh(host, f"{run}=other server")


@pytest.fixture(autouse=True)
def nothing_is_left(host: Host, containers: None) -> Iterator[None]:
    """Fails a test after which the switch, turned off, has left anything in the kernel."""
    before = state(host)
    yield
    host.run("systemctl", "start", TUNNEL)
    act(host, "stop")
    assert state(host) == before


@pytest.fixture
def switched_on(host: Host, nothing_is_left: None) -> None:
    assert act(host, "start") == Exit.OK


def state(host: Host) -> list[str]:
    return host.run("sh", "-c", STATE).stdout.splitlines()


def act(host: Host, action: str) -> int:
    return host.run("serviceswitch", action, "vpn", check=False).returncode


def in_container(host: Host, container: str, *argv: str) -> int:
    return host.run("docker", "exec", container, "/bin/busybox", *argv, check=False).returncode


def must_leave(
    way: set[str],
    host: Host,
    departures: Departures,
    *,
    container: str = "torrent",
    destination: str = OUTSIDE,
    replied: bool = True,
) -> None:
    """Check by which interfaces packets of a container leave, and that a reply arrives if they do."""
    departures.interfaces(destination)
    brief = () if way and replied else BRIEF
    code = in_container(host, container, *brief, *PING, destination)
    assert departures.interfaces(destination) == way
    assert (code == 0) is (replied and bool(way))


def test_packets_leave_by_the_tunnel_while_it_is_on_and_by_the_default_route_while_it_is_off(
    host: Host, departures: Departures
) -> None:
    before = state(host)
    assert act(host, "status") == Exit.NOT_ON
    must_leave(BY_DEFAULT, host, departures)
    assert [act(host, "start") for _ in range(2)] == [Exit.OK] * 2
    assert act(host, "status") == Exit.OK
    must_leave(BY_TUNNEL, host, departures)
    must_leave(BY_DEFAULT, host, departures, container="other")
    assert act(host, "stop") == Exit.OK
    assert state(host) == before
    must_leave(BY_DEFAULT, host, departures)


def test_a_flow_that_began_before_does_not_leave_by_the_default_route_any_more(
    host: Host, departures: Departures
) -> None:
    with host.popen("docker", "exec", "torrent", "/bin/busybox", "ping", "-i0.05", OUTSIDE):
        eventually(lambda: departures.interfaces(OUTSIDE) == BY_DEFAULT)
        assert act(host, "start") == Exit.OK
        departures.interfaces(OUTSIDE)
        for _ in range(2):
            assert eventually(lambda: departures.interfaces(OUTSIDE)) == BY_TUNNEL
        host.run("systemctl", "stop", TUNNEL)
        departures.interfaces(OUTSIDE)
    in_container(host, "torrent", "killall", "ping")
    assert departures.interfaces(OUTSIDE) == NOWHERE


def test_without_the_tunnel_packets_leave_nowhere_until_it_is_back_or_the_switch_is_turned_off(
    host: Host, departures: Departures, recipe: Recipe, switched_on: None
) -> None:
    host.run("systemctl", "stop", TUNNEL)
    assert act(host, "status") == Exit.NOT_ON
    must_leave(NOWHERE, host, departures)
    host.run("systemctl", "start", TUNNEL)
    assert act(host, "status") == Exit.OK
    must_leave(BY_TUNNEL, host, departures)
    host.run("ip", "-n", "far", "link", "set", "far0", "down")
    must_leave(BY_TUNNEL, host, departures, replied=False)
    assert act(host, "status") == Exit.OK
    host.run("ip", "-n", "far", "link", "set", "far0", "up")
    host.run("ip", "link", "set", "wg0", "down")
    assert act(host, "status") == Exit.NOT_ON
    must_leave(NOWHERE, host, departures)
    [replace] = re.findall(r"^ExecStart=-(/\S+/ip route replace .*)$", recipe.files[UNIT], re.MULTILINE)
    host.run("ip", "link", "set", "wg0", "up")
    host.run(*replace.split())  # as the page says for other tunnels
    must_leave(BY_TUNNEL, host, departures)
    host.run("ip", "link", "set", "wg0", "down")
    assert act(host, "stop") == Exit.OK
    must_leave(BY_DEFAULT, host, departures)
    host.run("systemctl", "stop", TUNNEL)
    assert act(host, "start") == Exit.OK  # which starts the tunnel
    must_leave(BY_TUNNEL, host, departures)


@pytest.mark.parametrize(
    ("change", "way"),
    [
        ("ip route flush table 500", NOWHERE),
        ("ip rule delete priority 500", NOWHERE),
        ("ip route replace default via 192.168.1.1 dev uplink0 table 500", NOWHERE),
        ("nft flush ruleset", BY_DEFAULT),
    ],
)
def test_it_is_off_after_a_change_from_outside_and_only_an_empty_nftables_lets_packets_leave(
    host: Host, departures: Departures, switched_on: None, change: str, way: set[str]
) -> None:
    sh(host, change)
    assert act(host, "status") == Exit.NOT_ON
    must_leave(way, host, departures, replied=False)  # Docker's masquerading is gone, too
    if way:
        restart_docker(host)
        assert [act(host, action) for action in ("stop", "start")] == [Exit.OK] * 2
        must_leave(BY_TUNNEL, host, departures)


def restart_docker(host: Host) -> None:
    host.run("systemctl", "restart", "docker.service")
    host.run("docker", "start", *CONTAINERS)


def test_a_restart_of_docker_changes_nothing(host: Host, departures: Departures, switched_on: None) -> None:
    restart_docker(host)
    assert act(host, "status") == Exit.OK
    must_leave(BY_TUNNEL, host, departures)
    must_leave(BY_DEFAULT, host, departures, container="other")
    assert act(host, "stop") == Exit.OK
    must_leave(BY_DEFAULT, host, departures)


def test_once_enabled_it_is_on_before_docker_starts(
    host: Host, departures: Departures, recipe: Recipe
) -> None:
    _, enable = recipe.commands
    host.run("systemctl", "stop", "docker.service", "docker.socket", TUNNEL)
    host.run(*enable)
    host.run("systemctl", "start", "multi-user.target", "docker.service")  # as at boot
    host.run("systemctl", "disable", "container-vpn")
    on_since, docker_since = (
        int(host.show(unit, f"{point}TimestampMonotonic"))
        for unit, point in (("container-vpn", "ActiveEnter"), ("docker", "InactiveExit"))
    )
    assert on_since <= docker_since
    host.run("docker", "start", *CONTAINERS)
    assert act(host, "status") == Exit.OK
    must_leave(BY_TUNNEL, host, departures)


def test_a_start_that_fails_half_way_leaves_nothing_and_the_next_one_works(
    host: Host, departures: Departures
) -> None:
    before = state(host)
    host.run("ip", "rule", "add", "fwmark", "500", "table", "500", "priority", "500")
    assert act(host, "start") == Exit.UNAVAILABLE
    assert state(host) == before
    must_leave(BY_DEFAULT, host, departures)
    assert act(host, "start") == Exit.OK
    must_leave(BY_TUNNEL, host, departures)


def test_a_start_without_a_tunnel_fails_and_packets_leave_nowhere(
    host: Host, departures: Departures, recipe: Recipe
) -> None:
    host.run("systemctl", "stop", TUNNEL)
    host.run("mv", "/etc/wireguard/wg0.conf", "/run")
    host.write(CONFIG, f"{recipe.files[CONFIG]}    timeout_seconds: 1\n")
    code = act(host, "start")
    host.write(CONFIG, recipe.files[CONFIG])
    host.run("mv", "/run/wg0.conf", "/etc/wireguard")
    assert code == Exit.UNAVAILABLE
    must_leave(NOWHERE, host, departures)


def test_published_ports_work_at_home_and_containers_reach_each_other_and_the_machine(
    host: Host, departures: Departures, switched_on: None
) -> None:
    wget = ("wget", "-q", "-O-", "-T2")
    at_home = ("ip", "netns", "exec", "internet", "busybox", *wget, "http://192.168.1.2:8080")
    assert host.run(*at_home).stdout == "served\n"
    assert in_container(host, "torrent", *wget, "http://web") == 0
    assert in_container(host, "torrent", *PING, "192.168.1.2") == 0
    must_leave(BY_TUNNEL, host, departures, destination="192.168.1.1", replied=False)


def test_names_are_looked_up_through_the_tunnel_but_without_dns_perhaps_outside(
    host: Host, departures: Departures, switched_on: None
) -> None:
    lookup = ("nslookup", "-timeout=1", "example.org")
    departures.interfaces(OUTSIDE)
    in_container(host, "torrent", *lookup)
    assert departures.interfaces(OUTSIDE) == BY_TUNNEL
    before = host.read("/etc/resolv.conf")
    host.write("/etc/resolv.conf", f"nameserver {LOOPBACK}\n")
    run = ("docker", "run", "--rm", "--network=vpn", "server", "/bin/busybox")
    departures.interfaces(LOOPBACK)
    host.run(*run, *lookup, check=False)
    host.write("/etc/resolv.conf", before)
    assert departures.interfaces(LOOPBACK) == {"lo"}


def test_ipv6_packets_are_rejected_while_it_is_on(host: Host, departures: Departures) -> None:
    sh(host, IPV6_IN_THE_CONTAINER)
    must_leave(BY_DEFAULT, host, departures, destination=OUTSIDE_IPV6)
    assert act(host, "start") == Exit.OK
    must_leave(NOWHERE, host, departures, destination=OUTSIDE_IPV6)


@pytest.fixture(scope="module")
def config(recipe: Recipe) -> str:
    """The recipe's, with an address for the bridge, and a shorter interval."""
    return f"bridge:\n  address: {ADDRESS}\n{recipe.files[CONFIG]}    interval_seconds: 1\n"


async def test_taps_do_the_same_and_phones_are_told_what_happens_outside(
    controller: Controller, host: Host, departures: Departures
) -> None:
    assert await controller.write("VPN", on=True) == 0
    await controller.until_on_is("VPN", on=True)
    must_leave(BY_TUNNEL, host, departures)
    host.run("systemctl", "stop", TUNNEL)
    await controller.until_on_is("VPN", on=False)
    must_leave(NOWHERE, host, departures)
    host.run("systemctl", "start", TUNNEL)
    await controller.until_on_is("VPN", on=True)
    assert await controller.write("VPN", on=False) == 0
    await controller.until_on_is("VPN", on=False)
    must_leave(BY_DEFAULT, host, departures)
