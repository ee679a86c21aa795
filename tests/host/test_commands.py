"""Groups of commands, and checks, with a real controller: which commands run, and what the phone gets."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Final

import pytest
import pytest_asyncio

from tests.host.conftest import FAILURE, start_fails
from tests.host.demo_unit import (
    CONFIG,
    LAMP,
    STATE,
    audit,
    override,
    program,
    reset_lamp,
    run_count,
    run_helper,
)
from tests.host.machine import Host, eventually_async
from tests.host.matrix import TRANSPORTS
from tests.support.controller import Controller
from tests.support.waiting import PATIENCE_SECONDS

__all__ = ["program", "reset_lamp"]

CONFIG_FILE: Final = "/etc/hkswitch/config.yaml"


@pytest.fixture(scope="module")
def config() -> str:
    return CONFIG


@pytest.fixture(scope="module", params=TRANSPORTS)
def transport(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest_asyncio.fixture(loop_scope="module")
async def phone(daemon: Host, controller: Controller) -> AsyncIterator[Controller]:
    """A controller that has read both switches as off."""
    for name in ("Lamp", "Tunnel"):
        await until_read_as(controller, name, on=False)
    yield controller


async def until_read_as(phone: Controller, name: str, *, on: bool | int) -> None:
    """Read until the value is as expected: True, False or a status."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while await phone.read(name) != on:  # noqa: ASYNC110 -- what a phone reads sets no event
            await asyncio.sleep(0.02)


async def until_logged(host: Host, line: str) -> None:
    """Wait for a log line of the daemon; the phone may get the event before the journal gets the line."""
    await eventually_async(lambda: line in host.journal("hkswitch.service").splitlines())


async def until_told(phone: Controller, name: str, *, on: bool) -> None:
    """Wait for an event with this value; one from the end of the previous test may come first."""
    while await phone.event(name) is not on:
        pass


async def test_a_tap_runs_the_command_and_the_status_decides_the_state(
    daemon: Host, phone: Controller
) -> None:
    assert await phone.write("Lamp", on=True) == 0
    await eventually_async(lambda: is_on(daemon))
    assert await phone.read("Lamp") is True
    assert await phone.write("Lamp", on=False) == 0
    assert await phone.read("Lamp") is False
    await eventually_async(lambda: not is_on(daemon))
    assert (run_count(daemon, "start"), run_count(daemon, "stop")) == (1, 1)


def is_on(host: Host) -> bool:
    return host.run("test", "-e", f"{STATE}/on", check=False).returncode == 0


async def test_what_is_on_is_not_started_again(daemon: Host, phone: Controller) -> None:
    daemon.run("touch", f"{STATE}/on")
    assert await phone.write("Lamp", on=True) == 0
    assert run_count(daemon, "start") == 0


async def test_a_change_from_outside_sends_an_event(daemon: Host, phone: Controller) -> None:
    daemon.run("touch", f"{STATE}/on")
    await until_told(phone, "Lamp", on=True)
    daemon.run("rm", f"{STATE}/on")
    await until_told(phone, "Lamp", on=False)


@pytest.mark.parametrize(
    ("start", "why"),
    [
        ("exit 1", f"{LAMP} exited with status 1"),
        ("exit 200", f"{LAMP} exited with status 200"),
        ("kill -9 $$", f"{LAMP} was killed by SIGKILL"),
    ],
)
async def test_a_command_that_fails_is_an_error_and_changes_nothing(
    daemon: Host, phone: Controller, start: str, why: str
) -> None:
    override(daemon, "start", start)
    assert await start_fails(phone, "Lamp")
    assert await phone.read("Lamp") is False
    await until_logged(daemon, f"lamp: start failed: {why}")
    last = audit(daemon)[-1]
    assert last["HKSWITCH_OUTCOME"] == "failed"
    assert last["HKSWITCH_REASON"] == why
    assert int(last["HKSWITCH_DURATION_MS"]) >= 0


async def test_a_command_that_takes_too_long_is_a_failure_and_snaps_back(
    daemon: Host, phone: Controller
) -> None:
    override(daemon, "start", "sleep 1000")
    assert await phone.write("Lamp", on=True) == 0
    assert await phone.event("Lamp") is False
    await until_logged(daemon, f"lamp: start failed: {LAMP} took longer than 2 s")


async def test_an_exit_code_is_no_success_while_the_status_says_otherwise(
    daemon: Host, phone: Controller
) -> None:
    override(daemon, "start", "exit 0")
    assert await phone.write("Lamp", on=True) == 0
    assert await phone.event("Lamp") is False
    why = f"{LAMP} exited with status 0, but after 2 s the state is still off: {LAMP} exited with status 1"
    await until_logged(daemon, f"lamp: start failed: {why}")


@pytest.fixture
def patience(daemon: Host) -> Iterator[None]:
    """Raises the command timeout from two seconds to a minute."""
    before = daemon.read(CONFIG_FILE)
    daemon.write(CONFIG_FILE, before.replace("timeout_seconds: 2", "timeout_seconds: 60"))
    daemon.run("systemctl", "reload", "hkswitch.service")
    yield
    daemon.write(CONFIG_FILE, before)
    daemon.run("systemctl", "reload", "hkswitch.service")


