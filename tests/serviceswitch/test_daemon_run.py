"""A helper acts for the run of hkswitch.service that it was started in, and for no other."""

import asyncio
import gc
import json
import os
import socket
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest

from hkswitch.model.config import parse
from hkswitch.model.errors import BusUnavailable
from hkswitch.model.installation import DAEMON_UNIT
from hkswitch.model.unit_state import Action
from hkswitch.protocol.helper import Request, encode_message
from hkswitch.serviceswitch.daemon_run import NOT_OF_THIS_RUN, NOT_RUNNING, DaemonRun
from hkswitch.serviceswitch.policy import NOT_BEGUN, Refusal
from tests.serviceswitch.journal import Journal, journal
from tests.support.fake_systemd import FakeSystemd, Unit
from tests.support.fixtures import bus_address, fake, systemd_on_bus
from tests.support.helper import HelperProgram
from tests.support.waiting import eventually

__all__ = ["bus_address", "fake", "journal", "systemd_on_bus"]


@dataclass
class Answers:
    """Main processes of the daemon, one after the other; None is no answer."""

    pids: list[int | None]
    asked: list[str] = field(default_factory=list)

    async def main_process(self, service: str) -> int:
        self.asked.append(service)
        if (pid := self.pids.pop(0)) is None:
            raise BusUnavailable("the connection was lost")
        return pid


@pytest.mark.parametrize(
    ("peer", "pids", "refused"),
    [
        (77, [77], ""),
        (None, [77, 77], ""),
        (77, [0], NOT_RUNNING),
        (77, [78], NOT_OF_THIS_RUN),
        (0, [0], NOT_RUNNING),  # of another PID namespace
        (0, [77], NOT_OF_THIS_RUN),
        (None, [77, 0], NOT_RUNNING),
        (None, [77, 78], NOT_OF_THIS_RUN),
        (None, [0, 0], NOT_RUNNING),
        (None, [0, 77], NOT_OF_THIS_RUN),  # what began without a daemon gets none later
    ],
)
async def test_it_acts_while_the_main_process_is_the_one_that_asked(
    peer: int | None, pids: list[int | None], refused: str
) -> None:
    run, systemd = DaemonRun(peer, is_required=True, is_in_session=lambda: False), Answers(pids)
    await run.begin(systemd.main_process)
    with pytest.raises(Refusal, match=refused) if refused else nullcontext():
        await run.require(systemd.main_process)
    assert systemd.pids == []
    assert {*systemd.asked} == {DAEMON_UNIT}


LEADER = 78


@pytest.mark.parametrize(
    ("pids", "refused"),
    [
        ([LEADER], ""),
        ([77, LEADER], ""),
        ([77, 77], NOT_OF_THIS_RUN),  # a later run, which began before this process asked
        ([LEADER, 77], NOT_OF_THIS_RUN),
        ([LEADER, 0], NOT_RUNNING),
    ],
)
async def test_where_pam_moved_it_out_of_the_daemons_unit_it_acts_for_the_leader_of_its_session(
    monkeypatch: pytest.MonkeyPatch, pids: list[int | None], refused: str
) -> None:
    monkeypatch.setattr(os, "getsid", {0: LEADER}.__getitem__)
    run, systemd = DaemonRun(None, is_required=True, is_in_session=lambda: True), Answers([*pids, *pids][:2])
    await run.begin(systemd.main_process)
    with pytest.raises(Refusal, match=refused) if refused else nullcontext():
        await run.require(systemd.main_process)


async def test_without_an_answer_it_does_not_act() -> None:
    run = DaemonRun(77, is_required=True, is_in_session=lambda: False)
    with pytest.raises(BusUnavailable):
        await run.require(Answers([None]).main_process)


async def test_a_new_connection_is_no_new_run() -> None:
    run, systemd = DaemonRun(None, is_required=True, is_in_session=lambda: False), Answers([77, 78])
    await run.begin(systemd.main_process)
    await run.begin(systemd.main_process)
    with pytest.raises(Refusal):
        await run.require(systemd.main_process)


async def test_of_other_users_nothing_is_required() -> None:
    run, systemd = DaemonRun(None, is_required=False, is_in_session=lambda: False), Answers([])
    await run.begin(systemd.main_process)
    await run.require(systemd.main_process)
    assert systemd.asked == []


async def test_an_answer_that_nobody_waits_for_any_longer_is_no_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """asyncio would log the exception of the question, on the standard error that the daemon reads."""
    lost = asyncio.Event()

    async def main_process(_: str) -> int:
        await lost.wait()
        raise BusUnavailable("the connection was lost")

    run = DaemonRun(77, is_required=True, is_in_session=lambda: False)
    asking = asyncio.ensure_future(run.require(main_process))
    await asyncio.sleep(0)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    lost.set()
    await eventually(lambda: asyncio.all_tasks() == {asyncio.current_task()})
    gc.collect()
    assert caplog.messages == []


async def test_requests_that_arrive_together_share_a_question_and_a_later_one_has_its_own() -> None:
    run, answer = DaemonRun(77, is_required=True, is_in_session=lambda: False), asyncio.Event()
    pids = [78, 77]

    async def main_process(_: str) -> int:
        pid = pids.pop()
        await answer.wait()
        return pid

    together = [asyncio.ensure_future(run.require(main_process)) for _ in range(3)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)  # the question is under way
    later = asyncio.ensure_future(run.require(main_process))
    together[0].cancel()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    answer.set()
    ends = await asyncio.gather(*together, later, return_exceptions=True)
    assert isinstance(ends[0], asyncio.CancelledError)
    assert ends[1:3] == [None, None]
    assert str(ends[3]) == NOT_OF_THIS_RUN


