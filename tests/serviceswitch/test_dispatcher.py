"""`serviceswitch serve` as a process: requests over a pipe, done on a private bus with a fake systemd."""

import asyncio
import json
import math
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from hkswitch import __version__
from hkswitch.model.config import parse
from hkswitch.model.errors import ConfigError
from hkswitch.model.unit_state import Action
from hkswitch.protocol.helper import (
    CONFIRM_MS,
    HELPER_PROTOCOL,
    LONGEST_REQUEST_BYTES,
    Alert,
    Request,
    encode_message,
)
from hkswitch.serviceswitch.dispatcher import DAEMON_HUNG_UP, TOO_MANY_REQUESTS
from hkswitch.serviceswitch.policy import CUT_SHORT
from tests.containers.both_engines import in_virtual_time
from tests.containers.served_helper import ServedHelper
from tests.serviceswitch.journal import Journal, journal
from tests.support.fake_systemd import FakeSystemd, Outcome, Unit
from tests.support.fixtures import bus_address, fake, systemd_on_bus
from tests.support.helper import HelperProgram
from tests.support.waiting import PATIENCE_SECONDS, eventually

__all__ = ["bus_address", "fake", "journal", "systemd_on_bus"]

CONFIG = """\
groups:
  fileserver: {units: [smb, nmb]}
  web: {units: [httpd], actions: [start]}
  gone: {units: [gone]}
"""


def token_of(config: str, group_id: str) -> str:
    """What the helper gives this group, some text for one that is not there."""
    try:
        group = parse(config.encode(), "config.yaml").group(group_id)
    except ConfigError:
        return "none"
    return "none" if group is None else group.token


def request(number: int, action: str, group: str, token: str) -> str:
    asked = {"id": number, "action": action, "group": group}
    return json.dumps({**asked, "token": token, "confirm_ms": CONFIRM_MS, "by_rule": False})


@dataclass
class Serving:
    """A helper that said hello."""

    process: asyncio.subprocess.Process
    config_file: Path

    def send(self, line: str | bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line if isinstance(line, bytes) else line.encode() + b"\n")

    def ask(self, number: int, action: str, group: str) -> None:
        """By what the config says of the group now."""
        self.send(request(number, action, group, token_of(self.config_file.read_text(), group)))

    async def reply(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        reply: dict[str, Any] = json.loads(await asyncio.wait_for(self.process.stdout.readline(), 5))
        return reply

    async def end(self) -> tuple[int, str]:
        """Its exit code and what it wrote to standard error."""
        assert self.process.stdin is not None
        assert self.process.stderr is not None
        self.process.stdin.close()
        return await asyncio.wait_for(self.process.wait(), 5), (await self.process.stderr.read()).decode()


@pytest_asyncio.fixture(loop_scope="module")
async def serving(fake: FakeSystemd, tmp_path: Path, journal: Journal) -> AsyncIterator[Serving]:
    async with started(fake, tmp_path, journal) as serving:
        yield serving


@asynccontextmanager
async def started(
    fake: FakeSystemd, tmp_path: Path, journal: Journal, *options: str
) -> AsyncIterator[Serving]:
    fake.reset(Unit("smb.service"), Unit("nmb.service"), Unit("httpd.service"))
    config_file = tmp_path / "config.yaml"
    config_file.write_text(CONFIG)
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *HelperProgram(config_file).command("serve", *options),
        stdin=pipe,
        stdout=pipe,
        stderr=pipe,
        env={**os.environ, "JOURNAL": journal.path},
    )
    serving = Serving(process, config_file)
    hello = await serving.reply()
    assert abs(hello.pop("unix_seconds") - time.time()) < PATIENCE_SECONDS
    assert hello == {"type": "hello", "version": __version__, "protocol": HELPER_PROTOCOL}
    yield serving
    if process.returncode is None:
        process.kill()
        await process.wait()


def jobs_of(fake: FakeSystemd) -> list[tuple[str, ...]]:
    """What systemd was asked to do."""
    return [call for call in fake.calls if call[0] in {"StartUnit", "StopUnit", "TryRestartUnit"}]


def finished(number: int, **jobs: str) -> dict[str, Any]:
    units = [{"unit": f"{unit}.service", "job": job, "detail": ""} for unit, job in jobs.items()]
    return {"type": "finished", "id": number, "units": units, "superseded": False}


