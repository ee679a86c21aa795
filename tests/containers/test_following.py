"""States of containers, followed by an engine's events: told once each, and soon, whatever it does."""

import asyncio
import math
from collections.abc import Callable

import pytest

from hkswitch.containers import following
from hkswitch.containers.answers import Change, parse_event
from hkswitch.containers.connection import LONGEST_LINE_BYTES
from hkswitch.containers.following import AGAIN_SECONDS, Following
from hkswitch.model.group import Engine
from hkswitch.model.unit_state import ActiveState, LoadState, UnitState
from tests.containers.both_engines import (
    OF_EACH,
    OFF,
    STOPPING,
    BothEngines,
    Told,
    in_virtual_time,
    watching,
)
from tests.support.memory_streams import LARGEST_CHUNK_BYTES
from tests.support.simulated_containers import SimulatedContainer
from tests.support.simulated_engine import EngineFault, SimulatedEngine

UP, DOWN = "active (running)", "inactive (exited with 0)"
GONE = "not-found (no such container)"
EVENTS_HEAD = b"HTTP/1.0 200 OK\r\n\r\n"

Happening = Callable[[SimulatedEngine, SimulatedContainer], object]


def now_seconds() -> float:
    return asyncio.get_running_loop().time()


# What happens to containers

HAPPENINGS: list[tuple[str, Happening, list[str]]] = [
    # Something that changes nothing is told to nobody.
    ("an exec", lambda engine, web: engine.tell("exec_start: true", web), []),
    ("a passed check", lambda engine, web: engine.tell("health_status", web), []),
    ("an update", lambda engine, web: engine.tell("update", web), []),
    ("a signal", lambda engine, web: engine.tell("kill", web, signal="1"), []),
    ("another's event", lambda engine, _: engine.kill(engine.named("web2")), []),
    ("a clean-up", lambda engine, _: engine.tell("prune", SimulatedContainer("", "")), []),
    ("one without a name", lambda engine, _: engine.tell("history", SimulatedContainer("", "f" * 64)), []),
    # A change is told once.
    ("a stop", lambda engine, web: engine.end(web), ["inactive (exited with 0)"]),
    ("a crash", lambda engine, web: engine.end(web, 3), ["inactive (exited with 3)"]),
    ("a kill", lambda engine, web: engine.kill(web), ["inactive (exited with 137)"]),
    ("a pause", lambda engine, web: engine.pause(web), ["partial (paused)"]),
    ("a removal", lambda engine, web: engine.remove(web), [GONE]),
    ("another name", lambda engine, web: engine.rename(web, "moved"), [GONE]),
]


@pytest.mark.parametrize("lag_seconds", [0, 0.45])
@pytest.mark.parametrize(
    ("happens", "told"), [row[1:] for row in HAPPENINGS], ids=[row[0] for row in HAPPENINGS]
)
@OF_EACH
@in_virtual_time
async def test_a_change_is_told_once_and_within_a_second(
    engine: Engine, happens: Happening, told: list[str], lag_seconds: float
) -> None:
    both = BothEngines(event_lag_seconds=lag_seconds)
    simulated = both.by_engine[engine]
    web = simulated.add("web")
    simulated.add("web2")
    async with watching(both, engine, [f"{engine}/web"]) as watcher:
        assert watcher.take() == [(f"{engine}/web", UP)]
        happened_at_seconds = now_seconds()
        happens(simulated, web)
        await asyncio.sleep(3)
        assert watcher.news == [(f"{engine}/web", state) for state in told]
        assert all(at - happened_at_seconds < 1 for at in watcher.at_seconds)


@OF_EACH
@in_virtual_time
async def test_a_container_is_followed_from_its_end_to_its_next_start(engine: Engine) -> None:
    both = BothEngines()
    simulated = both.by_engine[engine]
    web = simulated.add("web", health="healthy")
    name = f"{engine}/web"
    async with watching(both, engine, [name]) as watcher:
        simulated.set_health(web, "unhealthy")
        await asyncio.sleep(1)
        simulated.set_health(web, "unhealthy")
        await asyncio.sleep(1)
        simulated.kill(web)
        await asyncio.sleep(1)
        simulated.begin(web)
        await asyncio.sleep(1)
        simulated.set_health(web, "healthy")
        await asyncio.sleep(1)
        assert [state for _, state in watcher.news] == [
            "activating (starting)",
            "failing (unhealthy)",
            "inactive (exited with 137)",
            "activating (starting)",
            "active (healthy)",
        ]


