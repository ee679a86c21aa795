"""A helper started by systemd: daemon and helper in their strictest sandboxes, without a setuid program.

test_daemon.py and test_commands.py prove that switches and commands work there, and test_attacks.py that no
other user can reach the helper: they use both transports.
"""

import json
import re
from contextlib import ExitStack
from typing import Final

import pytest

from tests.host.conftest import DAEMONS, processes
from tests.host.machine import Host, eventually, eventually_async
from tests.host.rootfs import CHECKOUT
from tests.support.controller import Controller

DAEMON = "hkswitch.service"
SANDBOXES = {DAEMON: 2.0, "serviceswitch@0.service": 2.0}
"""The highest exposure allowed for each unit."""

MOST_HELPERS: Final = 4
"""MaxConnections= of the socket unit."""

RULE = "/etc/sudoers.d/hkswitch"


@pytest.fixture(scope="module")
def transport() -> str:
    return "socket"


def the_helper(host: Host) -> str:
    """Wait for the helper's process, which systemd starts once the daemon has connected."""
    eventually(lambda: len(helpers(host)) == 1)
    (helper,) = helpers(host)
    return helper


def helpers(host: Host) -> list[str]:
    return host.run("pgrep", "--exact", "serviceswitch", check=False).stdout.split()


def status_of(host: Host, process: str) -> dict[str, str]:
    """Return /proc/PID/status of a process."""
    lines = host.read(f"/proc/{process}/status").splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def test_neither_the_daemon_nor_the_helper_has_or_may_gain_a_privilege(daemon: Host) -> None:
    for process in (daemon.show(DAEMON, "MainPID"), the_helper(daemon)):
        status = status_of(daemon, process)
        assert status["NoNewPrivs"] == "1"
        assert {status[f"Cap{kind}"] for kind in ("Inh", "Prm", "Eff", "Bnd", "Amb")} == {"0" * 16}
        assert status["Seccomp"] == "2"


def test_only_the_helper_can_read_cgroups(daemon: Host) -> None:
    """It reads the memory of units there."""
    read = ("--mount", "cat", "/sys/fs/cgroup/init.scope/cpu.stat")
    of_helper = daemon.run("nsenter", f"--target={the_helper(daemon)}", *read)
    assert of_helper.stdout.startswith("usage_usec ")
    of_daemon = daemon.run("nsenter", f"--target={daemon.show(DAEMON, 'MainPID')}", *read, check=False)
    assert of_daemon.stdout == ""


async def test_it_works_without_the_rule_and_without_sudo(daemon: Host, controller: Controller) -> None:
    daemon.run("sh", "-ec", f"mv {RULE} /root/rule; chmod u-s /usr/bin/sudo")
    try:
        daemon.run("systemctl", "restart", DAEMON)
        fresh = controller.again()
        assert await fresh.write("File Server", on=True) == 0
        await eventually_async(lambda: daemon.show("netatalk.service", "ActiveState") == "active")
        await fresh.close()
    finally:
        daemon.run("sh", "-ec", f"chmod u+s /usr/bin/sudo; mv /root/rule {RULE}")


async def test_a_helper_that_is_killed_has_a_successor(daemon: Host, controller: Controller) -> None:
    helper = the_helper(daemon)
    daemon.run("kill", "-KILL", helper)
    eventually(lambda: len(helpers(daemon)) == 1 and helpers(daemon) != [helper])
    eventually(lambda: helper_is_there(daemon))
    assert await controller.write("VM Guests", on=True) == 0


def helper_is_there(host: Host) -> bool:
    """Return whether the daemon reports a helper."""
    return helper_problem(host) == ""


def helper_problem(host: Host) -> str:
    """Return why there is no helper, according to `hkswitch status`."""
    return str(json.loads(host.run("hkswitch", "status", "--json").stdout)["bridge"]["helper"])


CONNECT: Final = """\
import socket, time
connection = socket.socket(socket.AF_UNIX)
connection.connect("/run/serviceswitch.sock")
time.sleep(100)
"""


HANG: Final = "/run/systemd/system/serviceswitch@.service.d"


