"""What came of jobs whose connection was lost, by what is left of them on the next one."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from hkswitch.model.unit_state import (
    Action,
    ActiveState,
    JobResult,
    LoadState,
    Meaning,
    UnitResult,
    UnitState,
)
from hkswitch.systemd.starts import Starts

LOOK_AGAIN_SECONDS: Final = 0.5
"""Between two looks at whether a job is still there."""

Row = tuple[Any, ...]
"""Of ListUnitsByNames (org.freedesktop.systemd1(5))."""

_JOB: Final = 7


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
    pairs = zip(names, map(state_in, rows), strict=True)
    return tuple([await _left(starts, action, name, state, before) for name, state in pairs])


async def _left(
    starts: Starts, action: Action, unit: str, state: UnitState, before: Mapping[str, str]
) -> UnitResult:
    """What came of a job that is gone, by the state that it left; it may never have been made."""
    meaning = state.meaning
    is_up_again = action is Action.RESTART and meaning is Meaning.UP
    if is_up_again and await starts.invocation(unit) == before[unit]:
        return UnitResult(unit, JobResult.FAILED, "was not restarted")
    wanted = {
        Action.START: meaning is Meaning.UP,
        Action.STOP: meaning in {Meaning.DOWN, Meaning.FAILED},
        Action.RESTART: meaning in {Meaning.UP, Meaning.DOWN},  # what was stopped stays so
    }[action]
    if wanted:
        return UnitResult(unit, JobResult.DONE)
    why = await starts.why_down(unit) if meaning is Meaning.FAILED else ""
    return UnitResult(unit, JobResult.FAILED, why or f"is {state}")


def state_in(row: Row) -> UnitState:
    """The state in a row."""
    return UnitState(LoadState(row[2]), ActiveState(row[3]), row[4])
