"""Which addresses the bridge serves on, and when that may have changed: on tables, and on a real kernel."""

import asyncio
import errno
import os
import re
import subprocess
from collections.abc import Callable
from functools import cache
from ipaddress import ip_address, ip_network
from pathlib import Path
from textwrap import dedent, indent
from typing import Any

import ifaddr
import pytest

from hkswitch.cli import demo
from hkswitch.model.config import BridgeConfig
from hkswitch.model.errors import Failure
from hkswitch.network import addresses
from hkswitch.network.addresses import (
    TablesUnreadable,
    changes,
    default_interfaces,
    endpoint_of,
    ipv6_addresses,
    of_bridge,
)
from hkswitch.network.choice import Address, Machine, NoAddress, NoDefaultRoute, choose, is_lan, lack
from tests.support.descriptors import no_descriptors
from tests.support.script import script

ROOT = Path(__file__).parents[2]

HEADER = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
LAN = "eth0\t0000A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"
DEFAULT = "eth0\t00000000\t0100A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0\n"
BETTER = "wlan0\t00000000\t0100A8C0\t0003\t0\t0\t50\t00000000\t0\t0\t0\n"
WORST = "usb0\t00000000\t0109090A\t0003\t0\t0\t4294967295\t00000000\t0\t0\t0\n"
UNREACHABLE = "*\t00000000\t00000000\t0201\t0\t0\t5\t00000000\t0\t0\t0\n"
HALF = "tun0\t00000000\t00000000\t0001\t0\t0\t0\t00000080\t0\t0\t0\n"

ZERO = "0" * 32
LAN6 = f"fd{'0' * 30} 40 {ZERO} 00 {ZERO} 00000100 00000001 00000000 00000001     eth0\n"
DEFAULT6 = f"{ZERO} 00 {ZERO} 00 fe{'0' * 29}1 00000400 00000003 00000000 00000003     eth0\n"
BETTER6 = f"{ZERO} 00 {ZERO} 00 fe{'0' * 29}2 000000ff 00000003 00000000 00000003    wlan0\n"
NULL6 = f"{ZERO} 00 {ZERO} 00 {ZERO} ffffffff 00000001 00000000 00200200       lo\n"

UP, LOOPBACK, POINT_TO_POINT, MULTICAST = 1, 8, 0x10, 0x1000
ETHERNET = UP | MULTICAST
TEMPORARY, DAD_FAILED, DEPRECATED, TENTATIVE, PERMANENT = 0x01, 0x08, 0x20, 0x40, 0x80


@pytest.mark.parametrize(
    ("ipv4", "ipv6", "interfaces"),
    [
        pytest.param(HEADER + LAN + DEFAULT, "", ("eth0",), id="one route"),
        pytest.param(HEADER + DEFAULT + BETTER, "", ("wlan0", "eth0"), id="the lower metric first"),
        pytest.param(HEADER + WORST + DEFAULT, "", ("eth0", "usb0"), id="a metric of 32 bits"),
        pytest.param(HEADER + DEFAULT, BETTER6, ("eth0", "wlan0"), id="IPv4 before IPv6"),
        pytest.param(HEADER + DEFAULT + DEFAULT, DEFAULT6, ("eth0",), id="each interface once"),
        pytest.param(HEADER, LAN6 + DEFAULT6 + BETTER6, ("wlan0", "eth0"), id="IPv6 only"),
        pytest.param("", "", (), id="no tables"),
        pytest.param(HEADER, "", (), id="no routes"),
        pytest.param(HEADER + LAN, LAN6, (), id="no default route"),
        pytest.param(HEADER + UNREACHABLE, NULL6, (), id="default routes that refuse"),
        pytest.param(HEADER + HALF, "", (), id="one half of the internet"),
    ],
)
def test_the_best_default_route_has_the_lowest_metric_and_ipv4(
    ipv4: str, ipv6: str, interfaces: tuple[str, ...]
) -> None:
    assert default_interfaces(ipv4, ipv6) == interfaces