# The whole helper, on a private bus

CONFIG: Final = "groups: {web: {units: [httpd]}}\n"
START: Final = encode_message(
    Request(1, Action.START, "web", parse(CONFIG.encode(), "config.yaml").groups[0].token)
)
THIS, OTHER = os.getpid(), os.getppid()
PIDS: Final = {NOT_RUNNING: 0, NOT_OF_THIS_RUN: OTHER}
"""The main process of the daemon, by what the helper of another one is told."""


@dataclass
class Talk:
    """With a helper, over its socket or its pipes."""

    process: Process
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def start_web(self) -> dict[str, Any]:
        """The last reply to a request."""
        self.writer.write(START)
        while (reply := await self.reply())["type"] == "accepted":
            pass
        return reply

    async def reply(self) -> dict[str, Any]:
        line = await asyncio.wait_for(self.reader.readline(), 10)
        return json.loads(line) if line else {"type": "end", "code": await self.process.wait()}


@asynccontextmanager
async def helper(config_file: Path, way: str) -> AsyncIterator[Talk]:
    """A helper of this process, which said hello; the kernel knows who made its socket."""
    config_file.write_text(CONFIG)
    command = HelperProgram(config_file).command("serve")
    if way == "socket":
        ours, theirs = socket.socketpair()
        with theirs:
            ends = theirs.fileno()
            process = await asyncio.create_subprocess_exec(*command, stdin=ends, stdout=ends, stderr=PIPE)
        reader, writer = await asyncio.open_connection(sock=ours)
    else:
        process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, stderr=PIPE)
        assert process.stdout is not None
        assert process.stdin is not None
        reader, writer = process.stdout, process.stdin
    talk = Talk(process, reader, writer)
    try:
        assert (await talk.reply())["type"] == "hello"
        yield talk
    finally:
        writer.close()
        await asyncio.wait_for(process.communicate(), 10)


@pytest.fixture
def config_file(tmp_path: Path, journal: Journal, fake: FakeSystemd, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of a helper that works for the daemon's user, which is who runs the tests."""
    monkeypatch.setenv("JOURNAL", journal.path)
    monkeypatch.setenv("BY_UID", str(os.getuid()))
    fake.reset(Unit("httpd.service"), Unit(DAEMON_UNIT, main_pid=THIS))
    return tmp_path / "config.yaml"


def denials(journal: Journal) -> list[tuple[str, str]]:
    lines = journal.read_all()
    return [
        (line["HKSWITCH_ACTION"], line["HKSWITCH_REASON"])
        for line in lines
        if line.get("HKSWITCH_DECISION") == "denied"
    ]


@pytest.mark.parametrize("way", ["socket", "sudo"])
async def test_the_daemons_own_helper_acts_and_asks_systemd_once_for_each_act(
    fake: FakeSystemd, journal: Journal, config_file: Path, way: str
) -> None:
    async with helper(config_file, way) as talk:
        assert (await talk.start_web())["type"] == "finished"
        fake.reads.clear()
        assert (await talk.start_web())["type"] == "finished"
    assert [read for read in fake.reads if read[0] == DAEMON_UNIT] == [
        (DAEMON_UNIT, "org.freedesktop.systemd1.Service", "MainPID")
    ]
    assert denials(journal) == []


async def test_for_requests_in_one_write_systemd_is_asked_once_and_each_is_audited(
    fake: FakeSystemd, journal: Journal, config_file: Path
) -> None:
    async with helper(config_file, "sudo") as talk:
        assert (await talk.start_web())["type"] == "finished"
        fake.reads.clear()
        talk.writer.write(START * 20)
        replies = [await talk.reply() for _ in range(40)]
    assert sorted(reply["type"] for reply in replies) == ["accepted"] * 20 + ["finished"] * 20
    assert len([read for read in fake.reads if read[0] == DAEMON_UNIT]) == 1
    decisions = [line.get("HKSWITCH_DECISION") for line in journal.read_all()]
    assert decisions.count("allowed") == 21


@pytest.mark.parametrize("way", ["socket", "sudo"])
@pytest.mark.parametrize("reason", PIDS)
async def test_one_whose_daemon_has_ended_denies_each_request_and_that_is_audited(
    fake: FakeSystemd, journal: Journal, config_file: Path, way: str, reason: str
) -> None:
    async with helper(config_file, way) as talk:
        assert (await talk.start_web())["type"] == "finished"
        fake.units[DAEMON_UNIT].main_pid = PIDS[reason]
        fake.calls.clear()
        assert await talk.start_web() == {"type": "refused", "id": 1, "reason": f"denied: {reason}"}
    assert not any("StartUnit" in call for call in fake.calls)
    assert denials(journal) == [("start", reason)]


@pytest.mark.parametrize(
    ("way", "reason"), [("socket", NOT_RUNNING), ("socket", NOT_OF_THIS_RUN), ("sudo", NOT_RUNNING)]
)
async def test_one_that_begins_outside_of_the_daemons_run_ends_and_that_is_audited(
    fake: FakeSystemd, journal: Journal, config_file: Path, way: str, reason: str
) -> None:
    fake.units[DAEMON_UNIT].main_pid = PIDS[reason]
    async with helper(config_file, way) as talk:
        assert await talk.start_web() == {"type": "end", "code": 77}
    assert not any("StartUnit" in call for call in fake.calls)
    denied, *others = denials(journal)
    assert denied == ("serve", reason)
    assert {*others} <= {("start", NOT_BEGUN)}
