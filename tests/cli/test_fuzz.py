"""Whatever the daemon's user writes into the state file or answers, root's command line ends with a sentence.

No traceback, no character that a terminal obeys, and no waiting without end. The checksum of a state file is
right in most inputs: whoever writes the file can make it. `--long` tries 100,000 of each kind.
"""

import io
import json
import logging
import os
import random
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import Final

import pytest

from hkswitch.cli import actions, diagnostics, entry, main
from hkswitch.control import SOCKET_NAME, client
from hkswitch.doctor import account
from hkswitch.hap import state_file
from hkswitch.hap.state_format import BACKUP_NAME, FILE_NAME, Stored, digest, encode
from hkswitch.hap.taken_over import TakenAccessory, TakenOver, Texts
from hkswitch.model.errors import Exit
from hkswitch.model.unit_state import Action, ActiveState, GroupState, LoadState, UnitState
from hkswitch.protocol.alert_report import AlertReport
from hkswitch.protocol.control import (
    Controllers,
    ControlReply,
    DoneWithNote,
    ErrorReply,
    LastAlerts,
    Progress,
    SetupInfo,
    Status,
    encode_control_reply,
)
from hkswitch.protocol.report import (
    BridgeReport,
    GroupReport,
    LastAction,
    Outcome,
    PairedController,
    Report,
)
from tests.fuzz.changes import NUMBERS, Words, change_bytes, change_json, words_of
from tests.support.pairings import ADMIN, DEVICE_ID, OTHER_ADMIN, SETUP, USER, stored

INPUTS, INPUTS_LONG = 2_000, 100_000
HANG_SECONDS: Final = 20

SEED: Final = 2026


class Hangs(BaseException):
    """The command did not end; nothing catches this by accident."""


@dataclass(frozen=True)
class Ended:
    """What a command said, and how it ended."""

    code: int
    output: str
    errors: str
    logged: tuple[str, ...]


@dataclass
class Terminal:
    """The command line in this process, with its own descriptors for standard output and standard error."""

    output: int
    errors: int
    logged: list[str] = field(default_factory=list)

    def run(self, *arguments: str) -> Ended:
        self.logged.clear()
        before = sys.argv, sys.stdout, sys.stderr
        with descriptor(1, self.output), descriptor(2, self.errors):
            sys.argv = ["hkswitch", *arguments]
            sys.stdout = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
            sys.stderr = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="backslashreplace")
            signal.setitimer(signal.ITIMER_REAL, HANG_SECONDS)
            try:
                entry.run_program(main.commands)
            except SystemExit as ended:
                code = ended.code
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
                sys.stderr.flush()
                sys.argv, sys.stdout, sys.stderr = before
        assert isinstance(code, int | None)
        output, errors = (os.pread(each, 1 << 24, 0) for each in (self.output, self.errors))
        return Ended(code or 0, output.decode(errors="replace"), errors.decode(), tuple(self.logged))


@contextmanager
def descriptor(number: int, file: int) -> Iterator[None]:
    """Write to an empty file in place of a standard stream within the block."""
    os.ftruncate(file, 0)
    os.lseek(file, 0, os.SEEK_SET)
    before = os.dup(number)
    os.dup2(file, number)
    try:
        yield
    finally:
        os.dup2(before, number)
        os.close(before)


@pytest.fixture(scope="module")
def terminal() -> Iterator[Terminal]:
    def hang(_: int, __: FrameType | None) -> None:
        raise Hangs

    found = Terminal(os.memfd_create("output"), os.memfd_create("errors"))
    listener = logging.Handler()
    listener.emit = lambda record: found.logged.append(record.getMessage())  # type: ignore[method-assign]
    handler = signal.signal(signal.SIGALRM, hang)
    logging.getLogger("hkswitch").addHandler(listener)
    try:
        yield found
    finally:
        logging.getLogger("hkswitch").removeHandler(listener)
        signal.signal(signal.SIGALRM, handler)
        os.close(found.output)
        os.close(found.errors)


