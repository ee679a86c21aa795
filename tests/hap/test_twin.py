"""A bridge that took over an identity notices a second one that has it, and no echo of either."""

import asyncio
import logging
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from zeroconf import DNSIncoming, DNSOutgoing, ServiceInfo  # type: ignore[attr-defined]

from hkswitch.hap import twin
from hkswitch.hap.twin import TwinWatch
from tests.support.mdns import HAP
from tests.support.waiting import eventually

ID = "CC:22:3D:E3:CE:30"
OURS, THEIRS = f"hkswitch E3CE30.{HAP}", f"Homebridge CAD8.{HAP}"
DEVICE, ROUTER = "10.0.0.7", "10.0.0.1"
RESPONSE, UNIQUE = 0x8400, 0x8001
SECONDS = 0.2


@pytest.fixture(autouse=True)
def a_minute_takes_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(twin, "ASK_AGAIN_SECONDS", 0.02)
    monkeypatch.setattr(twin, "ECHO_SECONDS", SECONDS)
    monkeypatch.setattr(twin, "GONE_SECONDS", SECONDS)


def announced(
    name: str = THEIRS, device_id: str = ID, address: str = DEVICE, ttl: int = 4500, service: str = HAP
) -> bytes:
    """The announcement of a bridge."""
    info = ServiceInfo(
        service,
        name.replace(HAP, service),
        port=51826,
        properties={"id": device_id, "c#": "2"},
        server="device.local.",
        parsed_addresses=[address or DEVICE],
    )
    out = DNSOutgoing(RESPONSE)
    addresses = info.dns_addresses() if address else []
    for record in (info.dns_pointer(), info.dns_service(), info.dns_text(), *addresses):
        record.ttl = ttl
        out.add_answer_at_time(record, 0)
    (packet,) = out.packets()
    return packet


class Watched:
    """A watch with the queries that it sent and the number of its changes."""

    def __init__(self) -> None:
        self.queries: list[DNSOutgoing] = []
        self.changes = 0
        self.watch = TwinWatch(ID, self._changed)
        self.watch.is_ours(OURS)
        self.task = asyncio.ensure_future(self.watch.watch(self.queries.append))

    def _changed(self) -> None:
        self.changes += 1


@pytest_asyncio.fixture
async def watched() -> AsyncIterator[Watched]:
    made = Watched()
    yield made
    made.task.cancel()
    await asyncio.gather(made.task, return_exceptions=True)


async def test_it_asks_once_for_all_bridges_and_not_again_without_a_reason(watched: Watched) -> None:
    await eventually(lambda: bool(watched.queries))
    await asyncio.sleep(5 * 0.02)
    (query,) = watched.queries
    (packet,) = query.packets()
    assert [(each.name, each.type) for each in DNSIncoming(packet).questions] == [(HAP, 12)]


async def test_a_second_bridge_is_told_at_once_and_with_the_remedy(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    watched.watch.read_packet(announced(), DEVICE)
    assert watched.watch.found == (
        "another bridge has the same identity ('Homebridge CAD8' at 10.0.0.7), and phones confuse the two; "
        "stop it in Homebridge, and prevent that it starts again"
    )
    assert (watched.changes, caplog.messages) == (1, [watched.watch.found])
    watched.watch.read_packet(announced(), DEVICE)
    assert watched.changes == 1


async def test_a_restored_bridge_names_another_remedy() -> None:
    watch = TwinWatch(ID, lambda: None, twin.STOP_HKSWITCH)
    watch.read_packet(announced(f"Homelab E3CE30 2.{HAP}"), DEVICE)
    assert watch.found == (
        "another bridge has the same identity ('Homelab E3CE30 2' at 10.0.0.7), and phones confuse the two; "
        "stop hkswitch on that machine, and prevent that it starts again"
    )


NOT_A_TWIN = {
    "ours": (announced(OURS), DEVICE),
    "ours in capitals": (announced(OURS.upper().replace(HAP.upper(), HAP)), DEVICE),
    "another id": (announced(device_id="CC:22:3D:E3:CE:31"), DEVICE),
    "another type of service": (announced(service="_http._tcp.local."), DEVICE),
    "a goodbye": (announced(ttl=0), DEVICE),
    "an echo from a router": (announced(), ROUTER),
    "an old echo, whose address is gone": (announced(address=""), DEVICE),
}


@pytest.mark.parametrize("what", NOT_A_TWIN)
async def test_what_is_no_second_bridge_is_not_told(watched: Watched, what: str) -> None:
    watched.watch.read_packet(*NOT_A_TWIN[what])
    assert (watched.watch.found, watched.changes) == ("", 0)


async def test_what_a_router_repeats_for_too_long_is_a_second_bridge(
    watched: Watched,
) -> None:
    async def repeated() -> None:
        while not watched.watch.found:
            watched.watch.read_packet(announced(), ROUTER)
            await asyncio.sleep(0.02)

    await asyncio.wait_for(repeated(), 20 * SECONDS)
    assert len(watched.queries) > 1


async def test_a_device_that_comes_and_goes_all_the_time_is_two_lines_a_minute(
    watched: Watched, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(twin, "ASK_AGAIN_SECONDS", 60)
    caplog.set_level(logging.INFO)
    for _ in range(100):
        watched.watch.read_packet(announced(), DEVICE)
        watched.watch.read_packet(announced(ttl=0), DEVICE)
    assert (watched.changes, len(caplog.messages)) == (2, 2)


async def test_a_second_bridge_that_says_goodbye_is_gone_at_once(watched: Watched) -> None:
    watched.watch.read_packet(announced(), DEVICE)
    watched.watch.read_packet(announced(ttl=0), DEVICE)
    assert (watched.watch.found, watched.changes) == ("", 2)


async def test_a_second_bridge_that_no_longer_answers_is_gone_after_some_queries(watched: Watched) -> None:
    watched.watch.read_packet(announced(), DEVICE)
    await eventually(lambda: not watched.watch.found)
    assert (watched.changes, len(watched.queries) > 2) == (2, True)
    await asyncio.sleep(0.02)
    watched.watch.read_packet(announced(), DEVICE)
    assert watched.changes == 3


async def test_names_that_it_had_itself_are_no_second_bridge_and_are_not_kept_for_ever(
    watched: Watched,
) -> None:
    for number in range(twin.MOST_OWN_NAMES):
        watched.watch.is_ours(f"hkswitch {number}.{HAP}")
    watched.watch.read_packet(announced(f"hkswitch 0.{HAP}"), DEVICE)
    assert not watched.watch.found
    watched.watch.read_packet(announced(OURS), DEVICE)
    assert watched.watch.found
