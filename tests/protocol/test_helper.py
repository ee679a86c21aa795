"""The messages on the helper's pipe: what is one, and what is refused."""

import json
from typing import Any

import pytest

from hkswitch.model.elsewhere import Trait
from hkswitch.model.unit_state import (
    Action,
    ActiveState,
    JobResult,
    LoadState,
    ProbeResult,
    UnitFailure,
    UnitResult,
    UnitState,
    Usage,
)
from hkswitch.protocol.helper import (
    CONFIRM_AT_LENGTH_MS,
    CONFIRM_MS,
    HELPER_PROTOCOL,
    LONGEST_DETAIL,
    LONGEST_REPLY_BYTES,
    LONGEST_REQUEST_BYTES,
    MOST_STATES,
    Accepted,
    Alert,
    Complete,
    ConfigUpdate,
    DaemonMessage,
    Finished,
    GroupUpdate,
    Hello,
    Lost,
    Observe,
    Ping,
    Pong,
    ProbeUpdate,
    Refused,
    Reply,
    Request,
    SamplesUpdate,
    StatesUpdate,
    encode_message,
    parse_request,
)
from hkswitch.protocol.helper_replies import parse_reply
from hkswitch.protocol.json_lines import MalformedMessage
from hkswitch.protocol.report import MOST_GROUPS

TOKEN = "0123456789abcdef" * 2
UP = UnitState(LoadState.LOADED, ActiveState.ACTIVE, "running")

ASKS: list[DaemonMessage] = [
    Request(7, Action.START, "file\nserver", TOKEN),
    Request(2**53, Action.RESTART, "ä", "", CONFIRM_AT_LENGTH_MS),
    Ping(9),
    Observe(1),
    Observe(2, ("web", "lamp")),
    Request(8, Action.RESTART, "web", TOKEN, CONFIRM_MS, by_rule=True),
    Alert(9, "web", TOKEN, "failed", 'web.service failed: 100 % "quoted", ä'),
    Alert(9, "web", TOKEN, "unknown", ""),
]
REPLIES: list[Reply] = [
    Hello("1.2.3"),
    Hello("1.2.3", HELPER_PROTOCOL + 1),
    Hello("1.2.3", HELPER_PROTOCOL, 1_800_000_000),
    Pong(5),
    Accepted(1),
    Finished(
        2, (UnitResult("a.service", JobResult.DONE), UnitResult("b.service", JobResult.REFUSED, "no, ä"))
    ),
    Finished(3, (), superseded=True),
    Refused(4, "denied"),
    Refused(None, "not a request"),
    GroupUpdate(1, "web", TOKEN, ("a.service", "b.service")),
    GroupUpdate(1, "tv", TOKEN, (), (Action.START,), (Trait.COMMANDS, Trait.MOMENTARY), 3600),
    GroupUpdate(1, "web", ""),
    StatesUpdate(2, {"a.service": UP, "b.service": UP._replace(sub="")}, {}),
    StatesUpdate(
        2, {}, {"lamp": ProbeUpdate(None), "web": ProbeUpdate(ProbeResult.OFF, "/opt/check exited with 1")}
    ),
    StatesUpdate(2, {}, {}, {"a.service": UnitFailure("0f", False, "a.service failed"), "b.service": None}),
    SamplesUpdate(
        2, 17.25, (Usage("a.service", "0f", 3.5, 2**62, None), Usage("docker/a", "x", 0.0, None, 0))
    ),
    SamplesUpdate(2, 0.0, ()),
    Complete(3),
    Lost(4, "cannot talk to systemd"),
    ConfigUpdate("config.yaml:1:1: wrong"),
    ConfigUpdate(""),
]


@pytest.mark.parametrize("ask", ASKS, ids=str)
def test_what_the_daemon_says_survives_the_pipe(ask: DaemonMessage) -> None:
    line = encode_message(ask)
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    heard = parse_request(line)
    assert (type(heard), heard) == (type(ask), ask)


@pytest.mark.parametrize("reply", REPLIES, ids=str)
def test_what_the_helper_says_survives_the_pipe(reply: Reply) -> None:
    line = encode_message(reply)
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    heard = parse_reply(line)
    assert (type(heard), heard) == (type(reply), reply)


