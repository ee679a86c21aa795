"""The bridge and a phone on two hosts, connected by two networks, of which the bridge serves one."""

import itertools
import json
import re
import socket
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypedDict, cast

import pytest
import pytest_asyncio
from aiohomekit.characteristic_cache import CharacteristicCacheMemory
from aiohomekit.controller.ip.controller import IpController
from aiohomekit.controller.ip.discovery import IpDiscovery
from aiohomekit.model.status_flags import StatusFlags
from zeroconf import ServiceStateChange, Zeroconf
from zeroconf.asyncio import AsyncServiceBrowser, AsyncZeroconf

from tests.host.conftest import PORT, processes
from tests.host.installation import empty_state
from tests.host.machine import Boot, Host, connected, eventually, eventually_async
from tests.host.packet_capture import MDNS_GROUP, Capture, Packet, ask, captured
from tests.support.controller import Controller

if TYPE_CHECKING:
    from aiohomekit.controller.ip.pairing import IpPairing

DAEMON: Final = "hkswitch.service"
AVAHI: Final = ("avahi-daemon.socket", "avahi-daemon.service")
UNIT: Final = "httpd.service"
SWITCH: Final = "Web Server"
HAP: Final = "_hap._tcp.local."
ANNOUNCEMENTS: Final = 3
"""The number of announcements when the bridge starts."""
NOT_PAIRED: Final = StatusFlags.UNPAIRED
PAIRED: Final = StatusFlags(0)

AVAHI_CONFIG: Final = "/etc/avahi/avahi-daemon.conf"
ALONE_ON_THE_PORT: Final = re.compile(
    r"[Rr]etrying: cannot announce the bridge on .*avahi.* does not share port 5353/udp; "
    "set `disallow-other-stacks=no`"
)

CHOSEN, OTHER = "lan0", "lan1"
ADDRESS: Final = "10.77.0.1"
NEW_ADDRESS: Final = "10.77.0.9"
PHONE: Final = "10.77.0.2"
ADDRESS_6, PHONE_6 = "fd77::1", "fd77::2"
OTHER_ADDRESS: Final = "10.78.0.1"
OTHER_PHONE: Final = "10.78.0.2"
WIRES: Final = {CHOSEN: (ADDRESS, PHONE), OTHER: (OTHER_ADDRESS, OTHER_PHONE)}

CONFIG: Final = f"""\
bridge:
  interface: {CHOSEN}
groups:
  web:
    name: {SWITCH}
    units: [httpd]
"""


class QueryMode(TypedDict, total=False):
    """A kind of mDNS query; the default is that of a continuous browser."""

    from_port: int
    unicast_answer: bool


QUERY_MODES: Final[dict[str, QueryMode]] = {
    "for all to hear": {},
    "for a unicast answer": {"unicast_answer": True},
    "as an old resolver": {"from_port": 0},  # any
}


ALONE: Final = pytest.mark.parametrize("avahi", [False], indirect=True, ids=["alone"])
"""For tests that do not depend on Avahi."""


# Hosts


@pytest.fixture(scope="module")
def phone(host: Host, boot: Boot) -> Iterator[Host]:
    """The other host, without hkswitch, connected to the bridge's host."""
    with boot(host.release) as phone, connected(host, phone, WIRES):
        yield phone


@pytest.fixture(scope="module", params=[False, True], ids=["alone", "beside-avahi"])
def avahi(request: pytest.FixtureRequest, host: Host, phone: Host) -> Iterator[bool]:
    """Whether Avahi, which uses the same port, already runs on both hosts when the bridge starts."""
    if not request.param:
        yield False
        return
    with running_avahi(host, phone):
        yield True


@contextmanager
def running_avahi(*hosts: Host) -> Iterator[None]:
    """Run Avahi, and stop it afterwards unless it ran before."""
    started = [host for host in hosts if host.show(AVAHI[1], "ActiveState") != "active"]
    for host in started:
        host.run("systemctl", "start", *AVAHI)
    try:
        yield
    finally:
        for host in started:
            host.run("systemctl", "stop", *AVAHI)


