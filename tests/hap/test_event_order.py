"""Events on a real encrypted connection: their timing, and their order among interleaved requests."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.configuration import set_hypothesis_home_dir

from hkswitch.backend.simulated import ACTIVE, INACTIVE, SimulatedHost
from hkswitch.hap import events
from hkswitch.hap.connection import HapConnection
from hkswitch.hap.events import Pace, Path
from hkswitch.model.group import Group
from hkswitch.model.switch_events import Tile
from tests.hap.conftest import Served
from tests.support.raw_session import KEY, NAME, TAG_BYTES, RawSession, raw_session
from tests.support.waiting import eventually
from tests.world.http_reader import Heard, request

QUICK = Pace(message_seconds=0.01, characteristic_seconds=0.04)
"""A fast pace, for properties that hold at any pace."""

EXAMPLES, LONGER = 25, 40
GROUPS = tuple(Group(name, name.title(), (f"{name}.service",)) for name in ("web", "slow", "broken", "mail"))

Step = tuple[Any, ...]

ACTIONS = st.one_of(
    st.tuples(st.just("flip"), st.sampled_from([0, 1, 3])),
    st.tuples(st.just("flip"), st.just(0)),
    st.tuples(st.just("tick"), st.sampled_from([0.0, 0.0, 0.002, 0.006, 0.012, 0.045])),
    st.tuples(st.just("listen"), st.booleans()),
)
REQUESTS = st.one_of(
    st.tuples(st.just("read"), st.lists(st.integers(0, 3), min_size=1, max_size=4)),
    st.tuples(st.just("write"), st.dictionaries(st.integers(0, 3), st.booleans(), min_size=1, max_size=3)),
    st.tuples(st.just("write"), st.fixed_dictionaries({1: st.booleans()})),
    st.tuples(st.just("accessories")),
)
MEANWHILE = st.lists(ACTIONS, min_size=1, max_size=5)
EPISODES = st.tuples(
    st.lists(REQUESTS, max_size=3),
    st.lists(st.integers(1, 400), max_size=3),
    st.lists(st.tuples(st.one_of(st.integers(1, 300), st.none()), MEANWHILE), max_size=2),
    MEANWHILE,
)
"""Pipelined requests, sizes of first frames, pieces (None: the first frame), and what happens meanwhile."""


@dataclass
class Trace:
    """A trace of a connection in order: arrivals of bytes, and sent messages."""

    connection: HapConnection
    done: list[tuple[str, float, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        receive, write, dispatch = (
            self.connection.data_received,
            self.connection.write,
            self.connection.handler.dispatch,
        )
        wrapped: Any = self.connection

        def received(data: bytes) -> None:
            self._note("bytes", len(data))
            receive(data)

        def written(data: bytes) -> None:
            self._note(
                "event" if data.startswith(b"EVENT/1.0 ") else "response", data.partition(b"\r\n\r\n")[2]
            )
            write(data)

        def dispatched(*arguments: Any) -> Any:  # noqa: ANN401 -- HAP-python's
            self._note("request", None)
            return dispatch(*arguments)

        wrapped.data_received, wrapped.write = received, written
        wrapped.handler.dispatch = dispatched

    def _note(self, what: str, of: object) -> None:
        self.done.append((what, asyncio.get_running_loop().time(), of))

    def check(self, ends: list[int], pace: Pace) -> None:
        """No event from the first byte of a request to its response, nor between such, and none too soon."""
        came = answered = 0
        told_at: dict[Path, float] = {}
        message_at = -1.0
        for what, at, of in self.done:
            came += of if what == "bytes" else 0
            answered += what == "response"
            if what == "event":
                assert came == ([0, *ends])[answered], "an event between a request and its response"
                # Half of it: between the look at the clock and the write, the processor may be away.
                assert at - message_at > pace.message_seconds / 2
                message_at = at
                for item in json.loads(of)["characteristics"]:
                    path = item["aid"], item["iid"]
                    assert at - told_at.get(path, -1.0) > pace.characteristic_seconds / 2
                    told_at[path] = at
        assert answered == len(ends)


@dataclass
class Phone:
    """A controller that tracks the values it receives, and checks them against expectations."""

    served: Served
    session: RawSession
    trace: Trace
    paths: list[Path]
    asked: list[Any] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    waiting: bytes = b""
    sent_bytes: int = 0
    told: dict[Path, Any] = field(default_factory=dict)
    believes: dict[Path, Any] = field(default_factory=dict)
    answers: int = 0
    listening: asyncio.Event = field(default_factory=asyncio.Event)

    async def live(self, episode: tuple[Any, ...]) -> None:
        """Play one of `EPISODES`."""
        requests, sizes, pieces, after = episode
        self.enqueue(requests, sizes)
        for amount, meanwhile in pieces:
            self.push(self.first_frame_bytes if amount is None else amount)
            for step in meanwhile:
                await self.do(step)
        self.push(len(self.waiting))
        for step in after:
            await self.do(step)

    async def do(self, step: Step) -> None:
        match step:
            case "flip", number:
                (unit,) = GROUPS[number].units
                was_up = self.served.host.states[unit] == ACTIVE
                self.served.host.change({unit: INACTIVE if was_up else ACTIVE})
            case "listen", True:
                self.listening.set()
            case "listen", False:
                self.listening.clear()
            case "tick", seconds:
                await asyncio.sleep(seconds)

    @property
    def first_frame_bytes(self) -> int:
        return int.from_bytes(self.waiting[:2], "little") + 2 + TAG_BYTES

    def enqueue(self, requests: list[Any], sizes: list[int]) -> None:
        for number, asked in enumerate(requests):
            sealed = self.session.sealed(self.said(asked), sizes if number == 0 else ())
            self.waiting += sealed
            self.sent_bytes += len(sealed)
            self.ends.append(self.sent_bytes)
            self.asked.append(asked)

    def said(self, asked: Any) -> bytes:  # noqa: ANN401 -- one of the above
        match asked:
            case "read", numbers:
                ids = ",".join("{}.{}".format(*self.paths[number]) for number in numbers)
                return request("GET", f"/characteristics?id={ids}")
            case "write", values:
                items = [
                    {"aid": self.paths[number][0], "iid": self.paths[number][1], "value": on}
                    for number, on in values.items()
                ]
                return request("PUT", "/characteristics", {"characteristics": items})
        return request("GET", "/accessories")

    def push(self, amount: int) -> None:
        self.session.stream.writer.write(self.waiting[:amount])
        self.waiting = self.waiting[amount:]

    async def listen(self) -> None:
        while True:
            await self.listening.wait()
            await self.session.receive()
            for heard in self.session.heard:
                self.hear(heard)
            self.session.heard.clear()

    def hear(self, heard: Heard) -> None:
        if heard.is_event:
            for item in heard.body["characteristics"]:
                path = item["aid"], item["iid"]
                assert self.told.get(path) is not item["value"], f"{path} is told twice"
                self.told[path] = self.believes[path] = item["value"]
            return
        asked = self.asked[self.answers]
        self.answers += 1
        match asked:
            case "write", values:
                items = heard.body["characteristics"] if heard.body else []
                failed = {(item["aid"], item["iid"]) for item in items if item["status"]}
                for number, on in values.items():
                    self.learn(self.paths[number], None if self.paths[number] in failed else on)
            case "read", _:
                for item in heard.body["characteristics"]:
                    self.learn((item["aid"], item["iid"]), item.get("value"))
            case _:
                values = {
                    (accessory["aid"], found["iid"]): found.get("value")
                    for accessory in heard.body["accessories"]
                    for service in accessory["services"]
                    for found in service["characteristics"]
                }
                for path in self.paths:
                    self.believes[path] = values[path]
                    if self.told.get(path) is not values[path]:
                        self.told.pop(path, None)

    def learn(self, path: Path, value: object) -> None:
        if value is None:
            self.told.pop(path, None)
        else:
            self.told[path] = self.believes[path] = value

    def truth(self) -> dict[Path, Any]:
        tiles = self.served.bridge._tiles
        return {
            path: tiles[group.id, Tile.GROUP].on.value for path, group in zip(self.paths, GROUPS, strict=True)
        }


async def bridge(folder: FilePath) -> Served:
    host = SimulatedHost(GROUPS, job_seconds=0.003, slow={"slow.service": 0.02}, broken={"broken.service"})
    served = await Served.start(folder, host, GROUPS)
    served.bridge._driver.pair(NAME, KEY.public_key().public_bytes_raw(), b"\1")
    return served


def paths_of(served: Served) -> list[Path]:
    tiles = [served.bridge._tiles[group.id, Tile.GROUP] for group in GROUPS]
    return [(tile.aid, tile.iid_manager.get_iid(tile.on)) for tile in tiles]


async def subscribed(served: Served, stack: AsyncExitStack) -> Phone:
    """A phone that has subscribed to everything and read it."""
    session = await stack.enter_async_context(raw_session(served.address, served.port))
    (connection,) = (
        each
        for each in served.bridge._driver.http_server.connections.values()
        if each.transport.get_extra_info("peername") == session.stream.writer.get_extra_info("sockname")
    )
    paths = paths_of(served)
    items = [{"aid": aid, "iid": iid, "ev": True} for aid, iid in paths]
    assert (await session.ask(request("PUT", "/characteristics", {"characteristics": items}))).status == 204
    phone = Phone(served, session, Trace(connection), paths)
    phone.enqueue([("read", [0, 1, 2, 3])], [])
    phone.push(phone.sent_bytes)
    phone.hear(await session.next())
    return phone


async def play(served: Served, episodes: list[tuple[Any, ...]]) -> None:
    async with AsyncExitStack() as stack:
        phone = await subscribed(served, stack)
        phone.listening.set()
        listening = asyncio.ensure_future(phone.listen())
        try:
            for episode in episodes:
                await phone.live(episode)
            phone.listening.set()
            connection = phone.trace.connection
            await eventually(
                lambda: (
                    listening.done()
                    or (
                        phone.answers == len(phone.asked)
                        and phone.believes == phone.truth()
                        and not connection.events._changed  # an older event may be on its way yet
                    )
                )
            )
            await asyncio.sleep(2 * QUICK.message_seconds)  # nothing else may come
        finally:
            listening.cancel()
            (ended,) = await asyncio.gather(listening, return_exceptions=True)
        assert isinstance(ended, asyncio.CancelledError), ended
        assert phone.believes == phone.truth()
        phone.trace.check(phone.ends, QUICK)
        await eventually(lambda: not served.switchboard._tasks)
        served.host.change({unit: INACTIVE for group in GROUPS for unit in group.units})


@pytest.fixture
def runner(tmp_path: FilePath) -> Iterator[asyncio.Runner]:
    set_hypothesis_home_dir(tmp_path)
    with asyncio.Runner() as runner:
        yield runner


def test_no_interleaving_tells_too_soon_twice_in_between_or_less_than_the_truth(
    runner: asyncio.Runner, tmp_path: FilePath, monkeypatch: pytest.MonkeyPatch, long: bool
) -> None:
    monkeypatch.setattr(events, "PACE", QUICK)
    served = runner.run(bridge(tmp_path))

    @settings(
        max_examples=EXAMPLES * (LONGER if long else 1),
        derandomize=not long,
        database=None,
        phases=[Phase.generate, *([Phase.shrink] if long else [])],
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.lists(EPISODES, min_size=2, max_size=6))
    def example(episodes: list[tuple[Any, ...]]) -> None:
        runner.run(play(served, episodes))

    try:
        example()
    finally:
        runner.run(served.stop())


def test_a_lone_change_waits_for_nothing(
    runner: asyncio.Runner, tmp_path: FilePath, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "PACE", Pace(600, 600))

    async def stop_from_outside() -> None:
        served = await bridge(tmp_path)
        async with AsyncExitStack() as stack:
            phone = await subscribed(served, stack)
            served.host.change({"web.service": ACTIVE})
            heard = await phone.session.next()
            assert heard.is_event
            assert [item["value"] for item in heard.body["characteristics"]] == [True]
        await served.stop()

    runner.run(stop_from_outside())
