"""Helpers on other hosts, of other versions or hostile: what they are sent, and how they are understood."""

import json
from pathlib import Path
from typing import Any, Final

import pytest

from hkswitch.model.unit_state import Action
from hkswitch.protocol.helper import (
    HELPER_PROTOCOL,
    Alert,
    Complete,
    ConfigUpdate,
    DaemonMessage,
    Finished,
    GroupUpdate,
    Hello,
    Observe,
    Ping,
    Refused,
    Request,
    StatesUpdate,
    encode_message,
    parse_request,
)
from hkswitch.protocol.helper_dialect import SPOKEN, encode_for, missing_in
from hkswitch.protocol.helper_replies import parse_reply
from hkswitch.protocol.host_report import MOST_HOSTS, HostReport, host_object, parse_host
from hkswitch.protocol.json_lines import LARGEST_ID, MalformedMessage

RECORDING: Final = [
    json.loads(line) for line in Path(__file__).with_name("helper_0_2_0.jsonl").read_text().splitlines()
]
"""What the daemon said to the helper of 0.2.0 ("to"), which has protocol 2, and what that answered ("from").

Recorded with the program of that release. It rejects keys that it does not know, and it rejected nothing.
"""

TOLD: Final = [message for direction, message in RECORDING if direction == "from"]
SENT: Final = [message for direction, message in RECORDING if direction == "to"]
TOKENS: Final = {each["group"]: each["token"] for each in TOLD if each["type"] == "group"} | {"none": ""}


def request(number: int, action: Action, group: str, confirm_ms: int, *, by_rule: bool) -> Request:
    return Request(number, action, group, TOKENS[group], confirm_ms, by_rule)


ASKED: Final[list[DaemonMessage]] = [
    Observe(1, ("web",)),
    Ping(1),
    request(1, Action.START, "web", 200, by_rule=False),
    request(2, Action.RESTART, "web", 200, by_rule=True),
    request(3, Action.STOP, "web", 1000, by_rule=False),
    request(4, Action.START, "tv", 200, by_rule=False),
    request(5, Action.START, "none", 200, by_rule=False),
    Ping(2),
    Observe(2, ("web",)),
]


@pytest.mark.parametrize(("message", "sent"), [*zip(ASKED, SENT, strict=True)])
def test_0_2_0_is_sent_what_it_has_accepted(message: DaemonMessage, sent: dict[str, Any]) -> None:
    line = encode_for(message, 2)
    assert json.loads(line) == sent
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1


def test_0_2_0_has_answered_each_request_of_the_recording() -> None:
    ends = {each["id"]: each["type"] for each in TOLD if each["type"] in {"finished", "refused"}}
    assert ends == {1: "finished", 2: "finished", 3: "finished", 4: "finished", 5: "refused"}
    assert not [each for each in TOLD if each.get("id", "") is None], "it could not read a request"


def test_all_that_0_2_0_tells_is_understood() -> None:
    replies = [parse_reply(json.dumps(each).encode()) for each in TOLD]
    assert None not in replies
    assert replies[0] == Hello("0.2.0", 2)
    kinds = {type(reply) for reply in replies}
    assert {GroupUpdate, StatesUpdate, Complete, Finished, Refused, ConfigUpdate} <= kinds
    assert {reply.traits for reply in replies if isinstance(reply, GroupUpdate)} == {None}


@pytest.mark.parametrize("protocol", [HELPER_PROTOCOL, HELPER_PROTOCOL + 1, LARGEST_ID])
@pytest.mark.parametrize("message", [*ASKED, Alert(1, "web", "t", "failed", "why")])
def test_a_helper_of_this_version_or_a_newer_one_is_sent_everything(
    message: DaemonMessage, protocol: int
) -> None:
    line = encode_for(message, protocol)
    assert line == encode_message(message)
    assert parse_request(line) == message


def test_the_versions_before_and_after_are_spoken_and_no_others() -> None:
    assert {HELPER_PROTOCOL - 1, HELPER_PROTOCOL, HELPER_PROTOCOL + 1} == SPOKEN


