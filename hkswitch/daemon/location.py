"""The bridge's location on the network: moves it to the endpoint that the config chooses, and retries.

Logs nothing but debug lines, and knows no HomeKit.
"""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Final, Protocol

from hkswitch.daemon.bridge import CannotServe, WriteHandler
from hkswitch.daemon.signals import first_to_end
from hkswitch.model.config import BridgeConfig
from hkswitch.model.errors import Failure
from hkswitch.network import listeners
from hkswitch.network.addresses import TablesUnreadable
from hkswitch.network.choice import NoAddress
from hkswitch.network.endpoint import Endpoint

LOCATION_RETRY_SECONDS: Final = 5.0

_log = logging.getLogger(__name__)


class Movable(Protocol):
    """A bridge that can move."""

    async def start(self, write_handler: WriteHandler, endpoint: Endpoint) -> None:
        """Go online there; raises `CannotServe`."""

    async def move(self, endpoint: Endpoint) -> None:
        """Go online there instead; after `CannotServe`, the caller must call `move` or `leave`."""

    async def leave(self) -> None:
        """Go offline until the next `move`."""


class NetworkWatch(Protocol):
    """A source of news about the network."""

    async def wait(self) -> None:
        """Return when the network has changed since the last return."""


class FindEndpoint(Protocol):
    """A function that finds the endpoint."""

    def __call__(self, bridge: BridgeConfig, before: Endpoint | None) -> Endpoint:
        """Return where to serve; raises `NoAddress` while there is no such endpoint.

        `before`: the current endpoint, if it comes from the same choice.
        """


class Location:
    """The location of a bridge: its endpoint, and what it waits for."""

    def __init__(
        self,
        bridge: Movable,
        write_handler: WriteHandler,
        find: FindEndpoint,
        notify: Callable[[], None],
        wanted: BridgeConfig,
    ) -> None:
        """`notify` is called whenever `endpoint` or `waits_for` changes."""
        self.wanted = wanted
        self.endpoint: Endpoint | None = None
        self._bridge = bridge
        self._write_handler = write_handler
        self._find = find
        self._notify = notify
        self._missing: Failure | None = None
        self._chosen: tuple[tuple[str, ...], tuple[str, ...]] | None = None
        """The choice that led to this endpoint."""
        self._started = False
        self._settling = asyncio.Lock()
        self._unsettled = asyncio.Event()

    @property
    def waits_for(self) -> str:
        """What the bridge waits for, and why; empty if it is on all chosen addresses."""
        if isinstance(self._missing, NoAddress):
            return f"waiting for {self._missing.wanted}: {self._missing}"
        if self._missing is not None:
            return f"retrying: {self._missing}"
        return f"waiting for {self.endpoint.lack}" if self.endpoint is not None and self.endpoint.lack else ""

    async def follow(self, changes: NetworkWatch) -> None:
        """Keep the bridge at the endpoint that the config chooses, through changes of the network.

        Raises `CannotServe` if another program uses the port of a bridge that never served.
        """
        while True:
            await self._settle()
            await first_to_end(changes.wait(), self._until_retry())

    async def settle(self) -> None:
        """Move the bridge to its endpoint now, as after a reload; permanent failures are left to `follow`."""
        with suppress(CannotServe):
            await self._settle()

    async def _until_retry(self) -> None:
        await self._unsettled.wait()
        await asyncio.sleep(LOCATION_RETRY_SECONDS)

    async def _settle(self) -> None:
        async with self._settling:
            before, chosen = self.endpoint, (self.wanted.interfaces, self.wanted.addresses)
            if chosen != self._chosen:
                before, self._chosen = None, chosen
            try:
                endpoint = self._find(self.wanted, before)
            except TablesUnreadable as why:
                # The kernel sends no news when file descriptors are available again.
                await self._miss(why, stays_at=before, retry=True)
            except NoAddress as why:
                await self._miss(why, stays_at=None, retry=False)
            else:
                await self._go(endpoint)

    async def _go(self, endpoint: Endpoint) -> None:
        try:
            if self._started:
                await self._bridge.move(endpoint)  # even if it is there: a move may have been cancelled
            else:
                await self._bridge.start(self._write_handler, endpoint)
                self._started = True
        except CannotServe as failure:
            _name_holder(failure)
            if failure.in_use and not self._started:
                self._missing = failure
                self._unsettled.set()
                raise
            kept = None if self.endpoint is None else self.endpoint.within(endpoint)
            await self._miss(failure, stays_at=kept, retry=True)
        else:
            self._unsettled.clear()
            self._note(endpoint, None)

    async def _miss(self, why: Failure, *, stays_at: Endpoint | None, retry: bool) -> None:
        """Stay at `stays_at` at most, a part of the current endpoint: other addresses are left at once."""
        (self._unsettled.set if retry else self._unsettled.clear)()
        self._note(stays_at, why)
        if self._started and stays_at is not None:
            with suppress(CannotServe):
                await self._bridge.move(stays_at)
                return
            self._note(None, why)
        if self._started:
            await self._bridge.leave()

    def _note(self, endpoint: Endpoint | None, missing: Failure | None) -> None:
        _log.debug("network: %s%s", endpoint or "no endpoint", f"; missing: {missing}" if missing else "")
        before = self.endpoint, self.waits_for
        self.endpoint, self._missing = endpoint, missing
        if before != (self.endpoint, self.waits_for):
            self._notify()


def _name_holder(failure: CannotServe) -> None:
    """Name the program that uses the port, if that is the problem and it can be found."""
    if failure.in_use and (holder := listeners.holder(failure.port, failure.endpoint.addresses)):
        failure.why = f"{holder} uses it"