def test_hanging_helpers_that_use_up_all_connections_are_reported(daemon: Host) -> None:
    """Helpers exit at once for connections that the daemon did not make, so these hang before that check."""
    ours, every = the_helper(daemon), "serviceswitch@*"
    daemon.write(f"{HANG}/hang.conf", "[Service]\nExecStartPre=/bin/sleep infinity\n")
    daemon.run("systemctl", "daemon-reload")
    listed = ("systemctl", "list-units", "--no-legend", every)
    with ExitStack() as connections:
        for _ in range(3):
            connections.enter_context(daemon.popen("python3", "-c", CONNECT, user="hkswitch"))
        eventually(lambda: daemon.run(*listed).stdout.count("\n") == MOST_HELPERS)
        daemon.run("kill", "-STOP", ours)
        try:
            eventually(lambda: "too many helpers may be running or hanging" in helper_problem(daemon))
            status = daemon.show(DAEMON, "StatusText")
            assert "too many helpers may be running or hanging" in status
            assert helpers(daemon) == [ours]
        finally:
            daemon.run("rm", "-r", HANG)
            daemon.run("systemctl", "daemon-reload")
            daemon.run("systemctl", "kill", "--signal=KILL", every)
    eventually(lambda: not processes(daemon, DAEMONS))  # the ones that connected
    eventually(lambda: helper_is_there(daemon))
    assert ours not in helpers(daemon)


def test_the_helper_ends_with_the_daemon(daemon: Host) -> None:
    daemon.run("systemctl", "kill", "--signal=KILL", DAEMON)
    eventually(lambda: daemon.show(DAEMON, "NRestarts") != "0")
    eventually(lambda: daemon.show(DAEMON, "ActiveState") == "active", timeout_seconds=20)
    eventually(lambda: len(helpers(daemon)) == 1)
    daemon.run("systemctl", "stop", DAEMON)
    eventually(lambda: helpers(daemon) == [])
    listed = ("systemctl", "list-units", "--all", "--no-legend", "serviceswitch@*")
    eventually(lambda: daemon.run(*listed).stdout == "")
    daemon.run("systemctl", "start", DAEMON)


def test_starting_the_daemon_starts_the_socket(daemon: Host) -> None:
    daemon.run("systemctl", "stop", "serviceswitch.socket")
    # The daemon cannot work without its helper, and systemctl waits only for the socket.
    eventually(lambda: daemon.show(DAEMON, "ActiveState") == "inactive")
    daemon.run("systemctl", "start", DAEMON)
    assert daemon.show("serviceswitch.socket", "ActiveState") == "active"
    eventually(lambda: len(helpers(daemon)) == 1)


def test_the_doctor_finds_nothing_wrong(daemon: Host) -> None:
    eventually(lambda: helper_is_there(daemon))
    checks = json.loads(daemon.run("hkswitch", "doctor", "--json", check=False).stdout)["checks"]
    found = {each["check"]: (each["verdict"], each["finding"]) for each in checks}
    assert found["sudo"] == ("ok", "not needed: systemd starts the helper")
    assert found["privileges"] == ("ok", "NoNewPrivileges is set for the daemon, which needs no sudo")
    assert found["helper"] == ("ok", "responding")


def test_the_units_are_valid(daemon: Host) -> None:
    verified = daemon.run(
        "systemd-analyze", "verify", DAEMON, "serviceswitch.socket", "serviceswitch@0.service"
    )
    assert verified.stdout + verified.stderr == ""


@pytest.mark.parametrize("unit", SANDBOXES)
def test_the_exposure_is_what_the_documents_say_and_no_more(daemon: Host, unit: str) -> None:
    said = daemon.run("systemd-analyze", "security", "--no-pager", unit).stdout
    figure = re.search(r"Overall exposure level for \S+: ([\d.]+)", said)
    assert figure is not None, said
    assert float(figure[1]) <= SANDBOXES[unit], said
    name = unit.replace("@0", "@")
    table = (CHECKOUT / "docs/sandbox.md").read_text().partition("\n## Without sudo\n")[2]
    version = daemon.run("systemctl", "--version").stdout.split()[1]
    rows = {row[1]: row for row in (line.split("|") for line in table.splitlines() if line.startswith("|"))}
    headings, figures = rows[" with "], next(rows[name] for name in rows if f"systemd {version} " in name)
    assert figures[headings.index(f" `{name}` ")].strip() == figure[1]
