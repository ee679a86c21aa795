"""The helper's audit log: it is complete, and no unprivileged user can forge or suppress an entry.

The daemon's user also attacks from its sandbox: hkswitch.service runs another program instead of the daemon.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from subprocess import Popen
from typing import Final

import pytest

from hkswitch.cli.audit import QUERY
from hkswitch.serviceswitch.daemon_run import NOT_OF_THIS_RUN, NOT_RUNNING
from tests.host.descriptor_passing import RECEIVER, SENDER
from tests.host.fake_daemon import drop_in_to_run
from tests.host.installation import empty_state, is_hello
from tests.host.machine import SYNC_JOURNAL, Host, eventually
from tests.host.matrix import ATTACK_TRANSPORTS, TRANSPORTS
from tests.host.test_attacks import (
    BY_SOCKET,
    OUTSIDE,
    START,
    START_CANARY,
    START_OTHER,
    Launchers,
    by_sudo,
    counted,
    launchers,
    running,
    session,
    sudos,
    target,
    without_journal,
)

__all__ = ["launchers", "sudos", "target"]

DAEMON: Final = "hkswitch.service"
PROGRAM: Final = "/usr/local/lib/compromised.py"
DROP_IN: Final = f"/etc/systemd/system/{DAEMON}.d/run-compromised.conf"
"""Its name sorts after that of the fake daemon's drop-in, which it overrides."""

COMPROMISED: Final = f"{drop_in_to_run(PROGRAM)}StandardOutput=journal\n"

AUDIT: Final = f"""
{SYNC_JOURNAL}
journalctl --quiet --no-pager --output=json --cursor-file=/run/audit.cursor {" ".join(QUERY)} || true
"""


def audited(host: Host) -> list[dict[str, str]]:
    """Return the audit entries since the last call."""
    return [json.loads(line) for line in host.run("sh", "-c", AUDIT).stdout.splitlines()]


def kinds(lines: list[dict[str, str]]) -> list[tuple[str, str, str]]:
    """Return the kind (allowed, denied, done or failed), action and group of each entry."""
    return [
        (
            line.get("HKSWITCH_DECISION") or line["HKSWITCH_OUTCOME"],
            line.get("HKSWITCH_ACTION", ""),
            line.get("HKSWITCH_GROUP", ""),
        )
        for line in lines
    ]


STARTED: Final = [("allowed", "start", "other"), ("done", "start", "other")]


@pytest.fixture
def looked_at(target: Host) -> Host:
    """The host, with the current end of the audit log as the starting point."""
    audited(target)
    return target


@contextmanager
def compromised(host: Host, program: str, more: str = "") -> Iterator[None]:
    """Have hkswitch.service run this program instead of the fake daemon, in the daemon's sandbox."""
    host.write(PROGRAM, program)
    host.write(DROP_IN, COMPROMISED + more)
    host.run("systemctl", "daemon-reload")
    host.run("systemctl", "restart", DAEMON)
    try:
        yield
    finally:
        host.run("systemctl", "kill", "--signal=KILL", DAEMON, check=False)
        host.run("systemctl", "stop", DAEMON)
        host.run("systemctl", "reset-failed", DAEMON, check=False)
        host.run("rm", "-r", PROGRAM, DROP_IN)
        host.run("rmdir", "--ignore-fail-on-non-empty", f"/etc/systemd/system/{DAEMON}.d")
        host.run("systemctl", "daemon-reload")
        eventually(lambda: not running(host, "serviceswitch"))
        host.run("systemctl", "start", DAEMON)


def result_of(host: Host, program: str) -> str:
    """Run a program in the daemon's place until it exits, and return its output."""
    printing = "import sys\nsys.stdout = sys.stderr = open('/var/lib/hkswitch/printed', 'w', buffering=1)\n"
    printed = "/var/lib/hkswitch/printed"
    with compromised(host, f"{printing}{program}\nprint('ended')\n"):
        eventually(lambda: host.show(DAEMON, "ActiveState") in {"failed", "inactive"})
        text = host.read(printed)
        empty_state(host)
    assert text.endswith("ended\n"), text
    return text.removesuffix("ended\n")


