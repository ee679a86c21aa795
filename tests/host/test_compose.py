"""Compose projects as members of groups, with the real docker-compose, which Podman understands too."""

import re
from collections.abc import Iterator
from typing import Final

import pytest

from tests.host.conftest import start_fails
from tests.host.engines import NO_RESPONSE, Engine, group_report, members, until_member, until_read
from tests.host.machine import ADDRESS, Host, eventually_async
from tests.support.controller import Controller

NAME: Final = "Immich"
MEMBER: Final = "docker-compose/immich"
CONFIG: Final = f"""\
bridge:
  address: {ADDRESS}
groups:
  immich: {{name: {NAME}, compose: immich, restart: true}}
  podman: {{name: Podman, compose: immich, engine: podman}}
  photos: {{name: Photos, containers: [immich-server-1]}}
"""

FILE: Final = "/run/immich/compose.yaml"
SERVICES: Final = ("server", "database", "cache")
PROJECT: Final = """\
name: immich
services:
  server: {image: server, network_mode: none, restart: always, stop_grace_period: 1s, depends_on: [database]}
  database: {image: server, network_mode: none, restart: always, stop_grace_period: 1s}
  cache: {image: server, network_mode: none, restart: unless-stopped, stop_grace_period: 1s}
  migration: {image: server, network_mode: none, command: ["true"]}
"""
POLICY: Final = re.compile(r"restart: [a-z-]+, ")
OTHER_PROJECT: Final = PROJECT.replace("name: immich", "name: immich2")


@pytest.fixture(scope="session")
def host(engine_host: Host) -> Host:
    return engine_host


@pytest.fixture(scope="module")
def config() -> str:
    return CONFIG


@pytest.fixture
def docker(daemon: Host) -> Iterator[Engine]:
    """Docker, without containers."""
    engine = Engine(daemon, "docker")
    with engine.emptied():
        yield engine


@pytest.fixture
def project(docker: Engine) -> Engine:
    """The project, up; its job has ended."""
    docker.host.write(FILE, PROJECT)
    compose(docker, "up", "--detach")
    return docker


def compose(engine: Engine, *argv: str, file: str = FILE) -> None:
    to = f"DOCKER_HOST=unix://{engine.socket}"
    engine.host.run("env", to, "docker-compose", f"--file={file}", *argv, timeout_seconds=60)


def container(service: str) -> str:
    return f"immich-{service}-1"


def statuses(engine: Engine) -> list[str]:
    return [engine.status(container(service)) for service in SERVICES]


async def test_a_project_is_one_member_and_a_finished_job_does_not_count(
    project: Engine, controller: Controller
) -> None:
    await until_read(controller, NAME, True)
    await eventually_async(lambda: project.status(container("migration")) == "exited")
    assert members(project.host, "immich") == {MEMBER: "loaded/active/3 running"}
    assert await controller.write(NAME, on=False) == 0
    await eventually_async(lambda: statuses(project) == ["exited"] * 3)
    await until_read(controller, NAME, False)
    await until_member(project.host, "immich", MEMBER, "loaded/inactive/")
    assert await controller.write(NAME, on=True) == 0
    await eventually_async(lambda: statuses(project) == ["running"] * 3)
    await until_read(controller, NAME, True)


@pytest.mark.parametrize("policies", [(), ("database",)], ids=["none", "one"])
async def test_services_without_a_restart_policy_start_again_after_a_stop(
    docker: Engine, controller: Controller, policies: tuple[str, ...]
) -> None:
    """Once they have ended with 0, their state is that of a finished job."""
    lines = [line for line in PROJECT.splitlines(keepends=True) if "migration" not in line]
    without = (line if line.strip().startswith(policies) else POLICY.sub("", line) for line in lines)
    docker.host.write(FILE, "".join(without))
    compose(docker, "up", "--detach")
    await until_read(controller, NAME, True)
    assert await controller.write(NAME, on=False) == 0
    await eventually_async(lambda: statuses(docker) == ["exited"] * 3)
    await until_read(controller, NAME, False)
    assert await controller.write(NAME, on=True) == 0
    await eventually_async(lambda: statuses(docker) == ["running"] * 3)
    await until_read(controller, NAME, True)
    assert members(docker.host, "immich") == {MEMBER: "loaded/active/3 running"}


async def test_a_restart_starts_nothing_that_does_not_run(project: Engine, controller: Controller) -> None:
    await until_read(controller, NAME, True)
    project.cli("stop", container("cache"))
    job = project.inspected(container("migration"))
    before = [project.process(container(service)) for service in SERVICES]
    await until_read(controller, NAME, False)
    project.host.run("hkswitch", "restart", "immich")
    after = [project.process(container(service)) for service in SERVICES]
    assert [bool(process) for process in after] == [True, True, False]
    assert {*after[:2]}.isdisjoint(before)
    assert job is not None
    assert (project.inspected(container("migration")) or {})["State"]["StartedAt"] == job["State"][
        "StartedAt"
    ]


