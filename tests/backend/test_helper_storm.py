"""A thousand requests to helpers that are killed at random moments: what is said of each is true."""

import asyncio
import os
import random
import signal
from contextlib import suppress
from pathlib import Path

import pytest

from hkswitch.backend import helper_client as helper_module
from hkswitch.backend.helper_client import Helper
from hkswitch.backend.helper_session import HelperGone
from hkswitch.backend.helper_transport import Process
from hkswitch.model.unit_state import Action, JobResult
from tests.conftest import child_processes
from tests.support.fake_systemd import FakeSystemd, Unit
from tests.support.fixtures import bus_address, fake, systemd_on_bus
from tests.support.helper import HelperProgram
from tests.support.waiting import eventually

__all__ = ["bus_address", "fake", "systemd_on_bus"]

REQUESTS = 1000
GROUPS = 20


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 -- counts, and Path.iterdir opens one more


async def test_no_success_that_was_not_one_and_nothing_is_left(
    fake: FakeSystemd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(helper_module, "BACK_OFF_SECONDS", (0.01,))
    fake.reset(*(Unit(f"unit-{number}.service") for number in range(GROUPS)))
    config_file = tmp_path / "config.yaml"
    groups = "".join(f"  group-{number}: {{units: [unit-{number}]}}\n" for number in range(GROUPS))
    config_file.write_text(f"groups:\n{groups}")
    before, descriptors = child_processes(), open_descriptors()
    helper = Helper(Process(HelperProgram(config_file).command("serve")))
    running = asyncio.create_task(helper.keep_running())
    chance = random.Random(2026)
    outcomes: list[str] = []

    async def ask(number: int) -> None:
        done = started(fake, number)
        try:
            finished = await helper.request(Action.START, f"group-{number}", lambda: None)
        except HelperGone:
            outcomes.append("gone")
            return
        outcomes.append("done")
        assert {result.job for result in finished.units} <= {JobResult.DONE, JobResult.CANCELED}
        assert started(fake, number) > done  # systemd was really asked

    for first in range(0, REQUESTS, GROUPS):
        await eventually(lambda: helper.is_ready)
        asking = [asyncio.create_task(ask(number)) for number in range(GROUPS)]
        if chance.random() < 0.3:
            await eventually(lambda: len(outcomes) > first)  # noqa: B023 -- waited for here
        else:
            await asyncio.sleep(chance.uniform(0, 0.02))  # the random moment
        for child in child_processes() - before:
            with suppress(ProcessLookupError):  # it ended by itself meanwhile
                os.kill(int(child), signal.SIGKILL)
        async with asyncio.timeout(10):
            await asyncio.gather(*asking)
        assert len(outcomes) == first + GROUPS
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert set(outcomes) == {"gone", "done"}
    await eventually(lambda: child_processes() == before)
    await eventually(lambda: open_descriptors() <= descriptors)


def started(fake: FakeSystemd, number: int) -> int:
    return fake.calls.count(("StartUnit", f"unit-{number}.service", "replace"))
