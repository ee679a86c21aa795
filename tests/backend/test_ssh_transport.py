"""The transport to another host: its pauses, its limits, and the end of its processes."""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import thread_time
from typing import Final

import pytest

from hkswitch.backend import child_pipes, child_process, host_log, paced_input, ssh_command, ssh_transport
from hkswitch.backend.attempts import APART_SECONDS, AT_ONCE, PER_SECOND, Attempts
from hkswitch.backend.child_pipes import ChildPipes, start
from hkswitch.backend.helper_session import HelperGone, HelperSession
from hkswitch.backend.helper_stderr import MOST_LOGGED, OF_ANOTHER_HOST_SECONDS, PERIOD_SECONDS, HelperStderr
from hkswitch.backend.host_log import HostLog
from hkswitch.backend.line_limit import LineLimit, Verdict
from hkswitch.backend.paced_input import PIECE_BYTES, Allowance, Pace, PacedInput
from hkswitch.backend.ssh_command import CONNECT_TIMEOUT_SECONDS
from hkswitch.backend.ssh_reasons import telling_line
from hkswitch.backend.ssh_transport import (
    AWAY_PAUSE_SECONDS,
    LONG_AWAY_ATTEMPTS,
    LONGEST_LINE_BYTES,
    MOST_VALUES,
    REFUSED_PAUSE_SECONDS,
    SshTransport,
    command_for,
)
from hkswitch.model.elsewhere import RemoteHost
from hkswitch.model.unit_state import ProbeResult
from hkswitch.protocol.helper import ProbeUpdate
from hkswitch.protocol.helper_dialect import SPOKEN
from tests.conftest import child_processes
from tests.support.host_with_helper import scripted
from tests.support.waiting import eventually
from tests.world import loop as virtual_time

NAS = RemoteHost("nas", "nas.lan")
REFUSED = "hkswitch-remote@nas.lan: Permission denied (publickey)"
CHANGED = "Host key for nas has changed and you have requested strict checking."
NO_SSH = "/usr/bin/ssh: No such file or directory"
AWAY = "ssh: connect to host nas.lan port 22: Connection refused"
SLOW = "Connection timed out during banner exchange"
MANY = LONG_AWAY_ATTEMPTS


@pytest.mark.parametrize(
    ("why", "attempt", "pause_seconds"),
    [
        (AWAY, 0, 0.5),
        (AWAY, MANY - 1, 0.5),
        (AWAY, MANY, 5),
        ("it did not answer within 4 s", 0, 0.5),
        ("something that no version of ssh says yet", MANY, 5),
        ("", 0, 0.5),
        (REFUSED, 0, REFUSED_PAUSE_SECONDS),
        (REFUSED, MANY, REFUSED_PAUSE_SECONDS),
        (CHANGED, 0, 2),
        (CHANGED, MANY, 5),
        (NO_SSH, 0, 1),
        (NO_SSH, 3, 10),
        (NO_SSH, MANY, 30),
    ],
)
def test_the_pause_until_the_next_attempt_depends_on_the_reason(
    why: str, attempt: int, pause_seconds: float
) -> None:
    assert SshTransport(NAS).pause_seconds(why, attempt) == pause_seconds


def test_the_remedy_for_a_changed_key_is_a_whole_command() -> None:
    transport = SshTransport(NAS)
    assert "`sudo hkswitch host add nas nas.lan`" in transport.hint(CHANGED)
    assert "`sudo hkswitch host add nas nas.lan`" in transport.explain(CHANGED)


def test_a_host_that_ends_each_connection_is_tried_less_and_less_often() -> None:
    transport = SshTransport(NAS)
    closed = "Connection closed by 192.168.1.4 port 22"
    pauses = [transport.pause_seconds(closed, MANY) for _ in range(8)]
    assert pauses == [0.5, 1, 2, 5, 10, 30, 30, 30]
    assert transport.pause_seconds(AWAY, 0) == AWAY_PAUSE_SECONDS
    assert transport.pause_seconds(closed, 0) == AWAY_PAUSE_SECONDS


