"""The match rules of a connection, and the senders whose signals are accepted."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

import sdbus

from hkswitch.model.errors import BusUnavailable
from hkswitch.systemd.connection import BUS, PROPERTIES_INTERFACE, SYSTEMD, BusConnection, bus_itself
from hkswitch.systemd.interface import SERVICE_INTERFACE, UNIT_INTERFACE

PROPERTIES_CHANGED: Final = "PropertiesChanged"
_CHANGES: Final = (
    f"type='signal',sender='{SYSTEMD}',interface='{PROPERTIES_INTERFACE}',member='{PROPERTIES_CHANGED}'"
)

_OF_SERVICES: Final = f"{_CHANGES},arg0='{SERVICE_INTERFACE}'"

MOST_MATCHES: Final = 256
"""dbus-daemon allows 512 per connection. A connection that watches more units receives the changes of all."""

Message = Any  # sdbus does not export the type
Callback = Callable[[Message], None]


class Signals:
    """The match rules of one connection; they end with it."""

    def __init__(self, connection: BusConnection, owner: str) -> None:
        """`owner` is systemd's unique name on this bus."""
        self._connection = connection
        self._owner = owner
        self._bus = bus_itself(connection.bus)
        self._kept: list[object] = []  # a match ends when its slot is forgotten
        self._matched: set[str | None] = set()
        self._matching_services = 0

    def forget(self) -> None:
        """Stop calling callbacks."""
        self._kept.clear()

    async def receive(self, interface: str, member: str, callback: Callback) -> None:
        """Subscribe to a systemd signal; raises `BusUnavailable`."""
        self._kept.append(await self._match(SYSTEMD, None, interface, member, callback))

    @asynccontextmanager
    async def receiving_changes_of(self, path: str, callback: Callback) -> AsyncIterator[None]:
        """Within the context, receive every change of one systemd object; raises `BusUnavailable`."""
        match = await self._match(SYSTEMD, path, PROPERTIES_INTERFACE, PROPERTIES_CHANGED, callback)
        yield
        del match

    async def receive_owners(self, callback: Callback) -> None:
        """Subscribe to changes of the owners of bus names."""
        self._kept.append(await self._match(BUS, None, BUS, "NameOwnerChanged", callback))

    async def receive_changes(self, callback: Callback) -> None:
        """Subscribe to changes of units; `match_units` then selects the units.

        sdbus can only match by sender, interface and member. Its match rule is removed from the bus, so that
        it calls `callback` only for signals that our own rules let through.
        """
        await self.receive(PROPERTIES_INTERFACE, PROPERTIES_CHANGED, callback)
        with suppress(sdbus.SdBusBaseError):  # this bus writes rules differently, and sends more than needed
            await self._connection.call(self._bus.remove_match(_CHANGES))

    async def match_units(self, paths: set[str]) -> bool:
        """Have the bus send the changes of these units and, if possible, of no others.

        `paths` are systemd's object paths. Returns whether one of them was not matched before; raises
        `BusUnavailable`.
        """
        new = sorted(paths - self._matched)
        if None in self._matched or not new:
            return False
        if len(self._matched) + len(new) > MOST_MATCHES:
            return await self._add_matches({None})
        return await self._add_matches(new)

    @asynccontextmanager
    async def matching_services(self) -> AsyncIterator[None]:
        """Within the context, also receive the second signal of each change of a service, for all services.

        Needs `receive_changes`; raises `BusUnavailable`.
        """
        self._matching_services += 1
        try:
            if self._matching_services == 1:
                await self._connection.call_or_lose(self._bus.add_match(_OF_SERVICES))
            yield
        finally:
            self._matching_services -= 1
            if self._matching_services == 0:
                with suppress(BusUnavailable):  # the bus drops the rule with the connection
                    await self._connection.call_or_lose(self._bus.remove_match(_OF_SERVICES))

    async def _add_matches(self, paths: Collection[str | None]) -> bool:
        await asyncio.gather(*(self._match_unit(path) for path in paths))
        self._matched.update(paths)
        return True

    async def _match_unit(self, path: str | None) -> None:
        await self._connection.call_or_lose(self._bus.add_match(_rule(path)))

    async def _match(
        self, sender: str, path: str | None, interface: str, member: str, callback: Callback
    ) -> object:
        trusted_sender = self._owner if sender == SYSTEMD else sender

        def checked(message: Message) -> None:
            # TRUST: any local user can send a signal to this connection, bypassing the match rules: only
            # the sender counts, which is systemd by its unique name, or the bus itself under its own.
            if message.sender == trusted_sender:
                callback(message)

        async def matching() -> object:  # on a broken connection, the first call already raises
            return await self._connection.bus.match_signal_async(sender, path, interface, member, checked)

        return await self._connection.call_or_lose(matching())


def _rule(path: str | None) -> str:
    """Return a rule for the shorter of the two signals that announce a change of a unit; it has the state."""
    of = "" if path is None else f",path='{path}'"
    return f"{_CHANGES},arg0='{UNIT_INTERFACE}'{of}"
