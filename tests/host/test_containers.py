"""Groups of containers on a host with the real Docker and the real Podman: taps, states and names."""

import asyncio
import time
from typing import Final

import pytest

from tests.host.conftest import start_fails
from tests.host.engines import (
    CRASHES,
    IGNORES_TERM,
    NO_RESPONSE,
    Engine,
    Told,
    group_report,
    members,
    until_member,
    until_read,
)
from tests.host.machine import ADDRESS, Host, eventually, eventually_async
from tests.support.controller import Controller

CONFIG_FILE: Final = "/etc/hkswitch/config.yaml"
CONFIG: Final = f"""\
bridge:
  address: {ADDRESS}
groups:
  docker: {{name: Docker, containers: [web, store], restart: true}}
  podman: {{name: Podman, containers: [web, store], engine: podman, restart: true}}
  docker-one: {{name: Docker One, containers: [one]}}
  podman-one: {{name: Podman One, containers: [one], engine: podman}}
  docker-we: {{name: Docker We, containers: [we]}}
  podman-we: {{name: Podman We, containers: [we], engine: podman}}
  docker-mixed: {{name: Docker Mixed, units: [httpd], containers: [one]}}
  podman-mixed: {{name: Podman Mixed, units: [httpd], containers: [one], engine: podman}}
  quadlet: {{name: Quadlet, containers: [systemd-notes], engine: podman}}
"""
QUADLET: Final = "/etc/containers/systemd/notes.container"


@pytest.fixture(scope="session")
def host(engine_host: Host) -> Host:
    return engine_host


@pytest.fixture(scope="module")
def config() -> str:
    return CONFIG


@pytest.fixture
def name(engine: Engine) -> str:
    """The name of the group of two containers of the engine."""
    return engine.name.capitalize()


@pytest.fixture
def one(engine: Engine) -> str:
    """The name of the group of one container of the engine."""
    return f"{engine.name.capitalize()} One"


# Taps


async def test_on_starts_all_containers_and_off_stops_them(
    engine: Engine, controller: Controller, name: str
) -> None:
    for each in ("web", "store"):
        engine.create(each)
    await until_read(controller, name, False)
    assert await controller.write(name, on=True) == 0
    await eventually_async(lambda: {engine.status("web"), engine.status("store")} == {"running"})
    await until_read(controller, name, True)
    assert members(engine.host, engine.name) == {
        f"{engine.name}/web": "loaded/active/running",
        f"{engine.name}/store": "loaded/active/running",
    }
    assert await controller.write(name, on=False) == 0
    await eventually_async(lambda: {engine.status("web"), engine.status("store")} == {"exited"})
    await until_read(controller, name, False)


@pytest.mark.parametrize("runs", [True, False], ids=["running", "stopped"])
async def test_a_restart_restarts_only_what_runs(engine: Engine, runs: bool) -> None:
    for each in ("web", "store"):
        engine.create(each)
    engine.cli("start", "store")
    if runs:
        engine.cli("start", "web")
    before = {each: engine.process(each) for each in ("web", "store")}
    await until_member(engine.host, engine.name, f"{engine.name}/store", "loaded/active")
    engine.host.run("hkswitch", "restart", engine.name)
    after = {each: engine.process(each) for each in ("web", "store")}
    assert after["store"] not in {0, before["store"]}
    assert (after["web"] not in {0, before["web"]}) is runs


async def test_a_container_that_ignores_sigterm_delays_neither_the_answer_nor_another_group(
    engine: Engine, controller: Controller, one: str, name: str
) -> None:
    engine.run("one", "--stop-timeout=4", script=IGNORES_TERM)
    for each in ("web", "store"):
        engine.create(each)
    await until_read(controller, one, True)
    started_seconds = time.monotonic()
    assert await controller.write(one, on=False) == 0
    answered_seconds = time.monotonic()
    assert await controller.write(name, on=True) == 0
    await eventually_async(lambda: engine.status("web") == "running")
    assert engine.process("one")
    assert time.monotonic() - started_seconds < 4
    assert answered_seconds - started_seconds < 2
    await eventually_async(lambda: engine.status("one") == "exited")
    assert time.monotonic() - started_seconds > 3.5
    await until_read(controller, one, False)