def is_as_documented(ended: Ended, *, is_binary: bool = False) -> bool:
    """Whether it was done; fails for anything but a few printable lines and a known exit code."""
    assert ended.code in set(Exit)
    if not is_binary:
        assert_printable(ended.output)
    assert_printable(ended.errors)
    for line in ended.logged:
        assert line.isprintable(), line
    assert "Traceback" not in ended.errors
    if ended.code not in {Exit.OK, Exit.NOT_ON, Exit.UNAVAILABLE}:
        assert ended.errors.startswith("hkswitch: ")
        assert ended.errors.count("\n") == 1
    assert len(ended.errors) < 20_000
    return ended.code == Exit.OK


def assert_printable(text: str) -> None:
    assert text.replace("\n", "").isprintable(), [c for c in text if not c.isprintable() and c != "\n"][:9]


def count(*, long: bool) -> int:
    return INPUTS_LONG if long else INPUTS


@contextmanager
def named(data: object) -> Iterator[None]:
    """A failure says for which input."""
    try:
        yield
    except BaseException as error:
        error.add_note(f"input: {data!r:.4000}")
        raise


# What is in the state folder

TEXTS: Final = Texts("Homebridge CAD8", "homebridge.io", "homebridge", "A1")
TAKEN: Final = TakenOver(8, TEXTS, {"web": TakenAccessory(7, TEXTS, "Web")})
STATES: Final = (
    encode(stored()),
    encode(stored(ADMIN)),
    encode(stored(ADMIN, OTHER_ADMIN, users=(USER,), failed_attempts=3)),
    encode(stored(failed_attempts=100)),
    encode(replace(stored(ADMIN), taken_over=TAKEN)),
    encode(Stored(SETUP, stored(ADMIN).accessory, 0, {"later": {"a": [1]}, "setup": {"flags": 2}})),
)

STATE_COMMANDS: Final = (
    ("pair",),
    ("pair", "--json"),
    ("pair", "--list"),
    ("pair", "--list", "--json"),
    ("pair", "--svg", "-"),
    ("pair", "--reset-attempts"),
    ("unpair",),
    ("unpair", ADMIN[:4]),
    ("unpair", "--all"),
)


def with_checksum(data: bytes) -> bytes:
    """The same with the checksum that belongs to it, as far as it is JSON."""
    try:
        body = json.loads(data)
        if isinstance(body, dict):
            body.pop("sha256", None)
            return json.dumps({**body, "sha256": digest(body)}).encode()
    except (ValueError, RecursionError):
        pass
    return data


def drawn(bases: Sequence[bytes], chance: random.Random, words: Words) -> bytes:
    """One of these with a few changes."""
    base = chance.choice(bases)
    if not chance.randrange(12):
        return base
    change = change_bytes if not chance.randrange(8) else change_json
    return change(base, chance.randbytes(chance.choice([5, 5, NUMBERS])), words)


def test_whatever_is_in_the_state_file_the_command_line_says_a_sentence_and_ends(
    tmp_path: Path, terminal: Terminal, monkeypatch: pytest.MonkeyPatch, long: bool
) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)
    chance, words = random.Random(SEED), words_of(STATES)
    outcomes: set[tuple[str, bool]] = set()
    whole = [(command, data) for command in STATE_COMMANDS for data in STATES]
    for _ in range(count(long=long)):
        command, data = chance.choice(STATE_COMMANDS), drawn(STATES, chance, words)
        if whole:  # each does what it is for at least once
            command, data = whole.pop()
        elif chance.randrange(8):
            data = with_checksum(data)
        with named((command, data)):
            for name in (FILE_NAME, BACKUP_NAME):
                (tmp_path / name).write_bytes(data)
            of_doctor(tmp_path)
            ended = terminal.run(*command, "--state-dir", str(tmp_path))
            outcomes.add((" ".join(command), is_as_documented(ended)))
    assert outcomes == {(" ".join(command), done) for command in STATE_COMMANDS for done in (True, False)}


def of_doctor(folder: Path) -> None:
    """What the doctor and the diagnostics make of it."""
    found, warnings = account.stored(folder)
    findings = [account.contents(folder, found, warnings)]
    if isinstance(found, Stored):
        findings.append(account.paired(found.controllers, folder, locked=found.setup_info.pairing_refused))
        assert found.setup.code not in diagnostics.Secrets.of(found).removed_from(f"code {found.setup.code}")
    for finding in findings:
        assert str(finding).isprintable(), finding


