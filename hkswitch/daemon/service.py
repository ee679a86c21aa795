"""The daemon, from its start to its end: makes the rooms and obeys signals. Decides nothing."""

import asyncio
import logging
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hkswitch.backend import Host
from hkswitch.backend.helper_host import HelperHost
from hkswitch.backend.helper_transport import Process
from hkswitch.backend.socket import Socket
from hkswitch.backend.sudo import by_sudo
from hkswitch.control import STATE_FOLDER, server, socket_of
from hkswitch.control.words import command, locked
from hkswitch.daemon import logs
from hkswitch.daemon.bridge import Bridge, CannotServe
from hkswitch.daemon.notify import Notifier
from hkswitch.daemon.serving import Front, Outside, Serving
from hkswitch.daemon.signals import signal_or_end, signals
from hkswitch.daemon.switchboard import Switchboard
from hkswitch.hap import state_file
from hkswitch.model.config import BridgeConfig, Config
from hkswitch.model.config_file import read_within
from hkswitch.model.printable import printable_line
from hkswitch.model.unit_state import HelperTransport
from hkswitch.network import addresses
from hkswitch.network.endpoint import Endpoint

READ_WITHIN_SECONDS: Final = 5.0
"""The config: a file system that hangs must not hang the daemon."""

_log = logging.getLogger(__name__)


async def run(config_file: Path, state_folder: Path) -> None:
    """The daemon: this machine's units, until SIGTERM; raises `Failure` if it cannot start."""
    service = _Service(config_file, state_folder, Notifier(os.environ))
    config = await service.read()
    transport = Socket() if config.helper is HelperTransport.SOCKET else Process(by_sudo())
    host = HelperHost(config.groups, transport)
    async with service.notifier.alive():
        try:
            await serve(config, host, state_folder, service)
        except CannotServe as failure:
            failure.remedy = "stop that, or set bridge.port"
            raise
    service.notifier.tell(STOPPING="1")


@dataclass(slots=True)
class _Service:
    """hkswitch.service: tells systemd and the journal."""

    config_file: Path
    state_folder: Path
    notifier: Notifier
    logged: str = ""
    """The last line about what is served, or waited for."""

    @property
    def restart(self) -> str:
        return "`systemctl restart hkswitch`" if self.state_folder == STATE_FOLDER else "a restart"

    async def read(self) -> Config:
        return await read_within(self.config_file, READ_WITHIN_SECONDS)

    def reloading(self) -> None:
        self.notifier.tell(RELOADING="1", MONOTONIC_USEC=str(time.monotonic_ns() // 1000))

    def find(self, bridge: BridgeConfig, before: Endpoint | None) -> Endpoint:
        return addresses.endpoint_of(bridge, before)

    def waiting(self, why: str) -> None:
        # READY, because systemd would end a start that waits for a network.
        self.notifier.tell(READY="1", STATUS=why[:1].upper() + why[1:])
        if why != self.logged:
            self.logged = why
            _log.warning("%s", why)

    def serving(self, config: Config, place: Endpoint, front: Front, trouble: str) -> None:
        paired = "paired" if front.paired else f"not paired: see {command(self.state_folder, 'pair')}"
        if front.pairing_refused:
            paired = f"not paired; {locked(self.state_folder)}"
        number, left_out = len(config.groups), len(front.left_out)
        groups = "1 group" if number == 1 else f"{number} groups"
        if left_out:
            groups = f"{number - left_out} of {groups}"
        what = f"{groups} on {place}, port {config.bridge.port}, {paired}"
        status = f"Serving {what}" + (f"; {printable_line(trouble)}" if trouble else "")
        self.notifier.tell(READY="1", STATUS=status)
        if what != self.logged:
            self.logged = what
            _log.log(logging.WARNING if front.pairing_refused else logging.INFO, "serving %s", what)


async def serve(config: Config, host: Host, state_folder: Path, outside: Outside) -> None:
    """Serve groups on `host` until SIGTERM or SIGINT; SIGHUP reads the config anew.

    Raises `Failure` if it cannot start, and whatever breaks the host.
    """
    asyncio.get_running_loop().set_exception_handler(logs.of_loop())
    with state_file.locked(state_folder), signals() as received:
        bridge = Bridge(config.bridge.name, config.groups, state_folder, config.bridge.port)
        serving = Serving(host, bridge, Switchboard(config.groups, host, bridge), outside, config)
        bridge.tell_of_changes(serving.say)
        async with server.served(socket_of(state_folder), serving):
            living = asyncio.create_task(serving.live(addresses.changes))
            reloading: set[asyncio.Task[None]] = set()
            try:
                while await signal_or_end(received, living) is signal.SIGHUP:
                    task = asyncio.create_task(serving.reload_if_possible())
                    reloading.add(task)
                    task.add_done_callback(reloading.discard)
                _log.info("stopping")
            finally:
                for task in (living, *reloading):
                    task.cancel()
                await asyncio.gather(living, *reloading, return_exceptions=True)
                await serving.stop()