def test_the_addresses_of_ipv6_are_read_with_their_flags_and_put_into_an_order() -> None:
    table = (
        "fe8000000000000000fc00fffe000001 04 40 20 80     eth0\n"
        "00000000000000000000000000000001 01 80 10 80       lo\n"
        "fd000000000000000000000000000002 04 40 00 21     eth0\n"
    )
    assert ipv6_addresses(table) == (
        Address("eth0", ip_address("fd00::2"), TEMPORARY | DEPRECATED),
        Address("eth0", ip_address("fe80::fc:ff:fe00:1"), PERMANENT),
        Address("lo", ip_address("::1"), PERMANENT),
    )
    assert ipv6_addresses("") == ()


@pytest.mark.parametrize(
    ("name", "flags", "is_one"),
    [
        *((name, ETHERNET, True) for name in ("eth0", "enp3s0", "wlan0", "bond0", "eth0.20", "host0")),
        *((name, ETHERNET, True) for name in ("br0", "br-lan", "bridge0", "vmbr0", "team0", "vlan7")),
        *((name, ETHERNET, False) for name in ("docker0", "docker_gwbridge", "br-0123456789ab")),
        *((name, ETHERNET, False) for name in ("veth1a2b3c4", "ve-web", "vb-web", "virbr0", "vnet3")),
        *((name, ETHERNET, False) for name in ("lxcbr0", "lxdbr0", "incusbr0", "cni0", "podman1")),
        *((name, ETHERNET, False) for name in ("flannel.1", "cali0a1b", "tap0", "fwbr100i0", "ztabcdefgh")),
        ("eth0", MULTICAST, False),
        ("eth0", UP, False),
        ("eth0", ETHERNET | LOOPBACK, False),
        ("home", ETHERNET | POINT_TO_POINT, False),
    ],
)
def test_phones_are_behind_a_lan_and_not_behind_containers_guests_and_tunnels(
    name: str, flags: int, is_one: bool
) -> None:
    assert is_lan(name, flags) == is_one


def machine(*found: str, defaults: str = "", **links: int) -> Machine:
    """A machine with addresses like `eth0 fd00::1 21`: interface, address, flags."""
    rows = [f"{line} 0".split() for line in found]
    known = tuple(Address(row[0], ip_address(row[1]), int(row[2], 16)) for row in rows)
    return Machine({"lo": UP | LOOPBACK, **links}, known, tuple(defaults.split()))


BOTH = machine(
    "lo 127.0.0.1",
    "eth0 192.168.1.5",
    "eth0:1 192.168.1.6",
    "wlan0 192.168.2.5",
    "eth0 fd00::5 80",
    "eth0 fe80::5 80",
    "wlan0 fd00::5 80",
    eth0=ETHERNET,
    wlan0=ETHERNET,
)


@pytest.mark.parametrize(
    ("wanted", "where"),
    [
        pytest.param(("192.168.1.5",), BOTH, id="IPv4"),
        pytest.param(("fd00::5", "192.168.2.5"), BOTH, id="several, in the config's order"),
        pytest.param(("192.168.1.6",), BOTH, id="that of an alias"),
        pytest.param(("fe80::5%eth0",), BOTH, id="link-local"),
        pytest.param(("127.0.0.1", "127.3.2.1", "::1"), machine(), id="loopback, whatever there is"),
        pytest.param(("169.254.1.2",), machine("eth0 169.254.1.2", eth0=UP), id="IPv4 of one link"),
        pytest.param(("fd00::5",), machine("eth0 fd00::5 21", eth0=UP), id="deprecated and temporary"),
    ],
)
def test_configured_addresses_that_are_there_are_taken_as_they_are(
    wanted: tuple[str, ...], where: Machine
) -> None:
    assert choose(BridgeConfig(addresses=wanted), where) == wanted


def test_an_address_that_is_written_otherwise_is_the_same_address() -> None:
    assert choose(BridgeConfig(addresses=("FD00:0::5",)), BOTH) == ("fd00::5",)


