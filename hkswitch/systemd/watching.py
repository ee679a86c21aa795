"""Watches units on one connection: reads them, and applies the signals about them."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterable, Mapping
from contextlib import suppress
from typing import Any, Final

from hkswitch.model.errors import BusUnavailable
from hkswitch.model.unit_state import ActiveState, LoadState, UnitHealth, UnitState
from hkswitch.systemd.connection import BusConnection
from hkswitch.systemd.failure_reports import FailureObserver, FailureReports
from hkswitch.systemd.outcome import Properties, invocation_of
from hkswitch.systemd.signals import Signals
from hkswitch.systemd.starts import Starts
from hkswitch.systemd.watch import StatesCallback, UnitSight, WatchedUnits

RESTART_WITHIN_SECONDS: Final = 1.0
"""How long, on systemd 252, a crashed unit keeps its state while it waits for its next start."""

Listed = Mapping[str, tuple[str, UnitSight]]
"""Object path and state of units, by the names under which they are watched."""

ListUnits = Callable[[Iterable[str]], Awaitable[Listed]]


class Watching:
    """The newest watch of one connection."""

    def __init__(
        self, connection: BusConnection, signals: Signals, starts: Starts, list_units: ListUnits
    ) -> None:
        """Watches nothing yet."""
        self._connection = connection
        self._signals = signals
        self._starts = starts
        self._list = list_units
        self._watch: WatchedUnits | None = None
        self._reports: FailureReports | None = None
        self._tasks: set[asyncio.Future[None]] = set()

    def begin(
        self, units: Iterable[str], on_states: StatesCallback, observer: FailureObserver | None
    ) -> WatchedUnits:
        """Watch these units from now on, and no others; `refresh` reads them."""
        watch = self._watch = WatchedUnits(tuple(dict.fromkeys(units)), on_states)
        self._reports = None
        if observer is not None:
            self._reports = FailureReports(watch, observer, self._starts.why_down, self.spawn)
            watch.on_sight = self._reports.seen
        return watch

    def is_current(self, watch: WatchedUnits) -> bool:
        """Tell whether no other watch has replaced this one."""
        return watch is self._watch

    def close(self) -> None:
        """End the watch."""
        self._watch = None
        for task in self._tasks:
            task.cancel()

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run a coroutine until the connection ends; a lost connection ends it too."""
        task = asyncio.ensure_future(_unless_lost(coroutine))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: coroutine.close())  # one that was canceled before it began
        return task

    async def refresh(self, only: Collection[str] | None = None) -> None:
        """Read all watched units again, or `only` some; raises `BusUnavailable`."""
        watch, reports = self._watch, self._reports
        if watch is None or not watch.units:
            return
        if reports is not None:
            await self._read_triggers(watch, only)
        units = [unit for unit in watch.all_units if only is None or unit in only]
        with watch.reading() as signaled:
            listed = await self._list_with_runs(units)
            if await self._signals.match_units({path for path, _ in listed.values()}):
                listed = await self._list_with_runs(units)  # earlier changes were not signaled
        if watch is self._watch:
            watch.read(listed, signaled)
            if reports is not None and only is None:
                reports.all_read()

    async def _read_triggers(self, watch: WatchedUnits, only: Collection[str] | None) -> None:
        timers = [unit for unit in watch.units if unit.endswith(".timer") and (only is None or unit in only)]
        started = await asyncio.gather(*map(self._starts.triggered, timers))
        watch.triggers |= dict(zip(timers, started, strict=True))

    async def _list_with_runs(self, units: Iterable[str]) -> Listed:
        """Read units; of those that have failed, also in which run, and whether they were stopped."""
        listed = await self._list(units)
        states = {name: sight.without_load.state for name, (_, sight) in listed.items()}
        failed = [name for name in listed if self._reports and states[name].health is UnitHealth.FAILED]
        ends = dict(zip(failed, await asyncio.gather(*map(self._starts.end_of, failed)), strict=True))
        return {
            name: (path, sight._replace(run=run, was_stopped=was_stopped))
            for name, (path, sight) in listed.items()
            for run, was_stopped in [ends.get(name, ("", False))]
        }

    def needs(self, path: str | None) -> bool:
        """Tell whether a signal about this object path matters."""
        return self._watch is not None and self._watch.needs(path)

    def changed(self, path: str, properties: Properties) -> None:
        """Apply a signal with all of a unit's states."""
        watch = self._watch
        if watch is None:
            return
        state = UnitState(LoadState.UNKNOWN, ActiveState(properties["ActiveState"]), properties["SubState"])
        sight = UnitSight(state, properties.get("Job", (0, "/"))[0], invocation_of(properties))
        if state.active is ActiveState.INACTIVE and sight.job and watch.waits_to_restart(path):
            # On systemd 252, a crashed unit that restarts is inactive for a moment, with a job.
            later = asyncio.get_running_loop().call_later
            later(RESTART_WITHIN_SECONDS, self._refresh_soon, watch.names_at(path))
            return
        watch.changed(path, sight)
        if watch.is_missing(path):
            self._refresh_soon(watch.names_at(path))  # it changed, so it exists now

    def unit_removed(self, path: str) -> None:
        """Read a unit that systemd unloaded: a transient one is gone, others are loaded again."""
        if self._watch is not None and self._watch.take_changed(path):
            self._refresh_soon(self._watch.names_at(path))

    def reloaded(self) -> None:
        """Read all units after a daemon-reload."""
        self._refresh_soon(None)

    def _refresh_soon(self, only: Collection[str] | None) -> None:
        if not self._connection.lost.is_set() and self._watch is not None:
            self.spawn(self.refresh(only))


async def _unless_lost(coroutine: Coroutine[Any, Any, None]) -> None:
    with suppress(BusUnavailable):  # until_lost() notices, and the next connection reads everything
        await coroutine
