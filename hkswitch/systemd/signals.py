"""Which signals the bus sends to a connection, and from whom they are believed."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

import sdbus

from hkswitch.model.errors import BusUnavailable
from hkswitch.systemd.connection import BUS, PROPERTIES, SYSTEMD, Connection, bus_itself

CHANGED: Final = "PropertiesChanged"
UNIT: Final = f"{SYSTEMD}.Unit"
SERVICE: Final = f"{SYSTEMD}.Service"
_CHANGES: Final = f"type='signal',sender='{SYSTEMD}',interface='{PROPERTIES}',member='{CHANGED}'"

_OF_SERVICES: Final = f"{_CHANGES},arg0='{SERVICE}'"

MOST_MATCHES: Final = 256
"""dbus-daemon lets a connection have 512; who watches more units hears of all that systemd has."""

Message = Any  # sdbus does not export the type
Callback = Callable[[Message], None]


class Signals:
    """The matches of one connection. They end with it."""

    def __init__(self, connection: Connection, owner: str) -> None:
        """`owner` is systemd's unique name on this bus."""
        self._connection = connection
        self._owner = owner
        self._bus = bus_itself(connection.bus)
        self._kept: list[object] = []  # a match ends when its slot is forgotten
        self._heard: set[str | None] = set()
        self._hearing_services = 0

    def forget(self) -> None:
        """Have no callback called any more."""
        self._kept.clear()

    async def receive(self, interface: str, member: str, callback: Callback) -> None:
        """Have a signal of systemd's told from now on; raises `BusUnavailable`."""
        self._kept.append(await self._match(SYSTEMD, None, interface, member, callback))

    @asynccontextmanager
    async def receiving_changes_of(self, path: str, callback: Callback) -> AsyncIterator[None]:
        """Meanwhile, have every change of one object of systemd's told; raises `BusUnavailable`."""
        match = await self._match(SYSTEMD, path, PROPERTIES, CHANGED, callback)
        yield
        del match

    async def receive_owners(self, callback: Callback) -> None:
        """Have it told when a name on the bus has another owner."""
        self._kept.append(await self._match(BUS, None, BUS, "NameOwnerChanged", callback))

    async def receive_changes(self, callback: Callback) -> None:
        """Have changes of units told: of none yet, see `hear`.

        sdbus can tell the bus no more than whose signals of which name are wanted. Its match is withdrawn
        from the bus, so that it only calls `callback` for what our own let through.
        """
        await self.receive(PROPERTIES, CHANGED, callback)
        with suppress(sdbus.SdBusBaseError):  # to this bus it is another rule: it sends more than is wanted
            await self._connection.call(self._bus.remove_match(_CHANGES))

    async def hear(self, paths: set[str]) -> bool:
        """Have the bus send the changes of these units and, if possible, of no others.

        `paths` are systemd's. Returns whether it did not send them yet; raises `BusUnavailable`.
        """
        new = sorted(paths - self._heard)
        if None in self._heard or not new:
            return False
        if len(self._heard) + len(new) > MOST_MATCHES:
            return await self._hear({None})
        return await self._hear(new)

    @asynccontextmanager
    async def hearing_services(self) -> AsyncIterator[None]:
        """Meanwhile, have the bus send the other signal for each change of a service, too; of any service.

        Needs `receive_changes`; raises `BusUnavailable`.
        """
        self._hearing_services += 1
        try:
            if self._hearing_services == 1:
                await self._connection.call_or_lose(self._bus.add_match(_OF_SERVICES))
            yield
        finally:
            self._hearing_services -= 1
            if self._hearing_services == 0:
                with suppress(BusUnavailable):  # the bus forgets it with the connection
                    await self._connection.call_or_lose(self._bus.remove_match(_OF_SERVICES))

    async def _hear(self, paths: Collection[str | None]) -> bool:
        await asyncio.gather(*(self._hear_one(path) for path in paths))
        self._heard.update(paths)
        return True

    async def _hear_one(self, path: str | None) -> None:
        await self._connection.call_or_lose(self._bus.add_match(_rule(path)))

    async def _match(
        self, sender: str, path: str | None, interface: str, member: str, callback: Callback
    ) -> object:
        believed = self._owner if sender == SYSTEMD else sender

        def checked(message: Message) -> None:
            # TRUST: any local user may send a signal straight to us, past the match: believe its sender only,
            # which is systemd by its unique name, or the bus itself under its own.
            if message.sender == believed:
                callback(message)

        async def matching() -> object:  # on a connection that broke, the first call raises already
            return await self._connection.bus.match_signal_async(sender, path, interface, member, checked)

        return await self._connection.call_or_lose(matching())


def _rule(path: str | None) -> str:
    """Of the two signals for each change of a unit, the short one, in which its state is."""
    of = "" if path is None else f",path='{path}'"
    return f"{_CHANGES},arg0='{UNIT}'{of}"
