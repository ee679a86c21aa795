"""The results of jobs after a lost connection, from the states of their units on the next one."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from hkswitch.model.unit_state import (
    Action,
    ActiveState,
    JobResult,
    LoadState,
    UnitHealth,
    UnitResult,
    UnitState,
)
from hkswitch.systemd.starts import Starts
from hkswitch.systemd.watch import UnitSight

JOB_POLL_SECONDS: Final = 0.5
"""The interval between checks for pending jobs."""

STABLE_SECONDS: Final = 1.0
"""A unit in a crash loop is up some of the time, so a unit must keep its invocation for this long."""

Row = tuple[Any, ...]
"""A row of ListUnitsByNames (org.freedesktop.systemd1(5))."""

_JOB: Final = 7
_BAD_NAME: Final = UnitState(LoadState.ERROR, ActiveState.INACTIVE, "dead")


async def settled(
    rows_of: Callable[[list[str]], Awaitable[list[Row]]],
    starts: Starts,
    action: Action,
    names: list[str],
    before: Mapping[str, str],
) -> tuple[UnitResult, ...]:
    """Wait until no unit has a job, and return the results; see `Systemd.settled`."""
    rows = await rows_of(names)
    while any(row[_JOB] for row in rows):
        await asyncio.sleep(JOB_POLL_SECONDS)
        rows = await rows_of(names)
    why: dict[str, str] = {}
    if action is not Action.STOP:
        held = {name: await starts.invocation(name) for name in names}
        await asyncio.sleep(STABLE_SECONDS)
        rows = await rows_of(names)
        for name in names:
            why[name] = _why_not_up(await starts.invocation(name), held[name], before.get(name))
    states = dict(zip(names, map(state_in, rows), strict=True))
    wanted = {name: _wanted(action, had_run=name in before) for name in names}
    return tuple(
        [await _result(starts, name, states[name], wanted[name], why.get(name, "")) for name in names]
    )


def _wanted(action: Action, *, had_run: bool) -> set[UnitHealth]:
    """Return the possible healths after a successful action; a restart leaves a stopped unit stopped."""
    match action:
        case Action.START:
            return {UnitHealth.UP}
        case Action.STOP:
            return {UnitHealth.DOWN, UnitHealth.FAILED}
        case Action.RESTART:
            return {UnitHealth.UP} if had_run else {UnitHealth.UP, UnitHealth.DOWN}


def _why_not_up(now: str, held: str, before: str | None) -> str:
    """Explain why a unit that is up has failed anyway, by its invocation ID now, just before and earlier."""
    if not now or now != held:
        return "did not stay up"
    return "was not restarted" if now == before else ""


async def _result(
    starts: Starts, unit: str, state: UnitState, wanted: set[UnitHealth], why_not_up: str
) -> UnitResult:
    """Return the result of a job that is gone, or was never queued, from the state of its unit."""
    health = state.health
    if health is UnitHealth.UP and why_not_up:
        return UnitResult(unit, JobResult.FAILED, why_not_up)
    if health in wanted:
        return UnitResult(unit, JobResult.DONE)
    why = (await starts.why_down(unit) or "") if health is UnitHealth.FAILED else ""
    return UnitResult(unit, JobResult.FAILED, why or f"is {state}")


def row_of(bad_name: str) -> Row:
    """Return a row for a name that systemd rejects as a unit name."""
    load, active, sub = _BAD_NAME
    return (bad_name, "", load.value, active.value, sub, "", "/", 0, "", "/")


def state_in(row: Row) -> UnitState:
    return UnitState(LoadState(row[2]), ActiveState(row[3]), row[4])


def sight_in(row: Row) -> UnitSight:
    return UnitSight(state_in(row), job=row[_JOB], job_type=row[_JOB + 1])