async def test_a_request_is_accepted_and_then_finished(serving: Serving, fake: FakeSystemd) -> None:
    serving.ask(1, "start", "fileserver")
    assert await serving.reply() == {"type": "accepted", "id": 1}
    assert await serving.reply() == finished(1, smb="done", nmb="done")
    assert fake.units["smb.service"].active == "active"


async def test_only_the_units_of_the_group_are_touched(serving: Serving, fake: FakeSystemd) -> None:
    fake.calls.clear()
    serving.ask(1, "stop", "fileserver")
    await serving.reply()
    await serving.reply()
    assert jobs_of(fake) == [("StopUnit", "nmb.service", "replace"), ("StopUnit", "smb.service", "replace")]


@pytest.mark.parametrize(
    ("first", "second", "made", "superseded"),
    [
        ("start", "stop", ["StopUnit"], True),  # a start has to look at its unit first, and a stop has not
        ("restart", "stop", ["StopUnit"], True),
        ("stop", "start", ["StartUnit"], True),
        ("start", "restart", ["StartUnit", "TryRestartUnit"], None),  # or systemd canceled the first job
        ("stop", "restart", ["StopUnit", "TryRestartUnit"], None),  # what is stopped stays so
        ("restart", "start", ["TryRestartUnit", "StartUnit"], None),
    ],
)
async def test_a_request_makes_no_job_behind_that_of_a_newer_one_that_wants_the_opposite(
    serving: Serving, fake: FakeSystemd, first: str, second: str, made: list[str], *, superseded: bool | None
) -> None:
    serving.config_file.write_text("groups: {web: {units: [httpd], restart: true}}")
    fake.calls.clear()
    lines = [request(1, first, "web", ""), request(2, second, "web", "")]
    token = token_of(serving.config_file.read_text(), "web")
    serving.send("\n".join(lines).replace('"token": ""', f'"token": "{token}"'))
    replies = [await serving.reply() for _ in range(4)]
    ended = {reply["id"]: reply["superseded"] for reply in replies if reply["type"] == "finished"}
    assert [call[0] for call in jobs_of(fake)] == made
    assert ended == {1: ended[1] if superseded is None else superseded, 2: False}


async def test_of_requests_for_the_same_unit_in_two_groups_the_older_one_makes_its_job_first(
    serving: Serving, fake: FakeSystemd
) -> None:
    serving.config_file.write_text("groups: {web: {units: [httpd, smb]}, other: {units: [httpd]}}")
    fake.calls.clear()
    config = serving.config_file.read_text()
    lines = [
        request(1, "start", "web", token_of(config, "web")),
        request(2, "stop", "other", token_of(config, "other")),
    ]
    serving.send("\n".join(lines))
    for _ in range(4):
        await serving.reply()
    jobs = [call for call in jobs_of(fake) if call[1] == "httpd.service"]
    assert [call[0] for call in jobs] == ["StartUnit", "StopUnit"]
    assert (fake.units["httpd.service"].active, fake.units["smb.service"].active) == ("inactive", "active")


WEB = '"action":"start","group":"web"'


@pytest.mark.parametrize(
    ("asked", "refusal"),
    [
        ('"action":"start","group":"nothing"', "denied: there is no group 'nothing' in the configuration"),
        ('"action":"stop","group":"web"', "denied: stop is not in this group's actions"),
        ('"action":"restart","group":"web"', "denied: restart is not in this group's actions"),
        ('"action":"start","group":"httpd.service"', "denied: there is no group 'httpd.service'"),
        ('"action":"start","group":"../web"', "denied: there is no group '../web'"),
        ('"action":"start","group":""', "denied: there is no group ''"),
        ('"action":"status","group":"web"', "malformed request: 'action' must be one of"),
        (f'{WEB},"unit":"sshd.service"', "malformed request: unexpected key"),
        (f'{WEB},"token":"other"', "malformed request: duplicate key"),
        ('"command":"reboot"', "malformed request: 'action' is missing"),
    ],
)
async def test_what_is_not_allowed_is_refused_and_touches_nothing(
    serving: Serving, fake: FakeSystemd, asked: str, refusal: str
) -> None:
    fake.calls.clear()
    serving.send(f'{{"id":1,{asked},"token":"{token_of(CONFIG, "web")}","confirm_ms":200,"by_rule":false}}')
    reply = await serving.reply()
    assert reply["reason"].startswith(refusal)
    assert reply["type"] == "refused"
    assert jobs_of(fake) == []