# Audit entries


def test_each_action_of_the_daemon_has_two_audit_entries(looked_at: Host, launchers: Launchers) -> None:
    for launcher in launchers:
        looked_at.run("systemctl", "stop", "other.service")
        with session(looked_at, *launcher) as helper:
            helper.send(START_OTHER)
            assert [helper.reply()["type"], helper.reply()["type"]] == ["accepted", "finished"]
        decision, result = audited(looked_at)
        assert kinds([decision, result]) == STARTED
        assert decision["HKSWITCH_REQUEST"] == result["HKSWITCH_REQUEST"]
        assert decision["_PID"] == result["_PID"] == helper.helper
        assert decision["_SYSTEMD_UNIT"].startswith(
            "serviceswitch@" if launcher == BY_SOCKET else "serviceswitch-"
        )
        uid = looked_at.run("id", "-u", "hkswitch").stdout.strip()
        shown = looked_at.run("hkswitch", "audit", "other").stdout.splitlines()[-2:]
        assert [line.partition("]: ")[2] for line in shown] == [
            f"allowed for uid {uid}: start other",
            f"done for uid {uid}: start other: other.service done",
        ]
        assert "start other" not in looked_at.run("hkswitch", "audit", "slow", check=False).stdout


def test_the_decision_is_logged_before_the_unit_starts(looked_at: Host, launchers: Launchers) -> None:
    """The unit looks for the entry while it starts."""
    new = f"journalctl --quiet --output=cat --cursor-file=/run/found.cursor {' '.join(QUERY)}"
    looking = f"[Service]\nExecStart=\nExecStart=/bin/sh -ec '{new} >/run/found'\n"
    looked_at.write("/run/systemd/system/other.service.d/find.conf", looking)
    looked_at.run("systemctl", "daemon-reload")
    try:
        for launcher in launchers:
            looked_at.run("systemctl", "stop", "other.service")
            looked_at.run("sh", "-c", f"{new} || true")
            with session(looked_at, *launcher) as helper:
                helper.send(START_OTHER)
                assert [helper.reply()["type"], helper.reply()["type"]] == ["accepted", "finished"]
            assert looked_at.read("/run/found").count("start other") == 1
    finally:
        looked_at.run("rm", "-r", "/run/systemd/system/other.service.d", "/run/found", "/run/found.cursor")
        looked_at.run("systemctl", "daemon-reload")
        looked_at.run("systemctl", "stop", "other.service")


KILLING: Final = """
import os, signal, subprocess, sys

rounds, request, *command = sys.argv[1:]
for number in range(int(rounds)):
    helper = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    helper.stdout.readline()
    pid = int(subprocess.run(("pgrep", "-n", "-x", "serviceswitch"), capture_output=True).stdout)
    helper.stdin.write(request.encode())
    helper.stdin.flush()
    assert b"accepted" in helper.stdout.readline()
    os.kill(pid, signal.SIGKILL)
    print(pid)
    helper.stdin.close()
    helper.wait()
"""


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_helper_killed_right_after_accepting_has_logged_its_decision(
    looked_at: Host, transport: str
) -> None:
    as_daemon = ("setpriv", "--reuid=hkswitch", "--regid=hkswitch", "--clear-groups", *START[transport])
    killed = looked_at.run("python3", "-c", KILLING, "10", START_OTHER, *as_daemon).stdout.split()
    decisions = [line for line in audited(looked_at) if "HKSWITCH_DECISION" in line]
    assert [line["_PID"] for line in decisions] == killed
    looked_at.run("systemctl", "reset-failed", check=False)


# A journal that accepts nothing

FILL: Final = """
import socket
while True:
    sender, taken = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK), 0
    try:
        while True:
            sender.sendto(b"MESSAGE=full\\n", "/run/systemd/journal/socket")
            taken += 1
    except BlockingIOError:
        if not taken:
            break
"""