@OF_EACH
@in_virtual_time
async def test_a_container_of_the_same_name_takes_the_place_of_one_that_was_removed(engine: Engine) -> None:
    both = BothEngines()
    simulated = both.by_engine[engine]
    web = simulated.add("web", restarts=3)
    name = f"{engine}/web"
    async with watching(both, engine, [name, f"{engine}/other"]) as watcher:
        watcher.take()
        simulated.recreate(web)
        await asyncio.sleep(1)
        assert [told for told in watcher.take() if told[0] == name][-1:] in ([], [(name, UP)])
        simulated.remove(simulated.named("web"))
        await asyncio.sleep(1)
        moved = simulated.add("elsewhere")
        simulated.rename(moved, "web")
        await asyncio.sleep(1)
        simulated.rename(moved, "other")
        await asyncio.sleep(1)
        assert watcher.news == [(name, GONE), (name, UP), (name, GONE), (f"{engine}/other", UP)]


@OF_EACH
@in_virtual_time
async def test_a_project_is_followed_by_its_label(engine: Engine) -> None:
    both = BothEngines()
    simulated = both.by_engine[engine]
    web = simulated.add_service("immich", "web")
    simulated.add_service("immich2", "web")
    name = f"{engine}-compose/immich"
    async with watching(both, engine, [name]) as watcher:
        assert watcher.take() == [(name, "active (1 running)")]
        simulated.kill(simulated.named("immich2-web-1"))
        run = simulated.add_service("immich", "job", name="run", labels={"com.docker.compose.oneoff": "True"})
        simulated.kill(run)
        await asyncio.sleep(1)
        assert watcher.take() == []
        database = simulated.add_service("immich", "db", "created")
        simulated.tell("create", database)
        await asyncio.sleep(1)
        simulated.begin(database)
        await asyncio.sleep(1)
        new = simulated.recreate(web)
        await asyncio.sleep(1)
        assert watcher.take()[:2] == [
            (name, "partial (1 of 2 running: immich-db-1 created)"),
            (name, "active (2 running)"),
        ]
        simulated.remove(database)
        simulated.remove(new)
        await asyncio.sleep(1)
        assert watcher.news[-1] == (name, "not-found (removed; only compose can create it again)")


# Crash loops


@pytest.mark.parametrize("lives_seconds", [0.03, 0.3])
@OF_EACH
@in_virtual_time
async def test_a_container_that_restarts_again_and_again_is_failing_all_the_time(
    engine: Engine, lives_seconds: float
) -> None:
    both = BothEngines()
    simulated = both.by_engine[engine]
    name = f"{engine}/web"
    web = simulated.add("web", policy="always", ends_after_seconds=lives_seconds, exits_with=3)
    async with watching(both, engine, [name], settled_seconds=2) as watcher:
        watcher.take()
        await asyncio.sleep(10)
        assert {state for _, state in watcher.take()} <= {"failing (restarting)"}
        assert watcher.following.is_settled
        web.is_stopped_by_hand, web.exits_with = True, 0
        await asyncio.sleep(40)
        assert (web.status, watcher.last) == ("exited", {name: DOWN})


@OF_EACH
@in_virtual_time
async def test_a_container_that_was_restarted_once_is_up_again_a_moment_later(engine: Engine) -> None:
    both = BothEngines()
    simulated = both.by_engine[engine]
    name = f"{engine}/web"
    web = simulated.add("web", policy="always")
    async with watching(both, engine, [name]) as watcher:
        watcher.take()
        simulated.end(web, 1)
        await asyncio.sleep(5)
        assert watcher.news[-2:] == [(name, "failing (restarting)"), (name, UP)]
        begun = watcher.at_seconds[-1] - web.began_at_seconds
        assert AGAIN_SECONDS - 0.2 < begun < AGAIN_SECONDS + 1


