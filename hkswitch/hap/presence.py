"""Where the bridge is on mDNS: the sockets at a place, and the service that is announced there.

Decides nothing about names and times, which are the advertiser's.
"""

from collections.abc import Callable
from typing import Any

from zeroconf import ServiceInfo

from hkswitch.hap.advertiser import Advertiser
from hkswitch.hap.sockets import hear_only
from hkswitch.network.endpoint import Place


class Presence:
    """The bridge on mDNS: at one place, or nowhere."""

    def __init__(self) -> None:
        self.advertiser: Any = None
        self._info: ServiceInfo | None = None
        self._interfaces: frozenset[int] = frozenset()

    async def move(self, place: Place, service: Callable[[], ServiceInfo]) -> None:
        """Announce a service there instead; it is nowhere if it raises `OSError` or zeroconf's errors."""
        # The kernel knows no multicast groups of an interface that was made anew, so no socket is kept.
        if self._interfaces - place.interfaces:
            await self.leave(staying=place)
        before, self._info = self._info, None  # nothing is announced meanwhile
        try:
            await self._open(place, before)
            info = service()
            await self.advertiser.async_register_service(info, cooperating_responders=True)
        except BaseException:
            await self._close()
            raise
        self._info = info

    async def leave(self, *, staying: Place | None = None) -> None:
        """Say goodbye, but not at addresses that stay, and be nowhere."""
        before, self._info = self._info, None  # so that a goodbye is the last word
        try:
            if before is not None:
                await self.advertiser.say_goodbye(before, () if staying is None else staying.addresses)
        finally:
            await self._close()

    def announce(self, info: ServiceInfo) -> None:
        """Announce what has changed; nothing happens while it is nowhere."""
        if self._info is not None:
            self._info = info
            self.advertiser.announce(info)

    async def _open(self, place: Place, before: ServiceInfo | None) -> None:
        """Have the sockets there, before there is a service to answer for."""
        if before is None:
            self.advertiser = Advertiser([*place.addresses])
        else:
            await self.advertiser.be_silent()
            self.advertiser.zeroconf.registry.async_remove(before)
            await self.advertiser.async_update_interfaces([*place.addresses])
        await self.advertiser.zeroconf.async_wait_for_start()
        self._interfaces = place.interfaces
        for reader in self.advertiser.zeroconf.engine.readers:
            hear_only(reader.sock, place)

    async def _close(self) -> None:
        closing, self.advertiser = self.advertiser, None
        self._interfaces = frozenset()
        if closing is not None:
            await closing.be_silent()
            await closing.async_close()  # it cannot be started again
