"""Failures of containers: which ends are told, and which of them as requested. In doubt, they are."""

import asyncio
from collections.abc import Callable

import pytest

from hkswitch.model.group import Engine
from tests.containers.both_engines import OF_EACH, STOPPING, BothEngines, Told, in_virtual_time, watching
from tests.support.simulated_containers import ACTIVE, SimulatedContainer
from tests.support.simulated_engine import EngineFault, SimulatedEngine

Ending = Callable[[SimulatedEngine, SimulatedContainer], object]

SETTLED_SECONDS = 3


def signaled(signal: str, exit_status: int) -> Ending:
    """The engine is asked to send a signal, and the container ends."""

    def act(engine: SimulatedEngine, web: SimulatedContainer) -> None:
        web.is_stopped_by_hand = True
        engine.tell("kill", web, signal=signal)
        engine.end(web, exit_status)

    return act


def out_of_memory(engine: SimulatedEngine, web: SimulatedContainer) -> None:
    web.is_out_of_memory = True
    engine.end(web, 137)


def told_late(engine: SimulatedEngine, web: SimulatedContainer) -> None:
    """Docker may tell of the stop after it told of the end."""
    web.is_stopped_by_hand = True
    engine.end(web, 1)
    engine.tell("stop", web)


BY_THEMSELVES: list[tuple[str, Ending]] = [
    ("exited with status 3", lambda engine, web: engine.end(web, 3)),
    ("was killed by SIGKILL", lambda engine, web: engine.end(web, 137)),
    ("ran out of memory", out_of_memory),
    ("is unhealthy", lambda engine, web: engine.set_health(web, "unhealthy")),
]
REQUESTED: list[Ending] = [
    lambda engine, web: engine.kill(web),
    signaled("15", 1),
    signaled("15", 137),
    signaled("3", 1),
    signaled("37", 130),
    told_late,
    lambda engine, web: engine.end(web, 143),  # the shutdown of the machine sends that, and no event
    lambda engine, web: engine.end(web, 130),
]
NO_FAILURES: list[Ending] = [
    lambda engine, web: engine.end(web),
    lambda engine, web: engine.pause(web),
    lambda engine, web: engine.remove(web),
    lambda engine, web: engine.restart_by_hand(web),
    lambda engine, web: engine.recreate(web),
    lambda engine, web: engine.set_health(web, "healthy"),
]


def last(told: Told, member: str) -> tuple[str, bool] | None:
    failure = told.failures.get(member)
    return None if failure is None else (failure.reason, failure.is_requested)


async def failure_after(engine: Engine, act: Ending) -> tuple[str, bool] | None:
    both = BothEngines()
    simulated, member = both.by_engine[engine], f"{engine}/web"
    web = simulated.add("web")
    async with watching(both, engine, [member]) as told:
        assert last(told, member) is None
        act(simulated, web)
        await asyncio.sleep(SETTLED_SECONDS)
        simulated.halt()
        return last(told, member)


@OF_EACH
@pytest.mark.parametrize(("reason", "act"), BY_THEMSELVES, ids=[reason for reason, _ in BY_THEMSELVES])
@in_virtual_time
async def test_an_end_that_nobody_requested_is_told_with_its_reason(
    engine: Engine, reason: str, act: Ending
) -> None:
    assert await failure_after(engine, act) == (f"{engine}/web {reason}", False)


@OF_EACH
@pytest.mark.parametrize("act", REQUESTED)
@in_virtual_time
async def test_an_end_that_was_or_may_have_been_requested_is_told_as_that(
    engine: Engine, act: Ending
) -> None:
    found = await failure_after(engine, act)
    assert found is not None
    assert found[1]


@OF_EACH
@pytest.mark.parametrize("act", NO_FAILURES)
@in_virtual_time
async def test_what_is_no_failure_is_not_told(engine: Engine, act: Ending) -> None:
    assert await failure_after(engine, act) is None


@in_virtual_time
async def test_a_reload_by_a_signal_excuses_no_later_crash_of_docker() -> None:
    for signal in ("1", "10", "12", "28"):
        assert await failure_after(Engine.DOCKER, signaled(signal, 5)) == (
            "docker/web exited with status 5",
            False,
        )


@OF_EACH
@in_virtual_time
async def test_a_stop_excuses_no_crash_after_the_next_start(engine: Engine) -> None:
    def act(simulated: SimulatedEngine, web: SimulatedContainer) -> None:
        simulated.kill(web)
        simulated.begin(web)
        asyncio.get_running_loop().call_later(1, simulated.end, web, 4)

    assert await failure_after(engine, act) == (f"{engine}/web exited with status 4", False)


