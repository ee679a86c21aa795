"""The messages on the control socket: what is one, and what is refused."""

import json

import pytest

from hkswitch.model.errors import Exit
from hkswitch.model.unit_state import Action, ActiveState, GroupState, LoadState, UnitState
from hkswitch.protocol.control import (
    LONGEST_ANSWER_BYTES,
    LONGEST_ASK_BYTES,
    LONGEST_REASON,
    Answer,
    Ask,
    AskFailed,
    Controllers,
    Failed,
    Noted,
    Question,
    SetupIs,
    Status,
    Word,
    encode_answer,
    encode_question,
    parse_answer,
    parse_question,
)
from hkswitch.protocol.json_lines import Malformed
from hkswitch.protocol.report import GroupReport, PairedController, Report

ID = "8DE3A2C0-5D7B-4E7C-9F52-3F1B7A2D9E10"
SETUP = SetupIs("314-15-926", "X-HM://0023ISYWY7OSX", "AA:BB:CC:DD:EE:FF", False, 7, False)

WORDS = "'ask' must be one of status, watch, act, controllers, setup, unpair, reset-attempts, reload"
QUESTIONS = [
    Question(Ask.STATUS),
    Question(Ask.WATCH),
    Question(Ask.ACT, action=Action.STOP, group="web"),
    Question(Ask.ACT, action=Action.RESTART, group="a\nb"),
    Question(Ask.CONTROLLERS),
    Question(Ask.SETUP),
    Question(Ask.RESET_ATTEMPTS),
    Question(Ask.RELOAD),
    Question(Ask.UNPAIR, ID),
    Question(Ask.UNPAIR, "a\nb"),
    Question(Ask.UNPAIR),
]
ANSWERS: list[Answer] = [
    Controllers(()),
    Controllers((PairedController(ID, admin=True, connections=2), PairedController("B", admin=False))),
    SETUP,
    Status(Report(None, ())),
    *Word,
    Noted("changes to bridge.port take effect after a restart"),
    Failed(Exit.DENIED, "user 1000 may not, ä"),
]


@pytest.mark.parametrize("question", QUESTIONS, ids=str)
def test_a_question_survives_the_socket(question: Question) -> None:
    line = encode_question(question)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert parse_question(line) == question


