"""The sockets that a bridge listens on at a place, which can change. Knows nothing of who connects."""

import asyncio
from collections.abc import Callable

from hkswitch.hap.sockets import BACKLOG, listening, ways
from hkswitch.network.endpoint import Endpoint


class CannotBind(OSError):
    """There can be no sockets at `addresses`, which are a part of a place."""

    def __init__(self, error: OSError, addresses: tuple[str, ...]) -> None:
        super().__init__(error.errno, error.strerror or str(error))
        self.addresses = addresses


class Listening:
    """Sockets that listen on one port, one for each address and interface."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, port: int, connect: Callable[[], asyncio.Protocol]
    ) -> None:
        """`connect` makes what takes a connection."""
        self._loop = loop
        self._port = port
        self._connect = connect
        self._servers: dict[tuple[str, int], asyncio.Server] = {}
        self._open: set[tuple[str, int]] = set()
        """Where connections are taken: those that were accepted just before are not there yet."""

    async def move(self, place: Endpoint) -> None:
        """Listen there and nowhere else; if it raises `CannotBind`, all listen that did."""
        wanted = set(ways(place))
        opened: dict[tuple[str, int], asyncio.Server] = {}
        refused: dict[str, OSError] = {}
        self._open |= wanted
        try:
            for way in (way for way in ways(place) if way not in self._servers):
                try:
                    opened[way] = await self._opened(*way)
                except OSError as error:
                    refused.setdefault(way[0], error)
            if refused:
                first = next(iter(refused.values()))
                same = tuple(address for address, error in refused.items() if error.errno == first.errno)
                raise CannotBind(first, same) from first
        except BaseException:
            for server in opened.values():
                server.close()
            self._open = {*self._servers}
            raise
        self._open = wanted
        for gone in self._servers.keys() - wanted:
            self._servers.pop(gone).close()
        self._servers |= opened

    def close(self) -> None:
        """Listen nowhere."""
        self._open = set()
        while self._servers:
            self._servers.popitem()[1].close()

    async def _opened(self, address: str, interface: int) -> asyncio.Server:
        def made() -> asyncio.Protocol:
            if (address, interface) not in self._open:
                raise ConnectionAbortedError  # asyncio closes it then
            return self._connect()

        bound = listening(address, self._port, interface)
        try:
            server = await self._loop.create_server(made, sock=bound, backlog=1)
        except BaseException:
            bound.close()
            raise
        # asyncio would try to accept as many at once, and each attempt that fails for want of a file
        # descriptor makes a timer for another: soon they would take all of the processor.
        bound.listen(BACKLOG)
        return server