# Root is strict


def request(**changes: object) -> bytes:
    """A good request but for the changes; a key that becomes `...` is left out."""
    body = {
        "id": 1,
        "action": "start",
        "group": "a",
        "token": TOKEN,
        "confirm_ms": 200,
        "by_rule": False,
    } | changes
    return json.dumps({key: value for key, value in body.items() if value is not ...}).encode()


def alert(**changes: object) -> bytes:
    """A good alert but for the changes."""
    body = {"id": 1, "group": "a", "token": TOKEN, "state": "failed", "reason": "a.service failed"} | changes
    return json.dumps({key: value for key, value in body.items() if value is not ...}).encode()


@pytest.mark.parametrize("confirm_ms", [200, 1000])
@pytest.mark.parametrize("action", Action)
def test_root_takes_a_request(action: Action, confirm_ms: int) -> None:
    asked = request(action=action, confirm_ms=confirm_ms)
    assert parse_request(asked) == Request(1, action, "a", TOKEN, confirm_ms)


@pytest.mark.parametrize(
    "changes",
    [{"group": ""}, {"group": "x" * 256}, {"token": ""}, {"token": "x" * 64}, {"id": 2**53}],
    ids=str,
)
def test_root_takes_a_request_at_its_limits(changes: dict[str, Any]) -> None:
    assert parse_request(request(**changes))._asdict().items() >= changes.items()


A_NUMBER = "must be an integer from 1 to 9007199254740992"
A_NAME = "must be a string of at most 256 characters"
A_TOKEN = "'token' must be a string of at most 64 characters"
A_TIME = "'confirm_ms' must be 200 or 1000"
SAMPLED = "'sampled' must be a list of at most 149 groups"
AN_ACTION = "'action' must be one of start, stop, restart"

