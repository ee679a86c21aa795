"""Wires the rooms into a bridge that serves until it is told to stop. Knows all rooms, decides nothing."""

import asyncio
import logging
import os
import signal
from collections.abc import Callable
from pathlib import Path

from hkswitch import addresses, configfile
from hkswitch.core.config import Config
from hkswitch.homekit.bridge import Bridge
from hkswitch.hosts import Host
from hkswitch.hosts.helper import Helper, by_sudo
from hkswitch.hosts.local import LocalHost
from hkswitch.notify import Notifier
from hkswitch.switchboard import Switchboard

_log = logging.getLogger(__name__)


async def run(config_file: Path, state_folder: Path) -> None:
    """The daemon: this machine's units, until SIGTERM; raises `Failure` if it cannot start."""
    config = configfile.read(config_file)
    units = [unit for group in config.groups for unit in group.units]
    bridge = Bridge(
        config.bridge.name,
        config.groups,
        state_folder,
        addresses.of_bridge(config.bridge),
        config.bridge.port,
    )
    notifier = Notifier(os.environ)

    def ready() -> None:
        status = (
            f"{len(config.groups)} groups, {'paired' if bridge.paired else 'not paired: see `hkswitch pair`'}"
        )
        notifier.tell(READY="1", STATUS=f"Serving {status}")
        _log.info("serving %s", status)

    await serve(config, LocalHost(units, Helper(by_sudo())), bridge, ready)
    notifier.tell(STOPPING="1")


async def serve(config: Config, host: Host, bridge: Bridge, ready: Callable[[], None]) -> None:
    """Serve the config's groups on `host` through `bridge` until SIGTERM or SIGINT; raises `Failure`."""
    stopping = _stop_signal()
    switchboard = Switchboard(config.groups, host, bridge)
    try:
        await host.open(switchboard)
        await bridge.start(switchboard)
        ready()
        await stopping.wait()
        _log.info("stopping")
        await bridge.stop()
    finally:
        await switchboard.close()
        await host.close()


def _stop_signal() -> asyncio.Event:
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    return stopping
