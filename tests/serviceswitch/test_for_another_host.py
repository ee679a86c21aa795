"""The helper of another host's bridge: it ends when that host is silent, and the audit names the bridge."""

import json
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Final

import pytest

from hkswitch.model.errors import Exit, Failure
from hkswitch.model.installation import DAEMON_UNIT, HELPER_SLICE
from hkswitch.model.unit_state import Action
from hkswitch.protocol.helper import Request, encode_message
from hkswitch.serviceswitch.audit import Caller, Decision, Denial, Effect, fields_of
from hkswitch.serviceswitch.own_unit import _scope
from hkswitch.serviceswitch.requester import MOST_FOR_A_BRIDGE, REMOTE_SILENCE_SECONDS, bridge_in, take_place
from tests.serviceswitch.journal import Journal, journal
from tests.support.helper import HelperProgram
from tests.support.waiting import PATIENCE_SECONDS, wait_until

__all__ = ["journal"]

SILENCE_SECONDS: Final = 0.5
START: Final = encode_message(Request(1, Action.START, "web", "0" * 16))
PING: Final = b'{"ping":1}\n'


@pytest.fixture
def program(tmp_path: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch) -> HelperProgram:
    """No bus is there: nothing that is asked for here may get so far."""
    monkeypatch.setenv("JOURNAL", journal.path)
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nonexistent")
    monkeypatch.setenv("REMOTE_SILENCE_SECONDS", str(SILENCE_SECONDS))
    program = HelperProgram(tmp_path / "config.yaml")
    program.config_file.write_text("groups: {web: {units: [httpd]}}\n")
    return program