@pytest.mark.parametrize("token", ["", "none", "0" * 32])
async def test_a_request_for_what_the_group_was_once_is_refused_and_touches_nothing(
    serving: Serving, fake: FakeSystemd, token: str
) -> None:
    serving.send(request(1, "start", "web", token))
    reason = "denied: the configuration has changed; run `sudo hkswitch reload`"
    assert await serving.reply() == {"type": "refused", "id": 1, "reason": reason}
    assert jobs_of(fake) == []


async def test_a_request_of_who_has_gone_before_it_is_begun_is_not_done(
    serving: Serving, fake: FakeSystemd
) -> None:
    """As of a helper that was stopped, and goes on when a new one has long taken its place."""
    serving.process.send_signal(signal.SIGSTOP)
    serving.ask(1, "start", "web")
    assert serving.process.stdin is not None
    serving.process.stdin.close()
    serving.process.send_signal(signal.SIGCONT)
    assert await asyncio.wait_for(serving.process.wait(), 5) == 0
    assert jobs_of(fake) == []


async def test_a_malformed_line_is_refused_and_ends_nothing(serving: Serving) -> None:
    serving.send("garbage\n\n\x00")
    for _ in range(3):
        assert (await serving.reply())["type"] == "refused"
    serving.ask(1, "start", "web")
    assert await serving.reply() == {"type": "accepted", "id": 1}


async def test_a_line_without_an_end_ends_it(serving: Serving) -> None:
    serving.send(b"x" * (LONGEST_REQUEST_BYTES * 2 + 1))
    assert await serving.end() == (64, "serviceswitch: a request line is longer than 16384 bytes; exiting\n")


async def test_the_end_of_its_input_ends_it(serving: Serving) -> None:
    assert await serving.end() == (0, "")


async def test_a_slow_group_holds_up_no_other(serving: Serving, fake: FakeSystemd) -> None:
    fake.units["httpd.service"].held = True
    serving.ask(1, "start", "web")
    assert await serving.reply() == {"type": "accepted", "id": 1}
    serving.ask(2, "start", "fileserver")
    assert await serving.reply() == {"type": "accepted", "id": 2}
    assert await serving.reply() == finished(2, smb="done", nmb="done")
    fake.release("httpd.service", active="active", sub="running")
    assert await serving.reply() == finished(1, httpd="done")


async def test_a_job_that_a_newer_request_cancels_is_superseded_and_no_failure(
    serving: Serving, fake: FakeSystemd
) -> None:
    for unit in fake.units.values():
        unit.held = True
    serving.ask(1, "start", "fileserver")
    await serving.reply()
    await eventually(lambda: fake.units["nmb.service"].job)
    serving.ask(2, "stop", "fileserver")
    replies = [await serving.reply(), await serving.reply()]
    assert {"type": "accepted", "id": 2} in replies
    assert {**finished(1, smb="canceled", nmb="canceled"), "superseded": True} in replies


async def test_a_job_that_somebody_else_cancels_is_not_superseded(
    serving: Serving, fake: FakeSystemd
) -> None:
    fake.units["httpd.service"].job_result = "canceled"
    serving.ask(1, "start", "web")
    await serving.reply()
    assert await serving.reply() == finished(1, httpd="canceled")


async def test_a_unit_that_does_not_exist_is_told_with_systemds_sentence(serving: Serving) -> None:
    serving.ask(1, "start", "gone")
    await serving.reply()
    assert (await serving.reply())["units"] == [
        {"unit": "gone.service", "job": "refused", "detail": "Unit gone.service not found"}
    ]


async def test_a_change_of_the_config_counts_from_the_next_request_on(serving: Serving) -> None:
    serving.config_file.write_text(CONFIG.replace("fileserver", "files"))
    serving.ask(1, "start", "fileserver")
    assert (await serving.reply())["type"] == "refused"
    serving.config_file.write_text("groups: [")
    serving.ask(2, "start", "files")
    assert "config.yaml:2:1: " in (await serving.reply())["reason"]
    serving.config_file.write_text(CONFIG)
    serving.ask(3, "start", "fileserver")
    assert await serving.reply() == {"type": "accepted", "id": 3}


# The audit


