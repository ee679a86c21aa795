"""Root's commands and the doctor on a real host, attacked by the daemon's user and other accounts."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import Final

import pytest

from hkswitch.model.errors import Exit
from tests.host.machine import Host, eventually

STATE: Final = "/var/lib/hkswitch"
SERVICE: Final = "hkswitch.service"
CONFIG: Final = "/etc/hkswitch/config.yaml"
RUN: Final = "/run/hkswitch"
PYTHON: Final = "/usr/lib/hkswitch/bin/python3"

COMMANDS: Final = (
    ("pair",),
    ("pair", "--list"),
    ("pair", "--reset-attempts"),
    ("unpair", "--all"),
    ("status",),
    ("doctor",),
)


AS_KEPT: Final = f"find {STATE} -mindepth 1 -delete; cp -a /root/kept/. {STATE}; rm -rf /root/kept {RUN}"


@contextmanager
def stopped(host: Host) -> Iterator[None]:
    """A host with the daemon stopped; its state folder is restored in the end."""
    host.run("systemctl", "stop", SERVICE)
    host.run("cp", "-a", STATE, "/root/kept")
    try:
        yield
    finally:
        host.run("sh", "-ec", AS_KEPT)
        host.run("systemctl", "start", SERVICE)


@contextmanager
def runs_as(host: Host, user: str, script: str, *arguments: str, count: int = 1) -> Iterator[None]:
    """Run a Python script as a user, outside every sandbox."""
    host.write("/usr/local/lib/hostile.py", script)
    units = [f"hostile-{number}.service" for number in range(count)]
    for unit in units:
        argv = ("python3", "/usr/local/lib/hostile.py", *arguments)
        host.run("systemd-run", "--quiet", f"--unit={unit}", "--collect", f"--uid={user}", *argv)
    try:
        yield
    finally:
        host.run("systemctl", "kill", "--signal=KILL", *units, check=False)
        eventually(lambda: not host.run("pgrep", "-f", "[h]ostile.py", check=False).stdout)
        host.run("systemctl", "reset-failed", *units, check=False)
        host.run("rm", "/usr/local/lib/hostile.py")


def run_as_root(host: Host, *command: str, seconds: float = 60) -> tuple[int, str]:
    """Run a command as root; return its exit code and output, without traceback or terminal escapes."""
    done = host.run("hkswitch", *command, check=False, timeout_seconds=seconds)
    said = done.stdout + done.stderr
    assert "Traceback" not in said
    assert said.replace("\n", "").isprintable(), ascii(said)
    assert done.returncode in set(Exit)
    return done.returncode, said


# The control socket

FLOOD: Final = """\
import socket, sys, time
waiting = []
while True:
    one = socket.socket(socket.AF_UNIX)
    one.setblocking(False)
    try:
        one.connect(sys.argv[1])
        waiting.append(one)
    except OSError:
        one.close()
        time.sleep(0.001)  # less than the daemon takes for a connection
    if len(waiting) > 300:
        waiting.pop(0).close()
"""

IS_FULL: Final = f"""\
import socket
one = socket.socket(socket.AF_UNIX)
one.setblocking(False)
try:
    one.connect("{RUN}/control.sock")
except BlockingIOError:
    raise SystemExit(0)
