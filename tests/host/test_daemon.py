"""The main functions on a real host: systemd, D-Bus, hkswitch.service, and a real HomeKit controller.

All tests run over both transports to the helper: sudo, and systemd's socket.
"""

import asyncio
import json
import re
from typing import Any

import pytest
from zeroconf import ServiceStateChange, Zeroconf
from zeroconf.asyncio import AsyncServiceBrowser, AsyncZeroconf

from hkswitch.model.group import aid_of
from tests.host.conftest import GROUPS, start_fails
from tests.host.machine import Host, eventually, eventually_async
from tests.host.matrix import TRANSPORTS
from tests.support.controller import Controller

EXAMPLES = {
    "VM Guests": ("libvirt-guests.service",),
    "File Server": ("smb.service", "nmb.service", "netatalk.service"),
    "Web Server": ("httpd.service",),
}


@pytest.fixture(scope="module", params=TRANSPORTS)
def transport(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def active_states(host: Host, units: tuple[str, ...]) -> set[str]:
    return {host.show(unit, "ActiveState") for unit in units}


async def until_all_are(state: str, host: Host, units: tuple[str, ...]) -> None:
    """Wait until units have a state: a write succeeds after a second even while its jobs still run."""
    await eventually_async(lambda: active_states(host, units) == {state})


def of_ours(host: Host, words: str) -> list[str]:
    """Return the journal lines of the daemon and its helper that contain these words."""
    units = ("hkswitch.service", "serviceswitch@*", "serviceswitch-*.scope")
    lines = host.journalctl("--output=cat", *(f"--unit={unit}" for unit in units))
    return [line for line in lines.splitlines() if words in line]


async def test_lists_every_group_with_its_name_and_aid(controller: Controller) -> None:
    await controller.look()
    assert {switch.name: switch.aid for switch in controller.switches.values()} == {
        **{name: aid_of(group_id) for group_id, name in GROUPS.items()},
        "Restart Web Server": aid_of("web:restart"),
    }


@pytest.mark.parametrize(
    "end", [("restart",), ("kill", "--signal=KILL", "--kill-who=main")], ids=["restarted", "crashed"]
)
def test_a_helper_that_is_left_is_stopped_at_each_end_of_the_daemon(
    daemon: Host, end: tuple[str, ...]
) -> None:
    """The scope represents one that is not bound to the daemon's unit."""
    left, unit = "serviceswitch-left.scope", "hkswitch.service"
    with daemon.popen("systemd-run", "--quiet", "--scope", f"--unit={left}", "sleep", "infinity"):
        eventually(lambda: daemon.show(left, "ActiveState") == "active")
        daemon.run("systemctl", *end, unit)
        eventually(lambda: daemon.show(left, "ActiveState") == "inactive")
    eventually(lambda: daemon.show(unit, "ActiveState") == "active")
    assert daemon.journalctl("_COMM=systemctl", f"_SYSTEMD_UNIT={unit}", "--output=cat") == ""


@pytest.mark.parametrize("name", ["hkswitch", "serviceswitch"])
def test_no_process_of_ours_has_openssl_in_it(daemon: Host, name: str) -> None:
    eventually(lambda: daemon.run("pgrep", "-x", name, check=False).returncode == 0)
    maps = daemon.run("sh", "-ec", f"cat /proc/$(pgrep -x {name})/maps").stdout
    assert "python" in maps
    assert not re.search(r"libcrypto|libssl", maps)


@pytest.mark.parametrize("name", EXAMPLES)
async def test_on_makes_all_units_active_and_off_all_inactive(
    daemon: Host, controller: Controller, name: str
) -> None:
    assert await controller.write(name, on=True) == 0
    await until_all_are("active", daemon, EXAMPLES[name])
    assert await controller.read(name) is True
    assert await controller.write(name, on=False) == 0
    await until_all_are("inactive", daemon, EXAMPLES[name])
    assert await controller.read(name) is False


async def test_a_unit_stopped_in_a_shell_turns_the_switch_off(daemon: Host, controller: Controller) -> None:
    assert await controller.write("File Server", on=True) == 0
    await until_all_are("active", daemon, EXAMPLES["File Server"])
    daemon.run("systemctl", "stop", "nmb")
    assert await controller.event("File Server") is False


async def test_units_started_in_a_shell_turn_the_switch_on(daemon: Host, controller: Controller) -> None:
    daemon.run("systemctl", "start", "smb", "nmb", "netatalk")
    assert await controller.event("File Server") is True


async def test_a_start_that_fails_at_once_is_an_error_and_one_line_of_the_daemon_and_one_of_root(
    daemon: Host, controller: Controller
) -> None:
    daemon.unit("httpd.service", "[Service]\nType=oneshot\nExecStart=/bin/false\n")
    before = len(of_ours(daemon, why := "httpd.service exited with status 1"))
    assert await start_fails(controller, "Web Server")
    assert await controller.read("Web Server") is False
    uid = daemon.run("id", "-u", "hkswitch").stdout.strip()
    await eventually_async(lambda: len(of_ours(daemon, why)) >= before + 2)
    assert sorted(of_ours(daemon, why)[before:]) == [
        f"failed for uid {uid}: start web: {why}",
        f"web: start failed: {why}",
    ]


async def test_a_start_that_fails_later_snaps_back_by_an_event_to_the_writer_too(
    daemon: Host, controller: Controller
) -> None:
    once_told = "until rm /run/fail; do sleep 0.1; done; exit 1"
    daemon.unit("httpd.service", f"[Service]\nType=oneshot\nExecStart=/bin/sh -c '{once_told}'\n")
    before = len(of_ours(daemon, "web: start failed"))
    assert await controller.write("Web Server", on=True) == 0
    await until_all_are("activating", daemon, ("httpd.service",))
    assert await controller.read("Web Server") is True
    daemon.write("/run/fail", "")
    await until_all_are("failed", daemon, ("httpd.service",))
    assert await controller.event("Web Server") is False
    await eventually_async(lambda: len(of_ours(daemon, "web: start failed")) > before)
    why = "httpd.service exited with status 1"
    assert of_ours(daemon, "web: start failed")[before:] == [f"web: start failed: {why}"]


async def test_a_slow_start_succeeds_after_a_second_and_delays_no_other_request(
    daemon: Host, controller: Controller, paired: Controller
) -> None:
    daemon.unit("httpd.service", "[Service]\nExecStartPre=/bin/sleep 20\nExecStart=/bin/sleep infinity\n")
    processes = daemon.show("hkswitch.service", "ControlGroup"), daemon_processes(daemon)
    other = paired.again()
    writing = asyncio.create_task(controller.write("Web Server", on=True))
    assert await other.read("File Server") is False
    assert not writing.done()
    same_connection = asyncio.create_task(controller.read("File Server"))
    assert await writing == 0
    assert await same_connection is False
    await until_all_are("activating", daemon, ("httpd.service",))
    assert await controller.read("Web Server") is True
    assert await other.read("Web Server") is True
    assert (daemon.show("hkswitch.service", "ControlGroup"), daemon_processes(daemon)) == processes
    await other.close()


def daemon_processes(host: Host) -> str:
    group = host.show("hkswitch.service", "ControlGroup")
    return host.run("cat", f"/sys/fs/cgroup{group}/cgroup.procs").stdout


async def test_no_process_is_started_by_a_tap_or_a_read(daemon: Host, controller: Controller) -> None:
    assert await controller.write("Web Server", on=True) == 0
    await until_all_are("active", daemon, ("httpd.service",))
    first, second = newest_process(daemon), newest_process(daemon)
    for _ in range(10):
        assert await controller.write("Web Server", on=True) == 0
        assert await controller.read("Web Server") is True
    assert newest_process(daemon) - second == second - first  # the difference is the probe itself


def newest_process(host: Host) -> int:
    """Return the PID of the process started last on the host (proc(5), loadavg)."""
    return int(host.run("cat", "/proc/loadavg").stdout.split()[-1])


@pytest.mark.parametrize(
    ("name", "units"),
    [("Real Web", ("nginx.service",)), ("Real Files", ("smbd.service", "nmbd.service"))],
)
async def test_real_services_are_switched(
    daemon: Host, controller: Controller, name: str, units: tuple[str, ...]
) -> None:
    assert await controller.write(name, on=True) == 0
    await eventually_async(lambda: active_states(daemon, units) == {"active"}, timeout_seconds=20)
    await controller.until_on_is(name, on=True)
    assert await controller.write(name, on=False) == 0
    await eventually_async(lambda: active_states(daemon, units) == {"inactive"}, timeout_seconds=20)
    await controller.until_on_is(name, on=False)


async def test_the_controller_goes_on_after_a_restart_of_the_daemon(
    daemon: Host, controller: Controller
) -> None:
    before = dict(controller.switches)
    await controller.close()
    daemon.run("systemctl", "restart", "hkswitch.service")
    fresh = controller.again()
    await fresh.look()
    assert fresh.switches == before
    assert await fresh.write("Web Server", on=True) == 0
    await fresh.close()


def test_status_shows_each_group_and_its_units(daemon: Host, controller: Controller) -> None:
    def shown() -> dict[str, Any]:
        return dict(json.loads(daemon.run("hkswitch", "status", "--json", user="hkswitch").stdout))

    def fileserver() -> tuple[str, ...]:
        group = next(group for group in shown()["groups"] if group["id"] == "fileserver")
        return (group["state"], *(f"{unit['unit']} {unit['active']}" for unit in group["units"]))

    daemon.run("systemctl", "start", "smb", "nmb")
    running = ("smb.service active", "nmb.service active", "netatalk.service inactive")
    eventually(lambda: fileserver() == ("partial", *running))
    assert shown()["version"] == 1
    table = daemon.run("hkswitch", "status").stdout
    assert "fileserver" in table
    assert "netatalk.service inactive (dead)" in table


def test_the_journal_has_no_setup_code(daemon: Host, paired: Controller) -> None:
    shown = json.loads(daemon.run("hkswitch", "pair", "--json").stdout)
    journal = daemon.journalctl("--output=cat")
    assert "serving" in journal
    assert shown["setup_code"] not in journal
    assert shown["setup_payload"] not in journal


async def test_a_signal_to_the_main_process_turns_the_debug_log_on_and_off(
    daemon: Host, controller: Controller
) -> None:
    def toggle(now: str) -> None:
        before = len(of_ours(daemon, "debug log: "))
        daemon.run("systemctl", "kill", "--kill-whom=main", "--signal=USR1", "hkswitch.service")
        eventually(lambda: of_ours(daemon, "debug log: ")[before:] == [f"debug log: {now}"])

    process = daemon.show("hkswitch.service", "MainPID")
    earlier = len(of_ours(daemon, ""))  # with another transport
    toggle("on")
    assert await controller.write("Web Server", on=True) == 0
    await eventually_async(
        lambda: any(line.startswith("from the helper: request ") for line in of_ours(daemon, "")[earlier:])
    )
    toggle("off")
    lines = of_ours(daemon, "")[earlier:]
    assert any("PUT /characteristics: " in line and line.endswith("=true") for line in lines)
    assert any(line.startswith("from the helper: request ") for line in lines)
    before = len(of_ours(daemon, "to the helper: "))
    assert await controller.write("Web Server", on=False) == 0
    assert len(of_ours(daemon, "to the helper: ")) == before
    assert daemon.show("hkswitch.service", "MainPID") == process
    shown = json.loads(daemon.run("hkswitch", "pair", "--json").stdout)
    assert not any(shown["setup_code"] in line or shown["setup_payload"] in line for line in lines)


SIGNALS_DURING_IMPORTS = """
systemctl stop hkswitch.service
systemctl start --no-block hkswitch.service
process=0
while [ $process = 0 ]; do process=$(systemctl show --property=MainPID --value hkswitch.service); done
caught=0
while [ $((0x$caught & 0x201)) != 513 ]; do
    while read -r name value; do [ $name != SigCgt: ] || caught=$value; done </proc/$process/status
done
kill -HUP $process
kill -USR1 $process
systemctl start hkswitch.service
echo $process
"""


def test_signals_during_the_imports_of_the_daemon_do_not_end_it(daemon: Host) -> None:
    process = daemon.run("sh", "-euc", SIGNALS_DURING_IMPORTS).stdout.strip()
    assert daemon.show("hkswitch.service", "MainPID") == process


def users(host: Host) -> list[str]:
    """Return the users of our processes, and of sudo's that lead to the helper."""
    listed = host.run("ps", "-e", "-o", "user=,args=").stdout.splitlines()
    ours = (line for line in listed if "hkswitch run" in line or "serviceswitch" in line)
    return sorted(line.split()[0] for line in ours)


def test_the_daemon_runs_without_privilege_its_helper_as_root_and_sudo_no_longer(daemon: Host) -> None:
    eventually(lambda: users(daemon) == ["hkswitch", "root"])


async def test_a_browser_sees_the_bridge_and_its_goodbye(daemon: Host, paired: Controller) -> None:
    seen: list[tuple[ServiceStateChange, str]] = []

    def note(zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange) -> None:
        seen.append((state_change, name))

    browsing = AsyncZeroconf(interfaces=[daemon.address])
    browser = AsyncServiceBrowser(browsing.zeroconf, "_hap._tcp.local.", handlers=[note])
    await eventually_async(lambda: [change for change, _ in seen] == [ServiceStateChange.Added])
    assert seen[0][1].startswith("hkswitch ")
    daemon.run("systemctl", "stop", "hkswitch.service")
    await eventually_async(lambda: seen[-1][0] is ServiceStateChange.Removed)
    daemon.run("systemctl", "start", "hkswitch.service")
    await browser.async_cancel()
    await browsing.async_close()


def test_a_broken_config_makes_the_daemon_exit_with_78_without_a_restart(daemon: Host) -> None:
    before = daemon.read("/etc/hkswitch/config.yaml")
    daemon.run("systemctl", "stop", "hkswitch.service")
    daemon.write("/etc/hkswitch/config.yaml", "groups: {web: {unit: httpd}}\n")
    assert daemon.run("systemctl", "start", "hkswitch.service", check=False).returncode != 0
    assert daemon.show("hkswitch.service", "ExecMainStatus") == "78"
    assert daemon.show("hkswitch.service", "NRestarts") == "0"
    assert "config.yaml:1:16: groups.web" in daemon.journal("hkswitch.service")
    daemon.write("/etc/hkswitch/config.yaml", before)
    daemon.run("systemctl", "reset-failed", "hkswitch.service")
    daemon.run("systemctl", "start", "hkswitch.service")
    eventually(lambda: daemon.show("hkswitch.service", "ActiveState") == "active")