@pytest.mark.parametrize(
    ("wanted", "where", "missing"),
    [
        pytest.param(("192.168.1.7",), BOTH, "192.168.1.7", id="not there"),
        pytest.param(("10.0.0.1", "fd00::6"), BOTH, "10.0.0.1 or fd00::6", id="both not there"),
        pytest.param(("fe80::5%wlan0",), BOTH, "fe80::5%wlan0", id="on another link"),
        pytest.param(
            ("10.0.0.1",), machine("eth0 10.0.0.1", eth0=0), "10.0.0.1", id="on a link that is down"
        ),
        pytest.param(("fd00::5",), machine("eth0 fd00::5 c0", eth0=UP), "fd00::5", id="tentative"),
        pytest.param(("fd00::5",), machine("eth0 fd00::5 48", eth0=UP), "fd00::5", id="of another machine"),
    ],
)
def test_configured_addresses_that_are_not_there_are_named(
    wanted: tuple[str, ...], where: Machine, missing: str
) -> None:
    with pytest.raises(NoAddress) as caught:
        choose(BridgeConfig(addresses=wanted), where)
    assert str(caught.value) == f"no interface that is up has the address {missing}"


@pytest.mark.parametrize(
    ("interfaces", "where", "chosen"),
    [
        pytest.param("eth0", BOTH, "192.168.1.5 192.168.1.6 fd00::5", id="IPv4 before IPv6"),
        pytest.param("eth0:1", BOTH, "192.168.1.6", id="an alias"),
        pytest.param("wlan0 eth0", BOTH, "192.168.2.5 192.168.1.5 192.168.1.6 fd00::5", id="each once"),
        pytest.param("lo", BOTH, "127.0.0.1", id="loopback, if it is wanted"),
        pytest.param(
            "nope0 wlan0", BOTH, "192.168.2.5 fd00::5", id="one that is not there beside one that is"
        ),
        pytest.param(
            "docker0", machine("docker0 10.0.0.1", docker0=ETHERNET), "10.0.0.1", id="any, if wanted"
        ),
        pytest.param(
            "eth0",
            machine(
                "eth0 169.254.1.2",
                "eth0 fd00::1 80",
                f"eth0 fd00::2 {TEMPORARY:x}",
                f"eth0 fd00::3 {DEPRECATED:x}",
                f"eth0 fd00::4 {TENTATIVE:x}",
                f"eth0 fd00::5 {TENTATIVE | DAD_FAILED:x}",
                f"eth0 fd00::6 {DAD_FAILED:x}",
                "eth0 fe80::7 80",
                eth0=ETHERNET,
            ),
            "fd00::1",
            id="only what a phone reaches tomorrow too",
        ),
    ],
)
def test_interfaces_serve_on_their_addresses_that_a_phone_reaches(
    interfaces: str, where: Machine, chosen: str
) -> None:
    assert choose(BridgeConfig(interfaces=tuple(interfaces.split())), where) == tuple(chosen.split())


NONE = "has no address that a phone can reach"
NO_ETH9 = "there is no interface eth9; available interfaces"


