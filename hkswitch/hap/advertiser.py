"""mDNS on chosen addresses, with a goodbye as the last word: HAP-python forgets what it still announces."""

import asyncio
from collections.abc import Awaitable
from typing import Any, Final

from zeroconf import ServiceInfo
from zeroconf.asyncio import AsyncZeroconf

FORGET_SECONDS: Final = 1.5


class Advertiser(AsyncZeroconf):
    """Announces a service some times in a row, as mDNS does it, and can end that."""

    def __init__(self, addresses: list[str]) -> None:
        """The default would be every interface."""
        super().__init__(interfaces=addresses)
        self._saying: set[asyncio.Future[Any]] = set()

    async def async_register_service(self, *arguments: Any, **options: Any) -> Awaitable[Any]:  # noqa: ANN401
        """Answer for a service from now on, and begin to announce it."""
        saying = asyncio.ensure_future(await super().async_register_service(*arguments, **options))
        self._remember(saying)
        return saying

    def announce(self, info: ServiceInfo) -> None:
        """Announce what has changed, instead of what was still being announced."""
        for saying in self._saying:
            saying.cancel()
        self._remember(asyncio.ensure_future(self._announce(info)))

    async def be_silent(self) -> None:
        """End what is still being announced."""
        saying = tuple(self._saying)
        for each in saying:
            each.cancel()
        await asyncio.gather(*saying, return_exceptions=True)

    async def _announce(self, info: ServiceInfo) -> None:
        await (await self.async_update_service(info))
        # Others forget an address that is replaced only if they heard of it a second ago (RFC 6762, 10.2).
        await asyncio.sleep(FORGET_SECONDS)
        await (await self.async_update_service(info))

    def _remember(self, saying: asyncio.Future[Any]) -> None:
        self._saying.add(saying)
        saying.add_done_callback(self._saying.discard)