UNRECORDED: Final = (
    "cannot record the decision in the journal: journald did not read it within 1 s; nothing was done"
)


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("journal", ["stopped", "full"])
def test_while_journald_accepts_nothing_actions_are_refused_and_reads_go_on(
    looked_at: Host, transport: str, journal: str
) -> None:
    looked_at.run("systemctl", "stop", "other.service")
    with session(looked_at, *START[transport]) as helper:
        with without_journal(looked_at, "stopped"):
            if journal == "full":
                looked_at.run("python3", "-c", FILL)
            helper.send(START_OTHER)
            for _ in range(3):
                assert helper.answers()
            refused = helper.reply()
            assert (refused["type"], refused["reason"]) == ("refused", UNRECORDED)
            assert looked_at.show("other.service", "ActiveState") == "inactive"
        helper.send(START_OTHER)
        assert [helper.reply()["type"], helper.reply()["type"]] == ["accepted", "finished"]
    *_, denial, decision, result = audited(looked_at)
    assert kinds([denial, decision, result]) == [("denied", "start", "other"), *STARTED]
    assert denial["HKSWITCH_REASON"] == UNRECORDED


# Limits


LOG_AND_START: Final = f"""
import subprocess
helper = subprocess.Popen({by_sudo("sudo")!r}, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
helper.stdout.readline()
for number in range(120_000):
    print("flood", number)
print(end="", flush=True)
helper.stdin.write({START_OTHER.encode()!r})
helper.stdin.flush()
print([b"accepted" in helper.stdout.readline(), b"finished" in helper.stdout.readline()])
helper.stdin.close()
helper.wait()
"""


def test_a_flood_of_daemon_logs_suppresses_no_audit_entry(looked_at: Host) -> None:
    looked_at.run("systemctl", "stop", "other.service")
    flood = ("journalctl", "--quiet", "--output=cat", f"_SYSTEMD_UNIT={DAEMON}", "--grep=^flood")
    with compromised(looked_at, f"{LOG_AND_START}\nimport time; time.sleep(60)"):
        eventually(lambda: looked_at.show("other.service", "ActiveState") == "active", timeout_seconds=60)
        eventually(lambda: kinds(audited(looked_at)) == STARTED)
    assert looked_at.run(*flood).stdout.count("\n") < 120_000  # or the test would prove nothing


DENIED_FLOOD: Final = """
import json, subprocess, sys, threading

start, unknown, *command = sys.argv[1:]
helper = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
helper.stdout.readline()

def ask():
    for number in range(100_000):
        helper.stdin.write(unknown.encode())
        if number == 50_000:
            helper.stdin.write(start.encode())
    helper.stdin.flush()

def ask_again():
    helper.stdin.write(start.encode())
    helper.stdin.flush()

threading.Thread(target=ask).start()
refused = finished = 0
while refused < 100_000 or not finished:
    reply = json.loads(helper.stdout.readline())
    refused += (reply["type"], reply["id"]) == ("refused", 9)
    finished += reply["type"] == "finished"
    if (reply["type"], reply["id"]) == ("refused", 1):  # too many requests at once
        threading.Thread(target=ask_again).start()  # the reader must not block on a write
print(refused, finished)
helper.stdin.close()
helper.wait()
"""


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_flood_of_denied_requests_leaves_few_entries_and_suppresses_no_other(
    looked_at: Host, transport: str
) -> None:
    looked_at.run("systemctl", "stop", "other.service")
    unknown = json.dumps({**json.loads(START_CANARY), "id": 9, "group": "unknown"}) + "\n"
    command = ("python3", "-c", DENIED_FLOOD, START_OTHER, unknown, *START[transport])
    flooding = looked_at.run(*command, user="hkswitch", timeout_seconds=120)
    assert flooding.stdout == "100000 1\n"
    lines = audited(looked_at)
    assert [kind for kind in kinds(lines) if kind[0] != "denied"] == STARTED
    denied = [line for line in lines if line.get("HKSWITCH_DECISION") == "denied"]
    assert len(denied) < 120
    assert counted(lines) >= 100_000


