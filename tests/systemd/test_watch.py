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


def test_a_signal_that_overtakes_a_read_keeps_what_only_the_read_tells() -> None:
    seen: list[UnitSight] = []
    watch = WatchedUnits(("a.service",), lambda _: None)
    watch.on_sight = lambda _, sight: seen.append(sight)
    failed = UnitState(LoadState.LOADED, ActiveState.FAILED, "failed")
    for signal in (UnitSight(failed, 0, "A"), UnitSight(failed, 2, "A"), UnitSight(UP, 0, "B")):
        with watch.reading() as signaled:
            watch.changed(PATH, signal)
            watch.read({"a.service": (PATH, UnitSight(failed, 2, "A", "stop", was_stopped=True))}, signaled)
    read = [
        (sight.run, sight.job_type, sight.was_stopped)
        for sight in seen
        if sight.job_type or sight.was_stopped
    ]
    assert read == [("A", "", True), ("A", "stop", True)]


async def test_work_that_the_end_of_a_connection_forestalls_is_closed() -> None:
    async def read() -> None:
        raise AssertionError

    watching, reading = Watching(*cast("Any", (None, None, None, None))), read()
    task = watching.spawn(reading)
    watching.close()
    await asyncio.wait([task])
    await asyncio.sleep(0)
    assert inspect.getcoroutinestate(reading) == inspect.CORO_CLOSED  # else Python warns, on root's stderr
