"""A name is given up for another device that has it, and not for an echo of what this bridge said itself."""

import asyncio
import math
import os
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import pairwise

import pytest
import pytest_asyncio
from zeroconf import DNSAddress, DNSRecord, DNSService, DNSText, ServiceInfo  # type: ignore[attr-defined] # as in claims.py
from zeroconf.asyncio import AsyncZeroconf

from hkswitch.hap import advertiser
from hkswitch.hap.advertiser import MOST_NAMES, Advertiser
from hkswitch.hap.conflicts import MOST_ANNOUNCED_RECORDS, AnnouncedRecords, is_later
from tests.support.mdns import (
    A_IN,
    AAAA_IN,
    HAP,
    HOST,
    NAME,
    OTHER,
    QUERY,
    RESPONSE,
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
from tests.support.waiting import eventually

INSTANCE, SERVER = f"{NAME}.{HAP}", f"{HOST}.local."
ROUTER = "10.0.0.1"
OWN, OLD, NEW = "127.0.0.1", "10.0.0.7", "10.0.0.8"


@pytest_asyncio.fixture
async def ours(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Advertiser]:
    """An advertiser in less time than the RFC wants; a second of doubt is a tenth."""
    monkeypatch.setattr(advertiser, "PROBE_SECONDS", 0.02)
    monkeypatch.setattr(advertiser, "ANNOUNCED_AFTER_SECONDS", (0.0, 0.02, 0.02))
    monkeypatch.setattr(advertiser, "PROBE_NAMES_AGAIN_SECONDS", 0.1)
    monkeypatch.setattr(advertiser, "POSSIBLE_CONFLICT_SECONDS", 0.5)
    monkeypatch.setattr(advertiser, "CONTESTED_PROBING_SECONDS", 0.2)
    async with advertising(OWN) as made:
        yield made


@pytest.fixture
def said(ours: Advertiser, monkeypatch: pytest.MonkeyPatch) -> Said:
    """What it sends, which goes nowhere."""
    return overheard(ours, monkeypatch)


def address(text: str, name: str = SERVER) -> bytes:
    family, kind = (socket.AF_INET6, AAAA_IN) if ":" in text else (socket.AF_INET, A_IN)
    return record(name, kind, socket.inet_pton(family, text))


def response(*records: bytes) -> bytes:
    return message(RESPONSE, answers=len(records)) + b"".join(records)


def probe(*records: bytes, name: str = SERVER, kind: int = 255) -> bytes:
    question = labels(name) + struct.pack("!HH", kind, 0x8001)
    return message(QUERY, questions=1, authorities=len(records)) + question + b"".join(records)


async def announced(ours: Advertiser, said: Said, own: str = OWN) -> None:
    before = len(said.announcements)
    await ours.async_register_service(info(addresses=(own,)), cooperating_responders=True)
    await eventually(lambda: len(said.announcements) == before + 3)


async def meanwhile(act: Callable[[], None], condition: Callable[[], object]) -> None:
    """Do something again and again until a condition is true."""

    def is_over() -> bool:
        act()
        return bool(condition())

    await eventually(is_over)


# While it probes

ONCE, ALWAYS = "once", "always"
STAYS, NUMBERED = {NAME}, {f"{NAME}-2"}

HEARD: dict[str, tuple[bytes, str, str, set[str]]] = {
    "our record": (response(srv(INSTANCE, SERVER)), OTHER, ALWAYS, STAYS),
    "our record, not unique": (response(srv(INSTANCE, SERVER, unique=0)), OTHER, ALWAYS, STAYS),
    "our address": (response(address(OWN)), ROUTER, ALWAYS, STAYS),
    "the port of another life": (response(srv(INSTANCE, SERVER, port=1)), ROUTER, ALWAYS, STAYS),
    "the address of another life": (response(address(OLD)), ROUTER, ONCE, STAYS),
    "its IPv6 address": (response(address("fd77::7")), "fe80::1%2", ONCE, STAYS),
    "a goodbye to it": (response(record(SERVER, A_IN, bytes([10, 0, 0, 7]), ttl=0)), ROUTER, ALWAYS, STAYS),
    "an address of another name": (response(address(OTHER, "other.local.")), OTHER, ALWAYS, STAYS),
    "an address of who has it": (response(address(OTHER)), OTHER, ONCE, NUMBERED),
    "an IPv6 address of who has it": (response(address("fe80::9")), "fe80::9%2", ONCE, NUMBERED),
    "the same, by a socket of both kinds": (response(address(OTHER)), f"::ffff:{OTHER}", ONCE, NUMBERED),
    "two addresses of who has it": (response(address(OLD), address(OTHER)), OTHER, ONCE, NUMBERED),
    "an address that never ends": (response(address(OLD)), ROUTER, ALWAYS, NUMBERED),
    "another host": (response(srv(INSTANCE, "other.local.")), OTHER, ONCE, NUMBERED),
    "a probe that wins, of who went": (probe(address("200.0.0.1")), OTHER, ONCE, STAYS),
    "a probe that wins for ever": (probe(address("200.0.0.1")), OTHER, ALWAYS, NUMBERED),
    "a probe that loses": (probe(address("10.0.0.1")), OTHER, ALWAYS, STAYS),
    "our probe": (probe(address(OWN)), ROUTER, ALWAYS, STAYS),
    "a part of our probe": (probe(record(INSTANCE, TXT_IN, b"\4sf=1"), name=INSTANCE), ROUTER, ALWAYS, STAYS),
    "no probe": (probe(), OTHER, ALWAYS, STAYS),
    "a probe for another name": (
        probe(address("200.0.0.1"), name="other.local."),
        OTHER,
        ALWAYS,
        STAYS,
    ),
    "a query that knows an address": (probe(address("200.0.0.1"), kind=1), OTHER, ALWAYS, STAYS),
}


@pytest.mark.parametrize("heard", HEARD)
async def test_a_name_gets_a_number_if_another_device_has_it_and_not_for_an_echo(
    ours: Advertiser, said: Said, caplog: pytest.LogCaptureFixture, heard: str
) -> None:
    packet, sender, times, names = HEARD[heard]
    await ours.async_register_service(info(), cooperating_responders=True)
    answered: set[int] = set()

    def answer() -> None:
        if said.probes and (times == ALWAYS or not answered) and len(said.probes) not in answered:
            answered.add(len(said.probes))
            hear(ours, packet, sender)

    await meanwhile(answer, lambda: said.announcements)
    assert set(said.names) == names
    assert len([line for line in caplog.messages if "; using " in line]) == (names == NUMBERED)


@pytest.mark.parametrize("echo", [response(address(OLD)), probe(address(OLD))], ids=["answer", "probe"])
async def test_an_echo_of_an_earlier_address_costs_no_time(ours: Advertiser, said: Said, echo: bytes) -> None:
    await announced(ours, said, OLD)
    probes = len(said.probes)
    await ours.async_register_service(info(addresses=(NEW,)), cooperating_responders=True)
    await meanwhile(lambda: hear(ours, echo, ROUTER), lambda: len(said.announcements) >= 4)
    assert set(said.names) == {NAME}
    assert len(said.probes) == probes + advertiser.PROBES


async def test_what_comes_before_the_first_probe_counts_for_nothing(
    ours: Advertiser, said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("random.uniform", lambda *_: 0.1)
    await ours.async_register_service(info(), cooperating_responders=True)
    hear(ours, response(address(OTHER)))
    assert not said.probes
    await eventually(lambda: said.announcements)
    assert set(said.names) == {NAME}


async def test_after_a_probe_that_wins_it_waits_for_a_second(ours: Advertiser, said: Said) -> None:
    await ours.async_register_service(info(), cooperating_responders=True)
    await eventually(lambda: said.probes)
    hear(ours, probe(address("200.0.0.1")))
    await eventually(lambda: said.announcements)
    assert max(later - earlier for earlier, later in pairwise(said.probes)) >= 0.1
    assert len(said.probes) > advertiser.PROBES


def test_doubt_is_longer_than_an_address_is_remembered() -> None:
    assert advertiser.POSSIBLE_CONFLICT_SECONDS > info().host_ttl == 120
    assert advertiser.PROBE_NAMES_AGAIN_SECONDS == 1  # RFC 6762, 8.2


# Which probe wins


def a(text: str) -> DNSRecord:
    return DNSAddress(SERVER, 1, 0x8001, 120, socket.inet_aton(text))


def of_host(name: str, port: int = 5) -> DNSRecord:
    return DNSService(INSTANCE, 33, 1, 120, 0, 0, port, name)


A_199, A_200, AAAA = a("169.254.99.200"), a("169.254.200.50"), DNSAddress(SERVER, 28, 1, 120, bytes(16))
TEXT, SHORTER = DNSText(INSTANCE, 16, 1, 120, b"\1b"), DNSText(INSTANCE, 16, 1, 120, b"\1")

LATER: dict[str, tuple[list[DNSRecord], list[DNSRecord], bool]] = {
    "the example of the RFC": ([A_200], [A_199], True),
    "its other side": ([A_199], [A_200], False),
    "the same": ([A_199], [A_199], False),
    "the same in another order": ([A_200, A_199], [A_199, A_200], False),
    "more than ours": ([A_199, A_200], [A_199], True),
    "less than ours": ([A_199], [A_199, A_200], False),
    "a higher type": ([AAAA], [A_200], True),
    "a lower type": ([A_200], [AAAA], False),
    "a lower type before a higher one": ([AAAA, A_199], [AAAA], False),
    "longer data": ([TEXT], [SHORTER], True),
    "shorter data": ([SHORTER], [TEXT], False),
    "a higher port": ([of_host("a.local.", 6)], [of_host("b.local.", 5)], True),
    "a longer label, before letters": ([of_host("aa.local.")], [of_host("b.local.")], True),
    "a later letter": ([of_host("a.local.")], [of_host("b.local.")], False),
    "nothing": ([], [A_199], False),
}


@pytest.mark.parametrize("row", LATER)
def test_of_two_probes_the_one_whose_records_are_later_wins(row: str) -> None:
    theirs, ours, wins = LATER[row]
    assert is_later(theirs, ours) is wins


def test_the_oldest_records_are_forgotten() -> None:
    announced_records = AnnouncedRecords()
    records = [a(f"10.0.1.{number}") for number in range(MOST_ANNOUNCED_RECORDS + 1)]
    announced_records.add(records[:2])
    announced_records.add(records[1:])
    assert [each in announced_records for each in records] == [False] + [True] * MOST_ANNOUNCED_RECORDS


# When it has its names


async def test_a_claim_that_nobody_stands_by_leaves_the_name(ours: Advertiser, said: Said) -> None:
    await announced(ours, said)
    hear(ours, response(address(OTHER)))
    hear(ours, message(QUERY, questions=1) + labels(HAP) + b"\0\x0c\0\1", port=40_000)
    assert len(said.announcements) == 3  # it does not answer for a name that may be another's
    await eventually(lambda: len(said.announcements) == 6)
    assert len(said.probes) == 2 * advertiser.PROBES
    assert set(said.names) == {NAME}


async def test_who_claims_a_name_and_stands_by_it_has_it(
    ours: Advertiser, said: Said, caplog: pytest.LogCaptureFixture
) -> None:
    await announced(ours, said)
    await meanwhile(lambda: hear(ours, response(address(OTHER))), lambda: f"{NAME}-2" in said.names)
    await eventually(lambda: len(said.announcements) == 6)
    assert said.names == [NAME] * 3 + [f"{NAME}-2"] * 3
    assert len(caplog.messages) == 1


KEPT: dict[str, tuple[bytes, str]] = {
    "our record": (response(srv(INSTANCE, SERVER)), OTHER),
    "an earlier address": (response(address(OLD)), OLD),
    "the address of another life": (response(address("10.0.0.6")), ROUTER),
    "a goodbye": (response(srv(INSTANCE, "other.local.", ttl=0)), OTHER),
    "another name": (response(srv(f"{NAME}-2.{HAP}", "other.local.")), OTHER),
    "a probe": (probe(address("200.0.0.1")), OTHER),
}


@pytest.mark.parametrize("heard", KEPT)
async def test_what_is_no_claim_needs_no_probe(ours: Advertiser, said: Said, heard: str) -> None:
    packet, sender = KEPT[heard]
    await announced(ours, said, OLD)
    await announced(ours, said, NEW)
    probes = len(said.probes)
    hear(ours, packet, sender)
    await asyncio.sleep(0.05)  # the first probe would come within 0.02 s
    assert len(said.probes) == probes
    assert set(said.names) == {NAME}


async def test_doubt_about_a_name_that_it_has_leaves_it(ours: Advertiser, said: Said) -> None:
    await announced(ours, said)
    hear(ours, response(address(OTHER)))
    await meanwhile(lambda: hear(ours, response(address(OLD)), ROUTER), lambda: len(said.announcements) >= 4)
    assert set(said.names) == {NAME}


async def test_who_claims_the_name_again_and_again_silences_nobody(ours: Advertiser, said: Said) -> None:
    await announced(ours, said)
    hear(ours, response(address(OTHER)))
    await eventually(lambda: len(said.announcements) == 6)
    probes = len(said.probes)
    for _ in range(100):
        hear(ours, response(address(OTHER)))
    await asyncio.sleep(0.05)
    assert len(said.probes) == probes


async def test_who_claims_every_name_is_believed_no_more(ours: Advertiser, said: Said) -> None:
    def claim() -> None:
        for number in ("", *(f"-{number}" for number in range(2, MOST_NAMES + 1))):
            hear(ours, response(srv(f"{NAME}{number}.{HAP}", "other.local.")))

    await announced(ours, said)
    await meanwhile(claim, lambda: len(said.announcements) >= 4)
    assert ours._ignore_claims_until_seconds == math.inf
    hear(ours, response(address(OTHER)))
    await eventually(lambda: len(said.announcements) == 6)
    assert set(said.names) == {NAME}


# On a network

PROCESS = os.getpid()
"""Others may run these tests on the same network."""


def twin(address: str, host: str = "Twin") -> ServiceInfo:
    return info(f"Twin {PROCESS}", f"{host}-{PROCESS}", (address,))


async def test_two_devices_that_begin_at_once_have_a_name_each_and_a_third_gets_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With zeroconf as the third: once it asks before it announces, and once it does not."""
    # A busy machine may be late for a probe: each announcement is another chance.
    monkeypatch.setattr(advertiser, "CONTESTED_SECONDS", 0.5)
    monkeypatch.setattr(advertiser, "ANNOUNCED_AFTER_SECONDS", (0.0, *[1.0] * 30))
    first, second, third = (f"Twin {PROCESS}{suffix}.{HAP}" for suffix in ("", "-2", "-3"))
    async with advertising("127.0.0.1") as one, advertising("127.0.0.2") as two:
        mine, theirs = twin("127.0.0.1"), twin("127.0.0.2")
        await one.async_register_service(mine)
        await two.async_register_service(theirs)
        # The later address wins; on a machine that is busy just then, they find out when both are announced.
        await eventually(lambda: one._has_names and two._has_names and mine.name != theirs.name)
        assert {mine.name, theirs.name} == {first, second}
        async with other_device("127.0.0.3") as polite:
            asks = twin("127.0.0.3", "third")
            await polite.async_register_service(asks, allow_name_change=True)
            assert asks.name == third
        async with other_device("127.0.0.4") as rude:
            await rude.async_register_service(twin("127.0.0.4", "fourth"), cooperating_responders=True)
            await eventually(lambda: first not in {mine.name, theirs.name})
            await eventually(lambda: one._has_names and two._has_names)
            assert len({first, mine.name, theirs.name}) == 3


async def test_a_router_that_answers_from_memory_costs_no_name() -> None:
    async with advertising("127.0.0.6") as ours, other_device("127.0.0.7") as router:
        name, host = f"Moved {PROCESS}", f"Moved-{PROCESS}"
        before, now = (info(name, host, (each,)) for each in ("127.0.0.5", "127.0.0.6"))
        await ours.async_register_service(before)
        await eventually(lambda: ours._has_names)
        router.zeroconf.registry.async_add(before)  # it has heard of it, and answers for it
        await ours.async_register_service(now)
        await eventually(lambda: ours.zeroconf.registry.async_get_info_name(now.key) is now)
        assert now.name == f"{name}.{HAP}"


@asynccontextmanager
async def other_device(address: str) -> AsyncIterator[AsyncZeroconf]:
    made = AsyncZeroconf(interfaces=[address])
    await made.zeroconf.async_wait_for_start()
    try:
        yield made
    finally:
        await made.async_close()