def test_a_helper_without_its_own_unit_refuses_to_act(looked_at: Host, sudos: Sequence[str]) -> None:
    looked_at.run("systemctl", "stop", "other.service", "system-serviceswitch.slice")
    looked_at.run("systemctl", "mask", "--runtime", "system-serviceswitch.slice")
    try:
        for sudo in sudos:
            with session(looked_at, *by_sudo(sudo)) as helper:
                helper.send(START_OTHER)
                assert helper.answers()
                reason = helper.reply()["reason"]
                assert "systemd did not move the helper into its own unit (" in reason
                assert "masked" in reason
            assert looked_at.show("other.service", "ActiveState") == "inactive"
    finally:
        looked_at.run("systemctl", "unmask", "--runtime", "system-serviceswitch.slice")


# Forgeries

FORGED: Final = "forged for uid 0: start canary"
FIELDS: Final = f"MESSAGE={FORGED}\nSYSLOG_IDENTIFIER=serviceswitch\nHKSWITCH_DECISION=allowed\n"

TO_THE_JOURNAL: Final = """
import socket, subprocess, sys
journal = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
journal.connect("/run/systemd/journal/socket")
done = subprocess.run(sys.argv[1:], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=journal)
"""

BY_UID: Final = ("journalctl", "--quiet", "--output=cat", "SYSLOG_IDENTIFIER=serviceswitch", "_UID=0")


def shown(host: Host) -> str:
    host.run("sh", "-c", SYNC_JOURNAL)
    return host.run("hkswitch", "audit", check=False).stdout


@pytest.mark.parametrize("user", ["nobody", "hkswitch"])
def test_sudos_messages_to_a_users_socket_are_not_in_the_audit(looked_at: Host, user: str) -> None:
    forging = ("sudo", "-n", "-h", f"=x\n{FIELDS}", "true")
    looked_at.run("python3", "-c", TO_THE_JOURNAL, *forging, user=user)
    assert FORGED not in shown(looked_at)
    assert FORGED in looked_at.run(*BY_UID).stdout  # or the test would prove nothing
    assert audited(looked_at) == []


FORGE_IN_SANDBOX: Final = f"""
import json, os, socket, subprocess
def journal():
    connected = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    connected.connect("/run/systemd/journal/socket")
    return connected
fields = {FIELDS!r}
subprocess.run(("sudo", "-n", "-h", "=x\\n" + fields, "true"), stderr=journal())
serve = {by_sudo("sudo")!r}
hostile = json.dumps({{**json.loads({START_CANARY!r}), "group": "x\\n" + fields}}) + "\\n"
lines = (hostile, fields, "x" * 10_000 + "\\n" + fields)
for outputs in ("stderr",), ("stdout",), ("stdout", "stderr"):
    for line in lines:
        pipes = dict.fromkeys(("stdout", "stderr"), subprocess.PIPE)
        given = {{**pipes, **{{name: journal() for name in outputs}}}}
        helper = subprocess.Popen(serve, stdin=subprocess.PIPE, **given)
        helper.communicate(line.encode())
"""


def test_the_helpers_output_to_the_journals_socket_is_not_in_the_audit(looked_at: Host) -> None:
    result_of(looked_at, FORGE_IN_SANDBOX)
    lines = audited(looked_at)
    assert lines
    assert {kind for kind, _, _ in kinds(lines)} == {"denied"}
    assert {line["_COMM"] for line in lines} == {"serviceswitch"}
    assert f"]: {FORGED}" not in shown(looked_at)
    assert FORGED in looked_at.run(*BY_UID).stdout


# Privilege


def status_of(host: Host, process: str) -> dict[str, str]:
    lines = host.read(f"/proc/{process}/status").splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


SETS: Final = ("CapEff", "CapPrm", "CapInh", "CapBnd", "CapAmb")
PRIVILEGES: Final = {**dict.fromkeys(SETS, "0" * 16), "NoNewPrivs": "1"}


def privileges_of(host: Host, process: str) -> dict[str, str]:
    status = status_of(host, process)
    return {name: status[name] for name in PRIVILEGES}


def test_the_helper_has_no_capability_and_can_gain_none(looked_at: Host, launchers: Launchers) -> None:
    for launcher in launchers:
        with session(looked_at, *launcher) as helper:
            assert privileges_of(looked_at, helper.helper) == PRIVILEGES
            assert status_of(looked_at, helper.helper)["Uid"] == "0\t0\t0\t0"


