"""Every announcement is followed by a goodbye, whatever the bridge is doing when it stops."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress

import pytest
import pytest_asyncio

from hkswitch.hap import advertiser
from hkswitch.hap.presence import Presence
from hkswitch.hap.responder import Responder
from hkswitch.network.endpoint import Endpoint
from tests.support.mdns import HAP, NAME, OTHER, RESPONSE, Said, hear, info, message, srv
from tests.support.waiting import eventually

HERE, THERE = Endpoint(("127.0.0.1",), frozenset({1})), Endpoint(("127.0.0.2",), frozenset({1}))
ELSEWHERE = Endpoint(("127.0.0.1",), frozenset({1, 2}))
"""A move from here to `HERE` keeps no socket."""

CLOSING_SECONDS = 1
"""For which zeroconf waits for its sockets when it closes them."""


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> Said:
    """Record what is sent, and send nothing."""
    taken = Said()
    monkeypatch.setattr(Responder, "async_send", lambda _, out, *__, **___: taken.take(out))
    monkeypatch.setattr(advertiser, "PROBE_SECONDS", 0.02)
    monkeypatch.setattr(advertiser, "ANNOUNCED_AFTER_SECONDS", (0.0, 0.01, 0.01))
    return taken


@pytest_asyncio.fixture(params=[HERE, ELSEWHERE], ids=["sockets kept", "sockets anew"])
async def ours(said: Said, request: pytest.FixtureRequest) -> AsyncIterator[Presence]:
    """An announced bridge."""
    made = Presence()
    await made.move(request.param, info)
    await eventually(lambda: len(said.announcements) == 3)
    yield made
    await made.leave(for_good=True)


def target(ours: Presence) -> Endpoint:
    return HERE if ours._interfaces == ELSEWHERE.interfaces else THERE


def is_goodbye(said: Said) -> bool:
    return {record.ttl for record in said.messages[-1][1].answers()} == {0}


def held(monkeypatch: pytest.MonkeyPatch, held_until: asyncio.Event) -> asyncio.Event:
    """Make the next move wait for its sockets; the event is set when it does."""
    waits = asyncio.Event()

    async def wait(self: Responder, timeout: float = 9) -> None:  # noqa: ASYNC109 -- zeroconf's
        is_end = timeout == CLOSING_SECONDS
        if not waits.is_set() and not is_end:
            waits.set()
            await held_until.wait()
        await genuine(self, timeout)

    genuine: Callable[..., Awaitable[None]] = Responder.async_wait_for_start
    monkeypatch.setattr(Responder, "async_wait_for_start", wait)
    return waits


async def test_a_stop_while_the_names_are_probed_for_again(ours: Presence, said: Said) -> None:
    probes = len(said.probes)
    await ours.move(target(ours), info)
    await eventually(lambda: len(said.probes) > probes)
    await ours.leave(for_good=True)
    assert is_goodbye(said)


async def test_a_stop_that_breaks_a_move_off(
    ours: Presence, said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits = held(monkeypatch, asyncio.Event())
    moving = asyncio.create_task(ours.move(target(ours), info))
    await waits.wait()
    moving.cancel()
    with suppress(asyncio.CancelledError):
        await moving
    assert is_goodbye(said)


async def test_a_stop_beside_a_move_that_goes_on(
    ours: Presence, said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    held_until = asyncio.Event()
    waits = held(monkeypatch, held_until)
    moving = asyncio.create_task(ours.move(target(ours), info))
    await waits.wait()
    leaving = asyncio.create_task(ours.leave(for_good=True))
    again = asyncio.create_task(ours.move(HERE, info))
    held_until.set()
    await asyncio.gather(moving, leaving, again)
    assert is_goodbye(said)
    assert ours.advertiser is None


async def test_no_goodbye_is_said_to_a_name_that_another_device_has(ours: Presence, said: Said) -> None:
    before = len(said.announcements)
    hear(ours.advertiser, message(RESPONSE, answers=1) + srv(f"{NAME}.{HAP}", "other.local."), OTHER)
    await ours.leave(for_good=True)
    assert len(said.announcements) == before
