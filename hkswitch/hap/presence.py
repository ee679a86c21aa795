"""The bridge on mDNS: opens sockets on an endpoint, and announces the service there.

The advertiser decides on names and timing.
"""

import asyncio
import errno
from collections.abc import Callable
from typing import Any

from zeroconf import ServiceInfo

from hkswitch.hap.advertiser import Advertiser
from hkswitch.hap.sockets import hear_only
from hkswitch.hap.twin import TwinWatch
from hkswitch.network.endpoint import Endpoint
from hkswitch.network.mdns_port import MdnsPortTaken, is_taken


class Presence:
    """The bridge on mDNS: on one endpoint, or offline."""

    def __init__(self, twins: TwinWatch | None = None) -> None:
        """`twins` looks for a second bridge with the same identity."""
        self._twins = twins
        self.advertiser: Any = None
        self._info: ServiceInfo | None = None
        self._interfaces: frozenset[int] = frozenset()
        self._is_over = False
        self._moving = asyncio.Lock()
        """A stop during a move waits until the move ends: otherwise the goodbye would be lost."""

    async def move(self, endpoint: Endpoint, service: Callable[[], ServiceInfo]) -> None:
        """Announce a service on this endpoint instead.

        After an `OSError` or a zeroconf error, the bridge is offline; `MdnsPortTaken` is one of them.
        """
        async with self._moving:
            if self._is_over:
                return
            before, self._info = self._info, None  # blocks announcements during the move
            try:
                await self._open_shared(endpoint, before)
                info = service()
                await self.advertiser.async_register_service(info, cooperating_responders=True)
            except asyncio.CancelledError:  # the daemon is stopping
                await self._say_goodbye(before)
                raise
            except BaseException:
                await self._close()
                raise
            self._info = info

    async def leave(self, *, for_good: bool = False) -> None:
        """Say goodbye and go offline; `for_good` also ignores later moves."""
        self._is_over = self._is_over or for_good
        async with self._moving:
            before, self._info = self._info, None  # so that nothing is announced after the goodbye
            await self._say_goodbye(before)

    def announce(self, info: ServiceInfo) -> None:
        """Announce a change, unless it is offline."""
        if self._info is not None:
            self._info = info
            self.advertiser.announce(info)

    async def _say_goodbye(self, before: ServiceInfo | None) -> None:
        try:
            if before is not None and self.advertiser is not None:
                await self.advertiser.say_goodbye(before)
        finally:
            await self._close()

    async def _open_shared(self, endpoint: Endpoint, before: ServiceInfo | None) -> None:
        """Open the sockets; raises `MdnsPortTaken` if another program does not share the port."""
        if is_taken(endpoint.addresses):  # zeroconf would log an error, too
            raise MdnsPortTaken
        try:
            await self._open(endpoint, before)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise MdnsPortTaken from error
            raise

    async def _open(self, endpoint: Endpoint, before: ServiceInfo | None) -> None:
        """Open the sockets, before there is a service to answer for."""
        announced = None
        # A recreated interface has no multicast memberships, so its sockets cannot be kept.
        if before is not None and self._interfaces - endpoint.interfaces:
            await self.advertiser.say_goodbye(before, endpoint.addresses)
            announced = self.advertiser.announced
            await self._close()
        if self.advertiser is None:
            self.advertiser = Advertiser([*endpoint.addresses], announced, self._twins)
        else:
            await self.advertiser.stop_announcing()
            self.advertiser.zeroconf.registry.async_remove(before)
            await self.advertiser.async_update_interfaces([*endpoint.addresses])
        await self.advertiser.zeroconf.async_wait_for_start()
        self._interfaces = endpoint.interfaces
        for reader in self.advertiser.zeroconf.engine.readers:
            hear_only(reader.sock, endpoint)

    async def _close(self) -> None:
        closing, self.advertiser = self.advertiser, None
        self._interfaces = frozenset()
        if closing is not None:
            await closing.stop_announcing()
            await closing.async_close()  # zeroconf cannot be restarted