HOLD: Final = """
import subprocess, time
helper = subprocess.Popen({command!r}, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
helper.stdout.readline()
time.sleep(600)
"""


def scope_of(host: Host, helper: str) -> str:
    """Return the unit that a helper has moved into."""
    scope = f"serviceswitch-{helper}.scope"
    eventually(lambda: host.show(scope, "ActiveState") == "active")
    return scope


def test_a_helper_from_the_sandbox_has_no_capability_and_a_unit_with_limits(
    looked_at: Host, sudos: Sequence[str]
) -> None:
    for sudo in sudos:
        with compromised(looked_at, HOLD.format(command=by_sudo(sudo))):
            (helper,) = eventually(lambda: running(looked_at, "serviceswitch") or None)
            scope = scope_of(looked_at, helper)
            assert privileges_of(looked_at, helper) == PRIVILEGES
            assert looked_at.show(scope, "Slice") == "system-serviceswitch.slice"
            assert looked_at.show(scope, "MemoryMax") == str(128 * 2**20)
            assert looked_at.show(scope, "TasksMax") == "16"
            assert looked_at.show(scope, "DevicePolicy") == "closed"


def test_an_unprivileged_user_is_told_that_only_root_may(looked_at: Host) -> None:
    done = looked_at.run("/usr/sbin/serviceswitch", "--version", user="nobody")
    assert done.stdout.startswith("serviceswitch ")


# Helpers after the end of the daemon

SEND_AWAY: Final = f"""{SENDER}
helper = subprocess.Popen({by_sudo("sudo")!r}, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
helper.stdout.readline()
socket.send_fds(sender, [b"x"], [helper.stdin.fileno(), helper.stdout.fileno()])
time.sleep(600)
"""

RECEIVE: Final = f"""{RECEIVER}
taken = socket.recv_fds(receiver, 1, 2)
print("taken", flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize(
    "end",
    [
        ("stop", DAEMON),
        ("kill", "--signal=KILL", DAEMON),
        ("kill", "--signal=KILL", "--kill-who=main", DAEMON),
        ("restart", DAEMON),
    ],
    ids=["stopped", "killed", "killed alone", "restarted"],
)
def test_a_helper_whose_pipe_was_passed_on_exits_with_the_daemon(
    looked_at: Host, end: tuple[str, ...]
) -> None:
    with looked_at.popen("python3", "-c", RECEIVE, user="nobody") as receiver:
        assert receiver.stdout is not None
        assert receiver.stdout.readline() == "listening\n"
        with compromised(looked_at, SEND_AWAY):
            assert receiver.stdout.readline() == "taken\n"
            (helper,) = running(looked_at, "serviceswitch")
            looked_at.run("systemctl", *end)
            eventually(lambda: helper not in running(looked_at, "serviceswitch"), timeout_seconds=10)


SEND_AND_END: Final = f"""{SENDER}
command, request = {{command!r}}, {{request!r}}
if command:
    helper = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    up, down = helper.stdin.fileno(), helper.stdout.fileno()
else:
    connection = socket.socket(socket.AF_UNIX)
    connection.connect("/run/serviceswitch.sock")
    up = down = connection.fileno()
os.write(up, request)
with open(down, "rb", buffering=0, closefd=False) as told:
    while request and b"finished" not in told.readline():
        pass
socket.send_fds(sender, [b"x"], [up, down])
sender.recv(1)
"""
"""A compromised daemon: it uses its helper, passes its ends of the pipe on, and exits."""

RECEIVE_AND_ASK: Final = f"""{RECEIVER}
_, (up, down), _, _ = socket.recv_fds(receiver, 1, 2)
print("taken", flush=True)
sys.stdin.readline()
receiver.close()
with open(down, "rb", buffering=0) as told:
    for request in sys.stdin:
        os.write(up, request.encode())
        print(told.readline().decode(), end="", flush=True)
