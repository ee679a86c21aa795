"""The sandbox of hkswitch.service, that daemon and helper work in it, and the watchdog."""

import json
import re
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from subprocess import Popen
from typing import Any, Final

import pytest

from hkswitch.protocol.helper import Accepted, Finished, Hello, Reply
from hkswitch.protocol.helper_replies import parse_reply
from tests.host import demo_unit
from tests.host.conftest import rule_for_sudo_rs
from tests.host.demo_unit import audit, program, reset_lamp
from tests.host.helper_requests import request
from tests.host.installation import is_hello
from tests.host.machine import ADDRESS, INTERFACE, Host, eventually
from tests.host.matrix import SUDO_RS
from tests.host.rootfs import CHECKOUT
from tests.host.test_install import SERVE, SUDOS
from tests.support.controller import Controller
from tests.support.waiting import PATIENCE_SECONDS

__all__ = ["program", "reset_lamp"]

DAEMON: Final = "hkswitch.service"
UNIT: Final = CHECKOUT / "packaging" / DAEMON
NEWER: Final = CHECKOUT / "packaging" / f"{DAEMON}.d" / "systemd-257.conf"
NEWER_FROM: Final = 257
DROP_IN: Final = f"/etc/systemd/system/{DAEMON}.d/watchdog.conf"

LIFE: Final = frozenset(
    {
        *("User", "Group", "Type", "NotifyAccess"),
        *("KillMode", "TimeoutStopSec", "WatchdogSec", "SyslogLevel"),
    }
)
"""Options that say how the daemon runs, not what it can reach; so do Exec*, Restart*, Runtime* and State*."""

OF_SYSTEMD_RUN: Final = {
    "PrivateTmp=disconnected": "PrivateTmpEx=disconnected",
}
"""Options that systemd-run accepts only under another name."""

NO_NEW_PRIVILEGES: Final = {"sudo": "no new privileges", "sudo-rs": "setuid bit"}
"""A part of each sudo's refusal."""


def options(unit: Path) -> tuple[str, ...]:
    """Return every sandbox option in a unit, so that new ones are tested too."""
    service = unit.read_text().partition("[Service]\n")[2].partition("\n[")[0].splitlines()
    lines = (line for line in service if line and not line.startswith("#"))
    return tuple(line for line in lines if not is_life(key_of(line)))


def key_of(option: str) -> str:
    return option.partition("=")[0]


def is_life(key: str) -> bool:
    return key in LIFE or key.startswith(("Exec", "Restart", "Runtime", "State"))


def systemd_version(host: Host) -> int:
    return int(host.run("systemctl", "--version").stdout.split()[1])


def is_newer(host: Host) -> bool:
    return systemd_version(host) >= NEWER_FROM


def used(host: Host) -> tuple[str, ...]:
    """Return the options in force on a host; later ones override earlier ones."""
    return options(UNIT) + (options(NEWER) if is_newer(host) else ())


@pytest.fixture(scope="module")
def config() -> str:
    return f"{demo_unit.CONFIG}  web:\n    units: [httpd]\n"


@pytest.fixture(scope="module", params=["sudo", SUDO_RS])
def transport(request: pytest.FixtureRequest) -> str:
    return str(request.param)


# Each option, and all of them


def within(*options: str) -> tuple[str, ...]:
    """Return a command that runs something as the daemon's user in a unit with these options."""
    settings = (OF_SYSTEMD_RUN.get(option, option) for option in options)
    properties = (f"--property={setting}" for setting in ("User=hkswitch", "Group=hkswitch", *settings))
    return ("systemd-run", "--quiet", "--wait", "--pipe", "--collect", *properties)


def helper_says(host: Host, *options: str, sudo: str) -> str:
    """Start the helper by sudo in such a unit. Its stdin is empty, so it exits at once."""
    done = host.run(*within(*options), sudo, "-n", *SERVE, check=False)
    return f"{done.stdout}{done.stderr}"


@pytest.mark.parametrize("option", options(UNIT))
def test_helper_starts_within(daemon: Host, transport: str, option: str) -> None:
    assert is_hello(helper_says(daemon, option, sudo=transport))


