"""States and configurations as shown to phones and users on a real host: they are right, or absent."""

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final

import pytest
import yaml

from hkswitch.backend.reported_state import changed_groups
from hkswitch.protocol.helper import CONFIG_CHANGED
from tests.host.conftest import FAILURE, GROUPS
from tests.host.machine import Host, eventually, eventually_async
from tests.support.controller import Controller
from tests.support.waiting import PATIENCE_SECONDS

DAEMON: Final = "hkswitch.service"
CONFIG_FILE: Final = "/etc/hkswitch/config.yaml"
WEB, RESTART_WEB, FILES = "Web Server", "Restart Web Server", "File Server"
BUS: Final = ("dbus.socket", "dbus.service")

STATE: Final = "/run/probed"
PROBE: Final = "/usr/local/libexec/probe"
PROBE_PROGRAM: Final = f"""\
#!/bin/sh
echo "$1" >>{STATE}/log
[ -e "{STATE}/$1" ] && . "{STATE}/$1"
exit 0
"""


@pytest.fixture(scope="module", autouse=True)
def probe(host: Host) -> Iterator[None]:
    """A program for checks, which succeeds unless a test overrides it."""
    host.write(PROBE, PROBE_PROGRAM, mode=0o755)
    host.run("mkdir", STATE)
    yield
    host.run("rm", "-r", STATE, PROBE)


@pytest.fixture(autouse=True)
def nothing_said(host: Host, probe: None) -> Iterator[None]:
    yield
    host.run("sh", "-c", f"rm -rf {STATE}/*")


def script(host: Host, name: str, text: str) -> None:
    """Have the probe run this script when called with this argument."""
    host.write(f"{STATE}/{name}", text)


def runs(host: Host, name: str) -> int:
    """Return how often the probe was run with this argument."""
    return host.run("sh", "-c", f"cat {STATE}/log || true").stdout.split().count(name)


def write_config(host: Host, groups: Mapping[str, Any]) -> None:
    """Change groups of the config file; None removes a group."""
    config = yaml.safe_load(host.read(CONFIG_FILE))
    changed = {**config["groups"], **groups}
    config["groups"] = {group_id: group for group_id, group in changed.items() if group is not None}
    host.write(CONFIG_FILE, yaml.safe_dump(config, sort_keys=False))


def reload(host: Host) -> None:
    host.run("systemctl", "reload", DAEMON)


@contextmanager
def kept_config(host: Host) -> Iterator[None]:
    """Restore and reload the config afterwards."""
    before = host.read(CONFIG_FILE)
    try:
        yield
    finally:
        host.write(CONFIG_FILE, before)
        reload(host)


@contextmanager
def serving(host: Host, **groups: Any) -> Iterator[None]:  # noqa: ANN401 -- YAML
    """Have the daemon serve these groups too."""
    with kept_config(host):
        write_config(host, groups)
        reload(host)
        yield


@contextmanager
def unit_files(host: Host, files: Mapping[str, str]) -> Iterator[None]:
    """Create these units; stop and remove them in the end."""
    for name, text in files.items():
        host.write(f"/etc/systemd/system/{name}", text)
    host.run("systemctl", "daemon-reload")
    try:
        yield
    finally:
        host.run("systemctl", "kill", "--signal=KILL", *files, check=False)  # running ones
        host.run("systemctl", "stop", *files, check=False)  # units may be masked
        host.run("systemctl", "reset-failed", *files, check=False)
        host.run("rm", "-f", *(f"/etc/systemd/system/{name}" for name in files))
        host.run("systemctl", "daemon-reload")


@asynccontextmanager
async def looking(controller: Controller) -> AsyncIterator[Controller]:
    """A new connection, subscribed to all groups that are served now."""
    fresh = controller.again()
    try:
        await fresh.look()
        await fresh.subscribe()
        yield fresh
    finally:
        await fresh.close()


async def until_read(controller: Controller, name: str, wanted: bool | int) -> None:
    deadline_seconds = time.monotonic() + PATIENCE_SECONDS
    while (read := await controller.read(name)) != wanted or isinstance(read, bool) != isinstance(
        wanted, bool
    ):
        assert time.monotonic() < deadline_seconds, f"{name} is still {read}"
        await asyncio.sleep(0.02)


def report(host: Host) -> dict[str, Any]:
    return dict(json.loads(host.run("hkswitch", "status", "--json").stdout))


