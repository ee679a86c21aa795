"""Wires the rooms into a bridge that serves until it is told to stop. Knows all rooms, decides nothing."""

import asyncio
import logging
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

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
    switchboard = Switchboard(config.groups, host, bridge)
    with signals() as received:
        try:
            await host.open(switchboard)
            await bridge.start(switchboard)
            ready(config)
            while await _next(received, host) is signal.SIGHUP:
                config = await _reload(config, reread, switchboard, host, bridge)
                ready(config)
            _log.info("stopping")
            await bridge.stop()
        finally:
            await switchboard.close()
            await host.close()


async def _reload(
    before: Config, reread: ReadConfig, switchboard: Switchboard, host: Host, bridge: Bridge
) -> Config:
    """Take over the groups of the config as it is now; one with mistakes changes nothing."""
    try:
        config = reread()
    except Failure as failure:
        _log.error("not reloaded: %s", failure)
        return before
    if config.bridge != before.bridge:
        _log.warning("the changes under `bridge` count after a restart")
    bridge.regroup(config.groups, switchboard)
    switchboard.regroup(config.groups)
    await host.watch(config.groups)
    _log.info("reloaded")
    return config


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


async def _next(received: "asyncio.Queue[signal.Signals]", host: Host) -> signal.Signals:
    """The next signal; raises what broke the host meanwhile."""
    tasks: list[asyncio.Future[signal.Signals]] = [
        asyncio.ensure_future(received.get()),
        asyncio.ensure_future(host.until_broken()),
    ]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return done.pop().result()
    finally:
        for task in tasks:
            task.cancel()
