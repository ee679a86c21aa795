"""mDNS: other devices' packets are neither kept nor logged at length, and the bridge probes for names."""

import asyncio
import random
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from itertools import pairwise

import pytest
import pytest_asyncio
from zeroconf import DNSService  # type: ignore[attr-defined] # as in responder.py

from hkswitch.hap import advertiser
from hkswitch.hap.advertiser import MOST_NAMES, Advertiser
from tests.support.mdns import (
    HAP,
    HOST,
    NAME,
    OTHER,
    QUERY,
    RESPONSE,
    SRV_IN,
    TXT_IN,
    Said,
    advertising,
    hear,
    info,
    labels,
    message,
    overheard,
    record,
    srv,
)
from tests.support.ports import LOOPBACK
from tests.support.waiting import eventually


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """In less time than the RFC wants; see the test of what it wants."""
    monkeypatch.setattr(advertiser, "PROBE_SECONDS", 0.02)
    monkeypatch.setattr(advertiser, "ANNOUNCED_AFTER_SECONDS", (0.0, 0.05, 0.05))


@pytest_asyncio.fixture
async def ours() -> AsyncIterator[Advertiser]:
    async with advertising(*LOOPBACK.addresses) as made:
        yield made


@pytest.fixture
def said(ours: Advertiser, monkeypatch: pytest.MonkeyPatch) -> Said:
    """Record what it sends, and send nothing."""
    return overheard(ours, monkeypatch)


UNWRITABLE = b"\x3f" + b"\xfe" * 63 + labels("local")
TXT = record("other.local.", TXT_IN, bytes(8_800))


def unwritable() -> bytes:
    """A query of an old resolver, whose answer would have the question in it; zeroconf raises at that."""
    return message(QUERY, questions=2) + labels(HAP) + b"\0\x0c\0\1" + UNWRITABLE + b"\0\x0c\0\1"


PACKETS: dict[str, Callable[[], bytes]] = {
    "nothing": lambda: b"",
    "half a header": lambda: b"\0\0\x84\0\0",
    "random": lambda: random.randbytes(300),
    "a header and random questions": lambda: message(QUERY, questions=5) + random.randbytes(300),
    "a header and random answers": lambda: message(RESPONSE, answers=5) + random.randbytes(300),
    "a large record": lambda: message(RESPONSE, answers=1) + TXT,
    "a query with a large answer": lambda: (
        message(QUERY, questions=1, answers=1) + labels(HAP) + b"\0\x0c\0\1" + TXT
    ),
    "a query that goes on": lambda: message(0x0200, questions=1) + labels(HAP) + b"\0\x0c\0\1",
    "a loop of names": lambda: message(QUERY, questions=1) + b"\xc0\x0c\0\x0c\0\1",
    "a name that cannot be written": unwritable,
}


@pytest.mark.parametrize("sender", [OTHER, "127.0.0.1"], ids=["from elsewhere", "from this machine"])
@pytest.mark.parametrize("packet", PACKETS)
async def test_no_packet_is_kept_and_none_makes_more_than_a_line(
    ours: Advertiser, said: Said, caplog: pytest.LogCaptureFixture, packet: str, sender: str
) -> None:
    await announced(ours, said)
    before = sum(map(len, ours.zeroconf.cache.cache.values()))
    for _ in range(200):
        hear(ours, PACKETS[packet](), sender, 40_000)
    assert sum(map(len, ours.zeroconf.cache.cache.values())) == before
    assert not ours.zeroconf.question_history._history
    listener = ours.zeroconf.engine.protocols[0]
    assert (listener._deferred, listener._timers) == ({}, {})
    lines = [line for line in caplog.messages if "dropped an mDNS packet" in line]
    assert len(lines) <= 1
    assert not any("\n" in line or len(line) > 200 for line in lines)
    assert not any(each.exc_info for each in caplog.records)


async def announced(ours: Advertiser, said: Said) -> None:
    await ours.async_register_service(info(), cooperating_responders=True)
    await eventually(lambda: len(said.announcements) == 3)


async def test_each_sender_of_packets_that_cannot_be_taken_is_a_line(
    ours: Advertiser, said: Said, caplog: pytest.LogCaptureFixture
) -> None:
    await announced(ours, said)
    for sender in ("10.0.0.8", OTHER) * 3:
        hear(ours, unwritable(), sender, 40_000)
    senders = [line.partition(":")[0] for line in caplog.messages if "dropped an mDNS packet" in line]
    assert senders == ["10.0.0.8", OTHER]