# The engine and its unit


ACTIVATING = UnitState(LoadState.LOADED, ActiveState.ACTIVATING, "auto-restart")
OFFS = [OFF, STOPPING, ACTIVATING, UnitState(LoadState.NOT_FOUND, ActiveState.INACTIVE, "dead")]


@pytest.mark.parametrize("unit", OFFS, ids=str)
@OF_EACH
@in_virtual_time
async def test_a_unit_that_is_not_active_ends_the_connection_at_once_until_it_is_active_again(
    engine: Engine, unit: UnitState
) -> None:
    both = BothEngines()
    simulated = both.by_engine[engine]
    web = simulated.add("web")
    name = f"{engine}/web"
    async with watching(both, engine, [name]) as watcher:
        watcher.take()
        simulated.kill(web)  # a look at it is due
        watcher.see_unit(unit)
        for _ in range(6):
            await asyncio.sleep(0)
        assert (simulated.connections, now_seconds()) == (0, 0.5)
        connects = len(simulated.connects)
        await asyncio.sleep(60)
        assert len(simulated.connects) == connects
        assert watcher.take() == [(name, f"unavailable ({engine.unit} is {unit})")]
        watcher.see_unit(UnitState(LoadState.LOADED, ActiveState.ACTIVE, "running"))
        await asyncio.sleep(0.2)
        assert watcher.news == [(name, "inactive (exited with 137)")]


@in_virtual_time
async def test_podman_is_left_as_soon_as_its_service_stops() -> None:
    """systemd stops it before its socket, and it would wait for our connection."""
    both = BothEngines()
    simulated = both.by_engine[Engine.PODMAN]
    simulated.add("web")
    async with watching(both, Engine.PODMAN, ["podman/web"]) as watcher:
        watcher.take()
        simulated.service = STOPPING
        watcher.see_unit()
        await asyncio.sleep(0.1)
        assert simulated.connections == 0
        assert watcher.take() == [("podman/web", f"unavailable (podman.service is {STOPPING})")]
        simulated.service = OFF
        watcher.see_unit()
        await asyncio.sleep(1)
        assert watcher.take() == [("podman/web", UP)]


@OF_EACH
@in_virtual_time
async def test_an_event_of_an_engine_that_is_about_to_stop_makes_no_connection(engine: Engine) -> None:
    """Its unit's change may be read after the event; systemd is asked before each connection."""
    both = BothEngines()
    simulated = both.by_engine[engine]
    web = simulated.add("web")
    name = f"{engine}/web"
    async with watching(both, engine, [name]) as watcher:
        watcher.take()
        simulated.unit = STOPPING
        connects = len(simulated.connects)
        simulated.kill(web)
        await asyncio.sleep(3)
        assert len(simulated.connects) == connects
        assert watcher.take() == [(name, f"unavailable ({engine.unit} is {STOPPING})")]
        simulated.stop_engine(OFF)
        await asyncio.sleep(3)
        assert len(simulated.connects) == connects


@OF_EACH
@in_virtual_time
async def test_a_unit_that_stays_active_changes_nothing(engine: Engine) -> None:
    """A socket is `running` while its service is, and `listening` otherwise."""
    both = BothEngines()
    simulated = both.by_engine[engine]
    simulated.add("web")
    async with watching(both, engine, [f"{engine}/web"]) as watcher:
        connects = len(simulated.connects)
        watcher.take()
        for sub in ("listening", "running", "listening"):
            watcher.following.units_seen(
                {engine.unit: UnitState(LoadState.LOADED, ActiveState.ACTIVE, sub), "httpd.service": OFF}
            )
            await asyncio.sleep(1)
        assert (len(simulated.connects), watcher.news) == (connects, [])


