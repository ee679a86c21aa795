"""A phone, which pairs with a bridge once, and reconnects whenever the bridge has started."""

import asyncio
import socket
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
"""Retrying faster would disturb: the peer starts a process for each switch that is read."""
_SHOWN_CHARACTERS: Final = 2000
"""Of the journal of a bridge that did not start."""

NOT_YET: Final = (HomeKitException, OSError, TimeoutError, KeyError)


@dataclass(slots=True)
class Phone:
    """A paired controller of one bridge."""

    host: Host
    bridge: Bridge
    _paired: Controller | None = field(default=None, init=False)

    def with_bridge(self, bridge: Bridge) -> "Phone":
        """Return a phone with the same pairing for a bridge with the same keys, but another configuration."""
        phone = Phone(self.host, bridge)
        phone._paired = self._paired
        return phone

    @asynccontextmanager
    async def serving(self, switches: Sequence[Switch]) -> AsyncIterator[Controller]:
        """Run the bridge with these switches, and connect and subscribe a controller."""
        self.bridge.configure(self.host, switches)
        started = self.host.run("systemctl", "start", self.bridge.service, check=False)
        assert started.returncode == 0, self.host.journal(self.bridge.service)[-_SHOWN_CHARACTERS:]
        try:
            controller = await self._connected(switches)
            await controller.subscribe()
            yield controller
            await controller.close()
        finally:
            self.host.run("systemctl", "stop", self.bridge.service)

    async def restarted(self, controller: Controller, switches: Sequence[Switch]) -> float:
        """Restart the bridge with the same switches; return the milliseconds until it answers a read."""
        await controller.close()
        self.host.run("systemctl", "stop", self.bridge.service)
        self.host.run("systemctl", "start", "--no-block", self.bridge.service)
        answered_seconds = await self._until_read(controller, switches[-1].name)
        return (answered_seconds - timestamps.started(self.host, self.bridge.service)) * 1000

    async def _until_read(self, controller: Controller, name: str) -> float:
        """Wait until a read on a new connection returns a value; return that time."""
        async with asyncio.timeout(ANSWERED_WITHIN_SECONDS):
            await self._until_listening()
            while True:
                fresh = controller.again()
                try:
                    await fresh.connect_once()
                    if await fresh.read(name) >= 0:  # a value and not a status
                        return time.monotonic()
                except NOT_YET:
                    pass
                finally:
                    await fresh.close()
                await asyncio.sleep(TRY_AGAIN_SECONDS)

    async def _until_listening(self) -> None:
        """Wait until the port is open: attempts of the controller itself would take a processor meanwhile."""
        while True:
            with socket.socket() as attempt:
                if attempt.connect_ex((self.host.address, self.bridge.port)) == 0:
                    return
            await asyncio.sleep(TRY_AGAIN_SECONDS)

    async def _connected(self, switches: Sequence[Switch]) -> Controller:
        """Wait for a connection on which all switches are present."""
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
        """Return a new connection, or None if the bridge does not accept one yet."""
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