@dataclass(frozen=True, slots=True)
class Wires:
    """Captures of both networks on the bridge's host, started before the bridge."""

    chosen: Capture
    other: Capture


@pytest.fixture(scope="module")
def wires(host: Host, avahi: bool) -> Iterator[Wires]:
    with captured(host, CHOSEN) as chosen, captured(host, OTHER) as other:
        yield Wires(chosen, other)


@pytest.fixture(scope="module")
def daemon(host: Host, stub_unit_files: tuple[str, ...], wires: Wires) -> Iterator[Host]:
    """The host with the daemon running, which serves one of its networks."""
    before = host.read("/etc/hkswitch/config.yaml")
    host.write("/etc/hkswitch/config.yaml", CONFIG)
    started = host.run("systemctl", "start", DAEMON, check=False)
    assert started.returncode == 0, host.journal(DAEMON)
    yield host
    host.run("systemctl", "stop", DAEMON)
    host.write("/etc/hkswitch/config.yaml", before)
    empty_state(host)
    assert not processes(host)


@pytest.fixture
def server(daemon: Host) -> Iterator[Host]:
    """The bridge's host, unpaired."""
    yield daemon
    if shown(daemon)["paired"]:
        forget_pairings(daemon)


@pytest.fixture
def settled(server: Host, wires: Wires) -> Host:
    """The bridge's host, once all announcements are sent; request it before `search`, which causes more."""
    with stopped(server):
        before = len(wires.chosen.sent_mdns())
    eventually(lambda: sum(map(names_the_bridge, wires.chosen.sent_mdns()[before:])) == ANNOUNCEMENTS)
    return server


def shown(host: Host) -> dict[str, Any]:
    """Return what `hkswitch pair` shows."""
    return dict(json.loads(host.run("hkswitch", "pair", "--json").stdout))


def forget_pairings(host: Host) -> None:
    """Reset the bridge, even if the controller could not unpair."""
    host.run("systemctl", "stop", DAEMON)
    empty_state(host)
    host.run("systemctl", "start", DAEMON)


@pytest.fixture
def movable(server: Host) -> Iterator[Host]:
    """The bridge's host, whose served interface the test may change."""
    yield server
    host_run_lines(
        server,
        f"ip address flush dev {CHOSEN} scope global",
        f"ip address add {ADDRESS}/24 dev {CHOSEN}",
        f"ip link set {CHOSEN} up",
    )
    server.run("systemctl", "stop", DAEMON)
    server.run("systemctl", "reset-failed", DAEMON, check=False)  # if it has failed
    server.run("systemctl", "start", DAEMON)


def host_run_lines(host: Host, *lines: str) -> None:
    host.run("sh", "-ec", "\n".join(lines))


# The phone


@dataclass(frozen=True, slots=True)
class Search:
    """A phone's continuous search for bridges in all its networks."""

    controller: IpController
    changes: list[tuple[ServiceStateChange, str]]

    async def bridge(self) -> IpDiscovery:
        """Wait for the only bridge to be found."""
        return await eventually_async(self.found)

    def found(self) -> IpDiscovery | None:
        """Return the only bridge, as currently known."""
        found = list(self.controller.discoveries.values())
        assert len(found) < 2, found
        return found[0] if found else None

    async def until_last_change_is(self, change: ServiceStateChange) -> None:
        """Wait until the bridge was added or removed."""
        await eventually_async(lambda: bool(self.changes) and self.changes[-1][0] is change)


@pytest.fixture(scope="module")
def on_phone(phone: Host) -> Iterator[None]:
    """Puts the tests and their sockets into the phone's network."""
    with phone.network():
        yield


@asynccontextmanager
async def searching() -> AsyncIterator[Search]:
    """A phone that has just started."""
    changes: list[tuple[ServiceStateChange, str]] = []

    def note(zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange) -> None:
        changes.append((state_change, name))

    async with AsyncZeroconf(interfaces=[PHONE, OTHER_PHONE]) as zeroconf:
        browser = AsyncServiceBrowser(zeroconf.zeroconf, HAP, handlers=[note])
        controller = IpController(CharacteristicCacheMemory(), zeroconf)
        await controller.async_start()  # type: ignore[no-untyped-call] # so in aiohomekit
        yield Search(controller, changes)
        await controller.async_stop()  # type: ignore[no-untyped-call] # so in aiohomekit
        await browser.async_cancel()


