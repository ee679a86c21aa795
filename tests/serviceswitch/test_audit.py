"""One line in the journal for each decision: what is in it, and that nothing is forged or held up."""

import asyncio
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from hkswitch.model.unit_state import JobResult, UnitResult
from hkswitch.serviceswitch.audit import (
    LONGEST_TEXT,
    MOST_WAITING,
    Audit,
    Caller,
    Decision,
    caller,
    encode,
    fields_of,
    plain,
)
from tests.serviceswitch.journal import Journal, decode, journal

__all__ = ["journal"]

CALLER = Caller(uid=998, login_uid=1000)
DONE = (UnitResult("smb.service", JobResult.DONE), UnitResult("nmb.service", JobResult.DONE))
REFUSED = UnitResult("gone.service", JobResult.REFUSED, "Unit gone.service not found")


@dataclass
class Clock:
    """Seconds that pass when a test says so."""

    seconds: float = 100

    def __call__(self) -> float:
        return self.seconds


# What is in a line


def test_what_was_done_is_said_with_every_units_result() -> None:
    assert fields_of(Decision("start", "files", results=DONE, duration_ms=41), CALLER) == {
        "MESSAGE": "done for uid 998: start files: smb.service done, nmb.service done",
        "PRIORITY": "6",
        "SYSLOG_IDENTIFIER": "serviceswitch",
        "HKSWITCH_ACTION": "start",
        "HKSWITCH_GROUP": "files",
        "HKSWITCH_DECISION": "allowed",
        "HKSWITCH_RESULT": "smb.service done, nmb.service done",
        "HKSWITCH_DURATION_MS": "41",
        "HKSWITCH_BY_UID": "998",
        "HKSWITCH_LOGINUID": "1000",
    }


def test_what_was_denied_is_said_with_the_reason() -> None:
    assert fields_of(Decision("stop", "web", denied="no such action", duration_ms=0), Caller(uid=0)) == {
        "MESSAGE": "denied to uid 0: stop web: no such action",
        "PRIORITY": "4",
        "SYSLOG_IDENTIFIER": "serviceswitch",
        "HKSWITCH_ACTION": "stop",
        "HKSWITCH_GROUP": "web",
        "HKSWITCH_DECISION": "denied",
        "HKSWITCH_REASON": "no such action",
        "HKSWITCH_DURATION_MS": "0",
        "HKSWITCH_BY_UID": "0",
    }


def test_what_failed_was_allowed_and_is_said_with_the_reason_and_every_result() -> None:
    fields = fields_of(Decision("start", "g", failed="it broke", results=(*DONE, REFUSED)), CALLER)
    assert fields["MESSAGE"] == "failed for uid 998: start g: it broke"
    assert (fields["PRIORITY"], fields["HKSWITCH_DECISION"], fields["HKSWITCH_REASON"]) == (
        "3",
        "allowed",
        "it broke",
    )
    assert fields["HKSWITCH_RESULT"] == (
        "smb.service done, nmb.service done, gone.service refused (Unit gone.service not found)"
    )


def test_a_line_that_was_no_request_has_no_action_and_no_group() -> None:
    fields = fields_of(Decision(denied="not a line of JSON", left_out=7), CALLER)
    assert (
        fields["MESSAGE"]
        == "denied to uid 998: a line that is no request: not a line of JSON (and 7 before it)"
    )
    assert fields["HKSWITCH_LEFT_OUT"] == "7"
    assert fields.keys() & {"HKSWITCH_ACTION", "HKSWITCH_GROUP", "HKSWITCH_DURATION_MS"} == set()


# Who asked


@pytest.mark.parametrize(
    ("environment", "real_uid", "peer_uid", "uid"),
    [
        ({"SUDO_UID": "998"}, 0, None, 998),
        ({"SUDO_UID": "0"}, 0, None, 0),
        ({}, 0, None, 0),
        ({}, 1000, None, 1000),
        ({"SUDO_UID": "998"}, 1000, None, 1000),  # not by sudo: the variable is the caller's own
        ({}, 0, 990, 990),  # over a socket
        ({"SUDO_UID": "998"}, 0, 990, 998),
        ({}, 0, 0, 0),
        ({"SUDO_UID": "-1"}, 0, None, 0),
        ({"SUDO_UID": "1000\n"}, 0, None, 0),
        ({"SUDO_UID": "١٢"}, 0, None, 0),
        ({"SUDO_UID": "1_000"}, 0, None, 0),
        ({"SUDO_UID": "9" * 11}, 0, None, 0),
        ({"SUDO_UID": "root"}, 0, None, 0),
    ],
)
def test_who_asked_is_whom_sudo_names_and_nobody_else(
    environment: dict[str, str], real_uid: int, peer_uid: int | None, uid: int
) -> None:
    assert caller(environment, real_uid, peer_uid).uid == uid