raise SystemExit(1)
"""


def is_full(host: Host) -> bool:
    return host.run("python3", "-c", IS_FULL, user="nobody", check=False).returncode == 0


def test_one_socket_is_for_all_users_and_one_for_root_and_the_group(daemon: Host) -> None:
    listed = daemon.run("stat", "--format=%n %U:%G %a", f"{RUN}/control.sock", f"{RUN}/admin.sock").stdout
    assert listed.splitlines() == [
        f"{RUN}/control.sock hkswitch:hkswitch 666",
        f"{RUN}/admin.sock hkswitch:hkswitch 660",
    ]


def test_the_sockets_are_the_same_in_the_sandbox_of_the_socket_transport(daemon: Host) -> None:
    drop_ins = "/etc/systemd/system/hkswitch.service.d"
    daemon.run("mkdir", drop_ins)
    daemon.run("ln", "-s", "/usr/lib/hkswitch/systemd/helper-socket.conf", drop_ins)
    daemon.run("systemctl", "daemon-reload")
    try:
        daemon.run("systemctl", "restart", SERVICE)
        test_one_socket_is_for_all_users_and_one_for_root_and_the_group(daemon)
    finally:
        daemon.run("rm", "-r", drop_ins)
        daemon.run("systemctl", "daemon-reload")
        daemon.run("systemctl", "restart", SERVICE)
        daemon.run("systemctl", "stop", "serviceswitch.socket")


def test_root_and_the_group_get_through_while_a_user_floods_the_socket(
    daemon: Host, stub_units: tuple[str, ...], exhaustive: bool
) -> None:
    daemon.run("useradd", "--groups=hkswitch", "member")
    try:
        with runs_as(daemon, "nobody", FLOOD, f"{RUN}/control.sock", count=3):
            for user in (None, "member"):
                eventually(lambda: is_full(daemon))
                for _ in range(4 if exhaustive else 1):
                    assert daemon.run("hkswitch", "status", user=user).stderr == ""
                for action in ("start", "stop", "start"):
                    assert daemon.run("hkswitch", action, "web", user=user).stderr == ""
                assert daemon.show("httpd.service", "ActiveState") == "active"
            eventually(lambda: is_full(daemon))  # still full, or again
    finally:
        daemon.run("userdel", "member")
    assert daemon.run("hkswitch", "status", user="nobody").stderr == ""


LISTEN: Final = """\
import os, socket, sys, time
SAYS = {
    "begun": b'{"type":"begun"}\\n',
    "sequences": b'{"type":"failed","exit_code":69,"reason":"\\\\u001b[2J"}\\n',
    "garbage": b"\\x1b[2J" * 9999 + b"\\n",
}
kept, accepted = [], []
for path in sys.argv[2:]:
    one = socket.socket(socket.AF_UNIX)
    one.bind(path)
    os.chmod(path, 0o666)
    one.listen(1)
    kept.append(one)
while True:
    for one in kept:
        one.setblocking(False)
        try:
            connection, _ = one.accept()
        except BlockingIOError:
            continue
        try:
            connection.sendall(SAYS.get(sys.argv[1], b""))
        except OSError:
            pass  # root has closed the connection
        accepted.append(connection)
    time.sleep(0.01)
"""


@pytest.mark.parametrize("manner", ["silent", "begun", "sequences", "garbage"])
def test_a_compromised_daemon_does_not_keep_root_waiting(daemon: Host, manner: str) -> None:
    with stopped(daemon):
        daemon.run("install", "--directory", "--owner=hkswitch", "--mode=0755", RUN)
        sockets = [f"{RUN}/control.sock", f"{RUN}/admin.sock"]
        with runs_as(daemon, "hkswitch", LISTEN, manner, *sockets):
            eventually(lambda: daemon.run("test", "-S", sockets[1], check=False).returncode == 0)
            quick = () if manner == "silent" else (("pair",), ("reload",), ("doctor",))
            # In parallel, as each command waits until its timeout.
            with ThreadPoolExecutor() as at_once:
                ran = at_once.map(
                    lambda command: run_as_root(daemon, *command),
                    (("start", "web"), ("status",), *quick),
                )
                assert {code for code, _ in ran} == {Exit.UNAVAILABLE}


def test_root_does_not_use_a_socket_of_another_user(daemon: Host) -> None:
    with runs_as(daemon, "nobody", LISTEN, "begun", "/tmp/control.sock"):
        eventually(lambda: daemon.run("test", "-S", "/tmp/control.sock", check=False).returncode == 0)
        code, said = run_as_root(daemon, "start", "web", "--state-dir", "/tmp")
    daemon.run("rm", "/tmp/control.sock")
    assert code == Exit.DENIED
    assert "cannot trust /tmp/control.sock: user 65534 listens there" in said


# The state folder

FORGED: Final = f"""\
import json, sys
from pathlib import Path
from hkswitch.hap.state_format import digest
file = Path("{STATE}/bridge.json")
body = json.loads(file.read_text())
del body["sha256"]
body["accessory"]["paired_clients"] = {{"\\x1b[2J\\x07": "33" * 32}}
body["accessory"]["client_properties"] = {{"\\x1b[2J\\x07": json.loads(sys.argv[1])}}
text = json.dumps({{**body, "sha256": digest(body)}})
for name in ("bridge.json", "bridge.json.backup"):
    Path("{STATE}", name).write_text(text)