@pytest_asyncio.fixture(loop_scope="module")
async def search(on_phone: None, server: Host) -> AsyncIterator[Search]:
    async with searching() as search:
        yield search


@asynccontextmanager
async def paired(search: Search, server: Host) -> AsyncIterator[Controller]:
    """Pair with the bridge that is found, using the code that is shown."""
    found = await search.bridge()
    finish = await found.async_start_pairing("test")
    first = cast("IpPairing", await finish(shown(server)["setup_code"]))
    controller = known_to(search, first.pairing_data)
    try:
        await controller.look()
        yield controller
    finally:
        await controller.close()


def known_to(search: Search, pairing_data: Mapping[str, Any]) -> Controller:
    """A paired controller, which follows the bridge's address by the search."""
    pairing = search.controller.load_pairing("test", cast("Any", dict(pairing_data)))
    assert pairing is not None
    return Controller(pairing)


# Finding, pairing and switching


async def test_a_phone_finds_the_bridge_pairs_and_switches(
    server: Host, stub_units: tuple[str, ...], search: Search
) -> None:
    async with paired(search, server) as controller:
        assert await controller.write(SWITCH, on=True) == 0
        await eventually_async(lambda: server.show(UNIT, "ActiveState") == "active")
        assert await controller.write(SWITCH, on=False) == 0
        await eventually_async(lambda: server.show(UNIT, "ActiveState") == "inactive")


@ALONE
async def test_the_flags_say_whether_it_is_paired_and_the_code_stays(server: Host, search: Search) -> None:
    code = shown(server)["setup_code"]
    await until_seen_with(NOT_PAIRED)
    async with paired(search, server) as controller:
        await until_seen_with(PAIRED)
        await controller.unpair()
    await until_seen_with(NOT_PAIRED)
    assert shown(server)["setup_code"] == code
    async with paired(search, server) as controller:
        await until_seen_with(PAIRED)
        assert await controller.read(SWITCH) is False


async def until_seen_with(flags: StatusFlags) -> None:
    """Wait until a new phone sees these status flags (sf); an older one may miss a change back."""
    async with searching() as other:
        await eventually_async(lambda: (found := other.found()) and found.description.status_flags == flags)


@ALONE
async def test_it_is_gone_for_the_phone_once_it_is_stopped(settled: Host, search: Search) -> None:
    await search.until_last_change_is(ServiceStateChange.Added)
    with stopped(settled):
        await search.until_last_change_is(ServiceStateChange.Removed)
    await search.until_last_change_is(ServiceStateChange.Added)


@ALONE
def test_nothing_is_announced_after_the_goodbye_even_right_after_the_start(
    server: Host, wires: Wires
) -> None:
    with stopped(server):
        before = len(wires.chosen.sent_mdns())
    with stopped(server):
        sent = [packet for packet in wires.chosen.sent_mdns()[before:] if names_the_bridge(packet)]
    # It may only have probed, so there is nothing that a goodbye could withdraw.
    said = [packet for packet in sent if packet.message.is_response()]
    told = " ".join("goodbye" if packet.is_goodbye else "hello" for packet in said)
    assert re.fullmatch("((hello ?)+(goodbye ?)+)?", told)


@contextmanager
def stopped(host: Host) -> Iterator[None]:
    """Stop the daemon, and start it again afterwards."""
    host.run("systemctl", "stop", DAEMON)
    try:
        yield
    finally:
        host.run("systemctl", "start", DAEMON)


# Avahi


def test_avahi_and_the_bridge_are_both_found(server: Host, phone: Host) -> None:
    with running_avahi(server, phone):
        eventually(lambda: browsed(phone) == {(CHOSEN, ADDRESS, str(PORT))})
        resolved = phone.run("avahi-resolve", "-4", "--name", f"{server.name}.local").stdout.split()
        assert resolved[0] == f"{server.name}.local"
        assert resolved[1] in {ADDRESS, OTHER_ADDRESS}