@pytest.mark.usefixtures("patience")
async def test_what_takes_a_while_after_its_command_does_not_flicker(daemon: Host, phone: Controller) -> None:
    assert await phone.write("Lamp", on=True) == 0
    later = f"until [ -e {STATE}/go ]; do sleep 0.1; done; rm {STATE}/on"
    override(daemon, "stop", f"systemd-run --quiet sh -c '{later}'; exit 0")
    assert await phone.write("Lamp", on=False) == 0
    assert await phone.read("Lamp") is False
    daemon.write(f"{STATE}/go", "")
    await eventually_async(lambda: not is_on(daemon))
    assert await phone.read("Lamp") is False
    assert run_helper(daemon, "status")[0] == 3


async def test_a_newer_tap_waits_for_the_command_and_then_takes_effect(
    daemon: Host, phone: Controller
) -> None:
    override(daemon, "start", "sleep 1.5")
    assert await phone.write("Lamp", on=True) == 0
    assert await phone.write("Lamp", on=False) == 0
    await eventually_async(lambda: run_count(daemon, "stop") == 1)
    await until_read_as(phone, "Lamp", on=False)
    await eventually_async(lambda: not is_on(daemon))


async def test_an_inconclusive_status_makes_only_its_switch_unavailable(
    daemon: Host, phone: Controller
) -> None:
    override(daemon, "status", "exit 127")
    await until_read_as(phone, "Lamp", on=FAILURE)
    assert await phone.read("Tunnel") is False
    daemon.run("rm", f"{STATE}/status")
    await until_read_as(phone, "Lamp", on=False)


async def test_a_helper_that_is_killed_leaves_no_stale_value(daemon: Host, phone: Controller) -> None:
    daemon.run("touch", f"{STATE}/on")
    await until_read_as(phone, "Lamp", on=True)
    daemon.run("rm", f"{STATE}/on")
    daemon.run("pkill", "-KILL", "-f", "[s]erviceswitch serve")
    await until_read_as(phone, "Lamp", on=False)


@pytest.mark.usefixtures("patience")
async def test_a_poll_without_news_writes_nothing_and_is_never_run_twice_at_once(
    daemon: Host, phone: Controller
) -> None:
    override(
        daemon,
        "status",
        f"mkdir {STATE}/once || echo twice >>{STATE}/log; sleep 1.2; rmdir {STATE}/once; exit 1",
    )
    await eventually_async(lambda: run_count(daemon, "status") >= 2)
    since = daemon.journalctl("--show-cursor", "--lines=0").split()[-1]
    polled = run_count(daemon, "status")
    await eventually_async(lambda: run_count(daemon, "status") >= polled + 3)
    lines = daemon.journalctl(f"--after-cursor={since}", "--output=short")
    assert [line for line in lines.splitlines() if " settled[" not in line] == []
    assert run_count(daemon, "twice") == 0


async def test_a_check_decides_whether_units_that_are_up_are_on(daemon: Host, phone: Controller) -> None:
    daemon.run("systemctl", "start", "smb")
    await eventually_async(lambda: run_count(daemon, "status") >= 1)
    assert run_helper(daemon, "status", "tunnel")[0] == 3
    assert await phone.read("Tunnel") is False
    why = f"the check fails: {LAMP} exited with status "
    assert f"tunnel: {why}" in daemon.run("hkswitch", "status").stdout
    assert f"tunnel: partial: {why}" in daemon.journal("hkswitch.service")
    daemon.run("touch", f"{STATE}/on")
    await phone.until_on_is("Tunnel", on=True)
    assert run_helper(daemon, "status", "tunnel")[0] == 0
    daemon.run("rm", f"{STATE}/on")
    await phone.until_on_is("Tunnel", on=False)
    daemon.run("systemctl", "stop", "smb")


async def test_a_check_is_run_when_the_units_change_and_not_while_they_are_down(
    daemon: Host, phone: Controller
) -> None:
    override(daemon, "status", '[ "$HKSWITCH_GROUP" = tunnel ] && echo checked >>/run/lamp/log; exit 0')
    daemon.run("systemctl", "start", "smb")
    await eventually_async(lambda: run_count(daemon, "checked") >= 1)
    await phone.until_on_is("Tunnel", on=True)
    daemon.run("systemctl", "stop", "smb")
    await phone.until_on_is("Tunnel", on=False)
    checked, polled = run_count(daemon, "checked"), run_count(daemon, "status")
    await eventually_async(lambda: run_count(daemon, "status") >= polled + 3)  # those of the lamp's group
    assert run_count(daemon, "checked") == checked


async def test_a_check_that_hangs_does_not_pass(daemon: Host, phone: Controller) -> None:
    override(daemon, "status", '[ "$HKSWITCH_GROUP" = tunnel ] && sleep 1000; exit 1')
    daemon.run("systemctl", "start", "smb")
    code, said = run_helper(daemon, "status", "tunnel")
    assert (code, said.splitlines()[-1].strip()) == (3, f"{LAMP} took longer than 2 s")
    await until_read_as(phone, "Tunnel", on=False)