def last_action(host: Host, group_id: str) -> dict[str, Any]:
    (group,) = [group for group in report(host)["groups"] if group["id"] == group_id]
    return dict(group["last_action"])


def journal(host: Host) -> list[str]:
    return host.journal(DAEMON).splitlines()


def helper(host: Host) -> str:
    """Return the PID of the helper."""
    (process,) = eventually(
        lambda: host.run("pgrep", "--exact", "serviceswitch", check=False).stdout.split() or None
    )
    return str(process)


def kill_helper(host: Host) -> None:
    """Kill the helper, and wait for its replacement."""
    killed = helper(host)
    host.run("kill", "-KILL", killed)
    eventually(lambda: (ours := running_helpers(host)) and killed not in ours)


def running_helpers(host: Host) -> set[str]:
    return set(host.run("pgrep", "--exact", "serviceswitch", check=False).stdout.split())


# Units that systemd does not have


BAD_UNITS: Final = {
    "masked": "masked.service",
    "missing": "not-there.service",
    "setting": "bad-setting.service",
    "template": "not-there@instance.service",
}


@pytest.mark.parametrize("unit", ["srv@data.mount", "srv@data.automount", "a@b.slice", "web@.service"])
def test_a_name_that_systemd_rejects_is_an_error_with_its_place(daemon: Host, unit: str) -> None:
    with kept_config(daemon):
        write_config(daemon, {"data": {"name": "Data", "units": [unit]}})
        checked = daemon.run("hkswitch", "check", check=False)
        assert checked.returncode == 78
        assert re.search(r"config\.yaml:\d+:\d+: groups\.data\.units\[0\]: .*", checked.stderr), (
            checked.stderr
        )
        reloaded = daemon.run("hkswitch", "reload", check=False)
        assert (reloaded.returncode, "groups.data.units[0]" in reloaded.stderr) == (78, True)


async def test_a_unit_that_systemd_cannot_load_harms_no_other_group(
    daemon: Host, controller: Controller
) -> None:
    groups = {
        f"bad-{name}": {"name": f"Bad {name.title()}", "units": [unit]} for name, unit in BAD_UNITS.items()
    }
    files = {"masked.service": "", "bad-setting.service": "[Service]\nType=simple\n"}
    with unit_files(daemon, files), serving(daemon, **groups):
        async with looking(controller) as phone:
            for name in groups.values():
                assert await phone.read(str(name["name"])) == FAILURE
            assert await phone.write(WEB, on=True) == 0
            daemon.run("systemctl", "restart", DAEMON)
        async with looking(controller) as phone:
            assert await phone.read(WEB) is True
            daemon.run("systemctl", "stop", "httpd")
            assert await phone.event(WEB) is False


# Unknown is not on


CHECKED: Final = {
    "name": "Checked",
    "units": ["checked"],
    "check": [PROBE, "checked"],
    "interval_seconds": 60,
}
SLEEPS: Final = "[Service]\nExecStart=/bin/sleep infinity\n"


async def test_a_start_whose_condition_is_not_met_fails_and_runs_no_check(
    daemon: Host, controller: Controller
) -> None:
    unmet = f"[Unit]\nConditionPathExists=/nonexistent\n{SLEEPS}"
    with unit_files(daemon, {"checked.service": unmet}), serving(daemon, checked=CHECKED):
        async with looking(controller) as phone:
            assert await phone.write("Checked", on=True) == FAILURE
        started = daemon.run("hkswitch", "start", "checked", check=False)
        why = "checked.service ConditionPathExists=/nonexistent was not met"
        assert (started.returncode, started.stderr) == (69, f"hkswitch: start checked failed: {why}\n")
        assert runs(daemon, "checked") == 0


@contextmanager
def active_with_a_slow_check_that_fails(host: Host) -> Iterator[None]:
    script(host, "checked", "sleep 1.5; exit 1")
    with unit_files(host, {"checked.service": SLEEPS}), serving(host, checked=CHECKED):
        host.run("systemctl", "start", "checked")
        eventually(lambda: runs(host, "checked") >= 1)
        yield


async def test_a_new_helper_makes_no_group_on_whose_check_fails(daemon: Host, controller: Controller) -> None:
    with active_with_a_slow_check_that_fails(daemon):
        async with looking(controller) as phone:
            await until_read(phone, "Checked", wanted=False)
            for _ in range(2):
                ran = runs(daemon, "checked")
                kill_helper(daemon)
                while runs(daemon, "checked") == ran or daemon.show("hkswitch-status-checked-*", "Id"):
                    assert await phone.read("Checked") is False
            await until_read(phone, "Checked", wanted=False)
            assert phone.told["Checked"] == 0


