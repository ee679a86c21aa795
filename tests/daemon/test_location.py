"""Where a bridge is, is not and waits to be: whatever it finds, and whatever fails on the way."""

import asyncio
import errno
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from hkswitch.daemon import location
from hkswitch.daemon.bridge import CannotServe, WriteHandler
from hkswitch.daemon.location import Location
from hkswitch.model.config import BridgeConfig
from hkswitch.model.errors import Failure
from hkswitch.network.addresses import TablesUnreadable
from hkswitch.network.choice import NoAddress, NoDefaultRoute
from hkswitch.network.endpoint import Endpoint
from tests.support.waiting import eventually

HOME = Endpoint(("10.1.0.1",), frozenset({2}))
BOTH = Endpoint(("10.1.0.1", "10.2.0.1"), frozenset({2, 3}))
OTHER = Endpoint(("10.2.0.1",), frozenset({3}))
LACKING = Endpoint(("10.1.0.1",), frozenset({2}), "eth1: it is down")
UNREADABLE = TablesUnreadable(OSError(errno.EMFILE, os.strerror(errno.EMFILE)))
NO_ROUTE = NoDefaultRoute()
GONE = NoAddress("there is no interface eth9", "eth9")
WAITS = "waiting for eth9: there is no interface eth9"
MANY_TURNS = 100
"""Of the event loop, in which there would be another try."""

CANNOT = "retrying: cannot serve HomeKit on {}, port 1: Address already in use"
UNKNOWN = "waiting for the network: cannot read this machine's network addresses: Too many open files"


@dataclass
class Front:
    """A bridge that can be brought somewhere, but not to what is `refused`."""

    refused: list[Endpoint] = field(default_factory=list)
    at: Endpoint | None = None
    moves: int = 0
    held: asyncio.Event | None = None

    async def start(self, taps: WriteHandler, place: Endpoint) -> None:
        del taps
        assert self.at is None
        await self.move(place)

    async def move(self, place: Endpoint) -> None:
        self.moves += 1
        if place in self.refused:
            raise CannotServe(place, 1, os.strerror(errno.EADDRINUSE), in_use=True)
        if self.held is not None:
            self.at = None
            await self.held.wait()
        self.at = place

    async def leave(self) -> None:
        self.at = None


@dataclass
class News:
    """That something has changed."""

    changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def wait(self) -> None:
        await self.changed.wait()
        self.changed.clear()


