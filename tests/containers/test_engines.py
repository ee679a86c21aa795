"""Starts, stops and restarts of containers, by both engines: what they are asked, and what came of it."""

import asyncio
import math
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from hkswitch.model.group import Engine
from hkswitch.model.unit_state import Action, JobResult, UnitState, result_of
from tests.containers.both_engines import OF_EACH, OFF, STOPPING, BothEngines, in_virtual_time
from tests.support.simulated_containers import QUADLET
from tests.support.simulated_engine import EngineFault

START, STOP, RESTART = Action.START, Action.STOP, Action.RESTART

DOCKER, PODMAN = Engine.DOCKER, Engine.PODMAN


def now_seconds() -> float:
    return asyncio.get_running_loop().time()


ACTIONS = [
    # Done: the state before, the action, the engine's requests, the state after.
    ("exited", START, ["start"], "active (running)"),
    ("created", START, ["start"], "active (running)"),
    ("running", START, [], "active (running)"),
    ("running", STOP, ["stop"], "inactive (exited with 0)"),
    ("exited", STOP, ["stop"], "inactive (exited with 0)"),
    ("created", STOP, ["stop"], "inactive (created)"),
    ("running", RESTART, ["stop", "start"], "active (running)"),
    # A restart starts nothing that did not run.
    ("exited", RESTART, [], "inactive (exited with 0)"),
    ("created", RESTART, [], "inactive (created)"),
]


@pytest.mark.parametrize(("before", "action", "acts", "after"), ACTIONS)
@OF_EACH
@in_virtual_time
async def test_an_action_asks_for_what_is_left_to_do(
    engine: Engine, before: str, action: Action, acts: list[str], after: str
) -> None:
    both = BothEngines()
    simulated = both.by_engine[engine]
    simulated.add("web", before)
    simulated.add("web2")
    assert await both.act(action, f"{engine}/web") == [f"{engine}/web done"]
    assert simulated.acts == [f"{act} web" for act in acts]
    assert await both.state(f"{engine}/web") == after
    assert simulated.connections == 0


REFUSED: list[tuple[Engine, str, Action, str]] = [
    (DOCKER, "paused", START, "failed: cannot start a paused container, try unpause instead"),
    (PODMAN, "paused", START, "failed: unable to start container web: must be in Created or Stopped"),
    (PODMAN, "paused", STOP, "failed: container web is running or paused, refusing to clean up"),
    (PODMAN, "paused", RESTART, "failed: container web is running or paused, refusing to clean up"),
    (PODMAN, "stopping", START, "failed: unable to start container web: must be in Created or Stopped"),
]


@pytest.mark.parametrize(("engine", "before", "action", "why"), REFUSED)
@in_virtual_time
async def test_a_refusal_of_the_engine_is_told_in_its_words(
    engine: Engine, before: str, action: Action, why: str
) -> None:
    both = BothEngines()
    both.by_engine[engine].add("web", before)
    [result] = await both.results(action, f"{engine}/web")
    assert (result.job, result.detail[: len(why)]) == (JobResult.FAILED, why)
    assert str(await both.state(f"{engine}/web")).endswith(f"({before})")


@in_virtual_time
async def test_a_paused_container_of_docker_stops_and_restarts() -> None:
    both = BothEngines()
    both.by_engine[DOCKER].add("web", "paused")
    assert await both.act(RESTART, "docker/web") == ["docker/web done"]
    assert both.by_engine[DOCKER].acts == ["stop web", "start web"]


MISSING = [
    ("/nothing", "no such container"),
    ("/we", "no such container"),
    ("/0", "no such container"),
    ("/ab", "no such container"),
    ("/01ababababab", "no such container"),
    ("/alias", "no such container"),
    ("/linked/alias", "no such container"),
    ("/WEB", "no such container"),
    ("-compose/nothing", "removed; only compose can create it again"),
    ("-compose/immic", "removed; only compose can create it again"),
    ("-compose/once", "removed; only compose can create it again"),
]


