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
from hkswitch.hap.connection import HapConnection
from hkswitch.hap.log_limiter import RateLimitedLog
from hkswitch.hap.sessions import RequestScheduler
from hkswitch.hap.sockets import ListeningSockets
from hkswitch.network.endpoint import Endpoint

_log = logging.getLogger(__name__)

TRIM_AFTER_SECONDS: Final = 1.0


class Server(HAPServer):
    """Listens on the addresses of a place, which can change, and watches over the connections."""

    def __init__(self, port: int, driver: AccessoryDriver) -> None:
        super().__init__(("", port), driver)
        self.loop = driver.loop
        self._listening = ListeningSockets(
            self.loop, port, lambda: HapConnection(self.loop, self, self.accessory_handler)
        )
        self._unauthenticated: sessions.UnauthenticatedConnections[HapConnection] = (
            sessions.UnauthenticatedConnections()
        )
        self._sessions: sessions.ControllerSessions[HapConnection] = sessions.ControllerSessions(
            lambda one: one.heard_at_seconds
        )
        self._limited_log = RateLimitedLog(_log)
        self.scheduler = RequestScheduler(self.loop.call_soon)
        self._memory_trimmer = MemoryTrimmer(self.loop)

    async def async_start(self, loop: asyncio.AbstractEventLoop) -> None:  # noqa: ARG002 -- it has ours
        """Begin to look after connections; `listen` listens, where HAP-python could not move."""
        self.async_cleanup_connections()

    async def listen(self, endpoint: Endpoint) -> None:
        """Listen there and nowhere else; connections to what stays go on.

        If it raises `OSError`, nothing has changed.
        """
        await self._listening.move(endpoint)
        for connection in list(self.connections.values()):
            if not connection.is_at(endpoint):
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
        self._memory_trimmer.close()
        self._limited_log.close()
        for connection in list(self.connections.values()):
            connection.close()
        self._listening.close()
        self.connections.clear()

    def admit(self, connection: HapConnection) -> None:
        """Take in a stranger, maybe at the cost of another."""
        pairing = self.connections.get(self.accessory_handler.pair_setup.holder)
        one_too_many = self._unauthenticated.add(connection, connection.session.address, pairing)
        if one_too_many is not None:
            one_too_many.log_warning("it has too many connections that do not say who they are")
            one_too_many.cut()

    def is_unauthenticated(self, connection: HapConnection) -> bool:
        """Whether a connection has not proved who it is."""
        return connection in self._unauthenticated

    def trust(self, connection: HapConnection) -> None:
        """It has authenticated, maybe at the cost of another session."""
        self._unauthenticated.discard(connection)
        one_too_many = self._sessions.add(connection, connection.session.controller)
        if one_too_many is not None:
            one_too_many.log_warning(
                "its controller has too many connections; the longest idle one is closed"
            )
            one_too_many.cut()
            self.trim_memory_soon()

    def forget(self, connection: HapConnection) -> None:
        """It is gone."""
        self._unauthenticated.discard(connection)
        self._sessions.discard(connection)

    def log_warning(self, address: str, what: str) -> None:
        """Log what an address did, once a minute at most."""
        self._limited_log.log_warning(address, what)

    def trim_memory_soon(self) -> None:
        """Give back what a connection held, when it is closed."""
        self._memory_trimmer.trim_soon()


class MemoryTrimmer:
    """What was freed of late."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # other C libraries have none
        self._timer: asyncio.TimerHandle | None = None

    def trim_soon(self) -> None:
        """Give it back when what is being closed is closed; once for all that is meanwhile."""
        if self._timer is None:
            self._timer = self._loop.call_later(TRIM_AFTER_SECONDS, self._trim_now)

    def close(self) -> None:
        """Do not give back any more."""
        if self._timer is not None:
            self._timer.cancel()

    def _trim_now(self) -> None:
        self._timer = None
        gc.collect()
        if self._trim is not None:
            self._trim(0)