@pytest.mark.parametrize("name", [FILE_NAME, BACKUP_NAME, state_file.LOCK_NAME])
@pytest.mark.parametrize("kind", ["fifo", "link", "folder", "socket", "endless", "sequences", "foreign"])
def test_whatever_else_is_there_the_command_line_says_a_sentence_and_ends(
    tmp_path: Path, terminal: Terminal, name: str, kind: str
) -> None:
    with ExitStack() as stack:
        if name != FILE_NAME:
            (tmp_path / FILE_NAME).write_bytes(STATES[1])
        planted(tmp_path / name, kind, stack)
        for command in STATE_COMMANDS:
            with named(command):
                is_as_documented(terminal.run(*command, "--state-dir", str(tmp_path)))
        of_doctor(tmp_path)


def planted(path: Path, kind: str, stack: ExitStack) -> None:
    match kind:
        case "fifo":
            os.mkfifo(path)
        case "link":
            path.symlink_to("/etc/shadow")
        case "folder":
            path.mkdir()
        case "socket":
            stack.enter_context(socket.socket(socket.AF_UNIX)).bind(str(path))
        case "endless":
            path.write_bytes(b"")
            os.truncate(path, 1 << 40)
        case "sequences":
            path.write_bytes(b"\x1b]0;x\x07\x1b[2J\n" * 99)
        case "foreign":
            path.write_bytes(STATES[2])
            with suppress(PermissionError):
                os.chown(path, 4242, 4242)


# What a daemon answers

UP = UnitState(LoadState.LOADED, ActiveState.ACTIVE, "running")
BROKEN = UnitState(LoadState.LOADED, ActiveState.FAILED, "failed")
GROUPS = (
    GroupReport("web", "Web", GroupState.ON, 1_800_000_000, {"httpd.service": UP}),
    GroupReport(
        "files",
        "File Server",
        GroupState.STARTING,
        1_700_000_000,
        {"smb.service": UP, "nmb.service": BROKEN},
        LastAction(Action.START, ADMIN, 1_700_000_000, Outcome.FAILED, "nmb.service failed", 1234),
        why="it is so",
        trouble="nmb.service failed",
        trouble_since_unix_seconds=1_700_000_000,
        rule="cpu 97 % for 120 of 180 s",
    ),
    GroupReport("vm", "VM", None, 0, {}, LastAction(None, "user 0", 0), commands=True),
)
ALERTS = (
    AlertReport("web", "Web", "httpd.service failed", 1_800_000_000),
    AlertReport("vm", "", "VM", 1_700_000_000, 1_700_000_030),
)
PAIRED = (PairedController(ADMIN, admin=True, connections=1), PairedController(USER, admin=False))
BRIDGE = BridgeReport("Homelab", "1.2.3", 1_800_000_000, ("10.0.0.1",), 51826, PAIRED, "gone", "not in force")

ANSWERS: Final[tuple[ControlReply, ...]] = (
    *(Progress.BEGUN, Progress.DONE, DoneWithNote("worth telling"), Controllers(PAIRED), Controllers(())),
    *(
        ErrorReply(Exit.UNAVAILABLE, "start web failed: httpd.service failed"),
        ErrorReply(Exit.DENIED, "denied"),
    ),
    SetupInfo(SETUP.code, SETUP.payload, DEVICE_ID, paired=False, failed_attempts=0, pairing_refused=False),
    SetupInfo(SETUP.code, SETUP.payload, DEVICE_ID, paired=False, failed_attempts=100, pairing_refused=True),
    *(Status(Report(BRIDGE, GROUPS)), Status(Report(None, GROUPS[:1])), Status(Report(BRIDGE, ()))),
    LastAlerts(ALERTS),
)
LINES: Final = tuple(map(encode_control_reply, ANSWERS))

CONTROL_COMMANDS: Final = (
    ("status",),
    ("status", "web"),
    ("status", "--json"),
    ("alerts",),
    ("alerts", "web"),
    ("alerts", "--json"),
    ("start", "web"),
    ("start", "--no-wait", "web"),
    ("stop", "vm"),
    ("reload",),
    ("pair",),
    ("pair", "--json"),
    ("pair", "--list"),
    ("pair", "--list", "--json"),
    ("pair", "--png", "-"),
    ("pair", "--reset-attempts"),
    ("unpair", ADMIN[:4]),
    ("unpair", "--all"),
)
FITTING: Final = {"status": (9, 10, 11), "start": (0, 1, 2, 5), "stop": (0, 1, 2, 5), "reload": (1, 2, 6)} | {
    "alerts": (12,),
    "pair": (7, 7, 7, 8),
    "--list": (3, 4),
    "--reset-attempts": (1, 6),
    "unpair": (3,),
}
"""The answers that belong to a command, by their place; those of an option come first."""


