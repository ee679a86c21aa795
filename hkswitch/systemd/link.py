"""A persistent link to systemd: reconnects, reads all states again, and settles the jobs that ran."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from contextlib import suppress
from typing import Final, NoReturn, Protocol

from hkswitch.model.errors import BusUnavailable
from hkswitch.model.unit_state import Action, UnitResult, UnitState, Usage
from hkswitch.systemd.command import Command, Ended, ServiceResult
from hkswitch.systemd.units import Begin, Systemd

FIRST_PAUSE_SECONDS: Final = 1
LONGEST_PAUSE_SECONDS: Final = 30
LASTING_SECONDS: Final = 10
"""After a connection that was lost sooner, the next pause is longer: each connection leaks a few KB."""

BUS_BACK_WITHIN_SECONDS: Final = 30
"""How long running jobs and commands wait for the bus to come back."""

NEXT_POLL_SECONDS: Final = 0.5


class UnitObserver(Protocol):
    """A receiver of the states of units."""

    def seen(self, units: Mapping[str, UnitState]) -> None:
        """Update the states of units that were read, or changed."""

    def lost(self, why: BusUnavailable) -> None:
        """Forget all states until all units have been read again."""

    def found(self) -> None:
        """Note that all watched units have been read."""


def pause_after(before_seconds: float, *, was_lost_soon: bool) -> float:
    """Return the pause before the next connection; it doubles each time one is lost soon."""
    return min(max(FIRST_PAUSE_SECONDS, 2 * before_seconds * was_lost_soon), LONGEST_PAUSE_SECONDS)


class Link:
    """A series of connections, which `keep` opens."""

    def __init__(self, connect: Callable[[], Awaitable[Systemd]] = Systemd.connect) -> None:
        """Watches nothing yet."""
        self._connect = connect
        self._observer: UnitObserver | None = None
        self._units: tuple[str, ...] = ()
        self._systemd: Systemd | None = None
        self._connected = asyncio.Event()
        self._tried = asyncio.Event()
        self._why = BusUnavailable("not connected yet")

    async def keep(self, observer: UnitObserver) -> NoReturn:
        """Stay connected until cancelled, and report the watched units to `observer`."""
        self._observer = observer
        loop = asyncio.get_running_loop()
        pause_seconds: float = 0
        while True:
            soon_until_seconds = 0.0
            try:
                with await self._connect() as systemd:
                    soon_until_seconds = loop.time() + LASTING_SECONDS
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
            observer.lost(self._why)
            pause_seconds = pause_after(pause_seconds, was_lost_soon=loop.time() < soon_until_seconds)
            await asyncio.sleep(pause_seconds)

    def watch(self, units: Iterable[str]) -> Coroutine[None, None, None]:
        """Watch these units from now on; on return, each has been read, if the bus is available."""
        self._units = tuple(dict.fromkeys(units))  # now: a watch that is about to end must see it
        return self._see(self._units, self._systemd)  # the next connection watches them anyway

    async def _see(self, watched: tuple[str, ...], systemd: Systemd | None) -> None:
        if systemd is not None and self._observer is not None:
            with suppress(BusUnavailable):  # keep() reports it
                await systemd.watch(watched, self._observer.seen)
                if self._units is watched:  # no later call has replaced it
                    self._observer.found()

    async def states(self, units: Iterable[str]) -> dict[str, UnitState]:
        """Return the states of units now; raises `BusUnavailable`."""
        return await (await self._now()).states(units)

    async def usages(self, units: Iterable[str]) -> list[Usage]:
        """Return what `Systemd.usages` returns."""
        return await (await self._now()).usages(units)

    async def main_process(self, service: str) -> int:
        """Return what `Systemd.main_process` returns."""
        return await (await self._now()).main_process(service)

    async def run(
        self, action: Action, units: Iterable[str], confirm_seconds: float, begin: Begin = lambda: None
    ) -> tuple[UnitResult, ...]:
        """Run an action like `Systemd.run`; if the bus goes away, the units' states decide the results."""
        names = tuple(units)
        systemd = await self._now()
        before = await systemd.invocations(names) if action is Action.RESTART else {}
        try:
            return await systemd.run(action, names, confirm_seconds, begin)
        except BusUnavailable:
            return await (await self._next(systemd)).settled(action, names, before)

    async def execute(
        self, command: Command, begin: Begin = lambda: None, begun: Begin = lambda: None
    ) -> Ended:
        """Run a command like `Systemd.execute`; if the bus goes away, its exit code is lost."""
        systemd = await self._now()
        try:
            return await systemd.execute(command, begin, begun)
        except BusUnavailable:
            await (await self._next(systemd)).settled(Action.START, [command.unit], {})
            return Ended(ServiceResult.LOST, 0)

    async def _now(self) -> Systemd:
        await self._tried.wait()  # the first request may come before the first connection
        if self._systemd is None:
            raise self._why
        return self._systemd

    async def _next(self, before: Systemd) -> Systemd:
        """Wait for the connection after this one; raises `BusUnavailable` if there is none in time."""
        try:
            async with asyncio.timeout(BUS_BACK_WITHIN_SECONDS):
                while self._systemd is None or self._systemd is before:
                    await asyncio.sleep(NEXT_POLL_SECONDS)  # keep() has not noticed yet, or is reconnecting
                    await self._connected.wait()
        except TimeoutError:
            raise self._why from None
        return self._systemd