async def test_units_start_before_containers_and_stop_after_them(
    engine: Engine, stub_units: tuple[str, ...]
) -> None:
    host, group = engine.host, f"{engine.name}-mixed"
    engine.create("one", script="sleep infinity")  # ignores SIGTERM, as a first process does
    check = f"{engine.name} inspect --format '{{{{.State.Running}}}}' one"
    log = f"/bin/sh -c '{check} >>/run/order'"
    host.unit(
        "httpd.service",
        f"[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart={log}\nExecStop={log}\n",
    )
    host.run("hkswitch", "start", group)
    assert engine.status("one") == "running"
    host.run("hkswitch", "stop", group)
    assert engine.status("one") == "exited"
    order = host.run("sh", "-c", "cat /run/order; rm /run/order").stdout.split()
    assert order == ["false", "false"]


async def test_a_start_that_fails_is_an_error_and_the_reason_is_reported(
    engine: Engine, controller: Controller, one: str
) -> None:
    engine.cli("create", "--name=one", "--network=none", "server", "/no/such/program")
    await until_read(controller, one, False)
    assert await start_fails(controller, one)
    last = group_report(engine.host, f"{engine.name}-one")["last_action"]
    assert last["outcome"] == "failed"
    assert last["failure"].startswith(f"{engine.name}/one ")
    assert "/no/such/program" in last["failure"]
    assert await controller.read(one) is False


async def test_a_paused_container_is_not_on_and_is_refused_a_start(
    engine: Engine, controller: Controller, one: str
) -> None:
    engine.run("one")
    await until_read(controller, one, True)
    engine.cli("pause", "one")
    await until_member(engine.host, f"{engine.name}-one", f"{engine.name}/one", "loaded/partial/paused")
    await until_read(controller, one, False)
    assert await start_fails(controller, one)
    failure = group_report(engine.host, f"{engine.name}-one")["last_action"]["failure"]
    assert failure.startswith(f"{engine.name}/one failed: ")
    engine.cli("unpause", "one")
    await until_read(controller, one, True)


# Restart policies, and health


async def test_a_container_that_restarts_itself_is_on_again_after_a_crash(
    engine: Engine, controller: Controller, one: str
) -> None:
    engine.run("one", "--restart=always")
    await until_read(controller, one, True)
    engine.crash("one")
    await eventually_async(lambda: engine.process("one") != 0)
    await until_read(controller, one, True)
    assert await controller.write(one, on=False) == 0
    await eventually_async(lambda: engine.status("one") == "exited")
    await until_read(controller, one, False)
    await asyncio.sleep(1)  # its policy would have had it started again by now
    assert (engine.status("one"), await controller.read(one)) == ("exited", False)


async def test_a_container_that_crashes_again_and_again_is_failed_until_it_is_stopped(
    engine: Engine, controller: Controller, one: str
) -> None:
    group, member = f"{engine.name}-one", f"{engine.name}/one"
    engine.run("one", "--restart=always", script=CRASHES)
    await until_member(engine.host, group, member, "loaded/failing")
    await until_read(controller, one, False)
    told = Told(controller)
    await asyncio.sleep(3)
    assert told.of(one) == []
    assert group_report(engine.host, group)["state"] == "failed"
    assert await controller.write(one, on=False) == 0
    await eventually_async(lambda: engine.status("one") == "exited")
    await until_member(engine.host, group, member, "loaded/inactive/exited with 3")


def test_a_stop_ends_a_crash_loop_at_whatever_moment_it_comes(engine: Engine, exhaustive: bool) -> None:
    """Podman calls a container stopped between a crash and its restart."""
    engine.create("one", "--restart=always", script="exit 3")

    def restarts() -> int:
        found = engine.inspected("one")
        return 0 if found is None else int(found["RestartCount"])

    for _ in range(3 if exhaustive else 1):
        engine.cli("start", "one")
        eventually(lambda: restarts() > 1)
        engine.host.run("serviceswitch", "stop", f"{engine.name}-one")
        before = restarts()
        time.sleep(0.5)
        assert (engine.status("one"), restarts()) == ("exited", before)