MALFORMED_REQUESTS: list[tuple[bytes, int | None, str]] = [
    (b"", None, "not a line of JSON"),
    (b"start fileserver", None, "not a line of JSON"),
    (request()[:-1], None, "not a line of JSON"),
    (request(group="x").replace(b'"x"', b'"\xff"'), None, "not a line of JSON"),
    (b"[" * 100_000, None, "not a line of JSON"),
    (b"1" * 5000, None, "not a line of JSON"),
    (b"[]", None, "not a JSON object"),
    (b"null", None, "not a JSON object"),
    (request().replace(b"{", b'{"id":2,'), None, "duplicate key"),
    (request().replace(b"{", b'{"token":"",'), None, "duplicate key"),
    (b'{"id":NaN}', None, "NaN is not JSON"),
    (b"{}", None, "'action' is missing"),
    (request(id=...), None, "'id' is missing"),
    (request(group=...), 1, "'group' is missing"),
    (request(token=...), 1, "'token' is missing"),
    (request(confirm_ms=...), 1, "'confirm_ms' is missing"),
    (request(unit="x"), 1, "unexpected key"),
    (request(command=["/bin/sh"]), 1, "unexpected key"),
    (request(type="request"), 1, "unexpected key"),
    (request(id="1"), None, f"'id' {A_NUMBER}"),
    (request(id=True), None, f"'id' {A_NUMBER}"),
    (request(id=0), None, f"'id' {A_NUMBER}"),
    (request(id=1.5), None, f"'id' {A_NUMBER}"),
    (request(id=2**53 + 1), None, f"'id' {A_NUMBER}"),
    (request(action="status"), 1, AN_ACTION),
    (request(action=["start"]), 1, AN_ACTION),
    (request(action=None), 1, AN_ACTION),
    (request(group=None), 1, f"'group' {A_NAME}"),
    (request(group=["a"]), 1, f"'group' {A_NAME}"),
    (request(group="x" * 257), 1, f"'group' {A_NAME}"),
    (request(token=None), 1, A_TOKEN),
    (request(token=7), 1, A_TOKEN),
    (request(token="x" * 65), 1, A_TOKEN),
    (request(confirm_ms=0), 1, f"'confirm_ms' {A_NUMBER}"),
    (request(confirm_ms=-200), 1, f"'confirm_ms' {A_NUMBER}"),
    (request(confirm_ms=True), 1, f"'confirm_ms' {A_NUMBER}"),
    (request(confirm_ms=200.0), 1, f"'confirm_ms' {A_NUMBER}"),
    (request(confirm_ms="200"), 1, f"'confirm_ms' {A_NUMBER}"),
    (request(confirm_ms=1), 1, A_TIME),
    (request(confirm_ms=201), 1, A_TIME),
    (request(confirm_ms=86_400_000), 1, A_TIME),
    (request(by_rule=...), 1, "'by_rule' is missing"),
    (request(by_rule=1), 1, "'by_rule' must be true or false"),
    (request(by_rule=None), 1, "'by_rule' must be true or false"),
    (alert(state=...), 1, "'state' is missing"),
    (alert(state="crashed"), 1, "'state' must be the state of a group"),
    (alert(state=None), 1, f"'state' {A_NAME}"),
    (alert(reason="a\nb"), 1, "'reason' must be printable"),
    (alert(reason="\x1b[31m"), 1, "'reason' must be printable"),
    (alert(reason="x" * 501), 1, "'reason' must be a string of at most 500 characters"),
    (alert(token=...), 1, "'token' is missing"),
    (alert(action="alert"), 1, "unexpected key"),
    (alert(id=0), None, f"'id' {A_NUMBER}"),
    (b'{"observe":1}', None, "'sampled' is missing"),
    (b'{"observe":1,"sampled":"web"}', None, SAMPLED),
    (b'{"observe":1,"sampled":{}}', None, SAMPLED),
    (b'{"observe":1,"sampled":[1]}', None, SAMPLED),
    (json.dumps({"observe": 1, "sampled": ["web"] * 150}).encode(), None, SAMPLED),
    (b'{"ping":0}', None, f"'ping' {A_NUMBER}"),
    (b'{"ping":true}', None, f"'ping' {A_NUMBER}"),
    (b'{"ping":1,"id":1}', None, "unexpected key"),
    (b'{"observe":true,"sampled":[]}', None, f"'observe' {A_NUMBER}"),
    (b'{"observe":0,"sampled":[]}', None, f"'observe' {A_NUMBER}"),
    (b'{"observe":null,"sampled":[]}', None, f"'observe' {A_NUMBER}"),
    (b'{"observe":["lamp"],"sampled":[]}', None, f"'observe' {A_NUMBER}"),
    (b'{"observe":1,"observe":2}', None, "duplicate key"),
    (b'{"observe":1,"sampled":[],"group":"lamp"}', None, "unexpected key"),
    (b'{"observe":1,"sampled":[],"ping":1}', None, "unexpected key"),
]


@pytest.mark.parametrize(
    ("line", "request_id", "reason"), MALFORMED_REQUESTS, ids=lambda value: str(value)[:90]
)
def test_what_is_not_a_request_is_refused(line: bytes, request_id: int | None, reason: str) -> None:
    with pytest.raises(MalformedMessage) as caught:
        parse_request(line)
    assert (caught.value.request_id, str(caught.value)) == (request_id, reason)


@pytest.mark.parametrize(
    "longest",
    [
        Request(2**53, Action.RESTART, "\U0001f4a1" * 256, "x" * 64, CONFIRM_AT_LENGTH_MS, by_rule=True),
        Observe(2**53, ("x" * 64,) * MOST_GROUPS),
        Alert(2**53, "x" * 64, "x" * 64, "unknown", "\U0001f4a1" * LONGEST_DETAIL),
    ],
    ids=["request", "observe", "alert"],
)
def test_the_longest_requests_fit_into_a_line(longest: DaemonMessage) -> None:
    assert len(encode_message(longest)) <= LONGEST_REQUEST_BYTES


# The daemon may be older or newer than its helper


@pytest.mark.parametrize("reply", REPLIES, ids=str)
def test_a_key_of_a_newer_helper_is_ignored(reply: Reply) -> None:
    body = json.loads(encode_message(reply))
    if isinstance(reply, Finished):
        body["units"] = [unit | {"brand-new": 1} for unit in body["units"]]
    assert parse_reply(json.dumps(body | {"brand-new": [1]}).encode()) == reply


