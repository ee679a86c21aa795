"""Faults on a real host: units and the bus disappear; the helper is killed, hangs or must not run."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
import pytest_asyncio

from hkswitch.backend.sudo_reasons import SUDOERS_RULE
from tests.host.conftest import FAILURE, GROUPS, rule_for_sudo_rs
from tests.host.machine import Host, eventually, eventually_async
from tests.support.controller import Controller
from tests.support.waiting import PATIENCE_SECONDS

DAEMON = "hkswitch.service"
RESTART = "Restart Web Server"
ALL = (*GROUPS.values(), RESTART)
NOTHING_READABLE: Mapping[str, bool | int] = dict.fromkeys(ALL, FAILURE)
ALL_OFF: Mapping[str, bool | int] = dict.fromkeys(ALL, False)

UNIT = "libvirt-guests.service"
UNIT_FILE = f"/usr/local/lib/systemd/system/{UNIT}"
AWAY = "/root/away"
SUDOERS_FILE = "/etc/sudoers.d/hkswitch"
BUS = ("dbus.socket", "dbus.service")

CRASH_LOOP = """\
[Unit]
StartLimitIntervalSec=0

[Service]
ExecStart=/bin/sh -c 'sleep 0.05; exit 1'
Restart=always
RestartSec=0.05
"""


@pytest_asyncio.fixture(autouse=True, loop_scope="module")
async def unharmed(daemon: Host, paired: Controller) -> AsyncIterator[None]:
    """A daemon that has just started, without any back-off. Its process and descriptors must not change."""
    await paired.close()
    daemon.run("systemctl", "restart", DAEMON)
    the_process(daemon, "serviceswitch")  # its pipe's descriptors must be counted too
    process, descriptors, logged = daemon_process(daemon), daemon_descriptors(daemon), len(journal(daemon))
    yield
    assert daemon_process(daemon) == process
    assert [line for line in journal(daemon)[logged:] if "Traceback" in line] == []
    await eventually_async(lambda: not zombies(daemon))
    await eventually_async(lambda: daemon_descriptors(daemon) <= descriptors)


def daemon_process(host: Host) -> str:
    return host.show(DAEMON, "MainPID")


def daemon_descriptors(host: Host) -> int:
    return len(host.run("ls", f"/proc/{daemon_process(host)}/fd").stdout.split())


def daemon_cpu_seconds(host: Host) -> float:
    """Return the CPU time of the daemon's own process (proc(5), stat)."""
    after_name = host.read(f"/proc/{daemon_process(host)}/stat").rpartition(")")[2].split()
    return sum(map(int, after_name[11:13])) / int(host.run("getconf", "CLK_TCK").stdout)


def zombies(host: Host) -> list[str]:
    listed = host.run("ps", "-e", "-o", "stat=,pid=,ppid=,args=").stdout.splitlines()
    return [line for line in listed if line.startswith("Z")]


def journal(host: Host) -> list[str]:
    return host.journal(DAEMON).splitlines()


def running(host: Host, name: str) -> set[str]:
    """Return the PIDs of processes with this name."""
    return set(host.run("pgrep", "--exact", name, check=False).stdout.split())


def the_process(host: Host, name: str) -> str:
    """Wait until exactly one process has this name, and return its PID."""
    eventually(lambda: len(running(host, name)) == 1)
    (process,) = running(host, name)
    return process


async def until_active(host: Host, *units: str) -> None:
    """Wait until units are active: a write succeeds after a second even while its jobs still run."""
    for unit in units:
        await until_state_is("active", host, unit)


async def until_state_is(state: str, host: Host, unit: str) -> None:
    await eventually_async(lambda: host.show(unit, "ActiveState") == state)


async def until_ended(host: Host, helpers: set[str]) -> None:
    """Wait until these helpers have exited."""
    await eventually_async(lambda: not running(host, "serviceswitch") & helpers)


def send(host: Host, signal: str, *processes: str) -> None:
    host.run("kill", f"-{signal}", *processes)


async def until_read(controller: Controller, wanted: Mapping[str, bool | int]) -> None:
    """Wait until these switches have the expected values."""
    deadline_seconds = time.monotonic() + PATIENCE_SECONDS
    while (read := await controller.read_all(wanted)) != wanted:
        assert time.monotonic() < deadline_seconds, f"still {read}"
        await asyncio.sleep(0.02)


def forget_events(controller: Controller) -> None:
    while not controller.events.empty():
        controller.events.get_nowait()


