"""The messages on the helper's pipe: what is one, and what is refused."""

import json

import pytest

from hkswitch.model.unit_state import Action, JobResult, UnitResult, Verdict
from hkswitch.protocol.helper import (
    LONGEST_DETAIL,
    LONGEST_REPLY_BYTES,
    Accepted,
    Finished,
    Hello,
    Observe,
    Observed,
    Ping,
    Pong,
    Refused,
    Reply,
    Request,
    encode,
    parse_reply,
    parse_request,
)
from hkswitch.protocol.json_lines import Malformed

REPLIES: list[Reply] = [
    Hello("1.2.3"),
    Accepted(1),
    Finished(
        2,
        (
            UnitResult("a.service", JobResult.DONE, job_id=2**32 - 1),
            UnitResult("b.service", JobResult.REFUSED, "no, ä"),
        ),
    ),
    Finished(3, (), superseded=True),
    Refused(4, "denied"),
    Pong(5),
    Observed("lamp", Verdict.OFF, "/opt/lamp exited with 1"),
    Observed("lamp", Verdict.ON, ""),
    Refused(None, "not a request"),
]


@pytest.mark.parametrize("reply", REPLIES, ids=lambda reply: type(reply).__name__)
def test_reply_survives_the_pipe(reply: Reply) -> None:
    line = encode(reply)
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert parse_reply(line) == reply


def test_request_survives_the_pipe() -> None:
    request = Request(7, Action.START, "file\nserver")
    assert encode(request).count(b"\n") == 1
    assert parse_request(encode(request)) == request


def test_ping_survives_the_pipe() -> None:
    assert parse_request(encode(Ping(9))) == Ping(9)


def test_observe_survives_the_pipe() -> None:
    assert parse_request(encode(Observe())) == Observe()


MALFORMED_REQUESTS = [
    (b'{"observe":false}', None, "'observe' must be true"),
    (b'{"observe":1}', None, "'observe' must be true or false"),
    (b'{"observe":["lamp"]}', None, "'observe' must be true or false"),
    (b'{"observe":true,"group":"lamp"}', None, "a key too many"),
    (b"", None, "not a line of JSON"),
    (b"start fileserver", None, "not a line of JSON"),
    (b'{"id":1,"action":"start","group":"a"', None, "not a line of JSON"),
    (b'{"id":1,"action":"start","group":"\xff"}', None, "not a line of JSON"),
    (b"[" * 100_000, None, "not a line of JSON"),
    (b"[]", None, "not a JSON object"),
    (b"null", None, "not a JSON object"),
    (b'{"id":1,"id":2,"action":"start","group":"a"}', None, "a key stands twice"),
    (b'{"id":NaN,"action":"start","group":"a"}', None, "NaN is not JSON"),
    (b"{}", None, "'action' is missing"),
    (b'{"id":1,"action":"start"}', 1, "'group' is missing"),
    (b'{"id":1,"action":"start","group":"a","unit":"x"}', 1, "a key too many"),
    (b'{"id":"1","action":"start","group":"a"}', None, "'id' must be a number from 1 to 9007199254740992"),
    (b'{"id":true,"action":"start","group":"a"}', None, "'id' must be a number from 1 to 9007199254740992"),
    (b'{"id":0,"action":"start","group":"a"}', None, "'id' must be a number from 1 to 9007199254740992"),
    (b'{"id":1.5,"action":"start","group":"a"}', None, "'id' must be a number from 1 to 9007199254740992"),
    (b'{"id":1,"action":"status","group":"a"}', 1, "'action' must be one of start, stop, restart"),
    (b'{"id":1,"action":["start"],"group":"a"}', 1, "'action' must be one of start, stop, restart"),
    (b'{"id":1,"action":"start","group":null}', 1, "'group' must be text of at most 256 characters"),
    (b'{"id":1,"action":"start","group":["a"]}', 1, "'group' must be text of at most 256 characters"),
    (
        b'{"id":1,"action":"start","group":"%s"}' % (b"a" * 257),
        1,
        "'group' must be text of at most 256 characters",
    ),
    (b"1" * 5000, None, "not a line of JSON"),
    (b'{"ping":0}', None, "'ping' must be a number from 1 to 9007199254740992"),
    (b'{"ping":1,"id":1}', None, "a key too many"),
]


@pytest.mark.parametrize(
    ("line", "request_id", "reason"), MALFORMED_REQUESTS, ids=lambda value: str(value)[:40]
)
def test_what_is_not_a_request_is_refused(line: bytes, request_id: int | None, reason: str) -> None:
    with pytest.raises(Malformed) as caught:
        parse_request(line)
    assert (caught.value.request_id, str(caught.value)) == (request_id, reason)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"type": "hello"},
        {"type": "hello", "version": 1},
        {"type": "hallo", "version": "1"},
        {"type": "accepted", "id": None},
        {"type": "accepted", "id": 1, "more": 1},
        {"type": "finished", "id": 1, "units": {}, "superseded": False},
        {"type": "finished", "id": 1, "units": [1], "superseded": False},
        {"type": "finished", "id": 1, "units": [], "superseded": 0},
        *(
            {"type": "finished", "id": 1, "units": [unit], "superseded": False}
            for unit in (
                {"unit": "a", "job": "done", "detail": ""},
                {"unit": "a", "job": 1, "detail": "", "job_id": 1},
                {"unit": "a", "job": "done", "detail": "", "job_id": -1},
                {"unit": "a", "job": "done", "detail": "", "job_id": "1"},
            )
        ),
        {"type": "observed", "group": "lamp", "verdict": "maybe", "reason": ""},
        {"type": "observed", "group": "lamp", "verdict": [], "reason": ""},
        {"type": "observed", "group": "lamp", "verdict": None, "reason": ""},
        {"type": "observed", "group": 1, "verdict": "on", "reason": ""},
        {"type": "observed", "group": "lamp", "verdict": "on"},
        {"type": "observed", "group": "lamp", "verdict": "on", "reason": "x" * 501},
        {"type": "refused", "id": 1},
        {"type": "refused", "id": 1, "reason": None},
    ],
)
def test_what_is_not_a_reply_is_refused(body: object) -> None:
    with pytest.raises(Malformed):
        parse_reply(json.dumps(body).encode())


def test_a_job_result_of_a_newer_systemd_is_unknown_and_no_success() -> None:
    line = (
        b'{"type":"finished","id":1,"units":[{"unit":"a","job":"brand-new","detail":"","job_id":2}],'
        b'"superseded":false}'
    )
    assert parse_reply(line) == Finished(1, (UnitResult("a", JobResult.UNKNOWN, job_id=2),))
    assert not JobResult.UNKNOWN.success


def test_the_largest_reply_fits_into_a_line() -> None:
    units = tuple(UnitResult("u" * 255, JobResult.REFUSED, "ü" * 1000) for _ in range(40))
    assert len(encode(Finished(1, units))) < LONGEST_REPLY_BYTES
    assert len(json.loads(encode(Refused(1, "x" * 9999)))["reason"]) == LONGEST_DETAIL