async def test_each_decision_is_a_line_in_the_journal_and_each_result_another(
    serving: Serving, fake: FakeSystemd, journal: Journal
) -> None:
    fake.units["httpd.service"].job_result = "failed"
    for number, (action, group) in enumerate(
        [("start", "fileserver"), ("start", "web"), ("stop", "web")], start=1
    ):
        serving.ask(number, action, group)
        while (await serving.reply())["type"] == "accepted":
            pass
    assert [
        (line["HKSWITCH_ACTION"], line["HKSWITCH_GROUP"], kind_of(line), line["PRIORITY"])
        for line in journal.read_all()
    ] == [
        ("start", "fileserver", "allowed", "6"),
        ("start", "fileserver", "done", "6"),
        ("start", "web", "allowed", "6"),
        ("start", "web", "failed", "3"),
        ("stop", "web", "denied", "4"),
    ]


def kind_of(line: dict[str, str]) -> str:
    (kind,) = (line[name] for name in ("HKSWITCH_DECISION", "HKSWITCH_OUTCOME") if name in line)
    return kind


async def test_both_lines_say_who_asked_for_what_and_the_second_what_came_of_it(
    serving: Serving, journal: Journal
) -> None:
    serving.ask(1, "start", "fileserver")
    await serving.reply()
    await serving.reply()
    both = {
        "PRIORITY": "6",
        "SYSLOG_IDENTIFIER": "serviceswitch",
        "HKSWITCH_ACTION": "start",
        "HKSWITCH_GROUP": "fileserver",
        "HKSWITCH_REQUEST": "1",
        "HKSWITCH_BY_UID": "1234",
        "HKSWITCH_LOGINUID": "1000",
    }
    assert journal.read() == {
        **both,
        "MESSAGE": "allowed for uid 1234: start fileserver",
        "HKSWITCH_DECISION": "allowed",
    }
    line = journal.read()
    assert int(line.pop("HKSWITCH_DURATION_MS")) < 5000
    assert line == {
        **both,
        "MESSAGE": "done for uid 1234: start fileserver: smb.service done, nmb.service done",
        "HKSWITCH_OUTCOME": "done",
        "HKSWITCH_RESULT": "smb.service done, nmb.service done",
    }


async def test_before_it_says_accepted_the_decision_is_in_the_journal(
    serving: Serving, fake: FakeSystemd, journal: Journal
) -> None:
    fake.units["httpd.service"].held = True
    for number in range(1, 20):
        serving.ask(number, "start", "web")
        while await serving.reply() != {"type": "accepted", "id": number}:
            pass  # an older one may have ended
        decisions = [line for line in journal.read_all() if "HKSWITCH_DECISION" in line]
        assert [line["HKSWITCH_REQUEST"] for line in decisions] == [str(number)]


async def test_while_the_journal_takes_nothing_actions_are_refused_and_the_rest_goes_on(
    serving: Serving, fake: FakeSystemd, journal: Journal
) -> None:
    fake.calls.clear()
    journal.stop()
    serving.ask(1, "start", "web")
    serving.ask(2, "stop", "fileserver")
    serving.send('{"ping":1}\n{"observe":1,"sampled":[]}')
    assert await serving.reply() == {"type": "pong", "id": 1}
    replies = [await serving.reply() for _ in range(3)]
    while not all(any(reply.get("id") == number for reply in replies) for number in (1, 2)):
        replies.append(await serving.reply())
    refused = [reply for reply in replies if reply["type"] == "refused"]
    assert {reply["id"] for reply in refused} == {1, 2}
    why = "cannot record the decision in the journal: journald did not read it within 1 s; nothing was done"
    assert {reply["reason"] for reply in refused} == {why}
    assert any("units" in reply for reply in replies)  # the states
    assert jobs_of(fake) == []
    journal.go_on()
    serving.ask(3, "start", "web")
    while (reply := await serving.reply()).get("id") != 3:
        pass
    assert reply["type"] == "accepted"


