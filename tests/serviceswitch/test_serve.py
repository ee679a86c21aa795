"""`serviceswitch serve` as a process: requests over a pipe, done on a private bus with a fake systemd."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from hkswitch import __version__
from hkswitch.core.protocol import LONGEST_REQUEST_BYTES
from tests.support.fake_systemd import FakeSystemd, Unit
from tests.support.fixtures import bus_address, fake, systemd_on_bus
from tests.support.helper import HelperProgram
from tests.support.waiting import eventually

__all__ = ["bus_address", "fake", "systemd_on_bus"]

CONFIG = """\
groups:
  fileserver: {units: [smb, nmb]}
  web: {units: [httpd], actions: [start]}
  gone: {units: [gone]}
"""


@dataclass
class Serving:
    """A helper that said hello."""

    process: asyncio.subprocess.Process
    config_file: Path

    def send(self, line: str | bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line if isinstance(line, bytes) else line.encode() + b"\n")

    def ask(self, number: int, action: str, group: str) -> None:
        self.send(json.dumps({"id": number, "action": action, "group": group}))

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
async def serving(fake: FakeSystemd, tmp_path: Path) -> AsyncIterator[Serving]:
    fake.reset(Unit("smb.service"), Unit("nmb.service"), Unit("httpd.service"))
    config_file = tmp_path / "config.yaml"
    config_file.write_text(CONFIG)
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *HelperProgram(config_file).command("serve"), stdin=pipe, stdout=pipe, stderr=pipe
    )
    serving = Serving(process, config_file)
    assert await serving.reply() == {"type": "hello", "version": __version__}
    yield serving
    if process.returncode is None:
        process.kill()
        await process.wait()


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
    assert fake.calls == [("StopUnit", "nmb.service", "replace"), ("StopUnit", "smb.service", "replace")]


@pytest.mark.parametrize(
    ("line", "refusal"),
    [
        (
            '{"id":1,"action":"start","group":"nothing"}',
            "denied: there is no group 'nothing' in the configuration",
        ),
        ('{"id":1,"action":"stop","group":"web"}', "denied: stop is not among the actions of web"),
        ('{"id":1,"action":"restart","group":"web"}', "denied: restart is not among the actions of web"),
        ('{"id":1,"action":"start","group":"httpd.service"}', "denied: there is no group 'httpd.service'"),
        ('{"id":1,"action":"start","group":"../web"}', "denied: there is no group '../web'"),
        ('{"id":1,"action":"start","group":""}', "denied: there is no group ''"),
        ('{"id":1,"action":"status","group":"web"}', "not a request: 'action' must be one of"),
        ('{"id":1,"action":"start","group":"web","unit":"sshd.service"}', "not a request: a key too many"),
        ('{"id":1,"command":"reboot"}', "not a request: 'action' is missing"),
    ],
)
async def test_what_is_not_allowed_is_refused_and_touches_nothing(
    serving: Serving, fake: FakeSystemd, line: str, refusal: str
) -> None:
    fake.calls.clear()
    serving.send(line)
    reply = await serving.reply()
    assert (reply["type"], reply["id"]) == ("refused", 1)
    assert reply["reason"].startswith(refusal)
    assert fake.calls == []


async def test_a_malformed_line_is_refused_and_ends_nothing(serving: Serving) -> None:
    serving.send("garbage\n\n\x00")
    for _ in range(3):
        assert (await serving.reply())["type"] == "refused"
    serving.ask(1, "start", "web")
    assert await serving.reply() == {"type": "accepted", "id": 1}


async def test_a_line_without_an_end_ends_it(serving: Serving) -> None:
    serving.send(b"x" * (LONGEST_REQUEST_BYTES * 2 + 1))
    assert await serving.end() == (64, "serviceswitch: a request line is too long; ending\n")


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
