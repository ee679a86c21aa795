"""The server: listens on the addresses of an endpoint, and watches over the connections.

It limits what unauthenticated connections and controllers take up together. It knows nothing of requests.
"""

import asyncio
import ctypes
import gc
import logging
from typing import Final

from pyhap.accessory_driver import AccessoryDriver
from pyhap.hap_server import HAPServer

from hkswitch.hap import sessions
from hkswitch.hap.connection import Connection
from hkswitch.hap.log_limiter import ComplaintLog
from hkswitch.hap.sessions import Turns
from hkswitch.hap.sockets import Listening
from hkswitch.network.endpoint import Endpoint

_log = logging.getLogger(__name__)

AFTER_SECONDS: Final = 1.0


class Server(HAPServer):
    """Listens on the addresses of a place, which can change, and watches over the connections."""

    def __init__(self, port: int, driver: AccessoryDriver) -> None:
        super().__init__(("", port), driver)
        self.loop = driver.loop
        self._listening = Listening(
            self.loop, port, lambda: Connection(self.loop, self, self.accessory_handler)
        )
        self._strangers: sessions.Strangers[Connection] = sessions.Strangers()
        self._sessions: sessions.Sessions[Connection] = sessions.Sessions(lambda one: one.heard_at_seconds)
        self._complaints = ComplaintLog(_log)
        self.turns = Turns(self.loop.call_soon)
        self._free_memory = FreeMemory(self.loop)

    async def async_start(self, loop: asyncio.AbstractEventLoop) -> None:  # noqa: ARG002 -- it has ours
        """Begin to look after connections; `listen` listens, where HAP-python could not move."""
        self.async_cleanup_connections()

    async def listen(self, place: Endpoint) -> None:
        """Listen there and nowhere else; connections to what stays go on.

        If it raises `OSError`, nothing has changed.
        """
        await self._listening.move(place)
        for connection in list(self.connections.values()):
            if not connection.is_at(place):
                connection.cut()  # its address went away, or is not chosen any more

    def leave(self) -> None:
        """Listen nowhere, and have no connections, until it listens again."""
        self._listening.close()
        for connection in list(self.connections.values()):
            connection.cut()

    def async_stop(self) -> None:
        """Close everything, also after a start that failed, at which HAP-python raises."""
        if self._connection_cleanup is not None:
            self._connection_cleanup.cancel()
        self._free_memory.close()
        self._complaints.close()
        for connection in list(self.connections.values()):
            connection.close()
        self._listening.close()
        self.connections.clear()

    def admit(self, connection: Connection) -> None:
        """Take in a stranger, maybe at the cost of another."""
        pairing = self.connections.get(self.accessory_handler.pair_setup.holder)
        one_too_many = self._strangers.add(connection, connection.session.address, pairing)
        if one_too_many is not None:
            one_too_many.complain("it has too many connections that do not say who they are")
            one_too_many.cut()

    def is_stranger(self, connection: Connection) -> bool:
        """Whether a connection has not proved who it is."""
        return connection in self._strangers

    def trust(self, connection: Connection) -> None:
        """It has authenticated, maybe at the cost of another session."""
        self._strangers.discard(connection)
        one_too_many = self._sessions.add(connection, connection.session.controller)
        if one_too_many is not None:
            one_too_many.complain("its controller has too many connections; the longest idle one is closed")
            one_too_many.cut()
            self.give_memory_back_soon()

    def forget(self, connection: Connection) -> None:
        """It is gone."""
        self._strangers.discard(connection)
        self._sessions.discard(connection)

    def complain(self, address: str, what: str) -> None:
        """Log what an address did, once a minute at most."""
        self._complaints.complain(address, what)

    def give_memory_back_soon(self) -> None:
        """Give back what a connection held, when it is closed."""
        self._free_memory.give_back_soon()


class FreeMemory:
    """What was freed of late."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # other C libraries have none
        self._timer: asyncio.TimerHandle | None = None

    def give_back_soon(self) -> None:
        """Give it back when what is being closed is closed; once for all that is meanwhile."""
        if self._timer is None:
            self._timer = self._loop.call_later(AFTER_SECONDS, self._give_back)

    def close(self) -> None:
        """Do not give back any more."""
        if self._timer is not None:
            self._timer.cancel()

    def _give_back(self) -> None:
        self._timer = None
        gc.collect()
        if self._trim is not None:
            self._trim(0)