async def test_denials_and_malformed_lines_share_one_line_a_second(
    serving: Serving, journal: Journal
) -> None:
    serving.send("garbage")
    for number in range(1, 400):
        serving.send(request(number, "start", f"unknown-{number}", "none"))
    for _ in range(400):
        assert (await serving.reply())["type"] == "refused"
    serving.ask(1000, "start", "web")
    assert await serving.reply() == {"type": "accepted", "id": 1000}
    assert await serving.reply() == finished(1000, httpd="done")
    assert await serving.end() == (0, "")
    lines = journal.read_all()
    denied = [line for line in lines if kind_of(line) == "denied"]
    assert sum(1 + int(line.get("HKSWITCH_LEFT_OUT", 0)) for line in denied) == 400
    assert len(denied) < 10
    assert [kind_of(line) for line in lines if line not in denied] == ["allowed", "done"]


async def test_what_decides_nothing_is_not_audited(serving: Serving, journal: Journal) -> None:
    serving.send('{"ping":1}')
    assert (await serving.reply())["type"] == "pong"
    assert await serving.end() == (0, "")
    assert journal.read_all() == []


async def test_of_many_lines_that_are_no_requests_one_is_audited_and_the_rest_counted(
    serving: Serving, journal: Journal
) -> None:
    serving.send("garbage\n" * 500)
    for _ in range(501):
        assert (await serving.reply())["type"] == "refused"
    assert await serving.end() == (0, "")
    lines = journal.read_all()
    assert {line["HKSWITCH_REASON"] for line in lines} == {"not a line of JSON"}
    assert sum(1 + int(line.get("HKSWITCH_LEFT_OUT", 0)) for line in lines) == 501
    assert len(lines) < 10


async def test_a_line_without_an_end_is_audited(serving: Serving, journal: Journal) -> None:
    serving.send(b"x" * (LONGEST_REQUEST_BYTES * 2 + 1))
    await serving.end()
    assert [line["HKSWITCH_REASON"] for line in journal.read_all()] == ["the line is too long"]


async def test_jobs_that_a_newer_request_cancels_are_no_failure_in_the_audit(
    serving: Serving, fake: FakeSystemd, journal: Journal
) -> None:
    fake.units["smb.service"].held = True
    serving.ask(1, "start", "fileserver")
    other = fake.units["nmb.service"]
    await eventually(lambda: fake.units["smb.service"].job and other.active == "active" and not other.job)
    fake.units["smb.service"].held = False
    serving.ask(2, "stop", "fileserver")
    for _ in range(4):
        await serving.reply()
    lines = [line for line in journal.read_all() if "HKSWITCH_OUTCOME" in line]
    assert {line["HKSWITCH_ACTION"]: line["PRIORITY"] for line in lines} == {"start": "6", "stop": "6"}
    [started] = [line for line in lines if line["HKSWITCH_ACTION"] == "start"]
    assert started["HKSWITCH_RESULT"].startswith("smb.service canceled, nmb.service ")


def signalled(number: int) -> Callable[[Serving], None]:
    return lambda serving: serving.process.send_signal(number)


def input_ended(serving: Serving) -> None:
    assert serving.process.stdin is not None
    serving.process.stdin.close()


@pytest.mark.parametrize(
    ("end", "code"),
    [
        (input_ended, 0),
        (lambda serving: serving.send(b"x" * 2 * LONGEST_REQUEST_BYTES), 64),
        (signalled(signal.SIGHUP), 129),
        (signalled(signal.SIGINT), 130),
        (signalled(signal.SIGQUIT), 131),
        (signalled(signal.SIGUSR1), 138),
        (signalled(signal.SIGALRM), 142),
        (signalled(signal.SIGTERM), 143),
        (signalled(signal.SIGXCPU), 152),
    ],
)
async def test_what_was_begun_is_audited_however_it_ends(
    serving: Serving, fake: FakeSystemd, journal: Journal, end: Callable[[Serving], None], code: int
) -> None:
    fake.units["httpd.service"].held = True
    serving.ask(1, "start", "web")
    assert await serving.reply() == {"type": "accepted", "id": 1}
    await eventually(lambda: fake.units["httpd.service"].job)
    end(serving)
    assert await asyncio.wait_for(serving.process.wait(), 5) == code
    assert_cut_short(journal)


def assert_cut_short(journal: Journal) -> None:
    decision, line = (line for line in journal.read_all() if kind_of(line) != "denied")
    assert decision["HKSWITCH_REQUEST"] == line["HKSWITCH_REQUEST"]
    assert (line["HKSWITCH_ACTION"], line["PRIORITY"]) == ("start", "3")
    assert line["HKSWITCH_REASON"] == CUT_SHORT