@ALONE
def test_an_avahi_that_does_not_share_its_port_is_named_and_the_remedy_helps(
    server: Host, phone: Host
) -> None:
    before = server.read(AVAHI_CONFIG)
    server.run("sed", "-i", "s/.*disallow-other-stacks=.*/disallow-other-stacks=yes/", AVAHI_CONFIG)
    try:
        with stopped(server):
            server.run("systemctl", "start", *AVAHI)
        eventually(lambda: ALONE_ON_THE_PORT.search(server.journal(DAEMON)))
        bridge = json.loads(server.run("hkswitch", "status", "--json").stdout)["bridge"]
        assert (bridge["addresses"], bool(ALONE_ON_THE_PORT.search(bridge["network"]))) == ([], True)
        found = json.loads(server.run("hkswitch", "doctor", "--json", check=False).stdout)["checks"]
        [mdns] = (check for check in found if check["check"] == "mdns")
        assert re.fullmatch(r"process \d+ \(avahi-daemon\) does not share port 5353/udp", mdns["finding"])
        [setting, restart] = re.findall(r"`([^`]+)`", mdns["advice"])
        server.write(AVAHI_CONFIG, re.sub(r"(?m)^.*disallow-other-stacks=.*$", setting, before))
        server.run(*restart.split()[1:])  # without sudo
        with running_avahi(phone):
            eventually(lambda: browsed(phone) == {(CHOSEN, ADDRESS, str(PORT))})
    finally:
        server.write(AVAHI_CONFIG, before)
        server.run("systemctl", "stop", *AVAHI)


def browsed(phone: Host) -> set[tuple[str, str, str]]:
    """Return interface, address and port of each bridge that Avahi on the phone has found."""
    lines = phone.run(
        "avahi-browse", "--resolve", "--parsable", "--terminate", "_hap._tcp"
    ).stdout.splitlines()
    resolved = (line.split(";") for line in lines if line.startswith("="))
    return {(fields[1], fields[7], fields[8]) for fields in resolved}


# Only one of two networks


async def test_only_the_address_of_the_chosen_interface_is_advertised(
    server: Host, search: Search, wires: Wires
) -> None:
    description = (await search.bridge()).description
    assert (description.addresses, description.port) == ([ADDRESS], PORT)
    advertised = advertisement(wires.chosen.sent_mdns(), f"{description.name}.{HAP}")
    assert advertised == ({PORT}, {ADDRESS})


def advertisement(packets: tuple[Packet, ...], name: str) -> tuple[set[int], set[str]]:
    """Return the ports, and IPv4 and IPv6 addresses, that packets give for a service."""
    targets = {target for packet in packets for target in packet.targets(name)}
    found = {address for packet in packets for server, _ in targets for address in packet.addresses(server)}
    return {port for _, port in targets}, found


def test_nothing_about_the_bridge_is_sent_on_the_other_interface(
    on_phone: None, server: Host, wires: Wires, avahi: bool
) -> None:
    before = len(wires.other.sent())
    server.run("systemctl", "restart", DAEMON)
    for to, mode in itertools.product((MDNS_GROUP, OTHER_ADDRESS), QUERY_MODES):
        ask(HAP, by=OTHER_PHONE, to=to, **QUERY_MODES[mode])
    until_answered(wires.chosen)
    sent = wires.other.sent_mdns()
    assert [
        (packet.destination, packet.destination_port) for packet in sent if names_the_bridge(packet)
    ] == []
    assert avahi or wires.other.sent()[before:] == ()


def test_every_kind_of_query_is_answered_on_the_chosen_interface(
    on_phone: None, server: Host, wires: Wires
) -> None:
    for to, mode in itertools.product((MDNS_GROUP, ADDRESS), QUERY_MODES):
        until_answered(wires.chosen, to, mode)