"""

NO_STOPS: Final = "ExecStartPre=\nExecStopPost=\nRestart=always\nRestartSec=3600\n"
"""As if the stops had failed, or come too early."""

HELPER_UNIT: Final = "serviceswitch@.service"
UNBOUND_SCOPE: Final = (
    *("busctl", "call", "org.freedesktop.systemd1", "/org/freedesktop/systemd1"),
    *("org.freedesktop.systemd1.Manager", "StartTransientUnit", "ssa(sv)a(sa(sv))"),
    *(
        "serviceswitch-unbound.scope",
        "fail",
        "2",
        "Slice",
        "s",
        "system-serviceswitch.slice",
        "PIDs",
        "au",
        "1",
    ),
)


@contextmanager
def unbound_unit(host: Host) -> Iterator[None]:
    """Have systemd start helpers that do not stop with the daemon."""
    text = host.read(f"/usr/lib/systemd/system/{HELPER_UNIT}")
    bound = "StopPropagatedFrom=hkswitch.service\n"
    assert bound in text
    host.write(f"/run/systemd/system/{HELPER_UNIT}", text.replace(bound, ""))
    try:
        yield
    finally:
        host.run("rm", f"/run/systemd/system/{HELPER_UNIT}")
        host.run("systemctl", "daemon-reload")


@contextmanager
def pipe_given_away(host: Host, transport: str, request: str) -> Iterator[Popen[str]]:
    """Pass a daemon's pipe to a process of another user, which forwards its input, and end the daemon."""
    command = () if transport == "socket" else START[transport]
    program = SEND_AND_END.format(command=command, request=request.encode())
    with host.popen("python3", "-c", RECEIVE_AND_ASK, user="nobody") as receiver:
        assert receiver.stdout is not None
        assert receiver.stdout.readline() == "listening\n"
        with compromised(host, program, NO_STOPS):
            assert receiver.stdout.readline() == "taken\n"
            if command:
                host.run(*UNBOUND_SCOPE, *running(host, "serviceswitch"), "0")
                eventually(lambda: host.show("serviceswitch-unbound.scope", "ActiveState") == "active")
            assert receiver.stdin is not None
            receiver.stdin.write("\n")
            receiver.stdin.flush()
            eventually(lambda: host.show(DAEMON, "SubState") == "auto-restart")
            yield receiver


def denied_to(receiver: Popen[str]) -> str:
    """Send a request, and return why it is denied."""
    assert receiver.stdin is not None
    assert receiver.stdout is not None
    receiver.stdin.write(START_OTHER)
    receiver.stdin.flush()
    reply = json.loads(receiver.stdout.readline())
    assert reply["type"] == "refused"
    return str(reply["reason"]).removeprefix("denied: ")


@pytest.mark.parametrize("transport", ATTACK_TRANSPORTS)
def test_a_helper_that_outlives_its_daemon_refuses_to_act_and_exits_before_the_next_start(
    looked_at: Host, transport: str
) -> None:
    looked_at.run("systemctl", "stop", "other.service")
    with unbound_unit(looked_at), pipe_given_away(looked_at, transport, START_OTHER) as receiver:
        looked_at.run("systemctl", "stop", "other.service")
        assert denied_to(receiver) == NOT_RUNNING
        looked_at.write(PROGRAM, "import time; time.sleep(600)")
        looked_at.run("systemctl", "restart", DAEMON)
        assert denied_to(receiver) == NOT_OF_THIS_RUN
        assert looked_at.show("other.service", "ActiveState") == "inactive"
        looked_at.write(DROP_IN, f"{COMPROMISED}ExecStopPost=\n")
        looked_at.run("systemctl", "daemon-reload")
        looked_at.run("systemctl", "restart", DAEMON)
        assert not running(looked_at, "serviceswitch")
    lines = audited(looked_at)
    assert kinds(lines) == [*STARTED, *[("denied", "start", "other")] * 2]
    assert [line["HKSWITCH_REASON"] for line in lines[2:]] == [NOT_RUNNING, NOT_OF_THIS_RUN]


LATE: Final = f"/run/systemd/system/{HELPER_UNIT}.d"