@pytest.mark.parametrize("number", [signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU, signal.SIGPIPE])
async def test_a_terminal_cannot_stop_it(serving: Serving, number: int) -> None:
    serving.process.send_signal(number)
    serving.send('{"ping":1}')
    assert await serving.reply() == {"type": "pong", "id": 1}


@asynccontextmanager
async def unread(
    config_file: Path, journal: Journal
) -> AsyncIterator[tuple[asyncio.subprocess.Process, int]]:
    """A helper that said hello, and the end of its output, from which only the test reads."""
    config_file.write_text(CONFIG)
    reading, writing = os.pipe()
    process = await asyncio.create_subprocess_exec(
        *HelperProgram(config_file).command("serve"),
        stdin=asyncio.subprocess.PIPE,
        stdout=writing,
        env={**os.environ, "JOURNAL": journal.path, "READ_WITHIN_SECONDS": "1"},
    )
    os.close(writing)
    try:
        assert b"hello" in await asyncio.to_thread(os.read, reading, 1000)
        yield process, reading
        assert await asyncio.wait_for(process.wait(), 15) == 74
    finally:
        os.close(reading)


async def test_what_was_begun_is_audited_when_nobody_reads_the_answers(
    fake: FakeSystemd, tmp_path: Path, journal: Journal
) -> None:
    fake.reset(Unit("httpd.service", held=True))
    async with unread(tmp_path / "config.yaml", journal) as (process, _):
        assert process.stdin is not None
        process.stdin.write(request(1, "start", "web", token_of(CONFIG, "web")).encode() + b"\n")
        await eventually(lambda: fake.units["httpd.service"].job)
        process.stdin.write(b'{"ping":1}\n' * 20_000)
    assert_cut_short(journal)


async def test_what_was_begun_is_audited_when_nobody_can_read_the_answers(
    fake: FakeSystemd, tmp_path: Path, journal: Journal
) -> None:
    fake.reset(Unit("httpd.service", held=True))
    async with unread(tmp_path / "config.yaml", journal) as (process, reading):
        assert process.stdin is not None
        process.stdin.write(request(1, "start", "web", token_of(CONFIG, "web")).encode() + b"\n")
        await eventually(lambda: fake.units["httpd.service"].job)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, reading)
        os.close(nothing)
        process.stdin.write(b'{"ping":1}\n')
    assert_cut_short(journal)


# Alerts and rules


TELL = "/usr/local/bin/tell"
WITH_ALERTS = f"""\
alert_command: [{TELL}, "100 %", "$HOME"]
groups:
  web: {{units: [httpd], alert: contact}}
  files: {{units: [smb], alert: leak}}
  quiet: {{units: [httpd]}}
"""
REASON = "web.service: 100 % \"of\" 'it' $HOME ${HOME} \\n %n ü 🚨 #; exit"


def alert(number: int, group: str, config: str = WITH_ALERTS, reason: str = REASON) -> bytes:
    """What the daemon sends whose config this is."""
    return encode_message(Alert(number, group, token_of(config, group), "failed", reason))


async def test_an_alert_runs_the_command_without_rights_and_with_five_variables_as_they_are(
    serving: Serving, fake: FakeSystemd, journal: Journal
) -> None:
    serving.config_file.write_text(WITH_ALERTS)
    serving.send(alert(1, "web"))
    assert await serving.reply() == {"type": "accepted", "id": 1}
    result = {"unit": TELL, "job": "done", "detail": ""}
    assert await serving.reply() == {"type": "finished", "id": 1, "units": [result], "superseded": False}
    [(unit, properties)] = fake.transient.items()
    assert unit == "hkswitch-alert-web.service"
    assert properties["ExecStartEx"] == [(TELL, [TELL, "100 %", "$HOME"], ["no-env-expand"])]
    assert sorted(properties["Environment"]) == [
        "HKSWITCH_GROUP=web",
        f"HKSWITCH_REASON={REASON}",
        "HKSWITCH_STATE=failed",
        "LANG=C.UTF-8",
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    ]
    assert {"HOME", "USER", "LOGNAME", "SHELL", "FOREIGN"} <= {*properties["UnsetEnvironment"]}
    assert (properties["DynamicUser"], properties["ProtectHome"]) == (True, "yes")
    assert properties["CapabilityBoundingSet"] == 0
    assert properties["TimeoutStartUSec"] == 60_000_000
    assert (properties["StandardOutput"], properties["LogRateLimitBurst"]) == ("journal", 200)
    assert jobs_of(fake) == []
    decision, effect = journal.read_all()
    assert decision["MESSAGE"] == "allowed for uid 1234: alert web"
    assert effect["MESSAGE"] == f"done for uid 1234: alert web: {TELL} done"
    assert (decision["HKSWITCH_ACTION"], decision["HKSWITCH_GROUP"]) == ("alert", "web")
    assert decision["HKSWITCH_REQUEST"] == effect["HKSWITCH_REQUEST"]


