"""The scenarios and the list of differences, as far as neither bridge is needed."""

import json

import pytest

from tests.peer import tlv
from tests.peer.compare import (
    Difference,
    Found,
    Judgement,
    Transcript,
    compare,
    explanation,
    like,
    unexplained,
    unused,
)
from tests.peer.differences import DIFFERENCES
from tests.peer.raw_connection import Message
from tests.peer.scenario import Request, Send, doubled, having, item, put, read, with_ids, without
from tests.peer.scenario_run import services_of
from tests.peer.tables import ALL
from tests.peer.tables.frames import padded
from tests.peer.tlv import Kind

IDS = {"web.On": (7, 9), "mail.On": (8, 9)}
KNOWN = (
    Difference(("read: *",), "closed", "400", Judgement.EITHER, "one"),
    Difference(("*",), "20*", "silence", Judgement.OURS, "two"),
)


def test_there_are_at_least_300_scenarios_with_names_of_their_own() -> None:
    assert len({scenario.name for scenario in ALL}) == len(ALL) >= 300


def test_no_scenario_is_another_one_again() -> None:
    seen = {(each.bridge_kind, tuple(each.who.items()), each.identity.id, repr(each.steps)) for each in ALL}
    assert len(seen) == len(ALL)


def test_every_scenario_sends_what_can_be_rendered() -> None:
    names = {f"{name}.{what}": (2, 9) for name in NAMES for what in WHAT}
    requests = [r for each in ALL for step in each.steps if isinstance(step, Send) for r in step.requests]
    assert all(request.render(names) for request in requests)


NAMES = ("bridge", "web", "mail", "slow", "broken", "doomed", "gone", "outlet", "lamp", "fan")
WHAT = ("On", "Name", "Model", "Manufacturer", "Identify", "OutletInUse", "Version")


@pytest.mark.parametrize(
    ("request_", "sent"),
    [
        (read("web.On", "mail.On"), b"GET /characteristics?id=7.9,8.9 HTTP/1.1\r\nHost: bridge\r\n\r\n"),
        (Request(raw=b"GET <web.On>\r\n\r\n"), b"GET 7.9\r\n\r\n"),
        (Request("GET", "/<other>"), b"GET /<other> HTTP/1.1\r\nHost: bridge\r\n\r\n"),
    ],
)
def test_names_stand_for_ids(request_: Request, sent: bytes) -> None:
    assert request_.render(IDS) == sent


def test_an_item_is_placed_by_its_name() -> None:
    body = put(item("web.On", value=True), {"aid": 1, "iid": 2}, pid=3).body
    assert with_ids(body, IDS) == {
        "characteristics": [{"aid": 7, "iid": 9, "value": True}, {"aid": 1, "iid": 2}],
        "pid": 3,
    }


@pytest.mark.parametrize("size", [1023, 1024, 1025, 2049, 9217])
def test_a_padded_request_is_as_long_as_it_says(size: int) -> None:
    assert len(padded(size).render({})) == size


@pytest.mark.parametrize(
    ("ours", "theirs", "found"),
    [
        (["204"], ["204"], []),
        (["204"], ["207"], [("204", "207")]),
        (["204"], [], [("204", "-")]),
        (["204", "closed"], ["200", "closed"], [("204", "200")]),
        (["silence"], ["204", "still open"], [("silence", "204")]),
        (["204", "200"], ["closed"], [("204", "closed")]),
    ],
)
def test_lines_are_compared_up_to_the_end_of_a_connection(
    ours: list[str], theirs: list[str], found: list[tuple[str, str]]
) -> None:
    seen = compare("x", {"a": ours}, {"a": theirs})
    assert [(each.ours, each.theirs) for each in seen] == found


@pytest.mark.parametrize(
    ("name", "ours", "theirs", "why"),
    [
        ("read: x", "closed", "400", "one"),
        ("write: x", "204", "silence", "two"),
        ("write: x", "closed", "400", None),
        ("read: x", "closed", "401", None),
        ("read: x", "closed afterwards", "400", None),
        ("write: x", "404", "silence", None),
    ],
)
def test_an_entry_explains_what_it_says_and_nothing_else(
    name: str, ours: str, theirs: str, why: str | None
) -> None:
    known = explanation(Found(name, "a", ours, theirs), KNOWN)
    assert (None if known is None else known.why) == why


def test_an_unknown_difference_and_an_unused_entry_are_found() -> None:
    lines: tuple[Transcript, Transcript] = {"a": ["closed"]}, {"a": ["400"]}
    found = [*compare("read: x", *lines), *compare("write: x", *lines)]
    assert [each.name for each in unexplained(found, KNOWN)] == ["write: x"]
    assert [each.why for each in unused(found, KNOWN)] == ["two"]


def test_every_entry_has_a_reason_and_names_scenarios_that_there_are() -> None:
    patterns = {pattern for each in DIFFERENCES for pattern in each.scenarios}
    for pattern in patterns:
        assert any(like(pattern, one.name) for one in ALL), pattern
    assert all(each.why for each in DIFFERENCES)


@pytest.mark.parametrize(
    "parts",
    [
        [],
        [(6, b"\1")],
        [(3, b"x" * 255)],
        [(3, b"x" * 384), (6, b"\1"), (3, b"y")],
        [(3, b"x" * 510), (6, b"")],
    ],
)
def test_tlv_is_taken_apart_as_it_was_put_together(parts: list[tlv.Part]) -> None:
    assert tlv.decode(tlv.encode(parts)) == parts


@pytest.mark.parametrize("data", [b"\6", b"\6\1", b"\6\1\1\3", b"\3\377" + b"x" * 254])
def test_a_tlv_that_is_cut_off_is_refused(data: bytes) -> None:
    with pytest.raises(tlv.Truncated):
        tlv.decode(data)


def test_a_change_changes_the_part_that_it_names() -> None:
    parts: list[tlv.Part] = [(Kind.STATE, b"\1"), (Kind.METHOD, b"\0")]
    assert tlv.decode(without(Kind.METHOD)(parts)) == parts[:1]
    assert tlv.decode(doubled(Kind.METHOD)(parts)) == [parts[0], parts[1], parts[1]]
    assert tlv.decode(having(Kind.METHOD, b"\5")(parts)) == [parts[0], (Kind.METHOD, b"\5")]


def _accessories(*switches: tuple[int, object, list[str]]) -> Message:
    found = [
        {"aid": aid, "services": [{"type": "49", "iid": 8, "characteristics": [_on(value, perms)]}]}
        for aid, value, perms in switches
    ]
    return Message("HTTP/1.1", 200, {}, json.dumps({"accessories": found}).encode())


def _on(value: object, perms: list[str]) -> dict[str, object]:
    return {"type": "25", "iid": 9, "value": value, "perms": perms, "format": "bool", "maxLen": 64}


@pytest.mark.parametrize(
    ("other", "same"),
    [
        (_accessories((9, True, ["pr"]), (4, False, ["ev", "pr"])), True),
        (_accessories((9, True, ["pr"])), False),
        (_accessories((9, True, ["pr"]), (4, True, ["ev", "pr"])), False),
        (_accessories((9, True, ["pr"]), (4, False, ["pr"])), False),
        (_accessories((9, True, ["pr"]), (1, False, ["ev", "pr"])), False),
    ],
)
def test_lists_are_the_same_whatever_their_ids_and_their_order(other: Message, same: bool) -> None:
    one = _accessories((2, 0, ["pr", "ev"]), (3, 1, ["pr"]))
    assert (services_of(one) == services_of(other)) is same