async def until_written(controller: Controller, name: str, *, on: bool) -> None:
    """Write until it succeeds; each write must get its response in time, and failures the status -70402."""
    deadline_seconds = time.monotonic() + PATIENCE_SECONDS
    while (status := await prompt_write(controller, name, on=on)) != 0:
        assert status == FAILURE
        assert time.monotonic() < deadline_seconds, "writes still fail"
        await asyncio.sleep(0.1)


async def prompt_write(controller: Controller, name: str, *, on: bool) -> int:
    async with asyncio.timeout(4):
        return await controller.write(name, on=on)


# Units


@dataclass(frozen=True)
class Fault:
    """A unit that cannot be loaded: commands that cause and undo it, and systemd's load state."""

    away: tuple[str, ...]
    back: tuple[str, ...]
    word: str

    @contextmanager
    def on(self, host: Host) -> Iterator[None]:
        host.run(*self.away)
        try:
            host.run("systemctl", "daemon-reload")
            yield
        finally:
            host.run(*self.back)
            host.run("systemctl", "daemon-reload")


REMOVED = Fault(("mv", UNIT_FILE, AWAY), ("mv", AWAY, UNIT_FILE), "not-found")
MASKED = Fault(("systemctl", "mask", UNIT), ("systemctl", "unmask", UNIT), "masked")


@pytest.mark.parametrize(
    ("fault", "on"),
    [(REMOVED, True), (REMOVED, False), (MASKED, False)],
    ids=["running-removed", "stopped-removed", "stopped-masked"],
)
async def test_only_the_switch_of_an_unloadable_unit_is_unreadable_until_the_unit_is_back(
    daemon: Host, controller: Controller, fault: Fault, on: bool
) -> None:
    if on:
        daemon.run("systemctl", "start", "libvirt-guests")
    await until_read(controller, {**ALL_OFF, "VM Guests": on})
    with fault.on(daemon):
        await until_read(controller, {**ALL_OFF, "VM Guests": FAILURE})
        status = daemon.run("hkswitch", "status", user="hkswitch").stdout
        table, _, problems = status.partition("Problems:")
        assert UNIT in problems
        (shown,) = (line for line in table.splitlines() if fault.word in line)
        assert shown.split() == ["vm-guests", "VM", "Guests", "missing", UNIT, fault.word]
        forget_events(controller)
    assert await controller.event("VM Guests") is on  # without a read
    await until_read(controller, {**ALL_OFF, "VM Guests": on})
    assert await controller.write("VM Guests", on=not on) == 0


async def test_a_reload_of_systemd_changes_nothing(daemon: Host, controller: Controller) -> None:
    daemon.run("systemctl", "start", "httpd", "smb")
    assert await controller.event("Web Server") is True
    for _ in range(3):
        daemon.run("systemctl", "daemon-reload")
    assert await controller.read_all(ALL) == {**ALL_OFF, "Web Server": True}
    daemon.run("systemctl", "stop", "httpd")
    assert await controller.event("Web Server") is False
    assert controller.told == {"Web Server": 2}


async def test_units_are_watched_again_after_systemd_has_reexecuted(
    daemon: Host, controller: Controller
) -> None:
    daemon.run("systemctl", "start", "httpd", "libvirt-guests")
    await until_read(controller, {**ALL_OFF, "Web Server": True, "VM Guests": True})
    daemon.run("systemctl", "daemon-reexec")
    daemon.run("systemctl", "stop", "httpd")
    await until_read(controller, {**ALL_OFF, "VM Guests": True})
    daemon.run("systemctl", "stop", "libvirt-guests")
    async with asyncio.timeout(PATIENCE_SECONDS):
        while await controller.event("VM Guests"):
            pass  # it is readable again
    await until_written(controller, "File Server", on=True)
    await until_active(daemon, "nmb.service")


async def test_a_unit_that_is_killed_turns_the_switch_off(daemon: Host, controller: Controller) -> None:
    assert await controller.write("File Server", on=True) == 0
    await until_active(daemon, "smb.service", "nmb.service", "netatalk.service")
    daemon.run("systemctl", "kill", "--kill-whom=main", "--signal=KILL", "nmb")
    assert await controller.event("File Server") is False


