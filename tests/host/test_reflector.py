"""Avahi as an mDNS reflector between two networks, which must not make the bridge change its name."""

from collections.abc import Iterable, Iterator
from ipaddress import ip_address
from itertools import dropwhile, takewhile
from typing import Final

import pytest
from zeroconf import DNSAddress  # type: ignore[attr-defined] # it is not in its __all__

from tests.host.conftest import processes
from tests.host.installation import empty_state
from tests.host.machine import Boot, Host, connected, eventually
from tests.host.packet_capture import Packet, captured
from tests.host.test_two_hosts import (
    ADDRESS,
    CHOSEN,
    DAEMON,
    NEW_ADDRESS,
    OTHER,
    OTHER_PHONE,
    PHONE,
    WIRES,
    host_run_lines,
    running_avahi,
)

pytestmark = pytest.mark.any_release

CONFIG: Final = f"""\
bridge:
  interface: [{CHOSEN}, {OTHER}]
groups:
  web:
    name: Web Server
    units: [httpd]
"""
AVAHI_CONFIG: Final = "/etc/avahi/avahi-daemon.conf"
ROUTER, OTHER_ROUTER = PHONE, OTHER_PHONE
NUMBERED: Final = "another device"
"""The start of the log line of a bridge that changes its name."""


@pytest.fixture(scope="module")
def router(host: Host, boot: Boot) -> Iterator[Host]:
    """The other host, a reflector that is in both networks."""
    with boot(host.release) as router, connected(host, router, WIRES):
        router.run("sed", "-i", "s/.*enable-reflector=.*/enable-reflector=yes/", AVAHI_CONFIG)
        with running_avahi(router):
            yield router


@pytest.fixture
def daemon(host: Host, router: Host, stub_unit_files: tuple[str, ...]) -> Iterator[Host]:
    """The host with the daemon, which serves both networks."""
    before = host.read("/etc/hkswitch/config.yaml")
    host.write("/etc/hkswitch/config.yaml", CONFIG)
    host.run("systemctl", "start", DAEMON)
    yield host
    host.run("systemctl", "stop", DAEMON)
    host.write("/etc/hkswitch/config.yaml", before)
    host_run_lines(
        host,
        f"ip address flush dev {CHOSEN} scope global",
        f"ip address add {ADDRESS}/24 dev {CHOSEN}",
    )
    empty_state(host)
    assert not processes(host)


def says(packets: Iterable[Packet], sender: str, address: str) -> bool:
    """Return whether a host has announced this address for the bridge's host by mDNS."""
    return any(
        isinstance(record, DNSAddress) and str(ip_address(record.address)) == address and record.ttl
        for packet in packets
        if packet.is_mdns and packet.source == sender and not packet.message.is_query()
        for record in packet.message.answers()
        if record.name.startswith("hkswitch-")
    )


def test_the_bridge_keeps_its_name_although_a_router_repeats_an_old_address(daemon: Host) -> None:
    with captured(daemon, CHOSEN) as wire, captured(daemon, OTHER) as other:
        # The router repeats the address of one network in the other.
        eventually(lambda: says(wire.packets(), ADDRESS, ADDRESS))
        eventually(lambda: says(other.packets(), OTHER_ROUTER, ADDRESS))
    with captured(daemon, CHOSEN) as wire:
        host_run_lines(
            daemon,
            f"ip address delete {ADDRESS}/24 dev {CHOSEN}",
            f"ip address add {NEW_ADDRESS}/24 dev {CHOSEN}",
        )
        eventually(lambda: says(wire.packets(), NEW_ADDRESS, NEW_ADDRESS))
        since = dropwhile(lambda packet: packet.source != NEW_ADDRESS, wire.packets())
        answered = list(takewhile(lambda packet: not says([packet], NEW_ADDRESS, NEW_ADDRESS), since))
        assert says(answered, ROUTER, ADDRESS), "the router has repeated nothing, so this proves nothing"
    assert NUMBERED not in daemon.journal(DAEMON)
