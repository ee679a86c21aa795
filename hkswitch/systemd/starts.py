"""Watches units while they are started, so that a start is a success when the unit is up.

outcome.py judges what was seen. The unit is held meanwhile: systemd forgets one that is not held as soon as
it has ended, and with it why.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final

import sdbus

from hkswitch.model.errors import BusUnavailable
from hkswitch.model.unit_state import Action, JobResult, UnitResult
from hkswitch.systemd.connection import SYSTEMD, Connection, sentence
from hkswitch.systemd.interface import PATH, Manager
from hkswitch.systemd.outcome import NEEDS_CONFIRMATION, Story, judged, reason, seen, unmet_asserts
from hkswitch.systemd.signals import UNIT

SERVICE: Final = f"{SYSTEMD}.Service"

Hear = Callable[[set[str]], Awaitable[bool]]
"""Has changes of the units with these object paths told; returns whether they were not told before."""


@dataclass(slots=True, eq=False)
class Start:
    """A unit that is being started."""

    path: str
    story: Story
    fallen: asyncio.Event = field(default_factory=asyncio.Event)

    def note(self) -> None:
        """Wake the one who waits, if the unit is not up any more."""
        if self.story.has_fallen:
            self.fallen.set()
        else:
            self.fallen.clear()


class Starts:
    """The units that one connection starts now."""

    def __init__(self, connection: Connection, hear: Hear) -> None:
        """Nothing is watched yet."""
        self._connection = connection
        self._manager = Manager.new_proxy(SYSTEMD, PATH, connection.bus)
        self._hear = hear
        self._by_path: defaultdict[str, list[Start]] = defaultdict(list)

    def wants(self, path: str | None) -> bool:
        """Whether a signal about this object path is of use."""
        return path in self._by_path

    def changed(self, path: str, properties: Mapping[str, Any]) -> None:
        """Take over what a signal said of a unit."""
        for start in self._by_path.get(path, ()):
            start.story.changed(properties)
            start.note()

    def job_removed(self, unit: str, job: str) -> None:
        """Take over that a job of a unit has ended, whoever asked for it."""
        for starts in self._by_path.values():
            for start in starts:
                if start.story.unit == unit:
                    start.story.other_jobs.add(job)

    @asynccontextmanager
    async def watching(self, units: Iterable[str]) -> AsyncIterator[dict[str, Start]]:
        """Meanwhile, hold these units and follow them; one that cannot be looked at is left out."""
        held: list[str] = []
        starts: dict[str, Start] = {}
        try:
            looked = await asyncio.gather(*(self._look_at(unit, held) for unit in units))
            starts = {unit: start for unit, start in looked if start is not None}
            for start in starts.values():
                self._by_path[start.path].append(start)
            if await self._hear({start.path for start in starts.values()}):  # what came before was not heard
                await asyncio.gather(*(self._look_again(start) for start in starts.values()))
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
        story.job = job
        try:
            if result is not JobResult.DONE:
                return UnitResult(asked, result, await self._why(start, result))
            was_up = story.before.is_up
            if was_up is (action is Action.START) and (was_up is False or story.starts == 0):
                return UnitResult(asked, result)  # there was nothing to do
            is_service = story.unit.endswith(".service")
            if is_service and not story.has_fallen and await self._needs_confirmation(start):
                with suppress(TimeoutError):
                    async with asyncio.timeout(confirm_seconds):
                        await start.fallen.wait()
            if not story.has_fallen:
                return UnitResult(asked, result)
            unit = await self._connection.properties(start.path, UNIT)
            service = await self._connection.properties(start.path, SERVICE) if is_service else {}
            return judged(asked, story, unit, service)
        except sdbus.SdBusBaseError as error:
            return UnitResult(asked, JobResult.FAILED, f"its state cannot be read: {sentence(error)}")

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
            return reason(await self._connection.properties(start.path, SERVICE))
        return ""

    async def _needs_confirmation(self, start: Start) -> bool:
        kind = await self._connection.property(start.path, SERVICE, "Type")
        return kind in NEEDS_CONFIRMATION

    async def _look_at(self, unit: str, held: list[str]) -> tuple[str, Start | None]:
        try:
            await self._connection.call(self._manager.ref_unit(unit))
            held.append(unit)
            properties = await self._connection.properties(_path_of(unit), UNIT)
        except sdbus.SdBusBaseError:
            return unit, None  # who makes its job is told why
        name = properties["Id"]
        return unit, Start(_path_of(name), Story(name, seen(properties)))

    async def _look_again(self, start: Start) -> None:
        with suppress(sdbus.SdBusBaseError):
            now = seen(await self._connection.properties(start.path, UNIT))
            start.story.before = start.story.now = now

    async def _let_go(self, unit: str) -> None:
        with suppress(sdbus.SdBusBaseError, BusUnavailable):
            await self._connection.call(self._manager.unref_unit(unit))


def _path_of(unit: str) -> str:
    return str(sdbus.encode_object_path(f"{PATH}/unit", unit))
