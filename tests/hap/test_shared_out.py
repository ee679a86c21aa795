"""Limits on the work and memory that one controller or device can cause, by counting, not by the clock."""

import asyncio
import struct
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
import pytest_asyncio

from hkswitch.backend.simulated import ACTIVE, SimulatedHost
from hkswitch.hap import connection as hardening
from hkswitch.hap import sessions
from hkswitch.hap.characteristics import MOST_CHARACTERISTICS
from hkswitch.hap.handler import RequestHandler
from hkswitch.hap.responder import MOST_QUESTIONS, Responder
from hkswitch.hap.sessions import LARGEST_BODY_BYTES, LARGEST_TLV_BYTES, MOST_REQUESTS, refusal
from tests.hap.conftest import GROUPS, Served, on, put
from tests.support.raw_session import KEY, NAME, RawSession, raw_session
from tests.support.waiting import eventually
from tests.world.http_reader import request

SERVED = tuple(group for group in GROUPS if group.id in {"web", "fileserver"})
READ = b"GET /characteristics?id=1.2 HTTP/1.1\r\nHost: bridge\r\n\r\n"
INVALID = -70410


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def known(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    """A bridge that is paired with a raw controller."""
    own = await Served.start(tmp_path_factory.mktemp("known"), SimulatedHost(SERVED), SERVED)
    own.bridge._driver.pair(NAME, KEY.public_key().public_bytes_raw(), b"\1")
    yield own
    await own.stop()


class Ticks:
    """The number of the loop's turn."""

    def __init__(self) -> None:
        self.number = 0
        self._loop = asyncio.get_running_loop()
        self._next = self._loop.call_soon(self._tick)

    def _tick(self) -> None:
        self.number += 1
        self._next = self._loop.call_soon(self._tick)

    def end(self) -> None:
        self._next.cancel()


async def test_a_controller_has_one_request_done_in_a_turn_however_many_sessions_ask(
    known: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns, answered = list[int](), RequestHandler.dispatch

    def dispatch(self: RequestHandler, *arguments: Any) -> Any:  # noqa: ANN401 -- HAP-python's
        turns.append(ticks.number)
        return answered(self, *arguments)

    async with AsyncExitStack() as opened:
        sessions = [
            await opened.enter_async_context(raw_session(known.address, known.port)) for _ in range(8)
        ]
        ticks = Ticks()
        monkeypatch.setattr(RequestHandler, "dispatch", dispatch)
        for session in sessions:
            session.send(READ * 5)
        for session in sessions:
            for _ in range(5):
                assert (await session.next()).status == 207
        ticks.end()
    assert (len(turns), max(Counter(turns).values())) == (40, 1)


async def test_of_many_small_frames_few_are_taken_in_a_turn(
    known: Served, raw: RawSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken, receive = list[int](), hardening.HapConnection.data_received

    def data_received(self: hardening.HapConnection, data: bytes) -> None:
        taken.append(len(data))
        receive(self, data)

    monkeypatch.setattr(hardening.HapConnection, "data_received", data_received)
    frames = b"".join(raw.to_bridge.sealed(b"") for _ in range(3_000))
    raw.stream.writer.write(frames)
    assert (await raw.ask(READ)).status == 207
    assert sum(taken) > len(frames)
    assert max(taken) <= hardening.MOST_AT_ONCE_BYTES


async def test_frames_without_a_request_have_turns_too(
    known: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns, receive = list[int](), hardening.HapConnection.data_received

    def data_received(self: hardening.HapConnection, data: bytes) -> None:
        turns.append(ticks.number)
        receive(self, data)

    async with AsyncExitStack() as opened:
        sessions = [
            await opened.enter_async_context(raw_session(known.address, known.port)) for _ in range(8)
        ]
        ticks = Ticks()
        monkeypatch.setattr(hardening.HapConnection, "data_received", data_received)
        for session in sessions:
            session.stream.writer.write(b"".join(session.to_bridge.sealed(b"") for _ in range(1_500)))
            session.send(READ)
        for session in sessions:
            assert (await session.next()).status == 207
        ticks.end()
    assert len(turns) >= 8 * 6
    beside_others = sum(count - 1 for count in Counter(turns).values())
    assert beside_others <= 8  # what came before it was known that there is more


async def test_an_event_that_waited_for_an_empty_frame_is_told(known: Served, raw: RawSession) -> None:
    assert (await raw.ask(put(on(known, "web", ev=True)))).status == 204
    (ours,) = known.bridge._driver.http_server.connections.values()
    frame = raw.to_bridge.sealed(b"")
    raw.stream.writer.write(frame[:10])
    await eventually(lambda: ours.is_busy)
    known.host.change({"httpd.service": ACTIVE})
    for _ in range(5):
        await asyncio.sleep(0)  # its turn to be told, if it may be
    assert not raw.heard
    raw.stream.writer.write(frame[10:])
    heard = await raw.next()
    assert (heard.is_event, [item["value"] for item in heard.body["characteristics"]]) == (True, [True])


@pytest.mark.parametrize(("count", "status"), [(MOST_CHARACTERISTICS, 200), (MOST_CHARACTERISTICS + 1, 400)])
async def test_as_many_characteristics_are_read_at_once_as_are_written(
    known: Served, raw: RawSession, count: int, status: int
) -> None:
    ids = ",".join(["1.3"] * count)
    assert (await raw.ask(request("GET", f"/characteristics?id={ids}"))).status == status


@pytest.mark.parametrize("path", [f"{2**64 - 1}.1", f"1.{2**64 - 1}"])
async def test_an_id_of_64_bits_is_one_that_does_not_exist(raw: RawSession, path: str) -> None:
    heard = await raw.ask(request("GET", f"/characteristics?id={path}"))
    assert [item["status"] for item in heard.body["characteristics"]] == [-70409]


@pytest.mark.parametrize(
    ("values", "statuses"),
    [
        ([True] * MOST_CHARACTERISTICS, None),
        ([True, False] * 50, None),
        ([False, True, "x"], [0, 0, INVALID]),
        ([2, "x"], [INVALID, INVALID]),
    ],
    ids=["the same", "on and off", "one that is none", "none"],
)
async def test_of_many_values_for_one_switch_the_last_is_written_and_once(
    known: Served,
    raw: RawSession,
    monkeypatch: pytest.MonkeyPatch,
    values: list[object],
    statuses: list[int] | None,
) -> None:
    written, write = list[bool](), known.switchboard.write

    def noted(*what: Any, on: bool) -> None:  # noqa: ANN401 -- a write and its tile
        written.append(on)
        write(*what, on=on)

    monkeypatch.setattr(known.switchboard, "write", noted)
    heard = await raw.ask(put(*(on(known, "web", value=value) for value in values)))
    assert heard.status == (204 if statuses is None else 207)
    if statuses is not None:
        assert [item["status"] for item in heard.body["characteristics"]] == statuses
    assert written == [value for value in values if isinstance(value, bool)][-1:]
    assert (known.host.states["httpd.service"] == ACTIVE) is any(written)


async def test_the_idlest_session_is_the_one_that_said_nothing_whatever_it_was_sent(
    known: Served, raw: RawSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "MOST_SESSIONS", 2)
    await eventually(lambda: len(known.bridge._driver.http_server.connections) == 1)
    assert (await raw.ask(put(on(known, "web", ev=True)))).status == 204
    async with raw_session(known.address, known.port) as second:
        assert (await second.ask(READ)).status == 207
        known.host.change({"httpd.service": ACTIVE})
        assert (await raw.next()).is_event  # later than anything of the second
        async with raw_session(known.address, known.port) as third:
            for alive in (second, third):
                assert (await alive.ask(READ)).status == 207
            with pytest.raises((EOFError, ConnectionError)):
                await raw.next()


@pytest.mark.parametrize(
    ("target", "headers", "number", "is_unauthenticated", "status"),
    [
        (b"/characteristics", {b"content-length": b"%d" % LARGEST_BODY_BYTES}, 1, False, None),
        (b"/characteristics", {b"content-length": b"%d" % (LARGEST_BODY_BYTES + 1)}, 1, False, 413),
        (b"/pairings", {b"content-length": b"%d" % LARGEST_TLV_BYTES}, 1, False, None),
        (b"/pairings", {b"content-length": b"%d" % (LARGEST_TLV_BYTES + 1)}, 1, False, 413),
        (b"/pair-setup", {b"content-length": b"%d" % LARGEST_TLV_BYTES}, 1, True, None),
        (b"/pair-verify", {b"content-length": b"%d" % (LARGEST_TLV_BYTES + 1)}, 1, True, 413),
        (b"/characteristics", {b"content-length": b"%d" % (LARGEST_TLV_BYTES + 1)}, 1, True, 413),
        (b"/accessories", {b"transfer-encoding": b"chunked"}, 1, False, 411),
        (b"/accessories", {b"a": b"b" * 8_191}, 1, False, None),
        (b"/accessories", {b"a": b"b" * 8_192}, 1, False, 431),
        (b"/identify", {}, MOST_REQUESTS, True, None),
        (b"/identify", {}, MOST_REQUESTS + 1, True, 429),
        (b"/accessories", {}, MOST_REQUESTS + 1, False, None),
    ],
)
def test_a_request_is_refused_before_its_body_is_read(
    target: bytes, headers: dict[bytes, bytes], number: int, is_unauthenticated: bool, status: int | None
) -> None:
    assert refusal(target, headers, number, is_unauthenticated=is_unauthenticated) == status


@pytest.mark.parametrize(
    ("questions", "is_relevant"), [(1, True), (MOST_QUESTIONS, True), (MOST_QUESTIONS + 1, False)]
)
async def test_a_query_with_very_many_questions_is_dropped(questions: int, is_relevant: bool) -> None:
    responder = Responder(["127.0.0.1"])
    packet = struct.pack("!6H", 0, 0, questions, 0, 0, 0) + bytes(5) * questions
    try:
        assert responder.is_relevant(packet, "10.0.0.9") is is_relevant
    finally:
        responder.leave_addresses()
        await responder.async_wait_for_start()
        await asyncio.to_thread(responder.close)
