"""The server: listens on the addresses of a place, and watches over the connections.

It limits what strangers and controllers take up together. It knows nothing of requests.
"""

import asyncio
import logging

from pyhap.accessory_driver import AccessoryDriver
from pyhap.hap_server import HAPServer

from hkswitch.hap import limits
from hkswitch.hap.complaints import ComplaintLog
from hkswitch.hap.connection import Connection
from hkswitch.hap.memory import FreeMemory
from hkswitch.hap.sockets import BACKLOG, listening, ways
from hkswitch.hap.turns import Turns
from hkswitch.network.endpoint import Place

_log = logging.getLogger(__name__)


class Server(HAPServer):
    """Listens on the addresses of a place, which can change, and watches over the connections."""

    def __init__(self, port: int, driver: AccessoryDriver) -> None:
        super().__init__(("", port), driver)
        self.loop = driver.loop
        self._port = port
        self._listening: dict[tuple[str, int], asyncio.Server] = {}
        self._strangers: limits.Strangers[Connection] = limits.Strangers()
        self._sessions: limits.Sessions[Connection] = limits.Sessions(lambda one: one.heard_at_seconds)
        self._complaints = ComplaintLog(_log)
        self.turns = Turns(self.loop.call_soon)
        self.free_memory = FreeMemory(self.loop)

    async def async_start(self, loop: asyncio.AbstractEventLoop) -> None:  # noqa: ARG002 -- it has ours
        """Begin to look after connections; `listen` listens, where HAP-python could not move."""
        self.async_cleanup_connections()

    async def listen(self, place: Place) -> None:
        """Listen there and nowhere else; raises `OSError`. Connections to what stays go on."""
        wanted = set(ways(place))
        for gone in self._listening.keys() - wanted:
            self._listening.pop(gone).close()
        for connection in list(self.connections.values()):
            if not connection.is_at(place):
                connection.cut()  # its address went away, and nothing that is sent will arrive
        for address, interface in wanted - self._listening.keys():
            bound = listening(address, self._port, interface)
            self._listening[address, interface] = await self.loop.create_server(
                lambda: Connection(self.loop, self, self.accessory_handler), sock=bound, backlog=1
            )
            # asyncio would try to accept as many at once, and each attempt that fails for want of a file
            # descriptor makes a timer for another: soon they would take all of the processor.
            bound.listen(BACKLOG)

    def async_stop(self) -> None:
        """Close everything, also after a start that failed, at which HAP-python raises."""
        if self._connection_cleanup is not None:
            self._connection_cleanup.cancel()
        self.free_memory.close()
        self._complaints.close()
        for connection in list(self.connections.values()):
            connection.close()
        while self._listening:
            self._listening.popitem()[1].close()
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
            self.free_memory.give_back_soon()

    def forget(self, connection: Connection) -> None:
        """It is gone."""
        self._strangers.discard(connection)
        self._sessions.discard(connection)

    def complain(self, address: str, what: str) -> None:
        """Log what an address did, once a minute at most."""
        self._complaints.complain(address, what)
