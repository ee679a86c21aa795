"""What is known of watched units while reads and signals overtake one another."""

import asyncio
import inspect
from typing import Any, cast

import pytest

from hkswitch.model.unit_state import ActiveState, LoadState, UnitState
from hkswitch.systemd.watch import UnitSight, WatchedUnits
from hkswitch.systemd.watching import Watching

PATH = "/a"
UP = UnitState(LoadState.LOADED, ActiveState.ACTIVE, "running")
DOWN = UnitState(LoadState.LOADED, ActiveState.INACTIVE, "dead")


@pytest.mark.parametrize("first_ends_first", [True, False])
def test_of_two_reads_at_once_each_hears_until_its_own_end(first_ends_first: bool) -> None:
    told: list[UnitState] = []
    watch = WatchedUnits(("a.service",), lambda units: told.extend(units.values()))
    with watch.reading() as signaled:
        watch.read({"a.service": (PATH, UnitSight(DOWN))}, signaled)
    first, second = watch.reading(), watch.reading()
    heard_by = {first: first.__enter__(), second: second.__enter__()}
    ends_first, ends_last = (first, second) if first_ends_first else (second, first)
    ends_first.__exit__(None, None, None)
    watch.changed(PATH, UnitSight(UP))
    ends_last.__exit__(None, None, None)
    watch.read({"a.service": (PATH, UnitSight(DOWN))}, heard_by[ends_last])  # answered before the change
    assert told == [DOWN, UP, UP]
    assert not watch.needs("/other")


async def test_work_that_the_end_of_a_connection_forestalls_is_closed() -> None:
    async def read() -> None:
        raise AssertionError

    watching, reading = Watching(*cast("Any", (None, None, None, None))), read()
    task = watching.spawn(reading)
    watching.close()
    await asyncio.wait([task])
    await asyncio.sleep(0)
    assert inspect.getcoroutinestate(reading) == inspect.CORO_CLOSED  # else Python warns, on root's stderr