@pytest.mark.parametrize(
    ("interfaces", "where", "why"),
    [
        ("eth0", machine("eth0 fe80::1 80", "eth0 169.254.1.2", eth0=UP), f"the interface eth0 {NONE}"),
        ("eth0", machine(eth0=UP), f"the interface eth0 {NONE}"),
        ("eth0:2", BOTH, f"the interface eth0:2 {NONE}"),
        ("eth0", machine("eth0 10.0.0.1", eth0=0), "the interface eth0 is down"),
        (
            "eth0",
            machine(eth0=MULTICAST, eth1=MULTICAST, eth2=ETHERNET, docker0=ETHERNET),
            "the interface eth0 is down; available interfaces: eth2",
        ),
        (
            "eth0:1",
            machine(eth0=MULTICAST, eth2=ETHERNET),
            "the interface eth0:1 is down; available interfaces: eth2",
        ),
        ("nope0", machine(), "there is no interface nope0"),
        ("nope0", BOTH, "there is no interface nope0; available interfaces: eth0, wlan0"),
        ("eth", BOTH, "there is no interface eth; available interfaces: eth0, wlan0"),
        (
            "eth9",
            Machine(dict.fromkeys(("docker0", "veth12", *(f"eth{number}" for number in range(9))), ETHERNET)),
            f"{NO_ETH9}: eth0, eth1, eth2, eth3, eth4, eth5, eth6, eth7, eth8",
        ),
        (
            "eth9",
            Machine({f"e{number:02}": ETHERNET for number in range(21)}),
            f"{NO_ETH9}: {', '.join(f'e{number:02}' for number in range(16))} and 5 more",
        ),
        (
            "a c",
            machine(a=0, c=UP, d=ETHERNET),
            f"the interface a is down and the interface c {NONE}; available interfaces: d",
        ),
    ],
)
def test_interfaces_without_an_address_are_refused_with_the_reason(
    interfaces: str, where: Machine, why: str
) -> None:
    with pytest.raises(NoAddress) as caught:
        choose(BridgeConfig(interfaces=tuple(interfaces.split())), where)
    assert str(caught.value) == why


@pytest.mark.parametrize(
    ("config", "where", "lacking"),
    [
        ({"interfaces": ("eth0", "wlan0")}, BOTH, ""),
        ({"addresses": ("192.168.1.5", "fd00::5")}, BOTH, ""),
        ({"addresses": ("127.0.0.1",)}, machine(), ""),
        ({}, machine("eth0 10.0.0.1", defaults="eth0", eth0=ETHERNET), ""),
        (
            {"interfaces": ("eth0", "eth9")},
            BOTH,
            "eth9: there is no interface eth9; available interfaces: eth0, wlan0",
        ),
        (
            {"interfaces": ("wlan0", "eth0:2")},
            BOTH,
            f"eth0:2: the interface eth0:2 {NONE}",
        ),
        (
            {"addresses": ("192.168.1.5", "10.0.0.7", "fd00::7")},
            BOTH,
            "10.0.0.7 and fd00::7: no interface that is up has the address 10.0.0.7 or fd00::7",
        ),
        ({}, machine("eth0 10.0.0.1", eth0=ETHERNET), "the network: cannot choose an address"),
        ({}, machine("eth0 10.0.0.1", defaults="wg0", eth0=ETHERNET, wg0=UP | POINT_TO_POINT), "the network"),
    ],
)
def test_what_is_not_there_beside_what_is_is_named_with_the_reason(
    config: dict[str, tuple[str, ...]], where: Machine, lacking: str
) -> None:
    found = lack(BridgeConfig(**config), where)  # type: ignore[arg-type] # a table of keys
    assert bool(found) == bool(lacking)
    assert found is None or f"{found.wanted}: {found}".startswith(lacking)


def test_of_several_addresses_those_that_are_there_are_served_on() -> None:
    assert choose(BridgeConfig(addresses=("10.0.0.7", "192.168.1.5", "fd00::7")), BOTH) == ("192.168.1.5",)


@pytest.mark.parametrize(
    ("defaults", "staying", "chosen"),
    [
        pytest.param("", "eth0", "10.0.0.1", id="its route disappeared"),
        pytest.param("wg0", "eth0", "10.0.0.1", id="a VPN has the route"),
        pytest.param("wlan0", "eth0", "10.0.0.2", id="the route moved"),
        pytest.param("", "bare0", None, id="its address went away too"),
        pytest.param("", "down0", None, id="it is down"),
        pytest.param("", "gone0", None, id="it is gone"),
        pytest.param("", "", None, id="it was nowhere"),
        pytest.param("", "lo", None, id="it was chosen by name"),
    ],
)
def test_without_a_default_route_the_bridge_stays_where_phones_reach_it(
    defaults: str, staying: str, chosen: str | None
) -> None:
    here = machine(
        "lo 127.0.0.1",
        "eth0 10.0.0.1",
        "wlan0 10.0.0.2",
        "down0 10.0.0.3",
        "bare0 fe80::1",
        defaults=defaults,
        eth0=ETHERNET,
        wlan0=ETHERNET,
        down0=MULTICAST,
        bare0=ETHERNET,
        wg0=UP | POINT_TO_POINT,
    )
    names = frozenset(staying.split())
    if chosen is None:
        with pytest.raises(NoDefaultRoute):
            choose(BridgeConfig(), here, names)
    else:
        assert choose(BridgeConfig(), here, names) == (chosen,)