@OF_EACH
@in_virtual_time
async def test_an_engine_that_was_killed_is_followed_again_as_soon_as_it_answers(engine: Engine) -> None:
    both = BothEngines()
    simulated = both.by_engine[engine]
    web = simulated.add("web")
    name = f"{engine}/web"
    async with watching(both, engine, [name]) as watcher:
        watcher.take()
        simulated.stop_engine(simulated.unit)
        simulated.refuses = True
        await asyncio.sleep(5)
        assert {*watcher.take()} == {
            (name, f"unavailable ({engine} closed the connection)"),
            (name, f"unavailable ({engine}: Connection refused)"),
        }
        simulated.refuses = False
        simulated.begin(web)
        await asyncio.sleep(1.2)
        assert watcher.news == [(name, UP)]


FAULTS: list[tuple[str, EngineFault, str]] = [
    ("no events", EngineFault("events", status=500), "unavailable ({engine} sends no events)"),
    ("events unknown", EngineFault("events", status=404), "unavailable ({engine} sends no events)"),
    (
        "events closed",
        EngineFault("events", answer=EVENTS_HEAD),
        "unavailable ({engine} closed the connection)",
    ),
    (
        "odd events",
        EngineFault("events", answer=EVENTS_HEAD + b"{}\n", then=b"{}\n"),
        "unavailable (the engine's answer has an invalid ID)",
    ),
    (
        "an endless event",
        EngineFault("events", answer=EVENTS_HEAD, then=b"x" * 9999),
        "unavailable (the engine's answer is too long)",
    ),
    (
        "events never",
        EngineFault("events", delay_seconds=math.inf),
        "unavailable ({engine} did not answer within 5 s)",
    ),
    (
        "no list",
        EngineFault("containers/json", delay_seconds=math.inf),
        "unavailable ({engine} did not answer within 5 s)",
    ),
    (
        "odd list",
        EngineFault("containers/json", answer=b"x\r\n\r\n"),
        "unavailable (the engine's answer is not HTTP)",
    ),
    ("list broken", EngineFault("containers/json", status=500), "unavailable (something broke)"),
    (
        "no container",
        EngineFault("web/json", cut_at_bytes=99),
        "unavailable (the engine's answer is not JSON)",
    ),
]


@pytest.mark.parametrize(("fault", "words"), [row[1:] for row in FAULTS], ids=[row[0] for row in FAULTS])
@OF_EACH
@in_virtual_time
async def test_an_engine_that_fails_is_told_once_and_asked_again_a_second_later(
    engine: Engine, fault: EngineFault, words: str
) -> None:
    both = BothEngines()
    simulated = both.by_engine[engine]
    simulated.add("web")
    simulated.faults = [fault]
    name = f"{engine}/web"
    async with watching(both, engine, [name], settled_seconds=7) as watcher:
        assert watcher.following.is_settled
        assert watcher.last == {name: words.format(engine=engine)}
        watcher.take()
        simulated.requests.clear()
        await asyncio.sleep(60)
        assert watcher.take() == []  # it does not flap
        assert len(simulated.requests) <= 4 * 60
        simulated.faults = []
        await asyncio.sleep(7)
        assert watcher.news == [(name, UP)]


# The first states


@OF_EACH
@in_virtual_time
async def test_the_first_states_are_told_a_second_later_at_most(engine: Engine) -> None:
    both = BothEngines()
    simulated = both.by_engine[engine]
    simulated.add("web")
    simulated.add("slow")
    simulated.faults = [EngineFault("slow/json", delay_seconds=3)]
    web, slow = f"{engine}/web", f"{engine}/slow"
    async with watching(both, engine, [web, slow], settled_seconds=0.9) as watcher:
        assert (watcher.following.is_settled, watcher.take()) == (False, [(web, UP)])
        await asyncio.sleep(0.2)
        late = f"unavailable ({engine} has not answered yet)"
        assert (watcher.following.is_settled, watcher.take()) == (True, [(slow, late)])
        await asyncio.sleep(3)
        assert watcher.news == [(slow, UP)]


