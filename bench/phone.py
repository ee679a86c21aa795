"""A phone: pairs with a bridge once, and connects anew whenever the bridge was started."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from aiohomekit.exceptions import HomeKitException

from bench import timestamps
from bench.bridges import Bridge
from bench.switches import Switch
from tests.host.machine import Host
from tests.support.controller import Controller

ANSWERED_WITHIN_SECONDS: Final = 30
TRY_AGAIN_SECONDS: Final = 0.002
LOOK_AGAIN_SECONDS: Final = 0.2
"""Not sooner: the peer starts a process for each switch that is looked at."""
NOT_YET: Final = (HomeKitException, OSError, TimeoutError, KeyError)


@dataclass(slots=True)
class Phone:
    """What is known of one bridge's pairing."""

    host: Host
    bridge: Bridge
    _paired: Controller | None = field(default=None, init=False)

    def with_bridge(self, bridge: Bridge) -> "Phone":
        """The same pairing with a bridge that has the same keys, and another configuration."""
        phone = Phone(self.host, bridge)
        phone._paired = self._paired
        return phone

    @asynccontextmanager
    async def serving(self, switches: Sequence[Switch]) -> AsyncIterator[Controller]:
        """Meanwhile the bridge runs with these switches, and a controller is connected and subscribed."""
        self.bridge.configure(self.host, switches)
        self.host.run("systemctl", "start", self.bridge.service)
        try:
            controller = await self._connected(switches)
            await controller.subscribe()
            yield controller
            await controller.close()
        finally:
            self.host.run("systemctl", "stop", self.bridge.service)

    async def restarted(self, controller: Controller, switches: Sequence[Switch]) -> float:
        """Start it again with the switches that it has; the milliseconds until it answers a read."""
        await controller.close()
        self.host.run("systemctl", "stop", self.bridge.service)
        self.host.run("systemctl", "start", "--no-block", self.bridge.service)
        answered_seconds = await self._until_read(controller, switches[-1].name)
        return (answered_seconds - timestamps.started(self.host, self.bridge.service)) * 1000

    async def _until_read(self, controller: Controller, name: str) -> float:
        """When a read of On was answered with a value, on a new connection."""
        async with asyncio.timeout(ANSWERED_WITHIN_SECONDS):
            while True:
                fresh = controller.again()
                try:
                    await fresh.connect_once()
                    if await fresh.read(name) >= 0:  # it is a value, and no status
                        return time.monotonic()
                except NOT_YET:
                    pass
                finally:
                    await fresh.close()
                await asyncio.sleep(TRY_AGAIN_SECONDS)

    async def _connected(self, switches: Sequence[Switch]) -> Controller:
        """A connection on which every switch is seen."""
        names = {switch.name for switch in switches}
        async with asyncio.timeout(ANSWERED_WITHIN_SECONDS):
            while True:
                controller = await self._fresh()
                if controller is not None:
                    await controller.look()
                    if names <= controller.switches.keys():
                        return controller
                    await controller.close()
                await asyncio.sleep(LOOK_AGAIN_SECONDS)

    async def _fresh(self) -> Controller | None:
        """A new connection, None if there is nothing to connect to yet."""
        try:
            if self._paired is None:
                code = self.bridge.setup_code(self.host)
                self._paired = await Controller.pair(self.host.address, self.bridge.port, code)
                return self._paired
            fresh = self._paired.again()
            await fresh.connect_once()
        except NOT_YET:
            return None
        return fresh