@pytest.mark.parametrize("kind", ["brand-new", "request", "observed", "HELLO"])
def test_a_message_of_a_newer_helper_is_ignored(kind: str) -> None:
    assert parse_reply(json.dumps({"type": kind, "epoch": "later"}).encode()) is None


def test_a_helper_that_says_no_protocol_is_of_the_first() -> None:
    assert parse_reply(b'{"type":"hello","version":"0.1.0"}') == Hello("0.1.0", 1)


PROBED = StatesUpdate(1, {"a.service": UP}, {"a": ProbeUpdate(ProbeResult.ON, "x")})
GOOD: dict[str, dict[str, Any]] = {
    body["type"]: body for body in map(json.loads, map(encode_message, [*REPLIES, PROBED]))
}
"""A good message of each type, the last of `REPLIES`."""


def test_there_is_a_good_message_of_each_type() -> None:
    assert GOOD.keys() == {
        *("hello", "pong", "accepted", "finished", "refused", "config"),
        *("group", "states", "samples", "complete", "lost"),
    }
    for body in GOOD.values():
        assert parse_reply(json.dumps(body).encode()) is not None


OPTIONAL = {
    *(("hello", "protocol"), ("hello", "unix_seconds"), ("states", "failures")),
    *(("group", key) for key in ("actions", "traits", "timeout_seconds")),
}


@pytest.mark.parametrize(
    ("kind", "key"),
    [(kind, key) for kind, body in GOOD.items() for key in body if (kind, key) not in OPTIONAL],
)
def test_a_message_lacks_none_of_its_keys(kind: str, key: str) -> None:
    body = {name: value for name, value in GOOD[kind].items() if name != key}
    with pytest.raises(MalformedMessage):
        parse_reply(json.dumps(body).encode())


@pytest.mark.parametrize(
    ("kind", "key", "value"),
    [
        ("hello", "type", 1),
        ("hello", "version", 1),
        ("hello", "version", "x" * 257),
        ("hello", "protocol", "2"),
        ("hello", "protocol", True),
        ("hello", "unix_seconds", "now"),
        ("hello", "unix_seconds", -1),
        ("pong", "id", 0),
        ("accepted", "id", None),
        ("finished", "units", {}),
        ("finished", "units", [1]),
        ("finished", "units", [{"unit": "a", "job": "done"}]),
        ("finished", "units", [{"unit": "a", "job": 1, "detail": ""}]),
        ("finished", "units", [{"unit": "a", "job": "done", "detail": "x" * 501}]),
        ("finished", "units", [{"unit": "x" * 257, "job": "done", "detail": ""}]),
        ("finished", "superseded", 0),
        ("states", "failures", {}),
        ("states", "failures", [["a", "run", False]]),
        ("states", "failures", [["a", "run", 0, "reason"]]),
        ("states", "failures", [["a", "run", False, "x" * 501]]),
        ("states", "failures", [["a", "x" * 257, False, "reason"]]),
        ("states", "failures", [["a", "run", False, "reason"], ["a", "", False, ""]]),
        ("samples", "at_seconds", "1"),
        ("samples", "at_seconds", True),
        ("samples", "at_seconds", -1),
        ("samples", "at_seconds", 1e300),
        ("samples", "usages", [["a", "run", 1, 2]]),
        ("samples", "usages", [["a", "run", 1, -2, 0]]),
        ("samples", "usages", [["a", "run", 1, 2.5, 0]]),
        ("samples", "usages", [["a", "run", 1, 2**64, 0]]),
        ("samples", "usages", [["a", "run", None, 2, 0]]),
        ("samples", "usages", [["a" * 257, "run", 1, 2, 0]]),
        ("refused", "id", "1"),
        ("refused", "reason", None),
        ("refused", "reason", "x" * 501),
        ("config", "problem", None),
        ("config", "problem", "x" * 501),
        ("group", "epoch", 0),
        ("group", "epoch", "1"),
        ("group", "group", 1),
        ("group", "group", "x" * 257),
        ("group", "token", None),
        ("group", "token", "x" * 65),
        ("group", "units", "a.service"),
        ("group", "units", [1]),
        ("group", "units", ["x" * 257]),
        ("states", "epoch", True),
        ("states", "units", {}),
        ("states", "units", ["loaded"]),
        ("states", "units", [["a.service", "loaded", "active"]]),
        ("states", "units", [["a.service", "loaded", "active", "running", ""]]),
        ("states", "units", [["a.service", "loaded", "active", None]]),
        ("states", "units", [[1, "loaded", "active", "running"]]),
        ("states", "units", [["a.service", "loaded", "active", "x" * 257]]),
        ("states", "units", [["x" * 257, "loaded", "active", "running"]]),
        ("states", "units", [["a.service", "loaded", "active", "running"]] * 2),
        ("states", "probes", [["lamp", "on", ""]] * 2),
        ("states", "probes", None),
        ("states", "probes", [["lamp", "on"]]),
        ("states", "probes", [["lamp", "on", "", ""]]),
        ("states", "probes", [["lamp", "maybe", ""]]),
        ("states", "probes", [["lamp", [], ""]]),
        ("states", "probes", [["lamp", True, ""]]),
        ("states", "probes", [["lamp", "on", None]]),
        ("states", "probes", [[1, "on", ""]]),
        ("states", "probes", [["lamp", "on", "x" * 501]]),
        ("states", "probes", [["x" * 257, "on", ""]]),
        ("complete", "epoch", None),
        ("lost", "reason", 1),
        ("lost", "reason", "x" * 501),
    ],
    ids=lambda value: str(value)[:60],
)
def test_a_value_of_another_kind_is_refused(kind: str, key: str, value: object) -> None:
    with pytest.raises(MalformedMessage):
        parse_reply(json.dumps(GOOD[kind] | {key: value}).encode())