@pytest.mark.parametrize(
    ("defaults", "chosen"),
    [("eth0", "10.0.0.1"), ("wlan0 eth0", "10.0.0.2"), ("docker0 wg0 gone0 down0 wlan0 eth0", "10.0.0.2")],
)
def test_the_best_default_route_into_a_lan_is_served_on(defaults: str, chosen: str) -> None:
    here = machine(
        "eth0 10.0.0.1",
        "wlan0 10.0.0.2",
        "docker0 10.0.0.3",
        "wg0 10.0.0.4",
        "down0 10.0.0.5",
        defaults=defaults,
        eth0=ETHERNET,
        wlan0=ETHERNET,
        docker0=ETHERNET,
        wg0=UP | POINT_TO_POINT,
        down0=MULTICAST,
    )
    assert choose(BridgeConfig(), here) == (chosen,)


@pytest.mark.parametrize("defaults", ["", "docker0"])
def test_without_a_default_route_into_a_lan_there_is_none(defaults: str) -> None:
    with pytest.raises(NoDefaultRoute):
        choose(BridgeConfig(), machine("docker0 10.0.0.3", defaults=defaults, docker0=ETHERNET))


def test_a_default_route_without_an_address_is_no_missing_default_route() -> None:
    with pytest.raises(NoAddress, match="the interface eth0 has no address") as caught:
        choose(BridgeConfig(), machine("eth0 fe80::1", defaults="eth0", eth0=ETHERNET))
    assert not isinstance(caught.value, NoDefaultRoute)


def test_loopback_of_this_machine_is_served_on_if_it_is_wanted() -> None:
    assert "127.0.0.1" in of_bridge(BridgeConfig(interfaces=("lo",)))
    assert of_bridge(BridgeConfig(addresses=("127.0.0.1", "::1"))) == ("127.0.0.1", "::1")


@pytest.fixture
def no_default_route(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "route").write_text(HEADER + LAN)
    monkeypatch.setattr(addresses, "PROC_NET", tmp_path)


def test_without_a_default_route_the_daemon_says_what_to_set(no_default_route: None) -> None:
    with pytest.raises(NoDefaultRoute, match=r"set bridge\.interface or bridge\.address"):
        of_bridge(BridgeConfig())


def test_without_a_default_route_the_demo_serves_on_loopback(no_default_route: None, tmp_path: Path) -> None:
    terminal = demo._Terminal(None, None, None, tmp_path)
    assert terminal.find(BridgeConfig(), None).addresses == ("127.0.0.1",)


async def test_nothing_is_left_open_when_nobody_listens_any_more() -> None:
    before = os.listdir("/proc/self/fd")  # noqa: PTH208 -- names are enough
    async with changes() as heard:
        number = heard._messages.fileno()
    assert not asyncio.get_running_loop().remove_reader(number)
    assert os.listdir("/proc/self/fd") == before  # noqa: PTH208


def test_without_a_file_descriptor_nothing_is_known_and_no_interface_is_called_gone() -> None:
    wanted = BridgeConfig(addresses=("127.0.0.1",))
    with no_descriptors(), pytest.raises(TablesUnreadable) as caught:
        endpoint_of(wanted)
    assert str(caught.value) == "cannot read this machine's network addresses: Too many open files"
    place = endpoint_of(wanted)
    assert (place.addresses, place.interfaces) == (("127.0.0.1",), frozenset({1}))