def test_attempts_of_many_hosts_begin_one_after_the_other_and_get_rarer() -> None:
    async def fifty() -> list[tuple[float, float]]:
        attempts, loop = Attempts(), asyncio.get_running_loop()

        async def one() -> tuple[float, float]:
            pause_seconds = await attempts.turn()
            return loop.time(), pause_seconds

        return await asyncio.gather(*(one() for _ in range(50)))

    begun, pauses = zip(*virtual_time.run(fifty()), strict=True)
    assert begun == pytest.approx([number * APART_SECONDS for number in range(50)])
    assert pauses == pytest.approx([0] * AT_ONCE + [n / PER_SECOND for n in range(1, 51 - AT_ONCE)])


def test_attempts_of_a_dozen_hosts_are_not_slowed_down() -> None:
    async def twelve() -> float:
        attempts, longest = Attempts(), 0.0
        for _ in range(100):
            longest = max(longest, *[await attempts.turn() for _ in range(12)])
            await asyncio.sleep(CONNECT_TIMEOUT_SECONDS + AWAY_PAUSE_SECONDS)
        return longest

    assert virtual_time.run(twelve()) <= AWAY_PAUSE_SECONDS


def test_a_host_that_ended_good_connections_is_tried_again_soon() -> None:
    """Those of each night's restart are not in a row; `attempt` is 0 after a good connection."""
    transport, closed = SshTransport(NAS), "Connection to nas.lan closed by remote host."
    in_a_row = [transport.pause_seconds(closed, attempt) for attempt in range(7)]
    assert in_a_row == [0.5, 1, 2, 5, 10, 30, 30]
    assert [transport.pause_seconds(closed, 0) for _ in range(7)] == [0.5] * 7
    assert transport.pause_seconds(closed, 1) == 1


@pytest.mark.parametrize(("says", "pause_seconds"), [("hello", 0.5), ("nothing", 30)])
async def test_a_host_that_ends_connections_to_its_helper_is_tried_again_soon(
    says: str, pause_seconds: float
) -> None:
    closed = "Connection to nas.lan closed by remote host."
    hello = {"hello": b'{"type":"hello","version":"0.3.0","protocol":3}\n', "nothing": b""}[says]

    def command(*_: object) -> Sequence[str]:
        return scripted(f"os.write(1, {hello!r}); os.write(2, {closed.encode()!r} + b'\\n'); sys.exit(255)")

    transport = SshTransport(NAS, command)
    for attempt in range(6):
        session = session_of(transport)
        connection = await transport.open(session)
        await session.ended
        await connection.close()
        paused_seconds = transport.pause_seconds(closed, attempt)
    assert paused_seconds == pause_seconds


async def test_a_host_is_tried_again_no_sooner_than_the_attempts_of_all_allow() -> None:
    attempts = Attempts()
    for _ in range(AT_ONCE + 2 * PER_SECOND):
        await attempts.turn()
    nothing = ("true",)
    transport = SshTransport(NAS, lambda *_: nothing, attempts)
    session = HelperSession(lambda _: None, lambda _: None)
    pipes = await transport.open(session)
    await session.ended
    await pipes.close()
    assert AWAY_PAUSE_SECONDS < transport.pause_seconds(AWAY, 0) < 3
    assert transport.pause_seconds(REFUSED, 0) == REFUSED_PAUSE_SECONDS


def test_a_refused_key_is_tried_again_every_ten_minutes_only() -> None:
    assert REFUSED_PAUSE_SECONDS == 10 * 60


@dataclass
class Asked:
    """The commands that a transport has asked for; none of them exists."""

    limits_seconds: list[int] = field(default_factory=list)

    def __call__(self, host: RemoteHost, connect_timeout_seconds: int) -> Sequence[str]:
        assert host == NAS
        self.limits_seconds.append(connect_timeout_seconds)
        return (ssh_command.SSH + "-that-is-not-there",)


