"""Starts that are watched until the unit is up, on a private bus with a fake systemd."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from hkswitch.model.unit_state import Action, JobResult, UnitResult
from hkswitch.systemd.units import Systemd
from tests.support.fake_systemd import FakeSystemd, Unit
from tests.support.fixtures import bus_address, fake, systemd_on_bus
from tests.support.waiting import eventually

__all__ = ["bus_address", "fake", "systemd_on_bus"]

AT_LENGTH_SECONDS = 60
"""Longer than any test waits: what ends before is told by a signal."""


@pytest_asyncio.fixture(loop_scope="module")
async def systemd(fake: FakeSystemd) -> AsyncIterator[Systemd]:
    with await Systemd.connect() as connected:
        yield connected


async def started(systemd: Systemd, fake: FakeSystemd, unit: Unit) -> asyncio.Task[tuple[UnitResult, ...]]:
    """A start whose job is done, and that is being watched."""
    fake.reset(unit)
    run = asyncio.create_task(systemd.run(Action.START, [unit.name], AT_LENGTH_SECONDS))
    await eventually(lambda: unit.active == "active" and unit.job is None)
    return run


async def result_of(run: asyncio.Task[tuple[UnitResult, ...]]) -> tuple[JobResult, str]:
    async with asyncio.timeout(5):
        [result] = await run
    return result.job, result.detail


@pytest.mark.parametrize("kind", ["simple", "exec", "idle", "forking"])
async def test_a_service_that_falls_after_its_job_has_failed_at_once(
    systemd: Systemd, fake: FakeSystemd, kind: str
) -> None:
    run = await started(systemd, fake, Unit("a.service", kind=kind, result="exit-code", status=7))
    assert not run.done()
    fake.change("a.service", "failed", "failed")
    assert await result_of(run) == (JobResult.FAILED, "exited with status 7")


async def test_a_service_that_runs_again_has_failed_though_it_is_up(
    systemd: Systemd, fake: FakeSystemd
) -> None:
    run = await started(systemd, fake, Unit("a.service", kind="simple"))
    fake.units["a.service"].starts += 1
    fake.change("a.service", "active", "running")
    assert (await result_of(run))[0] is JobResult.FAILED


async def test_a_service_that_ends_well_is_a_success_that_says_so(
    systemd: Systemd, fake: FakeSystemd
) -> None:
    run = await started(systemd, fake, Unit("a.service", kind="simple"))
    fake.change("a.service", "inactive", "dead")
    assert await result_of(run) == (JobResult.DONE, "exited with status 0")


async def test_a_service_that_stays_up_is_a_success_after_its_time(
    systemd: Systemd, fake: FakeSystemd
) -> None:
    fake.reset(Unit("a.service", kind="simple"))
    [result] = await systemd.run(Action.START, ["a.service"], 0.05)
    assert result == UnitResult("a.service", JobResult.DONE)


@pytest.mark.parametrize(
    ("unit", "action"),
    [
        (Unit("a.service", kind="notify"), Action.START),
        (Unit("a.service", kind="dbus"), Action.START),
        (Unit("a.service", kind="oneshot"), Action.START),
        (Unit("a.socket"), Action.START),
        (Unit("a.service", "loaded", "active", "running", kind="simple", starts=1), Action.START),
        (Unit("a.service", kind="simple"), Action.RESTART),
    ],
    ids=["notify", "dbus", "oneshot", "socket", "active already", "restart of what is stopped"],
)
async def test_what_needs_no_confirmation_is_not_waited_for(
    systemd: Systemd, fake: FakeSystemd, unit: Unit, action: Action
) -> None:
    fake.reset(unit)
    if action is Action.RESTART:
        unit.job_result = "done"
        fake.units["a.service"].sub = "dead"
    async with asyncio.timeout(5):
        [result] = await systemd.run(action, [unit.name], AT_LENGTH_SECONDS)
    assert result == UnitResult(unit.name, JobResult.DONE)


async def test_a_start_under_an_alias_is_judged_by_its_unit(systemd: Systemd, fake: FakeSystemd) -> None:
    real = Unit("smbd.service", kind="simple", result="exit-code", status=7)
    fake.reset(real)
    fake.units["smb.service"] = real
    run = asyncio.create_task(systemd.run(Action.START, ["smb.service"], AT_LENGTH_SECONDS))
    await eventually(lambda: real.active == "active" and real.job is None)
    fake.change("smbd.service", "failed", "failed")
    assert await result_of(run) == (JobResult.FAILED, "exited with status 7")


async def test_an_unmet_condition_is_named(systemd: Systemd, fake: FakeSystemd) -> None:
    fake.reset(Unit("a.service", kind="simple", condition=False))
    [result] = await systemd.run(Action.START, ["a.service"], AT_LENGTH_SECONDS)
    assert result == UnitResult("a.service", JobResult.FAILED, "ConditionPathExists=/x was not met")


async def test_every_unit_is_let_go_of_however_it_ends(systemd: Systemd, fake: FakeSystemd) -> None:
    run = await started(systemd, fake, Unit("a.service", kind="simple"))
    assert fake.units["a.service"].refs == 1
    run.cancel()
    await asyncio.gather(run, return_exceptions=True)
    assert fake.units["a.service"].refs == 0


async def test_of_many_units_all_jobs_are_made_before_any_is_waited_for(
    systemd: Systemd, fake: FakeSystemd
) -> None:
    names = [f"unit-{number}.service" for number in range(40)]
    fake.reset(*(Unit(name, held=True) for name in names))
    run = asyncio.create_task(systemd.run(Action.START, names, AT_LENGTH_SECONDS))
    await eventually(lambda: all(fake.units[name].job for name in names))
    for name in names:
        fake.release(name, active="active", sub="running")
    assert {result.job for result in await run} == {JobResult.DONE}
