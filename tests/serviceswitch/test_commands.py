"""Groups of commands and checks in the helper, as a process on a private bus with a fake systemd."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from hkswitch.model.config import parse
from hkswitch.model.unit_state import Action
from hkswitch.protocol.helper import Observe, Ping, Request, encode_message
from tests.serviceswitch.journal import Journal, journal
from tests.support.fake_systemd import FakeSystemd, Outcome, Unit
from tests.support.fixtures import bus_address, fake, systemd_on_bus
from tests.support.helper import HelperProgram
from tests.support.waiting import eventually

__all__ = ["bus_address", "fake", "journal", "systemd_on_bus"]

LAMP = "/bin/echo"
"""Any program of root's: the fake systemd runs nothing."""

CONFIG = f"""\
groups:
  lamp:
    commands:
      {{start: [{LAMP}, start], stop: [{LAMP}, stop], restart: [{LAMP}, restart], status: [{LAMP}, status]}}
    interval_seconds: 1
    timeout_seconds: 1
    restart: true
  tunnel:
    units: [wg]
    check: [{LAMP}, check]
    interval_seconds: 1
    timeout_seconds: 1
    restart: true
"""

COMMAND = "hkswitch-command-lamp.service"
NO = Outcome("exit-code", 1)


@dataclass
class Lamp:
    """What the commands do, and how each ends that does not do it."""

    on: bool = False
    broken: dict[str, Outcome] = field(default_factory=dict)

    def run(self, argv: list[str]) -> Outcome:
        word = argv[-1]
        if (outcome := self.broken.get(word)) is not None:
            return outcome
        if word in {"start", "stop"}:
            self.on = word == "start"
        return Outcome() if self.on or word in {"stop", "restart"} else Outcome(status=1)


@dataclass
class Serving:
    """A helper that said hello, and what it said since, taken apart."""

    process: asyncio.subprocess.Process
    config_file: Path
    observed: list[tuple[str, str]] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    unanswered: set[str] = field(default_factory=set)
    """The groups whose probe has not answered."""
    epochs: "count[int]" = field(default_factory=lambda: count(1))

    def observe(self) -> None:
        self.send(encode_message(Observe(next(self.epochs))))

    def send(self, line: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line)

    async def line(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line: dict[str, Any] = json.loads(await asyncio.wait_for(self.process.stdout.readline(), 10))
        for group, verdict, reason in line.get("probes", ()):
            if verdict is not None:
                self.observed.append((group, verdict))
                self.reasons.append(reason)
            self.unanswered.discard(group)
            self.unanswered |= {group} if verdict is None else set()
        return line

    async def until_observed(self, group: str, verdict: str) -> None:
        told = len(self.observed)
        while (group, verdict) not in self.observed[told:]:
            await self.line()

    async def until_told(self, kind: str) -> dict[str, Any]:
        while (line := await self.line())["type"] != kind:
            pass
        return line

    async def ask(self, action: str, number: int = 1) -> dict[str, Any]:
        """The answer to a request, once it has ended."""
        self.begin(action, number)
        return await self.end_of(number)

    def begin(self, action: str, number: int, group: str = "lamp") -> None:
        config = parse(self.config_file.read_bytes(), "config.yaml")
        token = "none" if (found := config.group(group)) is None else found.token
        self.send(encode_message(Request(number, Action(action), group, token)))

    async def end_of(self, number: int) -> dict[str, Any]:
        while (line := await self.line()).get("id") != number or line["type"] == "accepted":
            pass
        return line


@pytest.fixture
def lamp(fake: FakeSystemd) -> Lamp:
    fake.reset(Unit("wg.service"))
    lamp = Lamp()
    fake.commands = lamp.run
    return lamp


@pytest_asyncio.fixture(loop_scope="module")
async def serving(lamp: Lamp, tmp_path: Path, journal: Journal) -> AsyncIterator[Serving]:
    config_file = tmp_path / "config.yaml"
    config_file.write_text(CONFIG)
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *HelperProgram(config_file).command("serve"),
        stdin=pipe,
        stdout=pipe,
        env={**os.environ, "JOURNAL": journal.path},
    )
    serving = Serving(process, config_file)
    assert (await serving.line())["type"] == "hello"
    yield serving
    serving.send(b"")
    assert process.stdin is not None
    process.stdin.close()
    assert await asyncio.wait_for(process.wait(), 5) == 0


@pytest_asyncio.fixture(loop_scope="module")
async def observing(serving: Serving) -> Serving:
    serving.observe()
    await serving.until_observed("lamp", "off")
    return serving