@pytest.mark.parametrize("action", list(Action))
@pytest.mark.parametrize(("member", "why"), MISSING)
@OF_EACH
@in_virtual_time
async def test_a_container_with_another_name_is_left_alone(
    engine: Engine, member: str, why: str, action: Action
) -> None:
    both = BothEngines()
    simulated = both.by_engine[engine]
    simulated.add("web", id="01" + "ab" * 31, aliases=("linked/alias",))
    simulated.add("web2", "exited", aliases=("alias",))
    simulated.add("aweb", "exited")
    simulated.add_service("immich", "db", "exited")
    simulated.add_service("once", "job", name="once-job-run-1", labels={"com.docker.compose.oneoff": "True"})
    assert await both.act(action, f"{engine}{member}") == [f"{engine}{member} refused ({why})"]
    assert simulated.acts == []


@OF_EACH
@in_virtual_time
async def test_a_name_that_begins_like_an_id_or_has_dots_is_that_of_one_container(engine: Engine) -> None:
    both = BothEngines()
    simulated = both.by_engine[engine]
    simulated.add("ab", "exited", id="cd" * 32)
    simulated.add("axb", "exited", id="ab" * 32)
    simulated.add("a.b", "exited", aliases=("ab/axb", "a.b2"))
    assert await both.act(START, f"{engine}/ab", f"{engine}/a.b") == [
        f"{engine}/ab done",
        f"{engine}/a.b done",
    ]
    assert sorted(simulated.acts) == ["start a.b", "start ab"]


@OF_EACH
@in_virtual_time
async def test_a_container_of_a_quadlet_is_refused(engine: Engine) -> None:
    both = BothEngines()
    both.by_engine[engine].add("wiki", labels={QUADLET: "wiki.service"}, is_removed_at_end=True)
    for action in Action:
        why = "use units: [wiki.service]"
        assert await both.act(action, f"{engine}/wiki") == [f"{engine}/wiki refused ({why})"]
    assert both.by_engine[engine].acts == []


# Compose


@OF_EACH
@in_virtual_time
async def test_a_start_of_a_project_starts_again_no_job_that_has_finished(engine: Engine) -> None:
    both = BothEngines()
    simulated = both.by_engine[engine]
    simulated.add_service("immich", "db", "exited", policy="always")
    simulated.add_service("immich", "web")
    simulated.add_service("immich", "migrate", "exited")
    simulated.add_service("immich", "failed", "exited", exit_status=1)
    simulated.add_service("immich2", "web", "exited")
    simulated.add_service("immich", "x", "exited", name="run", labels={"com.docker.compose.oneoff": "True"})
    member = f"{engine}-compose/immich"
    assert await both.act(START, member) == [f"{member} done"]
    assert sorted(simulated.acts) == ["start immich-db-1", "start immich-failed-1"]
    simulated.requests.clear()
    assert await both.act(RESTART, member) == [f"{member} done"]
    restarted = ["immich-db-1", "immich-failed-1", "immich-web-1"]
    assert sorted(simulated.acts) == sorted(
        f"{verb} {name}" for verb in ("start", "stop") for name in restarted
    )
    assert await both.act(STOP, member) == [f"{member} done"]
    assert await both.state(member) == (
        "inactive (0 of 1 running: immich-db-1 exited with 0)"
    )  # the others have no restart policy: as far as can be told, they have finished
    assert simulated.named("immich2-web-1").status == "exited"


@OF_EACH
@in_virtual_time
async def test_a_project_that_is_down_starts_as_a_whole(engine: Engine) -> None:
    both = BothEngines()
    simulated = both.by_engine[engine]
    simulated.add_service("immich", "db", "exited")  # some end with 0 when they are stopped
    simulated.add_service("immich", "web", "exited", exit_status=143)
    member = f"{engine}-compose/immich"
    assert await both.act(START, member) == [f"{member} done"]
    assert sorted(simulated.acts) == ["start immich-db-1", "start immich-web-1"]
    assert await both.state(member) == "active (2 running)"


@OF_EACH
@in_virtual_time
async def test_a_project_whose_jobs_have_all_finished_runs_them_again(engine: Engine) -> None:
    both = BothEngines()
    both.by_engine[engine].add_service("backup", "job", "exited", ends_after_seconds=0.1)
    member = f"{engine}-compose/backup"
    [result] = await both.results(START, member)
    assert result_of((result,)).failure is None
    assert result.detail == "backup-job-1: exited with 0"


