"""The simulated engines do what Docker 26.1 and podman 5.4 were seen to do."""

import asyncio
import json
from collections.abc import Callable
from urllib.parse import quote

import pytest

from hkswitch.model.group import Engine
from tests.containers.both_engines import OF_EACH, in_virtual_time
from tests.support.simulated_containers import SimulatedContainer
from tests.support.simulated_engine import SimulatedEngine


async def asked(simulated: SimulatedEngine, request: str) -> tuple[int, bytes]:
    """The status and the body of an answer."""
    reader, writer = await simulated.connect()
    writer.write(f"{request} HTTP/1.0\r\n\r\n".encode())
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    return int(head.split()[1]), body


async def names(simulated: SimulatedEngine, **filters: list[str]) -> list[str]:
    status, body = await asked(simulated, f"GET /containers/json?all=1&filters={quote(json.dumps(filters))}")
    assert status == 200, body
    return sorted(row["Names"][-1] for row in json.loads(body))


DOCKER, PODMAN = Engine.DOCKER, Engine.PODMAN
PATTERNS = [
    (DOCKER, "^web$", ["/web"]),
    (PODMAN, "^web$", ["/web"]),
    (DOCKER, "^/web$", ["/web"]),
    (PODMAN, "^/web$", ["/web"]),
    (DOCKER, "^/?web$", ["/web"]),
    (DOCKER, "web", ["/aweb", "/web", "/web2"]),
    (PODMAN, "web", ["/aweb", "/web", "/web2"]),
    (DOCKER, "^a\\.b$", ["/a.b"]),
    (PODMAN, "^a\\.b$", ["/a.b"]),
    (DOCKER, "^a.b$", ["/a.b", "/axb"]),
    (DOCKER, "^alias$", []),
    (DOCKER, "alias$", ["/a.b"]),
    (PODMAN, "alias$", []),
]


@pytest.mark.parametrize(("engine", "pattern", "found"), PATTERNS)
@in_virtual_time
async def test_a_name_in_a_filter_is_a_pattern(engine: Engine, pattern: str, found: list[str]) -> None:
    simulated = SimulatedEngine(engine)
    for name in ("web", "web2", "aweb", "axb"):
        simulated.add(name)
    simulated.add("a.b", aliases=("linked/alias",))
    assert await names(simulated, name=[pattern]) == found


@OF_EACH
@in_virtual_time
async def test_a_label_in_a_filter_is_exact(engine: Engine) -> None:
    simulated = SimulatedEngine(engine)
    simulated.add_service("immich", "web")
    simulated.add_service("immich2", "web")
    project = "com.docker.compose.project"
    assert await names(simulated, label=[f"{project}=immich"]) == ["/immich-web-1"]
    assert await names(simulated, label=[project, "com.docker.compose.service=web"]) == [
        "/immich-web-1",
        "/immich2-web-1",
    ]
    assert await names(simulated, label=[f"{project}=immich", f"{project}=immich2"]) == []


ANSWERS = [
    ("POST", "web", "start", "running", 304, 304),
    ("POST", "web", "stop", "exited", 304, 304),
    ("POST", "web", "stop", "created", 304, 204),
    ("POST", "web", "start", "created", 204, 204),
    ("POST", "web", "stop", "running", 204, 204),
    ("POST", "web", "start", "paused", 409, 500),
    ("POST", "web", "stop", "paused", 204, 500),
    ("POST", "nothing", "start", "running", 404, 404),
    ("POST", "web", "restart", "running", 404, 404),  # which nobody may ask for
    ("GET", "web", "json", "running", 200, 200),
    ("GET", "ab", "json", "running", 200, 200),
    ("GET", "nothing", "json", "running", 404, 404),
]


@pytest.mark.parametrize(("method", "name", "verb", "before", "docker", "podman"), ANSWERS)
@in_virtual_time
async def test_each_engine_has_its_own_answers(
    *, method: str, name: str, verb: str, before: str, docker: int, podman: int
) -> None:
    for engine, status in ((DOCKER, docker), (PODMAN, podman)):
        simulated = SimulatedEngine(engine)
        simulated.add("web", before, id="ab" * 32)
        assert (await asked(simulated, f"{method} /containers/{name}/{verb}"))[0] == status


