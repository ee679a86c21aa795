"""Measures the resources of groups at a fixed interval. Runs as root, and acts on nothing.

The daemon decides which groups it wants to know about, and what follows from it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import Final, NamedTuple

from hkswitch.model.errors import BusUnavailable
from hkswitch.model.unit_state import Usage
from hkswitch.serviceswitch.probes import Spawn

INTERVAL_SECONDS: Final = 15

SOONEST_SECONDS: Final = 1
"""Between two samples, however often the daemon asks."""

MOST_MEASURED: Final = 1024
"""Units and containers: all of them, with the longest names, are one line to the daemon."""

Measure = Callable[[Collection[str]], Awaitable[Collection[Usage]]]
"""Returns the resources of those units that run; raises `BusUnavailable`."""


class Measured(NamedTuple):
    """A member of a group, or one of its containers, and the unit with its processes."""

    unit: str
    member: str
    container: str = ""
    """The container's ID."""


@dataclass(eq=False, slots=True)
class Samples:
    """The samples of the groups that the daemon wants to know about."""

    measure: Measure
    find: Callable[[Collection[str]], Iterable[Measured]]
    """Returns what to measure of some groups now."""
    report: Callable[[float, tuple[Usage, ...]], None]
    """Takes each sample, and its time."""
    spawn: Spawn
    _groups: Collection[str] = ()
    _is_due: asyncio.Event = field(default_factory=asyncio.Event)
    _task: asyncio.Task[None] | None = None

    def observe(self, groups: Collection[str]) -> None:
        """Measure these groups now and from now on; without any, nothing runs."""
        self._groups = groups
        self._is_due.set()
        if groups and self._task is None:
            self._task = self.spawn(self._keep_measuring())

    async def _keep_measuring(self) -> None:
        now_seconds = asyncio.get_running_loop().time
        next_seconds = 0.0
        while self._groups:
            if self._is_due.is_set() or now_seconds() >= next_seconds + INTERVAL_SECONDS:
                next_seconds = now_seconds()  # a new beginning
            next_seconds += INTERVAL_SECONDS
            self._is_due.clear()
            with suppress(BusUnavailable):  # the daemon knows, and waits for the next sample
                usages = await self._measured()
                if not self._is_due.is_set():  # else it is of groups that nobody wants to know about
                    self.report(now_seconds(), usages)
            # TRUST: the daemon may ask without end.
            await asyncio.sleep(SOONEST_SECONDS)
            with suppress(TimeoutError):
                async with asyncio.timeout_at(next_seconds):
                    await self._is_due.wait()
        self._task = None

    async def _measured(self) -> tuple[Usage, ...]:
        wanted = [*islice(self.find(self._groups), MOST_MEASURED)]
        units = {each.unit for each in wanted}
        found = {usage.member: usage for usage in (await self.measure(units) if units else ())}
        return tuple(
            found[unit]._replace(member=member, run=f"{container}{found[unit].run}")
            for unit, member, container in wanted
            if unit in found
        )