async def test_a_crash_loop_is_off_and_quiet(daemon: Host, controller: Controller) -> None:
    daemon.unit("httpd.service", CRASH_LOOP)
    logged, started_seconds = len(journal(daemon)), time.monotonic()
    daemon.run("systemctl", "start", "httpd")
    await until_restarted(daemon, times=3)
    await controller.until_on_is("Web Server", on=False)
    for _ in range(12):
        assert await controller.read("Web Server") is False
        await until_restarted(daemon, times=1)
    assert controller.told["Web Server"] <= 1 + time.monotonic() - started_seconds
    assert len([line for line in journal(daemon)[logged:] if line.startswith("web: ")]) < 10
    daemon.run("systemctl", "stop", "httpd")
    assert daemon.show("httpd.service", "MainPID") == "0"
    assert await controller.read("Web Server") is False
    daemon.remove_unit("httpd.service")
    assert await controller.write("Web Server", on=True) == 0
    assert await controller.read("Web Server") is True


async def until_restarted(host: Host, *, times: int) -> None:
    """Wait until systemd has restarted a crashed unit this often."""
    wanted = restarts(host) + times
    await eventually_async(lambda: restarts(host) >= wanted)


def restarts(host: Host) -> int:
    return int(host.show("httpd.service", "NRestarts"))


async def test_a_oneshot_that_does_not_remain_is_a_success_and_off_again(
    daemon: Host, controller: Controller
) -> None:
    daemon.unit("httpd.service", "[Service]\nType=oneshot\nExecStart=/bin/true\n")
    assert await controller.write("Web Server", on=True) == 0
    assert await controller.event("Web Server") is False
    assert await controller.read("Web Server") is False


# Taps


async def test_the_last_of_three_taps_at_once_wins(
    daemon: Host, controller: Controller, paired: Controller
) -> None:
    daemon.unit("httpd.service", "[Service]\nExecStartPre=/bin/sleep 0.5\nExecStart=/bin/sleep infinity\n")
    phones = [paired.again() for _ in range(3)]
    try:
        for phone in phones:
            assert await phone.read("Web Server") is False  # makes sure that each is connected
        taps = []
        for phone, on in zip(phones, (True, False, True), strict=True):
            taps.append(asyncio.create_task(phone.write("Web Server", on=on)))
            await arrived(controller)
        assert await asyncio.gather(*taps) == [0, 0, 0]
        await until_active(daemon, "httpd.service")
        assert {await phone.read("Web Server") for phone in phones} == {True}
    finally:
        for phone in phones:
            await phone.close()


async def arrived(controller: Controller) -> None:
    """Wait until the daemon has received earlier data of other connections: nothing else orders them."""
    for _ in range(2):  # the other connections send during the first one
        await controller.read("File Server")


async def test_a_restart_switch_restarts_running_units_and_turns_itself_off(
    daemon: Host, controller: Controller
) -> None:
    assert await controller.write("Web Server", on=True) == 0
    await until_active(daemon, "httpd.service")
    before = identity(daemon)
    assert await controller.write(RESTART, on=True) == 0
    assert await controller.event(RESTART) is False
    assert daemon.show("httpd.service", "ActiveState") == "active"
    assert not before & identity(daemon)
    assert await controller.read_all([RESTART, "Web Server"]) == {RESTART: False, "Web Server": True}


def identity(host: Host) -> set[str]:
    """Return what identifies a run of the unit."""
    return {host.show("httpd.service", name) for name in ("MainPID", "InvocationID")}


async def test_a_restart_switch_starts_no_stopped_unit(daemon: Host, controller: Controller) -> None:
    assert await controller.write(RESTART, on=True) == 0
    assert await controller.event(RESTART) is False
    assert daemon.show("httpd.service", "ActiveState") == "inactive"
    assert await controller.read_all([RESTART, "Web Server"]) == {RESTART: False, "Web Server": False}


# The bus


@pytest.mark.parametrize(
    "command",
    [("restart", "dbus"), ("kill", "--kill-whom=main", "--signal=KILL", "dbus")],
    ids=["restarted", "killed"],
)
async def test_all_states_are_read_again_after_a_short_bus_outage(
    daemon: Host, controller: Controller, command: tuple[str, ...]
) -> None:
    daemon.run("systemctl", "start", "httpd", "libvirt-guests")
    await until_read(controller, {**ALL_OFF, "Web Server": True, "VM Guests": True})
    for _ in range(2):
        helper = the_process(daemon, "serviceswitch")
        daemon.run("systemctl", *command)
        daemon.run("systemctl", "kill", "--kill-whom=main", "--signal=KILL", "httpd")
        await until_read(controller, {**ALL_OFF, "VM Guests": True})
        await until_written(controller, "Web Server", on=True)
        assert running(daemon, "serviceswitch") == {helper}  # it connects again