# SystemCallErrorNumber= does nothing by itself.
@pytest.mark.parametrize("option", [o for o in options(NEWER) if key_of(o) != "SystemCallErrorNumber"])
def test_helper_starts_with_options_for_newer_systemd_only_there(
    daemon: Host, transport: str, option: str
) -> None:
    assert is_hello(helper_says(daemon, option, sudo=transport)) is is_newer(daemon)


def test_helper_works_within_all_of_them(daemon: Host, stub_units: tuple[str, ...]) -> None:
    """Test a unit, commands, and the audits of sudo and of the helper, with each implementation of sudo."""
    for sudo in SUDOS[daemon.release]:
        decisions, starts = len(audit(daemon)), starts_by(daemon, sudo)
        with (
            rule_for_sudo_rs(daemon) if sudo == SUDO_RS else nullcontext(),
            daemon.popen(*within(*used(daemon)), *helper(sudo)) as process,
        ):
            assert isinstance(answer(process), Hello)
            assert act(daemon, process, "start", "web") == "httpd.service done"
            assert daemon.show("httpd.service", "ActiveState") == "active"
            assert act(daemon, process, "stop", "web") == "httpd.service done"
            assert daemon.show("httpd.service", "ActiveState") == "inactive"
            assert act(daemon, process, "start", "lamp") == f"{demo_unit.LAMP} done"
            assert act(daemon, process, "stop", "lamp") == f"{demo_unit.LAMP} done"
        lines = [line["HKSWITCH_ACTION"] for line in audit(daemon)[decisions:]]
        assert lines == [action for action in ("start", "stop") * 2 for _ in ("decision", "result")]
        assert starts_by(daemon, sudo) == starts + 1


def test_the_helper_can_read_the_cgroups_of_other_units(daemon: Host) -> None:
    """Their memory, in fact: but these hosts have no memory controller."""

    def processes() -> list[str]:
        return daemon.run("pgrep", "--exact", "serviceswitch", check=False).stdout.split()

    [process] = eventually(processes)
    counted = daemon.run(
        "nsenter", f"--target={process}", "--mount", "cat", "/sys/fs/cgroup/init.scope/cpu.stat"
    )
    assert counted.stdout.startswith("usage_usec ")


def helper(sudo: str) -> tuple[str, ...]:
    """Return the command of the helper, with a timeout so that no test waits in vain."""
    return ("timeout", str(PATIENCE_SECONDS), sudo, "-n", *SERVE)


def starts_by(host: Host, sudo: str) -> int:
    """Return how often sudo has logged a start of the helper."""
    lines = host.journalctl("--output=cat", f"SYSLOG_IDENTIFIER={sudo}")
    return lines.count(f"COMMAND={' '.join(SERVE)}")


def act(host: Host, process: Popen[str], action: str, group: str) -> str:
    """Return the helper's result for each unit or program."""
    assert process.stdin is not None
    process.stdin.write(request(host, 1, action, group))
    process.stdin.flush()
    while not isinstance(reply := answer(process), Finished):
        assert isinstance(reply, Accepted)
    return ", ".join(map(str, reply.units))


def answer(process: Popen[str]) -> Reply | None:
    assert process.stdout is not None
    return parse_reply(process.stdout.readline().encode())


@pytest.mark.parametrize("option", ["NoNewPrivileges=yes", "DynamicUser=yes"])
def test_helper_does_not_start_without_new_privileges(daemon: Host, option: str) -> None:
    """This is why so many options stay off, and proves that the tests above notice."""
    for sudo in SUDOS[daemon.release]:
        assert NO_NEW_PRIVILEGES[sudo] in helper_says(daemon, option, sudo=sudo)


# The unit


def test_the_drop_in_is_where_systemd_is_new_enough(daemon: Host) -> None:
    placed = "/usr/lib/systemd/system/hkswitch.service.d/50-systemd-257.conf"
    installed = [path for path in daemon.show(DAEMON, "DropInPaths").split() if path.startswith("/usr/")]
    assert installed == ([placed] if is_newer(daemon) else [])


