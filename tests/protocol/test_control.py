"""The messages on the control socket: what is one, and what is refused."""

import json

import pytest

from hkswitch.model.errors import Exit
from hkswitch.model.printable import LONGEST_PRINTED
from hkswitch.model.trouble import PastTrouble
from hkswitch.model.unit_state import Action, ActiveState, GroupState, LoadState, UnitState
from hkswitch.protocol.alert_report import MOST_ALERTS, AlertReport, reports_of
from hkswitch.protocol.control import (
    LONGEST_CONTROL_REPLY_BYTES,
    LONGEST_CONTROL_REQUEST_BYTES,
    LONGEST_CONTROL_TEXT,
    Controllers,
    ControlReply,
    ControlRequest,
    DoneWithNote,
    ErrorReply,
    LastAlerts,
    Operation,
    Progress,
    SetupInfo,
    Status,
    encode_control_reply,
    encode_control_request,
    parse_control_reply,
    parse_control_request,
)
from hkswitch.protocol.json_lines import MalformedMessage
from hkswitch.protocol.report import GroupReport, PairedController, Report

ID = "8DE3A2C0-5D7B-4E7C-9F52-3F1B7A2D9E10"
SETUP = SetupInfo("314-15-926", "X-HM://0023ISYWY7OSX", "AA:BB:CC:DD:EE:FF", False, 7, False)

WORDS = "'ask' must be one of status, watch, alerts, act, controllers, setup, unpair, reset-attempts, reload"
QUESTIONS = [
    ControlRequest(Operation.STATUS),
    ControlRequest(Operation.WATCH),
    ControlRequest(Operation.ALERTS),
    ControlRequest(Operation.ACT, action=Action.STOP, group="web"),
    ControlRequest(Operation.ACT, action=Action.RESTART, group="a\nb"),
    ControlRequest(Operation.CONTROLLERS),
    ControlRequest(Operation.SETUP),
    ControlRequest(Operation.RESET_ATTEMPTS),
    ControlRequest(Operation.RELOAD),
    ControlRequest(Operation.UNPAIR, ID),
    ControlRequest(Operation.UNPAIR, "a\nb"),
    ControlRequest(Operation.UNPAIR),
]
OPEN = ("nas", "", "start failed: nas.service exited with status 1", 2**40)
"""An alert that lasts, of a group that was removed."""
ANSWERS: list[ControlReply] = [
    LastAlerts(()),
    LastAlerts((AlertReport("web", "Wéb", "web.service was killed by SIGKILL", 5, 9), AlertReport(*OPEN))),
    Controllers(()),
    Controllers((PairedController(ID, admin=True, connections=2), PairedController("B", admin=False))),
    SETUP,
    Status(Report(None, ())),
    *Progress,
    DoneWithNote("changes to bridge.port take effect after a restart"),
    ErrorReply(Exit.DENIED, "user 1000 may not, ä"),
]


@pytest.mark.parametrize("question", QUESTIONS, ids=str)
def test_a_question_survives_the_socket(question: ControlRequest) -> None:
    line = encode_control_request(question)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert parse_control_request(line) == question


@pytest.mark.parametrize("answer", ANSWERS, ids=lambda answer: type(answer).__name__)
def test_an_answer_survives_the_socket(answer: ControlReply) -> None:
    line = encode_control_reply(answer)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert parse_control_reply(line) == answer
    assert type(parse_control_reply(line)) is type(answer)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"", "not a line of JSON"),
        (b"unpair", "not a line of JSON"),
        (b'{"ask":"setup"', "not a line of JSON"),
        (b'{"ask":"\xff"}', "not a line of JSON"),
        (b"[" * LONGEST_CONTROL_REQUEST_BYTES, "not a line of JSON"),
        (b'"setup"', "not a JSON object"),
        (b"{}", "'ask' must be a string of at most 256 characters"),
        (b'{"ask":1}', "'ask' must be a string of at most 256 characters"),
        (b'{"ask":["setup"]}', "'ask' must be a string of at most 256 characters"),
        (
            b'{"ask":"pair"}',
            WORDS,
        ),
        (
            b'{"ask":"SETUP"}',
            WORDS,
        ),
        (b'{"ask":"setup","ask":"unpair"}', "duplicate key"),
        (b'{"ask":"setup","controller":null}', "unexpected key"),
        (b'{"ask":"unpair"}', "'controller' is missing"),
        (b'{"ask":"status","group":"web"}', "unexpected key"),
        (b'{"ask":"alerts","group":"web"}', "unexpected key"),
        (b'{"ask":"reload","config":"/tmp/config.yaml"}', "unexpected key"),
        (b'{"ask":"act","action":"start"}', "'group' is missing"),
        (b'{"ask":"act","group":"web"}', "'action' is missing"),
        (b'{"ask":"act","action":"reload","group":"web"}', "'action' must be one of start, stop, restart"),
        (b'{"ask":"act","action":["start"],"group":"web"}', "'action' must be one of"),
        (b'{"ask":"act","action":"start","group":1}', "'group' must be a string"),
        (b'{"ask":"act","action":"start","group":"web","wait":true}', "unexpected key"),
        (b'{"ask":"unpair","controller":1}', "'controller' must be a string of at most 256 characters"),
        (
            b'{"ask":"unpair","controller":"%s"}' % (b"A" * 257),
            "'controller' must be a string of at most 256",
        ),
        (b'{"ask":"unpair","controller":null,"all":true}', "unexpected key"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_is_not_a_question_is_refused(line: bytes, reason: str) -> None:
    with pytest.raises(MalformedMessage) as caught:
        parse_control_request(line)
    assert str(caught.value).startswith(reason)


GOOD_SETUP = json.loads(encode_control_reply(SETUP))
[GOOD_ALERT] = json.loads(encode_control_reply(LastAlerts((AlertReport(*OPEN),))))["alerts"]
BAD_ALERTS: list[dict[str, object]] = [
    {"group": "\x1b[2J"},
    {"group": 1},
    {"name": "\x1b]0;root\x07"},
    {"name": None},
    {"reason": "two\nlines"},
    {"reason": "\x9b31m"},
    {"reason": "x" * (LONGEST_PRINTED + 1)},
    {"began_unix_seconds": None},
    {"began_unix_seconds": -1},
    {"began_unix_seconds": 2**53 + 1},
    {"ended_unix_seconds": "now"},
    {"ended_unix_seconds": 1.5},
    {"ended_unix_seconds": True},
]
LACKING_ALERTS = [{key: GOOD_ALERT[key] for key in GOOD_ALERT if key != lacking} for lacking in GOOD_ALERT]


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
        {"type": "alerts"},
        {"type": "alerts", "alerts": {}},
        {"type": "alerts", "alerts": ["web"]},
        {"type": "alerts", "alerts": [GOOD_ALERT] * (MOST_ALERTS + 1)},
        *({"type": "alerts", "alerts": [GOOD_ALERT | bad]} for bad in BAD_ALERTS),
        *({"type": "alerts", "alerts": [lacking]} for lacking in LACKING_ALERTS),
        {key: value for key, value in GOOD_SETUP.items() if key != "paired"},
        {**GOOD_SETUP, "failed_attempts": "7"},
        {**GOOD_SETUP, "pairing_refused": None},
        {**GOOD_SETUP, "code": "\r314-15-926"},
    ],
    ids=str,
)
def test_what_is_not_an_answer_is_refused(body: object) -> None:
    with pytest.raises(MalformedMessage):
        parse_control_reply(json.dumps(body).encode())