async def test_a_daemon_that_starts_makes_no_group_on_whose_check_fails(
    daemon: Host, controller: Controller
) -> None:
    with active_with_a_slow_check_that_fails(daemon):
        ran = runs(daemon, "checked")
        daemon.run("systemctl", "restart", DAEMON)
        async with looking(controller) as phone:
            while runs(daemon, "checked") == ran or daemon.show("hkswitch-status-checked-*", "Id"):
                assert await phone.read("Checked") in {False, FAILURE}
            await until_read(phone, "Checked", wanted=False)
            assert True not in [
                change["value"] for path, change in events(phone) if path == phone.switches["Checked"].on
            ]


def events(phone: Controller) -> list[tuple[tuple[int, int], dict[str, Any]]]:
    """Return the events so far."""
    came = []
    while not phone.events.empty():
        came.append(phone.events.get_nowait())
    return came


async def test_a_reload_that_changes_nothing_sends_no_event_and_asks_no_check(
    daemon: Host, controller: Controller
) -> None:
    with unit_files(daemon, {"checked.service": SLEEPS}), serving(daemon, checked=CHECKED):
        daemon.run("systemctl", "start", "checked", "httpd")
        async with looking(controller) as phone:
            await until_read(phone, "Checked", wanted=True)
            for action, is_on in (("stop", False), ("start", True)):  # earlier events have arrived by then
                daemon.run("systemctl", action, "httpd")
                while await phone.event(WEB) is not is_on:
                    pass
            ran, logged = runs(daemon, "checked"), len(journal(daemon))
            events(phone)
            for _ in range(3):
                reload(daemon)
                assert await phone.read_all(["Checked", WEB]) == {"Checked": True, WEB: True}
            assert events(phone) == []
            assert runs(daemon, "checked") == ran
            assert not [line for line in journal(daemon)[logged:] if line.startswith(("checked:", "web:"))]


# Reloads


async def test_a_reload_that_changes_a_check_uses_only_the_new_one(
    daemon: Host, controller: Controller
) -> None:
    script(daemon, "no", "exit 1")
    day = {**CHECKED, "interval_seconds": 86400}
    with unit_files(daemon, {"checked.service": SLEEPS}), serving(daemon, checked=day):
        daemon.run("systemctl", "start", "checked")
        async with looking(controller) as phone:
            await until_read(phone, "Checked", wanted=True)
            write_config(daemon, {"checked": {**day, "check": [PROBE, "no"]}})
            reload(daemon)
            await until_read(phone, "Checked", wanted=False)
            write_config(daemon, {"checked": {**day, "interval_seconds": 1}})
            reload(daemon)
            await until_read(phone, "Checked", wanted=True)
            ran = runs(daemon, "checked")
            await eventually_async(lambda: runs(daemon, "checked") >= ran + 2)


async def test_a_restart_switch_that_a_reload_adds_can_be_read_and_used(
    daemon: Host, controller: Controller
) -> None:
    daemon.run("systemctl", "start", "smb", "nmb", "netatalk")
    await controller.until_on_is(FILES, on=True)
    files = {"name": FILES, "units": ["smb", "nmb", "netatalk"], "restart": True}
    with serving(daemon, fileserver=files):
        async with looking(controller) as phone:
            assert await phone.read(f"Restart {FILES}") is False
            before = daemon.show("nmb.service", "MainPID")
            assert await phone.write(f"Restart {FILES}", on=True) == 0
            assert daemon.show("nmb.service", "MainPID") != before


async def test_a_restart_switch_sends_an_event_when_it_is_readable_again(
    daemon: Host, controller: Controller
) -> None:
    daemon.run("systemctl", "mask", "--runtime", "httpd")
    await until_read(controller, RESTART_WEB, wanted=FAILURE)
    events(controller)
    daemon.run("systemctl", "unmask", "--runtime", "httpd")
    assert await controller.event(RESTART_WEB) is False
    assert await controller.read(RESTART_WEB) is False