async def test_the_query_that_zeroconf_cannot_take_is_still_one(ours: Advertiser, said: Said) -> None:
    """If this fails, zeroconf does not raise there any more: look for another such packet for these tests."""
    await announced(ours, said)
    with pytest.raises(Exception, match="label exceeds"):
        ours.zeroconf.engine.protocols[0].datagram_received(unwritable(), (OTHER, 40_000))


@pytest.mark.parametrize("sender", ["127.0.0.1", "::ffff:127.0.0.1"])
async def test_our_own_records_are_remembered_and_so_not_repeated_within_a_second(
    ours: Advertiser, said: Said, sender: str
) -> None:
    await announced(ours, said)
    hear(ours, own_answer(), sender)
    assert {name for name in ours.zeroconf.cache.cache if NAME.lower() in name}
    hear(ours, message(QUERY, questions=1) + labels(f"{NAME}.{HAP}") + struct.pack("!HH", *SRV_IN))
    assert len(said.announcements) == 3


def own_answer() -> bytes:
    return message(RESPONSE, answers=1) + srv(f"{NAME}.{HAP}", f"{HOST}.local.")


# Probing and announcing


def test_probes_and_announcements_are_as_far_apart_as_rfc_6762_wants(request: pytest.FixtureRequest) -> None:
    request.getfixturevalue("monkeypatch").undo()
    assert (advertiser.PROBES, advertiser.PROBE_SECONDS) == (3, 0.25)  # 8.1
    first, *others = advertiser.ANNOUNCED_AFTER_SECONDS
    assert first == 0
    assert len(others) >= 1  # 8.3
    assert min(others) >= 1
    assert all(later <= 2 * earlier for earlier, later in pairwise(others))


async def test_names_are_probed_for_before_they_are_announced_and_answered_for(
    ours: Advertiser, said: Said
) -> None:
    await ours.async_register_service(info(), cooperating_responders=True)
    await eventually(lambda: len(said.probes) == 3)
    assert not said.announcements
    hear(ours, message(QUERY, questions=1) + labels(HAP) + b"\0\x0c\0\1", port=40_000)
    assert not said.announcements
    await eventually(lambda: len(said.announcements) == 3)
    gaps = [later - earlier for earlier, later in pairwise(said.probes)]
    assert min(gaps) >= advertiser.PROBE_SECONDS * 0.9
    gaps = [later - earlier for earlier, later in pairwise(said.announcements)]
    assert min(gaps) >= 0.045
    asks_for_unicast = [{each.unique for each in said.messages[number][1].questions} for number in range(3)]
    assert asks_for_unicast == [{True}, {True}, {False}]
    probe = said.messages[0][1]
    assert {question.name for question in probe.questions} == {f"{NAME}.{HAP}", f"{HOST}.local."}
    assert {question.type for question in probe.questions} == {255}
    assert any(isinstance(each, DNSService) and each.server == f"{HOST}.local." for each in probe.answers())


CLAIMS: dict[str, tuple[bytes, bool]] = {
    "another host": (srv(f"{NAME}.{HAP}", "other.local."), True),
    "in other letters": (srv(f"{NAME.upper()}.{HAP}", "other.local."), True),
    "the host name": (record(f"{HOST}.local.", (1, 1), bytes([10, 0, 0, 9])), True),
    "another text": (record(f"{NAME}.{HAP}", TXT_IN, b"\x03a=b"), False),
    "what we say": (srv(f"{NAME}.{HAP}", f"{HOST}.local."), False),
    "a goodbye": (srv(f"{NAME}.{HAP}", "other.local.", ttl=0), False),
    "another name": (srv(f"Other.{HAP}", "other.local."), False),
    "nothing": (b"", False),
}


@pytest.mark.parametrize("claim", CLAIMS)
async def test_a_name_that_another_device_has_gets_a_number(
    ours: Advertiser, said: Said, caplog: pytest.LogCaptureFixture, claim: str
) -> None:
    answer, is_taken = CLAIMS[claim]
    await ours.async_register_service(mine := info(), cooperating_responders=True)
    await eventually(lambda: said.probes)
    hear(ours, message(RESPONSE, answers=bool(answer)) + answer)
    await eventually(lambda: len(said.announcements) == 3)
    assert set(said.names) == {f"{NAME}-2" if is_taken else NAME}
    assert (mine.name, mine.server) == (
        (f"{NAME}-2.{HAP}", f"{HOST}-2.local.") if is_taken else (f"{NAME}.{HAP}", f"{HOST}.local.")
    )
    assert len(caplog.messages) == is_taken