"""

BOTH: Final = f"{STATE}/bridge.json {STATE}/bridge.json.backup"
EACH: Final = f"for file in {BOTH}; do rm -f $file; "

PLANTED: Final = {
    "pipes": f"{EACH} mkfifo $file; done",
    "links to root's secret": f"{EACH} ln -s /root/secret $file; done",
    "links to a device": f"{EACH} ln -s /dev/zero $file; done",
    "files without end": f"{EACH} truncate --size=1T $file; done",
    "folders": f"{EACH} mkdir $file; done",
    "a list": f"{EACH} echo '[]' >$file; done",
    "escape sequences": f"{EACH} printf '\\033[2J\\033]0;x\\007' >$file; done",
    "an ID with escape sequences": f"{PYTHON} -I -c '{FORGED}' '{{\"permissions\": 1}}'",
    "rights of a wrong type": f"{PYTHON} -I -c '{FORGED}' '[]'",
    "a pipe for a lock": f"rm -f {STATE}/lock; mkfifo {STATE}/lock",
    "a link to root's file for a lock": f"rm -f {STATE}/lock; ln -s /root/secret {STATE}/lock",
    "a lock with escape sequences that is held": f"printf '\\033[2J' >{STATE}/lock; "
    f"(flock 9; sleep 600) 9<{STATE}/lock >/dev/null 2>&1 &",
}


@pytest.mark.parametrize("planted", PLANTED)
def test_root_gets_a_readable_error_whatever_is_planted_in_the_state_folder(
    daemon: Host, planted: str
) -> None:
    daemon.write("/root/secret", "secret\n", mode=0o600)
    with stopped(daemon):
        daemon.run("sh", "-ec", PLANTED[planted], user="hkswitch")
        for command in COMMANDS:
            _, said = run_as_root(daemon, *command)
            assert "secret\n" not in said
        daemon.run("pkill", "--uid", "hkswitch", "sleep", check=False)
    assert daemon.run("stat", "--format=%U:%G %a %s", "/root/secret").stdout == "root:root 600 7\n"
    daemon.run("rm", "/root/secret")


# Root's processes within reach of the daemon's user

HUNT: Final = """\
import os, signal
from contextlib import suppress
from pathlib import Path
found = Path("/run/hunter/found")
ours = ("/hkswitch.service", "/serviceswitch@", "/hostile-")
Path("/run/hunter/ready").touch()
while True:
    for name in os.listdir("/proc"):
        if not name.isdecimal():
            continue
        with suppress(OSError):
            process = Path("/proc", name)
            if any(unit in (process / "cgroup").read_text() for unit in ours):
                continue
            read = False
            with suppress(PermissionError):
                secret = b"SECRET=of-root" in (process / "environ").read_bytes()
                with found.open("a") as file:
                    file.write(f"read {name}{' and its secret' if secret else ''}\\n")
                read = True
            os.kill(int(name), signal.SIGSTOP)
            with found.open("a") as file:
                file.write(f"stopped {name}\\n")
            if not read:  # its UID has just changed; it is readable after its next exec
                os.kill(int(name), signal.SIGCONT)
"""


@contextmanager
def hunter(host: Host) -> Iterator[None]:
    """A process of the daemon's user that stops and reads every process it can, except those in our units."""
    host.run("install", "--directory", "--owner=hkswitch", "/run/hunter")
    try:
        with runs_as(host, "hkswitch", HUNT):
            eventually(lambda: host.run("test", "-e", "/run/hunter/ready", check=False).returncode == 0)
            yield
    finally:
        host.run("rm", "-r", "/run/hunter")


def victims(host: Host) -> str:
    return host.run("sh", "-c", "cat /run/hunter/found || true").stdout


def test_the_daemons_user_cannot_reach_any_process_of_roots_doctor(daemon: Host) -> None:
    with hunter(daemon):
        daemon.run("env", "SECRET=of-root", "hkswitch", "doctor", check=False)
        daemon.run("env", "SECRET=of-root", "hkswitch", "diagnostics")
        with stopped(daemon):
            for command in (*COMMANDS, ("diagnostics",)):
                run_as_root(daemon, *command)
        assert victims(daemon) == ""
        # It does reach processes of its own user, even those that root started.
        runs = ("setpriv", "--reuid=hkswitch", "--regid=hkswitch", "--clear-groups", "sleep", "60")
        daemon.run("systemd-run", "--quiet", "--unit=victims", "--collect", "env", "SECRET=of-root", *runs)
        try:
            eventually(lambda: "stopped" in victims(daemon) and "and its secret" in victims(daemon))
        finally:
            daemon.run("systemctl", "kill", "--signal=KILL", "victims.service")
            eventually(lambda: daemon.show("victims.service", "LoadState") == "not-found")