def test_a_place_has_the_networks_of_its_interfaces_and_no_others() -> None:
    networks = endpoint_of(BridgeConfig(addresses=("127.0.0.1",))).networks
    assert {ip_network("127.0.0.0/8")} <= networks <= {ip_network("127.0.0.0/8"), ip_network("::1/128")}


def failing(call: Callable[..., Any], number: int, name: str) -> Callable[..., Any]:
    """The same function, but for an error when one of its arguments ends so."""

    def fail(*arguments: Any, **options: Any) -> Any:  # noqa: ANN401 -- any function's
        if not name or any(str(each).endswith(name) for each in arguments):
            raise OSError(number, os.strerror(number))
        return call(*arguments, **options)

    return fail


READS = [
    (ifaddr, "get_adapters", ""),
    (os, "listdir", "/net"),
    (Path, "read_text", "lo/flags"),
    (Path, "read_text", "lo/ifindex"),
    (Path, "read_text", "net/if_inet6"),
    (Path, "read_text", "net/route"),
    (Path, "read_text", "net/ipv6_route"),
]


@pytest.mark.parametrize(("module", "function", "name"), READS, ids=lambda each: str(each)[-14:])
@pytest.mark.parametrize(
    "number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO], ids=errno.errorcode.get
)
def test_a_read_that_fails_is_to_be_tried_again(
    monkeypatch: pytest.MonkeyPatch, module: object, function: str, name: str, number: int
) -> None:
    monkeypatch.setattr(module, function, failing(getattr(module, function), number, name))
    with pytest.raises(TablesUnreadable, match=re.escape(os.strerror(number))):
        endpoint_of(BridgeConfig(interfaces=("lo",)))


def test_what_is_no_interface_beside_them_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bonding_masters").write_text("bond0\n")
    (tmp_path / "lo").symlink_to("/sys/class/net/lo")
    monkeypatch.setattr(addresses, "LINKS", tmp_path)
    assert addresses.this_machine().links.keys() == {"lo"}


@pytest.mark.parametrize("number", [errno.ENOENT, errno.ENODEV, errno.EINVAL], ids=errno.errorcode.get)
@pytest.mark.parametrize(
    ("name", "said"),
    [("lo/flags", "there is no interface lo"), ("lo/ifindex", "the interface of .* disappeared")],
)
def test_an_interface_that_goes_away_during_a_read_is_gone(
    monkeypatch: pytest.MonkeyPatch, name: str, said: str, number: int
) -> None:
    monkeypatch.setattr(Path, "read_text", failing(Path.read_text, number, name))
    with pytest.raises(NoAddress, match=said) as caught:
        endpoint_of(BridgeConfig(interfaces=("lo",)))
    assert not isinstance(caught.value, TablesUnreadable)


async def test_without_a_file_descriptor_changes_are_still_heard_but_not_anew() -> None:
    async with changes() as heard:
        with no_descriptors():
            heard.drain()
            with pytest.raises(Failure, match="cannot listen for network changes: Too many open files"):
                async with changes():
                    pytest.fail("there was a descriptor")


# On a real kernel: a network namespace of its own, so that no interface of this machine is touched.


@cache
def has_own_network() -> bool:
    """Whether processes can have a network of their own, as root or with user namespaces."""
    code = "from tests.support import own_network; own_network.enter()"
    return subprocess.run(script(code), cwd=ROOT, capture_output=True, check=False).returncode == 0


