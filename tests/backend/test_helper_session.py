"""One life of a helper, fed by hand: what is asked, what is believed, and what is left when it ends."""

import asyncio
import json
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from hkswitch.backend.helper_session import End, HelperGone, HelperSession, RequestRefused
from hkswitch.model.unit_state import Action, JobResult, ProbeResult, UnitResult
from hkswitch.protocol.helper import (
    HELPER_PROTOCOL,
    LONGEST_REPLY_BYTES,
    Complete,
    Finished,
    GroupUpdate,
    Lost,
    ProbeUpdate,
    Request,
    StatesUpdate,
    Update,
)
from tests.support.host_with_helper import UP, ignore

START = Request(7, Action.START, "web", "token")
HELLO: dict[str, Any] = {"type": "hello", "version": "1", "protocol": HELPER_PROTOCOL}
ROWS = [["httpd.service", "loaded", "active", "running"]]
STATES: dict[str, Any] = {"type": "states", "epoch": 1, "units": ROWS, "probes": [["web", "on", ""]]}


@dataclass
class Fed:
    """A session, what it was told by hand, and what it told and wrote."""

    told: list[Update] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    written: list[dict[str, Any]] = field(default_factory=list)
    session: HelperSession = field(init=False)

    def __post_init__(self) -> None:
        self.session = HelperSession(self.told.append, self.problems.append)
        self.session.begin(lambda data: self.written.append(json.loads(data)))

    def hear(self, *messages: dict[str, Any]) -> None:
        """Lines that come at once."""
        self.session.receive(b"".join(json.dumps(message).encode() + b"\n" for message in messages))

    @property
    def why(self) -> str:
        return self.session.ended.result().why


@pytest.fixture
async def fed() -> Fed:
    fed = Fed()
    fed.hear(HELLO)
    fed.session.observe(1)
    return fed


async def asking(fed: Fed, request: Request, accepted: Callable[[], None]) -> "asyncio.Task[Finished]":
    """A request that was written."""
    task = asyncio.create_task(fed.session.request(request, accepted))
    await asyncio.sleep(0)
    return task


async def test_a_request_is_written_with_its_token_and_returns_how_it_finished(fed: Fed) -> None:
    accepted: list[str] = []
    asked = await asking(fed, START, lambda: accepted.append("web"))
    sent = {"id": 7, "action": "start", "group": "web", "token": "token", "confirm_ms": 200, "by_rule": False}
    assert fed.written[-1] == sent
    fed.hear({"type": "accepted", "id": 7})
    assert accepted == ["web"]
    result = {"unit": "httpd.service", "job": "done", "detail": "ended"}
    fed.hear({"type": "finished", "id": 7, "units": [result], "superseded": False})
    assert await asked == Finished(7, (UnitResult("httpd.service", JobResult.DONE, "ended"),))
    assert accepted == ["web"]  # once


async def test_a_result_without_an_acceptance_is_one(fed: Fed) -> None:
    accepted: list[str] = []
    asked = await asking(fed, START, lambda: accepted.append("web"))
    fed.hear({"type": "finished", "id": 7, "units": [], "superseded": True})
    assert await asked == Finished(7, (), superseded=True)
    assert accepted == ["web"]


async def test_a_refusal_is_told_and_is_no_acceptance(fed: Fed) -> None:
    accepted: list[str] = []
    asked = await asking(fed, START, lambda: accepted.append("web"))
    fed.hear({"type": "refused", "id": 7, "reason": "denied: no"})
    with pytest.raises(RequestRefused, match="denied: no"):
        await asked
    assert accepted == []


@pytest.mark.parametrize("is_accepted", [False, True])
async def test_the_end_fails_what_is_under_way_and_says_whether_it_had_begun(
    fed: Fed, is_accepted: bool
) -> None:
    asked = await asking(fed, START, ignore)
    if is_accepted:
        fed.hear({"type": "accepted", "id": 7})
    fed.session.end()
    with pytest.raises(HelperGone) as caught:
        await asked
    assert (caught.value.why, caught.value.accepted) == ("it gave no reason", is_accepted)
    with pytest.raises(HelperGone, match="it gave no reason"):
        await fed.session.request(START, ignore)
    assert fed.written[-1]["id"] == 7
    assert sum("action" in message for message in fed.written) == 1  # what is over is sent nothing


