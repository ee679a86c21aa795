"""Requests to engines, on real sockets and in memory: what is sent, which faults end them, and how soon."""

import asyncio
import math
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from hkswitch.containers.answers import EngineUnavailable
from hkswitch.containers.connection import (
    LONGEST_ANSWER_BYTES,
    LONGEST_LINE_BYTES,
    SOCKETS,
    TOO_LONG,
    EngineConnection,
    why_off,
)
from hkswitch.containers.connection import connect as connect_to_engine
from hkswitch.model.group import Engine
from hkswitch.model.unit_state import ActiveState, LoadState, UnitState
from tests.containers.both_engines import OF_EACH, OFF, STOPPING, BothEngines, in_virtual_time
from tests.support.simulated_containers import ACTIVE
from tests.support.simulated_engine import EngineFault, SimulatedEngine

LOOK = "/containers/json?all=1"
OK = b"HTTP/1.0 200 OK\r\n\r\n"
SECONDS = 5


def connection_to(both: BothEngines, engine: Engine = Engine.DOCKER) -> EngineConnection:
    return both.engines.connections[engine]


# On a real socket


@asynccontextmanager
async def listening(folder: Path, simulated: SimulatedEngine) -> AsyncIterator[EngineConnection]:
    """The engine on a socket where the client looks for it."""
    both = BothEngines()
    both.by_engine[simulated.engine] = simulated
    path = folder / "engine.sock"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SOCKETS, simulated.engine, str(path))
        async with await asyncio.start_unix_server(simulated.serve, path):
            yield EngineConnection(simulated.engine, both.unit_states, connect_to_engine)


@OF_EACH
async def test_an_engine_on_a_socket_answers(tmp_path: Path, engine: Engine) -> None:
    simulated = SimulatedEngine(engine)
    simulated.add("web")
    async with listening(tmp_path, simulated) as connection:
        assert b'"/web"' in await connection.get(LOOK)
        assert await connection.get("/containers/nothing/json") == b""
        async with connection.asking("GET", "/events", SECONDS) as (status, lines):
            assert status == 200
            simulated.pause(simulated.named("web"))
            assert b'"Action":"pause"' in await lines.readuntil(b"\n")
    assert simulated.requests == ["GET /containers/json", "GET /containers/nothing/json", "GET /events"]


async def test_an_endless_line_on_a_socket_fills_no_memory(tmp_path: Path) -> None:
    simulated = SimulatedEngine(Engine.DOCKER)
    simulated.faults = [EngineFault("GET", answer=OK, then=b"x" * LONGEST_LINE_BYTES)]
    async with listening(tmp_path, simulated) as connection:
        tracemalloc.start()
        with pytest.raises(EngineUnavailable):
            async with connection.asking("GET", "/events", SECONDS) as (_, lines):
                await lines.readuntil(b"\n")
        with pytest.raises(EngineUnavailable, match="too long"):
            await connection.get(LOOK)
        _, most_bytes = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert most_bytes < 8 * LONGEST_ANSWER_BYTES


async def test_a_socket_that_is_not_there_is_an_engine_that_is_not_available(tmp_path: Path) -> None:
    simulated = SimulatedEngine(Engine.PODMAN)
    async with listening(tmp_path, simulated) as connection:
        pass
    with pytest.raises(EngineUnavailable, match=r"^podman: "):
        await connection.get(LOOK)


# While the engine's unit is active


UNITS = [
    (UnitState(LoadState.LOADED, ActiveState.ACTIVE, "running"), ""),
    (UnitState(LoadState.LOADED, ActiveState.ACTIVE, "listening"), ""),
    (UnitState(LoadState.LOADED, ActiveState.RELOADING, "reload"), ""),
    (OFF, "docker.service is inactive (dead)"),
    (STOPPING, "docker.service is deactivating (stop-sigterm)"),
    (
        UnitState(LoadState.LOADED, ActiveState.ACTIVATING, "start"),
        "docker.service is activating (start)",
    ),
    (
        UnitState(LoadState.LOADED, ActiveState.ACTIVATING, "auto-restart"),
        "docker.service is activating (auto-restart)",
    ),
    (UnitState(LoadState.LOADED, ActiveState.FAILED, "failed"), "docker.service is failed (failed)"),
    (UnitState(LoadState.LOADED, ActiveState.UNKNOWN, "odd"), "docker.service is unknown (odd)"),
    (UnitState(LoadState.NOT_FOUND, ActiveState.INACTIVE, "dead"), "docker.service is not-found"),
    (UnitState(LoadState.MASKED, ActiveState.INACTIVE, "dead"), "docker.service is masked"),
]