def result(answer: dict[str, Any]) -> tuple[str, str]:
    """The result of the only unit in an answer."""
    [unit] = answer["units"]
    assert unit["unit"] == LAMP
    return unit["job"], unit["detail"]


@pytest.mark.parametrize(
    ("before", "action", "needed"),
    [
        ("off", "start", True),
        ("on", "stop", True),
        ("on", "restart", True),
        ("on", "start", False),
        ("off", "stop", False),
        ("off", "restart", False),
    ],
)
async def test_a_command_is_run_if_the_status_says_that_it_is_needed(
    serving: Serving, fake: FakeSystemd, before: str, action: str, needed: bool
) -> None:
    lamp = Lamp(on=before == "on")
    fake.commands = lamp.run
    assert result(await serving.ask(action)) == ("done", "")
    assert [argv[-1] for argv in fake.ran] == (["status", action, "status"] if needed else ["status"])


@pytest.mark.parametrize(
    ("outcome", "detail"),
    [
        (Outcome("exit-code", 3), "exited with status 3"),
        (Outcome("exit-code", 203), "could not be executed"),
        (Outcome("signal", 9), "was killed by SIGKILL"),
        (Outcome("signal", 99), "was killed by signal 99"),
        (Outcome("core-dump", 11), "was killed by SIGSEGV"),
        (Outcome("timeout", 15), "took longer than 1 s"),
        (Outcome("resources", 0), "could not be run"),
        (Outcome("brand-new", 0), "could not be run"),
        (
            Outcome(),
            "exited with status 0, but after 1 s the state is still off: /bin/echo exited with status 1",
        ),
    ],
)
async def test_what_does_not_turn_it_on_is_a_failure(
    serving: Serving, lamp: Lamp, outcome: Outcome, detail: str
) -> None:
    lamp.broken["start"] = outcome
    assert result(await serving.ask("start")) == ("failed", detail)


@pytest.mark.parametrize(
    ("outcome", "verdict"),
    [
        (Outcome(status=0), "on"),
        (Outcome(status=1), "off"),
        (Outcome(status=125), "off"),
        (Outcome(status=126), "unavailable"),
        (Outcome(status=127), "unavailable"),
        (Outcome("exit-code", 203), "unavailable"),
        (Outcome(status=255), "unavailable"),
        (Outcome("signal", 9), "unavailable"),
        (Outcome("timeout", 15), "unavailable"),
        (Outcome("resources"), "unavailable"),
    ],
)
async def test_a_status_says_the_state_by_its_exit_code(
    serving: Serving, lamp: Lamp, outcome: Outcome, verdict: str
) -> None:
    lamp.broken["status"] = outcome
    serving.observe()
    await serving.until_observed("lamp", verdict)
    assert serving.observed == [("lamp", verdict)]


@pytest.mark.parametrize(
    ("outcome", "verdict"),
    [
        (Outcome(status=0), "on"),
        (Outcome(status=1), "off"),
        (Outcome(status=127), "off"),
        (Outcome("signal", 9), "off"),
        (Outcome("timeout", 15), "off"),
        (Outcome("exit-code", 203), "unavailable"),
        (Outcome("resources"), "unavailable"),
    ],
)
async def test_a_check_says_yes_or_it_does_not(
    observing: Serving, fake: FakeSystemd, lamp: Lamp, outcome: Outcome, verdict: str
) -> None:
    lamp.broken["check"] = outcome
    fake.change("wg.service", "active", "running")
    await observing.until_observed("tunnel", verdict)


async def test_only_a_change_of_the_status_is_told(observing: Serving, fake: FakeSystemd, lamp: Lamp) -> None:
    polled = len(fake.ran)
    await eventually(lambda: len(fake.ran) >= polled + 2)
    lamp.on = True
    await observing.until_observed("lamp", "on")
    lamp.on = False
    await observing.until_observed("lamp", "off")
    assert observing.observed == [("lamp", "off"), ("lamp", "on"), ("lamp", "off")]


async def test_who_asks_again_is_told_again_and_makes_no_command_run(
    observing: Serving, fake: FakeSystemd, lamp: Lamp
) -> None:
    lamp.broken["status"] = Outcome(status=1, seconds=60)
    ran = len(fake.ran)
    for _ in range(100):
        observing.observe()
        await observing.until_observed("lamp", "off")
    assert len(fake.ran) <= ran + 1


