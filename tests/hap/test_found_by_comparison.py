"""Former differences from HAP-NodeJS, which was right: malformed messages, and pipelining."""

from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from hkswitch.backend.simulated import ACTIVE, SimulatedHost
from tests.hap.conftest import GROUPS, Served, on, put
from tests.peer import tlv as parts_of
from tests.peer.identity import Identity, PairSetup
from tests.support.raw_client import (
    DATA,
    ERROR,
    METHOD,
    PROOF,
    PUBLIC_KEY,
    STATE,
    USERNAME,
    RawClient,
    Said,
    raw_client,
    tlv,
)
from tests.support.raw_session import KEY, NAME, RawSession, Verification
from tests.support.waiting import eventually
from tests.world.http_reader import Heard, request

SERVED = tuple(group for group in GROUPS if group.id in {"web", "slow"})
SLOW_SECONDS = 0.1
M1, M2, M3, M4, M5, M6 = (bytes([number]) for number in range(1, 7))
UNKNOWN = b"\1"
PERMISSIONS = 11
ADD, REMOVE, LIST = b"\3", b"\4", b"\5"
INVALID = -70410

Part = tuple[int, bytes]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def known(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    """A bridge that is paired with a raw controller."""
    host = SimulatedHost(SERVED, slow={"slow.service": SLOW_SECONDS})
    own = await Served.start(tmp_path_factory.mktemp("known"), host, SERVED)
    own.bridge._driver.pair(NAME, KEY.public_key().public_bytes_raw(), b"\1")
    yield own
    await own.stop()


def statuses(heard: Heard) -> list[int]:
    return [item["status"] for item in heard.body["characteristics"]]


# Requests


async def test_a_defect_of_ours_is_not_taken_for_the_controllers(
    known: Served, raw: RawSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(known.switchboard, "write", None)
        heard = await raw.ask(put(on(known, "web", value=True)))
    assert (heard.status, heard.body) == (500, {"status": -70402})
    assert (await raw.ask(put(on(known, "web", value=False)))).status == 204


async def test_who_asks_before_it_sends_a_body_is_told_to_go_on(known: Served, raw: RawSession) -> None:
    head, _, body = put(on(known, "web", ev=True)).partition(b"\r\n\r\n")
    assert (await raw.ask(head + b"\r\nExpect: 100-continue\r\n\r\n")).status == 100
    assert (await raw.ask(body)).status == 204


# Writes


@pytest.mark.parametrize(
    "item", [{}, {"value": None}, {"ev": None}, {"value": None, "ev": None}, {"r": True}]
)
async def test_an_item_with_neither_value_nor_ev_fails_alone(
    known: Served, raw: RawSession, item: dict[str, Any]
) -> None:
    heard = await raw.ask(put(on(known, "web", **item), on(known, "web", ev=True)))
    assert (heard.status, statuses(heard)) == (207, [INVALID, 0])


@pytest.mark.parametrize("number", [True, False, "1", 1.0, None])
@pytest.mark.parametrize("key", ["aid", "iid"])
async def test_what_is_no_number_is_no_id(raw: RawSession, key: str, number: object) -> None:
    heard = await raw.ask(put({"aid": 1, "iid": 1, "ev": True} | {key: number}))
    assert (heard.status, heard.body) == (400, {"status": INVALID})


@pytest.mark.parametrize(("prepared", "written"), [(1, True), (0, False), (1, "1"), (1, 1.0)])
async def test_only_the_number_that_was_prepared_is_written(
    known: Served, raw: RawSession, prepared: int, written: object
) -> None:
    body = {"ttl": 5000, "pid": prepared}
    assert (await raw.ask(request("PUT", "/prepare", body))).body == {"status": 0}
    assert statuses(await raw.ask(put(on(known, "web", ev=True), pid=written))) == [INVALID]
    assert (await raw.ask(put(on(known, "web", ev=True), pid=prepared))).status == 204


@pytest.mark.parametrize("pid", [True, False, None])
async def test_what_is_no_number_is_not_prepared(known: Served, raw: RawSession, pid: object) -> None:
    heard = await raw.ask(request("PUT", "/prepare", {"ttl": 5000, "pid": pid}))
    assert (heard.status, heard.body) == (200, {"status": INVALID})
    for written in (pid, 0, 1):
        assert statuses(await raw.ask(put(on(known, "web", ev=True), pid=written))) == [INVALID]


# Events


@pytest.mark.parametrize("first_bytes", [10_000, 38, 10], ids=["all of it", "half of it", "half a frame"])
async def test_an_event_waits_until_all_that_has_come_is_answered(
    known: Served, raw: RawSession, first_bytes: int
) -> None:
    assert (await raw.ask(put(on(known, "web", ev=True)))).status == 204
    own = raw.stream.writer.get_extra_info("sockname")
    connections = known.bridge._driver.http_server.connections.values()
    (connection,) = (each for each in connections if each.transport.get_extra_info("peername") == own)
    next_one = raw.sealed(put(on(known, "slow", value=True))), raw.sealed(reading(), [20])
    raw.stream.writer.write(next_one[0] + next_one[1][:first_bytes])
    await eventually(lambda: connection.response is not None)
    known.host.change({"httpd.service": ACTIVE})
    written = await raw.next()
    assert (written.is_event, written.status) == (False, 204)
    raw.stream.writer.write(next_one[1][first_bytes:])
    read, told = await raw.next(), await raw.next()
    assert (read.is_event, told.is_event) == (False, True)
    assert told.body == {"characteristics": [on(known, "web", value=True)]}


def reading() -> bytes:
    return request("GET", "/characteristics?id=1.3")


# Pairing


async def steps(stream: RawClient, setup: PairSetup, count: int) -> None:
    """The first steps of a pair-setup."""
    if count > 0:
        begun = await stream.post("/pair-setup", parts_of.encode(setup.m1()))
        setup.heard_m2(begun.tlv)
    if count > 1:
        assert ERROR not in (await stream.post("/pair-setup", parts_of.encode(setup.m3()))).tlv


KEY_PART, PROOF_PART = (PUBLIC_KEY, b"k" * 384), (PROOF, b"p" * 64)
SETUPS: dict[str, tuple[int, Sequence[Part], bytes]] = {
    "no state": (0, [(METHOD, b"\0")], M2),
    "an unknown state": (0, [(STATE, b"\7")], M2),
    "a state of two bytes": (1, [(STATE, b"\3\0"), KEY_PART, PROOF_PART], M2),
    "an answer's state": (1, [(STATE, M4)], M2),
    "M3 without anything": (1, [(STATE, M3)], M4),
    "M3 without a proof": (1, [(STATE, M3), KEY_PART], M4),
    "M3 without a key": (1, [(STATE, M3), PROOF_PART], M4),
    "M5 without data": (2, [(STATE, M5)], M6),
}


@pytest.mark.parametrize(("before", "parts", "state"), SETUPS.values(), ids=SETUPS)
async def test_a_malformed_step_of_pair_setup_is_answered_with_the_next_state(
    tmp_path: Path, before: int, parts: Sequence[Part], state: bytes
) -> None:
    own = await Served.start(tmp_path, SimulatedHost(SERVED), SERVED)
    setup = PairSetup(Identity.of(4), own.bridge.setup.code)
    async with raw_client(own.address, own.port) as stream:
        await steps(stream, setup, before)
        said = await stream.post("/pair-setup", tlv(*parts))
    assert (said.status, said.tlv) == (400, {STATE: state, ERROR: UNKNOWN})
    await eventually(lambda: own.bridge._driver.pair_setup.holder is None)
    await own.stop()


VERIFIES: dict[str, tuple[bytes, bytes]] = {
    "no state": (tlv((PUBLIC_KEY, b"k" * 32)), M2),
    "M1 without a key": (tlv((STATE, M1)), M2),
    "M3 first": (tlv((STATE, M3), (DATA, b"x" * 80)), M4),
    "M3 without anything": (tlv((STATE, M3)), M4),
    "M5": (tlv((STATE, M5)), M2),
    "cut off": (tlv((STATE, M3), (DATA, b"x" * 80))[:-1], M2),
}


@pytest.mark.parametrize(("body", "state"), VERIFIES.values(), ids=VERIFIES)
async def test_a_malformed_pair_verify_is_answered_with_the_next_state(
    known: Served, body: bytes, state: bytes
) -> None:
    async with raw_client(known.address, known.port) as stream:
        said = await stream.post("/pair-verify", body)
    assert (said.status, said.tlv) == (400, {STATE: state, ERROR: UNKNOWN})


@pytest.mark.parametrize("is_wrong", [True, False])
async def test_a_pair_verify_that_failed_begins_again_with_m1(known: Served, is_wrong: bool) -> None:
    verification = Verification(NAME, KEY)
    async with raw_client(known.address, known.port) as stream:
        proof = verification.proof(await stream.post("/pair-verify", verification.begin()))
        if is_wrong:
            wrong = await stream.post("/pair-verify", proof[:-1] + bytes([proof[-1] ^ 1]))
            assert wrong.tlv == {STATE: M4, ERROR: b"\2"}
        said = await stream.post("/pair-verify", proof)
        assert said.tlv == ({STATE: M4, ERROR: UNKNOWN} if is_wrong else {STATE: M4})
        if is_wrong:
            assert (await stream.say(request("GET", "/accessories"))).status == 470


OTHER = (USERNAME, b"other"), (PUBLIC_KEY, b"o" * 32), (PERMISSIONS, b"\0")


@pytest.mark.parametrize("state", [None, b"", b"\0", M2, M3, b"\1\0"], ids=repr)
@pytest.mark.parametrize("method", [ADD, REMOVE, LIST], ids=["add", "remove", "list"])
async def test_a_request_about_pairings_has_the_first_state(
    known: Served, raw: RawSession, method: bytes, state: bytes | None
) -> None:
    name = (USERNAME, NAME) if method == REMOVE else OTHER[0]
    states = () if state is None else ((STATE, state),)
    heard = await raw.ask(posted(*states, (METHOD, method), name, *OTHER[1:]))
    assert (heard.status, Said(400, heard.body).tlv) == (400, {STATE: M2, ERROR: UNKNOWN})
    assert len(known.bridge.controllers()) == 1
    listed = await raw.ask(posted((STATE, M1), (METHOD, LIST)))
    assert (listed.status, Said(200, listed.body).tlv[USERNAME]) == (200, NAME)


def posted(*parts: Part) -> bytes:
    body = tlv(*parts)
    return f"POST /pairings HTTP/1.1\r\nHost: bridge\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