async def test_who_claims_every_name_keeps_the_bridge_from_none(
    ours: Advertiser, said: Said, caplog: pytest.LogCaptureFixture
) -> None:
    async def claim() -> None:
        while True:
            for number in ("", *(f"-{number}" for number in range(2, MOST_NAMES + 1))):
                hear(ours, message(RESPONSE, answers=1) + srv(f"{NAME}{number}.{HAP}", "other.local."))
            await asyncio.sleep(0.005)

    claiming = asyncio.create_task(claim())
    await ours.async_register_service(info(), cooperating_responders=True)
    await eventually(lambda: len(said.announcements) == 3)
    claiming.cancel()
    with suppress(asyncio.CancelledError):
        await claiming
    assert set(said.names) == {NAME}
    assert len(caplog.messages) == 1


async def test_a_number_stays_when_something_else_changes(ours: Advertiser, said: Said) -> None:
    await ours.async_register_service(info(), cooperating_responders=True)
    await eventually(lambda: said.probes)
    hear(ours, message(RESPONSE, answers=1) + srv(f"{NAME}.{HAP}", "other.local."))
    await eventually(lambda: len(said.announcements) == 3)
    ours.announce(newer := info())
    await eventually(lambda: len(said.announcements) == 6)
    assert set(said.names) == {f"{NAME}-2"}
    await (await ours.async_unregister_service(newer))
    assert said.names[-1] == f"{NAME}-2"


@pytest.mark.parametrize("length", [62, 63])
async def test_a_label_with_a_number_is_no_longer_than_a_label_may_be(
    ours: Advertiser, said: Said, length: int
) -> None:
    name = "ü" * (length // 2)
    await ours.async_register_service(mine := info(name), cooperating_responders=True)
    await eventually(lambda: said.probes)
    hear(ours, message(RESPONSE, answers=1) + srv(mine.name, "other.local."))
    await eventually(lambda: len(said.announcements) == 3)
    assert said.names[0].endswith("ü-2")
    assert len(said.names[0].encode()) <= 63


@pytest.fixture
def at_leisure(soon: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Probe for long enough that something else comes in between on a busy machine, too."""
    monkeypatch.setattr(advertiser, "PROBE_SECONDS", 0.3)


@pytest.mark.usefixtures("at_leisure")
async def test_a_change_while_probing_is_what_is_announced(ours: Advertiser, said: Said) -> None:
    await ours.async_register_service(info(), cooperating_responders=True)
    await eventually(lambda: said.probes)
    ours.announce(info("Newer 123ABC"))
    await eventually(lambda: len(said.announcements) == 3)
    assert set(said.names) == {"Newer 123ABC"}


@pytest.mark.usefixtures("at_leisure")
async def test_what_was_never_announced_needs_no_goodbye(ours: Advertiser, said: Said) -> None:
    await ours.async_register_service(mine := info(), cooperating_responders=True)
    await eventually(lambda: said.probes)
    await ours.stop_announcing()
    await (await ours.async_unregister_service(mine))
    assert not said.announcements


async def test_a_goodbye_is_the_last_word(ours: Advertiser, said: Said) -> None:
    await announced(ours, said)
    await ours.stop_announcing()
    await (await ours.async_unregister_service(info()))
    last = said.messages[-1][1]
    assert {record.ttl for record in last.answers()} == {0}


async def test_other_addresses_are_guarded_too(ours: Advertiser) -> None:
    await ours.async_update_interfaces(["127.0.0.2"])
    guards = {type(reader.transport.get_protocol()).__name__ for reader in ours.zeroconf.engine.readers}
    assert guards == {"_PacketFilter"}


@pytest.mark.parametrize("addresses", [["127.0.0.3"], ["127.0.0.1", "::1"]], ids=["all", "one of a kind"])
async def test_an_address_for_which_zeroconf_made_no_socket_is_an_error(
    ours: Advertiser, monkeypatch: pytest.MonkeyPatch, addresses: list[str]
) -> None:
    async def fails(*_: object) -> bool:
        return False  # as it does when it cannot make a socket that listens, with a line in the log

    monkeypatch.setattr(type(ours.zeroconf.engine), "async_update_interfaces", fails)
    with pytest.raises(OSError, match=f"no mDNS on {addresses[-1]}"):
        await ours.async_update_interfaces(addresses)


async def test_of_two_addresses_of_an_interface_one_is_enough(ours: Advertiser) -> None:
    await ours.async_update_interfaces(["127.0.0.1", "127.0.0.2"])