def session_of(transport: SshTransport) -> HelperSession:
    return HelperSession(lambda _: None, lambda _: None, HelperStderr("nas"), transport.terms)


@pytest.mark.parametrize(
    ("whys", "limits_seconds"),
    [
        ([], [2]),
        ([SLOW], [2, 20]),
        ([SLOW, SLOW], [2, 20, 20]),
        ([SLOW, AWAY], [2, 20, 2]),
        ([AWAY], [2, 2]),
        (["ssh: connect to host nas.lan port 22: Connection timed out"], [2, 2]),
    ],
)
async def test_only_after_a_slow_handshake_the_next_one_may_take_longer(
    whys: list[str], limits_seconds: list[int]
) -> None:
    asked = Asked()
    transport = SshTransport(NAS, asked)
    for why in (*whys, ""):
        with pytest.raises(HelperGone, match="No such file"):
            await transport.open(session_of(transport))
        transport.pause_seconds(why, 0)
    assert asked.limits_seconds == limits_seconds


@pytest.mark.parametrize(("exists", "config"), [(True, True), (False, False)])
def test_the_settings_of_root_count_if_there_are_any(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, exists: bool, config: bool
) -> None:
    file = tmp_path / "ssh_config"
    if exists:
        file.touch()
    monkeypatch.setattr(ssh_transport, "SSH_CONFIG", file)
    command = command_for(NAS, 7)
    assert (command[command.index("-F") + 1] != "none") is config
    assert "ConnectTimeout=7" in command
    assert command[-2:] == ("--", "nas.lan")


def test_the_terms_of_another_host_are_stricter_than_those_of_this_machine() -> None:
    terms = SshTransport(NAS).terms
    assert terms.host == "nas"
    assert terms.protocols == SPOKEN
    assert terms.silence_seconds * 2 < 10
    assert terms.sample_interval_seconds > 0


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"x" * (LONGEST_LINE_BYTES + 1), "it is too long"),
        (b"x" * LONGEST_LINE_BYTES + b"x\n", "it is too long"),
        (b"[" + b"1," * (MOST_VALUES + 1) + b"1]\n", "it has too many values"),
        (b"[]\n", "not a JSON object"),
        (b"\xff\n", "not a line of JSON"),
        (b"[" * 100_000 + b"\n", "not a line of JSON"),
        (b'{"type":"group","epoch":1,"group":"\\u001b[2J","token":"t","units":[]}\n', "printable ASCII"),
        (b'{"type":"group","epoch":1,"group":"w\\u0435b","token":"t","units":[]}\n', "printable ASCII"),
    ],
)
async def test_a_line_that_is_refused_ends_the_session(line: bytes, why: str) -> None:
    session = session_of(SshTransport(NAS))
    session.begin(lambda _: None)
    session.receive(line)
    assert why in session.ended.result().why


@pytest.mark.parametrize(
    "line",
    [b'{"type":"new","x":"' + b"x" * (LONGEST_LINE_BYTES - 40) + b'"}\n', b'{"type":"new"}\n'],
)
@pytest.mark.parametrize("size", [1, 7, 10**9])
async def test_a_line_is_the_same_in_whatever_pieces_it_comes(line: bytes, size: int) -> None:
    session = session_of(SshTransport(NAS))
    session.begin(lambda _: None)
    for start_at in range(0, len(line), size):
        session.receive(line[start_at : start_at + size])
    assert not session.ended.done()
    assert session._lines == 1


# Processes


async def started(code: str, pace: Pace | None = ssh_transport.PACE) -> tuple[HelperSession, ChildPipes]:
    session = session_of(SshTransport(NAS))
    return session, await start(scripted(code), ChildPipes(session, telling_line, pace))


