"""The server: listens on the addresses of an endpoint and enforces the limits of its connections.

It knows nothing about requests. It also returns unused memory to the kernel: glibc keeps the memory of
the start and of many responses, and a connection that was aborted is a reference cycle, which Python frees
late in a process that is mostly idle.
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
    """The server on an endpoint, which can change, with the limits of its connections."""

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

    async def async_start(self, loop: asyncio.AbstractEventLoop) -> None:  # noqa: ARG002 -- HAP-python passes the loop that it already has
        """Start closing idle connections. `listen` opens the sockets: HAP-python could not move them."""
        self.async_cleanup_connections()

    async def listen(self, endpoint: Endpoint) -> None:
        """Listen on this endpoint only; connections to addresses that stay are kept.

        Raises `OSError` and then changes nothing.
        """
        await self._listening.move(endpoint)
        for connection in list(self.connections.values()):
            if not connection.is_at(endpoint):
                connection.abort()  # its address is gone or no longer chosen

    def leave(self) -> None:
        """Close all sockets and connections; `listen` opens sockets again."""
        self._listening.close()
        for connection in list(self.connections.values()):
            connection.abort()

    def async_stop(self) -> None:
        """Close everything; HAP-python's version raises after a failed start."""
        if self._connection_cleanup is not None:
            self._connection_cleanup.cancel()
        self._memory_trimmer.close()
        self._limited_log.close()
        for connection in list(self.connections.values()):
            connection.close()
        self._listening.close()
        self.connections.clear()

    def add_unauthenticated(self, connection: HapConnection) -> None:
        """Add an unauthenticated connection; this may close another one."""
        pairing = self.connections.get(self.accessory_handler.pair_setup.holder)
        one_too_many = self._unauthenticated.add(connection, connection.session.address, pairing)
        if one_too_many is not None:
            one_too_many.log_warning("too many unauthenticated connections, closing the oldest")
            one_too_many.abort()

    def is_unauthenticated(self, connection: HapConnection) -> bool:
        """Return whether a connection has not authenticated."""
        return connection in self._unauthenticated

    def add_authenticated(self, connection: HapConnection) -> None:
        """Register a connection as authenticated; this may close another connection of a controller."""
        self._unauthenticated.discard(connection)
        one_too_many = self._sessions.add(connection, connection.session.controller)
        if one_too_many is not None:
            one_too_many.log_warning(
                "too many connections of its controller, closing the one that has been idle longest"
            )
            one_too_many.abort()
            self.trim_memory_soon()

    def remove_connection(self, connection: HapConnection) -> None:
        """Remove a closed connection."""
        self._unauthenticated.discard(connection)
        self._sessions.discard(connection)

    def log_warning(self, address: str, what: str) -> None:
        """Log what an address did, at most once a minute."""
        self._limited_log.log_warning(address, what)

    def trim_memory_soon(self) -> None:
        """Return the memory of the start, or of a connection once it is closed, to the kernel."""
        self._memory_trimmer.trim_soon()


class MemoryTrimmer:
    """A timer that returns freed memory to the kernel."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # only glibc has it
        self._timer: asyncio.TimerHandle | None = None

    def trim_soon(self) -> None:
        """Return memory after a second, once for all calls within it."""
        if self._timer is None:
            self._timer = self._loop.call_later(TRIM_AFTER_SECONDS, self._trim_now)

    def close(self) -> None:
        """Cancel the pending timer."""
        if self._timer is not None:
            self._timer.cancel()

    def _trim_now(self) -> None:
        self._timer = None
        gc.collect()
        if self._trim is not None:
            self._trim(0)