@contextmanager
def serving(program: HelperProgram, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """A helper that has said hello."""
    pipe = subprocess.PIPE
    with subprocess.Popen(
        program.command("serve", *arguments), bufsize=0, stdin=pipe, stdout=pipe, stderr=pipe
    ) as process:
        assert json.loads(out(process).readline())["type"] == "hello"
        try:
            yield process
        finally:
            process.kill()


def out(process: subprocess.Popen[bytes]) -> IO[bytes]:
    assert process.stdout is not None
    return process.stdout


def send(process: subprocess.Popen[bytes], data: bytes) -> None:
    assert process.stdin is not None
    process.stdin.write(data)
    process.stdin.flush()


def pinged(process: subprocess.Popen[bytes]) -> bool:
    """Ping it; return whether it answers."""
    send(process, PING)
    return any(json.loads(line)["type"] == "pong" for line in out(process))


def ended(process: subprocess.Popen[bytes]) -> str:
    """Wait for its end, with its input still open; return its errors."""
    assert process.wait(PATIENCE_SECONDS) == Failure.exit_code
    assert process.stderr is not None
    return process.stderr.read().decode()


SENTENCE: Final = f"serviceswitch: the daemon was silent for {SILENCE_SECONDS} s; exiting\n"


def test_the_helper_of_another_hosts_bridge_ends_with_its_silence(program: HelperProgram) -> None:
    with serving(program, "--for", "attic") as process:
        assert pinged(process)
        assert ended(process) == SENTENCE


@pytest.mark.parametrize("sent", [b" ", PING[:-1], START[:-1]])
def test_a_line_that_comes_byte_by_byte_is_silence(program: HelperProgram, sent: bytes) -> None:
    """Each byte comes in time, and the line never ends."""

    def trickle(process: subprocess.Popen[bytes]) -> None:
        with suppress(BrokenPipeError):
            for number in range(10**6):
                send(process, sent[number : number + 1] or b" ")
                time.sleep(SILENCE_SECONDS / 20)

    with serving(program, "--for", "attic") as process:
        trickling = threading.Thread(target=trickle, args=[process])
        trickling.start()
        assert ended(process) == SENTENCE
        trickling.join()


def test_lines_keep_it_alive(program: HelperProgram) -> None:
    """For three times as long; on a machine that is too busy to send them in time, it is tried again."""
    longest_seconds = SILENCE_SECONDS
    for _ in range(9):
        with serving(program, "--for", "attic") as process, suppress(BrokenPipeError):
            longest_seconds, last_seconds = 0.0, time.monotonic()
            until_seconds = last_seconds + 3 * SILENCE_SECONDS
            while last_seconds < until_seconds and pinged(process):
                time.sleep(SILENCE_SECONDS / 20)
                longest_seconds = max(longest_seconds, time.monotonic() - last_seconds)
                last_seconds = time.monotonic()
            if last_seconds >= until_seconds:
                return
        assert longest_seconds > SILENCE_SECONDS / 2
    pytest.fail("this machine is too busy")


def test_what_a_network_delivers_after_the_silence_is_not_carried_out(
    program: HelperProgram, journal: Journal
) -> None:
    with serving(program, "--for", "attic") as process:
        wait_until(lambda: process.poll() is not None)
        with suppress(BrokenPipeError):
            send(process, START)
        assert [json.loads(line)["type"] for line in out(process)] == []
    assert journal.read_all() == []


def test_the_helper_of_this_hosts_daemon_waits_for_ever(program: HelperProgram) -> None:
    with serving(program) as local, serving(program, "--for", "attic") as remote:
        wait_until(lambda: remote.poll() is not None)
        assert local.poll() is None
        assert pinged(local)


def test_the_silence_is_longer_than_two_pings() -> None:
    assert REMOTE_SILENCE_SECONDS == 10


@pytest.mark.parametrize(
    ("arguments", "bridge"),
    [
        (["serve", "--for", "attic"], "attic"),
        (["serve", "--for", "a-1"], "a-1"),
        (["serve"], ""),
        ([], ""),
        (["start", "web"], ""),
        (["start", "--for", "attic"], ""),
        (["serve", "--for"], ""),
        (["serve", "--for", "attic", "more"], ""),
    ],
)
def test_the_bridge_is_the_one_after_for(arguments: list[str], bridge: str) -> None:
    assert bridge_in(arguments) == bridge


@pytest.mark.parametrize(
    "name",
    [
        *("", " ", "-attic", "--help", "a b", "attic\n", "\nattic", "a\x1b[2J", "a=b", "a\0b", "x" * 65),
        *("a/b", "..", "\u0430ttic", "a\u202eb", "\ud800", "a;b", "$(id)", "MESSAGE=x"),
    ],
    ids=repr,
)
def test_a_bridge_with_another_name_is_refused(name: str) -> None:
    with pytest.raises(Failure, match="invalid name of a bridge") as refused:
        bridge_in(["serve", "--for", name])
    assert refused.value.exit_code is Exit.USAGE
    assert str(refused.value).isprintable()


REMOTE: Final = Caller(uid=997, login_uid=None, bridge="attic")
DECISION: Final = Decision("start", "web", 7)


@pytest.mark.parametrize(
    ("what", "message"),
    [
        (DECISION, "allowed for bridge attic: start web"),
        (Effect(DECISION, "", (), 1), "done for bridge attic: start web"),
        (Effect(DECISION, "it broke", (), 1), "failed for bridge attic: start web: it broke"),
        (Denial("no", "start", "web"), "denied for bridge attic: start web: no"),
        (Denial("not a line of JSON"), "denied for bridge attic: malformed request: not a line of JSON"),
    ],
)
def test_each_line_of_the_audit_names_the_bridge(what: Decision | Denial | Effect, message: str) -> None:
    fields = fields_of(what, REMOTE)
    assert fields["MESSAGE"].startswith(message)
    assert fields["HKSWITCH_BRIDGE"] == "attic"
    assert fields["HKSWITCH_BY_UID"] == "997"
    assert "HKSWITCH_BRIDGE" not in fields_of(what, REMOTE._replace(bridge=""))


def test_a_bridge_has_few_helpers_at_the_same_time(tmp_path: Path) -> None:
    held = [take_place("homelab", str(tmp_path)) for _ in range(MOST_FOR_A_BRIDGE)]
    with pytest.raises(Failure, match="the bridge homelab has 8 connections; it may have no more"):
        take_place("homelab", str(tmp_path))
    held.append(take_place("annex", str(tmp_path)))
    os.close(held.pop(3))
    held.append(take_place("homelab", str(tmp_path)))
    with pytest.raises(Failure, match="it may have no more"):
        take_place("homelab", str(tmp_path))
    for descriptor in held:
        os.close(descriptor)


def test_a_denied_request_names_the_bridge_in_the_journal(program: HelperProgram, journal: Journal) -> None:
    with serving(program, "--for", "attic") as process:
        send(process, START)
        for line in out(process):
            if json.loads(line)["type"] == "refused":
                break
        else:
            pytest.fail("it did not answer")
    assert {line.get("HKSWITCH_BRIDGE") for line in journal.read_all()} == {"attic"}


@pytest.mark.parametrize("attempt", [0, 1])
def test_its_scope_does_not_stop_with_this_hosts_daemon(attempt: int) -> None:
    """hkswitch.service stops `serviceswitch-*.scope` when it starts and stops."""
    remote, local = _scope(attempt, is_remote=True), _scope(attempt, is_remote=False)
    suffix = f"{os.getpid()}{f'-{attempt}' if attempt else ''}.scope"
    assert (remote.name, local.name) == (f"hkswitch-remote-{suffix}", f"serviceswitch-{suffix}")
    properties = dict(remote.properties)
    assert properties["StopPropagatedFrom"] == properties["Before"] == ("as", [])
    assert dict(local.properties)["StopPropagatedFrom"] == ("as", [DAEMON_UNIT])
    assert remote.slice == local.slice == HELPER_SLICE
    assert remote.memory_bytes == local.memory_bytes > 0