@dataclass
class World:
    """A machine with a network, as it is found."""

    found: Endpoint | Failure
    front: Front = field(default_factory=Front)
    befores: list[Endpoint | None] = field(default_factory=list)
    told: list[tuple[Endpoint | None, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        taps = cast("Any", None)
        self.location = Location(self.front, taps, self.find, self.say, BridgeConfig(name="Test"))

    def find(self, bridge: BridgeConfig, before: Endpoint | None) -> Endpoint:
        del bridge
        self.befores.append(before)
        if isinstance(self.found, Failure):
            raise self.found
        return self.found

    def say(self) -> None:
        self.told.append((self.location.endpoint, self.location.waits_for))

    async def finds(self, found: Endpoint | Failure, *interfaces: str) -> None:
        """It is another one, and maybe another one is wanted."""
        self.found = found
        self.location.wanted = BridgeConfig(name="Test", interfaces=interfaces)
        await self.location.settle()

    def is_at(self, place: Endpoint | None, waits_for: str = "") -> None:
        """It is there, and says so."""
        assert (self.front.at, self.location.endpoint, self.location.waits_for) == (place, place, waits_for)
        assert self.told[-1:] == [(place, waits_for)]


@pytest.mark.parametrize(
    ("found", "interfaces", "place", "waits_for"),
    [
        pytest.param(HOME, (), HOME, "", id="the same"),
        pytest.param(OTHER, (), OTHER, "", id="another one"),
        pytest.param(OTHER, ("eth1",), OTHER, "", id="another one by choice"),
        pytest.param(LACKING, ("eth0", "eth1"), HOME, "waiting for eth1: it is down", id="one of two"),
        pytest.param(GONE, (), None, WAITS, id="none"),
        pytest.param(GONE, ("eth9",), None, WAITS, id="none of that choice"),
        pytest.param(NO_ROUTE, (), None, f"waiting for the network: {NO_ROUTE}", id="no route"),
        pytest.param(UNREADABLE, (), HOME, UNKNOWN, id="unknown, and it is where it should be"),
        pytest.param(UNREADABLE, ("eth9",), None, UNKNOWN, id="unknown, and another choice"),
    ],
)
async def test_a_bridge_is_where_it_should_be_or_waits_for_that_and_is_nowhere(
    found: Endpoint | Failure, interfaces: tuple[str, ...], place: Endpoint | None, waits_for: str
) -> None:
    world = World(HOME)
    await world.location.settle()
    world.is_at(HOME)
    await world.finds(found, *interfaces)
    world.is_at(place, waits_for)
    told = len(world.told)
    await world.finds(found, *interfaces)
    assert len(world.told) == told, "it says the same again"
    await world.finds(HOME, *interfaces)
    world.is_at(HOME)


@pytest.mark.parametrize(
    ("before", "wanted", "kept"),
    [(HOME, BOTH, HOME), (BOTH, HOME, None), (BOTH, OTHER, None), (HOME, OTHER, None)],
    ids=["one more", "one less", "the other of two", "another one"],
)
async def test_a_move_that_fails_keeps_what_is_chosen_still_and_nothing_else(
    before: Endpoint, wanted: Endpoint, kept: Endpoint | None
) -> None:
    world = World(before)
    await world.location.settle()
    world.front.refused.append(wanted)
    await world.finds(wanted)
    world.is_at(kept, CANNOT.format(wanted))
    world.front.refused.clear()
    await world.finds(wanted)
    world.is_at(wanted)


async def test_a_part_of_what_was_there_is_kept() -> None:
    world = World(Endpoint(("10.1.0.1", "10.3.0.1"), frozenset({2, 4})))
    await world.location.settle()
    world.front.refused.append(BOTH)
    await world.finds(BOTH)
    world.is_at(HOME, CANNOT.format(BOTH))


async def test_a_move_that_is_broken_off_is_made_by_the_next_one() -> None:
    world = World(HOME)
    await world.location.settle()
    world.front.held = asyncio.Event()
    moving = asyncio.create_task(world.finds(OTHER))
    await eventually(lambda: world.front.at is None)
    moving.cancel()
    with suppress(asyncio.CancelledError):
        await moving
    world.front.held = None
    await world.finds(HOME)
    world.is_at(HOME)


@pytest.mark.parametrize(
    ("interfaces", "before"), [((), HOME), (("eth0",), None)], ids=["the same choice", "another one"]
)
async def test_where_it_is_counts_only_for_the_choice_that_led_there(
    interfaces: tuple[str, ...], before: Endpoint | None
) -> None:
    world = World(HOME)
    await world.location.settle()
    await world.finds(HOME, *interfaces)
    assert world.befores == [None, before]


@asynccontextmanager
async def following(world: World) -> AsyncIterator[tuple[News, asyncio.Task[None]]]:
    news = News()
    task = asyncio.create_task(world.location.follow(news))
    await eventually(lambda: world.befores)
    try:
        yield news, task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(location, "LOCATION_RETRY_SECONDS", 0)


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize("by_reload", [True, False])
@pytest.mark.parametrize("found", [OTHER, UNREADABLE], ids=["refused", "unreadable"])
async def test_what_failed_is_tried_again_without_news_whoever_tried_it(
    found: Endpoint | Failure, *, by_reload: bool
) -> None:
    world = World(HOME)
    async with following(world) as (news, _):
        await eventually(lambda: world.front.at == HOME)
        world.front.refused.append(OTHER)
        world.found = found
        if by_reload:
            await world.finds(found, "eth1")
        else:
            news.changed.set()
        await eventually(lambda: world.location.waits_for)
        tries = len(world.befores)
        await eventually(lambda: len(world.befores) > tries + 2)
        world.front.refused.clear()
        world.found = OTHER
        await eventually(lambda: world.front.at == OTHER)
        world.is_at(OTHER)


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize("found", [GONE, HOME], ids=["nothing", "all"])
async def test_without_a_failure_there_is_no_other_try_before_there_is_news(
    found: Endpoint | Failure,
) -> None:
    world = World(found)
    async with following(world) as (news, _):
        for _ in range(MANY_TURNS):
            await asyncio.sleep(0)
        assert len(world.befores) == 1
        news.changed.set()
        await eventually(lambda: len(world.befores) == 2)


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize("by_reload", [True, False])
async def test_a_port_that_another_program_has_ends_a_bridge_that_never_served(*, by_reload: bool) -> None:
    world = World(GONE if by_reload else HOME)
    world.front.refused.append(HOME)
    async with following(world) as (_, task):
        if by_reload:
            await world.finds(HOME, "eth0")
        await asyncio.wait([task], timeout=5)
        with pytest.raises(CannotServe, match=r"cannot serve HomeKit on 10\.1\.0\.1, port 1"):
            task.result()
    assert world.location.endpoint is None


@pytest.mark.usefixtures("soon")
async def test_a_port_that_another_program_has_later_is_waited_for() -> None:
    world = World(HOME)
    async with following(world) as (_, task):
        await eventually(lambda: world.front.at == HOME)
        world.front.refused.append(OTHER)
        await world.finds(OTHER, "eth1")
        assert not task.done()
        world.is_at(None, CANNOT.format(OTHER))