NO_ALERT = "the configuration has no 'alert' for this group, or no 'alert_command'"
CHANGED = "the configuration has changed; run `sudo hkswitch reload`"


@pytest.mark.parametrize(
    ("config", "line", "refusal"),
    [
        (WITH_ALERTS, alert(1, "quiet"), f"denied: {NO_ALERT}"),
        (WITH_ALERTS.replace(", alert: contact", ""), alert(1, "web"), f"denied: {NO_ALERT}"),
        (WITH_ALERTS.replace("alert_command", "# "), alert(1, "web"), f"denied: {NO_ALERT}"),
        (WITH_ALERTS, alert(1, "gone"), "denied: there is no group 'gone' in the configuration"),
        (WITH_ALERTS, alert(1, "httpd.service"), "denied: there is no group 'httpd.service'"),
        (WITH_ALERTS.replace("[httpd], alert", "[smb], alert"), alert(1, "web"), f"denied: {CHANGED}"),
        ("groups: [", alert(1, "web"), "denied: "),
        (WITH_ALERTS, alert(1, "web", reason="two\nlines"), "malformed request: 'reason'"),
        (WITH_ALERTS, alert(1, "web").replace(b'"failed"', b'"HOME=/"'), "malformed request: 'state'"),
        (WITH_ALERTS, alert(1, "web")[:-2] + b',"command":["/bin/sh"]}', "malformed request: "),
        (
            WITH_ALERTS,
            request(1, "alert", "web", token_of(WITH_ALERTS, "web")).encode(),
            "malformed request: ",
        ),
    ],
)
async def test_an_alert_that_roots_config_does_not_have_runs_nothing_and_is_audited(  # noqa: PLR0917
    serving: Serving, fake: FakeSystemd, journal: Journal, config: str, line: bytes, refusal: str
) -> None:
    serving.config_file.write_text(config)
    serving.send(line.rstrip() + b"\n")
    reply = await serving.reply()
    assert (reply["type"], reply["id"]) == ("refused", 1)
    assert reply["reason"].startswith(refusal)
    assert fake.ran == []
    [denial] = journal.read_all()
    assert denial["HKSWITCH_DECISION"] == "denied"
    if refusal.startswith("denied"):
        assert denial["HKSWITCH_ACTION"] == "alert"


async def test_a_bridge_of_another_host_runs_no_alert_command(
    fake: FakeSystemd, tmp_path: Path, journal: Journal
) -> None:
    async with started(fake, tmp_path, journal, "--for", "homelab") as serving:
        serving.config_file.write_text(WITH_ALERTS)
        serving.send(alert(1, "web"))
        why = "denied: the alert command is not for bridges of other hosts"
        assert await serving.reply() == {"type": "refused", "id": 1, "reason": why}
        assert fake.ran == []
        [denial] = journal.read_all()
        assert (denial["HKSWITCH_DECISION"], denial["HKSWITCH_BRIDGE"]) == ("denied", "homelab")
        serving.ask(2, "start", "web")
        assert await serving.reply() == {"type": "accepted", "id": 2}


@pytest.mark.parametrize(
    ("outcome", "why"),
    [
        (Outcome("exit-code", 3), "exited with status 3"),
        (Outcome("exit-code", 203), "could not be executed"),
        (Outcome("timeout", 15), "took too long"),
        (Outcome("signal", 9), "was killed by SIGKILL"),
    ],
)
async def test_an_alert_command_that_fails_is_a_failure_with_its_reason(
    serving: Serving, fake: FakeSystemd, journal: Journal, outcome: Outcome, why: str
) -> None:
    fake.commands = lambda _: outcome
    serving.config_file.write_text(WITH_ALERTS)
    serving.send(alert(1, "web"))
    await serving.reply()
    [result] = (await serving.reply())["units"]
    assert result == {"unit": TELL, "job": "failed", "detail": why}
    assert journal.read_all()[-1]["HKSWITCH_REASON"] == f"{TELL} {why}"