@OF_EACH
@in_virtual_time
async def test_a_failure_of_one_container_is_told_and_holds_up_no_other(engine: Engine) -> None:
    both = BothEngines()
    simulated = both.by_engine[engine]
    simulated.add_service(
        "immich", "db", "exited", policy="always", start_error='exec: "/no/such": no such file'
    )
    simulated.add_service("immich", "web", "created")
    member = f"{engine}-compose/immich"
    assert await both.act(START, member, f"{engine}/nothing") == [
        f'{member} failed: immich-db-1: exec: "/no/such": no such file',
        f"{engine}/nothing refused (no such container)",
    ]
    assert simulated.named("immich-web-1").status == "running"


# What was started must stay up


LIVES: list[tuple[dict[str, Any], str]] = [
    ({}, "web done"),
    ({"ends_after_seconds": 0.5, "exits_with": 1}, "web done"),  # later than anyone waits
    ({"ends_after_seconds": 0.05, "exits_with": 0}, "web done (exited with 0)"),
    ({"ends_after_seconds": 0.05, "exits_with": 3}, "web failed: exited with 3"),
    (
        {"ends_after_seconds": 0.01, "exits_with": 3, "policy": "always"},
        "web failed: restarts again and again",
    ),
    (
        {"ends_after_seconds": 0.01, "exits_with": 3, "policy": "on-failure", "most_restarts": 1},
        "web failed: restarts again and again",
    ),
    ({"start_error": "no such program"}, "web failed: no such program"),
]


@pytest.mark.parametrize(("life", "words"), LIVES)
@pytest.mark.parametrize("action", [START, RESTART])
@OF_EACH
@in_virtual_time
async def test_what_was_started_has_to_be_up_a_moment_later(
    engine: Engine, action: Action, life: dict[str, Any], words: str
) -> None:
    both = BothEngines()
    simulated = both.by_engine[engine]
    container = simulated.add("web", "exited" if action is START else "running")
    for key, value in life.items():
        setattr(container, key, value)
    assert await both.act(action, f"{engine}/web") == [f"{engine}/{words}"]
    simulated.kill(container)


@OF_EACH
@in_virtual_time
async def test_a_container_that_is_removed_as_soon_as_it_was_started_is_a_failure(engine: Engine) -> None:
    both = BothEngines()
    both.by_engine[engine].add("web", "created", ends_after_seconds=0.05, is_removed_at_end=True)
    why = "failed: is gone (not-found (no such container))"
    assert await both.act(START, f"{engine}/web") == [f"{engine}/web {why}"]


@OF_EACH
@in_virtual_time
async def test_an_old_restart_does_not_make_a_new_start_a_failure(engine: Engine) -> None:
    both = BothEngines()
    both.by_engine[engine].add("web", "exited", restarts=9)
    assert await both.act(START, f"{engine}/web") == [f"{engine}/web done"]


@OF_EACH
@in_virtual_time
async def test_a_health_check_that_has_not_passed_yet_is_no_failure_of_a_start(engine: Engine) -> None:
    both = BothEngines()
    both.by_engine[engine].add("web", "exited", health="unhealthy")
    assert await both.act(START, f"{engine}/web") == [f"{engine}/web done"]
    assert await both.state(f"{engine}/web") == "activating (starting)"


@OF_EACH
@in_virtual_time
async def test_a_stop_ends_a_crash_loop(engine: Engine) -> None:
    both = BothEngines()
    simulated = both.by_engine[engine]
    simulated.add("web", policy="always", ends_after_seconds=0.03, exits_with=3)
    await asyncio.sleep(0.5)
    assert await both.act(STOP, f"{engine}/web") == [f"{engine}/web done"]
    await asyncio.sleep(5)
    assert (await both.state(f"{engine}/web")).startswith("inactive (exited with ")


# Order and time


class Overruled(Exception):
    """Raised by a request that is no longer wanted."""


@OF_EACH
@in_virtual_time
async def test_a_begin_that_raises_keeps_all_requests_back(engine: Engine) -> None:
    both = BothEngines()
    simulated = both.by_engine[engine]
    simulated.add("web", "exited")
    simulated.add_service("immich", "db", "created")
    simulated.add_service("immich", "web", "created")

    def begin() -> None:
        raise Overruled

    with pytest.raises(Overruled):
        await both.act(START, f"{engine}/web", f"{engine}-compose/immich", begin=begin)
    assert (simulated.acts, simulated.connections) == ([], 0)


