"""Watches units while they start, so that a start succeeds only when the unit is up.

outcome.py judges the result. Each unit stays referenced (RefUnit): otherwise, systemd would
unload it as soon as it has ended, and forget the reason.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import sdbus

from hkswitch.model.errors import BusUnavailable
from hkswitch.model.unit_state import Action, ActiveState, JobResult, LoadState, UnitResult, UnitState
from hkswitch.systemd import outcome
from hkswitch.systemd.connection import SYSTEMD, BusConnection, sentence
from hkswitch.systemd.interface import MANAGER_PATH, SERVICE_INTERFACE, UNIT_INTERFACE, Manager
from hkswitch.systemd.jobs import together
from hkswitch.systemd.outcome import NEEDS_CONFIRMATION, StartHistory, UnitSnapshot, invocation_of, reason
from hkswitch.systemd.signals import Signals


@dataclass(slots=True, eq=False)
class Start:
    """The start of one unit."""

    path: str
    history: StartHistory
    news: asyncio.Event = field(default_factory=asyncio.Event)

    async def until(self, condition: Callable[[], bool], within_seconds: float) -> None:
        """Wait until a condition that signals can change holds, or the time is up."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within_seconds):
                while not condition():
                    self.news.clear()
                    await self.news.wait()


class Starts:
    """The starts in progress on one connection."""

    def __init__(self, connection: BusConnection, signals: Signals) -> None:
        """Watches nothing yet."""
        self._connection = connection
        self._manager = Manager.new_proxy(SYSTEMD, MANAGER_PATH, connection.bus)
        self._signals = signals
        self._by_path: defaultdict[str, list[Start]] = defaultdict(list)

    def needs(self, path: str | None) -> bool:
        """Tell whether a signal about this object path matters."""
        return path in self._by_path

    def changed(self, path: str, properties: Mapping[str, Any]) -> None:
        """Apply a signal about a unit."""
        for start in self._by_path.get(path, ()):
            start.history.changed(properties)
            start.news.set()

    def service_changed(self, path: str, properties: Mapping[str, Any]) -> None:
        """Apply a signal about a unit as a service."""
        for start in self._by_path.get(path, ()):
            start.history.service_changed(properties)

    def job_removed(self, unit: str, job: str) -> None:
        """Note the end of any job of a unit."""
        for starts in self._by_path.values():
            for start in starts:
                if start.history.unit == unit:
                    start.history.job_removed(job)
                    start.news.set()

    @asynccontextmanager
    async def watching(self, units: Iterable[str]) -> AsyncIterator[dict[str, Start]]:
        """Reference and watch these units within the context, except those that cannot be referenced."""
        referenced: list[str] = []
        starts: dict[str, Start] = {}
        try:
            await together(self._reference(unit, referenced) for unit in units)
            async with self._signals.matching_services():
                await self._begin(starts, {unit: _path_of(unit) for unit in referenced})
                yield starts
        finally:
            for start in starts.values():
                self._forget(start)
            await together(self._unreference(unit) for unit in referenced)

    async def outcome(
        self, start: Start, asked: str, action: Action, ended: tuple[str, JobResult], confirm_seconds: float
    ) -> UnitResult:
        """Return the result of a start whose job has `ended` (its path and result)."""
        job, result = ended
        history = start.history
        history.ended(job)
        try:
            if result is JobResult.CANCELED:  # another job replaced it, and its effect follows at once
                await start.until(lambda: not history.is_starting, confirm_seconds)
            if result is not JobResult.DONE:
                return UnitResult(asked, result, await self._why(start, result))
            if _had_nothing_to_do(action, history):
                return UnitResult(asked, result)
            is_service = history.unit.endswith(".service")
            is_unproven = is_service and not history.has_gone_down
            # With another job pending, such as a restart from elsewhere, the end of this one proves nothing.
            if is_unproven and (history.pending or await self._needs_confirmation(start)):
                await _confirmed(start, confirm_seconds, self._connection)
            if not history.has_gone_down:
                return UnitResult(asked, result)
            unit = await self._connection.properties(start.path, UNIT_INTERFACE)
            service = await self._connection.properties(start.path, SERVICE_INTERFACE) if is_service else {}
            return outcome.result_of_start(asked, history, unit, service)
        except sdbus.SdBusBaseError as error:
            why = f"its state cannot be read: {sentence(error)}"
            return UnitResult(asked, JobResult.FAILED, why)

    async def invocation(self, unit: str) -> str:
        """Return a unit's invocation ID; empty for none, and if it cannot be read."""
        with suppress(sdbus.SdBusBaseError):
            number = await self._connection.property(_path_of(unit), UNIT_INTERFACE, "InvocationID")
            return invocation_of({"InvocationID": number})
        return ""

    async def main_process(self, service: str) -> int:
        """Return what `Systemd.main_process` returns."""
        try:
            return int(await self._connection.property(_path_of(service), SERVICE_INTERFACE, "MainPID"))
        except sdbus.SdBusBaseError as error:
            raise self._connection.lose(error) from error

    async def why_down(self, unit: str, *, in_start: bool = True) -> str | None:
        """Explain why a service is not up, like `reason`; None if it has ended well."""
        with suppress(sdbus.SdBusBaseError):
            if unit.endswith(".service"):
                service = await self._connection.properties(_path_of(unit), SERVICE_INTERFACE)
                has_ended_well = service.get("Result") == "success" and service.get("ExecMainCode")
                return None if has_ended_well else reason(service, in_start=in_start)
        return ""

    async def end_of(self, unit: str) -> tuple[str, bool]:
        """Return the invocation ID of a failed unit, and whether systemd was stopping it when it ended."""
        with suppress(sdbus.SdBusBaseError):
            found = await self._connection.properties(_path_of(unit), UNIT_INTERFACE)
            if not unit.endswith(".service"):
                return invocation_of(found), False
            service = await self._connection.properties(_path_of(unit), SERVICE_INTERFACE)
            return invocation_of(found), outcome.was_stopped(found, service)
        return "", False

    async def triggered(self, unit: str) -> tuple[str, ...]:
        """Return the units that a timer starts; empty if that cannot be read."""
        with suppress(sdbus.SdBusBaseError):
            return tuple(await self._connection.property(_path_of(unit), UNIT_INTERFACE, "Triggers"))
        return ()

    async def _why(self, start: Start, result: JobResult) -> str:
        if result is JobResult.ASSERT:
            return outcome.unmet_asserts(await self._connection.properties(start.path, UNIT_INTERFACE))
        if result is JobResult.FAILED and start.history.unit.endswith(".service"):
            service = await self._connection.properties(start.path, SERVICE_INTERFACE)
            return reason(service | start.history.service)
        return ""

    async def _needs_confirmation(self, start: Start) -> bool:
        kind = await self._connection.property(start.path, SERVICE_INTERFACE, "Type")
        return kind in NEEDS_CONFIRMATION

    async def _reference(self, unit: str, referenced: list[str]) -> None:
        with suppress(sdbus.SdBusBaseError):  # creating its job fails in the same way, and reports why
            await self._connection.call(self._manager.ref_unit(unit))
            referenced.append(unit)

    async def _begin(self, starts: dict[str, Start], paths: Mapping[str, str]) -> None:
        """Watch and read units at these paths, and then those with an alias again: it is not their path."""
        for unit, path in paths.items():
            starts[unit] = Start(path, StartHistory(unit_at(path)))
            self._by_path[path].append(starts[unit])
        await self._signals.match_units({*paths.values()})
        # The rows are older than signals from here on, and newer than all before. A unit that is started
        # between the two reads has the former run and a later state; its signal then tells of the new run.
        listing = self._connection.call_or_lose(self._manager.list_units_by_names([*paths]))
        runs, rows = await asyncio.gather(together(map(self.invocation, paths)), listing)
        aliases: dict[str, str] = {}
        for unit, run, row in zip(paths, runs, rows, strict=True):
            _, _, load, active, sub, _, path, *job, job_path = row
            if path != paths[unit]:
                self._forget(starts.pop(unit))
                aliases[unit] = path
                continue
            read = UnitSnapshot(UnitState(LoadState(load), ActiveState(active), sub), run)
            starts[unit].history.begin(read, job_path if job[0] else "")
        if aliases:
            await self._begin(starts, aliases)

    def _forget(self, start: Start) -> None:
        self._by_path[start.path].remove(start)
        if not self._by_path[start.path]:
            del self._by_path[start.path]

    async def _unreference(self, unit: str) -> None:
        with suppress(sdbus.SdBusBaseError, BusUnavailable):
            await self._connection.call(self._manager.unref_unit(unit))


def _had_nothing_to_do(action: Action, history: StartHistory) -> bool:
    """Tell whether the unit was already in the requested state."""
    if action is Action.RESTART:
        return not history.before.state.is_running  # a stopped unit stays stopped
    return history.before.is_up and history.starts == 0


async def _confirmed(start: Start, confirm_seconds: float, connection: BusConnection) -> None:
    """Wait until the unit goes down, or is up after this time: a job may still be restarting it."""
    while True:
        await start.until(lambda: start.history.went_down is not None, confirm_seconds)
        if connection.lost.is_set():  # the last state may be out of date
            raise BusUnavailable(connection.why_lost)
        if start.history.has_gone_down or start.history.now.is_up:
            return


def unit_at(path: str) -> str:
    """Return systemd's name of the unit with an object path."""
    return str(sdbus.decode_object_path(f"{MANAGER_PATH}/unit", path))


def _path_of(unit: str) -> str:
    return str(sdbus.encode_object_path(f"{MANAGER_PATH}/unit", unit))