@pytest.mark.parametrize(
    ("contents", "login_uid"),
    [("1000", 1000), ("0", 0), ("4294967295", None), ("", None), (None, None)],
)
def test_who_logged_in_is_left_out_where_nobody_did(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, contents: str | None, login_uid: int | None
) -> None:
    file = tmp_path / "loginuid"
    if contents is not None:
        file.write_text(contents)
    monkeypatch.setattr("hkswitch.serviceswitch.audit._LOGIN_UID", file)
    assert caller({}, 0, None).login_uid == login_uid


# What cannot be forged


@pytest.mark.parametrize(
    "value",
    [
        "a\nMESSAGE=forged",
        "a\n\nMESSAGE\n\x06\x00\x00\x00\x00\x00\x00\x00forged\n",
        "\n",
        "a\rb",
        "a=b",
        "PRIORITY=0",
    ],
)
def test_a_value_makes_up_no_field(value: str) -> None:
    fields = {"HKSWITCH_REASON": value, "PRIORITY": "4"}
    assert decode(encode(fields)) == fields


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("web", "web"),
        ("Büro", "Büro"),
        ("a\nb", r"a\nb"),
        ("a\x1b[2Jb", r"a\x1b[2Jb"),
        ("a\x00b", r"a\x00b"),
        ("a\x9bb", r"a\x9bb"),
        ("a\u202eb", r"a\u202eb"),
        ("a\u2028b", r"a\u2028b"),
        ("a\udc80b", r"a\udc80b"),
        ("x" * LONGEST_TEXT, "x" * LONGEST_TEXT),
        ("x" * LONGEST_TEXT + "y", "x" * (LONGEST_TEXT - 3) + "..."),
        ("\x00" * 10**6, (r"\x00" * LONGEST_TEXT)[: LONGEST_TEXT - 3] + "..."),
    ],
)
def test_what_cannot_be_printed_is_shown_and_what_is_long_is_cut(text: str, shown: str) -> None:
    assert plain(text) == shown


@pytest.mark.parametrize(
    "hostile", ["x\nPRIORITY=0", "x\udcff", "x\x1b]0;\x07", "x" * 10**6, "x\u2029PRIORITY=0"]
)
def test_nothing_that_was_asked_for_makes_a_second_line_or_field(hostile: str) -> None:
    fields = fields_of(Decision(hostile, hostile, denied=hostile), CALLER)
    assert decode(encode(fields)) == fields
    assert fields["MESSAGE"].isprintable()
    assert fields["HKSWITCH_GROUP"].isprintable()
    assert all(len(value) <= 3 * LONGEST_TEXT + 100 for value in fields.values())


def test_every_line_of_a_reason_stays_in_its_field() -> None:
    fields = fields_of(Decision("start", "web", denied="config.yaml:1: bad\nPRIORITY=0"), CALLER)
    assert fields["HKSWITCH_REASON"] == "config.yaml:1: bad\nPRIORITY=0"
    assert fields["MESSAGE"] == "denied to uid 998: start web: config.yaml:1: bad; PRIORITY=0"
    assert decode(encode(fields))["PRIORITY"] == "4"


def test_the_results_of_a_large_group_are_cut_and_fit_a_datagram(journal: Journal) -> None:
    results = tuple(UnitResult("u" * 255, JobResult.REFUSED, "d" * 500) for _ in range(128))
    with Audit(CALLER, journal.path) as audit:
        audit.write(Decision("start", "web", failed="x" * 10**6, results=results))
    assert journal.read()["HKSWITCH_RESULT"].endswith("...")


# A flood of lines that are no requests


@dataclass
class Flooded(Audit):
    """An audit that keeps what it would write."""

    written: list[Decision] = field(default_factory=list)
    clock: Clock = field(default_factory=Clock)

    def __post_init__(self) -> None:
        super().__init__(CALLER, os.devnull, self.clock)

    def write(self, decision: Decision) -> None:
        self.written.append(decision)