@OF_EACH
@in_virtual_time
async def test_without_members_no_engine_is_asked_and_nothing_is_waited_for(engine: Engine) -> None:
    both = BothEngines()
    other = Engine.PODMAN if engine is Engine.DOCKER else Engine.DOCKER
    async with watching(both, engine, [f"{other}/web", f"{other}-compose/immich"]) as watcher:
        assert watcher.following.is_settled
        assert watcher.following.watch([f"{other}/web"]) == ()
        assert (watcher.news, watcher.engine.connects) == ([], [])


@OF_EACH
@in_virtual_time
async def test_before_the_state_of_its_unit_is_known_no_engine_is_asked(engine: Engine) -> None:
    both = BothEngines()
    both.by_engine[engine].add("web")
    watcher = Told(both, engine)
    assert watcher.following.watch([f"{engine}/web"]) == engine.units
    watcher.following.units_seen({"httpd.service": OFF})
    await asyncio.sleep(10)
    assert (watcher.news, watcher.following.is_settled, watcher.engine.connects) == ([], False, [])
    watcher.see_unit()
    await asyncio.sleep(0.2)
    assert (watcher.news, watcher.following.is_settled) == ([(f"{engine}/web", UP)], True)
    await watcher.end()


@OF_EACH
@in_virtual_time
async def test_members_that_come_are_told_and_those_that_go_are_forgotten(engine: Engine) -> None:
    both = BothEngines()
    simulated = both.by_engine[engine]
    web = simulated.add("web")
    simulated.add("db")
    names = [f"{engine}/web", f"{engine}/db"]
    async with watching(both, engine, names[:1]) as watcher:
        watcher.take()
        watcher.following.watch(names[:1])
        await asyncio.sleep(1)
        assert (watcher.take(), len([each for each in simulated.requests if "events" in each])) == ([], 1)
        watcher.following.watch(names)
        assert not watcher.following.is_settled
        await asyncio.sleep(1)
        assert watcher.take() == [(names[1], UP)]
        watcher.following.watch(names[1:])
        simulated.kill(web)
        await asyncio.sleep(1)
        assert watcher.take() == []
        watcher.following.watch([])
        await asyncio.sleep(1)
        assert (watcher.news, simulated.connections) == ([], 0)
        watcher.following.watch(names)
        await asyncio.sleep(1)
        assert {*watcher.news} == {(names[0], "inactive (exited with 137)"), (names[1], UP)}


@OF_EACH
@in_virtual_time
async def test_a_lost_bus_ends_the_connection_and_all_is_told_again(engine: Engine) -> None:
    both = BothEngines()
    simulated = both.by_engine[engine]
    simulated.add("web")
    name = f"{engine}/web"
    async with watching(both, engine, [name]) as watcher:
        watcher.take()
        both.bus_problem = "the bus is gone"
        watcher.following.lost()
        assert not watcher.following.is_settled
        connects = len(simulated.connects)
        await asyncio.sleep(10)
        assert (watcher.take(), simulated.connections, len(simulated.connects)) == ([], 0, connects)
        both.bus_problem = ""
        watcher.see_unit()
        await asyncio.sleep(0.2)
        assert watcher.news == [(name, UP)]


TOLD_AFTER_TURNS = 40
"""The turns of the loop until a change has been told; fewer are enough."""

ENDS: list[tuple[str, Callable[[Following], object]]] = [
    ("off", lambda followed: followed.units_seen({followed.engine.unit: OFF})),
    ("lost", lambda followed: followed.lost()),
    ("not watched", lambda followed: followed.watch([f"{followed.engine}/db"])),
]


