"""`hkswitch demo`: the real bridge on simulated units, so that anybody can pair and switch at once."""

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from hkswitch.backend.simulated import SimulatedHost
from hkswitch.control.words import gone_from_home, locked
from hkswitch.daemon.bridge import CannotServe
from hkswitch.daemon.service import serve
from hkswitch.daemon.serving import ServedBridge
from hkswitch.hap.setup_code import invitation
from hkswitch.model.config import BridgeConfig, Config
from hkswitch.model.config_file import read as read_config
from hkswitch.model.errors import Failure
from hkswitch.model.group import Group
from hkswitch.network import addresses
from hkswitch.network.choice import NoDefaultRoute
from hkswitch.network.endpoint import Endpoint

STATE_FOLDER: Final = Path("~/.local/state/hkswitch-demo")

NAME_ADDRESS: Final = "pass --address with an address of this machine that your phone reaches"
"""The demo doesn't read where a configuration serves."""

GROUPS: Final = (
    Group("vm-guests", "VM Guests", ("libvirt-guests.service",)),
    Group("fileserver", "File Server", ("smb.service", "nmb.service", "netatalk.service")),
    Group("web", "Web Server", ("httpd.service",)),
)
"""The groups of config.example.yaml; a test compares them."""


class NoHome(Failure):
    """Nobody knows where this user's files are."""

    def __str__(self) -> str:
        return "there is no home folder to keep the demo's state in; name one with --state-dir"


async def run(
    config_file: Path | None, address: str | None, port: int | None, state_folder: Path | None
) -> None:
    """Serve until interrupted; raises `Failure`."""
    folder = state_folder or _default_folder()
    terminal = _Terminal(config_file, address, port, folder)
    config = await terminal.read()
    try:
        await serve(config, SimulatedHost(config.groups), folder, terminal)
    except CannotServe as failure:
        failure.remedy = "stop that, or pass another --port"
        raise


@dataclass(slots=True)
class _Terminal:
    """The person who tries it, and the options."""

    config_file: Path | None
    address: str | None
    port: int | None
    state_folder: Path
    was_paired: bool | None = None
    """Whether the pairing was there at the start; None before that."""

    @property
    def restart(self) -> str:
        return "a restart of the demo"

    async def read(self) -> Config:
        """The groups and the name of the config; where that serves, another bridge may be serving."""
        default = Config(BridgeConfig(name="hkswitch demo"), GROUPS)
        config = default if self.config_file is None else read_config(self.config_file)
        bridge = BridgeConfig(name=config.bridge.name)
        if self.address is not None:
            bridge = replace(bridge, addresses=(self.address,))
        if self.port is not None:
            bridge = replace(bridge, port=self.port)
        return Config(bridge, config.groups)

    def reloading(self) -> None:
        pass  # a person who asks for it knows

    def find(self, bridge: BridgeConfig, before: Endpoint | None) -> Endpoint:
        """As the daemon does it, but on loopback where there is no default route."""
        try:
            place = addresses.place_of(bridge, before)
        except NoDefaultRoute:
            return Endpoint((addresses.LOOPBACK,), frozenset())
        if place.lack and not bridge.addresses:  # it stays where it was while there is no default route
            missing = NoDefaultRoute(NAME_ADDRESS)
            return replace(place, lack=f"{missing.wanted}: {missing}")
        return place

    def waiting(self, why: str) -> None:
        _say(f"{why[:1].upper()}{why[1:]}.")

    def serving(self, config: Config, place: Endpoint, front: ServedBridge, trouble: str) -> None:
        names = ", ".join(group.name for group in config.groups if group.id not in front.left_out)
        _say(f"Serving simulated switches: {names}.")
        _say(f"Address: {place}, port {config.bridge.port}. State: {self.state_folder}. Ctrl-C ends it.")
        if trouble:
            _say(f"Note: {trouble}.")  # not in a capital: it may begin with a path
        if place.addresses == (addresses.LOOPBACK,) and self.address is None:
            _say("There is no default route: this is loopback only.")
            _say(f"For a phone, {NAME_ADDRESS}.")
        self.was_paired = front.paired and self.was_paired is not False
        if self.was_paired:
            _say(f"Already paired. {gone_from_home(self.state_folder)}")
        elif front.paired:
            _say("Paired.")
        elif front.pairing_refused:
            _say(f"No controller can pair: {locked(self.state_folder)}.")
        else:
            _say(invitation(front.setup))


def _default_folder() -> Path:
    try:
        return STATE_FOLDER.expanduser()
    except RuntimeError:
        raise NoHome from None


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