def test_the_daemon_uses_the_available_sudo(daemon: Host, transport: str) -> None:
    def parent() -> str:
        helper = daemon.run("pgrep", "--exact", "serviceswitch", check=False).stdout.strip()
        shown = daemon.run("ps", "-o", "ppid=", "-p", helper or "0", check=False).stdout.strip()
        return daemon.run("ps", "-o", "args=", "-p", shown or "0", check=False).stdout.strip()

    # sudo executes the helper, so its parent is the daemon; sudo-rs always stays.
    by_transport = {"sudo": "hkswitch run", SUDO_RS: f"{SUDO_RS} -n -u root {' '.join(SERVE)}"}
    eventually(lambda: parent().endswith(f"/usr/bin/{by_transport[transport]}"))


async def test_a_phone_switches_units_and_commands(daemon: Host, controller: Controller) -> None:
    for name in ("Web", "Lamp"):
        await controller.until_on_is(name, on=False)
        for on in (True, False):
            assert await controller.write(name, on=on) == 0
            await controller.until_on_is(name, on=on)


def test_the_daemon_cannot_execute_what_it_can_write(daemon: Host) -> None:
    folders = in_sandbox(daemon, WRITABLE).split()
    assert {"/tmp", "/var/tmp", "/var/lib/hkswitch", "/run/hkswitch"} <= {*folders}
    assert in_sandbox(daemon, RUN_IN_EACH, *folders) == ""


WRITABLE: Final = "find / -path /proc -prune -o -path /sys -prune -o -type d -writable -print"
RUN_IN_EACH: Final = """
for folder; do
    cp /bin/true "$folder/it" && "$folder/it" && echo "$folder"
    rm -f "$folder/it"
done
"""


def in_sandbox(host: Host, script: str, *arguments: str) -> str:
    """Run a script with the daemon's mounts and user, and return its output."""
    enter = ("nsenter", f"--target={main_process(host)}", "--mount", "--wdns=/")
    user = ("setpriv", "--reuid=hkswitch", "--regid=hkswitch", "--clear-groups")
    return host.run(*enter, *user, "sh", "-c", script, "sh", *arguments, check=False).stdout


def main_process(host: Host) -> str:
    return host.show(DAEMON, "MainPID")


def test_it_starts_without_a_network_and_serves_once_there_is_one(daemon: Host) -> None:
    assert "network-online.target" not in daemon.run("systemctl", "list-dependencies", "--all", DAEMON).stdout
    assert "network-online.target" not in daemon.show(DAEMON, "After")
    daemon.run("ip", "address", "delete", f"{ADDRESS}/24", "dev", INTERFACE)
    try:
        daemon.run("systemctl", "restart", DAEMON)
        eventually(lambda: daemon.show(DAEMON, "StatusText").startswith("Waiting for "))
    finally:
        daemon.run("ip", "address", "add", f"{ADDRESS}/24", "dev", INTERFACE)
        daemon.run("ip", "route", "replace", "default", "dev", INTERFACE)
    eventually(lambda: daemon.show(DAEMON, "StatusText").startswith(f"Serving 3 groups on {ADDRESS}, "))


def test_a_failed_start_logs_its_reason_as_an_error(daemon: Host) -> None:
    before, config = errors(daemon), daemon.read("/etc/hkswitch/config.yaml")
    daemon.write("/etc/hkswitch/config.yaml", "groups: {web: {unit: httpd}}\n")
    try:
        assert daemon.run("systemctl", "restart", DAEMON, check=False).returncode != 0
    finally:
        daemon.write("/etc/hkswitch/config.yaml", config)
        daemon.run("systemctl", "reset-failed", DAEMON)
        daemon.run("systemctl", "start", DAEMON)
    sentence = "/etc/hkswitch/config.yaml:1:16: groups.web"
    eventually(lambda: any(line.startswith(sentence) for line in errors(daemon)[len(before) :]))
    said = errors(daemon)[len(before) :]
    assert not any("serving" in line for line in said)