async def test_a_reload_that_brings_units_back_ignores_their_old_states(
    daemon: Host, controller: Controller
) -> None:
    with unit_files(daemon, {"one.service": SLEEPS, "other.service": SLEEPS}):
        daemon.run("systemctl", "start", "one")
        with serving(daemon, a={"name": "Changing", "units": ["one"]}):
            async with looking(controller) as phone:
                await until_read(phone, "Changing", wanted=True)
                write_config(daemon, {"a": {"name": "Changing", "units": ["other"]}})
                reload(daemon)
                await until_read(phone, "Changing", wanted=False)
                daemon.run("systemctl", "stop", "one")
                events(phone)
                logged = len(journal(daemon))
                write_config(daemon, {"a": {"name": "Changing", "units": ["one"]}})
                reload(daemon)
                assert await phone.read("Changing") is False
                assert "a: on" not in journal(daemon)[logged:]
                assert [change for _, change in events(phone) if change.get("value")] == []


SLOW: Final = "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/sleep 20\n"


async def test_a_client_that_waits_for_a_group_removed_by_a_reload_is_told(
    daemon: Host, controller: Controller
) -> None:
    with unit_files(daemon, {"slow.service": SLOW}), kept_config(daemon):
        write_config(daemon, {"slow": {"name": "Slow", "units": ["slow"]}})
        reload(daemon)
        async with looking(controller) as phone:
            with daemon.popen("hkswitch", "start", "slow") as waiting:
                await eventually_async(lambda: daemon.show("slow.service", "ActiveState") == "activating")
                write_config(daemon, {"slow": None})
                writing = asyncio.create_task(phone.write("Slow", on=True))
                for _ in range(2):  # nothing else orders data of two connections
                    await controller.read(WEB)
                reload(daemon)
                async with asyncio.timeout(4):
                    assert await writing in {0, FAILURE}  # the write may have taken longer than a second
                assert await phone.read(WEB) is False
                said, _ = waiting.communicate(timeout=PATIENCE_SECONDS)
            assert waiting.returncode == 69
            assert said == "hkswitch: start slow failed: the group was removed from the configuration\n"


@pytest.mark.parametrize(
    "asked", [("hkswitch", "reload"), ("systemctl", "kill", "--kill-whom=main", "-s", "HUP", DAEMON)]
)
def test_a_reload_while_the_daemon_starts_is_done_after_the_start(
    daemon: Host, asked: tuple[str, ...]
) -> None:
    script(daemon, "status", "sleep 4")
    commands = {name: [PROBE, name] for name in ("start", "stop", "status")}
    with serving(daemon, commanded={"name": "Commanded", "commands": commands}):
        started = runs(daemon, "status")
        daemon.run("systemctl", "restart", "--no-block", DAEMON)
        eventually(lambda: runs(daemon, "status") > started)
        assert daemon.show(DAEMON, "ActiveState") == "activating"
        write_config(daemon, {"later": {"name": "Later", "units": ["httpd"]}})
        daemon.run(*asked)
        eventually(lambda: "later" in {group["id"] for group in report(daemon)["groups"]})
        eventually(lambda: daemon.show(DAEMON, "ActiveState") == "active")


# A config that is invalid or untrusted


def broken(host: Host) -> None:
    host.write(CONFIG_FILE, host.read(CONFIG_FILE).replace("units: [httpd]", "unit: [httpd]"))


def untrusted(host: Host) -> None:
    host.run(
        "chmod", "666", CONFIG_FILE
    )  # the daemon still reads it: only the helper requires a trusted file


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (broken, "groups.web.unit"),
        (untrusted, f"{CONFIG_FILE} is not trusted: other users can write it"),
    ],
)
async def test_an_untrusted_or_broken_config_is_reported_everywhere_and_only_actions_are_refused(
    daemon: Host, controller: Controller, spoil: Callable[[Host], None], why: str
) -> None:
    logged = len(journal(daemon))
    with kept_config(daemon):
        spoil(daemon)
        assert daemon.run("systemctl", "reload", DAEMON, check=False).returncode != 0
        assert [line for line in journal(daemon)[logged:] if why in line]
        reloaded = daemon.run("hkswitch", "reload", check=False)
        assert (reloaded.returncode, why in reloaded.stderr) == (78, True), reloaded.stderr
        assert why in report(daemon)["bridge"]["config"]
        assert why in daemon.run("hkswitch", "status").stdout.replace("\n", " ")
        assert why in daemon.show(DAEMON, "StatusText")
        assert await controller.write(WEB, on=True) == FAILURE
        assert daemon.show("httpd.service", "ActiveState") == "inactive"
        assert last_action(daemon, "web")["outcome"] == "failed"
        assert why in last_action(daemon, "web")["failure"]
        daemon.run("systemctl", "start", "httpd")
        assert await controller.event(WEB) is True  # the daemon still watches units
    assert report(daemon)["bridge"]["config"] == ""
    assert why not in daemon.show(DAEMON, "StatusText")
    assert await controller.write(WEB, on=False) == 0