async def test_a_poll_never_overtakes_itself(observing: Serving, fake: FakeSystemd, lamp: Lamp) -> None:
    lamp.broken["status"] = Outcome(status=1, seconds=1.5)
    ran = len(fake.ran)
    observing.begin("start", 1)  # this one asks too
    await eventually(lambda: len(fake.ran) >= ran + 2)
    await observing.end_of(1)
    assert "was not run" not in "".join(observing.reasons)


async def test_a_check_is_run_after_each_change_of_units_that_are_all_up(
    observing: Serving, fake: FakeSystemd, lamp: Lamp
) -> None:
    lamp.on = True
    for _ in range(3):
        fake.change("wg.service", "active", "running")
        await observing.until_observed("tunnel", "on")
        fake.change("wg.service", "inactive", "dead")


async def test_a_check_of_units_that_stay_up_is_asked_again_and_its_answer_kept_meanwhile(
    observing: Serving, fake: FakeSystemd, lamp: Lamp
) -> None:
    fake.change("wg.service", "active", "running")
    lamp.on = True
    await observing.until_observed("tunnel", "on")
    ran = fake.ran.count([LAMP, "check"])
    fake.change("wg.service", "reloading", "reload")
    await eventually(lambda: fake.ran.count([LAMP, "check"]) > ran)
    observing.observe()
    await observing.until_told("complete")
    assert "tunnel" not in observing.unanswered


async def test_a_check_of_units_that_come_up_has_not_answered(
    observing: Serving, fake: FakeSystemd, lamp: Lamp
) -> None:
    lamp.broken["check"] = Outcome(seconds=60)
    fake.change("wg.service", "active", "running")
    await eventually(lambda: [LAMP, "check"] in fake.ran)
    observing.observe()
    await observing.until_told("complete")
    assert "tunnel" in observing.unanswered


async def test_what_a_check_said_while_its_units_changed_is_not_told(
    observing: Serving, fake: FakeSystemd, lamp: Lamp
) -> None:
    lamp.broken["check"] = Outcome(status=1, seconds=0.5)
    fake.change("wg.service", "active", "running")
    await eventually(lambda: [LAMP, "check"] in fake.ran)
    fake.change("wg.service", "reloading", "reload")
    lamp.broken["check"] = Outcome()
    await observing.until_observed("tunnel", "on")
    assert ("tunnel", "off") not in observing.observed


@pytest.mark.parametrize(
    ("action", "check", "job"),
    [
        ("start", Outcome(), None),
        ("restart", Outcome(), None),
        ("start", Outcome(status=1), "failed"),
        ("restart", Outcome("timeout", 15), "failed"),
        ("stop", Outcome(status=1), None),
    ],
)
async def test_units_that_are_up_are_no_success_while_their_check_says_no(
    serving: Serving, lamp: Lamp, action: str, check: Outcome, job: str | None
) -> None:
    lamp.broken["check"] = check
    serving.begin(action, 1, "tunnel")
    units = (await serving.end_of(1))["units"]
    assert (units[0]["unit"], units[0]["job"]) == ("wg.service", "done")
    assert [unit["job"] for unit in units if unit["unit"] == "check"] == ([job] if job else [])


async def test_a_check_that_others_can_write_does_not_keep_units_from_being_stopped(
    serving: Serving, fake: FakeSystemd
) -> None:
    serving.config_file.write_text(CONFIG.replace(f"[{LAMP}, check]", "[/tmp/check]"))
    serving.begin("stop", 1, "tunnel")
    assert (await serving.end_of(1))["units"] == [{"unit": "wg.service", "job": "done", "detail": ""}]


async def test_while_the_config_cannot_be_believed_the_last_one_is_watched_and_nothing_is_done(
    observing: Serving, fake: FakeSystemd, lamp: Lamp
) -> None:
    observing.config_file.write_text("groups: {")
    observing.send(encode_message(Ping(1)))
    assert "config.yaml:2:1:" in (await observing.until_told("config"))["problem"]
    assert (await observing.line())["type"] == "pong"
    lamp.on = True
    await observing.until_observed("lamp", "on")
    observing.send(encode_message(Request(1, Action.STOP, "lamp", "any")))
    assert "config.yaml:2:1:" in (await observing.end_of(1))["reason"]
    observing.config_file.write_text(CONFIG)
    observing.send(encode_message(Ping(2)))
    assert (await observing.until_told("config"))["problem"] == ""