@pytest.mark.parametrize("answer", ANSWERS, ids=lambda answer: type(answer).__name__)
def test_an_answer_survives_the_socket(answer: Answer) -> None:
    line = encode_answer(answer)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert parse_answer(line) == answer
    assert type(parse_answer(line)) is type(answer)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"", "not a line of JSON"),
        (b"unpair", "not a line of JSON"),
        (b'{"ask":"setup"', "not a line of JSON"),
        (b'{"ask":"\xff"}', "not a line of JSON"),
        (b"[" * LONGEST_ASK_BYTES, "not a line of JSON"),
        (b'"setup"', "not a JSON object"),
        (b"{}", "'ask' must be text of at most 256 characters"),
        (b'{"ask":1}', "'ask' must be text of at most 256 characters"),
        (b'{"ask":["setup"]}', "'ask' must be text of at most 256 characters"),
        (
            b'{"ask":"pair"}',
            WORDS,
        ),
        (
            b'{"ask":"SETUP"}',
            WORDS,
        ),
        (b'{"ask":"setup","ask":"unpair"}', "a key stands twice"),
        (b'{"ask":"setup","controller":null}', "a key too many"),
        (b'{"ask":"unpair"}', "'controller' is missing"),
        (b'{"ask":"status","group":"web"}', "a key too many"),
        (b'{"ask":"reload","config":"/tmp/config.yaml"}', "a key too many"),
        (b'{"ask":"act","action":"start"}', "'group' is missing"),
        (b'{"ask":"act","group":"web"}', "'action' is missing"),
        (b'{"ask":"act","action":"reload","group":"web"}', "'action' must be one of start, stop, restart"),
        (b'{"ask":"act","action":["start"],"group":"web"}', "'action' must be one of"),
        (b'{"ask":"act","action":"start","group":1}', "'group' must be text"),
        (b'{"ask":"act","action":"start","group":"web","wait":true}', "a key too many"),
        (b'{"ask":"unpair","controller":1}', "'controller' must be text of at most 256 characters"),
        (b'{"ask":"unpair","controller":"%s"}' % (b"A" * 257), "'controller' must be text of at most 256"),
        (b'{"ask":"unpair","controller":null,"all":true}', "a key too many"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_is_not_a_question_is_refused(line: bytes, reason: str) -> None:
    with pytest.raises(Malformed) as caught:
        parse_question(line)
    assert str(caught.value).startswith(reason)


GOOD_SETUP = json.loads(encode_answer(SETUP))


@pytest.mark.parametrize(
    "body",
    [
        {},
        [],
        {"type": "ok"},
        {"type": "Done"},
        {"type": "failed", "exit_code": 77},
        {"type": "failed", "exit_code": 0, "reason": "all is well"},
        {"type": "failed", "exit_code": -1, "reason": ""},
        {"type": "failed", "exit_code": True, "reason": ""},
        {"type": "failed", "exit_code": 77, "reason": None},
        {"type": "failed", "exit_code": 77, "reason": "\x1b]0;title\x07"},
        {"type": "failed", "exit_code": 77, "reason": "two\nlines"},
        {"type": "controllers", "controllers": {}},
        {"type": "controllers", "controllers": ["A"]},
        {"type": "controllers", "controllers": [{"id": "A", "admin": 1, "connections": 0}]},
        {"type": "controllers", "controllers": [{"id": "A", "admin": True, "connections": -1}]},
        {"type": "controllers", "controllers": [{"id": "\x1b[2J", "admin": True, "connections": 0}]},
        {key: value for key, value in GOOD_SETUP.items() if key != "paired"},
        {**GOOD_SETUP, "failed_attempts": "7"},
        {**GOOD_SETUP, "pairing_refused": None},
        {**GOOD_SETUP, "code": "\r314-15-926"},
    ],
    ids=str,
)
def test_what_is_not_an_answer_is_refused(body: object) -> None:
    with pytest.raises(Malformed):
        parse_answer(json.dumps(body).encode())


@pytest.mark.parametrize("answer", ANSWERS, ids=lambda answer: type(answer).__name__)
def test_keys_of_a_newer_daemon_are_ignored(answer: Answer) -> None:
    body = json.loads(encode_answer(answer)) | {"brand-new": "\x1b[2J"}
    assert parse_answer(json.dumps(body).encode()) == answer


@pytest.mark.parametrize("code", [1, 76, 2**53])
def test_an_exit_code_that_only_a_newer_daemon_knows_is_the_most_general_one(code: int) -> None:
    body = {"type": "failed", "exit_code": code, "reason": "moon"}
    assert parse_answer(json.dumps(body).encode()) == Failed(Exit.UNAVAILABLE, "moon")


def test_a_word_that_a_helper_made_up_keeps_nobody_from_reading_a_report() -> None:
    made_up = UnitState(LoadState.LOADED, ActiveState.ACTIVE, "\x1b[2Jrunning\ud800")
    report = Report(None, (GroupReport("web", "Web", GroupState.ON, 1, {"httpd.service": made_up}),))
    answer = parse_answer(encode_answer(Status(report)))
    assert isinstance(answer, Status)
    assert answer.report.groups[0].units["httpd.service"].sub == "?[2Jrunning?"


def test_a_reason_is_cut_and_made_printable() -> None:
    said = parse_answer(encode_answer(Failed(Exit.UNAVAILABLE, "a\nb\x1b[0m" + "\udcff" + "x" * 9999)))
    assert isinstance(said, Failed)
    assert said.reason.startswith("a; b?[0m?xxx")
    assert len(said.reason) == LONGEST_REASON


def test_the_largest_messages_fit_into_their_lines() -> None:
    many = tuple(PairedController("ü" * 256, admin=False, connections=2**53) for _ in range(200))
    assert len(encode_answer(Controllers(many))) < LONGEST_ANSWER_BYTES
    assert len(encode_question(Question(Ask.UNPAIR, "ü" * 256))) < LONGEST_ASK_BYTES


def test_a_failure_keeps_the_exit_code_of_whoever_failed() -> None:
    failure = AskFailed(Failed(Exit.CANNOT_WRITE, "no space"))
    assert (failure.exit_code, str(failure)) == (Exit.CANNOT_WRITE, "no space")
    assert AskFailed.exit_code is Exit.UNAVAILABLE
