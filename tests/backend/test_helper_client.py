"""Helpers that are kept running: they end, hang, cannot be started, or are refused by sudo."""

import asyncio
import os
import resource
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import pytest_asyncio

from hkswitch.backend import helper_client, helper_session
from hkswitch.backend.helper_client import HelperClient
from hkswitch.backend.helper_session import End, HelperGone, HelperSession
from hkswitch.backend.helper_transport import SudoTransport
from hkswitch.backend.sudo_reasons import explain, hint
from hkswitch.protocol.helper import Update
from tests.support.host_with_helper import scripted
from tests.support.waiting import eventually

ANSWERING = "hello()\nuntil('never')"
SILENT_SECONDS = 0.3


@dataclass
class Heard:
    """A listener that keeps what it is told."""

    sessions: list[HelperSession] = field(default_factory=list)
    ends: list[End] = field(default_factory=list)
    on_end: Callable[[], None] = lambda: None

    def started(self, session: HelperSession) -> None:
        self.sessions.append(session)

    def reported(self, update: Update) -> None:
        raise AssertionError(update)

    def config_checked(self, problem: str) -> None:
        assert problem == ""

    def gone(self, end: End) -> None:
        self.ends.append(end)
        self.on_end()


@dataclass
class Kept:
    """A helper that is kept running."""

    client: HelperClient
    heard: Heard
    running: asyncio.Task[None]

    @classmethod
    def by(cls, command: list[str]) -> "Kept":
        client, heard = HelperClient(SudoTransport(command)), Heard()
        return cls(client, heard, asyncio.create_task(client.keep_running(heard)))

    async def end(self) -> None:
        self.running.cancel()
        await asyncio.gather(self.running, return_exceptions=True)


Keep = Callable[[list[str]], Kept]


@pytest_asyncio.fixture(loop_scope="module")
async def keep(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Keep]:
    """Keep helpers running until the test ends."""
    monkeypatch.setattr(helper_client, "BACK_OFF_SECONDS", (0.01,))
    monkeypatch.setattr(helper_session, "SILENCE_SECONDS", SILENT_SECONDS)
    all_kept: list[Kept] = []

    def begin(command: list[str]) -> Kept:
        all_kept.append(Kept.by(command))
        return all_kept[-1]

    yield begin
    for kept in all_kept:
        await kept.end()


async def test_a_helper_that_said_hello_is_there(keep: Keep) -> None:
    kept = keep(scripted(ANSWERING))
    assert kept.client.why_gone == "it has not been started yet"
    session = await kept.client.session(10)
    assert kept.heard.sessions == [session]
    assert kept.client.why_gone == ""
    assert kept.client.was_tried


async def test_before_the_first_helper_a_session_is_refused() -> None:
    with pytest.raises(HelperGone, match="it has not been started yet"):
        await HelperClient(SudoTransport(["true"])).session(0)


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("sys.exit(0)", "it gave no reason"),
        ("os.kill(os.getpid(), 9)", "it was killed by signal 9"),
        ("os.kill(os.getpid(), 15)", "it exited with status 143 and printed nothing"),
        ("sys.exit(143)", "it exited with status 143 and printed nothing"),
        ("sys.stderr.write('sudo: no\\n'); sys.stderr.close(); sys.exit(143)", "sudo: no"),
        ("sys.stderr.write('some reason\\n'); sys.exit(69)", "some reason"),
        ("print('not JSON', flush=True); asked()", "it sent an invalid line: not a line of JSON"),
        ("hello(protocol=1); asked()", "it is version 1 of hkswitch; run `sudo systemctl restart hkswitch`"),
        ("hello(protocol=4); asked()", "it is version 1 of hkswitch; run `sudo systemctl restart hkswitch`"),
        ("say('hello', version='0.1'); asked()", "it is version 0.1 of hkswitch"),
        ("hello(); asked(); sys.exit(0)", "it gave no reason"),
        ("hello(); asked(); time.sleep(60)", f"it did not answer within {SILENT_SECONDS} s"),
        ("hello(); asked(); print('{', end='', flush=True); time.sleep(60)", "it did not answer within"),
        ("hello(); print('x' * 300_000, flush=True); asked()", "it sent an invalid line: "),
        (
            "hello(); print('x' * 2_000_000, end='', flush=True); asked()",
            "it sent an invalid line: it is too long",
        ),
        ("sys.stderr.write('x' * 2_000_000); asked()", "it sent an invalid line: it is too long"),
    ],
)
async def test_a_helper_that_goes_wrong_is_gone_for_a_reason_and_started_again(
    keep: Keep, code: str, why: str, tmp_path: Path
) -> None:
    first = tmp_path / "first"
    wrong_once = f"if os.path.exists({str(first)!r}):\n    {ANSWERING.replace(chr(10), '; ')}\n"
    kept = keep(scripted(f"{wrong_once}open({str(first)!r}, 'w').close()\n{code}"))
    await eventually(lambda: kept.heard.ends)
    assert why in kept.heard.ends[0].why
    await kept.client.session(10)
    assert kept.client.why_gone == ""


