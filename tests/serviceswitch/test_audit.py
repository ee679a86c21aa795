"""The lines in the journal of decisions, denials and results: what is in them, and that none is forged."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from hkswitch.model.unit_state import JobResult, UnitResult
from hkswitch.serviceswitch.audit import (
    DECISIONS_WITHIN_SECONDS,
    LONGEST_FIELD,
    MOST_DECISIONS,
    Audit,
    Caller,
    Decision,
    Denial,
    Effect,
    caller,
    fields_of,
)
from hkswitch.serviceswitch.journal import Fields, NotRecorded, encode
from hkswitch.serviceswitch.journal import Journal as RealJournal
from tests.serviceswitch.journal import Journal, decode, journal

__all__ = ["journal"]

CALLER = Caller(uid=998, login_uid=1000)
DONE = (UnitResult("smb.service", JobResult.DONE), UnitResult("nmb.service", JobResult.DONE))
REFUSED = UnitResult("gone.service", JobResult.REFUSED, "Unit gone.service not found")
START = Decision("start", "files", 7)


# What is in a line


def test_a_decision_says_what_is_going_to_be_done_and_for_whom() -> None:
    assert fields_of(START, CALLER) == {
        "MESSAGE": "allowed for uid 998: start files",
        "PRIORITY": "6",
        "SYSLOG_IDENTIFIER": "serviceswitch",
        "HKSWITCH_ACTION": "start",
        "HKSWITCH_GROUP": "files",
        "HKSWITCH_DECISION": "allowed",
        "HKSWITCH_REQUEST": "7",
        "HKSWITCH_BY_UID": "998",
        "HKSWITCH_LOGINUID": "1000",
    }


def test_what_was_done_is_said_with_every_units_result_and_the_number_of_its_decision() -> None:
    assert fields_of(Effect(START, "", DONE, 41), CALLER) == {
        "MESSAGE": "done for uid 998: start files: smb.service done, nmb.service done",
        "PRIORITY": "6",
        "SYSLOG_IDENTIFIER": "serviceswitch",
        "HKSWITCH_ACTION": "start",
        "HKSWITCH_GROUP": "files",
        "HKSWITCH_OUTCOME": "done",
        "HKSWITCH_REQUEST": "7",
        "HKSWITCH_RESULT": "smb.service done, nmb.service done",
        "HKSWITCH_DURATION_MS": "41",
        "HKSWITCH_BY_UID": "998",
        "HKSWITCH_LOGINUID": "1000",
    }


def test_what_was_denied_is_said_with_the_reason() -> None:
    assert fields_of(Denial("no such action", "stop", "web"), Caller(uid=0)) == {
        "MESSAGE": "denied for uid 0: stop web: no such action",
        "PRIORITY": "4",
        "SYSLOG_IDENTIFIER": "serviceswitch",
        "HKSWITCH_ACTION": "stop",
        "HKSWITCH_GROUP": "web",
        "HKSWITCH_DECISION": "denied",
        "HKSWITCH_REASON": "no such action",
        "HKSWITCH_BY_UID": "0",
    }


@pytest.mark.parametrize(
    ("what", "message"),
    [
        (START, "allowed for uid 998 (rule): start files"),
        (
            Effect(START, "", DONE, 41),
            "done for uid 998 (rule): start files: smb.service done, nmb.service done",
        ),
        (Denial("no", "start", "files"), "denied for uid 998 (rule): start files: no"),
    ],
)
def test_what_a_rule_wants_is_told_from_what_a_person_wants(
    what: Decision | Denial | Effect, message: str
) -> None:
    if isinstance(what, Effect):
        by_rule: Decision | Denial | Effect = what._replace(decision=what.decision._replace(by_rule=True))
    else:
        by_rule = what._replace(by_rule=True)
    fields, of_a_person = fields_of(by_rule, CALLER), fields_of(what, CALLER)
    assert fields == {**of_a_person, "MESSAGE": message, "HKSWITCH_CALLER": "rule"}
    assert "HKSWITCH_CALLER" not in of_a_person


def test_what_failed_is_said_with_the_reason_and_every_result() -> None:
    fields = fields_of(Effect(START, "it broke", (*DONE, REFUSED), 0), CALLER)
    assert fields["MESSAGE"] == "failed for uid 998: start files: it broke"
    assert (fields["PRIORITY"], fields["HKSWITCH_OUTCOME"], fields["HKSWITCH_REASON"]) == (
        "3",
        "failed",
        "it broke",
    )
    assert fields["HKSWITCH_RESULT"] == (
        "smb.service done, nmb.service done, gone.service refused (Unit gone.service not found)"
    )


def test_a_malformed_request_has_no_action_and_no_group() -> None:
    fields = fields_of(Denial("not a line of JSON", left_out=7), CALLER)
    assert (
        fields["MESSAGE"]
        == "denied for uid 998: malformed request: not a line of JSON (earlier denials not logged: 7)"
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
    "kind",
    [
        lambda hostile: Decision(hostile, hostile, 1),
        lambda hostile: Denial(hostile, hostile, hostile),
        lambda hostile: Effect(Decision(hostile, hostile, 1), hostile, (), 1),
    ],
    ids=["decision", "denial", "effect"],
)
@pytest.mark.parametrize(
    "hostile", ["x\nPRIORITY=0", "x\udcff", "x\x1b]0;\x07", "x" * 10**6, "x\u2029PRIORITY=0"]
)
def test_nothing_that_was_asked_for_makes_a_second_line_or_field(
    hostile: str, kind: Callable[[str], Decision | Denial | Effect]
) -> None:
    fields = fields_of(kind(hostile), CALLER)
    assert decode(encode(fields)) == fields
    assert fields["MESSAGE"].isprintable()
    assert fields["HKSWITCH_GROUP"].isprintable()
    assert all(len(value) <= 3 * LONGEST_FIELD + 100 for value in fields.values())


def test_every_line_of_a_reason_stays_in_its_field() -> None:
    fields = fields_of(Denial("config.yaml:1: bad\nPRIORITY=0", "start", "web"), CALLER)
    assert fields["HKSWITCH_REASON"] == "config.yaml:1: bad\nPRIORITY=0"
    assert fields["MESSAGE"] == "denied for uid 998: start web: config.yaml:1: bad; PRIORITY=0"
    assert decode(encode(fields))["PRIORITY"] == "4"


def test_the_results_of_a_large_group_are_cut_and_fit_a_datagram(journal: Journal) -> None:
    results = tuple(UnitResult("u" * 255, JobResult.REFUSED, "d" * 500) for _ in range(128))
    with Audit(CALLER, RealJournal(journal.path)) as audit:
        audit.ended(Effect(START, "x" * 10**6, results, 1))
    assert journal.read()["HKSWITCH_RESULT"].endswith("...")


# Limits


class Written(RealJournal):
    """A journal that keeps what it would send, and of which a test says whether it takes a decision."""

    def __init__(self) -> None:
        super().__init__("")
        self.lines: list[Fields] = []

    def send(self, fields: Fields) -> None:
        self.lines.append(fields)

    async def record(self, fields: Fields) -> None:
        self.lines.append(fields)


@dataclass
class Flooded:
    """An audit on a clock that a test moves."""

    journal: Written = field(default_factory=Written)
    seconds: float = 100
    _later: list[tuple[float, Callable[[], None]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.audit = Audit(
            CALLER,
            self.journal,
            lambda: self.seconds,
            lambda seconds, do: self._later.append((self.seconds + seconds, do)),
        )

    def wait(self, seconds: float) -> None:
        until_seconds = self.seconds + seconds
        while due := [each for each in self._later if each[0] <= until_seconds]:
            self._later.remove(due[0])
            self.seconds = due[0][0]
            due[0][1]()
        self.seconds = until_seconds

    @property
    def denials(self) -> list[tuple[str, int]]:
        """The reason of each, and how many it stands for beside itself."""
        lines = [line for line in self.journal.lines if line.get("HKSWITCH_DECISION") == "denied"]
        return [(line["HKSWITCH_REASON"], int(line.get("HKSWITCH_LEFT_OUT", 0))) for line in lines]


def test_of_a_flood_of_denials_one_a_second_is_written_with_the_count_of_the_others() -> None:
    flooded = Flooded()
    with flooded.audit:
        for number in range(1000):
            flooded.audit.denied(Denial(f"no group {number}", "start", str(number)))
        flooded.wait(0.5)
        flooded.audit.denied(Denial("not a line of JSON"))
        assert flooded.denials == [("no group 0", 0)]
        flooded.wait(0.5)
        assert flooded.denials == [("no group 0", 0), ("not a line of JSON", 999)]
        flooded.audit.denied(Denial("again"))
    assert flooded.denials[2:] == [("again", 0)]


def test_denials_that_were_left_out_are_written_without_another_one_and_at_the_end() -> None:
    flooded = Flooded()
    with flooded.audit:
        for number in range(3):
            flooded.audit.denied(Denial(str(number)))
        flooded.wait(5)
        assert flooded.denials == [("0", 0), ("2", 1)]
        for number in range(3, 6):
            flooded.audit.denied(Denial(str(number)))
    assert flooded.denials == [("0", 0), ("2", 1), ("3", 0), ("5", 1)]


def test_denials_that_come_slowly_are_all_written() -> None:
    flooded = Flooded()
    with flooded.audit:
        for _ in range(3):
            flooded.audit.denied(Denial("no"))
            flooded.wait(1)
    assert flooded.denials == [("no", 0)] * 3


async def test_a_flood_of_denials_leaves_out_no_decision() -> None:
    flooded = Flooded()
    with flooded.audit:
        for number in range(100):
            flooded.audit.denied(Denial("no"))
            await flooded.audit.decided("start", str(number))
    allowed = [line for line in flooded.journal.lines if line["HKSWITCH_DECISION"] == "allowed"]
    assert [line["HKSWITCH_REQUEST"] for line in allowed] == [*map(str, range(1, 101))]


async def test_more_decisions_than_the_journal_is_sure_to_keep_are_refused() -> None:
    flooded = Flooded()
    with flooded.audit:
        for _ in range(MOST_DECISIONS):
            await flooded.audit.decided("start", "web")
        for _ in range(3):
            with pytest.raises(NotRecorded, match="more than 1000 requests within 30 s"):
                await flooded.audit.decided("start", "web")
        flooded.wait(DECISIONS_WITHIN_SECONDS)
        await flooded.audit.decided("start", "web")
    assert len(flooded.journal.lines) == MOST_DECISIONS + 1
