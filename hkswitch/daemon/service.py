"""Starts and stops the daemon's parts, and handles signals. Makes no decisions."""

import asyncio
import logging
import os
import signal
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from hkswitch.backend import Host
from hkswitch.backend.attempts import Attempts
from hkswitch.backend.helper_host import HelperHost
from hkswitch.backend.helper_transport import SocketTransport, SudoTransport
from hkswitch.backend.hosts import Hosts, MakeRemote
from hkswitch.backend.ssh_transport import SshTransport
from hkswitch.backend.sudo_command import sudo_command
from hkswitch.control import STATE_FOLDER, server, socket_of
from hkswitch.control.words import command, locked
from hkswitch.daemon import debug_log, logs
from hkswitch.daemon.alerts import Alerts
from hkswitch.daemon.assumed_states import AssumedStates, AssumingHost
from hkswitch.daemon.bridge import Bridge, CannotServe
from hkswitch.daemon.kept_alerts import alerts_file
from hkswitch.daemon.launch import Launched
from hkswitch.daemon.notify import Notifier
from hkswitch.daemon.rules import Rules
from hkswitch.daemon.serving import Environment, Followers, ServedBridge, Serving
from hkswitch.daemon.signals import signal_or_end, signals
from hkswitch.daemon.switchboard import Switchboard
from hkswitch.hap import state_file
from hkswitch.model.config import BridgeConfig, Config
from hkswitch.model.config_file import CONFIG_TIMEOUT_SECONDS, read_within
from hkswitch.model.elsewhere import RemoteHost
from hkswitch.model.group import Group
from hkswitch.model.printable import printable_line
from hkswitch.model.unit_state import HelperTransport
from hkswitch.network import addresses
from hkswitch.network.endpoint import Endpoint

_log = logging.getLogger(__name__)


async def run(config_file: Path, state_folder: Path, launched: Launched) -> None:
    """Run the daemon for this machine's units until SIGTERM; raises `Failure` if it cannot start."""
    service = _Service(config_file, state_folder, Notifier(os.environ))
    config, helper = launched
    is_socket = config.helper is HelperTransport.SOCKET
    transport = SocketTransport() if is_socket else SudoTransport(sudo_command(), helper)
    hosts = Hosts(HelperHost(config.groups, transport), config.groups, _remotes())
    host = AssumingHost(hosts, config.groups, AssumedStates(state_folder))
    async with service.notifier.alive():
        try:
            await serve(config, host, state_folder, service)
        except CannotServe as failure:
            failure.remedy = "stop that program, or set another bridge.port with `sudo hkswitch edit`"
            raise
    service.notifier.tell(STOPPING="1")


def _remotes() -> MakeRemote:
    attempts = Attempts()

    def make(host: RemoteHost, groups: Collection[Group]) -> HelperHost:
        return HelperHost(groups, SshTransport(host, attempts=attempts), host)

    return make


@dataclass(slots=True)
class _Service:
    """The environment of hkswitch.service: shows the state to systemd and in the journal."""

    config_file: Path
    state_folder: Path
    notifier: Notifier
    logged: str = ""
    """The last line in the log about the state."""
    shown: str = ""
    """What systemd was told last, unless it is still to be told that a reload has ended."""

    @property
    def restart(self) -> str:
        return "`sudo systemctl restart hkswitch`" if self.state_folder == STATE_FOLDER else "a restart"

    async def read(self) -> Config:
        return await read_within(self.config_file, CONFIG_TIMEOUT_SECONDS)

    def reloading(self) -> None:
        self.shown = ""
        self.notifier.tell(RELOADING="1", MONOTONIC_USEC=str(time.monotonic_ns() // 1000))

    def find(self, bridge: BridgeConfig, before: Endpoint | None) -> Endpoint:
        return addresses.endpoint_of(bridge, before)

    def waiting(self, why: str) -> None:
        # READY even now: systemd would time out a start that waits for the network.
        self._show(why[:1].upper() + why[1:])
        if why != self.logged:
            self.logged = why
            _log.warning("%s", why)

    def serving(self, config: Config, endpoint: Endpoint, bridge: ServedBridge, trouble: str) -> None:
        paired = "paired" if bridge.paired else f"not paired: run {command(self.state_folder, 'pair')}"
        if bridge.pairing_refused:
            paired = f"not paired; {locked(self.state_folder)}"
        number, left_out = len(config.groups), len(bridge.left_out)
        groups = "1 group" if number == 1 else f"{number} groups"
        if left_out:
            groups = f"{number - left_out} of {groups}"
        what = f"{groups} on {endpoint}, port {config.bridge.port}, {paired}"
        status = f"Serving {what}" + (f"; {printable_line(trouble)}" if trouble else "")
        self._show(status)
        if what != self.logged:
            self.logged = what
            _log.log(logging.WARNING if bridge.pairing_refused else logging.INFO, "serving %s", what)

    def _show(self, status: str) -> None:
        """Tell systemd what is new: a host whose news never end must not keep it busy."""
        if status != self.shown and self.notifier.tell(READY="1", STATUS=status):
            self.shown = status


async def serve(
    config: Config, host: Host, state_folder: Path, environment: Environment, *, hangup_ends: bool = False
) -> None:
    """Serve groups on `host` until SIGTERM or SIGINT.

    SIGHUP reloads the config, or ends this too if `hangup_ends`; SIGUSR1 turns the debug log on or off.

    Raises `Failure` if it cannot start, and the error of a host that breaks.
    """
    asyncio.get_running_loop().set_exception_handler(logs.of_loop())
    with state_file.locked(state_folder), signals() as received:
        bridge = Bridge(config.bridge.name, config.groups, state_folder, config.bridge.port)
        alerts = Alerts(config, host, bridge, alerts_file(state_folder))
        switchboard = Switchboard(config.groups, host, bridge, alerts.request_failed)
        rules = Rules(config.groups, switchboard, alerts)
        serving = Serving(host, bridge, Followers(switchboard, alerts, rules), environment, config)
        bridge.tell_of_changes(serving.publish)
        async with server.served(socket_of(state_folder), serving):
            living = asyncio.create_task(serving.live(addresses.changes))
            reloading: set[asyncio.Task[None]] = set()
            try:
                continuing = {signal.SIGUSR1} if hangup_ends else {signal.SIGUSR1, signal.SIGHUP}
                while (number := await signal_or_end(received, living)) in continuing:
                    if number is signal.SIGUSR1:
                        debug_log.toggle()
                        continue
                    task = asyncio.create_task(serving.reload_if_possible())
                    reloading.add(task)
                    task.add_done_callback(reloading.discard)
                _log.info("stopping")
            finally:
                for task in (living, *reloading):
                    task.cancel()
                await asyncio.gather(living, *reloading, return_exceptions=True)
                await serving.stop()