@pytest.mark.parametrize(
    ("protocol", "missing"), [(2, True), (HELPER_PROTOCOL, False), (HELPER_PROTOCOL + 1, False)]
)
def test_what_an_older_helper_does_not_do_is_said(protocol: int, *, missing: bool) -> None:
    assert bool(missing_in(protocol)) is missing


NEWER: Final = {
    "group": {"epoch": 1, "group": "web", "token": "t", "units": [], "actions": ["start", "dance"],
              "traits": ["probe", "sings"], "timeout_seconds": 10, "song": {"a": [1]}},
    "states": {"epoch": 1, "units": [["a.service", "newer", "newest", "x"]], "probes": [], "moods": []},
    "hello": {"version": "9", "protocol": HELPER_PROTOCOL + 1, "greeting": "!"},
    "finished": {"id": 1, "superseded": False, "units": [{"unit": "a", "job": "x", "detail": "", "x": 1}]},
}  # fmt: skip


@pytest.mark.parametrize("kind", NEWER)
def test_what_only_a_newer_helper_knows_is_ignored(kind: str) -> None:
    assert parse_reply(json.dumps({"type": kind, **NEWER[kind]}).encode()) is not None


def test_an_unknown_message_of_a_newer_helper_is_none() -> None:
    assert parse_reply(b'{"type":"song","epoch":1}') is None


# What a helper writes, as it is shown

NASTY: Final = "\x1b[31m\x07\u202e\ud800\u2028\x9b2J\r\nEVIL"
RESULT: Final = {"type": "finished", "id": 1, "superseded": False}
TEXTS: Final = {
    "version": {"type": "hello", "version": NASTY, "protocol": 3},
    "refusal": {"type": "refused", "id": 1, "reason": NASTY},
    "config": {"type": "config", "problem": NASTY},
    "loss": {"type": "lost", "epoch": 1, "reason": NASTY},
    "sub state": {"type": "states", "epoch": 1, "units": [["a", "loaded", "active", NASTY]], "probes": []},
    "states": {"type": "states", "epoch": 1, "units": [["a", NASTY, NASTY, "x"]], "probes": []},
    "probe": {"type": "states", "epoch": 1, "units": [], "probes": [["a", "on", NASTY]]},
    "failure": {"type": "states", "epoch": 1, "units": [], "probes": [],
                "failures": [["a", "r", True, NASTY]]},
    "result": {**RESULT, "units": [{"unit": NASTY, "job": NASTY, "detail": NASTY}]},
}  # fmt: skip


@pytest.mark.parametrize("kind", TEXTS)
def test_free_text_of_a_helper_is_made_printable(kind: str) -> None:
    reply = repr(parse_reply(json.dumps(TEXTS[kind]).encode()))
    assert kind == "states" or "EVIL" in reply
    assert "\\" not in reply, "repr() escapes what cannot be printed"


GROUP: Final = {"type": "group", "epoch": 1, "group": "g", "token": "t", "units": ["u"]}
STATES: Final = {"type": "states", "epoch": 1, "units": [], "probes": [], "failures": []}
SAMPLES: Final = {"type": "samples", "epoch": 1, "at_seconds": 1, "usages": []}


def named(name: str) -> dict[str, dict[str, Any]]:
    """Return a message for each place where a name can stand."""
    state = ["loaded", "active", "x"]
    return {
        "group": {**GROUP, "group": name},
        "token": {**GROUP, "token": name},
        "member": {**GROUP, "units": [name]},
        "unit": {**STATES, "units": [[name, *state]]},
        "probe": {**STATES, "probes": [[name, "on", ""]]},
        "failed unit": {**STATES, "failures": [[name, "r", True, ""]]},
        "failed run": {**STATES, "failures": [["u", name, True, ""]]},
        "measured member": {**SAMPLES, "usages": [[name, "r", 0, 1, 1]]},
        "measured run": {**SAMPLES, "usages": [["u", name, 0, 1, 1]]},
    }


