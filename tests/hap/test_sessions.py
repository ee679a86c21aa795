"""The limit of a controller's connections; over it, the one idle longest is closed."""

import asyncio
import time

import pytest
from pyhap import hap_protocol

from hkswitch.hap.sessions import MOST_SESSIONS, MOST_SESSIONS_IN_ALL, ControllerSessions
from tests.hap.conftest import GROUPS, Served
from tests.support.controller import Controller
from tests.support.raw_session import Session
from tests.support.waiting import eventually

YEAR_SECONDS = 365 * 24 * 3600.0
READ = b"GET /characteristics?id=1.2 HTTP/1.1\r\nHost: bridge\r\n\r\n"


def full(*controllers: str) -> ControllerSessions[int]:
    """Connections in this order, each idle for less than the one before."""
    sessions: ControllerSessions[int] = ControllerSessions(float)
    for number, controller in enumerate(controllers):
        assert sessions.add(number, controller) is None
    return sessions


OTHERS = [
    f"c{number}" for number in range(MOST_SESSIONS_IN_ALL // MOST_SESSIONS) for _ in range(MOST_SESSIONS)
]


@pytest.mark.parametrize(
    ("there", "comes", "closed"),
    [
        (["a"] * (MOST_SESSIONS - 1), "a", None),
        (["a"] * MOST_SESSIONS, "a", 0),
        (["b"] + ["a"] * MOST_SESSIONS, "a", 1),
        (["a"] * MOST_SESSIONS, "b", None),
        (OTHERS[:-1], "new", None),
        (OTHERS, "new", 0),
        (["quiet", *OTHERS[:-1]], "new", 1),
    ],
)
def test_one_too_many_costs_the_longest_idle_one_of_whoever_has_too_many(
    there: list[str], comes: str, closed: int | None
) -> None:
    assert full(*there).add(9_999, comes) == closed


def test_one_that_went_makes_room() -> None:
    sessions = full(*["a"] * MOST_SESSIONS)
    sessions.discard(7)
    sessions.discard(7)
    assert sessions.add(9_999, "a") is None
    assert len(sessions) == MOST_SESSIONS


def test_one_that_authenticates_again_is_no_other() -> None:
    sessions = full(*["a"] * MOST_SESSIONS)
    assert sessions.add(3, "a") is None


async def test_the_33rd_session_of_a_controller_costs_the_longest_idle_one(
    served: Served, paired: Controller
) -> None:
    first = paired.again()
    await first.look()
    held = []
    for _ in range(MOST_SESSIONS):
        held.append(await connected(served, paired))
        assert await first.read("Web Server") is False  # so it is not idle
    others = [session.is_closed() for session in held]
    assert others.count(True) >= 1
    assert not any(others[-10:])
    await eventually(lambda: len(served.bridge._driver.http_server._sessions) == MOST_SESSIONS)
    assert await first.read("Web Server") is False
    for session in held:
        session.close()
    await first.close()


async def connected(served: Served, paired: Controller) -> Session:
    """Another session, whose steps must not hold up the loop that answers them."""
    return await asyncio.to_thread(Session, served.address, served.port, dict(paired.pairing.pairing_data))


@pytest.mark.parametrize(
    ("idle_seconds", "clock_seconds", "closed"),
    [(-1.0, 0.0, True), (5.0, 0.0, False), (5.0, YEAR_SECONDS, False), (5.0, -YEAR_SECONDS, False)],
    ids=["idle for longer", "not", "the clock is set forwards", "the clock is set back"],
)
async def test_a_connection_is_closed_when_it_was_idle_for_long_whatever_the_clock_says(
    unpaired: Served, monkeypatch: pytest.MonkeyPatch, idle_seconds: float, clock_seconds: float, closed: bool
) -> None:
    now_seconds = time.time() + clock_seconds
    controller = await unpaired.pair()
    is_closed = controller.closing()
    monkeypatch.setattr(hap_protocol, "IDLE_CONNECTION_TIMEOUT_SECONDS", idle_seconds)
    monkeypatch.setattr(time, "time", lambda: now_seconds)
    unpaired.bridge._driver.http_server.async_cleanup_connections()
    monkeypatch.undo()
    if closed:
        await eventually(is_closed)
    else:
        assert await controller.read(GROUPS[1].name) is False
        assert not is_closed()
    await controller.close()