def errors(host: Host) -> list[str]:
    return host.journalctl(f"--unit={DAEMON}", "--priority=err", "--output=cat").splitlines()


# The watchdog


@pytest.fixture
def watched(daemon: Host) -> Iterator[str]:
    """A daemon that has just started, with a short watchdog timeout; its PID."""
    daemon.write(DROP_IN, "[Service]\nWatchdogSec=3\nRestartSec=100ms\n")
    daemon.run("systemctl", "daemon-reload")
    daemon.run("systemctl", "restart", DAEMON)
    yield main_process(daemon)
    daemon.run("rm", "-r", str(Path(DROP_IN).parent))
    daemon.run("systemctl", "daemon-reload")
    daemon.run("systemctl", "restart", DAEMON)


def fed_for_seconds(host: Host) -> float:
    """Return the seconds from the daemon's start to its last watchdog notification."""
    fed, started = (
        int(host.show(DAEMON, f"{name}TimestampMonotonic")) for name in ("Watchdog", "ActiveEnter")
    )
    return (fed - started) / 1_000_000


async def test_a_hanging_daemon_is_restarted_with_its_pairing_and_its_traceback_is_logged(
    daemon: Host, paired: Controller, stub_units: tuple[str, ...], watched: str
) -> None:
    before = len(errors(daemon))
    eventually(lambda: fed_for_seconds(daemon) > 4)
    assert main_process(daemon) == watched  # it survives the timeout
    daemon.run("kill", "-STOP", watched)
    eventually(lambda: daemon.show(DAEMON, "NRestarts") == "1")
    eventually(lambda: daemon.show(DAEMON, "ActiveState") == "active")
    assert main_process(daemon) != watched
    assert "Watchdog timeout" in daemon.journal(DAEMON)
    # It is usually stopped in selectors.py, but always somewhere below this frame.
    place = r'Fatal Python error: Aborted\n(.*\n)*  File ".*/asyncio/runners\.py", line \d+'
    eventually(lambda: re.search(place, "\n".join(errors(daemon)[before:])))
    phone = paired.again()
    await phone.look()
    assert await phone.write("Web", on=True) == 0
    await phone.close()


# The document


DOCUMENT: Final = (CHECKOUT / "docs" / "sandbox.md").read_text()


def analysed(host: Host) -> list[dict[str, Any]]:
    shown = host.run("systemd-analyze", "security", "--no-pager", "--json=short", DAEMON).stdout
    return json.loads(shown)  # type: ignore[no-any-return]


def stays_off(version: int) -> set[str]:
    """Return the options that the document lists as off with this systemd."""
    lines = DOCUMENT.partition("\n## Options that stay off\n")[2].splitlines()
    rows = [re.split(r"(?<!\\)\|", line) for line in lines if line.startswith("| `")]
    named = [re.findall("`(.*?)`", row[1]) for row in rows if str(version) in re.findall(r"\d+", row[2])]
    return {option.replace("\\|", "|") for options in named for option in options}


def test_the_figure_in_the_document_is_true(host: Host) -> None:
    shown = host.run("systemd-analyze", "security", "--no-pager", DAEMON).stdout
    exposure = re.search(rf"Overall exposure level for {DAEMON}: ([\d.]+) ", shown)
    figure = re.search(rf"^\| systemd {systemd_version(host)} .*\| ([\d.]+) \|$", DOCUMENT, re.MULTILINE)
    assert exposure is not None
    assert figure is not None
    assert figure[1] == exposure[1]


def test_the_document_gives_a_reason_for_each_option_that_is_off(host: Host) -> None:
    explained = stays_off(systemd_version(host))
    off = [item["name"].removesuffix("=") for item in analysed(host) if item["set"] is False]
    assert off
    assert [name for name in off if not {name, key_of(name)} & explained] == []


def test_the_document_lists_no_enabled_option_as_off(host: Host) -> None:
    whole = {option for option in stays_off(systemd_version(host)) if "=" not in option}
    assert "NoNewPrivileges" in whole
    assert whole & {key_of(option) for option in used(host)} == set()
