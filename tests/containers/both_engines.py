"""Both simulated engines with the real client of engines, in virtual time."""

import asyncio
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Iterable, Mapping
from contextlib import asynccontextmanager
from functools import wraps
from typing import Any

import pytest

from hkswitch.containers.engines import Engines
from hkswitch.containers.following import Following
from hkswitch.model.errors import BusUnavailable
from hkswitch.model.group import Engine
from hkswitch.model.unit_state import Action, ActiveState, LoadState, UnitFailure, UnitResult, UnitState
from tests.support.simulated_engine import SimulatedEngine
from tests.world.loop import run

OF_EACH = pytest.mark.parametrize("engine", list(Engine), ids=str)

OFF = UnitState(LoadState.LOADED, ActiveState.INACTIVE, "dead")
STOPPING = UnitState(LoadState.LOADED, ActiveState.DEACTIVATING, "stop-sigterm")

CONFIRM_SECONDS = 0.2


def in_virtual_time(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run a test on a loop whose time passes as soon as nothing else happens."""

    @wraps(test)
    def run_test(*arguments: Any, **named: Any) -> None:  # noqa: ANN401 -- of any test
        run(test(*arguments, **named))

    return run_test


class BothEngines:
    """A machine with both engines."""

    def __init__(self, *, event_lag_seconds: float = 0) -> None:
        lag = event_lag_seconds
        self.by_engine = {each: SimulatedEngine(each, event_lag_seconds=lag) for each in Engine}
        self.bus_problem = ""
        """Why systemd cannot be asked."""
        self.engines = Engines(self.unit_states, self.connect)

    async def unit_states(self, units: Iterable[str]) -> dict[str, UnitState]:
        await asyncio.sleep(0)
        if self.bus_problem:
            raise BusUnavailable(self.bus_problem)
        units = [*units]
        found = {unit: state for each in self.by_engine.values() for unit, state in each.units.items()}
        return {unit: found[unit] for unit in units}

    async def connect(self, engine: Engine) -> tuple[StreamReader, StreamWriter]:
        return await self.by_engine[engine].connect()

    async def act(
        self, action: Action | str, *members: str, begin: Callable[[], None] = lambda: None
    ) -> list[str]:
        """Perform an action on members; the results in words."""
        return [*map(str, await self.results(action, *members, begin=begin))]

    async def results(
        self, action: Action | str, *members: str, begin: Callable[[], None] = lambda: None
    ) -> tuple[UnitResult, ...]:
        return await self.engines.run(Action(action), members, CONFIRM_SECONDS, begin)

    async def state(self, member: str) -> str:
        """The state of a member now, in words."""
        return str((await self.engines.states([member]))[member])

    def has_only_asked_active_engines(self) -> None:
        """Check that nothing connected to an engine that systemd would have started for that."""
        for simulated in self.by_engine.values():
            assert [*map(str, simulated.connects)] == ["active (running)"] * len(simulated.connects)


class Told:
    """A watcher of one engine's members, and what it was told."""

    def __init__(self, both: BothEngines, engine: Engine) -> None:
        self.engine = both.by_engine[engine]
        self.news: list[tuple[str, str]] = []
        """Each state that was told, in words, with its member."""
        self.at_seconds: list[float] = []
        self.failures: dict[str, UnitFailure | None] = {}
        self.all_failures: list[UnitFailure | None] = []
        """Each failure that was told and was another one than before."""
        self._tasks: set[asyncio.Task[None]] = set()
        self.following = Following(engine, both.engines, self._told, self._failed, self._spawn)

    @property
    def last(self) -> dict[str, str]:
        """The last states."""
        return dict(self.news)

    @property
    def running(self) -> int:
        """How many of its tasks have not ended."""
        return sum(not task.done() for task in self._tasks)

    def take(self) -> list[tuple[str, str]]:
        """Return what was told since the last time."""
        found, self.news = self.news, []
        self.at_seconds = []
        return found

    def see_unit(self, unit: UnitState | None = None) -> None:
        """Be told the state of the engine's unit; by default, what it is."""
        self.engine.unit = unit or self.engine.unit
        self.following.units_seen(self.engine.units)

    async def end(self) -> None:
        """Cancel all tasks; one that failed fails the test."""
        tasks = [*self._tasks]
        for task in tasks:
            task.cancel()
        for ended in await asyncio.gather(*tasks, return_exceptions=True):
            assert ended is None or isinstance(ended, asyncio.CancelledError), repr(ended)

    def _told(self, states: Mapping[str, UnitState]) -> None:
        self.news += [(name, str(state)) for name, state in states.items()]
        self.at_seconds += [asyncio.get_running_loop().time()] * len(states)

    def _failed(self, name: str, failure: UnitFailure | None) -> None:
        if failure != self.failures.get(name):
            self.all_failures.append(failure)
        self.failures[name] = failure

    def _spawn(self, coroutine: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        return task


@asynccontextmanager
async def watching(
    both: BothEngines, engine: Engine, members: Collection[str], settled_seconds: float = 0.5
) -> AsyncIterator[Told]:
    """Watch members of an engine whose unit is known, from when their first states have been told."""
    told = Told(both, engine)
    told.following.watch(members)
    told.see_unit()
    await asyncio.sleep(settled_seconds)
    yield told
    await told.end()
    await asyncio.sleep(0.1)
    assert told.engine.connections == 0, "a connection was left open"
    both.has_only_asked_active_engines()