@pytest.mark.parametrize(("unit", "why"), UNITS)
@in_virtual_time
async def test_an_engine_is_asked_only_while_its_unit_is_active(unit: UnitState, why: str) -> None:
    both = BothEngines()
    simulated = both.by_engine[Engine.DOCKER]
    simulated.unit = unit
    assert why_off(Engine.DOCKER, simulated.units) == why
    begun: list[bool] = []
    try:
        await connection_to(both).ask("GET", LOOK, SECONDS, lambda: begun.append(True))
    except EngineUnavailable as refusal:
        assert (str(refusal), simulated.connects, begun) == (why, [], [])  # noqa: PT017 -- or it is up
    else:
        assert (why, simulated.connects, begun) == ("", [unit], [True])


@in_virtual_time
async def test_podman_is_asked_while_its_socket_is_active() -> None:
    units = dict.fromkeys(Engine.PODMAN.units, OFF)
    assert why_off(Engine.PODMAN, units) == "podman.socket is inactive (dead)"
    assert why_off(Engine.PODMAN, units | {"podman.socket": ACTIVE}) == ""


@in_virtual_time
async def test_podman_is_not_asked_while_its_service_stops() -> None:
    """It would be started again."""
    units = {"podman.socket": ACTIVE, "podman.service": STOPPING}
    assert why_off(Engine.PODMAN, units) == "podman.service is deactivating (stop-sigterm)"


@in_virtual_time
async def test_no_engine_is_asked_while_systemd_does_not_tell_its_state() -> None:
    both = BothEngines()
    both.bus_problem = "the bus is gone"
    with pytest.raises(EngineUnavailable, match=r"^docker: .*: the bus is gone$"):
        await connection_to(both).get(LOOK)
    assert both.by_engine[Engine.DOCKER].connects == []


# What is sent


@in_virtual_time
async def test_begin_is_called_when_the_engine_has_taken_the_connection_and_before_it_is_asked() -> None:
    both = BothEngines()
    simulated = both.by_engine[Engine.DOCKER]
    seen: list[int] = []
    await connection_to(both).ask("GET", LOOK, SECONDS, lambda: seen.append(len(simulated.requests)))
    assert (seen, len(simulated.requests)) == ([0], 1)


@in_virtual_time
async def test_a_begin_that_raises_sends_nothing() -> None:
    both = BothEngines()
    simulated = both.by_engine[Engine.DOCKER]

    def begin() -> None:
        raise KeyError("overruled")

    with pytest.raises(KeyError, match="overruled"):
        await connection_to(both).ask("POST", "/containers/web/stop", SECONDS, begin)
    await asyncio.sleep(1)
    assert (simulated.requests, simulated.connections) == ([], 0)


# Faults

DID_NOT_ANSWER = "docker did not answer within 5 s"
CLOSED = "docker closed the connection"
NOT_HTTP = "the engine's answer is not HTTP"
NOT_JSON = "the engine's answer is not JSON"
FAULTS: list[tuple[EngineFault, str]] = [
    (EngineFault("GET", delay_seconds=4), ""),
    (EngineFault("GET", answer=b"HTTP/1.1 200 OK\r\nX: y\r\n\r\n[]"), ""),
    (EngineFault("GET", answer=OK), ""),
    (EngineFault("GET", answer=OK + b"x" * LONGEST_ANSWER_BYTES), ""),
    (EngineFault("GET", status=404), ""),
    (EngineFault("GET", delay_seconds=6), DID_NOT_ANSWER),
    (EngineFault("GET", delay_seconds=math.inf), DID_NOT_ANSWER),
    (EngineFault("GET", cut_at_bytes=0), CLOSED),
    (EngineFault("GET", cut_at_bytes=1), CLOSED),
    (EngineFault("GET", cut_at_bytes=30), CLOSED),
    (EngineFault("GET", answer=b"garbage\r\n\r\n"), NOT_HTTP),
    (EngineFault("GET", answer=b"HTTP/2 200 OK\r\n\r\n"), NOT_HTTP),
    (EngineFault("GET", answer=b"HTTP/1.0 2x0 OK\r\n\r\n"), NOT_HTTP),
    (EngineFault("GET", answer=b"HTTP/1.0\r\n\r\n"), NOT_HTTP),
    (EngineFault("GET", answer=b"\r\n\r\n"), NOT_HTTP),
    (EngineFault("GET", answer=b"x", then=b"x" * 999), TOO_LONG),
    (EngineFault("GET", answer=b"HTTP/1.0 200 OK\r\n", then=b"X: y\r\n"), TOO_LONG),
    (EngineFault("GET", answer=OK, then=b"x" * 999), TOO_LONG),
    (EngineFault("GET", answer=OK + b"x" * (LONGEST_ANSWER_BYTES + 1)), TOO_LONG),
    (EngineFault("GET", answer=b"HTTP/1.0 500 Error\r\n\r\nbroken"), NOT_JSON),
    (EngineFault("GET", status=500), "something broke"),
    (EngineFault("GET", status=400), "something broke"),
]