@pytest.mark.parametrize(
    ("code", "why"),
    [
        (f"os.write(2, b'{REFUSED}\\n'); sys.exit(255)", REFUSED),
        ("sys.exit(255)", "it exited with status 255 and printed nothing"),
        ("os.kill(os.getpid(), 9)", "it was killed by signal 9"),
        ("os.kill(os.getpid(), 15)", "it exited with status 143 and printed nothing"),
        ("os.close(1); os.close(2); sys.stdin.read()", "it gave no reason"),
        ("os.write(2, b'\\x1b[2J\\n'); sys.exit(1)", "?[2J"),
    ],
)
async def test_the_end_of_ssh_is_told_with_its_reason(code: str, why: str) -> None:
    session, pipes = await started(code)
    assert (await session.ended).why == why
    await pipes.close()


@pytest.mark.parametrize("code", ["os.write(1, b'\\n' * 65536)", "os.write(2, b'x\\n' * 9999)"])
async def test_a_flood_that_has_ended_is_a_connection_no_longer(code: str) -> None:
    """To process all of it at the pace that is allowed would take hours."""
    slow = Pace(burst_bytes=10, bytes_per_second=1, burst_lines=1, lines_per_second=1)
    session, pipes = await started(code, slow)
    await session.ended
    await pipes.close()


async def test_what_comes_after_the_connection_was_closed_is_dropped() -> None:
    session, pipes = await started('while True: os.write(1, b\'{"type":"new"}\\n\' * 999)')
    await eventually(lambda: session._lines)
    await pipes.close()
    lines = session._lines
    await asyncio.sleep(0)
    assert session._lines == lines


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (FileNotFoundError(2, "No such file or directory"), "No such file or directory"),
        (BlockingIOError(11, "Resource temporarily unavailable"), "Resource temporarily unavailable"),
        (OSError(24, "Too many open files"), "Too many open files"),
        (MemoryError(), "out of memory"),
    ],
)
async def test_ssh_that_cannot_be_started_is_a_reason_and_no_crash(
    monkeypatch: pytest.MonkeyPatch, error: Exception, why: str
) -> None:
    def fail(*_: object, **_options: object) -> None:
        raise error

    monkeypatch.setattr(child_process, "spawn", fail)
    with pytest.raises(HelperGone, match=why):
        await started("")


@pytest.mark.parametrize("turns", range(1, 7))
async def test_a_connection_that_is_closed_while_it_begins_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, turns: int
) -> None:
    """The rule that no process stays behind is in tests/conftest.py."""
    broken: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: broken.append(context))
    monkeypatch.setattr(child_pipes, "END_WITHIN_SECONDS", 0)
    children = child_processes()
    opening = asyncio.create_task(started("sys.stdin.read()"))
    for _ in range(turns):
        await asyncio.sleep(0)
    opening.cancel()
    await asyncio.gather(opening, return_exceptions=True)
    assert opening.cancelled()
    await eventually(lambda: not child_processes() - children)
    await asyncio.sleep(0)  # a timer without delay
    assert not broken


JUMPING: Final = """
import subprocess
jump = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], stdin=subprocess.DEVNULL,
    stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
os.write(2, b"%d\\n" % jump.pid)
"""
"""An ssh with a process for the connection to a jump host, which notices no end."""


@pytest.mark.parametrize(
    "end", ["sys.stdin.read(); time.sleep(600)", "os.kill(os.getpid(), 9)", "sys.exit(255)"]
)
async def test_the_process_for_a_jump_host_ends_with_the_connection(end: str) -> None:
    def command(*_: object) -> Sequence[str]:
        return scripted(f"import time{JUMPING}{end}")

    transport = SshTransport(NAS, command)
    session = session_of(transport)
    connection = await transport.open(session)
    await eventually(lambda: session.stderr.lines)
    jump = int(session.stderr.lines[0])
    await connection.close()
    await eventually(lambda: not is_running(jump))


