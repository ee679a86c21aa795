"""An idle bridge sends nothing, neither keepalives nor anything periodic, so it wakes no phone.

`--long` listens for two minutes.
"""

import re
import struct
import time
from collections.abc import Iterator
from typing import Final

import pytest

from tests.host.attacker import OWN_ADDRESS, Attacker, attached
from tests.host.conftest import PORT
from tests.host.machine import Host, eventually, eventually_async
from tests.host.packet_capture import Capture, ask, captured
from tests.support.controller import Controller

HAP: Final = "_hap._tcp.local."
ANNOUNCED_SECONDS: Final = 4
"""The time for the announcements after a start or a pairing."""

IDLE_SECONDS: Final = (5, 120)
TCP: Final = 6


@pytest.fixture(scope="module")
def device(daemon: Host) -> Iterator[Attacker]:
    with attached(daemon) as running:
        yield running


@pytest.fixture(scope="module")
def in_network(device: Attacker) -> Iterator[None]:
    """Puts the controller at the other end of the host's network, like a phone."""
    with device.network.network():
        yield


@pytest.fixture
def capture(daemon: Host) -> Iterator[Capture]:
    with captured(daemon, "lan0") as capture:
        yield capture


async def test_an_idle_bridge_sends_nothing(
    request: pytest.FixtureRequest, daemon: Host, controller: Controller, capture: Capture
) -> None:
    assert await controller.read("Web Server") is False
    await eventually_async(lambda: sent(capture))
    time.sleep(ANNOUNCED_SECONDS)  # noqa: ASYNC251 -- the controller is idle too
    sent(capture)
    time.sleep(IDLE_SECONDS[request.config.getoption("--long")])  # noqa: ASYNC251
    assert sent(capture) == []
    ask(HAP, by=OWN_ADDRESS)
    eventually(lambda: sent(capture))  # proves that the capture works
    assert await controller.read("Web Server") is False
    assert any(protocol == TCP for protocol, *_ in sent(capture))


async def test_no_session_has_a_timer_that_would_wake_a_phone(daemon: Host, controller: Controller) -> None:
    assert await controller.read("Web Server") is False
    shown = daemon.run("ss", "--numeric", "--options", "state", "established", f"sport = :{PORT}").stdout
    sessions = [line for line in shown.splitlines() if f":{PORT}" in line]
    assert sessions
    assert not [line for line in sessions if re.search(r"timer:\((keepalive|persist)", line)]


def sent(capture: Capture) -> list[tuple[int, int]]:
    """Return protocol and destination port of the IPv4 packets that the host sent since the last call."""
    return [
        (frame[23], _port(frame)) for frame, sent in capture.frames() if sent and frame[12:14] == b"\x08\x00"
    ]


def _port(frame: bytes) -> int:
    start = 14 + (frame[14] & 0x0F) * 4 + 2
    return int(struct.unpack("!H", frame[start : start + 2])[0])
