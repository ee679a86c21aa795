"""Watches units while they are started, so that a start is a success when the unit is up.

outcome.py judges what was seen. The unit is held meanwhile: systemd forgets one that is not held as soon as
it has ended, and with it why.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import sdbus

from hkswitch.model.errors import BusUnavailable
from hkswitch.model.unit_state import Action, JobResult, UnitHealth, UnitResult
from hkswitch.systemd.connection import SYSTEMD, Connection, sentence
from hkswitch.systemd.interface import PATH, Manager
from hkswitch.systemd.outcome import (
    NEEDS_CONFIRMATION,
    Story,
    invocation_of,
    judged,
    reason,
    unmet_asserts,
)
from hkswitch.systemd.signals import SERVICE, UNIT, Signals


@dataclass(slots=True, eq=False)
class Start:
    """A unit that is being started."""

    path: str
    story: Story
    news: asyncio.Event = field(default_factory=asyncio.Event)

    async def until(self, condition: Callable[[], bool], within_seconds: float) -> None:
        """Wait until something that signals tell is so, but no longer."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within_seconds):
                while not condition():
                    self.news.clear()
                    await self.news.wait()


class Starts:
    """The units that one connection starts now."""

    def __init__(self, connection: Connection, signals: Signals) -> None:
        """Nothing is watched yet."""
        self._connection = connection
        self._manager = Manager.new_proxy(SYSTEMD, PATH, connection.bus)
        self._signals = signals
        self._by_path: defaultdict[str, list[Start]] = defaultdict(list)

    def wants(self, path: str | None) -> bool:
        """Whether a signal about this object path is of use."""
        return path in self._by_path

    def changed(self, path: str, properties: Mapping[str, Any]) -> None:
        """Take over what a signal said of a unit."""
        for start in self._by_path.get(path, ()):
            start.story.changed(properties)
            start.news.set()

    def service_changed(self, path: str, properties: Mapping[str, Any]) -> None:
        """Take over what a signal said of a unit as a service."""
        for start in self._by_path.get(path, ()):
            start.story.service_changed(properties)

    def job_removed(self, unit: str, job: str) -> None:
        """Take over that a job of a unit has ended, whoever asked for it."""
        for starts in self._by_path.values():
            for start in starts:
                if start.story.unit == unit:
                    start.story.job_removed(job)
                    start.news.set()

    @asynccontextmanager
    async def watching(self, units: Iterable[str]) -> AsyncIterator[dict[str, Start]]:
        """Meanwhile, hold these units and follow them; one that cannot be looked at is left out."""
        held: list[str] = []
        starts: dict[str, Start] = {}
        try:
            await asyncio.gather(*(self._hold(unit, held) for unit in units))
            rows = await self._connection.call_or_lose(self._manager.list_units_by_names(held))
            # An alias has the path of its unit.
            for unit, (*_, path, _, _, _) in zip(held, rows, strict=True):
                starts[unit] = Start(path, Story(sdbus.decode_object_path(f"{PATH}/unit", path)))
                self._by_path[path].append(starts[unit])
            async with self._signals.hearing_services():
                await self._signals.hear({start.path for start in starts.values()})
                # What is read now is older than what signals say from here on, and newer than all before.
                await asyncio.gather(*(self._look_at(start) for start in starts.values()))
                yield starts
        finally:
            for start in starts.values():
                self._by_path[start.path].remove(start)
                if not self._by_path[start.path]:
                    del self._by_path[start.path]
            await asyncio.gather(*(self._let_go(unit) for unit in held))

    async def outcome(
        self, start: Start, asked: str, action: Action, ended: tuple[str, JobResult], confirm_seconds: float
    ) -> UnitResult:
        """What came of a start, once its job has `ended` (its path and its result)."""
        job, result = ended
        story = start.story
        story.ended(job)
        try:
            if result is JobResult.CANCELED:  # another job took its place: what that does comes at once
                await start.until(lambda: story.now.state.health is not UnitHealth.STARTING, confirm_seconds)
            if result is not JobResult.DONE:
                return UnitResult(asked, result, await self._why(start, result))
            if _had_nothing_to_do(action, story):
                return UnitResult(asked, result)
            is_service = story.unit.endswith(".service")
            is_unsure = is_service and not story.has_fallen
            # With another job on it, as a restart that somebody else began, this one's end says nothing.
            if is_unsure and (story.pending or await self._needs_confirmation(start)):
                await _confirmed(start, confirm_seconds, self._connection)
            if not story.has_fallen:
                return UnitResult(asked, result)
            unit = await self._connection.properties(start.path, UNIT)
            service = await self._connection.properties(start.path, SERVICE) if is_service else {}
            return judged(asked, story, unit, service)
        except sdbus.SdBusBaseError as error:
            return UnitResult(asked, JobResult.FAILED, f"its state cannot be read: {sentence(error)}")

    async def invocation(self, unit: str) -> str:
        """Which of its starts a unit is in; empty for none, and where systemd does not say."""
        with suppress(sdbus.SdBusBaseError):
            number = await self._connection.property(_path_of(unit), UNIT, "InvocationID")
            return invocation_of({"InvocationID": number})
        return ""

    async def main_process(self, service: str) -> int:
        """The main process of a service, as `Systemd.main_process`."""
        try:
            return int(await self._connection.property(_path_of(service), SERVICE, "MainPID"))
        except sdbus.SdBusBaseError as error:
            raise self._connection.lose(error) from error

    async def why_down(self, unit: str) -> str:
        """Why a service is not up, in a few words; empty where systemd does not say."""
        with suppress(sdbus.SdBusBaseError):
            if unit.endswith(".service"):
                return reason(await self._connection.properties(_path_of(unit), SERVICE))
        return ""

    async def _why(self, start: Start, result: JobResult) -> str:
        if result is JobResult.ASSERT:
            return unmet_asserts(await self._connection.properties(start.path, UNIT))
        if result is JobResult.FAILED and start.story.unit.endswith(".service"):
            return reason(await self._connection.properties(start.path, SERVICE) | start.story.service)
        return ""

    async def _needs_confirmation(self, start: Start) -> bool:
        kind = await self._connection.property(start.path, SERVICE, "Type")
        return kind in NEEDS_CONFIRMATION

    async def _hold(self, unit: str, held: list[str]) -> None:
        with suppress(sdbus.SdBusBaseError):  # who makes its job is told why
            await self._connection.call(self._manager.ref_unit(unit))
            held.append(unit)

    async def _look_at(self, start: Start) -> None:
        with suppress(sdbus.SdBusBaseError):
            start.story.begin(await self._connection.properties(start.path, UNIT))

    async def _let_go(self, unit: str) -> None:
        with suppress(sdbus.SdBusBaseError, BusUnavailable):
            await self._connection.call(self._manager.unref_unit(unit))


def _had_nothing_to_do(action: Action, story: Story) -> bool:
    """Whether the unit was as it should be already."""
    if action is Action.RESTART:
        return not story.before.state.is_running  # what is stopped stays so
    return story.before.is_up and story.starts == 0


async def _confirmed(start: Start, confirm_seconds: float, connection: Connection) -> None:
    """Wait until the unit has fallen, or is up after so long: a job that restarts it may run meanwhile."""
    while True:
        await start.until(lambda: start.story.fall is not None, confirm_seconds)
        if connection.lost.is_set():  # what it told last is so no longer, perhaps
            raise BusUnavailable(connection.why_lost)
        if start.story.has_fallen or start.story.now.is_up:
            return


def _path_of(unit: str) -> str:
    return str(sdbus.encode_object_path(f"{PATH}/unit", unit))