async def test_replies_to_requests_that_nobody_waits_for_are_passed_over(fed: Fed) -> None:
    asked = await asking(fed, START, ignore)
    asked.cancel()
    await asyncio.gather(asked, return_exceptions=True)
    fed.hear({"type": "accepted", "id": 7}, {"type": "finished", "id": 99, "units": [], "superseded": False})
    fed.hear({"type": "refused", "id": 7, "reason": ""}, {"type": "refused", "id": None, "reason": ""})
    fed.hear({"type": "pong", "id": 5})
    assert not fed.session.ended.done()


async def test_a_ping_returns_with_its_own_pong_or_with_the_end(fed: Fed) -> None:
    first = asyncio.create_task(fed.session.ping())
    second = asyncio.create_task(fed.session.ping())
    await asyncio.sleep(0)
    numbers = [message["ping"] for message in fed.written if "ping" in message]
    fed.hear({"type": "pong", "id": numbers[1]})
    await second
    assert not first.done()
    fed.session.end()
    await first


async def test_what_is_told_is_handed_on_in_order(fed: Fed) -> None:
    group = {"type": "group", "epoch": 1, "group": "web", "token": "t", "units": ["httpd.service"]}
    fed.hear(group, STATES, {"type": "config", "problem": "no"}, {"type": "complete", "epoch": 1})
    fed.hear({"type": "lost", "epoch": 1, "reason": "no bus"})
    states = StatesUpdate(1, {"httpd.service": UP}, {"web": ProbeUpdate(ProbeResult.ON)})
    assert fed.told == [
        GroupUpdate(1, "web", "t", ("httpd.service",)),
        states,
        Complete(1),
        Lost(1, "no bus"),
    ]
    assert fed.problems == ["no"]


async def test_what_belongs_to_another_epoch_is_dropped(fed: Fed) -> None:
    fed.session.observe(2)
    assert fed.written[-1] == {"observe": 2, "sampled": []}
    fed.hear(STATES, {"type": "complete", "epoch": 1}, {**STATES, "epoch": 3})
    assert fed.told == []
    fed.hear({"type": "complete", "epoch": 2})
    assert fed.told == [Complete(2)]


async def test_what_only_a_newer_helper_says_is_passed_over(fed: Fed) -> None:
    fed.hear({"type": "usage", "cpu": 1}, {**STATES, "more": [1]}, {"type": "pong", "id": 1, "more": {}})
    assert len(fed.told) == 1
    assert not fed.session.ended.done()


@pytest.mark.parametrize("epoch", [1, 2])
async def test_words_of_systemd_that_are_not_known_are_no_reason_to_end(fed: Fed, epoch: int) -> None:
    row = ["httpd.service", "fancy", "glowing", "x"]
    fed.hear({**STATES, "epoch": epoch, "units": [row], "probes": []})
    assert len(fed.told) == (1 if epoch == 1 else 0)
    assert not fed.session.ended.done()


LONG = "x" * 257
INVALID: list[Any] = [  # of lines as they should be, and others
    {},
    {"type": 5},
    {"type": "pong"},
    {"type": "pong", "id": "1"},
    {"type": "pong", "id": True},
    {"type": "pong", "id": 2**53 + 1},
    {"type": "accepted", "id": None},
    {"type": "finished", "id": 7, "units": {}, "superseded": False},
    {"type": "finished", "id": 7, "units": [{"unit": "a"}], "superseded": False},
    {"type": "finished", "id": 7, "units": [], "superseded": "no"},
    {"type": "refused", "id": 7},
    {"type": "refused", "id": 7, "reason": "x" * 501},
    {"type": "config", "problem": None},
    {"type": "config", "problem": "x" * 501},
    {"type": "lost", "epoch": 1},
    {"type": "complete"},
    {"type": "complete", "epoch": 0},
    {"type": "group", "epoch": 1, "group": "web", "token": "x" * 65, "units": []},
    {"type": "group", "epoch": 1, "group": LONG, "token": "", "units": []},
    {"type": "group", "epoch": 1, "group": "web", "token": "", "units": "httpd"},
    {"type": "group", "epoch": 1, "group": "web", "token": "", "units": [LONG]},
    {"type": "group", "epoch": 1, "group": "web", "token": "", "units": [1]},
    {**STATES, "units": {"httpd.service": "active"}},
    {**STATES, "units": [["httpd.service", "loaded", "active"]]},
    {**STATES, "units": [["httpd.service", "loaded", "active", 1]]},
    {**STATES, "units": [["httpd.service", "loaded", "active", LONG]]},
    {**STATES, "units": None},
    {**STATES, "probes": [["web", "perhaps", ""]]},
    {**STATES, "probes": [["web", True, ""]]},
    {**STATES, "probes": [["web", "on", "x" * 501]]},
    {**STATES, "probes": [[LONG, "on", ""]]},
    ["type", "pong"],
    "pong",
    None,
]