def test_programs_started_by_the_doctor_do_not_get_roots_environment(daemon: Host) -> None:
    """A program that comes first in the doctor's PATH records its environment."""
    noting = '#!/bin/sh\nenv >>/run/noted\nexec /usr/bin/systemctl "$@"\n'
    daemon.write("/usr/local/sbin/systemctl", noting, mode=0o755)
    daemon.run(
        "env", "SECRET=of-root", "PATH=/usr/local/sbin:/usr/bin:/bin", "hkswitch", "doctor", check=False
    )
    noted = daemon.read("/run/noted")
    daemon.run("rm", "/usr/local/sbin/systemctl", "/run/noted")
    assert "LC_ALL=C.UTF-8\n" in noted
    assert "SECRET" not in noted


# Programs that root runs

EVIL: Final = "/usr/local/sbin/evil"
HOME: Final = "/home/alice/bin"

GROUP: Final = """\
bridge: {address: 10.77.0.1}
groups:
  lamp:
    name: Lamp
    commands: {start: [PROGRAM], stop: [PROGRAM], status: [/bin/false]}
"""


@contextmanager
def group_of(host: Host, program: str) -> Iterator[None]:
    before = host.read(CONFIG)
    host.write(CONFIG, GROUP.replace("PROGRAM", program))
    try:
        yield
    finally:
        host.write(CONFIG, before)


def trust_of(host: Host) -> str:
    checks = json.loads(host.run("hkswitch", "doctor", "--json", check=False).stdout)["checks"]
    [trust] = [check for check in checks if check["check"] == "trust"]
    return f"{trust['verdict']}: {trust['finding']}"


@pytest.mark.parametrize("first_line", [f"#!{HOME}/sh", f"#! {HOME}/sh -e", "#!/usr/local/sbin/another"])
def test_a_script_of_root_with_a_users_interpreter_is_not_run(daemon: Host, first_line: str) -> None:
    daemon.run("install", "--directory", "--owner=nobody", HOME)
    daemon.run("cp", "/bin/sh", f"{HOME}/sh")
    daemon.run("chown", "nobody", f"{HOME}/sh")
    daemon.write("/usr/local/sbin/another", f"#!{HOME}/sh\n", mode=0o755)
    daemon.write(EVIL, f"{first_line}\ntouch /run/evil-ran\n", mode=0o755)
    with group_of(daemon, EVIL):
        done = daemon.run("/usr/sbin/serviceswitch", "start", "lamp", check=False)
        trust = trust_of(daemon)
    ran = daemon.run("test", "-e", "/run/evil-ran", check=False).returncode == 0
    daemon.run("rm", "-rf", EVIL, "/usr/local/sbin/another", str(PurePosixPath(HOME).parent))
    assert not ran
    assert done.returncode == Exit.DENIED
    assert f"{EVIL} is not trusted: its interpreter " in done.stdout + done.stderr
    assert trust.startswith(f"fail: {EVIL} is not trusted: its interpreter ")
    daemon.run("systemctl", "reload", SERVICE)


@pytest.mark.parametrize("hidden", ["/root/bin", "/home/roots"])
def test_the_doctor_reports_programs_that_the_helpers_sandbox_hides(daemon: Host, hidden: str) -> None:
    daemon.write(f"{hidden}/lamp", "#!/bin/sh\n", mode=0o755)
    with group_of(daemon, f"{hidden}/lamp"):
        trust = trust_of(daemon)
        daemon.run("systemctl", "reload", SERVICE)
        said = daemon.run("hkswitch", "start", "lamp", check=False).stderr
    daemon.run("rm", "-r", hidden)
    daemon.run("systemctl", "reload", SERVICE)
    assert trust.startswith(f"fail: the helper cannot see {hidden}/lamp: ProtectHome= of {SERVICE} hides /")
    assert "does not exist; install it" in said or "Permission denied" in said


def test_both_transports_hide_the_home_folders(host: Host) -> None:
    for unit in (SERVICE, "serviceswitch@doctor.service"):
        assert host.show(unit, "ProtectHome") == "yes"