@pytest.mark.parametrize(("fault", "why"), FAULTS)
@in_virtual_time
async def test_a_fault_of_an_engine_is_told_in_time_and_its_connection_is_closed(
    fault: EngineFault, why: str
) -> None:
    both = BothEngines()
    simulated = both.by_engine[Engine.DOCKER]
    simulated.faults = [fault]
    began_at_seconds = asyncio.get_running_loop().time()
    try:
        await connection_to(both).get(LOOK)
    except EngineUnavailable as failure:
        assert (str(failure)[: len(why)], bool(why)) == (why, True)  # noqa: PT017 -- or there is none
    else:
        assert not why
    assert asyncio.get_running_loop().time() - began_at_seconds <= SECONDS
    await asyncio.sleep(2)
    assert simulated.connections == 0


@in_virtual_time
async def test_an_engine_that_refuses_connections_is_not_available() -> None:
    both = BothEngines()
    both.by_engine[Engine.DOCKER].refuses = True
    with pytest.raises(EngineUnavailable, match=r"^docker: Connection refused$"):
        await connection_to(both).get(LOOK)


@in_virtual_time
async def test_an_engine_that_takes_no_connection_is_given_up_in_time() -> None:
    both = BothEngines()

    async def connect(engine: Engine) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        await asyncio.sleep(99)
        return await both.connect(engine)

    with pytest.raises(EngineUnavailable, match=DID_NOT_ANSWER):
        await connection_to(both)._replace(connect=connect).get(LOOK)


@OF_EACH
@in_virtual_time
async def test_an_answer_that_ends_too_soon_is_never_taken_for_a_whole_one(engine: Engine) -> None:
    """It has no length: a list that was cut off is no JSON, and so says nothing of containers."""
    both = BothEngines()
    simulated = both.by_engine[engine]
    simulated.add("web")
    whole = len(await connection_to(both, engine).get(LOOK)) + len(await head_of(both, engine))
    for cut_at_bytes in range(0, whole - 1, 3):
        simulated.faults = [EngineFault("json", cut_at_bytes=cut_at_bytes)]
        assert str(await both.state(f"{engine}/web")).startswith("unavailable ("), cut_at_bytes
    simulated.faults = [replace(simulated.faults[0], cut_at_bytes=whole * 9)]
    assert await both.state(f"{engine}/web") == "active (running)"


async def head_of(both: BothEngines, engine: Engine) -> bytes:
    reader, writer = await both.connect(engine)
    writer.write(b"GET /containers/json HTTP/1.0\r\n\r\n")
    head = await reader.readuntil(b"\r\n\r\n")
    writer.close()
    return head


# How much of it is done at once


@in_virtual_time
async def test_a_slow_trickle_is_given_up_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    both = BothEngines()

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(OK)
        for _number in range(100):
            writer.write(b"x")
            await asyncio.sleep(0.5)
        writer.close()

    monkeypatch.setattr(both.by_engine[Engine.DOCKER], "_serve", serve)
    began_at_seconds = asyncio.get_running_loop().time()
    with pytest.raises(EngineUnavailable, match=DID_NOT_ANSWER):
        await connection_to(both).get(LOOK)
    assert asyncio.get_running_loop().time() - began_at_seconds <= 2 * SECONDS
    await asyncio.sleep(60)