@pytest.mark.parametrize("message", INVALID, ids=lambda message: json.dumps(message)[:70])
async def test_an_invalid_line_ends_the_session_and_nothing_behind_it_is_believed(
    fed: Fed, message: dict[str, Any]
) -> None:
    asked = await asking(fed, START, ignore)
    fed.hear(message, STATES, {"type": "config", "problem": "x"}, {"type": "accepted", "id": 7})
    assert fed.why.startswith("it sent an invalid line: ")
    assert (fed.told, fed.problems) == ([], [])
    with pytest.raises(HelperGone) as caught:
        await asked
    assert not caught.value.accepted


@pytest.mark.parametrize("protocol", [1, HELPER_PROTOCOL + 1, None])
async def test_of_a_helper_with_another_protocol_nothing_is_believed(protocol: int | None) -> None:
    fed = Fed()
    hello = {**HELLO, "protocol": protocol} if protocol else {"type": "hello", "version": "1"}
    fed.session.observe(1)
    fed.hear(hello, STATES, {"type": "config", "problem": "x"})
    assert fed.session.ended.result() == End(
        "it is version 1 of hkswitch; run `sudo systemctl restart hkswitch`"
    )
    assert (fed.told, fed.problems) == ([], [])
    with pytest.raises(HelperGone):
        await fed.session.hello


async def test_what_comes_after_the_end_is_not_believed(fed: Fed) -> None:
    asked = await asking(fed, START, ignore)
    fed.session.end("it did not answer within 5 s", was_silent=True)
    fed.hear(STATES, {"type": "finished", "id": 7, "units": [], "superseded": False})
    fed.session.receive_stderr(b"late\n")
    assert fed.told == []
    assert fed.session.ended.result() == End("it did not answer within 5 s", was_silent=True)
    with pytest.raises(HelperGone, match="did not answer"):
        await asked


@pytest.mark.parametrize("size", [1, 7, 4096])
async def test_lines_may_come_in_pieces(fed: Fed, size: int) -> None:
    whole = json.dumps(STATES).encode() + b"\n"
    for begin in range(0, len(whole), size):
        assert fed.told == []
        fed.session.receive(whole[begin : begin + size])
    assert len(fed.told) == 1


async def test_an_endless_line_ends_the_session_and_takes_no_more_memory_than_a_line(fed: Fed) -> None:
    piece = b"x" * 65536
    tracemalloc.start()
    for _ in range(1000):
        fed.session.receive(piece)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert fed.why == "it sent an invalid line: it is too long"
    assert peak_bytes < 4 * LONGEST_REPLY_BYTES


async def test_the_last_complaint_is_why_it_ended(fed: Fed, caplog: pytest.LogCaptureFixture) -> None:
    fed.session.receive_stderr(b"sudo: one\nsudo: a password ")
    fed.session.receive_stderr(b"is required\n\xff")
    fed.session.end()
    assert fed.why == "sudo: a password is required"
    assert "sudo: one" in caplog.text


async def test_a_session_that_ended_for_a_reason_keeps_it(fed: Fed) -> None:
    fed.session.end("one")
    fed.session.end("two", was_silent=True)
    assert fed.session.ended.result() == End("one")
