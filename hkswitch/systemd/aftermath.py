"""What came of jobs whose connection was lost, by what is left of them on the next one."""

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

LOOK_AGAIN_SECONDS: Final = 0.5
"""Between two looks at whether a job is still there."""

STAYS_SECONDS: Final = 1.0
"""A unit that crashes again and again is up at every other moment: it must stay in one start for so long."""

Row = tuple[Any, ...]
"""Of ListUnitsByNames (org.freedesktop.systemd1(5))."""

_JOB: Final = 7
_BAD_NAME: Final = UnitState(LoadState.ERROR, ActiveState.INACTIVE, "dead")


async def settled(
    rows_of: Callable[[list[str]], Awaitable[list[Row]]],
    starts: Starts,
    action: Action,
    names: list[str],
    before: Mapping[str, str],
) -> tuple[UnitResult, ...]:
    """Wait until no unit has a job, and say what each action came to; as `Systemd.settled`."""
    rows = await rows_of(names)
    while any(row[_JOB] for row in rows):
        await asyncio.sleep(LOOK_AGAIN_SECONDS)
        rows = await rows_of(names)
    why: dict[str, str] = {}
    if action is not Action.STOP:
        held = {name: await starts.invocation(name) for name in names}
        await asyncio.sleep(STAYS_SECONDS)
        rows = await rows_of(names)
        for name in names:
            why[name] = _why_not_up(await starts.invocation(name), held[name], before.get(name))
    states = dict(zip(names, map(state_in, rows), strict=True))
    wanted = {name: _wanted(action, had_run=name in before) for name in names}
    return tuple([await _left(starts, name, states[name], wanted[name], why.get(name, "")) for name in names])


def _wanted(action: Action, *, had_run: bool) -> set[UnitHealth]:
    """What a unit means after an action that was done; a restart leaves what is stopped so."""
    match action:
        case Action.START:
            return {UnitHealth.UP}
        case Action.STOP:
            return {UnitHealth.DOWN, UnitHealth.FAILED}
        case Action.RESTART:
            return {UnitHealth.UP} if had_run else {UnitHealth.UP, UnitHealth.DOWN}


def _why_not_up(now: str, held: str, before: str | None) -> str:
    """Why a unit that is up is so in vain, by which of its starts it is in, and was in a moment ago."""
    if not now or now != held:
        return "did not stay up"
    return "was not restarted" if now == before else ""


async def _left(
    starts: Starts, unit: str, state: UnitState, wanted: set[UnitHealth], why_not_up: str
) -> UnitResult:
    """What came of a job that is gone, by the state that it left; it may never have been made."""
    health = state.health
    if health is UnitHealth.UP and why_not_up:
        return UnitResult(unit, JobResult.FAILED, why_not_up)
    if health in wanted:
        return UnitResult(unit, JobResult.DONE)
    why = await starts.why_down(unit) if health is UnitHealth.FAILED else ""
    return UnitResult(unit, JobResult.FAILED, why or f"is {state}")


def row_of(bad_name: str) -> Row:
    """What a row would be of a name that systemd does not take for one of a unit."""
    load, active, sub = _BAD_NAME
    return (bad_name, "", load.value, active.value, sub, "", "/", 0, "", "/")


def state_in(row: Row) -> UnitState:
    """The state in a row."""
    return UnitState(LoadState(row[2]), ActiveState(row[3]), row[4])
