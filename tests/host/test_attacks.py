"""Attacks on the installed helper, by every user that can start it or connect to it.

The helper refuses each of them, and no effect remains. Each test must read all audit entries that it caused;
the canary unit must never start.
"""

import json
import os
import select
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from subprocess import CompletedProcess, Popen
from typing import Any, Final

import pytest

from hkswitch.protocol.helper import CONFIG_CHANGED, LONGEST_REQUEST_BYTES
from hkswitch.serviceswitch.dispatcher import DAEMON_HUNG_UP
from hkswitch.serviceswitch.policy import CUT_SHORT, NOT_BEGUN
from hkswitch.serviceswitch.stdio import DAEMON_READS_WITHIN_SECONDS
from tests.host.conftest import rule_for_sudo_rs
from tests.host.fake_daemon import CONNECT, fake_daemon
from tests.host.helper_requests import FILE, request, request_for_config
from tests.host.installation import is_hello
from tests.host.machine import SYNC_JOURNAL, Host, eventually
from tests.host.matrix import ATTACK_TRANSPORTS, SUDO_RS
from tests.host.test_install import SERVE, SUDOS
from tests.support.waiting import PATIENCE_SECONDS

EVIL: Final = "/tmp/evil"
RAN: Final = f"{EVIL}/ran"

CONFIG: Final = """\
groups:
  canary: {units: [canary], actions: [stop]}
  other: {units: [other]}
  slow: {units: [slow]}
"""

UNITS: Final = {
    "canary.service": "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true\n",
    "other.service": "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true\n",
    "slow.service": "[Unit]\nStartLimitIntervalSec=0\n[Service]\nType=oneshot\nExecStart=/bin/sleep 60\n",
}

MODULES: Final = ("yaml.py", "asyncio.py", "sitecustomize.py", "usercustomize.py", "sdbus.py", "hkswitch.py")

START_CANARY: Final = request_for_config(CONFIG, 1, "start", "canary")
START_OTHER: Final = request_for_config(CONFIG, 1, "start", "other")
START_SLOW: Final = request_for_config(CONFIG, 1, "start", "slow")

REFUSED_CANARY: Final = {
    "type": "refused",
    "id": 1,
    "reason": "denied: start is not in this group's actions",
}

AUDIT: Final = (
    f"{SYNC_JOURNAL}; journalctl --quiet --no-pager --output=json --cursor-file=/run/attacks.cursor"
    " SYSLOG_IDENTIFIER=serviceswitch _UID=0 || true"  # it fails where there is none
)

AFTERWARDS: Final = f"""
systemctl is-active canary.service
ls /tmp
ps -e -o user:32=,args= | grep -E '^hkswitch |serviceswitch ' | grep -v grep
{AUDIT}
"""


ALONE: Final = """
import socket

connection = socket.socket(socket.AF_UNIX)
connection.connect("/run/serviceswitch.sock")
"""
"""Prelude of a program that connects to the helper by itself, not through the daemon."""

RELAY: Final = """
import os, threading
from contextlib import suppress

def up():
    with suppress(OSError):  # the helper has exited, which the main thread handles
        while data := os.read(0, 65536):
            connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)

threading.Thread(target=up, daemon=True).start()
with suppress(ConnectionResetError, BrokenPipeError), open(1, "wb", buffering=0, closefd=False) as output:
    while data := connection.recv(65536):
        output.write(data)
"""
"""Relays standard input to the helper's socket, and its replies to standard output."""

BY_SOCKET: Final = ("python3", "/run/relay.py")
OUTSIDE: Final = ("python3", "-c", f"{ALONE}{RELAY}")


@pytest.fixture(scope="module")
def target(host: Host, exhaustive: bool) -> Iterator[Host]:
    """A host with a group that must never start, and a folder of malicious Python modules."""
    before = host.read(FILE)
    host.write(FILE, CONFIG)
    for name, text in UNITS.items():
        host.write(f"/usr/local/lib/systemd/system/{name}", text)
    for module in MODULES:
        host.write(f"{EVIL}/{module}", f"open({RAN!r}, 'w').close()\n")
    host.write(f"{EVIL}/config.yaml", CONFIG.replace("stop", "start"))
    host.write("/run/relay.py", f"{CONNECT}{RELAY}")
    host.run(
        "sh",
        "-ec",
        f"chown -R hkswitch: {EVIL}; systemctl daemon-reload; systemctl start serviceswitch.socket",
    )
    has_sudo_rs = exhaustive and SUDO_RS in SUDOS[host.release]
    with rule_for_sudo_rs(host) if has_sudo_rs else nullcontext(), fake_daemon(host):
        yield host
    host.run("systemctl", "stop", "serviceswitch.socket")
    host.run("systemctl", "stop", *UNITS)
    host.run("systemctl", "reset-failed", *UNITS, check=False)  # units that were stopped while starting
    host.run("rm", "-r", EVIL, "/run/relay.py", *(f"/usr/local/lib/systemd/system/{name}" for name in UNITS))
    host.run("systemctl", "daemon-reload")
    host.write(FILE, before)


@pytest.fixture(scope="module")
def untouched(target: Host) -> str:
    """A snapshot of the host before any attack."""
    audit(target)
    return target.run("sh", "-c", AFTERWARDS).stdout


@pytest.fixture(autouse=True)
def no_leftovers(target: Host, untouched: str) -> Iterator[None]:
    """Check that an attack leaves nothing behind, starts nothing, and adds no unread audit entry."""
    assert untouched.startswith("inactive\n")
    yield
    found: list[str] = []

    def settled() -> bool:
        found[:] = [target.run("sh", "-c", AFTERWARDS).stdout]
        return found == [untouched]

    if not settled():
        assert "SYSLOG_IDENTIFIER" not in found[0]
        eventually(settled)


def audit(host: Host) -> list[dict[str, str]]:
    """Return the audit entries since the last call."""
    return [json.loads(line) for line in host.run("sh", "-c", AUDIT).stdout.splitlines()]


def decisions(host: Host) -> list[tuple[str, str, str]]:
    """Return the decision, action and group of each new entry."""
    return [
        (line["HKSWITCH_DECISION"], line.get("HKSWITCH_ACTION", ""), line.get("HKSWITCH_GROUP", ""))
        for line in audit(host)
        if "HKSWITCH_DECISION" in line
    ]


def counted(lines: Sequence[Mapping[str, str]]) -> int:
    """Return the number of denials that these entries stand for, besides decisions and results."""
    denied = (line for line in lines if line.get("HKSWITCH_DECISION") == "denied")
    return sum(1 + int(line.get("HKSWITCH_LEFT_OUT", 0)) for line in denied)