async def test_a_config_that_is_good_again_without_a_reload_clears_the_warning(
    daemon: Host, controller: Controller
) -> None:
    before = daemon.read(CONFIG_FILE)
    try:
        broken(daemon)
        eventually(lambda: "groups.web.unit" in report(daemon)["bridge"]["config"])
        assert "groups.web.unit" in daemon.show(DAEMON, "StatusText")
    finally:
        daemon.write(CONFIG_FILE, before)
    eventually(lambda: report(daemon)["bridge"]["config"] == "")
    assert "groups.web.unit" not in daemon.show(DAEMON, "StatusText")
    assert await controller.write(WEB, on=True) == 0


async def test_a_tap_does_nothing_while_a_changed_config_is_not_reloaded(
    daemon: Host, controller: Controller
) -> None:
    with kept_config(daemon):
        write_config(daemon, {"web": {"name": WEB, "units": ["smb"], "restart": True}})
        assert await controller.write(WEB, on=True) == FAILURE
        assert (
            daemon.run("systemctl", "is-active", "httpd", "smb", check=False).stdout.split()
            == ["inactive"] * 2
        )
        assert CONFIG_CHANGED in last_action(daemon, "web")["failure"]
        assert changed_groups(["web"]) in report(daemon)["bridge"]["config"]
        assert await controller.write(FILES, on=True) == 0  # other groups are unchanged
        reload(daemon)
        await until_read(controller, WEB, wanted=True)  # smb runs because of the other group
        assert await controller.write(WEB, on=False) == 0
        assert daemon.show("smb.service", "ActiveState") == "inactive"


# Jobs that outlive the helper, and units that wait


WAITS: Final = {
    "slow.service": "[Service]\nType=oneshot\nRemainAfterExit=yes\n"
    "ExecStart=/bin/sh -c 'test ! -e /run/is-slow || sleep 1000'\n",
    "after-slow.service": "[Unit]\nRequires=slow.service\nAfter=slow.service\n"
    "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true\n",
    "after-slow.target": "[Unit]\nRequires=slow.service\nAfter=slow.service\n",
    "after-slow.timer": "[Unit]\nRequires=slow.service\nAfter=slow.service\n[Timer]\nOnActiveSec=1h\n",
}


@pytest.mark.parametrize("unit", ["after-slow.service", "after-slow.target", "after-slow.timer"])
async def test_a_unit_that_waits_for_another_to_start_is_off(
    daemon: Host, controller: Controller, unit: str
) -> None:
    with unit_files(daemon, WAITS), serving(daemon, waits={"name": "Waits", "units": [unit]}):
        daemon.run("systemctl", "start", unit)
        async with looking(controller) as phone:
            await until_read(phone, "Waits", wanted=True)
            daemon.run("touch", "/run/is-slow")
            daemon.run("systemctl", "restart", "--no-block", "slow")
            await eventually_async(lambda: daemon.show("slow.service", "ActiveState") == "activating")
            assert daemon.show(unit, "ActiveState") == "inactive"
            assert daemon.show(unit, "Job") != "0"
            assert await phone.event("Waits") is False  # without a read
            await until_read(phone, "Waits", wanted=False)
            daemon.run("rm", "/run/is-slow")
            daemon.run("systemctl", "kill", "slow")  # units that wait for it fail too
            daemon.run("systemctl", "restart", "slow")
            daemon.run("systemctl", "start", unit)
            assert await phone.event("Waits") is True


TAKES_A_WHILE: Final = "[Service]\nExecStartPre=/bin/sleep 3\nExecStart=/bin/sleep infinity\n"