def is_running(pid: int) -> bool:
    try:
        return " Z " not in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False


# Paced input


@dataclass
class Paced:
    """What was processed, in which order, and whether anything is read."""

    pace: Pace
    taken: list[tuple[int, bytes]] = field(default_factory=list)
    reads: list[bool] = field(default_factory=list)
    busy_seconds: float = 0.0
    input: PacedInput = field(init=False)

    def __post_init__(self) -> None:
        self.input = PacedInput(self.take, lambda *, on: self.reads.append(on), self.pace)

    def take(self, fd: int, data: bytes) -> None:
        self.taken.append((fd, data))
        until_seconds = thread_time() + self.busy_seconds
        while thread_time() < until_seconds:
            pass

    async def until_read(self) -> None:
        await eventually(lambda: self.reads[-1:] == [True])


FAST = Pace(10**9, 10**9, 10**6, 10**6, 10**6, 10**6)


@pytest.mark.parametrize(
    ("data", "pieces"),
    [
        (b"a\nb\n", [b"a\n", b"b\n"]),
        (b"a\nb", [b"a\n", b"b"]),
        (b"\n\n", [b"\n", b"\n"]),
        (b"x" * (PIECE_BYTES + 1), [b"x" * PIECE_BYTES, b"x"]),
        (b"x" * PIECE_BYTES + b"\n", [b"x" * PIECE_BYTES, b"\n"]),
        (b"x" * (PIECE_BYTES - 1) + b"\n\n", [b"x" * (PIECE_BYTES - 1) + b"\n", b"\n"]),
    ],
)
async def test_input_is_processed_line_by_line_and_nothing_is_read_meanwhile(
    data: bytes, pieces: list[bytes]
) -> None:
    paced = Paced(FAST)
    paced.input.feed(1, data)
    assert (paced.reads, paced.taken) == ([False], [])
    await paced.until_read()
    assert paced.taken == [(1, piece) for piece in pieces]
    assert paced.reads == [False, True]
    assert paced.input.is_empty


async def test_output_and_errors_keep_their_order() -> None:
    paced = Paced(FAST)
    paced.input.feed(1, b"a\nb\n")
    paced.input.feed(2, b"c\n")
    paced.input.feed(1, b"d")
    await paced.until_read()
    assert paced.taken == [(1, b"a\n"), (1, b"b\n"), (2, b"c\n"), (1, b"d")]


async def test_others_have_their_turn_after_each_message_that_takes_long() -> None:
    paced, turns = Paced(FAST, busy_seconds=2 * paced_input.TURN_SECONDS), []
    paced.input.feed(1, b"x\n" * 10)
    while not paced.input.is_empty:
        before = len(paced.taken)
        await asyncio.sleep(0)
        turns.append(len(paced.taken) - before)
    assert max(turns) == 1
    await paced.until_read()


async def test_who_waits_until_everything_is_processed_is_told_then() -> None:
    paced, told = Paced(FAST), list[int]()
    paced.input.feed(1, b"x\n" * 100)
    paced.input.when_empty(lambda: told.append(len(paced.taken)))
    await paced.until_read()
    assert told == [100]


async def test_after_a_stop_nothing_is_processed_or_told() -> None:
    paced = Paced(FAST)
    paced.input.when_empty(lambda: paced.taken.append((0, b"told")))
    paced.input.feed(1, b"x\n" * 100)
    paced.input.stop()
    paced.input.feed(1, b"y\n")
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert paced.taken == []


@pytest.mark.parametrize(
    ("pace", "data", "most"),
    [
        (Pace(10, 1, 999, 999), b"12345\n" * 99, 2),
        (Pace(999, 999, 3, 1), b"\n" * 99, 4),
        (Pace(10**9, 10**9, 10**6, 10**6, 0.0005, 0.0001), b"\n" * 99, 35),
    ],
    ids=["bytes", "lines", "work"],
)
async def test_what_exceeds_the_pace_waits(pace: Pace, data: bytes, most: int) -> None:
    paced = Paced(pace, busy_seconds=0.0001)
    paced.input.feed(1, data)
    await eventually(lambda: paced.taken)
    for _ in range(20):
        await asyncio.sleep(0)
    assert 1 <= len(paced.taken) <= most
    assert paced.reads == [False]
    paced.input.stop()


