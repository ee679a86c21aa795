"""Engines that go away: their groups do not respond until they are back, and a stop stays a stop.

In CI, each engine is killed, stopped and restarted once; with `--long`, seven times.
"""

import asyncio
import time
from collections.abc import Collection, Iterator
from functools import partial
from typing import Final

import pytest

from tests.host.engines import NO_RESPONSE, Engine, group_report, members, until_member, until_read
from tests.host.machine import ADDRESS, Host, eventually_async
from tests.support.controller import Controller

TIMES: Final = (1, 7)

STAYS_STOPPED_SECONDS: Final = 3
"""Longer than any pause before hkswitch connects again."""

TEMPTATIONS: Final = (
    ("systemctl", "reload", "hkswitch"),
    ("hkswitch", "status"),
    ("hkswitch", "doctor"),
    ("serviceswitch", "status", "docker"),
    ("serviceswitch", "start", "podman"),
)
"""Commands for which an engine would be started by its socket if they connected to it."""

CONFIG: Final = f"""\
bridge:
  address: {ADDRESS}
groups:
  docker: {{name: Docker, containers: [web]}}
  podman: {{name: Podman, containers: [web], engine: podman}}
"""


@pytest.fixture(scope="session")
def host(engine_host: Host) -> Host:
    return engine_host


@pytest.fixture(scope="module")
def config() -> str:
    return CONFIG


@pytest.fixture
def running(engine: Engine) -> Iterator[Engine]:
    """An engine that runs, with a container that it starts again after it was away itself."""
    engine.revive()
    engine.run("web", "--restart=always")
    yield engine
    engine.revive()


@pytest.fixture
def rounds(request: pytest.FixtureRequest, running: Engine) -> Iterator[int]:
    """The rounds of a test, before each of which systemd forgets how often the engine was started."""

    def counted() -> Iterator[int]:
        for number in range(TIMES[request.config.getoption("--long")]):
            running.forget_starts()
            yield number

    return counted()


def name(engine: Engine) -> str:
    return engine.name.capitalize()


async def unavailable(engine: Engine, controller: Controller) -> None:
    """Wait until the group does not respond, and the report has the reason."""
    await until_member(engine.host, engine.name, f"{engine.name}/web", "unavailable/")
    await until_read(controller, name(engine), NO_RESPONSE)


async def works(engine: Engine, controller: Controller) -> None:
    """Switch the group off and on."""
    await until_read(controller, name(engine), True)
    assert await controller.write(name(engine), on=False) == 0
    await eventually_async(lambda: engine.status("web") == "exited")
    await until_read(controller, name(engine), False)
    assert await controller.write(name(engine), on=True) == 0
    await eventually_async(lambda: engine.status("web") == "running")
    await until_read(controller, name(engine), True)


def has_other_process(engine: Engine, than: Collection[str]) -> bool:
    return engine.host.show(engine.service, "MainPID") not in than


async def test_a_killed_engine_is_asked_again_as_soon_as_it_is_back(
    running: Engine, rounds: Iterator[int], controller: Controller
) -> None:
    """systemd restarts Docker after 2 s, and podman when the next program connects."""
    host = running.host
    await until_read(controller, name(running), True)
    for _ in rounds:
        main = host.show(running.service, "MainPID")
        assert main != "0"
        host.run("kill", "-KILL", main)
        await eventually_async(partial(has_other_process, running, {"0", main}))
        await works(running, controller)


async def test_an_engine_that_was_stopped_stays_stopped_until_it_is_started(
    running: Engine, rounds: Iterator[int], controller: Controller
) -> None:
    host = running.host
    await until_read(controller, name(running), True)
    for _ in rounds:
        started_seconds = time.monotonic()
        host.run("systemctl", "stop", running.unit)
        assert time.monotonic() - started_seconds < 4.5  # an open connection would have held it up for 5 s
        await unavailable(running, controller)
        refused = host.run("hkswitch", "start", running.name, check=False)
        assert refused.returncode != 0
        assert await controller.write(name(running), on=True) != 0
        for command in TEMPTATIONS:
            host.run(*command, check=False)
        await asyncio.sleep(STAYS_STOPPED_SECONDS)
        assert host.show("docker.socket", "ActiveState") == "active" or running.name == "podman"
        assert host.show(running.service, "ActiveState") == "inactive"
        state = members(host, running.name)[f"{running.name}/web"]
        assert state.startswith(f"unavailable/unknown/{running.unit} is inactive")
        host.run("systemctl", "start", running.unit)
        await works(running, controller)


async def test_an_engine_that_is_restarted_is_asked_again(
    running: Engine, rounds: Iterator[int], controller: Controller
) -> None:
    host = running.host
    await until_read(controller, name(running), True)
    for _ in rounds:
        host.run("systemctl", "restart", running.unit)
        await works(running, controller)


async def test_a_change_while_the_engine_is_away_is_seen_when_it_is_back(
    running: Engine, controller: Controller
) -> None:
    host = running.host
    await until_read(controller, name(running), True)
    running.cli("update", "--restart=no", "web")
    host.run("systemctl", "stop", running.unit)
    await unavailable(running, controller)
    if running.name == "podman":
        running.cli("kill", "web")  # it needs no daemon
    host.run("systemctl", "start", running.unit)
    await until_read(controller, name(running), False)
    assert group_report(host, running.name)["state"] == "off"


async def test_without_the_other_engine_a_group_works(running: Engine, controller: Controller) -> None:
    other = Engine(running.host, "podman" if running.name == "docker" else "docker")
    running.host.run("systemctl", "stop", other.unit, other.socket_unit)
    try:
        await works(running, controller)
        await until_read(controller, name(other), NO_RESPONSE)
    finally:
        other.revive()