def test_of_a_flood_one_line_a_second_is_written_with_the_count_of_the_others() -> None:
    audit = Flooded()
    with audit:
        for _ in range(1000):
            audit.malformed("garbage")
        audit.clock.seconds += 0.99
        audit.malformed("garbage")
        audit.clock.seconds += 0.01
        audit.malformed("garbage")
    assert audit.written == [Decision(denied="garbage"), Decision(denied="garbage", left_out=1000)]


def test_those_left_out_are_counted_at_the_end() -> None:
    audit = Flooded()
    with audit:
        for number in range(5):
            audit.malformed(f"garbage {number}")
    assert audit.written == [Decision(denied="garbage 0"), Decision(denied="garbage 4", left_out=3)]


def test_lines_that_come_slowly_are_all_written() -> None:
    audit = Flooded()
    with audit:
        for _ in range(3):
            audit.malformed("garbage")
            audit.clock.seconds += 1
    assert audit.written == [Decision(denied="garbage")] * 3


# A journal that is not there, or full


def test_without_a_journal_the_line_goes_to_standard_error(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with Audit(CALLER, str(tmp_path / "none")) as audit:
        audit.write(Decision("start", "web\nforged", denied="no"))
    assert capfd.readouterr().err == "serviceswitch: denied to uid 998: start web\\nforged: no\n"


def test_a_journal_that_went_and_came_back_gets_the_next_line(
    journal: Journal, capfd: pytest.CaptureFixture[str]
) -> None:
    with Audit(CALLER, journal.path) as audit:
        journal.close()
        audit.write(Decision("start", "web", denied="one"))
        with Journal.at(Path(journal.path)) as again:
            audit.write(Decision("start", "web", denied="two"))
            assert again.read()["HKSWITCH_REASON"] == "two"
    assert capfd.readouterr().err == "serviceswitch: denied to uid 998: start web: one\n"


def test_a_full_journal_gets_every_line_later_and_in_order(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hkswitch.serviceswitch.audit.ROOM_WITHIN_SECONDS", 0)  # nobody reads at the end
    with Audit(CALLER, journal.path) as audit:
        for number in range(MOST_WAITING):
            audit.write(Decision("start", str(number), denied="no"))
        read = journal.read_all()
        assert 0 < len(read) < MOST_WAITING
        audit.write(Decision("start", "last", denied="no"))
        while "last" not in {fields["HKSWITCH_GROUP"] for fields in read}:
            audit.write(Decision("stop", "pump", denied="no"))
            read += journal.read_all()
    groups = [fields["HKSWITCH_GROUP"] for fields in read if fields["HKSWITCH_ACTION"] == "start"]
    assert groups == [*map(str, range(MOST_WAITING)), "last"]


async def test_at_the_end_a_full_journal_gets_a_moment_to_make_room(journal: Journal) -> None:
    taken = fill(journal)

    def end() -> None:
        with Audit(CALLER, journal.path) as audit:
            for number in range(MOST_WAITING):
                audit.write(Decision("start", str(number), denied="no"))

    ending = asyncio.create_task(asyncio.to_thread(end))
    read: list[dict[str, str]] = []
    while len(read) < taken + MOST_WAITING:
        read.append(await asyncio.to_thread(journal.read))
    await ending
    assert [fields["HKSWITCH_GROUP"] for fields in read[taken:]] == [*map(str, range(MOST_WAITING))]


def test_more_than_a_full_journal_can_wait_for_goes_to_standard_error(
    journal: Journal, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hkswitch.serviceswitch.audit.ROOM_WITHIN_SECONDS", 0.1)
    taken = fill(journal)
    with Audit(CALLER, journal.path) as audit:
        for number in range(MOST_WAITING):
            audit.write(Decision("start", str(number), denied="no"))
        assert capfd.readouterr().err == ""
        audit.write(Decision("start", "one more", denied="no"))
        assert capfd.readouterr().err == "serviceswitch: denied to uid 998: start one more: no\n"
    assert capfd.readouterr().err.count("\n") == MOST_WAITING
    assert len(journal.read_all()) == taken


def fill(journal: Journal) -> int:
    """Send to a journal until it takes no more; returns how many datagrams it has."""
    taken = 0
    while (more := fill_by_one(journal)) > 0:  # each has a buffer of its own, which may be full sooner
        taken += more
    return taken


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
    with unread_standard_error() as reading, Audit(CALLER, str(tmp_path / "none")) as audit:
        for _ in range(2000):
            audit.write(Decision("start", "web", denied="x" * 500))
        assert len(os.read(reading, 10**6)) > 50_000