@OF_EACH
@in_virtual_time
async def test_a_crash_loop_is_told_until_it_is_over(engine: Engine) -> None:
    both = BothEngines()
    simulated, member = both.by_engine[engine], f"{engine}/web"
    web = simulated.add("web", policy="always", ends_after_seconds=0.1, exits_with=3)
    async with watching(both, engine, [member]) as told:
        await asyncio.sleep(2)
        assert last(told, member) == (f"{member} restarts again and again", False)
        web.ends_after_seconds = float("inf")
        await asyncio.sleep(60)
        assert last(told, member) is None
        runs = {failure.run for failure in told.all_failures if failure}
        assert len(runs) > 1
        simulated.end(web, 3)
        await asyncio.sleep(0.05)
        assert last(told, member) is not None
        simulated.halt()


@OF_EACH
@in_virtual_time
async def test_an_end_before_the_first_look_was_requested_unless_podman_denies_that(engine: Engine) -> None:
    both = BothEngines()
    simulated = both.by_engine[engine]
    simulated.add("web", "exited", exit_status=3)
    simulated.add("db", "exited", exit_status=3, is_stopped_by_hand=True)
    async with watching(both, engine, [f"{engine}/web", f"{engine}/db"]) as told:
        is_docker = engine is Engine.DOCKER
        assert last(told, f"{engine}/web") == (f"{engine}/web exited with status 3", is_docker)
        assert last(told, f"{engine}/db") == (f"{engine}/db exited with status 3", True)


@OF_EACH
@in_virtual_time
async def test_a_crash_stays_one_when_the_events_begin_anew(engine: Engine) -> None:
    both = BothEngines()
    simulated, member = both.by_engine[engine], f"{engine}/web"
    web = simulated.add("web")
    async with watching(both, engine, [member]) as told:
        simulated.end(web, 3)
        await asyncio.sleep(1)
        told.see_unit(STOPPING)
        await asyncio.sleep(1)
        told.see_unit(ACTIVE)
        await asyncio.sleep(SETTLED_SECONDS)
        assert last(told, member) == (f"{member} exited with status 3", False)
        assert len({failure for failure in told.all_failures if failure}) == 1


@OF_EACH
@in_virtual_time
async def test_a_crash_says_nothing_of_an_end_that_no_event_told(engine: Engine) -> None:
    both = BothEngines()
    simulated, member = both.by_engine[engine], f"{engine}/web"
    web = simulated.add("web")
    async with watching(both, engine, [member]) as told:
        simulated.end(web, 3)
        await asyncio.sleep(1)
        told.see_unit(STOPPING)
        await asyncio.sleep(1)
        simulated.begin(web)
        simulated.kill(web)
        told.see_unit(ACTIVE)
        await asyncio.sleep(SETTLED_SECONDS)
        assert last(told, member) == (f"{member} was killed by SIGKILL", True)


@OF_EACH
@in_virtual_time
async def test_an_unhealthy_container_that_is_stopped_is_no_crash(engine: Engine) -> None:
    def act(simulated: SimulatedEngine, web: SimulatedContainer) -> None:
        simulated.set_health(web, "unhealthy")
        asyncio.get_running_loop().call_later(1, simulated.kill, web)

    assert await failure_after(engine, act) == (f"{engine}/web was killed by SIGKILL", True)


@in_virtual_time
async def test_an_end_that_podman_cannot_explain_was_requested() -> None:
    def act(simulated: SimulatedEngine, web: SimulatedContainer) -> None:
        simulated.faults.append(EngineFault("libpod", status=500))
        simulated.end(web, 3)

    assert await failure_after(Engine.PODMAN, act) == ("podman/web exited with status 3", True)


@OF_EACH
@in_virtual_time
async def test_of_a_project_the_first_container_that_failed_by_itself_is_told(engine: Engine) -> None:
    both = BothEngines()
    simulated, member = both.by_engine[engine], f"{engine}-compose/app"
    for name in ("db", "job", "web"):
        simulated.add_service("app", name)
    async with watching(both, engine, [member]) as told:
        simulated.kill(simulated.named("app-db-1"))
        simulated.end(simulated.named("app-job-1"))
        await asyncio.sleep(1)
        assert last(told, member) == (f"{member}: app-db-1 was killed by SIGKILL", True)
        simulated.end(simulated.named("app-web-1"), 3)
        await asyncio.sleep(1)
        assert last(told, member) == (f"{member}: app-web-1 exited with status 3", False)
        simulated.halt()