async def test_without_a_bus_nothing_is_readable_and_the_daemon_waits_quietly(
    daemon: Host, controller: Controller
) -> None:
    daemon.run("systemctl", "start", "httpd", "libvirt-guests")
    await until_read(controller, {**ALL_OFF, "Web Server": True, "VM Guests": True})
    logged = len(journal(daemon))
    daemon.run("systemctl", "stop", *BUS)
    try:
        await until_read(controller, NOTHING_READABLE)
        assert await prompt_write(controller, "File Server", on=True) == FAILURE
        daemon.run("systemctl", "kill", "--kill-whom=main", "--signal=KILL", "httpd")
        used_seconds = daemon_cpu_seconds(daemon)
        await asyncio.sleep(3)  # the time that is measured
        assert daemon_cpu_seconds(daemon) - used_seconds < 0.3
        assert await controller.read_all(ALL) == NOTHING_READABLE
    finally:
        daemon.run("systemctl", "start", *BUS)
    await until_read(controller, {**ALL_OFF, "VM Guests": True})
    await until_written(controller, "Web Server", on=True)
    assert len(journal(daemon)) - logged < 60


# The helper


async def test_writes_work_again_soon_after_each_kill_of_the_helper(
    daemon: Host, controller: Controller
) -> None:
    for on in (True, False, True):  # the back-off stays short for this many
        killed = the_process(daemon, "serviceswitch")
        send(daemon, "KILL", killed)
        await until_written(controller, "Web Server", on=on)
        await until_state_is("active" if on else "inactive", daemon, "httpd.service")
        assert the_process(daemon, "serviceswitch") != killed


async def test_writes_go_on_without_sudo_and_the_helper_is_still_replaced(
    daemon: Host, controller: Controller
) -> None:
    """sudo stays as the parent of the helper where the settings in our file do not apply."""
    with rule_for_sudo_rs(daemon):
        send(daemon, "KILL", the_process(daemon, "serviceswitch"))
        sudo, helper = the_process(daemon, "sudo"), the_process(daemon, "serviceswitch")
        send(daemon, "KILL", sudo)
        await until_written(controller, "Web Server", on=True)
        assert running(daemon, "serviceswitch") == {helper}
        send(daemon, "KILL", helper)
        await until_written(controller, "Web Server", on=False)
        assert the_process(daemon, "sudo")
    send(daemon, "KILL", the_process(daemon, "serviceswitch"))
    await until_written(controller, "Web Server", on=True)
    await eventually_async(lambda: not running(daemon, "sudo"))


async def test_a_helper_that_hangs_is_replaced_and_does_nothing_more(
    daemon: Host, controller: Controller
) -> None:
    helper, logged = the_process(daemon, "serviceswitch"), len(journal(daemon))
    send(daemon, "STOP", helper)
    async with asyncio.timeout(4):  # before the daemon gives it up
        assert await controller.write("Web Server", on=True) == FAILURE
    await eventually_async(lambda: running(daemon, "serviceswitch") - {helper})
    await until_written(controller, "File Server", on=True)
    await eventually_async(lambda: "did not answer within 5 s" in "\n".join(journal(daemon)[logged:]))
    assert helper in running(daemon, "serviceswitch")
    send(daemon, "CONT", helper)
    await until_ended(daemon, {helper})
    assert daemon.show("httpd.service", "ActiveState") == "inactive"
    assert await controller.read("Web Server") is False


async def test_without_the_sudo_rule_writes_fail_within_a_second_and_the_journal_names_it_once(
    daemon: Host, controller: Controller
) -> None:
    logged = len(journal(daemon))
    with moved_away(daemon, SUDOERS_FILE):
        send(daemon, "KILL", the_process(daemon, "serviceswitch"))
        seen: set[str] = set()
        await eventually_async(
            lambda: ends_of_children(daemon, seen) >= 1 + 3
        )  # one of the helper, and three of sudo
        async with asyncio.timeout(2):  # a write waits for a helper for 0.9 s
            assert await controller.write("Web Server", on=True) == FAILURE
    assert len([line for line in journal(daemon)[logged:] if SUDOERS_RULE in line]) == 1
    await until_written(controller, "Web Server", on=True)


@contextmanager
def moved_away(host: Host, path: str) -> Iterator[None]:
    host.run("mv", path, AWAY)
    try:
        yield
    finally:
        host.run("mv", AWAY, path)


def ends_of_children(host: Host, seen: set[str]) -> int:
    """Count the daemon's children that have exited since the first call; call it often."""
    process = host.show(DAEMON, "MainPID")
    seen.add(host.read(f"/proc/{process}/stat").rpartition(")")[2].split()[8])  # cminflt: faults of children
    return len(seen) - 1