@dataclass
class Pretender:
    """What listens, and says to the connections that come what was prepared for them."""

    listener: socket.socket
    lines: list[bytes] = field(default_factory=list)
    silent: bool = False

    def serve(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            with connection, suppress(OSError):
                connection.settimeout(1)
                connection.recv(4096)
                connection.sendall(self.lines.pop(0) if self.lines else b"")
                if self.silent:
                    connection.recv(1)


@pytest.fixture
def pretender(tmp_path: Path) -> Iterator[Pretender]:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / SOCKET_NAME))
        listener.listen(16)
        found = Pretender(listener)
        thread = threading.Thread(target=found.serve)
        thread.start()
        try:
            yield found
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(10)


def conversation(command: Sequence[str], chance: random.Random, words: Words) -> list[bytes]:
    """What is said to the connections of a command: often what belongs there, changed or not."""

    def line() -> bytes:
        fitting = FITTING.get(command[1] if len(command) > 1 else "") or FITTING[command[0]]
        base = LINES[chance.choice(fitting)] if chance.randrange(4) else chance.choice(LINES)
        return drawn((base,), chance, words) if chance.randrange(3) else base

    return [b"".join(line() for _ in range(chance.choice([1, 1, 2, 3]))) for _ in range(4)]


def test_whatever_a_daemon_answers_the_command_line_says_a_sentence_and_ends(
    tmp_path: Path,
    terminal: Terminal,
    pretender: Pretender,
    monkeypatch: pytest.MonkeyPatch,
    long: bool,
) -> None:
    monkeypatch.setattr(client, "REPLY_WITHIN_SECONDS", 0.05)
    monkeypatch.setattr(client, "CHECK_EVERY_SECONDS", 0.02)
    monkeypatch.setattr(client, "LONGEST_WAIT_SECONDS", 0.1)
    monkeypatch.setattr(actions, "DAEMON_BACK_WITHIN_SECONDS", 0)
    monkeypatch.setattr(actions, "_last_lines", lambda unit, _: [unit])
    chance, words = random.Random(SEED), words_of(LINES)
    outcomes: set[tuple[str, bool]] = set()
    rare: list[tuple[Sequence[str], list[bytes]]] = [
        (("unpair", ADMIN[:4]), [LINES[3], LINES[1], LINES[4]]),  # three right answers
        (("pair", "--reset-attempts"), [LINES[7], LINES[1]]),
    ]
    for _ in range(count(long=long)):
        command: Sequence[str] = chance.choice(CONTROL_COMMANDS)
        lines = conversation(command, chance, words)
        if rare:
            command, lines = rare.pop()
        with named((command, lines)):
            pretender.silent = not chance.randrange(100)
            pretender.lines = [*lines]
            ended = terminal.run(*command, "--state-dir", str(tmp_path))
            outcomes.add((" ".join(command), is_as_documented(ended, is_binary="--png" in command)))
    assert outcomes == {(" ".join(command), done) for command in CONTROL_COMMANDS for done in (True, False)}


# What would be found


BAD: Final[dict[str, Callable[[], None]]] = {
    "a control character": lambda: assert_printable("\x1b[2J"),
    "a mark of direction": lambda: assert_printable("a\u202eb"),
    "a traceback": lambda: _judge(Ended(69, "", "Traceback (most recent call last)\n", ())),
    "two sentences": lambda: _judge(Ended(65, "", "hkswitch: a\nb\n", ())),
    "a log line in two": lambda: _judge(Ended(0, "", "", ("a\nb",))),
    "another exit code": lambda: _judge(Ended(1, "", "hkswitch: a\n", ())),
}


def _judge(ended: Ended) -> None:
    is_as_documented(ended)


@pytest.mark.parametrize("bad", BAD)
def test_what_breaks_the_rule_is_found(bad: str) -> None:
    with pytest.raises(AssertionError):
        BAD[bad]()