Happening = Callable[[SimulatedEngine, SimulatedContainer], object]
EVENTS: list[tuple[str, Happening, str, str]] = [
    ("stop", lambda engine, web: asyncio.ensure_future(engine.stop(web)), "kill stop die", "die cleanup"),
    ("kill", lambda engine, web: engine.kill(web), "kill die", "kill die cleanup"),
    ("crash", lambda engine, web: engine.end(web, 3), "die", "die cleanup"),
    (
        "restart",
        lambda engine, web: engine.restart_by_hand(web),
        "kill stop die start restart",
        "restart die init start",
    ),
    ("pause", lambda engine, web: engine.pause(web), "pause", "pause"),
    ("rm -f", lambda engine, web: engine.remove(web), "kill die destroy", "die remove"),
    ("rename", lambda engine, web: engine.rename(web, "moved"), "rename", "rename"),
]


@pytest.mark.parametrize(
    ("happens", "docker", "podman"), [row[1:] for row in EVENTS], ids=[row[0] for row in EVENTS]
)
@in_virtual_time
async def test_each_engine_has_its_own_events_in_its_order(
    happens: Happening, docker: str, podman: str
) -> None:
    for engine, actions in ((DOCKER, docker), (PODMAN, podman)):
        simulated = SimulatedEngine(engine)
        web = simulated.add("web")
        told: list[bytes] = []
        simulated.listeners[engine] = told.append
        happens(simulated, web)
        await asyncio.sleep(1)
        assert [json.loads(line)["Action"] for line in told] == actions.split()
        assert {json.loads(line)["Actor"]["ID"] for line in told} == {web.id}


@in_virtual_time
async def test_docker_waits_longer_before_each_restart_and_podman_does_not_wait() -> None:
    restarts, statuses = {}, {}
    for engine in Engine:
        simulated = SimulatedEngine(engine)
        web = simulated.add("web", policy="always", ends_after_seconds=0.08, exits_with=3)
        seen = set()
        for _ in range(1000):
            seen.add(web.status)
            await asyncio.sleep(0.01)
        restarts[engine], statuses[engine] = web.restarts, seen
        simulated.kill(web)
        await asyncio.sleep(100)
        assert (web.status, simulated.containers) == ("exited", {web.id: web})
    assert 5 <= restarts[DOCKER] <= 8
    assert 50 <= restarts[PODMAN] <= 65
    assert statuses == {DOCKER: {"running", "restarting"}, PODMAN: {"running", "stopped"}}


POLICIES = [
    ("no", 0, 1, "exited", 0),
    ("no", 0, 0, "exited", 0),
    ("on-failure", 2, 0, "exited", 0),
    ("on-failure", 2, 3, "exited", 2),
    ("always", 0, 0, "running", 1),
    ("unless-stopped", 0, 1, "running", 1),
]


@pytest.mark.parametrize(("policy", "most_restarts", "exit_status", "status", "restarts"), POLICIES)
@OF_EACH
@in_virtual_time
async def test_a_restart_policy_decides_on_what_has_ended(
    *, engine: Engine, policy: str, most_restarts: int, exit_status: int, status: str, restarts: int
) -> None:
    simulated = SimulatedEngine(engine)
    web = simulated.add("web", policy=policy, most_restarts=most_restarts, exits_with=exit_status)
    if restarts > 1:
        web.ends_after_seconds = 0.01
    simulated.end(web, exit_status)
    await asyncio.sleep(2)
    assert (web.status, web.restarts) == (status, restarts)
    await asked(simulated, "POST /containers/web/stop")
    assert web.restarts == restarts


@OF_EACH
@in_virtual_time
async def test_a_stop_that_takes_long_is_shared_and_refuses_a_start(engine: Engine) -> None:
    simulated = SimulatedEngine(engine)
    web = simulated.add("web", ignores_term=True, stop_seconds=2)
    stops = [asyncio.ensure_future(asked(simulated, "POST /containers/web/stop")) for _ in range(2)]
    await asyncio.sleep(1)
    assert web.status == ("stopping" if engine is PODMAN else "running")
    assert (await asked(simulated, "POST /containers/web/start"))[0] == (500 if engine is PODMAN else 304)
    assert [status for status, _ in await asyncio.gather(*stops)] == [204, 204]
    assert (web.status, web.exit_status) == ("exited", 137)