@pytest.mark.parametrize("place", named(""))
@pytest.mark.parametrize(
    ("name", "is_allowed"),
    [
        ("httpd.service", True),
        ("dev-disk-by\\x2dlabel.swap", True),
        ("docker/web_1", True),
        ("getty@tty1.service", True),
        (NASTY, False),
        ("a\x1b[2J", False),
        ("a\n", False),
        ("a\x00", False),
        ("a\u202eb", False),
        ("\u0430pache.service", False),  # a Cyrillic letter
        ("a\u200bb", False),
        ("\ud800", False),
    ],
)
def test_a_name_of_a_helper_is_plain_or_refused(place: str, name: str, *, is_allowed: bool) -> None:
    line = json.dumps(named(name)[place]).encode()
    if is_allowed:
        assert parse_reply(line) is not None
    else:
        with pytest.raises(MalformedMessage):
            parse_reply(line)


@pytest.mark.parametrize(
    "message",
    [
        {**STATES, "units": [[f"u{number}", "loaded", "active", "x"] for number in range(257)]},
        {**STATES, "probes": [[f"g{number}", "on", ""] for number in range(257)]},
        {**STATES, "failures": [[f"u{number}", "r", True, ""] for number in range(257)]},
        {**GROUP, "units": [f"u{number}" for number in range(257)]},
        {**RESULT, "units": [{"unit": "u", "job": "done", "detail": ""}] * 257},
        {**SAMPLES, "usages": [["u", "r", 2**60, 1, 1]]},
        {**SAMPLES, "usages": [["u", "r", 0, 2**64, 1]]},
        {**SAMPLES, "at_seconds": 2**60},
        {**SAMPLES, "at_seconds": -1},
        {**GROUP, "epoch": 2**60},
        {**GROUP, "actions": [], "traits": [], "timeout_seconds": 0},
        {**GROUP, "actions": [], "traits": [], "timeout_seconds": 2**60},
    ],
)  # fmt: skip
def test_what_is_absurd_is_refused(message: dict[str, Any]) -> None:
    with pytest.raises(MalformedMessage):
        parse_reply(json.dumps(message).encode())


# Hosts in the report

NAS: Final = HostReport("nas", "nas.lan", 1_700_000_000, 1.5, "0.3.0", "")


@pytest.mark.parametrize(
    "host",
    [NAS, HostReport("nas", "nas.lan"), NAS._replace(round_trip_ms=None, problem="it does not respond")],
)
def test_a_host_of_the_report_is_read_as_it_was_written(host: HostReport) -> None:
    assert parse_host(json.loads(json.dumps(host_object(host)))) == host


def test_what_a_host_said_is_printable_in_the_report() -> None:
    written = host_object(NAS._replace(version=NASTY, problem=NASTY))
    host = parse_host(json.loads(json.dumps(written)))
    assert "EVIL" in host.problem
    assert (host.version + host.problem).isprintable()


@pytest.mark.parametrize(
    "change",
    [
        {"name": "\x1b[2J"},
        {"name": 1},
        {"ssh": None},
        {"version": "\x07"},
        {"problem": "a\nb"},
        {"problem": "x" * 2001},
        {"connected_since_unix_seconds": -1},
        {"connected_since_unix_seconds": True},
        {"round_trip_ms": -0.1},
        {"round_trip_ms": "1"},
        {"round_trip_ms": True},
        {"round_trip_ms": 1e300},
    ],
    ids=repr,
)
def test_a_host_that_no_daemon_writes_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(MalformedMessage):
        parse_host({**host_object(NAS), **change})


@pytest.mark.parametrize("key", HostReport._fields)
def test_a_host_without_one_of_its_values_is_refused_unless_it_is_optional(key: str) -> None:
    body = {name: value for name, value in host_object(NAS).items() if name != key}
    if key == "round_trip_ms":
        assert parse_host(body).round_trip_ms is None
        return
    with pytest.raises(MalformedMessage):
        parse_host(body)


def test_there_are_as_many_hosts_as_groups() -> None:
    assert MOST_HOSTS == 149