@OF_EACH
@in_virtual_time
async def test_a_begin_is_called_before_each_request(engine: Engine) -> None:
    both = BothEngines()
    simulated = both.by_engine[engine]
    for name in ("a", "b"):
        simulated.add(name)
    asked: list[int] = []
    await both.act(RESTART, f"{engine}/a", f"{engine}/b", begin=lambda: asked.append(len(simulated.acts)))
    assert len(asked) == len(simulated.acts) == 4
    assert all(before <= number for number, before in enumerate(asked))


@OF_EACH
@in_virtual_time
async def test_a_slow_stop_holds_up_no_other_container(engine: Engine) -> None:
    both = BothEngines()
    simulated = both.by_engine[engine]
    simulated.add("slow", ignores_term=True, stop_seconds=60)
    simulated.add("web", "exited")
    slow = asyncio.ensure_future(both.act(STOP, f"{engine}/slow"))
    await asyncio.sleep(1)
    assert await both.act(START, f"{engine}/web") == [f"{engine}/web done"]
    assert (now_seconds() < 2, slow.done()) == (True, False)
    assert await slow == [f"{engine}/slow done"]
    assert 60 <= now_seconds() < 61
    assert await both.state(f"{engine}/slow") == "inactive (exited with 137)"


LIMITS = [(None, 100), (0, 100), (-1, 90), (60, 150), (10**9, 3690)]


@pytest.mark.parametrize(("stop_seconds", "limit_seconds"), LIMITS)
@OF_EACH
@in_virtual_time
async def test_a_stop_that_never_ends_is_a_failure_after_the_containers_own_time(
    engine: Engine, stop_seconds: int | None, limit_seconds: int
) -> None:
    both = BothEngines()
    simulated = both.by_engine[engine]
    simulated.add("web", stop_seconds=stop_seconds)
    simulated.faults = [EngineFault("POST", delay_seconds=math.inf)]
    why = f"failed: {engine} did not answer within {limit_seconds} s"
    assert await both.act(STOP, f"{engine}/web") == [f"{engine}/web {why}"]
    assert limit_seconds <= now_seconds() <= limit_seconds + 1


IN_TURN: list[tuple[list[Action], str]] = [
    ([START, STOP], "exited"),
    ([STOP, START], "running"),
    ([STOP, START, STOP], "exited"),
    ([RESTART, STOP], "exited"),
    ([RESTART, START], "running"),
    ([STOP, RESTART], "exited"),
    ([STOP, STOP], "exited"),
]


@pytest.mark.parametrize(("actions", "after"), IN_TURN)
@pytest.mark.parametrize("ignores_term", [False, True])
@OF_EACH
@in_virtual_time
async def test_actions_on_one_container_come_one_after_the_other_and_the_last_one_wins(
    engine: Engine, ignores_term: bool, actions: list[Action], after: str
) -> None:
    """As of two groups that have it, by its name and in a project."""
    both = BothEngines()
    simulated = both.by_engine[engine]
    is_up = actions[0] is not START
    simulated.add_service(
        "immich", "web", "running" if is_up else "exited", stop_seconds=2, ignores_term=ignores_term
    )
    members = [f"{engine}/immich-web-1", f"{engine}-compose/immich"]
    running = []
    for number, action in enumerate(actions):
        has_begun = asyncio.Event()
        running.append(asyncio.ensure_future(both.act(action, members[number % 2], begin=has_begun.set)))
        await asyncio.wait([running[-1], asyncio.ensure_future(has_begun.wait())], timeout=0.05)
    for ended in await asyncio.gather(*running):
        assert " done" in ended[0] or "is gone" in ended[0] or "exited" in ended[0]
    assert (simulated.named("immich-web-1").status, simulated.overlaps) == (after, [])


@OF_EACH
@in_virtual_time
async def test_a_stop_that_is_given_up_is_still_carried_out_and_frees_the_container(engine: Engine) -> None:
    both = BothEngines()
    simulated = both.by_engine[engine]
    simulated.add("web", ignores_term=True)
    stopping = asyncio.ensure_future(both.act(STOP, f"{engine}/web"))
    await asyncio.sleep(1)
    stopping.cancel()
    await asyncio.wait([stopping])
    await asyncio.sleep(20)
    assert await both.act(START, f"{engine}/web") == [f"{engine}/web done"]
    assert simulated.overlaps == []


