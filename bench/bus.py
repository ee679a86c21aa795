"""The floor: StartUnit and StopUnit on one open connection to a host's bus, without HomeKit or a helper."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final

import sdbus

from hkswitch.systemd.connection import SYSTEMD, BusConnection
from hkswitch.systemd.interface import MANAGER_PATH, Manager
from tests.host.machine import Host

_ADDRESS: Final = "DBUS_SYSTEM_BUS_ADDRESS"
_MOST_CALLS: Final = 100
"""dbus-daemon refuses a 129th pending call on a connection."""


class Bus:
    """Starts and stops units in parallel, and waits for the end of their jobs."""

    def __init__(self, bus: sdbus.SdBus) -> None:
        """Use `opened`."""
        self._manager = Manager.new_proxy(SYSTEMD, MANAGER_PATH, bus)
        self._ends: dict[str, asyncio.Future[str]] = {}
        self._calls = asyncio.Semaphore(_MOST_CALLS)

    async def start(self, units: Sequence[str]) -> None:
        """Start all units; every job must succeed."""
        await self._all(self._manager.start_unit, units)

    async def stop(self, units: Sequence[str]) -> None:
        """Stop all units; every job must succeed."""
        await self._all(self._manager.stop_unit, units)

    async def _all(
        self, method: Callable[[str, str], Coroutine[Any, Any, str]], units: Sequence[str]
    ) -> None:
        results = set(await asyncio.gather(*(self._one(method, unit) for unit in units)))
        assert results <= {"done"}, f"jobs ended with {results}"

    async def _one(self, method: Callable[[str, str], Coroutine[Any, Any, str]], unit: str) -> str:
        end: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._ends[unit] = end
        async with self._calls:
            await method(unit, "replace")
        return await end

    def job_removed(self, message: Any) -> None:  # noqa: ANN401 -- sdbus does not export the type
        """Handle systemd's JobRemoved signal."""
        _, _, unit, result = message.get_contents()
        end = self._ends.pop(unit, None)
        if end is not None:
            end.set_result(result)


@asynccontextmanager
async def opened(host: Host) -> AsyncIterator[Bus]:
    """Connect to the bus of a host from outside."""
    with _address_of(host):
        connection = BusConnection()
    try:
        bus = Bus(connection.bus)
        matching = connection.bus.match_signal_async(
            SYSTEMD, None, f"{SYSTEMD}.Manager", "JobRemoved", bus.job_removed
        )
        match = await matching  # the match ends with its last reference
        await Manager.new_proxy(SYSTEMD, MANAGER_PATH, connection.bus).subscribe()
        yield bus
        del match
    finally:
        connection.close()


@contextmanager
def _address_of(host: Host) -> Iterator[None]:
    before = os.environ.get(_ADDRESS)
    os.environ[_ADDRESS] = f"unix:path=/proc/{host.leader}/root/run/dbus/system_bus_socket"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_ADDRESS]
        else:
            os.environ[_ADDRESS] = before