@pytest.mark.parametrize(
    ("spent", "waits"),
    [
        ([(10, 0)], [0]),
        ([(11, 0)], [0.5]),
        ([(10, 0), (1, 0)], [0, 0.5]),
        ([(10, 0), (1, 1)], [0, 0]),
        ([(30, 0), (0, 5)], [10, 5]),
        ([(10, 0), (10, 99)], [0, 0]),
        ([(10, 0), (12, 99)], [0, 1]),
    ],
)
def test_an_allowance_grows_with_time_up_to_its_limit(
    spent: list[tuple[float, float]], waits: list[float]
) -> None:
    allowance = Allowance(10, 2)
    assert [allowance.spend(amount, now_seconds) for amount, now_seconds in spent] == waits


# Log


def verdicts(limit: LineLimit, now_seconds: float, lines: int) -> list[Verdict]:
    return [limit.judge(now_seconds) for _ in range(lines)]


def test_of_the_lines_in_a_period_the_last_one_says_that_others_are_left_out() -> None:
    limit = LineLimit(3, 10)
    expected = [Verdict.LOG, Verdict.LOG, Verdict.LOG_AS_LAST, Verdict.LEAVE_OUT, Verdict.LEAVE_OUT]
    assert verdicts(limit, 0, 5) == expected
    assert verdicts(limit, 9.9, 1) == [Verdict.LEAVE_OUT]
    assert verdicts(limit, 10, 5) == expected


@pytest.mark.parametrize("host", ["nas", ""])
def test_a_host_has_a_limited_number_of_lines_whatever_they_are_about(
    host: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO, "hkswitch.backend.host_log")
    monkeypatch.setattr(host_log, "MOST_LINES", 6)
    log, gone = HostLog(host), {"web": ProbeUpdate(ProbeResult.UNAVAILABLE, "no")}
    prefix = "host nas: " if host else ""
    for number in range(1000):
        log.bus("systemd is gone")
        log.bus("")
        log.config(f"wrong {number}")
        log.config("")
        log.probes(gone, {})
    assert caplog.messages == [
        f"{prefix}systemd is gone; switches do not respond until it is available again",
        f"{prefix}systemd is available again",
        f"{prefix}the configuration on disk was rejected, and actions are refused: wrong 0",
        f"{prefix}the configuration on disk is valid again",
        f"{prefix}web: unavailable: no",
        f"{prefix}systemd is gone; switches do not respond until it is available again",
        f"{prefix}6 lines within ten minutes: the next ones are left out; see `hkswitch status`",
    ]
    caplog.set_level(logging.NOTSET, "hkswitch.backend.host_log")


@pytest.mark.parametrize(("host", "period_seconds"), [("", PERIOD_SECONDS), ("nas", OF_ANOTHER_HOST_SECONDS)])
def test_another_hosts_errors_have_a_longer_period(
    host: str, period_seconds: float, caplog: pytest.LogCaptureFixture
) -> None:
    stderr = HelperStderr(host)
    for number in range(2 * MOST_LOGGED):
        stderr.take(f"line {number}", 0, again=True)
    stderr.take("still left out", period_seconds - 0.1, again=True)
    assert len(caplog.messages) == MOST_LOGGED
    stderr.take("later", period_seconds, again=True)
    prefix = "host nas: " if host else ""
    assert caplog.messages[MOST_LOGGED:] == [
        f"{prefix}suppressed lines of the helper's standard error: {MOST_LOGGED + 1}",
        f"{prefix}later",
    ]