@pytest.mark.parametrize("line", [b"", b"sudo: no", b"[]", b"{}", b'{"type":"pong","id":1,"id":2}'])
def test_what_is_not_a_reply_is_refused(line: bytes) -> None:
    with pytest.raises(MalformedMessage):
        parse_reply(line)


def test_words_of_a_newer_systemd_are_unknown_and_no_success() -> None:
    job = {"unit": "a", "job": "brand-new", "detail": ""}
    finished = json.dumps(GOOD["finished"] | {"id": 1, "units": [job], "superseded": False})
    assert parse_reply(finished.encode()) == Finished(1, (UnitResult("a", JobResult.UNKNOWN),))
    assert not JobResult.UNKNOWN.success
    states = json.dumps(
        {"type": "states", "epoch": 1, "units": [["a", "new", "newer", "newest"]], "probes": []}
    )
    unknown = UnitState(LoadState.UNKNOWN, ActiveState.UNKNOWN, "newest")
    assert parse_reply(states.encode()) == StatesUpdate(1, {"a": unknown}, {})


@pytest.mark.parametrize("letter", ["x", "ü", "\N{PARTY POPPER}"])
def test_the_longest_messages_fit_into_a_line(letter: str) -> None:
    name = "\\" * 255  # JSON writes each of them as two
    results = tuple(UnitResult(name, JobResult.REFUSED, letter * 1000) for _ in range(128))
    assert len(encode_message(Finished(1, results))) < LONGEST_REPLY_BYTES
    assert len(json.loads(encode_message(Refused(1, "x" * 9999)))["reason"]) == LONGEST_DETAIL
    assert len(encode_message(GroupUpdate(1, name, TOKEN, (name,) * 128))) < LONGEST_REPLY_BYTES
    units = {f"{number}{name}"[:255]: UP._replace(sub="x" * 256) for number in range(MOST_STATES)}
    assert len(encode_message(StatesUpdate(1, units, {}))) < LONGEST_REPLY_BYTES
    probes = {
        f"{number}{name}"[:64]: ProbeUpdate(ProbeResult.OFF, letter * 1000) for number in range(MOST_STATES)
    }
    assert len(units) == len(probes) == MOST_STATES
    assert len(encode_message(StatesUpdate(1, units, probes))) < LONGEST_REPLY_BYTES