DENIED_CANARY: Final = ("denied", "start", "canary")


def uid_of(host: Host, user: str) -> str:
    return host.run("id", "-u", user).stdout.strip()


def by_sudo(sudo: str) -> tuple[str, ...]:
    """Return the command by which the daemon's user starts the helper."""
    return (sudo, "-n", *SERVE)


Launchers = Sequence[tuple[str, ...]]


@pytest.fixture
def sudos(host: Host, exhaustive: bool) -> Sequence[str]:
    """The sudo programs by which the daemon's user can start a helper; CI tests one."""
    return SUDOS[host.release] if exhaustive else SUDOS[host.release][:1]


@pytest.fixture
def launchers(sudos: Sequence[str], exhaustive: bool) -> Launchers:
    """The commands that start a helper: by each sudo, and by the socket."""
    return [*map(by_sudo, sudos), *([BY_SOCKET] if exhaustive else [])]


START: Final = dict(zip(ATTACK_TRANSPORTS, (by_sudo("sudo"), BY_SOCKET, by_sudo("sudo-rs")), strict=True))
"""The command that starts a helper, by transport."""


def said(done: CompletedProcess[str]) -> list[dict[str, Any]]:
    """Return a helper's replies after its hello."""
    first, *rest = done.stdout.splitlines(keepends=True) or [""]
    assert is_hello(first), done.stderr
    return [json.loads(line) for line in rest]


@dataclass(frozen=True)
class Session:
    """A session with a helper, with the PIDs of the helper and its parent on the host: sudo, if it stays."""

    process: Popen[str]
    parent: str
    helper: str

    def send(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line)
        self.process.stdin.flush()

    def reply(self) -> dict[str, Any]:
        return json.loads(_line(self.process))  # type: ignore[no-any-return] # the protocol says so

    def read_some(self, most_bytes: int) -> bool:
        """Read at most this many available bytes, without waiting."""
        assert self.process.stdout is not None
        if select.select([self.process.stdout], [], [], 0)[0]:
            os.read(self.process.stdout.fileno(), most_bytes)
        return True

    def drain(self) -> bool:
        """Read all available bytes, without waiting."""
        assert self.process.stdout is not None
        while select.select([self.process.stdout], [], [], 0)[0]:
            if not os.read(self.process.stdout.fileno(), 65536):
                break
        return True

    def answers(self) -> bool:
        self.send('{"ping":1}\n')
        return self.reply() == {"type": "pong", "id": 1}


@contextmanager
def session(host: Host, *argv: str) -> Iterator[Session]:
    """Start a helper by `argv` as the daemon's user."""
    before = running(host, "serviceswitch")
    with host.popen(*argv, user="hkswitch") as process:
        assert is_hello(_line(process))
        (helper,) = running(host, "serviceswitch") - before
        parent = host.run("ps", "-o", "ppid=", helper).stdout.strip()
        yield Session(process, parent, helper)


def _line(process: Popen[str]) -> str:
    """Return the next line of a program's output, within a time limit."""
    assert process.stdout is not None
    line = b""
    while not line.endswith(b"\n"):
        assert select.select([process.stdout], [], [], PATIENCE_SECONDS)[0], f"no line in time, only {line!r}"
        byte = os.read(process.stdout.fileno(), 1)
        assert byte, f"it ended: {line!r}"
        line += byte
    return line.decode()


def _stdin_of(process: Popen[str]) -> int:
    assert process.stdin is not None
    return process.stdin.fileno()


def running(host: Host, name: str) -> set[str]:
    """Return the PIDs of processes with this name, but not of zombies, whose parent is outside the host."""
    return set(host.run("pgrep", "--runstates=DIRSTt", "--exact", name, check=False).stdout.split())


# The environment and the working directory

ENVIRONMENTS: Final[Mapping[str, Mapping[str, str]]] = {
    "python": {
        **dict.fromkeys(("PYTHONPATH", "PYTHONHOME", "PYTHONUSERBASE", "PYTHONPYCACHEPREFIX"), EVIL),
        "PYTHONSTARTUP": f"{EVIL}/yaml.py",
        "PYTHONINSPECT": "1",
        "PYTHONWARNINGS": "error",
        "PYTHONBREAKPOINT": "yaml.run",
    },
    "loader": {
        "LD_PRELOAD": f"{EVIL}/lib.so",
        "LD_AUDIT": f"{EVIL}/lib.so",
        "LD_LIBRARY_PATH": EVIL,
        "GLIBC_TUNABLES": "glibc.malloc.check=3",
        "GCONV_PATH": EVIL,
    },
    "paths": {"PATH": f"{EVIL}:/usr/bin:/bin", "TMPDIR": EVIL, "HOME": EVIL, "XDG_CONFIG_HOME": EVIL},
    "locale": {"LANG": "../../tmp/evil", "LC_ALL": "xx_XX.UTF-16", "LANGUAGE": "%s%n", "TZ": f":{EVIL}/ran"},
    "bus": {
        "DBUS_SYSTEM_BUS_ADDRESS": f"unix:path={EVIL}/bus",
        "DBUS_STARTER_ADDRESS": f"unix:path={EVIL}/bus",
        "SYSTEMD_LOG_LEVEL": "debug",
        "SYSTEMD_BUS_TIMEOUT": "1",
        "JOURNAL_STREAM": "1:1",
        "NOTIFY_SOCKET": f"{EVIL}/notify",
    },
    "sudo's own": {
        "SUDO_UID": "0",
        "SUDO_USER": "root",
        "SUDO_COMMAND": "x",
        "SUDO_ASKPASS": f"{EVIL}/yaml.py",
    },
    "ours": dict.fromkeys(
        ("HKSWITCH_CONFIG", "HKSWITCH_CONFIG_FILE", "SERVICESWITCH_CONFIG"), f"{EVIL}/config.yaml"
    ),
}

BEYOND_SUDO: Final = {"loader", "sudo's own"}
"""Variables that only sudo keeps from root's helper: they act before its first line, or belong to sudo."""


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_the_environment_and_the_working_directory_change_nothing(
    target: Host, name: str, sudos: Sequence[str]
) -> None:
    """The helper does not trust root's environment either, as sudo can be configured to keep it."""
    planted = ("env", f"--chdir={EVIL}", *(f"{key}={value}" for key, value in ENVIRONMENTS[name].items()))
    starts = [("hkswitch", by_sudo(f"/usr/bin/{sudo}")) for sudo in sudos]
    if name not in BEYOND_SUDO:
        starts.append(("root", SERVE))
    for user, start in starts:
        done = target.run(*planted, *start, user=user, input=START_CANARY)
        assert (said(done), done.stderr) == ([REFUSED_CANARY], "")
        (line,) = audit(target)
        assert (line["HKSWITCH_GROUP"], line["HKSWITCH_BY_UID"]) == ("canary", uid_of(target, user))


