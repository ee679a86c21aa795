"""A controller of our own, without HAP-python or aiohomekit, pairs, reads, writes, listens and unpairs."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import pytest
import pytest_asyncio
from cryptography.exceptions import InvalidSignature

from tests.peer.identity import Identity
from tests.peer.peers import ADMIN, STRANGER, USER, BridgeKind, Ours, ReachableBridge, ours
from tests.peer.raw_connection import every
from tests.peer.raw_controller import JSON_TYPE, PairingError, RawController, request
from tests.peer.tables.frames import padded

WEB, MAIL, BROKEN = "web.On", "mail.On", "broken.On"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bridges(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Ours]:
    async with ours(tmp_path_factory.mktemp("state")) as made:
        yield made


@pytest_asyncio.fixture(loop_scope="module")
async def home(bridges: Ours) -> ReachableBridge:
    """A bridge that is paired, with every switch off."""
    await bridges.reset()
    return bridges.bridges[BridgeKind.PAIRED]


@pytest_asyncio.fixture(loop_scope="module")
async def admin(home: ReachableBridge) -> AsyncIterator[RawController]:
    raw = await home.verified(ADMIN)
    yield raw
    raw.close()


@pytest_asyncio.fixture(loop_scope="module")
async def user(home: ReachableBridge) -> AsyncIterator[RawController]:
    raw = await home.verified(USER)
    yield raw
    raw.close()


def item(home: ReachableBridge, name: str, **values: object) -> dict[str, object]:
    aid, iid = home.ids[name]
    return {"aid": aid, "iid": iid, **values}


def reading(home: ReachableBridge, name: str) -> bytes:
    aid, iid = home.ids[name]
    return request("GET", f"/characteristics?id={aid}.{iid}")


async def test_a_write_reads_back(home: ReachableBridge, admin: RawController) -> None:
    assert await admin.read(*home.ids[WEB]) is False
    assert (await admin.write([item(home, WEB, value=True)])).status == 204
    assert await admin.read(*home.ids[WEB]) is True


async def test_one_failure_gives_every_item_a_status_in_the_order_of_the_request(
    home: ReachableBridge, admin: RawController
) -> None:
    items = [item(home, name, value=True) for name in (BROKEN, WEB, MAIL)]
    answer = await admin.write(items)
    assert answer.status == 207
    found = [(each["aid"], each["status"]) for each in answer.json["characteristics"]]
    assert found == [(items[0]["aid"], -70402), (items[1]["aid"], 0), (items[2]["aid"], 0)]


async def test_a_read_has_the_order_of_the_request(home: ReachableBridge, admin: RawController) -> None:
    names = ("mail.On", "web.Manufacturer", "lamp.On", "web.On")
    ids = ",".join("{}.{}".format(*home.ids[name]) for name in names)
    found = (await admin.ask("GET", f"/characteristics?id={ids}")).json["characteristics"]
    assert [(each["aid"], each["iid"]) for each in found] == [home.ids[name] for name in names]


async def test_a_second_controller_hears_what_the_first_writes(
    home: ReachableBridge, admin: RawController, user: RawController
) -> None:
    await user.write([item(home, WEB, ev=True)])
    await admin.write([item(home, WEB, value=True)])
    assert (await user.event())["characteristics"] == [item(home, WEB, value=True)]


async def test_a_change_from_outside_is_an_event(
    bridges: Ours, home: ReachableBridge, admin: RawController
) -> None:
    await admin.write([item(home, WEB, ev=True)])
    await bridges.change_externally("web", on=True)
    assert (await admin.event())["characteristics"] == [item(home, WEB, value=True)]


async def test_what_was_unsubscribed_from_is_no_event(
    bridges: Ours, home: ReachableBridge, admin: RawController
) -> None:
    await admin.write([item(home, WEB, ev=True), item(home, MAIL, ev=True)])
    await admin.write([item(home, WEB, ev=False)])
    await bridges.change_externally("web", on=True)
    await bridges.change_externally("mail", on=True)
    assert (await admin.event())["characteristics"] == [item(home, MAIL, value=True)]


@pytest.mark.parametrize("size", [2, 17, 333, 1023, 1024])
async def test_frames_of_any_size_are_put_together(
    home: ReachableBridge, admin: RawController, size: int
) -> None:
    await admin.wire.send(padded(2048 + 2 * size).render({}), frames=every(size))
    assert (await admin.answer()).status == 200


@pytest.mark.parametrize("frames", [(), every(1)])
async def test_a_last_frame_of_one_byte_is_read(admin: RawController, frames: Iterable[int]) -> None:
    await admin.wire.send(padded(1025).render({}), frames=frames)
    assert (await admin.answer(within_seconds=1)).status == 200


@pytest.mark.parametrize("size", [1023, 1024, 1026, 2047, 2048, 3072, 10240])
async def test_requests_of_any_length_are_answered(admin: RawController, size: int) -> None:
    await admin.wire.send(padded(size).render({}))
    assert (await admin.answer()).status == 200


@pytest.mark.parametrize("size", [1, 3, 18, 1042, 1043])
async def test_segments_of_any_size_are_put_together(admin: RawController, size: int) -> None:
    await admin.wire.send(padded(2060).render({}), pieces=every(size))
    assert (await admin.answer()).status == 200


@pytest.mark.parametrize("frames", [(), every(40)])
async def test_pipelined_requests_are_done_and_answered_in_order(
    home: ReachableBridge, admin: RawController, frames: Iterable[int]
) -> None:
    body = json.dumps({"characteristics": [item(home, WEB, value=True)]}).encode()
    write = request("PUT", "/characteristics", body, kind=JSON_TYPE)
    sent = reading(home, WEB) + write + reading(home, WEB) + reading(home, MAIL)
    await admin.wire.send(sent, frames=frames)
    first, written, second, other = [await admin.answer() for _ in range(4)]
    assert first.json["characteristics"] == [item(home, WEB, value=False)]
    assert written.status == 204
    assert second.json["characteristics"] == [item(home, WEB, value=True)]
    assert other.json["characteristics"] == [item(home, MAIL, value=False)]


async def test_a_connection_that_is_closed_behind_a_request_leaves_others_alone(
    home: ReachableBridge, admin: RawController
) -> None:
    other = await home.verified(ADMIN)
    await other.wire.send(reading(home, WEB))
    other.wire.half_close()
    await other.until_closed()
    other.close()
    assert await admin.read(*home.ids[WEB]) is False


@pytest.mark.parametrize("sent", [b"", b"\x10", b"\x10\x00" + bytes(7)])
async def test_a_half_closed_connection_is_closed(home: ReachableBridge, sent: bytes) -> None:
    raw = await home.verified(ADMIN)
    await raw.wire.send_raw(sent)
    raw.wire.half_close()
    await raw.until_closed()
    raw.close()


@pytest.mark.parametrize(
    "sent",
    [b"GET /accessories HTTP/1.1\r\nHost: x\r\n\r\n" + bytes(25_000), bytes(1042), b"\xff\x03" + bytes(1039)],
)
async def test_what_is_not_encrypted_as_it_must_be_ends_the_connection(
    home: ReachableBridge, sent: bytes
) -> None:
    raw = await home.verified(ADMIN)
    await raw.wire.send_raw(sent)
    await raw.until_closed()
    raw.close()


async def test_the_bridge_proves_who_it_is(home: ReachableBridge) -> None:
    raw = await home.connect(ADMIN)
    with pytest.raises(InvalidSignature):
        await raw.verify(STRANGER.public_key)
    raw.close()


@pytest.mark.parametrize("identity", [STRANGER, Identity(ADMIN.id, STRANGER.key)])
async def test_an_unpaired_controller_is_refused(home: ReachableBridge, identity: Identity) -> None:
    raw = await home.connect(identity)
    with pytest.raises(PairingError):
        await raw.verify()
    raw.close()


async def test_a_controller_pairs_adds_another_and_unpairs_both(bridges: Ours) -> None:
    blank = bridges.bridges[BridgeKind.UNPAIRED]
    raw = await blank.connect(ADMIN)
    with pytest.raises(PairingError):
        await raw.pair("111-22-333")
    key = await raw.pair(blank.code)
    raw.close()
    first = await RawController.verified(blank.address, blank.port, ADMIN, key)
    await first.add(USER, admin=False)
    assert await first.listed() == {ADMIN.id: True, USER.id: False}
    second = await RawController.verified(blank.address, blank.port, USER, key)
    with pytest.raises(PairingError):
        await second.listed()
    await first.remove(ADMIN.id)  # the last admin, so the user goes too
    await asyncio.gather(first.until_closed(), second.until_closed())
    first.close()
    second.close()
    for identity in (ADMIN, USER):
        gone = await blank.connect(identity)
        with pytest.raises(PairingError):
            await gone.verify()
        gone.close()


def test_it_shares_no_code_with_the_libraries_that_it_checks() -> None:
    here = Path(__file__).parent
    for name in ("tlv", "srp", "raw_connection", "identity", "raw_controller"):
        text = (here / f"{name}.py").read_text()
        assert not {"import pyhap", "from pyhap", "import aiohomekit", "from aiohomekit"} & {
            " ".join(line.split()[:2]) for line in text.splitlines()
        }