@pytest.mark.parametrize(
    "fault",
    [
        "systemctl daemon-reexec",
        "systemctl restart dbus",
        "kill -KILL $(pgrep --exact serviceswitch)",
    ],
    ids=["daemon-reexec", "dbus-restart", "helper-killed"],
)
def test_a_start_that_outlives_a_fault_is_done(daemon: Host, fault: str) -> None:
    slow = {"name": "Slow", "units": ["slow"]}
    with unit_files(daemon, {"slow.service": TAKES_A_WHILE}), serving(daemon, slow=slow):
        with daemon.popen("hkswitch", "start", "slow") as starting:
            eventually(lambda: daemon.show("slow.service", "ActiveState") == "activating")
            daemon.run("sh", "-ec", fault)
            said, _ = starting.communicate(timeout=PATIENCE_SECONDS)
        assert (starting.returncode, said) == (0, "")
        assert daemon.show("slow.service", "ActiveState") == "active"
        assert last_action(daemon, "slow")["outcome"] == "done"


@pytest.mark.parametrize(
    "fault",
    [
        "systemctl daemon-reexec",
        "systemctl restart dbus",
        "kill -KILL $(pgrep --exact serviceswitch)",
    ],
    ids=["daemon-reexec", "dbus-restart", "helper-killed"],
)
def test_a_start_that_fails_after_a_fault_is_failed(daemon: Host, fault: str) -> None:
    fails = TAKES_A_WHILE.replace("sleep infinity", "false").replace("[Service]", "[Service]\nType=oneshot")
    slow = {"name": "Slow", "units": ["slow"]}
    with unit_files(daemon, {"slow.service": fails}), serving(daemon, slow=slow):
        with daemon.popen("hkswitch", "start", "slow") as starting:
            eventually(lambda: daemon.show("slow.service", "ActiveState") == "activating")
            daemon.run("sh", "-ec", fault)
            said, _ = starting.communicate(timeout=PATIENCE_SECONDS)
        assert starting.returncode == 69
        assert said.startswith("hkswitch: start slow failed: ")
        assert last_action(daemon, "slow")["outcome"] == "failed"


async def test_a_transient_unit_that_stopped_is_no_response(daemon: Host, controller: Controller) -> None:
    with serving(daemon, passing={"name": "Passing", "units": ["passing"]}):
        async with looking(controller) as phone:
            await until_read(phone, "Passing", wanted=FAILURE)
            for _ in range(2):
                daemon.run("systemd-run", "--unit=passing", "sleep", "1000")
                await until_read(phone, "Passing", wanted=True)
                daemon.run("systemctl", "stop", "passing")
                await until_read(phone, "Passing", wanted=FAILURE)


# Starts without a bus, and a group with hkswitch itself


NO_BUS: Final = "no connection to systemd over the system bus: "


async def test_a_daemon_that_starts_without_a_bus_is_up_and_waits_for_it(
    daemon: Host, controller: Controller
) -> None:
    daemon.run("systemctl", "stop", DAEMON, *BUS)
    logged = len(journal(daemon))
    try:
        daemon.run("systemctl", "start", DAEMON)
        assert daemon.show(DAEMON, "ActiveState") == "active"
        async with looking(controller) as phone:
            assert await phone.read_all(GROUPS.values()) == dict.fromkeys(GROUPS.values(), FAILURE)
            assert await phone.write(WEB, on=True) == FAILURE
            await asyncio.sleep(5)  # long enough for several restarts
            assert daemon.show(DAEMON, "NRestarts") == "0"
            assert daemon.show(DAEMON, "ActiveState") == "active"
            said = [line for line in journal(daemon)[logged:] if line.startswith(NO_BUS)]
            assert len(said) == 1, said
            daemon.run("systemctl", "start", *BUS)
            await until_read(phone, WEB, wanted=False)
            assert await phone.write(WEB, on=True) == 0
            daemon.run("systemctl", "stop", "httpd")
            assert await phone.event(WEB) is False
    finally:
        daemon.run("systemctl", "start", *BUS)
        eventually(lambda: all(group["state"] for group in report(daemon)["groups"]))


def test_a_restart_of_hkswitch_by_its_own_group_is_reported_as_done(daemon: Host) -> None:
    itself = {"name": "Itself", "units": ["hkswitch"], "actions": ["restart"], "restart": True}
    with serving(daemon, itself=itself):
        before = daemon.show(DAEMON, "MainPID")
        restarted = daemon.run("hkswitch", "restart", "itself", check=False)
        assert (restarted.returncode, restarted.stderr) == (0, "")
        assert daemon.show(DAEMON, "MainPID") != before
        assert daemon.show(DAEMON, "ActiveState") == "active"