# Arguments

OF_ROOT: Final = {
    "no action": (("canary",), 64, None),
    "another case": (("SERVE",), 64, None),
    "serve and more": (("serve", "canary"), 64, None),
    "a config of one's own": (("--config", f"{EVIL}/config.yaml", "start", "canary"), 64, None),
    "a config after the group": (("start", "canary", f"--config={EVIL}/config.yaml"), 64, None),
    "the end of options": (("--", "start", "canary"), 64, None),
    "an action of systemd's": (("enable", "canary"), 64, None),
    "1 MiB": (("start", *("x" * 2**16,) * 16), 64, None),
    "status of an option": (("status", "--all"), 77, None),
    "an option for a group": (("start", "--no-block"), 77, "--no-block"),
    "a unit for a group": (("start", "canary.service"), 77, "canary.service"),
    "a path for a group": (("start", "../canary"), 77, "../canary"),
    "no group": (("start", ""), 77, None),
    "a newline": (("start", "canary\nother"), 77, r"canary\nother"),
    "look-alikes": (("start", "сanаry"), 77, "сanаry"),  # noqa: RUF001 -- with two Cyrillic letters
    "no text": (("start", "canary\udcff"), 77, r"canary\udcff"),
    "a long group": (("start", "c" * 100_000), 77, f"{'c' * 509}..."),
    "not its action": (("restart", "canary"), 77, "canary"),
}


@pytest.mark.parametrize("name", OF_ROOT)
def test_arguments_do_nothing_but_what_the_config_says(target: Host, name: str, sudos: Sequence[str]) -> None:
    """No argument contains a NUL: the kernel ends the argument there."""
    arguments, code, group = OF_ROOT[name]
    for sudo in sudos:
        refused = target.run(sudo, "-n", SERVE[0], *arguments, user="hkswitch", check=False)
        assert (refused.returncode == 0, refused.stdout) == (False, "")
    done = target.run(SERVE[0], *arguments, check=False)
    assert (done.returncode, done.stdout) == (code, "")
    lines = audit(target)
    if code == 64 or arguments[0] == "status":
        assert lines == []
    else:
        assert [line["HKSWITCH_DECISION"] for line in lines] == ["denied"]
        assert lines[0].get("HKSWITCH_GROUP") == group


@pytest.mark.parametrize("user", ["hkswitch", "nobody"])
def test_the_helper_serves_no_user_without_sudo(target: Host, user: str) -> None:
    for arguments in (("serve",), ("start", "canary"), ("stop", "canary"), ("status", "canary")):
        done = target.run(SERVE[0], *arguments, user=user, input=START_CANARY, check=False)
        assert (done.returncode, done.stdout) == (77, "")
        assert done.stderr == "serviceswitch: permission denied: only root may do this; use sudo\n"


@pytest.mark.parametrize("user", ["nobody", "daemon"])
def test_sudo_allows_only_the_daemons_user(target: Host, user: str, sudos: Sequence[str]) -> None:
    for sudo in sudos:
        done = target.run(*by_sudo(sudo), user=user, input=START_CANARY, check=False)
        assert (done.returncode, done.stdout) == (1, "")


# The pipe

GOOD: Final = START_CANARY.removesuffix("\n")
TOKEN: Final = str(json.loads(GOOD)["token"])

NO_JSON: Final = "not a line of JSON"
NO_OBJECT: Final = "not a JSON object"
TWICE: Final = "duplicate key"
TOO_MANY: Final = "unexpected key"
NO_ID: Final = f"'id' must be an integer from 1 to {2**53}"
NO_EPOCH: Final = f"'observe' must be an integer from 1 to {2**53}"
NO_GROUP: Final = "'group' must be a string of at most 256 characters"
NO_TOKEN: Final = "'token' must be a string of at most 64 characters"
NO_MS: Final = f"'confirm_ms' must be an integer from 1 to {2**53}"
OTHER_MS: Final = "'confirm_ms' must be 200 or 1000"


def with_replaced(part: str, instead: str) -> bytes:
    """Return a valid request in which one part is replaced."""
    assert GOOD.count(part) == 1
    return GOOD.replace(part, instead).encode()


MALFORMED: Final = (
    (b"", NO_JSON),
    (b"\x00", NO_JSON),
    (b"start canary", NO_JSON),
    (GOOD[:-1].encode(), NO_JSON),
    (f"{GOOD}{{}}".encode(), NO_JSON),
    (f"[{GOOD}]".encode(), NO_OBJECT),
    (b'"canary"', NO_OBJECT),
    (b"null", NO_OBJECT),
    (b"NaN", "NaN is not JSON"),
    (with_replaced('"canary"', '"canary","id":1'), TWICE),
    (with_replaced('"action"', '"action":"stop","action"'), TWICE),
    (with_replaced('"group"', '"group":"other","group"'), TWICE),
    (with_replaced('"token"', '"token":"","token"'), TWICE),
    (with_replaced('"id":1', '"id":NaN'), "NaN is not JSON"),
    (with_replaced('"id":1', '"id":Infinity'), "Infinity is not JSON"),
    (with_replaced('"id":1', '"id":1.0'), NO_ID),
    (with_replaced('"id":1', '"id":1e0'), NO_ID),
    (with_replaced('"id":1', '"id":"1"'), NO_ID),
    (with_replaced('"id":1', '"id":true'), NO_ID),
    (with_replaced('"id":1', '"id":0'), NO_ID),
    (with_replaced('"id":1', '"id":-1'), NO_ID),
    (with_replaced('"id":1', f'"id":{2**64}'), NO_ID),
    (with_replaced('"id":1', f'"id":{"9" * 3900}'), NO_ID),
    (with_replaced('"start"', '["start"]'), "'action' must be"),
    (with_replaced('"start"', '"START"'), "'action' must be"),
    (with_replaced('"canary"', '["canary"]'), NO_GROUP),
    (with_replaced('"canary"', "null"), NO_GROUP),
    (with_replaced('"canary"', f'"{"x" * 300}"'), NO_GROUP),
    (with_replaced('"group":"canary"', '"unit":"canary.service"'), "'group' is missing"),
    (with_replaced('"canary"', '"canary","user":0'), TOO_MANY),
    (with_replaced('"canary"', '"canary","unit":"canary.service"'), TOO_MANY),
    (with_replaced(f',"token":"{TOKEN}"', ""), "'token' is missing"),
    (with_replaced(f'"{TOKEN}"', "null"), NO_TOKEN),
    (with_replaced(f'"{TOKEN}"', "true"), NO_TOKEN),
    (with_replaced(f'"{TOKEN}"', f'["{TOKEN}"]'), NO_TOKEN),
    (with_replaced(TOKEN, TOKEN.ljust(65)), NO_TOKEN),
    (with_replaced(',"confirm_ms":200', ""), "'confirm_ms' is missing"),
    (with_replaced(":200", ":200.0"), NO_MS),
    (with_replaced(":200", ':"200"'), NO_MS),
    (with_replaced(":200", ":0"), NO_MS),
    (with_replaced(":200", ":1"), OTHER_MS),
    (with_replaced(":200", ":3600000"), OTHER_MS),
    (with_replaced('"id":1', '"ping":1,"id":1'), TOO_MANY),
    (with_replaced('"id":1', '"observe":1,"id":1'), "'sampled' is missing"),
    (with_replaced('"id":1', '"observe":1,"sampled":[],"id":1'), TOO_MANY),
    (b'{"observe":1,"sampled":[],"ping":1}', TOO_MANY),
    (b'{"observe":1,"sampled":[],"group":"canary"}', TOO_MANY),
    (b'{"observe":0,"sampled":[]}', NO_EPOCH),
    (b'{"observe":true,"sampled":[]}', NO_EPOCH),
    (b'{"observe":"1","sampled":[]}', NO_EPOCH),
    (b'{"observe":["canary"],"sampled":[]}', NO_EPOCH),
    (b"\xef\xbb\xbf" + GOOD.encode(), NO_JSON),
    (GOOD.encode().replace(b"canary", b"canary\xff"), NO_JSON),
    (b"\xed\xa0\x80", NO_JSON),
    (GOOD.encode("utf-16"), NO_JSON),
    (b"[" * 4000, NO_JSON),
    (b'{"a":' * 800, NO_JSON),
)
"""Lines with exactly one mistake each, and the mistake."""