def in_own_network(setup: str, body: str) -> str:
    """What the Python lines `body` write in a network that was made by the shell's lines `setup`."""
    code = f"""\
import asyncio, socket, subprocess
from hkswitch.network import addresses
from hkswitch.network.addresses import changes, of_bridge
from hkswitch.network.choice import NoAddress
from hkswitch.model.config import BridgeConfig
from tests.support import own_network
from tests.support.waiting import eventually

def run(lines):
    subprocess.run(["sh", "-ec", lines], check=True)

async def main():
    async with asyncio.timeout(20):
{indent(dedent(body), " " * 8)}

own_network.enter()
run({setup!r})
asyncio.run(main())
"""
    if not has_own_network():
        pytest.skip("neither root nor user namespaces, which a network of its own takes")
    done = subprocess.run(script(code), cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


CABLE = """
ip link add lan0 type veth peer name wire0
ip link set wire0 addrgenmode none
ip link set lan0 addrgenmode none
ip link set wire0 up
ip link set lan0 up
ip address add 192.168.5.2/24 dev lan0
ip -6 address add fd00:5::2/64 dev lan0 nodad
ip -6 address add fe80::2/64 dev lan0 nodad
"""
OTHERS = """
ip -6 address add fd00:5::3/64 dev lan0 nodad preferred_lft 0
ip link add docker0 type bridge
ip address add 172.17.0.1/16 dev docker0
ip link set docker0 up
ip -6 address add fd00:17::1/64 dev docker0
ip route add default dev docker0 metric 1
ip link add idle0 type bridge
ip address add 10.0.0.1/8 dev idle0
ip tuntap add vpn mode tun
ip link set vpn up
ip address add 10.8.0.1/24 dev vpn
ip route add default dev vpn metric 2
"""
ALL = "192.168.5.2 fd00:5::2"
DOCKER = "172.17.0.1"


@pytest.mark.parametrize(
    ("setup", "config", "said"),
    [
        (CABLE + "ip route add default dev lan0", {}, ALL),
        (CABLE + "ip -6 route add default dev lan0", {}, ALL),
        (CABLE + OTHERS + "ip route add default dev lan0 metric 3", {}, ALL),
        (CABLE + OTHERS, {"interfaces": ["docker0", "lan0"]}, f"{DOCKER} {ALL}"),
        (CABLE, {"addresses": ["fe80::2%lan0", "192.168.5.2"]}, "fe80::2%lan0 192.168.5.2"),
        (CABLE + OTHERS, {"addresses": ["fd00:5::3"]}, "fd00:5::3"),
        (CABLE + OTHERS, {}, "cannot choose an address without a default route"),
        ("", {}, "cannot choose an address without a default route"),
        (
            CABLE + OTHERS,
            {"interfaces": ["idle0"]},
            "the interface idle0 is down; available interfaces: lan0, wire0",
        ),
        (CABLE + OTHERS, {"addresses": ["10.0.0.1"]}, "no interface that is up has the address 10.0.0.1"),
        (CABLE + OTHERS, {"addresses": ["fd00:17::1"]}, "no interface that is up has the address fd00:17::1"),
        (CABLE, {"addresses": ["fe80::2%wire0"]}, "no interface that is up has the address fe80::2%wire0"),
    ],
)
def test_what_is_chosen_on_a_real_kernel_can_be_bound(setup: str, config: dict[str, str], said: str) -> None:
    body = f"""\
    try:
        chosen = of_bridge(BridgeConfig(**{config}))
    except NoAddress as failure:
        print(failure)
    else:
        for address in chosen:
            family, kind, *_, place = socket.getaddrinfo(address, 0, type=socket.SOCK_STREAM)[0]
            with socket.socket(family, kind) as bound:
                bound.bind(place)
        print(*chosen)
    """
    assert in_own_network(setup, body).startswith(said)


LO = "ip link set lo up\n"


@pytest.mark.parametrize(
    ("change", "is_one"),
    [
        pytest.param("ip link add lan0 type veth peer name wire0", True, id="a new link"),
        pytest.param("ip link set lo down", True, id="a link down"),
        pytest.param("ip address add 10.0.0.1/8 dev lo", True, id="a new address"),
        pytest.param("ip -6 address add fd00::1/64 dev lo nodad", True, id="a new address of IPv6"),
        pytest.param("ip address delete 10.9.0.1/8 dev lo", True, id="an address less"),
        pytest.param("ip route add default dev lo", True, id="a new route"),
        pytest.param("ip -6 route add default dev lo", True, id="a new route of IPv6"),
        pytest.param("ip route show", False, id="a question"),
        pytest.param("ip address add 10.9.0.1/8 dev lo || true", False, id="a change that was refused"),
        pytest.param("ip rule add from 10.0.0.1 table 7", False, id="a rule"),
        pytest.param("ip neighbour add 10.9.0.7 lladdr 02:00:00:00:00:01 dev lo", False, id="a neighbour"),
    ],
)
def test_links_addresses_and_routes_are_heard_of_when_they_change(change: str, is_one: bool) -> None:
    body = f"""\
    async with changes() as heard:
        heard.drain()
        assert not heard._changed.is_set()
        run({change!r})
        if {is_one}:
            await heard.wait()
        heard.drain()
        assert not heard._changed.is_set()
    """
    in_own_network(LO + "ip address add 10.9.0.1/8 dev lo", body)


def test_a_burst_of_changes_is_one() -> None:
    burst = "\n".join(f"ip address add 10.0.0.{number}/32 dev lo" for number in range(5))
    body = f"""\
    async with changes() as heard:
        waiting = asyncio.create_task(heard.wait())
        await asyncio.to_thread(run, {burst!r})
        assert not waiting.done()
        await waiting
        heard.drain()
        assert not heard._changed.is_set()
    """
    in_own_network(LO, body)


def test_changes_without_an_end_are_told_in_time() -> None:
    body = """\
    async def change():
        while True:
            await asyncio.to_thread(run, "ip address add 10.0.0.1/32 dev lo; ip address flush dev lo")

    addresses.LONGEST_SECONDS = 0.6
    async with changes() as heard:
        changing = asyncio.create_task(change())
        async with asyncio.timeout(5):
            await heard.wait()
        changing.cancel()
    """
    in_own_network(LO, body)


def test_a_change_between_two_waits_is_not_lost() -> None:
    body = """\
    async with changes() as heard:
        run("ip address add 10.0.0.1/32 dev lo")
        await heard.wait()
        run("ip address add 10.0.0.2/32 dev lo")
        await eventually(heard._changed.is_set)
        await heard.wait()
    """
    in_own_network(LO, body)


def test_a_change_during_a_wait_that_is_cancelled_is_not_lost() -> None:
    body = """\
    async with changes() as heard:
        waiting = asyncio.create_task(heard.wait())
        run("ip address add 10.0.0.1/32 dev lo")
        await eventually(heard._changed.is_set)
        waiting.cancel()
        await asyncio.wait([waiting])
        assert waiting.cancelled()
        await heard.wait()
    """
    in_own_network(LO, body)


def test_only_the_kernel_is_believed() -> None:
    body = """\
    async with changes() as heard:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as liar:
            liar.bind((0, 0))
            liar.sendto(bytes(32), heard._messages.getsockname()[:1] + (0,))
            _, sender = heard._messages.recvfrom(1, socket.MSG_PEEK)
            assert sender[0] == liar.getsockname()[0]
        heard.drain()
        assert not heard._changed.is_set()
        run("ip address add 10.0.0.1/32 dev lo")
        heard.drain()
        assert heard._changed.is_set()
    """
    in_own_network(LO, body)


def test_more_news_than_the_socket_holds_are_a_change_too() -> None:
    many = "\n".join(f"ip address add 10.0.0.{number}/32 dev lo" for number in range(20))
    body = f"""\
    async with changes() as heard:
        heard._messages.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        run({many!r})
        port = str(heard._messages.getsockname()[0])
        rows = [row.split() for row in open("/proc/self/net/netlink")]
        dropped = sum(int(row[8]) for row in rows if row[2] == port and row[1] == "0")
        assert dropped > 0
        heard.drain()
        await heard.wait()
        heard.drain()
        assert not heard._changed.is_set()
    """
    in_own_network(LO, body)
