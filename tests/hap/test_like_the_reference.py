"""Behaviour that controllers know from other accessories: frames, statuses, headers, IDs, reads."""

import asyncio
import itertools
import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hkswitch.backend.simulated import ACTIVE, SimulatedHost
from hkswitch.daemon.bridge import Bridge
from hkswitch.hap import driver as hardening
from hkswitch.hap.sessions import controller_of
from hkswitch.network.endpoint import Endpoint
from tests.hap.conftest import GROUPS, Served, on, put
from tests.support.board_observer import ObservingBoard
from tests.support.ports import free_port
from tests.support.raw_client import (
    ERROR,
    METHOD,
    PUBLIC_KEY,
    STATE,
    USERNAME,
    RawClient,
    Said,
    raw_client,
    tlv,
)
from tests.support.raw_session import KEY, NAME, NotVerified, RawSession, verify
from tests.world.http_reader import request

PERMISSIONS = 11
ADD, REMOVE, LIST = b"\3", b"\4", b"\5"
UNKNOWN, MAX_PEERS = b"\1", b"\4"
WEB = GROUPS[1:2]
KEY_BYTES = KEY.public_key().public_bytes_raw()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def known(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    """A bridge that is paired with a raw controller."""
    own = await Served.start(tmp_path_factory.mktemp("known"), SimulatedHost(WEB), WEB)
    own.bridge._driver.pair(NAME, KEY_BYTES, b"\1")
    with pytest.MonkeyPatch.context() as patch:  # each pairing would be announced for seconds, and waited for
        patch.setattr(own.bridge._driver, "async_update_advertisement", lambda: None)
        yield own
    await own.stop()


# Frames


@pytest.mark.parametrize("last_bytes", [1, 2, 17, 1023, 1024])
async def test_a_request_is_answered_whatever_its_last_frame_has(raw: RawSession, last_bytes: int) -> None:
    bare = request("GET", "/characteristics?id=1.2")
    length = next(n * 1024 + last_bytes for n in itertools.count(1) if n * 1024 + last_bytes > len(bare) + 20)
    padding = f"X-A: {'a' * (length - len(bare) - len('X-A: ') - 2)}\r\n".encode()
    sent = bare.replace(b"Host: bridge\r\n", b"Host: bridge\r\n" + padding)
    assert len(sent) % 1024 == last_bytes % 1024
    assert (await raw.ask(sent)).status == 207


@pytest.mark.parametrize("sizes", [[1] * 60, [0, 5, 0], [1, 1024], [300] * 3], ids=repr)
async def test_a_request_is_answered_in_frames_of_any_size(raw: RawSession, sizes: list[int]) -> None:
    raw.send(request("GET", "/characteristics?id=1.2"), sizes)
    assert (await raw.next()).status == 207


# Two connections of one address and port


def bound(port: int) -> socket.socket:
    """A socket with an address of its own, which another one may have too."""
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind(("127.0.0.9", port))
    made.setblocking(False)
    return made


async def test_two_addresses_of_the_bridge_give_one_source_port_two_sessions(tmp_path: Path) -> None:
    host, port = SimulatedHost(WEB), free_port()
    bridge = Bridge("Two", WEB, tmp_path, port)
    switchboard = ObservingBoard(WEB, host, bridge)
    await host.open(switchboard)
    await bridge.start(switchboard, Endpoint(("127.0.0.1", "127.0.0.2"), frozenset()))
    served = Served(bridge, switchboard, host, "127.0.0.1", port, tmp_path)
    bridge._driver.pair(NAME, KEY_BYTES, b"\1")
    loop = asyncio.get_running_loop()
    with bound(0) as one, bound(one.getsockname()[1]) as other:
        await loop.sock_connect(one, ("127.0.0.1", port))
        session = await verify(RawClient(*await asyncio.open_connection(sock=one)))
        assert (await session.ask(put(on(served, "web", ev=True)))).status == 204
        await loop.sock_connect(other, ("127.0.0.2", port))
        unverified = RawClient(*await asyncio.open_connection(sock=other))
        assert (await unverified.say(request("GET", "/accessories"))).status == 470
        host.change({"httpd.service": ACTIVE})
        assert (await session.next()).is_event
        assert (await unverified.say(request("GET", "/accessories"))).status == 470  # and no event before it
        session.stream.writer.transport.abort()
        unverified.writer.transport.abort()
    await served.stop()


# Statuses


NOT_VERIFIED = [
    ("GET", "/accessories", b""),
    ("GET", "/characteristics?id=1.1", b""),
    ("PUT", "/characteristics", b"{}"),
    ("PUT", "/prepare", b"{}"),
    ("POST", "/pairings", tlv((STATE, b"\1"), (METHOD, LIST))),
]


@pytest.mark.parametrize(
    ("method", "path", "body"), NOT_VERIFIED, ids=[f"{m} {p}" for m, p, _ in NOT_VERIFIED]
)
async def test_what_needs_a_verified_session_is_470_without_one(
    known: Served, method: str, path: str, body: bytes
) -> None:
    async with raw_client(known.address, known.port) as attacker:
        head = f"{method} {path} HTTP/1.1\r\nHost: bridge\r\nContent-Length: {len(body)}\r\n\r\n"
        said = await attacker.say(head.encode() + body)
    assert (said.status, json.loads(said.body)) == (470, {"status": -70401})


async def test_identify_is_a_line_in_the_log_while_nobody_is_paired(
    unpaired: Served, caplog: pytest.LogCaptureFixture
) -> None:
    async with raw_client(unpaired.address, unpaired.port) as attacker:
        said = await attacker.post("/identify", b"")
    assert (said.status, said.body) == (204, b"")
    assert [line for line in caplog.messages if "identify" in line] == [
        "127.0.0.1: asked the bridge to identify itself"
    ]


@pytest.mark.parametrize("verified", [False, True])
async def test_identify_is_refused_once_a_controller_is_paired(
    known: Served, raw: RawSession, verified: bool
) -> None:
    sent = request("POST", "/identify")
    if verified:
        said = await raw.ask(sent)
        assert (said.status, said.body) == (400, {"status": -70401})
    else:
        async with raw_client(known.address, known.port) as attacker:
            answer = await attacker.say(sent)
        assert (answer.status, json.loads(answer.body)) == (400, {"status": -70401})


@pytest.mark.parametrize(
    ("head", "status"),
    [
        ("POST /pair-setup HTTP/1.1\r\nTransfer-Encoding: chunked", 411),
        ("POST /pair-setup HTTP/1.1\r\nContent-Length: 65537", 413),
        (f"GET /foo HTTP/1.1\r\nX-A: {'a' * 9000}", 431),
    ],
)
async def test_a_response_without_a_body_says_so_and_is_not_chunked(
    known: Served, head: str, status: int
) -> None:
    async with raw_client(known.address, known.port) as attacker:
        attacker.writer.write(f"{head}\r\nHost: bridge\r\n\r\n".encode())
        said = await asyncio.wait_for(attacker.reader.read(), 5)
    assert said.startswith(f"HTTP/1.1 {status} ".encode())
    assert b"content-length: 0\r\n" in said.lower()
    assert b"chunked" not in said.lower()


@pytest.mark.parametrize(
    ("events", "status"), [(1, 204), (0, 204), (True, 204), (2, 207), ("x", 207), ([], 207)]
)
async def test_a_subscription_may_be_a_number_and_one_that_is_none_fails_alone(
    known: Served, raw: RawSession, events: object, status: int
) -> None:
    aid, iid = on(known, "web").values()
    items = [{"aid": aid, "iid": iid, "ev": events}, {"aid": aid, "iid": iid, "value": False}]
    said = await raw.ask(request("PUT", "/characteristics", {"characteristics": items}))
    assert said.status == status
    if status == 207:
        assert [item["status"] for item in said.body["characteristics"]] == [-70410, 0]


ON_TYPE, ON_PERMS = "25", ["pr", "pw", "ev"]
READS: dict[str, tuple[str, dict[str, Any]]] = {
    "the value alone": ("", {}),
    "meta": ("&meta=1", {"format": "bool"}),
    "perms": ("&perms=1", {"perms": ON_PERMS}),
    "type": ("&type=1", {"type": ON_TYPE}),
    "ev": ("&ev=1", {"ev": True}),
    "everything": (
        "&meta=1&perms=true&type=1&ev=1",
        {"format": "bool", "perms": ON_PERMS, "type": ON_TYPE, "ev": True},
    ),
    "what is refused": ("&meta=0&perms=false&type=0&ev=0", {}),
    "what is no yes": ("&meta=2&perms=&type=x&ev=1&ev=1", {}),
    "another parameter": ("&x=1", {}),
}


@pytest.mark.parametrize(("query", "more"), READS.values(), ids=READS)
async def test_a_read_tells_what_it_is_asked_for(
    known: Served, raw: RawSession, query: str, more: dict[str, Any]
) -> None:
    aid, iid = on(known, "web").values()
    await raw.ask(put(on(known, "web", ev=True)))
    said = await raw.ask(request("GET", f"/characteristics?id={aid}.{iid}{query}"))
    assert (said.status, said.body["characteristics"]) == (
        200,
        [{"aid": aid, "iid": iid, "value": False, **more}],
    )


async def test_a_read_says_that_there_is_no_subscription(known: Served, raw: RawSession) -> None:
    aid, iid = on(known, "web").values()
    said = await raw.ask(request("GET", f"/characteristics?id={aid}.{iid}&ev=1"))
    assert said.body["characteristics"][0]["ev"] is False


async def test_what_cannot_be_read_has_a_status_and_nothing_else(raw: RawSession) -> None:
    said = await raw.ask(request("GET", "/characteristics?id=99.1&meta=1&perms=1&type=1&ev=1"))
    assert (said.status, said.body["characteristics"]) == (207, [{"aid": 99, "iid": 1, "status": -70409}])


# Pairings


def pairings(*parts: tuple[int, bytes]) -> bytes:
    body = tlv((STATE, b"\1"), *parts)
    head = f"POST /pairings HTTP/1.1\r\nHost: bridge\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def added(name: bytes, key: bytes, permissions: bytes = b"\0") -> bytes:
    return pairings((METHOD, ADD), (USERNAME, name), (PUBLIC_KEY, key), (PERMISSIONS, permissions))


def removed(name: bytes) -> bytes:
    return pairings((METHOD, REMOVE), (USERNAME, name))


async def done(session: RawSession, sent: bytes) -> dict[int, bytes]:
    """The parts of the answer to a request about pairings."""
    said = await session.ask(sent)
    assert said.status == 200, said
    return Said(200, said.body).tlv


OTHER = Ed25519PrivateKey.from_private_bytes(b"o" * 32)
OTHER_KEY = OTHER.public_key().public_bytes_raw()
IDS = [
    b"AAAAAAAA-0000-4000-8000-00000000000F",
    b"aaaaaaaa-0000-4000-8000-00000000000f",
    b"{AAAAAAAA-0000-4000-8000-00000000000F}"[:36],
    b"AAAAAAAA00004000800000000000000F",
    b"my controller",
    b"x",
    "Пульт".encode(),
    b"\xff\x00\r\n",
    b"x" * 36,
]


@pytest.mark.parametrize("name", IDS, ids=repr)
async def test_a_controller_may_have_any_id_and_finds_it_again(
    known: Served, raw: RawSession, name: bytes
) -> None:
    assert await done(raw, added(name, OTHER_KEY)) == {STATE: b"\2"}
    async with raw_client(known.address, known.port) as stream:
        other = await verify(stream, name, OTHER)
        assert (await other.ask(request("GET", "/characteristics?id=1.3"))).status == 200
        listed = (await raw.ask(pairings((METHOD, LIST)))).body
        assert tlv((USERNAME, name)) in listed
        assert len(known.bridge.controllers()) == 2
        assert {each.connections for each in known.bridge.controllers()} == {1}
        assert await done(raw, removed(name)) == {STATE: b"\2"}
        assert await stream.is_closed()
    assert len(known.bridge.controllers()) == 1


@pytest.mark.parametrize("name", [b"", b"x" * 37, b"x" * 300], ids=len)
async def test_an_id_of_another_length_is_refused(known: Served, raw: RawSession, name: bytes) -> None:
    assert (await done(raw, added(name, OTHER_KEY)))[ERROR] == UNKNOWN
    assert len(known.bridge.controllers()) == 1


def test_ids_that_differ_are_kept_apart() -> None:
    assert len({controller_of(name) for name in IDS}) == len(IDS) - 1  # a UUID may be in any case


async def test_a_stranger_with_an_unknown_id_is_refused(known: Served) -> None:
    async with raw_client(known.address, known.port) as stream:
        with pytest.raises(NotVerified):
            await verify(stream, b"nobody", OTHER)
        assert (await stream.say(request("GET", "/accessories"))).status == 470


async def test_a_bridge_that_is_full_says_so_and_still_changes_what_it_has(
    known: Served, raw: RawSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardening, "MOST_PAIRINGS", 2)
    assert ERROR not in await done(raw, added(b"second", OTHER_KEY))
    assert (await done(raw, added(b"third", OTHER_KEY)))[ERROR] == MAX_PEERS
    assert ERROR not in await done(raw, added(b"second", OTHER_KEY, b"\1"))
    assert [each.admin for each in known.bridge.controllers()] == [True, True]
    await done(raw, removed(b"second"))


async def test_an_id_that_is_added_again_with_another_key_keeps_no_session(
    known: Served, raw: RawSession
) -> None:
    await done(raw, added(b"twice", OTHER_KEY))
    async with raw_client(known.address, known.port) as stream:
        old = await verify(stream, b"twice", OTHER)
        await old.ask(put(on(known, "web", ev=True)))
        # Both before the bridge has a moment to close anything.
        raw.send(removed(b"twice") + added(b"twice", b"n" * 32) + put(on(known, "web", value=True)))
        assert [(await raw.next()).status for _ in range(3)] == [200, 200, 204]
        assert await stream.is_closed()
        assert not old.heard
    await done(raw, removed(b"twice"))


async def test_another_key_for_an_id_that_is_paired_is_refused(known: Served, raw: RawSession) -> None:
    await done(raw, added(b"once", OTHER_KEY))
    assert (await done(raw, added(b"once", b"n" * 32)))[ERROR] == UNKNOWN
    async with raw_client(known.address, known.port) as stream:
        assert (
            await (await verify(stream, b"once", OTHER)).ask(request("GET", "/accessories"))
        ).status == 200
    await done(raw, removed(b"once"))