@pytest.mark.parametrize("answer", ANSWERS, ids=lambda answer: type(answer).__name__)
def test_keys_of_a_newer_daemon_are_ignored(answer: ControlReply) -> None:
    body = json.loads(encode_control_reply(answer)) | {"brand-new": "\x1b[2J"}
    assert parse_control_reply(json.dumps(body).encode()) == answer


@pytest.mark.parametrize("code", [1, 76, 2**53])
def test_an_exit_code_that_only_a_newer_daemon_knows_is_the_most_general_one(code: int) -> None:
    body = {"type": "failed", "exit_code": code, "reason": "moon"}
    assert parse_control_reply(json.dumps(body).encode()) == ErrorReply(Exit.UNAVAILABLE, "moon")


def test_a_word_that_a_helper_made_up_keeps_nobody_from_reading_a_report() -> None:
    made_up = UnitState(LoadState.LOADED, ActiveState.ACTIVE, "\x1b[2Jrunning\ud800")
    report = Report(None, (GroupReport("web", "Web", GroupState.ON, 1, {"httpd.service": made_up}),))
    answer = parse_control_reply(encode_control_reply(Status(report)))
    assert isinstance(answer, Status)
    assert answer.report.groups[0].units["httpd.service"].sub == "?[2Jrunning?"


def test_the_last_alerts_are_sent_newest_first_and_only_so_many() -> None:
    many = [PastTrouble("web", f"reason {number}", number, number + 1) for number in range(MOST_ALERTS + 9)]
    many.append(PastTrouble("gone", "a\nb\x1b[0m", 2000))
    sent = encode_control_reply(LastAlerts(reports_of(many, {"web": "Web"})))
    reply = parse_control_reply(sent)
    assert isinstance(reply, LastAlerts)
    assert len(reply.alerts) == MOST_ALERTS
    newest, second = (
        AlertReport("gone", "", "a; b?[0m", 2000),
        AlertReport("web", "Web", "reason 108", 108, 109),
    )
    assert reply.alerts[:2] == (newest, second)


def test_a_reason_is_cut_and_made_printable() -> None:
    said = parse_control_reply(
        encode_control_reply(ErrorReply(Exit.UNAVAILABLE, "a\nb\x1b[0m" + "\udcff" + "x" * 9999))
    )
    assert isinstance(said, ErrorReply)
    assert said.reason.startswith("a; b?[0m?xxx")
    assert len(said.reason) == LONGEST_CONTROL_TEXT


def test_the_report_of_149_groups_fits_whatever_another_host_chose() -> None:
    state = UnitState(LoadState.NOT_FOUND, ActiveState.DEACTIVATING, "\U0001f600" * 200)
    text, names = "\U0001f600" * 500, [f"{number:03}" + "\\" * 253 for number in range(128)]
    group = GroupReport("x" * 64, "\U0001f600" * 64, GroupState.OFF, 2**53, dict.fromkeys(names, state))
    group = group._replace(why=text, trouble=text, rule=text, host="x" * 64, group="x" * 64)
    one, two = (len(encode_control_reply(Status(Report(None, (group,) * number)))) for number in (1, 2))
    assert 149 * (two - one) < LONGEST_CONTROL_REPLY_BYTES


def test_the_largest_messages_fit_into_their_lines() -> None:
    many = tuple(PairedController("ü" * 256, admin=False, connections=2**53) for _ in range(200))
    assert len(encode_control_reply(Controllers(many))) < LONGEST_CONTROL_REPLY_BYTES
    alerts = (AlertReport("ü" * 256, "ü" * 256, "ü" * LONGEST_PRINTED, 2**53, 2**53),) * MOST_ALERTS
    assert len(encode_control_reply(LastAlerts(alerts))) < LONGEST_CONTROL_REPLY_BYTES
    assert (
        len(encode_control_request(ControlRequest(Operation.UNPAIR, "ü" * 256)))
        < LONGEST_CONTROL_REQUEST_BYTES
    )