@pytest.mark.parametrize("ends", [row[1] for row in ENDS], ids=[row[0] for row in ENDS])
@pytest.mark.parametrize("turns_after_its_stream", [None, 2, 3, 4])
@in_virtual_time
async def test_in_whichever_turn_of_the_loop_a_member_is_given_up_nothing_is_told_of_it_later(
    monkeypatch: pytest.MonkeyPatch, turns_after_its_stream: int | None, ends: Callable[[Following], object]
) -> None:
    monkeypatch.setattr(following, "TOGETHER_SECONDS", 0)
    for turns in range(TOLD_AFTER_TURNS):
        both = BothEngines()
        docker = both.by_engine[Engine.DOCKER]
        web = docker.add("web")
        async with watching(both, Engine.DOCKER, ["docker/web"]) as watcher:
            docker.pause(web)
            for turn in range(turns):
                if turns_after_its_stream == turns - turn:
                    docker.stop_engine(docker.unit)
                await asyncio.sleep(0)
            ends(watcher.following)
            watcher.take()
            await asyncio.sleep(3)
            assert (turns, [told for told in watcher.news if told[0] == "docker/web"]) == (turns, [])
            assert docker.connections == int("docker/db" in watcher.last)


# How much of it is done at once


@OF_EACH
@in_virtual_time
async def test_a_thousand_events_a_second_make_a_few_looks(engine: Engine) -> None:
    both = BothEngines()
    simulated = both.by_engine[engine]
    web = simulated.add("web")
    others = [simulated.add(f"other{number}") for number in range(50)]
    name = f"{engine}/web"
    async with watching(both, engine, [name]) as watcher:
        watcher.take()
        simulated.requests.clear()
        for number in range(2000):
            simulated.tell("start", web if number % 2 else others[number % 50])
            await asyncio.sleep(0.001)
        simulated.kill(web)
        await asyncio.sleep(0.2)
        assert watcher.news == [(name, "inactive (exited with 137)")]
        assert len(simulated.requests) <= 2 * 2 * 50 + 4  # a list and a container, every 20 ms


@in_virtual_time
async def test_a_flood_of_events_lets_others_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two turns of the loop, no more is handled than what fits into the buffer and one read."""
    both = BothEngines()
    docker = both.by_engine[Engine.DOCKER]
    line = docker.event("exec_die", docker.add("web"))
    docker.faults = [EngineFault("events", answer=EVENTS_HEAD, then=line * 200)]
    handled: list[int] = [0]

    def parse(event: bytes) -> Change | None:
        handled[-1] += 1
        return parse_event(event)

    monkeypatch.setattr(following, "parse_event", parse)
    async with watching(both, Engine.DOCKER, ["docker/web"], settled_seconds=0) as watcher:
        while sum(handled) < 20_000:
            await asyncio.sleep(0)
            handled.append(0)
        assert not watcher.news or watcher.last == {"docker/web": UP}
    assert 0 < max(handled) * len(line) <= 2 * LONGEST_LINE_BYTES + LARGEST_CHUNK_BYTES + len(line)


@OF_EACH
@in_virtual_time
async def test_an_engine_that_ends_during_a_look_is_not_followed_on_beside_the_next_one(
    engine: Engine,
) -> None:
    """The end of its events comes with the change of its unit, in any turn of the loop."""
    for turns in range(15):
        both = BothEngines()
        simulated = both.by_engine[engine]
        web = simulated.add("web")
        async with watching(both, engine, [f"{engine}/web"]) as watcher:
            simulated.faults = [EngineFault("containers/json", delay_seconds=1)]
            simulated.kill(web)
            await asyncio.sleep(0.5)
            simulated.stop_engine(OFF)
            for _ in range(turns):
                await asyncio.sleep(0)
            watcher.see_unit(OFF)
            await asyncio.sleep(3)
            assert watcher.running == 0, turns
            assert watcher.last == {f"{engine}/web": f"unavailable ({engine.unit} is {OFF})"}


@OF_EACH
@in_virtual_time
async def test_a_helper_ends_at_once_even_while_its_engine_does(engine: Engine) -> None:
    for turns in range(15):
        both = BothEngines()
        simulated = both.by_engine[engine]
        web = simulated.add("web")
        async with watching(both, engine, [f"{engine}/web"]) as watcher:
            simulated.faults = [EngineFault("containers/json", delay_seconds=1)]
            simulated.kill(web)
            await asyncio.sleep(0.5)
            simulated.stop_engine(simulated.unit)
            for _ in range(turns):
                await asyncio.sleep(0)
            async with asyncio.timeout(0.1):
                await watcher.end()
            await asyncio.sleep(2)