def until_answered(wire: Capture, to: str = MDNS_GROUP, mode: str = "for all to hear") -> None:
    """Query in the served network, and wait for the response: earlier queries have been handled then."""
    before = len(wire.sent_mdns())
    ask(HAP, by=PHONE, to=to, **QUERY_MODES[mode])
    eventually(lambda: any(map(names_the_bridge, wire.sent_mdns()[before:])))


def names_the_bridge(packet: Packet) -> bool:
    return packet.mentions("_hap._tcp") or packet.mentions("hkswitch")


def test_the_other_interface_accepts_no_connection(on_phone: None, server: Host) -> None:
    socket.create_connection((ADDRESS, PORT), timeout=2).close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((OTHER_ADDRESS, PORT), timeout=2)


# Networks that change


@ALONE
async def test_a_new_address_is_advertised_and_served_without_a_restart(
    movable: Host, search: Search, wires: Wires
) -> None:
    async with paired(search, movable) as controller:
        process = movable.show(DAEMON, "MainPID")
        host_run_lines(
            movable,
            f"ip address delete {ADDRESS}/24 dev {CHOSEN}",
            f"ip address add {NEW_ADDRESS}/24 dev {CHOSEN}",
        )
        await eventually_async(lambda: NEW_ADDRESS in addresses(search))
        # Like a phone that wakes up: it would take long to notice that its old connections are dead.
        async with searching() as fresh:
            await fresh.bridge()
            assert addresses(fresh) == [NEW_ADDRESS]
            again = known_to(fresh, controller.pairing.pairing_data)
            await again.look()
            assert again.pairing.connection.connected_host == NEW_ADDRESS
            assert await again.read(SWITCH) is False
            await again.close()
        assert movable.show(DAEMON, "MainPID") == process
    before = len(wires.chosen.sent_mdns())
    until_answered(wires.chosen)
    advertised = advertisement(wires.chosen.sent_mdns()[before:], search.changes[-1][1])
    assert advertised == ({PORT}, {NEW_ADDRESS})


@ALONE
async def test_ipv6_is_advertised_and_served_beside_ipv4(
    movable: Host, phone: Host, search: Search, wires: Wires
) -> None:
    async with paired(search, movable) as controller:
        host_run_lines(phone, f"ip address add {PHONE_6}/64 dev {CHOSEN} nodad")
        host_run_lines(movable, f"ip address add {ADDRESS_6}/64 dev {CHOSEN} nodad")
        eventually(lambda: ADDRESS_6 in movable.show(DAEMON, "StatusText"))
        async with searching() as fresh:
            await fresh.bridge()
            await eventually_async(lambda: set(addresses(fresh)) == {ADDRESS, ADDRESS_6})
        assert await controller.read(SWITCH) is False  # on the old connection
    socket.create_connection((ADDRESS_6, PORT), timeout=2).close()
    assert not any(map(names_the_bridge, wires.other.sent_mdns()))
    host_run_lines(phone, f"ip address delete {PHONE_6}/64 dev {CHOSEN}")


def addresses(search: Search) -> list[str]:
    found = search.found()
    return [] if found is None else found.description.addresses


AWAY: Final = {
    "down": (f"ip link set {CHOSEN} down", f"ip link set {CHOSEN} up"),
    "without an address": (
        f"ip address delete {ADDRESS}/24 dev {CHOSEN}",
        f"ip address add {ADDRESS}/24 dev {CHOSEN}",
    ),
}
"""Reasons why an interface is not ready yet, and commands that make it ready."""


@ALONE
@pytest.mark.parametrize("away", AWAY)
async def test_an_interface_that_comes_late_is_waited_for(movable: Host, on_phone: None, away: str) -> None:
    movable.run("systemctl", "stop", DAEMON)
    goes, comes = AWAY[away]
    host_run_lines(movable, goes)
    started = movable.run("systemctl", "start", DAEMON, check=False)
    assert started.returncode == 0, movable.journal(DAEMON)
    eventually(lambda: CHOSEN in movable.show(DAEMON, "StatusText"))
    host_run_lines(movable, comes)
    async with searching() as search:
        assert (await search.bridge()).description.addresses == [ADDRESS]
    assert movable.show(DAEMON, "NRestarts") == "0"
