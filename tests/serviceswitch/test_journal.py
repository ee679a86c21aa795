"""journald's socket: what has been taken is known, and what is full or away holds nothing up."""

import asyncio
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hkswitch.serviceswitch.journal import MOST_QUEUED_LINES, READ_BY_JOURNALD_WITHIN_SECONDS, NotRecorded
from hkswitch.serviceswitch.journal import Journal as RealJournal
from tests.serviceswitch.journal import Journal, journal, stopped_journal

__all__ = ["journal", "stopped_journal"]


def line(text: str) -> dict[str, str]:
    return {"MESSAGE": text}


def messages(journal: Journal) -> list[str]:
    return [fields["MESSAGE"] for fields in journal.read_all() if "MESSAGE" in fields]


async def test_a_recorded_line_has_been_read(journal: Journal) -> None:
    with RealJournal(journal.path) as sending:
        for number in range(100):
            await sending.record(line(str(number)))
            assert sending._is_empty()
    assert messages(journal) == [*map(str, range(100))]


async def test_what_has_been_read_is_noticed_before_the_next_check(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hkswitch.serviceswitch.journal._READ_POLL_SECONDS", 0.5)
    with RealJournal(journal.path) as sending:
        began_seconds = time.monotonic()
        for number in range(20):
            await sending.record(line(str(number)))
    assert time.monotonic() - began_seconds < 20 * 0.5 / 2


async def test_many_are_recorded_side_by_side(journal: Journal) -> None:
    with RealJournal(journal.path) as sending:
        await asyncio.gather(*(sending.record(line(str(number))) for number in range(500)))
    assert sorted(map(int, messages(journal))) == [*range(500)]


@pytest.mark.parametrize("full", [False, True])
async def test_a_line_that_nobody_reads_is_not_recorded_and_the_loop_goes_on(
    stopped_journal: Journal, *, full: bool
) -> None:
    if full:
        fill(stopped_journal)
    loop = asyncio.get_running_loop()
    with RealJournal(stopped_journal.path) as sending:
        began_seconds, longest_seconds = loop.time(), 0.0
        recording = asyncio.ensure_future(sending.record(line("start")))
        while not recording.done():
            before_seconds = loop.time()
            await asyncio.sleep(0)
            longest_seconds = max(longest_seconds, loop.time() - before_seconds)
        took_seconds = loop.time() - began_seconds
        with pytest.raises(NotRecorded, match="journald did not read it within 1 s"):
            await recording
        stopped_journal.go_on()
    assert READ_BY_JOURNALD_WITHIN_SECONDS <= took_seconds < READ_BY_JOURNALD_WITHIN_SECONDS + 1
    assert longest_seconds < 0.5


async def test_a_line_that_is_read_in_time_is_recorded_by_a_journal_that_was_full(
    stopped_journal: Journal,
) -> None:
    fill(stopped_journal)
    with RealJournal(stopped_journal.path) as sending:
        sending.send(line("before"))
        recording = asyncio.ensure_future(sending.record(line("start")))
        await asyncio.sleep(0.1)
        assert not recording.done()
        stopped_journal.go_on()
        await recording
        assert messages(stopped_journal) == ["before", "start"]


async def test_nothing_is_recorded_without_a_journal(tmp_path: Path) -> None:
    with (
        RealJournal(str(tmp_path / "none")) as sending,
        pytest.raises(NotRecorded, match="none: No such file or directory"),
    ):
        await sending.record(line("start"))


async def test_what_is_held_is_not_recorded_and_goes_out_when_it_is_released(journal: Journal) -> None:
    with RealJournal(journal.path) as sending:
        sending.hold("no unit of its own")
        sending.send(line("denied"))
        with pytest.raises(NotRecorded, match="no unit of its own"):
            await sending.record(line("start"))
        assert messages(journal) == []
        recording = asyncio.ensure_future(sending.record(line("stop")))
        await asyncio.sleep(0.05)
        sending.release()
        await recording
        assert messages(journal) == ["denied", "stop"]


def test_what_is_held_goes_out_at_the_end(journal: Journal) -> None:
    with RealJournal(journal.path) as sending:
        sending.hold("no unit of its own")
        sending.send(line("denied"))
    assert messages(journal) == ["denied"]


def test_without_a_journal_the_line_goes_to_standard_error(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with RealJournal(str(tmp_path / "none")) as sending:
        sending.send(line("denied"))
    assert capfd.readouterr().err == "serviceswitch: denied\n"


def test_a_journal_that_went_and_came_back_gets_the_next_line(
    journal: Journal, capfd: pytest.CaptureFixture[str]
) -> None:
    with RealJournal(journal.path) as sending:
        journal.close()
        sending.send(line("one"))
        with Journal.at(Path(journal.path)) as again:
            sending.send(line("two"))
            assert again.read() == line("two")
    assert capfd.readouterr().err == "serviceswitch: one\n"


def test_a_full_journal_gets_every_line_later_and_in_order(stopped_journal: Journal) -> None:
    fill(stopped_journal)
    with RealJournal(stopped_journal.path) as sending:
        for number in range(MOST_QUEUED_LINES):
            sending.send(line(str(number)))
        stopped_journal.go_on()
    assert messages(stopped_journal) == [*map(str, range(MOST_QUEUED_LINES))]


def test_more_than_a_full_journal_can_wait_for_goes_to_standard_error(
    stopped_journal: Journal, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hkswitch.serviceswitch.journal.FLUSH_WITHIN_SECONDS", 0.1)
    fill(stopped_journal)
    with RealJournal(stopped_journal.path) as sending:
        for number in range(MOST_QUEUED_LINES):
            sending.send(line(str(number)))
        assert capfd.readouterr().err == ""
        sending.send(line("one more"))
        assert capfd.readouterr().err == "serviceswitch: one more\n"
        began_seconds = time.monotonic()
    assert time.monotonic() - began_seconds < 1
    assert capfd.readouterr().err.count("\n") == MOST_QUEUED_LINES
    assert messages(stopped_journal) == []


def fill(journal: Journal) -> None:
    """Send to a journal that is stopped until it takes no more."""
    while fill_by_one(journal):  # each has a buffer of its own, which may be full sooner
        pass


def fill_by_one(journal: Journal) -> int:
    taken = 0
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sender:
        while True:
            try:
                sender.sendto(b"A=b\n", journal.path)
            except BlockingIOError:
                return taken
            taken += 1


@contextmanager
def unread_standard_error() -> Iterator[int]:
    """A pipe in place of standard error; yields the end to read from."""
    kept = os.dup(2)
    reading, writing = os.pipe()
    os.dup2(writing, 2)
    try:
        yield reading
    finally:
        os.dup2(kept, 2)
        for descriptor in (kept, reading, writing):
            os.close(descriptor)


def test_a_standard_error_that_nobody_reads_holds_nothing_up(tmp_path: Path) -> None:
    with unread_standard_error() as reading, RealJournal(str(tmp_path / "none")) as sending:
        for _ in range(2000):
            sending.send(line("x" * 500))
        assert len(os.read(reading, 10**6)) > 50_000
