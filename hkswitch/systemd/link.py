"""systemd, whether or not the bus is there: connects again, reads everything anew, and settles what ran."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from contextlib import suppress
from typing import Final, NoReturn, Protocol

from hkswitch.model.errors import BusUnavailable
from hkswitch.model.unit_state import Action, UnitResult, UnitState
from hkswitch.systemd.command import Command, Ended, ServiceResult
from hkswitch.systemd.units import Begin, Systemd

RECONNECT_SECONDS: Final = 1
RECONNECT_AT_MOST_SECONDS: Final = 30
LASTED_SECONDS: Final = 10
"""A connection that was lost sooner makes the next one wait longer: each that ends leaves a few KB behind."""

BACK_WITHIN_SECONDS: Final = 30
"""How long what runs waits for a bus that went away."""

STILL_RUNS_SECONDS: Final = 0.5


class Sink(Protocol):
    """Who is told of units."""

    def seen(self, units: Mapping[str, UnitState]) -> None:
        """Take over the states of units that were read, or changed."""

    def lost(self, why: BusUnavailable) -> None:
        """Take over that no state is known until all are seen again."""

    def found(self) -> None:
        """All watched units were seen."""


def pause_after(before_seconds: float, *, was_lost_soon: bool) -> float:
    """How long the next connection waits: the longer, the more of them were lost soon."""
    return min(max(RECONNECT_SECONDS, 2 * before_seconds * was_lost_soon), RECONNECT_AT_MOST_SECONDS)


class Link:
    """One connection after the other, kept by `keep`."""

    def __init__(self, connect: Callable[[], Awaitable[Systemd]] = Systemd.connect) -> None:
        """Nothing is watched yet."""
        self._connect = connect
        self._sink: Sink | None = None
        self._units: tuple[str, ...] = ()
        self._systemd: Systemd | None = None
        self._connected = asyncio.Event()
        self._tried = asyncio.Event()
        self._why = BusUnavailable("not connected yet")

    async def keep(self, sink: Sink) -> NoReturn:
        """Be connected until cancelled, and tell `sink` of the watched units."""
        self._sink = sink
        loop = asyncio.get_running_loop()
        pause_seconds: float = 0
        while True:
            soon_until_seconds = 0.0
            try:
                with await self._connect() as systemd:
                    soon_until_seconds = loop.time() + LASTED_SECONDS
                    self._systemd = systemd
                    self._connected.set()
                    self._tried.set()
                    await self.watch(self._units)
                    self._why = await systemd.until_lost()
            except BusUnavailable as lost:
                self._why = lost
            finally:
                self._systemd = None
                self._connected.clear()
            self._tried.set()
            sink.lost(self._why)
            pause_seconds = pause_after(pause_seconds, was_lost_soon=loop.time() < soon_until_seconds)
            await asyncio.sleep(pause_seconds)

    def watch(self, units: Iterable[str]) -> Coroutine[None, None, None]:
        """Watch these units from now on: each was seen when this has ended, if the bus is there."""
        self._units = tuple(dict.fromkeys(units))  # now: a watch that is about to end must know of it
        return self._see(self._units, self._systemd)  # the next connection watches them anyway

    async def _see(self, watched: tuple[str, ...], systemd: Systemd | None) -> None:
        if systemd is not None and self._sink is not None:
            with suppress(BusUnavailable):  # keep() tells it
                await systemd.watch(watched, self._sink.seen)
                if self._units is watched:  # nobody asked for others meanwhile
                    self._sink.found()

    async def states(self, units: Iterable[str]) -> dict[str, UnitState]:
        """The states of `units` as systemd has them now; raises `BusUnavailable`."""
        return await (await self._now()).states(units)

    async def main_process(self, service: str) -> int:
        """As `Systemd.main_process`."""
        return await (await self._now()).main_process(service)

    async def run(
        self, action: Action, units: Iterable[str], confirm_seconds: float, begin: Begin = lambda: None
    ) -> tuple[UnitResult, ...]:
        """As `Systemd.run`; if the bus goes away meanwhile, the units say what came of it."""
        names = tuple(units)
        systemd = await self._now()
        before = await systemd.invocations(names) if action is Action.RESTART else {}
        try:
            return await systemd.run(action, names, confirm_seconds, begin)
        except BusUnavailable:
            return await (await self._next(systemd)).settled(action, names, before)

    async def execute(self, command: Command, begin: Begin = lambda: None) -> Ended:
        """As `Systemd.execute`; if the bus goes away meanwhile, nobody knows how the command ended."""
        systemd = await self._now()
        try:
            return await systemd.execute(command, begin)
        except BusUnavailable:
            await (await self._next(systemd)).settled(Action.START, [command.unit], {})
            return Ended(ServiceResult.LOST, 0)

    async def _now(self) -> Systemd:
        await self._tried.wait()  # the first request may be faster than the first connection
        if self._systemd is None:
            raise self._why
        return self._systemd

    async def _next(self, before: Systemd) -> Systemd:
        """The connection after this one; raises `BusUnavailable` if there is none in time."""
        try:
            async with asyncio.timeout(BACK_WITHIN_SECONDS):
                while self._systemd is None or self._systemd is before:
                    await asyncio.sleep(STILL_RUNS_SECONDS)  # keep() has not noticed yet, or is at it
                    await self._connected.wait()
        except TimeoutError:
            raise self._why from None
        return self._systemd