async def test_alert_commands_run_once_at_a_time_for_each_group(serving: Serving, fake: FakeSystemd) -> None:
    fake.commands = lambda _: Outcome(seconds=math.inf)
    serving.config_file.write_text(WITH_ALERTS)
    serving.send(alert(1, "web"))
    assert await serving.reply() == {"type": "accepted", "id": 1}
    await eventually(lambda: fake.ran)
    serving.send(alert(2, "web"))
    assert await serving.reply() == {"type": "accepted", "id": 2}
    [result] = (await serving.reply())["units"]
    assert result == {"unit": TELL, "job": "failed", "detail": "was not run: it is already running"}
    serving.send(alert(3, "files"))
    assert await serving.reply() == {"type": "accepted", "id": 3}
    await eventually(lambda: len(fake.ran) == 2)
    serving.ask(4, "start", "web")  # is held up by none of them
    assert await serving.reply() == {"type": "accepted", "id": 4}
    assert (await serving.reply())["id"] == 4
    fake.end_commands()
    assert {(await serving.reply())["id"], (await serving.reply())["id"]} == {1, 3}


@in_virtual_time
async def test_an_alert_of_who_has_gone_before_it_is_begun_runs_nothing() -> None:
    helper = ServedHelper(WITH_ALERTS)
    async with helper.serving():
        helper.has_hung_up = True
        helper.send(**json.loads(alert(1, "web")))
        await asyncio.sleep(1)
        assert helper.replies[-1] == {"type": "refused", "id": 1, "reason": DAEMON_HUNG_UP}
        helper.has_hung_up = False
        helper.send(**json.loads(alert(2, "web")))
        await asyncio.sleep(1)
    assert helper.audit.failures == [DAEMON_HUNG_UP, ""]
    assert helper.done == [f"ran {TELL}"]


async def test_a_flood_of_alerts_is_refused_and_runs_few(serving: Serving, fake: FakeSystemd) -> None:
    fake.commands = lambda _: Outcome(seconds=math.inf)
    serving.config_file.write_text(WITH_ALERTS)
    serving.send(b"".join(alert(number, "web") for number in range(1, 701)))
    ended: list[dict[str, Any]] = []
    refused: list[dict[str, Any]] = []
    while len(ended) + len(refused) < 699:
        if (reply := await serving.reply())["type"] != "accepted":
            (refused if reply["type"] == "refused" else ended).append(reply)
    assert refused
    assert {reply["reason"] for reply in refused} == {TOO_MANY_REQUESTS}
    await eventually(lambda: fake.ran)
    fake.end_commands()
    assert (await serving.reply())["type"] == "finished"
    assert len(fake.ran) == 1


async def test_what_a_rule_requests_is_audited_as_its_own(
    serving: Serving, fake: FakeSystemd, journal: Journal
) -> None:
    serving.config_file.write_text("groups: {web: {units: [httpd], restart_when: {cpu_percent: 90}}}")
    fake.units["httpd.service"].active = "active"
    token = token_of(serving.config_file.read_text(), "web")
    serving.send(encode_message(Request(1, Action.RESTART, "web", token, CONFIRM_MS, by_rule=True)))
    serving.send(encode_message(Request(2, Action.RESTART, "web", token, CONFIRM_MS, by_rule=False)))
    serving.send(encode_message(Request(3, Action.RESTART, "web", "", CONFIRM_MS, by_rule=True)))
    ended = 0
    while ended < 3:
        ended += (await serving.reply())["type"] in {"finished", "refused"}
    lines = journal.read_all()
    of_rule = [line["MESSAGE"] for line in lines if line.get("HKSWITCH_CALLER") == "rule"]
    assert sorted(of_rule) == [
        "allowed for uid 1234 (rule): restart web",
        f"denied for uid 1234 (rule): restart web: {CHANGED}",
        "done for uid 1234 (rule): restart web: httpd.service done",
    ]
    assert sorted(line["MESSAGE"] for line in lines if "HKSWITCH_CALLER" not in line) == [
        "allowed for uid 1234: restart web",
        "done for uid 1234: restart web: httpd.service done",
    ]