def octal(data: bytes) -> str:
    """Return bytes as octal escapes for printf(1)."""
    return "".join(f"\\{byte:03o}" for byte in data)


def test_malformed_lines_are_refused_and_later_requests_answered(target: Host, launchers: Launchers) -> None:
    data = b"".join(line + b'\n{"ping":1}\n' for line, _ in MALFORMED)
    wrong = [f"malformed request: {what}" for _, what in MALFORMED]
    target.write("/run/lines", f"printf '%b' '{octal(data)}'")
    # The helper does not reply after the end of its input, so that stays open until the last reply.
    answered = f"test $(grep -c pong /tmp/replies) -ge {len(MALFORMED)}"
    lines = f"{{ sh /run/lines; until {answered}; do sleep 0.02; done; }}"
    for launcher in launchers:
        piped = f": >/tmp/replies; {lines} | {' '.join(launcher)} | tee /tmp/replies; rm /tmp/replies"
        replies = said(target.run("sh", "-c", piped, user="hkswitch"))
        assert [reply["type"] for reply in replies] == ["refused", "pong"] * len(MALFORMED)
        reasons = [reply["reason"] for reply in replies[::2]]
        assert [(found, line) for found, line in zip(reasons, wrong, strict=True) if line not in found] == []
        audited = audit(target)
        assert {line["HKSWITCH_DECISION"] for line in audited} == {"denied"}
        assert counted(audited) == len(MALFORMED)


NO_GROUPS: Final = {
    "canary.service": "'canary.service'",
    "../other": "'../other'",
    "--other": "'--other'",
    "other\\u0000": r"'other\x00'",
    "other\\nMESSAGE=x": r"'other\nMESSAGE=x'",
    "\\ud800": r"'\ud800'",
    "ｏther": "'ｏther'",  # noqa: RUF001 -- with a wide letter
    "other ": "'other '",
    "": "''",
}
"""The requested group as JSON, and how the audit log shows it."""


def test_a_request_for_an_unknown_group_is_denied_and_counted_in_the_audit(
    target: Host, launchers: Launchers
) -> None:
    requests = [START_OTHER.replace('"other"', f'"{group}"') for group in NO_GROUPS]
    reasons = [f"there is no group {shown} in the configuration" for shown in NO_GROUPS.values()]
    for launcher in launchers:
        done = target.run(*launcher, user="hkswitch", input="".join([*requests, '{"ping":1}\n'] * 2))
        refused = [reply["reason"] for reply in said(done) if reply["type"] == "refused"]
        assert sorted(refused) == sorted(f"denied: {reason}" for reason in reasons * 2)
        lines = audit(target)
        assert counted(lines) == len(reasons) * 2
        assert {line["HKSWITCH_REASON"] for line in lines} <= {*reasons}
        assert {(line["HKSWITCH_DECISION"], line["PRIORITY"]) for line in lines} == {("denied", "4")}
        assert all(line["MESSAGE"].isprintable() for line in lines)


def test_a_truncated_request_is_refused(target: Host, launchers: Launchers) -> None:
    for launcher in launchers:
        done = target.run(*launcher, user="hkswitch", input=START_CANARY[:20])
        assert [reply["type"] for reply in said(done)] == ["refused"]
        assert decisions(target) == [("denied", "", "")]


def test_an_unterminated_line_makes_the_helper_exit(target: Host, launchers: Launchers) -> None:
    for launcher in launchers:
        data = START_CANARY[:-2] + " " * 2 * LONGEST_REQUEST_BYTES + "}\n" + START_CANARY
        done = target.run(*launcher, user="hkswitch", input=data, check=False)
        assert '"accepted"' not in done.stdout
        if (
            launcher is not BY_SOCKET
        ):  # there, the reason goes to the journal, and unread input discards the hello
            assert (done.returncode, said(done)) == (64, [])
            assert done.stderr == "serviceswitch: a request line is longer than 16384 bytes; exiting\n"
        assert decisions(target) == [("denied", "", "")]