def test_a_connection_of_a_daemon_that_has_exited_is_not_served(looked_at: Host) -> None:
    waits = "until test -e /run/late; do sleep 0.02; done"
    looked_at.write(f"{LATE}/late.conf", f"[Service]\nExecStartPre=/bin/sh -c '{waits}'\n")
    try:
        with unbound_unit(looked_at), pipe_given_away(looked_at, "socket", ""):
            assert not running(looked_at, "serviceswitch")
            looked_at.write("/run/late", "")
            ended = "systemctl list-units --all --no-legend 'serviceswitch@*'"
            eventually(lambda: looked_at.run("sh", "-c", ended).stdout == "")
    finally:
        looked_at.run("rm", "-rf", LATE, "/run/late")
        looked_at.run("systemctl", "daemon-reload")
    (denial,) = audited(looked_at)
    assert kinds([denial]) == [("denied", "serve", "")]
    assert denial["HKSWITCH_REASON"] == NOT_RUNNING


def test_a_connection_from_outside_the_daemons_unit_is_not_served(looked_at: Host) -> None:
    with looked_at.popen(*OUTSIDE, user="hkswitch") as connected:
        assert connected.stdout is not None
        eventually(lambda: connected.poll() is not None)
        assert is_hello(connected.stdout.read())
    (denial,) = audited(looked_at)
    assert kinds([denial]) == [("denied", "serve", "")]
    assert denial["HKSWITCH_REASON"] == NOT_OF_THIS_RUN


EXTENDING: Final = """
import os, signal, socket, time
def extend():
    notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    notify.sendto(b"EXTEND_TIMEOUT_USEC=2000000", os.environ["NOTIFY_SOCKET"])
signal.signal(signal.SIGTERM, lambda *_: extend())
open("/var/lib/hkswitch/extending", "w").close()
while True:
    time.sleep(0.2)
    extend()
"""


def test_a_daemon_that_keeps_extending_its_stop_timeout_is_killed(looked_at: Host) -> None:
    extending = "/var/lib/hkswitch/extending"
    with compromised(looked_at, EXTENDING, "TimeoutStopSec=1\n"):
        eventually(lambda: looked_at.run("test", "-e", extending, check=False).returncode == 0)
        looked_at.run("rm", extending)
        looked_at.run("sh", "-c", f"timeout 4 systemctl stop {DAEMON}; test $? = 124")
        assert looked_at.show(DAEMON, "ActiveState") == "deactivating"
        looked_at.run("systemctl", "kill", "--signal=KILL", DAEMON)
        eventually(lambda: looked_at.show(DAEMON, "ActiveState") in {"failed", "inactive"})


ENDING: Final = """
import os, socket
notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
notify.connect(os.environ["NOTIFY_SOCKET"])
os.dup2(notify.fileno(), 2)
os.execv("/usr/bin/sudo", ["sudo", "-n", "-h", "=x\\nMAINPID={process}\\n", "true"])
"""
"""Makes sudo, as root, tell systemd on standard error which process is the main one of hkswitch.service."""


@pytest.mark.parametrize(
    ("option", "ends"), [("", True), ("NoNewPrivileges=yes\n", False)], ids=["by sudo", "as by the socket"]
)
def test_only_by_sudo_can_a_compromised_daemon_make_systemd_kill_another_process(
    looked_at: Host, option: str, ends: bool
) -> None:
    looked_at.run("systemd-run", "--quiet", "--collect", "--unit=another", "sleep", "600")
    try:
        process = looked_at.show("another.service", "MainPID")
        with compromised(looked_at, ENDING.format(process=process), option):
            eventually(lambda: looked_at.show(DAEMON, "MainPID") in {process, "0"})
            assert looked_at.show("another.service", "ActiveState") == "active"
        assert (looked_at.show("another.service", "ActiveState") == "active") is not ends
    finally:
        looked_at.run("systemctl", "stop", "another.service", check=False)


IN_MEMORY: Final = """
import os
try:
    os.memfd_create("program")
except PermissionError:
    print("refused")
else:
    print("made")
"""


def test_a_compromised_daemon_cannot_execute_from_memory_where_systemd_can_prevent_it(
    looked_at: Host,
) -> None:
    expected = {"bookworm": "made\n", "trixie": "refused\n"}[looked_at.release]
    assert result_of(looked_at, IN_MEMORY) == expected