# An engine that is away


@pytest.mark.parametrize("action", list(Action))
@pytest.mark.parametrize("unit", [OFF, STOPPING])
@OF_EACH
@in_virtual_time
async def test_an_engine_that_is_off_is_neither_started_nor_asked(
    engine: Engine, unit: UnitState, action: Action
) -> None:
    both = BothEngines()
    simulated = both.by_engine[engine]
    simulated.add("web", "exited")
    simulated.unit = unit
    why = f"{engine.unit} is {unit}"
    assert await both.act(action, f"{engine}/web") == [f"{engine}/web refused ({why})"]
    assert simulated.connects == []


@in_virtual_time
async def test_an_engine_that_goes_between_stop_and_start_of_a_restart_is_told() -> None:
    both = BothEngines()
    docker = both.by_engine[DOCKER]
    docker.add("web")

    def turn_off(request: str) -> None:
        if request.endswith("stop"):
            docker.unit = STOPPING

    docker.on_request = turn_off
    why = f"failed: docker.service is {STOPPING}"
    assert await both.act(RESTART, "docker/web") == [f"docker/web {why}"]
    assert docker.acts == ["stop web"]
    both.has_only_asked_active_engines()


async def hung(both: BothEngines, engine: Engine) -> None:
    both.by_engine[engine].faults = [EngineFault("GET", delay_seconds=math.inf)]


async def killed(both: BothEngines, engine: Engine) -> None:
    both.by_engine[engine].faults = [EngineFault("POST", cut_at_bytes=0)]


async def lying(both: BothEngines, engine: Engine) -> None:
    both.by_engine[engine].faults = [EngineFault("POST", answer=b"HTTP/1.0 200 OK\r\n\r\n{}")]


async def broken(both: BothEngines, engine: Engine) -> None:
    both.by_engine[engine].faults = [EngineFault("POST", answer=b"HTTP/1.0 502 Bad\r\n\r\n<html>")]


FAILING: list[tuple[Callable[[BothEngines, Engine], Coroutine[Any, Any, None]], str]] = [
    (hung, "refused ({engine} did not answer within 5 s)"),
    (killed, "failed: {engine} closed the connection"),
    (broken, "failed: the engine's answer is not JSON"),
    (lying, "failed: {engine} answered with status 200"),
]


@pytest.mark.parametrize(("fails", "words"), FAILING)
@OF_EACH
@in_virtual_time
async def test_an_answer_that_does_not_come_or_makes_no_sense_is_a_failure(
    engine: Engine, fails: Callable[[BothEngines, Engine], Coroutine[Any, Any, None]], words: str
) -> None:
    both = BothEngines()
    both.by_engine[engine].add("web", "exited")
    other = Engine.PODMAN if engine is Engine.DOCKER else Engine.DOCKER
    both.by_engine[other].add("web", "exited")
    await fails(both, engine)
    results = await both.act(START, f"{engine}/web", f"{other}/web")
    assert results == [f"{engine}/web {words.format(engine=engine)}", f"{other}/web done"]


@OF_EACH
@in_virtual_time
async def test_a_container_that_is_removed_during_a_look_is_not_there(engine: Engine) -> None:
    both = BothEngines()
    simulated = both.by_engine[engine]
    gone = simulated.add_service("immich", "db")
    simulated.add_service("immich", "web")

    def remove(request: str) -> None:
        if "immich-db-1" in request and gone.id in simulated.containers:
            simulated.remove(gone)

    simulated.on_request = remove
    assert await both.state(f"{engine}-compose/immich") == "active (1 running)"


@OF_EACH
@in_virtual_time
async def test_of_a_list_with_thousands_of_others_only_the_right_one_counts(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = BothEngines()
    simulated = both.by_engine[engine]
    for number in range(2000):
        simulated.add(f"web{number}", id=f"{number:064x}")
    simulated.add("web", "exited")
    assert await both.state(f"{engine}/web") == "inactive (exited with 0)"
    assert len(simulated.requests) == 2
    for number in range(200, 2000):
        del simulated.containers[f"{number:064x}"]
    monkeypatch.setattr(simulated, "_is_listed", lambda *_: True)  # an engine that ignores the filter
    assert await both.act(START, f"{engine}/web") == [f"{engine}/web done"]
    assert simulated.acts == ["start web"]