FLOOD: Final = """
import json, subprocess, sys, threading

MALFORMED, CANARY, OTHER = (argument.strip().encode() for argument in sys.argv[1:4])
LINES = (
    *(b'{"ping":1}', b'garbage', b'{"ping":2}', MALFORMED) * 24,
    CANARY, OTHER, b'\\xff\\xfe', b'[' * 2000,
)
ROUNDS = 1000

def resident_kib():
    return int(subprocess.run(["ps", "-o", "rss=", "-C", "serviceswitch"], capture_output=True).stdout)

helper = subprocess.Popen(sys.argv[4:], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
helper.stdout.readline()

def flood():
    for _ in range(ROUNDS):
        helper.stdin.write(b"\\n".join(LINES) + b"\\n")
    helper.stdin.flush()

threading.Thread(target=flood).start()
kinds, answered, after_a_quarter = {}, 0, 0
while answered < ROUNDS * len(LINES):
    kind = json.loads(helper.stdout.readline())["type"]
    kinds[kind] = kinds.get(kind, 0) + 1
    answered += kind != "accepted"
    if not after_a_quarter and answered == ROUNDS * len(LINES) // 4:
        after_a_quarter = resident_kib()
grown = resident_kib() / after_a_quarter
helper.stdin.close()
print(json.dumps({"grown": grown, "code": helper.wait(), "kinds": kinds}))
"""


@pytest.mark.parametrize("transport", ATTACK_TRANSPORTS)
def test_a_flood_of_100000_lines_grows_neither_memory_nor_journal(target: Host, transport: str) -> None:
    lines = (with_replaced('"id":1', '"id":1.0').decode(), START_CANARY, START_OTHER)
    done = target.run("python3", "-c", FLOOD, *lines, *START[transport], user="hkswitch", timeout_seconds=60)
    report = json.loads(done.stdout)
    assert report.pop("grown") < 1.25  # keeping 100 bytes of each line would add half
    done_count = report["kinds"]["finished"]  # some are refused as too many at once
    kinds = {"pong": 48_000, "refused": 52_000 - done_count, "accepted": done_count, "finished": done_count}
    assert report == {"code": 0, "kinds": kinds}
    assert 0 < done_count <= 1000
    audited = audit(target)
    assert len([line for line in audited if line.get("HKSWITCH_DECISION") == "allowed"]) == done_count
    assert len([line for line in audited if "HKSWITCH_OUTCOME" in line]) == done_count
    assert len([line for line in audited if line.get("HKSWITCH_DECISION") == "denied"]) < 60
    assert counted(audited) == 52_000 - done_count


OBSERVE: Final = """
import json, subprocess, sys, threading

LINES = 30_000

def resident_kib():
    return int(subprocess.run(["ps", "-o", "rss=", "-C", "serviceswitch"], capture_output=True).stdout)

helper = subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
helper.stdout.readline()

def flood():
    for epoch in range(1, LINES + 1):
        helper.stdin.write(b'{"observe":%d,"sampled":[]}\\n' % epoch)
    helper.stdin.flush()

threading.Thread(target=flood).start()
epoch, groups, report, after_a_quarter = 0, [], {}, 0
while (epoch, report.get("type")) != (LINES, "complete"):
    report = json.loads(helper.stdout.readline())
    if report.get("epoch", epoch) != epoch:
        epoch, groups = report["epoch"], []
    if report["type"] == "group":
        groups.append(report["group"])
    if not after_a_quarter and epoch >= LINES // 4:
        after_a_quarter = resident_kib()
grown = resident_kib() / after_a_quarter
helper.stdin.close()
print(json.dumps({"grown": grown, "code": helper.wait(), "groups": groups}))
"""


@pytest.mark.parametrize("transport", ATTACK_TRANSPORTS)
def test_observing_30000_times_does_not_grow_the_helper(target: Host, transport: str) -> None:
    done = target.run("python3", "-c", OBSERVE, *START[transport], user="hkswitch", timeout_seconds=60)
    report = json.loads(done.stdout)
    assert report.pop("grown") < 1.25
    assert report == {"code": 0, "groups": ["canary", "other", "slow"]}


# The config


@pytest.mark.parametrize("unit", ["../x", "/etc/passwd", "'canary --now'", "'%i'"])
def test_a_config_with_a_path_or_pattern_as_unit_is_refused(target: Host, unit: str) -> None:
    target.write(FILE, f"groups: {{other: {{units: [{unit}]}}}}\n")
    done = target.run(SERVE[0], "start", "other", check=False)
    target.write(FILE, CONFIG)
    assert (done.returncode, done.stdout) == (78, "")
    assert f"{FILE}:1:" in done.stderr
    assert decisions(target) == [("denied", "start", "other")]


def test_a_unit_that_looks_like_an_option_is_a_name(target: Host) -> None:
    """Such names exist, like -.mount. Units never become options, as no program gets them as arguments."""
    target.write(FILE, "groups: {other: {units: ['--force', '--no-block.service']}}\n")
    done = target.run(SERVE[0], "start", "other", check=False)
    target.write(FILE, CONFIG)
    _, line = audit(target)
    failed = "--force.service refused (Unit --force.service not found), --no-block.service refused"
    assert (done.returncode, failed in done.stderr, failed in line["HKSWITCH_RESULT"]) == (69, True, True)


# Descriptors


@pytest.mark.parametrize(
    ("redirect", "code"),
    [
        ("<&-", 64),
        ("</dev/null", 64),
        ("</dev/zero", 64),
        (">&-", 74),
        (">/dev/full", 74),
        ("<&- >&- 2>&-", 64),
        (">/dev/full 2>/dev/full", 74),
        ("2>&-", 0),
        ("2>/dev/full", 0),
    ],
)
def test_a_helper_with_closed_or_full_descriptors_does_nothing(
    target: Host, redirect: str, code: int, sudos: Sequence[str]
) -> None:
    for sudo in sudos:
        argv = ("sh", "-c", f'"$@" {redirect}', "sh", *by_sudo(sudo))
        done = target.run(*argv, user="hkswitch", input=START_CANARY, check=False)
        assert done.returncode == code
        assert "Traceback" not in done.stderr
        lines = decisions(target)
        may_be_read_first = code == 74 and lines == [DENIED_CANARY]
        assert may_be_read_first or lines == ([DENIED_CANARY] if code == 0 else [])


@pytest.mark.parametrize("redirect", [">&-", ">/dev/full"])
def test_the_helper_acts_only_after_it_has_written_accepted(
    target: Host, redirect: str, sudos: Sequence[str]
) -> None:
    target.run("systemctl", "stop", "other.service")
    for sudo in sudos:
        argv = ("sh", "-c", f'"$@" {redirect}', "sh", *by_sudo(sudo))
        with target.popen(*argv, user="hkswitch") as helper:
            os.write(_stdin_of(helper), START_OTHER.encode())
            assert helper.wait(PATIENCE_SECONDS) == 74
        results = [line for line in audit(target) if "HKSWITCH_OUTCOME" in line]
        assert [line for line in results if line["HKSWITCH_REASON"] != CUT_SHORT] == []
        assert target.show("other.service", "ActiveState") == "inactive"


