"""Who has a port at an address: on the sockets of this machine."""

import os
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from hkswitch.daemon.bridge import Bridge, CannotServe
from hkswitch.daemon.location import Location
from hkswitch.model.config import BridgeConfig
from hkswitch.network import mdns_port
from hkswitch.network.endpoint import Endpoint
from hkswitch.network.listeners import holder, udp_holders
from tests.support.inprocess import EchoingWrites
from tests.support.ports import free_port

US = f"process {os.getpid()} ({Path('/proc/self/comm').read_text().strip()})"


@pytest.fixture
def port() -> int:
    return free_port()


def listening(address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return socket.create_server((address, port), family=family)


@pytest.mark.parametrize(
    ("bound", "asked", "is_there"),
    [
        ("127.0.0.2", ("127.0.0.2",), True),
        ("127.0.0.2", ("127.0.0.1", "127.0.0.2"), True),
        ("127.0.0.2", (), True),
        ("0.0.0.0", ("127.0.0.2",), True),
        ("::", ("127.0.0.2",), True),
        ("::", ("fe80::1%lo",), True),
        ("::1", ("::1",), True),
        ("127.0.0.2", ("127.0.0.1",), False),
        ("127.0.0.2", ("::1",), False),
        ("0.0.0.0", ("::1",), False),
        ("::1", ("127.0.0.1", "fe80::1%lo"), False),
    ],
)
def test_a_listener_is_in_the_way_at_its_own_addresses_only(
    port: int, bound: str, asked: tuple[str, ...], *, is_there: bool
) -> None:
    with listening(bound, port):
        assert holder(port, asked) == (US if is_there else "")
    assert holder(port, asked) == ""


@pytest.mark.parametrize(("family", "bound"), [(socket.AF_INET, "127.0.0.2"), (socket.AF_INET6, "::1")])
def test_a_program_that_has_a_udp_port_is_named_and_no_one_that_only_sends(
    family: socket.AddressFamily, bound: str
) -> None:
    with socket.socket(family, socket.SOCK_DGRAM) as held, socket.socket(family, socket.SOCK_DGRAM) as sender:
        held.bind((bound, 0))
        port = held.getsockname()[1]
        assert udp_holders(port) == (US,)
        assert holder(port) == ""
        sender.connect((bound, port))
        assert udp_holders(sender.getsockname()[1]) == ()
    assert udp_holders(port) == ()


RESPONDER = "process 7 (responder)"
AVAHI = "process 9 (avahi-daemon)"


@pytest.mark.parametrize(
    ("holders", "named", "remedy"),
    [
        (
            (AVAHI,),
            AVAHI,
            "set `disallow-other-stacks=no` in /etc/avahi/avahi-daemon.conf, and run",
        ),
        (("a program of user avahi",), "a program of user avahi", "`sudo systemctl restart avahi-daemon`"),
        (("process 3 (chrome)", AVAHI), AVAHI, "`sudo systemctl restart avahi-daemon`"),
        ((RESPONDER,), RESPONDER, "stop it, or have it share the port"),
        (
            ("process 3 (chrome)", RESPONDER),
            f"one of process 3 (chrome), {RESPONDER}",
            "stop it, or have it share the port",
        ),
        ((), "another program", "stop it, or have it share the port"),
    ],
)
def test_the_remedy_for_a_port_of_mdns_that_is_not_shared(
    monkeypatch: pytest.MonkeyPatch, holders: tuple[str, ...], named: str, remedy: str
) -> None:
    monkeypatch.setattr(mdns_port, "udp_holders", lambda _: holders)
    what, advice = mdns_port.taken_by()
    assert what == f"{named} does not share port 5353/udp"
    assert remedy in advice


@pytest.fixture
def taken(port: int) -> Iterator[socket.socket]:
    with closing(listening("127.0.0.2", port)) as made:
        yield made


@pytest.mark.parametrize("before", ["127.0.0.1", "127.0.0.3", None])
async def test_of_two_addresses_the_taken_one_is_named_with_the_program_that_has_it(
    tmp_path: Path, port: int, taken: socket.socket, before: str | None
) -> None:
    places = [Endpoint((before,), frozenset({1}))] if before else []
    places.append(Endpoint(("127.0.0.1", "127.0.0.2"), frozenset({1})))
    bridge = Bridge("Test", (), tmp_path, port)
    said: list[str] = []
    location = Location(
        bridge,
        EchoingWrites(bridge),
        lambda config, at: places[0],  # noqa: ARG005 -- as `Find` names them
        lambda: said.append(location.waits_for),
        BridgeConfig(name="Test"),
    )
    try:
        while len(places) > 1:
            await location.settle()
            assert said == [""]
            places.pop(0)
        await location.settle()
        why = f"retrying: cannot serve HomeKit on 127.0.0.2, port {port}: {US} uses it"
        assert location.waits_for == why
        assert (location.endpoint is not None) == (before == "127.0.0.1")
        taken.close()
        await location.settle()
        assert location.endpoint == places[0]
    finally:
        await bridge.stop()


@pytest.mark.parametrize(
    ("bad", "named"),
    [
        (("127.0.0.2",), "127.0.0.2"),
        (("127.0.0.1", "127.0.0.3"), "127.0.0.1, 127.0.0.3"),
        (("192.0.2.1",), "192.0.2.1"),
    ],
)
async def test_only_the_addresses_that_cannot_be_served_on_are_named(
    tmp_path: Path, port: int, bad: tuple[str, ...], named: str
) -> None:
    sockets = [listening(address, port) for address in bad if address.startswith("127.")]
    bridge = Bridge("Test", (), tmp_path, port)
    place = Endpoint(("127.0.0.1", "127.0.0.2", "127.0.0.3", *(bad if not sockets else ())), frozenset({1}))
    try:
        with pytest.raises(CannotServe, match=rf"^cannot serve HomeKit on {named}, port {port}: ") as caught:
            await bridge.start(EchoingWrites(bridge), place)
        assert caught.value.in_use == bool(sockets)
        for made in sockets:
            made.close()
        if sockets:
            await bridge.start(EchoingWrites(bridge), place)
    finally:
        await bridge.stop()