async def test_a_project_is_on_only_while_all_its_containers_run(
    project: Engine, controller: Controller
) -> None:
    await until_read(controller, NAME, True)
    project.cli("kill", container("cache"))
    await until_read(controller, NAME, False)
    await until_member(project.host, "immich", MEMBER, "loaded/partial/2 of 3 running")
    assert "cache" in members(project.host, "immich")[MEMBER]
    project.cli("start", container("cache"))
    await until_read(controller, NAME, True)
    project.cli("pause", container("server"))
    await until_read(controller, NAME, False)
    project.cli("unpause", container("server"))
    await until_read(controller, NAME, True)


async def test_a_container_that_was_removed_alone_is_not_missed(
    project: Engine, controller: Controller
) -> None:
    """Only compose knows which services a project has."""
    await until_read(controller, NAME, True)
    project.cli("rm", "--force", container("cache"))
    await until_member(project.host, "immich", MEMBER, "loaded/active/2 running")
    await until_read(controller, NAME, True)


async def test_a_container_of_a_single_run_is_no_part_of_the_project(
    project: Engine, controller: Controller
) -> None:
    await until_read(controller, NAME, True)
    compose(project, "run", "--detach", "--name=once", "cache", "sleep", "infinity")
    await until_member(project.host, "immich", MEMBER, "loaded/active/3 running")
    assert await controller.write(NAME, on=False) == 0
    await eventually_async(lambda: statuses(project) == ["exited"] * 3)
    await until_member(project.host, "immich", MEMBER, "loaded/inactive/")
    assert project.status("once") == "running"


async def test_another_project_whose_name_begins_like_it_is_left_alone(
    project: Engine, controller: Controller
) -> None:
    other = "/run/immich/other.yaml"
    project.host.write(other, OTHER_PROJECT)
    compose(project, "up", "--detach", file=other)
    await until_read(controller, NAME, True)
    assert members(project.host, "immich") == {MEMBER: "loaded/active/3 running"}
    assert await controller.write(NAME, on=False) == 0
    await eventually_async(lambda: statuses(project) == ["exited"] * 3)
    assert project.status("immich2-server-1") == "running"


async def test_after_down_the_project_does_not_respond_and_after_up_it_does(
    project: Engine, controller: Controller
) -> None:
    await until_read(controller, NAME, True)
    compose(project, "down", "--timeout=1")
    await until_read(controller, NAME, NO_RESPONSE)
    assert group_report(project.host, "immich")["state"] == "missing"
    assert members(project.host, "immich")[MEMBER].startswith("not-found/")
    assert await start_fails(controller, NAME)
    compose(project, "up", "--detach")
    await until_read(controller, NAME, True)
    await until_member(project.host, "immich", MEMBER, "loaded/active/3 running")


async def test_a_container_that_compose_re_creates_is_still_a_member(
    project: Engine, controller: Controller
) -> None:
    await until_read(controller, NAME, True)
    await until_read(controller, "Photos", True)
    before = project.inspected(container("server"))
    compose(project, "up", "--detach", "--force-recreate", "server")
    after = project.inspected(container("server"))
    assert before is not None
    assert after is not None
    assert before["Id"] != after["Id"]
    for name in (NAME, "Photos"):
        await until_read(controller, name, True)
    await until_member(project.host, "immich", MEMBER, "loaded/active/3 running")
    assert members(project.host, "photos") == {"docker/immich-server-1": "loaded/active/running"}
    assert await controller.write("Photos", on=False) == 0
    await eventually_async(lambda: project.status(container("server")) == "exited")


async def test_a_project_of_podman_is_switched_too(daemon: Host, controller: Controller) -> None:
    podman = Engine(daemon, "podman")
    with podman.emptied():
        daemon.write(FILE, PROJECT)
        compose(podman, "up", "--detach")
        await until_read(controller, "Podman", True)
        assert members(daemon, "podman") == {"podman-compose/immich": "loaded/active/3 running"}
        assert await controller.write("Podman", on=False) == 0
        await eventually_async(lambda: statuses(podman) == ["exited"] * 3)
        await until_read(controller, "Podman", False)
        assert await controller.write("Podman", on=True) == 0
        await eventually_async(lambda: statuses(podman) == ["running"] * 3)
        compose(podman, "down", "--timeout=1")
        await until_read(controller, "Podman", NO_RESPONSE)