GIVEN_UP_SECONDS: Final = DAEMON_READS_WITHIN_SECONDS + PATIENCE_SECONDS
"""The time within which a helper whose output is not read must exit."""

UNREAD: Final = """
exec 3> >(exec sleep 60)
reader=$!
yes '{"ping":1}' | head -n 20000 | "$@" >&3
code=${PIPESTATUS[2]}
kill $reader
exit $code
"""


def test_the_helper_exits_if_its_output_is_not_read(target: Host, sudos: Sequence[str]) -> None:
    def unread(sudo: str) -> int:
        argv = ("bash", "-c", UNREAD, "bash", *by_sudo(sudo))
        return target.run(*argv, user="hkswitch", check=False, timeout_seconds=GIVEN_UP_SECONDS).returncode

    with ThreadPoolExecutor() as pool:
        assert set(pool.map(unread, sudos)) == {74}


NON_READER: Final = f"""
{CONNECT}
try:
    while True:
        connection.sendall(b'{{"ping":1}}\\n' * 100)
except (ConnectionResetError, BrokenPipeError):
    print("it has ended")
"""


def test_the_helper_exits_if_a_connection_never_reads(target: Host) -> None:
    done = target.run("python3", "-c", NON_READER, user="hkswitch", timeout_seconds=GIVEN_UP_SECONDS)
    assert done.stdout == "it has ended\n"


def resident_kib(host: Host, process: str) -> int:
    """Return the resident memory of a process on the host; 0 if it has exited."""
    return int(host.run("ps", "-o", "rss=", "-p", process, check=False).stdout or 0)


def write_all(descriptor: int, data: bytes) -> None:
    """Write until the other end is closed."""
    with suppress(BrokenPipeError):
        while data:
            data = data[os.write(descriptor, data) :]


@pytest.mark.parametrize("transport", ATTACK_TRANSPORTS)
def test_a_client_that_observes_without_reading_is_dropped_and_harms_no_other(
    target: Host, transport: str
) -> None:
    data = b"".join(b'{"observe":%d,"sampled":[]}\n{"ping":1}\n' % epoch for epoch in range(1, 50_001))
    with session(target, *START[transport]) as non_reader, session(target, *START[transport]) as other:
        assert non_reader.process.stdout is not None
        before_kib, found_kib = resident_kib(target, non_reader.helper), [0]

        def has_ended() -> bool:
            found_kib.append(resident_kib(target, non_reader.helper))
            return not found_kib[-1] and other.answers()

        with ThreadPoolExecutor() as pool:
            flooding = pool.submit(write_all, _stdin_of(non_reader.process), data)
            try:
                eventually(lambda: resident_kib(target, non_reader.helper) and other.answers())
                other.send(START_OTHER)
                assert [other.reply()["type"], other.reply()["type"]] == ["accepted", "finished"]
                eventually(has_ended, timeout_seconds=GIVEN_UP_SECONDS)
            finally:
                non_reader.process.stdout.read()  # the relay of the socket exits after this
            flooding.result()
    assert max(found_kib) < before_kib * 1.25
    assert decisions(target) == [("allowed", "start", "other")]


@pytest.mark.parametrize("user", ["nobody", "daemon"])
def test_only_the_daemons_user_can_connect_to_the_socket(target: Host, user: str) -> None:
    refused = target.run(*OUTSIDE, user=user, input=START_CANARY, check=False)
    assert refused.stdout == ""
    assert "PermissionError" in refused.stderr


@pytest.mark.parametrize("user", ["nobody", "root"])
def test_the_helper_serves_no_other_user_even_if_the_socket_is_open_to_them(target: Host, user: str) -> None:
    """The helper does not rely on the socket's mode: it uses SO_PEERCRED."""
    target.run("chmod", "666", "/run/serviceswitch.sock")
    refused = target.run(*OUTSIDE, user=user, input=START_CANARY)
    target.run("chmod", "600", "/run/serviceswitch.sock")
    assert refused.stdout == ""
    eventually(lambda: not running(target, "serviceswitch"))
    (line,) = audit(target)
    assert (line["HKSWITCH_DECISION"], line["HKSWITCH_BY_UID"]) == ("denied", uid_of(target, user))
    assert line["HKSWITCH_REASON"] == "only the user hkswitch may connect"


# Signals


@pytest.fixture
def staying(target: Host) -> Iterator[None]:
    """Has sudo stay as the parent of the helper, as with an older version's rule."""
    with rule_for_sudo_rs(target):
        yield


@pytest.mark.usefixtures("staying")
@pytest.mark.parametrize("name", ["TERM", "HUP", "INT", "QUIT", "USR1", "KILL"])
def test_a_signal_to_sudo_stops_the_helper_but_not_its_audit(
    target: Host, name: str, sudos: Sequence[str]
) -> None:
    """A user may signal its own sudo; what the helper has begun still gets its audit entry."""
    for sudo in sudos:
        with session(target, *by_sudo(sudo)) as helper:
            helper.send(START_SLOW)
            assert helper.reply() == {"type": "accepted", "id": 1}
            eventually(lambda: target.show("slow.service", "ActiveState") == "activating")
            target.run("kill", f"-{name}", helper.parent, user="hkswitch")
            if name == "KILL":  # then the helper exits at the end of its input
                assert helper.answers()
                assert helper.process.stdin is not None
                helper.process.stdin.close()
            eventually(lambda: helper.helper not in running(target, "serviceswitch"))
        decision, result = audit(target)
        assert (decision["HKSWITCH_DECISION"], result["HKSWITCH_REASON"]) == ("allowed", CUT_SHORT)
        target.run("systemctl", "stop", "slow.service")


@pytest.mark.usefixtures("staying")
@pytest.mark.parametrize("name", ["PIPE", "TSTP", "CONT"])
def test_a_signal_that_does_not_stop_the_helper_changes_nothing(
    target: Host, name: str, sudos: Sequence[str]
) -> None:
    for sudo in sudos:
        with session(target, *by_sudo(sudo)) as helper:
            target.run("kill", f"-{name}", helper.parent, user="hkswitch")
            assert helper.answers()
            target.run("kill", "-CONT", helper.parent, user="hkswitch", check=False)


TERMINAL: Final = """
import json, os, pty, subprocess, sys, time

process, terminal = pty.fork()
if process == 0:
    helper = subprocess.Popen(sys.argv[3:], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    helper.stdout.readline()
    helper.stdin.write(sys.argv[2].encode())
    helper.stdin.flush()
    assert b"accepted" in helper.stdout.readline()
    deadline_seconds = time.monotonic() + 20
    while not os.path.exists("/sys/fs/cgroup/system.slice/slow.service"):  # this user may not ask systemd
        assert time.monotonic() < deadline_seconds
    import signal
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    os.write(1, b"begun\\n")
    helper.stdout.read()
    os._exit(0)
while b"begun" not in os.read(terminal, 1000):
    pass
os.write(terminal, {"interrupt": b"\\x03", "quit": b"\\x1c"}[sys.argv[1]])
os.waitpid(process, 0)
"""