async def test_a_group_that_is_gone_is_told(observing: Serving) -> None:
    observing.config_file.write_text("groups: {other: {units: [wg]}}")
    observing.send(encode_message(Ping(1)))
    told = [await observing.until_told("group") for _ in range(3)]
    assert {line["group"]: bool(line["token"]) for line in told} == {
        "lamp": False,
        "tunnel": False,
        "other": True,
    }


async def test_only_what_changed_in_the_config_is_asked_anew(
    observing: Serving, fake: FakeSystemd, lamp: Lamp
) -> None:
    lamp.on = True
    await observing.until_observed("lamp", "on")
    fake.change("wg.service", "active", "running")
    await observing.until_observed("tunnel", "on")
    lamp.broken["status"] = lamp.broken["check"] = Outcome(seconds=60)
    observing.config_file.write_text(CONFIG.replace(f"[{LAMP}, check]", f"[{LAMP}, check, again]"))
    observing.observe()
    await observing.until_told("complete")
    assert observing.unanswered == {"tunnel"}


async def test_a_program_that_others_can_write_is_denied_once_in_the_audit_and_never_run(
    serving: Serving, fake: FakeSystemd, lamp: Lamp, tmp_path: Path, journal: Journal
) -> None:
    program = tmp_path / "lamp"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o777)
    serving.config_file.write_text(CONFIG.replace(LAMP, str(program)))
    serving.observe()
    await serving.until_observed("lamp", "unavailable")
    assert (await serving.ask("start"))["reason"].startswith("denied: ")
    assert serving.process.stdin is not None
    serving.process.stdin.close()
    await serving.process.wait()
    assert [(line["HKSWITCH_ACTION"], line["HKSWITCH_DECISION"]) for line in journal.read_all()] == [
        ("status", "denied"),
        ("start", "denied"),
    ]
    assert fake.ran == []


async def test_a_newer_request_waits_for_the_command_of_an_older_one(
    serving: Serving, fake: FakeSystemd, lamp: Lamp
) -> None:
    lamp.on = True
    lamp.broken["restart"] = Outcome(seconds=0.5)
    for number, action in enumerate(["restart", "start", "restart", "stop"], start=1):
        serving.begin(action, number)
        assert (await serving.line()) == {"type": "accepted", "id": number}
        await eventually(lambda: any(argv[-1] == "restart" for argv in fake.ran))
    ends = [await serving.line() for _ in range(4)]
    assert [(end["id"], end["superseded"]) for end in ends] == [(1, False), (2, True), (3, True), (4, False)]
    assert [argv[-1] for argv in fake.ran if argv[-1] != "status"] == ["restart", "stop"]


async def test_a_command_waits_for_one_that_another_helper_runs(
    serving: Serving, fake: FakeSystemd, lamp: Lamp
) -> None:
    fake._running.add(COMMAND)
    serving.begin("start", 1)
    assert (await serving.line()) == {"type": "accepted", "id": 1}
    await eventually(lambda: len(fake.ran) > 1)  # the status, again and again
    assert {argv[-1] for argv in fake.ran} == {"status"}
    fake._running.discard(COMMAND)
    assert (await serving.line())["type"] == "finished"
    assert [argv[-1] for argv in fake.ran].count("start") == 1


async def test_a_command_that_another_helper_runs_for_too_long_is_not_run(
    serving: Serving, fake: FakeSystemd, lamp: Lamp
) -> None:
    fake._running.add(COMMAND)
    try:
        assert result(await serving.ask("start")) == (
            "failed",
            f"was not run: Unit {COMMAND} was already loaded",
        )
    finally:
        fake._running.discard(COMMAND)


async def test_a_command_gets_an_empty_environment_and_ends_with_all_it_began(
    serving: Serving, fake: FakeSystemd
) -> None:
    await serving.ask("start")
    made = fake.transient[COMMAND]
    assert made["Environment"] == [
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "LANG=C.UTF-8",
        "HKSWITCH_GROUP=lamp",
    ]
    assert {"FOREIGN", "INVOCATION_ID", "JOURNAL_STREAM"} <= {*made["UnsetEnvironment"]}
    assert not {"PATH", "LANG", "HKSWITCH_GROUP"} & {*made["UnsetEnvironment"]}
    assert (made["StandardInput"], made["StandardOutput"]) == ("null", "journal")
    assert made["TimeoutStartUSec"] == 1_000_000
    assert "KillMode" not in made  # the whole cgroup is systemd's default
    [status, _] = [made for name, made in fake.transient.items() if name.startswith("hkswitch-status-lamp-")]
    assert (status["StandardOutput"], status["StandardError"], status["LogLevelMax"]) == ("null", "null", 0)
