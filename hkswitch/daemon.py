"""Wires the rooms into a bridge that serves until it is told to stop. Knows all rooms, decides nothing."""

import asyncio
import logging
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hkswitch import addresses, configfile
from hkswitch.core.config import Config
from hkswitch.core.errors import Failure
from hkswitch.homekit.bridge import Bridge
from hkswitch.hosts import Host
from hkswitch.hosts.helper import Helper, by_sudo
from hkswitch.hosts.local import LocalHost
from hkswitch.notify import Notifier
from hkswitch.switchboard import Switchboard

Ready = Callable[[Config], None]
ReadConfig = Callable[[], Config]

_log = logging.getLogger(__name__)


async def run(config_file: Path, state_folder: Path) -> None:
    """The daemon: this machine's units, until SIGTERM; raises `Failure` if it cannot start."""
    config = configfile.read(config_file)
    served = addresses.of_bridge(config.bridge)
    bridge = Bridge(config.bridge.name, config.groups, state_folder, served, config.bridge.port)
    notifier = Notifier(os.environ)

    def ready(now: Config) -> None:
        paired = "paired" if bridge.paired else "not paired: see `hkswitch pair`"
        notifier.tell(READY="1", STATUS=f"Serving {len(now.groups)} groups, {paired}")
        _log.info("serving %d groups, %s", len(now.groups), paired)

    def reread() -> Config:
        notifier.tell(RELOADING="1", MONOTONIC_USEC=str(time.monotonic_ns() // 1000))
        return configfile.read(config_file)

    host = LocalHost(config.groups, Helper(by_sudo()))
    await serve(config, host, bridge, ready, reread)
    notifier.tell(STOPPING="1")


async def serve(config: Config, host: Host, bridge: Bridge, ready: Ready, reread: ReadConfig) -> None:
    """Serve groups on `host` through `bridge` until SIGTERM or SIGINT; SIGHUP reads the config anew.

    Raises `Failure` if it cannot start, and whatever breaks the host.
    """
    serving = _Serving(host, bridge, Switchboard(config.groups, host, bridge), ready, reread)
    starting = asyncio.create_task(serving.start())
    with signals() as received:
        try:
            while (stop := await _signal_or_end(received, starting)) is signal.SIGHUP:
                pass  # the config was read just now
            if stop is None:
                await serving.go_on(config, received)
            _log.info("stopping")
        finally:
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
            await serving.stop()


@dataclass(frozen=True, slots=True)
class _Serving:
    """The rooms that work together, and what to tell and ask the outside."""

    host: Host
    bridge: Bridge
    switchboard: Switchboard
    ready: Ready
    reread: ReadConfig

    async def start(self) -> None:
        await self.host.open(self.switchboard)
        await self.bridge.start(self.switchboard)

    async def go_on(self, config: Config, received: "asyncio.Queue[signal.Signals]") -> None:
        """Obey signals until one says stop; raises what breaks the host."""
        self.ready(config)
        breaking = asyncio.ensure_future(self.host.until_broken())
        try:
            while await _signal_or_end(received, breaking) is signal.SIGHUP:
                config = await self.reload(config)
                self.ready(config)
        finally:
            breaking.cancel()

    async def reload(self, before: Config) -> Config:
        """Take over the groups of the config as it is now; one with mistakes changes nothing."""
        try:
            config = self.reread()
        except Failure as failure:
            _log.error("not reloaded: %s", failure)
            return before
        if config.bridge != before.bridge:
            _log.warning("the changes under `bridge` count after a restart")
        self.bridge.regroup(config.groups, self.switchboard)
        self.switchboard.regroup(config.groups)
        await self.host.watch(config.groups)
        _log.info("reloaded")
        return config

    async def stop(self) -> None:
        await self.bridge.stop()
        await self.switchboard.close()
        await self.host.close()


@contextmanager
def signals() -> Iterator["asyncio.Queue[signal.Signals]"]:
    """The signals that the daemon obeys, in the order in which they come."""
    received: asyncio.Queue[signal.Signals] = asyncio.Queue()
    obeyed = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    loop = asyncio.get_running_loop()
    for number in obeyed:
        loop.add_signal_handler(number, received.put_nowait, number)
    try:
        yield received
    finally:
        for number in obeyed:
            loop.remove_signal_handler(number)


async def _signal_or_end(
    received: "asyncio.Queue[signal.Signals]", task: asyncio.Future[Any]
) -> signal.Signals | None:
    """The next signal, or None if the task ended before; raises what it raised."""
    waiting = asyncio.ensure_future(received.get())
    try:
        await asyncio.wait([waiting, task], return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            return waiting.result()
        task.result()
        return None
    finally:
        waiting.cancel()