@pytest.mark.parametrize("deed", ["interrupt", "quit"])
def test_a_terminal_stops_the_helper_but_not_its_audit(target: Host, deed: str, sudos: Sequence[str]) -> None:
    """The kernel sends a terminal's signals to the helper itself, although it runs as root."""
    for sudo in sudos:
        target.run("python3", "-c", TERMINAL, deed, START_SLOW, *by_sudo(sudo), user="hkswitch")
        eventually(lambda: not running(target, "serviceswitch"))
        decision, result = audit(target)
        assert (decision["HKSWITCH_DECISION"], result["HKSWITCH_REASON"]) == ("allowed", CUT_SHORT)
        target.run("systemctl", "stop", "slow.service")


# Requests whose caller has gone


def outcomes(host: Host) -> list[dict[str, str]]:
    return [line for line in audit(host) if "HKSWITCH_OUTCOME" in line]


def check_no_effect(host: Host, lines: Sequence[Mapping[str, str]]) -> None:
    """Check that the request had no effect, and that the audit log does not claim one."""
    *_, line = lines
    assert (line["HKSWITCH_GROUP"], line["PRIORITY"] in {"3", "4"}) == ("other", True)
    assert line["HKSWITCH_REASON"] in {DAEMON_HUNG_UP, CUT_SHORT, NOT_BEGUN}
    assert "HKSWITCH_RESULT" not in line
    assert host.show("other.service", "ActiveState") == "inactive"


def test_a_request_of_a_caller_that_has_gone_is_not_executed(target: Host, launchers: Launchers) -> None:
    target.run("systemctl", "stop", "other.service")
    for launcher in launchers:
        done = target.run(*launcher, user="hkswitch", input=START_OTHER)
        assert [reply["type"] for reply in said(done)] in ([], ["accepted"], ["accepted", "refused"])
        check_no_effect(target, audit(target))


@pytest.mark.parametrize("closed", ["input", "both"])
def test_a_suspended_helper_does_not_act_late(target: Host, closed: str, launchers: Launchers) -> None:
    """Its daemon has died meanwhile, or has replaced it."""
    target.run("systemctl", "stop", "other.service")
    for launcher in launchers:
        with session(target, *launcher) as helper:
            assert helper.answers()
            target.run("kill", "-STOP", helper.helper)
            helper.send(START_OTHER)
            assert helper.process.stdin is not None
            assert helper.process.stdout is not None
            helper.process.stdin.close()
            if closed == "both":
                helper.process.stdout.close()
            target.run("kill", "-CONT", helper.helper)
            target.run("kill", "-CONT", helper.parent)  # sudo, if it stays, stops together with its command
            eventually(lambda: helper.helper not in running(target, "serviceswitch"))
        check_no_effect(target, audit(target))


def test_a_suspended_helper_does_not_act_late_with_unread_input(target: Host, launchers: Launchers) -> None:
    """Lines behind the request, whose replies are not read, keep the helper from the end of its input."""
    target.run("systemctl", "stop", "other.service")
    for launcher in launchers:
        with session(target, *launcher) as helper:
            assert helper.answers()
            target.run("kill", "-STOP", helper.helper)
            helper.send(START_OTHER + '{"ping":1}\n' * 5900)  # a pipe holds these, but not their replies
            assert helper.process.stdin is not None
            helper.process.stdin.close()
            target.run("kill", "-CONT", helper.helper)
            target.run("kill", "-CONT", helper.parent)
            # One reply is `accepted`, without which the helper does not act.
            lines = eventually(lambda: outcomes(target) if helper.read_some(8192) else None)
            eventually(lambda: helper.drain() and helper.helper not in running(target, "serviceswitch"))
        check_no_effect(target, lines)
        assert lines[-1]["HKSWITCH_REASON"] == DAEMON_HUNG_UP


# Another config than the caller's

EDITED: Final = {
    "other units": ("{units: [other]}", "{units: [canary]}"),
    "a unit more": ("{units: [other]}", "{units: [other, canary]}"),
    "commands": (
        "{units: [other]}",
        f"{{commands: {{start: [/bin/touch, {RAN}], stop: [/bin/true], status: [/bin/false]}}}}",
    ),
    "a check": ("{units: [other]}", f"{{units: [other], check: [/bin/touch, {RAN}]}}"),
    "an action less": ("{units: [other]}", "{units: [other], actions: [start]}"),
    "another group": ("other: {units: [other]}", "other: {units: [canary]}\n  before: {units: [other]}"),
}
"""Root's changes to the config, which the daemon has not reloaded."""


@pytest.mark.parametrize("name", EDITED)
def test_a_request_with_an_outdated_token_is_denied(target: Host, name: str, launchers: Launchers) -> None:
    target.run("systemctl", "stop", "other.service")
    before, after = EDITED[name]
    for launcher in launchers:
        with session(target, *launcher) as helper:
            target.write(FILE, CONFIG.replace(before, after))
            helper.send(START_OTHER)
            refused = helper.reply()
            target.write(FILE, CONFIG)
        assert refused == {"type": "refused", "id": 1, "reason": f"denied: {CONFIG_CHANGED}"}
        (line,) = audit(target)
        assert (line["HKSWITCH_DECISION"], line["HKSWITCH_REASON"]) == ("denied", CONFIG_CHANGED)
        assert target.show("other.service", "ActiveState") == "inactive"


@pytest.mark.parametrize(
    "token",
    ["", TOKEN, TOKEN.upper(), "0" * 32, "*", str(json.loads(START_OTHER)["token"])[:-1]],
    ids=["none", "another group's", "upper case", "zeros", "pattern", "a part"],
)
def test_a_request_with_another_groups_token_is_denied(
    target: Host, token: str, launchers: Launchers
) -> None:
    target.run("systemctl", "stop", "other.service")
    forged = json.dumps({**json.loads(START_OTHER), "token": token}) + "\n"
    for launcher in launchers:
        done = target.run(*launcher, user="hkswitch", input=forged)
        assert said(done) == [{"type": "refused", "id": 1, "reason": f"denied: {CONFIG_CHANGED}"}]
        assert decisions(target) == [("denied", "start", "other")]
        assert target.show("other.service", "ActiveState") == "inactive"