async def test_a_helper_that_does_not_say_hello_is_given_up(
    keep: Keep, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(helper_session, "READY_WITHIN_SECONDS", 0.2)
    kept = keep(scripted("until('never')"))
    await eventually(lambda: kept.heard.ends)
    assert kept.heard.ends[0] == End("it was not ready within 0.2 s")
    assert kept.heard.sessions == []


@pytest.mark.parametrize(
    ("code", "was_silent"),
    [("hello(); asked(); time.sleep(60)", True), ("hello(); asked(); sys.exit(0)", False)],
)
async def test_a_helper_that_hangs_is_told_from_one_that_ended(
    keep: Keep, code: str, was_silent: bool
) -> None:
    kept = keep(scripted(code))
    await eventually(lambda: kept.heard.ends)
    assert kept.heard.ends[0].was_silent is was_silent


async def test_that_a_helper_is_gone_is_told_before_its_process_has_ended(keep: Keep) -> None:
    """Ending it takes a second at worst, and nothing of it is believed meanwhile."""
    kept = keep(scripted("hello(); asked(); time.sleep(60)"))
    await kept.client.session(10)
    ended_seconds, loop = [], asyncio.get_running_loop()
    kept.heard.on_end = lambda: ended_seconds.append(loop.time())
    await kept.heard.sessions[0].ended
    now_seconds = loop.time()
    await eventually(lambda: ended_seconds)
    assert ended_seconds[0] - now_seconds < 0.5


@pytest.mark.parametrize("line", ["say('pong', id=10**6)", "say('config', problem='')", "say('newer', x=1)"])
async def test_any_complete_line_counts_as_the_answer_to_a_ping(keep: Keep, line: str) -> None:
    code = f"hello()\nfor _ in range(4):\n    until('ping', answer=False); {line}\nsys.exit(0)"
    kept = keep(scripted(code))
    await eventually(lambda: kept.heard.ends)
    assert kept.heard.ends[0] == End("it gave no reason")  # and not before the last ping


async def test_the_same_trouble_is_logged_once(keep: Keep, caplog: pytest.LogCaptureFixture) -> None:
    kept = keep(scripted("sys.exit(0)"))
    await eventually(lambda: len(kept.heard.ends) >= 4)
    assert caplog.text.count("the helper exited unexpectedly (it gave no reason)") == 1


async def test_a_command_that_does_not_exist_is_said(keep: Keep, caplog: pytest.LogCaptureFixture) -> None:
    kept = keep(["/nonexistent/sudo"])
    await eventually(lambda: len(kept.heard.ends) >= 2)
    assert kept.client.why_gone == "/nonexistent/sudo: No such file or directory"
    assert caplog.text.count("/nonexistent/sudo: No such file or directory") == 1


@contextmanager
def descriptors_left(count: int) -> Iterator[None]:
    """Meanwhile, this process can open so many more files and no others."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken: list[int] = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        while True:
            try:
                taken.append(os.open(os.devnull, os.O_RDONLY))
            except OSError:
                break
        for descriptor in taken[:count]:
            os.close(descriptor)
        del taken[:count]
        yield
    finally:
        for descriptor in taken:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("left", range(9))
async def test_without_enough_descriptors_there_is_no_helper_until_there_are(keep: Keep, left: int) -> None:
    """One that can be started with so few is there at once: then it must simply work."""
    with descriptors_left(left):
        kept = keep(scripted(ANSWERING))
        await eventually(lambda: len(kept.heard.ends) >= 3 or kept.heard.sessions)
        assert not kept.running.done()
        if not kept.heard.sessions:
            assert "Too many open files" in kept.client.why_gone
            with pytest.raises(HelperGone, match="Too many open files"):
                await kept.client.session(0)
        assert kept.heard.sessions or left < 8
    await kept.client.session(10)


async def test_a_helper_that_ends_while_no_descriptor_is_left_is_replaced_later(keep: Keep) -> None:
    kept = keep(scripted(ANSWERING))
    session = await kept.client.session(10)
    with descriptors_left(0):
        session.end("the test ends it")
        await eventually(lambda: len(kept.heard.ends) >= 3)
        assert not kept.running.done()
    assert await kept.client.session(10) is not session


EXPIRED = "sudo: account validation failure, is your account locked?"
PASSWORD = "sudo: a password is required"


async def test_all_lines_of_a_refusal_are_logged_once_and_the_telling_one_is_why(
    keep: Keep, caplog: pytest.LogCaptureFixture
) -> None:
    refuse = f"sys.stderr.write({EXPIRED!r} + '\\n' + {PASSWORD!r} + '\\n'); sys.exit(1)"
    kept = keep(scripted(refuse))
    await eventually(lambda: len(kept.heard.ends) >= 3)
    assert kept.client.why_gone == EXPIRED
    assert kept.client.trouble() == f"{hint(EXPIRED)} ({EXPIRED})"
    assert [message for message in caplog.messages if "locked?" in message] == [EXPIRED, explain(EXPIRED)]
    assert caplog.messages.count(PASSWORD) == 1


async def test_words_that_are_not_known_have_no_remedy(keep: Keep) -> None:
    kept = keep(scripted("sys.stderr.write('sudo: the moon is full\\n'); sys.exit(1)"))
    await eventually(lambda: kept.heard.ends)
    assert kept.client.trouble() == kept.client.why_gone == "sudo: the moon is full"


async def test_what_sudo_complained_of_before_a_helper_was_ready_is_not_why_it_ended(keep: Keep) -> None:
    kept = keep(scripted("sys.stderr.write('sudo: no log\\n'); hello(); asked(); sys.exit(143)"))
    await eventually(lambda: kept.heard.ends)
    assert kept.heard.ends[0].why == "it exited with status 143 and printed nothing"


async def test_a_helper_that_is_late_is_gone_with_what_it_said(
    keep: Keep, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(helper_session, "READY_WITHIN_SECONDS", 1)
    kept = keep(scripted("sys.stderr.write('sudo: no such host\\n'); until('never')"))
    await eventually(lambda: kept.heard.ends)
    assert kept.heard.ends[0].why == "it was not ready within 1 s (sudo: no such host)"


async def test_a_wait_for_a_session_ends_when_one_is_there_or_its_time_is_over(
    keep: Keep, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    kept = keep(
        [sys.executable, "-c", f"import os, time\nwhile not os.path.exists({str(go)!r}): time.sleep(0.01)"]
    )
    with pytest.raises(HelperGone):
        await kept.client.session(0.05)
    go.touch()
    await eventually(lambda: kept.heard.ends)