async def test_a_container_with_a_health_check_is_on_while_it_is_healthy(
    engine: Engine, controller: Controller, one: str
) -> None:
    group, member = f"{engine.name}-one", f"{engine.name}/one"
    checked = ("--health-cmd=test -e /healthy", "--health-interval=1s", "--health-retries=3")
    engine.run("one", *checked)
    await until_member(engine.host, group, member, "loaded/activating/starting")
    await until_member(engine.host, group, member, "loaded/failing/unhealthy")
    await until_read(controller, one, False)
    engine.cli("exec", "one", "touch", "/healthy")
    await until_member(engine.host, group, member, "loaded/active/healthy")
    await until_read(controller, one, True)


# Names


async def test_a_container_that_is_missing_does_not_respond_until_it_exists(
    engine: Engine, controller: Controller, one: str
) -> None:
    group, member = f"{engine.name}-one", f"{engine.name}/one"
    await until_read(controller, one, NO_RESPONSE)
    assert members(engine.host, group)[member].startswith("not-found/")
    assert await controller.write(one, on=True) != 0
    engine.run("one")
    # An engine creates it before the start, of which a phone may be told.
    assert await controller.event(one) or await controller.event(one)
    engine.cli("rename", "one", "other")
    await until_read(controller, one, NO_RESPONSE)
    engine.cli("rename", "other", "one")
    await until_read(controller, one, True)
    engine.cli("rename", "one", "other")
    engine.create("one")
    await until_read(controller, one, False)
    assert engine.status("other") == "running"


async def test_names_that_contain_each_other_are_told_apart(engine: Engine, controller: Controller) -> None:
    name, group = f"{engine.name.capitalize()} We", f"{engine.name}-we"
    for other in ("web", "we2", "awe", "w.e", "we-"):
        engine.run(other)
    await until_read(controller, name, NO_RESPONSE)
    engine.create("we")
    await until_read(controller, name, False)
    assert await controller.write(name, on=True) == 0
    await eventually_async(lambda: engine.status("we") == "running")
    assert await controller.write(name, on=False) == 0
    await eventually_async(lambda: engine.status("we") == "exited")
    assert {engine.status(other) for other in ("web", "we2", "awe", "w.e", "we-")} == {"running"}
    assert members(engine.host, group).keys() == {f"{engine.name}/we"}


async def test_a_name_that_is_the_beginning_of_another_containers_id_is_a_name(engine: Engine) -> None:
    identity = engine.run("other")
    group = f"groups: {{named: {{name: Named, containers: ['{identity[:12]}'], engine: {engine.name}}}}}\n"
    host = engine.host
    before = host.read(CONFIG_FILE)
    try:
        host.write(CONFIG_FILE, group)
        assert host.run("serviceswitch", "status", "named", check=False).returncode != 0
        assert host.run("serviceswitch", "stop", "named", check=False).returncode != 0
        assert engine.status("other") == "running"
        engine.create(identity[:12])
        host.run("serviceswitch", "start", "named")
        host.run("serviceswitch", "status", "named")
        engine.cli("stop", "other")
        host.run("serviceswitch", "status", "named")
        host.run("serviceswitch", "stop", "named")
        assert engine.status("other") == "exited"
    finally:
        host.write(CONFIG_FILE, before)


async def test_a_container_of_a_quadlet_is_refused_with_advice(daemon: Host, controller: Controller) -> None:
    daemon.write(QUADLET, "[Container]\nImage=localhost/server:latest\nNetwork=none\n")
    try:
        daemon.run("systemctl", "daemon-reload")
        daemon.run("systemctl", "start", "notes.service")
        await until_member(daemon, "quadlet", "podman/systemd-notes", "bad-setting/")
        assert "use units: [notes.service]" in members(daemon, "quadlet")["podman/systemd-notes"]
        assert await controller.read("Quadlet") == NO_RESPONSE
        assert await controller.write("Quadlet", on=False) != 0
        refused = daemon.run("serviceswitch", "stop", "quadlet", check=False)
        assert refused.returncode != 0
        assert "use units: [notes.service]" in refused.stderr
        assert daemon.show("notes.service", "ActiveState") == "active"
    finally:
        daemon.run("systemctl", "stop", "notes.service", check=False)
        daemon.run("rm", QUADLET)
        daemon.run("systemctl", "daemon-reload")