# Limits


@pytest.mark.parametrize(
    "limit",
    [
        *(f"--nofile={number}" for number in (3, 8, 10, 11)),
        "--as=20000000",
        "--data=1000000",
        "--stack=8192",
        "--fsize=0",
        "--nproc=0",
        "--cpu=1",
    ],
)
def test_resource_limits_of_the_caller_allow_nothing(target: Host, limit: str, sudos: Sequence[str]) -> None:
    """Whether or not the helper starts within the limit, it refuses requests, and logs the refusals."""
    for sudo in sudos:
        argv = ("prlimit", limit, *by_sudo(sudo))
        done = target.run(*argv, user="hkswitch", input=START_CANARY, check=False)
        refused = '"type":"refused"' in done.stdout
        assert '"accepted"' not in done.stdout
        assert decisions(target) == ([DENIED_CANARY] if refused else [])


# Other helpers and processes


def test_two_helpers_receive_only_their_own_requests(target: Host, launchers: Launchers) -> None:
    for launcher in launchers:
        with session(target, *launcher) as one, session(target, *launcher) as other:
            one.send(START_SLOW)
            assert one.reply() == {"type": "accepted", "id": 1}
            assert other.answers()
            eventually(lambda: target.show("slow.service", "ActiveState") == "activating")
            other.send(request(target, 1, "stop", "slow"))
            assert other.reply() == {"type": "accepted", "id": 1}
            assert [one.reply()["units"][0]["job"], other.reply()["units"][0]["job"]] == ["canceled", "done"]
            assert one.answers()
        assert sorted(decisions(target)) == [("allowed", "start", "slow"), ("allowed", "stop", "slow")]


PRY: Final = """
import ctypes, os, sys

helper = int(sys.argv[1])
for name in ("environ", "mem", "maps", "fd/0", "cwd", "root", "exe", "syscall"):
    try:
        os.close(os.open(f"/proc/{helper}/{name}", os.O_RDONLY))
    except PermissionError:
        continue
    print("could read", name)
for number in (0, 1, 2, 9, 15, 18, 19):
    try:
        os.kill(helper, number)
    except PermissionError:
        continue
    print("could send", number)
libc = ctypes.CDLL(None, use_errno=True)
for request in (16, 0x4206):  # PTRACE_ATTACH and PTRACE_SEIZE
    if libc.ptrace(request, helper, 0, 0) == 0:
        print("could trace")
"""


@pytest.mark.parametrize("user", ["hkswitch", "nobody"])
def test_the_helper_cannot_be_inspected_signalled_or_traced(
    target: Host, user: str, launchers: Launchers
) -> None:
    for launcher in launchers:
        with session(target, *launcher) as helper:
            assert target.run("python3", "-c", PRY, helper.helper, user=user).stdout == ""
            assert helper.answers()


# The audit


def test_audit_entries_have_the_user_the_request_and_the_result(target: Host, launchers: Launchers) -> None:
    for launcher in launchers:
        target.run("systemctl", "stop", "other.service")
        with session(target, *launcher) as helper:
            helper.send(START_OTHER)
            assert [helper.reply()["type"], helper.reply()["type"]] == ["accepted", "finished"]
        decision, result = audit(target)
        assert int(result["HKSWITCH_DURATION_MS"]) < 5000
        uid = uid_of(target, "hkswitch")
        both = {
            "PRIORITY": "6",
            "HKSWITCH_ACTION": "start",
            "HKSWITCH_GROUP": "other",
            "HKSWITCH_REQUEST": "1",
            "HKSWITCH_BY_UID": uid,
        }
        assert {name: value for name, value in decision.items() if name in WANTED} == {
            **both,
            "MESSAGE": f"allowed for uid {uid}: start other",
            "HKSWITCH_DECISION": "allowed",
        }
        assert {name: value for name, value in result.items() if name in WANTED} == {
            **both,
            "MESSAGE": f"done for uid {uid}: start other: other.service done",
            "HKSWITCH_OUTCOME": "done",
            "HKSWITCH_RESULT": "other.service done",
        }


WANTED: Final = (
    *("MESSAGE", "PRIORITY", "HKSWITCH_ACTION", "HKSWITCH_GROUP", "HKSWITCH_DECISION", "HKSWITCH_REASON"),
    *("HKSWITCH_RESULT", "HKSWITCH_OUTCOME", "HKSWITCH_REQUEST", "HKSWITCH_BY_UID", "HKSWITCH_LOGINUID"),
)


def test_actions_of_root_are_audited_too(target: Host) -> None:
    target.run(SERVE[0], "start", "other")
    target.run(SERVE[0], "status", "other")
    assert target.run(SERVE[0], "start", "canary", check=False).returncode == 77
    lines = audit(target)
    assert [(line["HKSWITCH_GROUP"], line["HKSWITCH_BY_UID"], line["PRIORITY"]) for line in lines] == [
        ("other", "0", "6"),
        ("other", "0", "6"),
        ("canary", "0", "4"),
    ]


@contextmanager
def without_journal(host: Host, how: str) -> Iterator[None]:
    """Make journald accept nothing: stop it, or remove its socket."""
    moved = ("mv", "/run/systemd/journal/socket", "/run/systemd/journal/away")
    if how == "gone":
        host.run(*moved)
    else:
        host.run("systemctl", "kill", "--signal=STOP", "systemd-journald.service")
    try:
        yield
    finally:
        if how == "gone":
            host.run(*moved[:1], *reversed(moved[1:]))
        else:
            host.run("systemctl", "kill", "--signal=CONT", "systemd-journald.service")


def test_without_a_journal_the_helper_does_nothing_and_prints_why(target: Host) -> None:
    target.run("systemctl", "stop", "other.service")
    with without_journal(target, "gone"):
        done = target.run(SERVE[0], "start", "other", check=False)
    assert done.returncode == 69
    assert "serviceswitch: cannot record the decision in the journal: " in done.stderr
    assert target.show("other.service", "ActiveState") == "inactive"


@pytest.mark.parametrize("transport", ATTACK_TRANSPORTS)
def test_a_full_journal_blocks_nothing_and_gets_the_count_later(target: Host, transport: str) -> None:
    with session(target, *START[transport]) as helper:
        with without_journal(target, "stopped"):
            for _ in range(600):
                helper.send(START_CANARY)
                assert helper.reply() == REFUSED_CANARY
        assert helper.process.stdin is not None
        helper.process.stdin.close()  # it then waits for room, and the journal gets what was held back
        eventually(lambda: helper.helper not in running(target, "serviceswitch"))
    assert counted(audit(target)) == 600
