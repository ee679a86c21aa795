"""`hkswitch demo`: the real bridge on simulated units, so that anybody can pair and switch at once."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Final

from hkswitch import addresses, configfile
from hkswitch.core.config import BridgeConfig, Config
from hkswitch.core.errors import Failure
from hkswitch.core.model import Group
from hkswitch.daemon import serve
from hkswitch.homekit.bridge import Bridge
from hkswitch.homekit.pairing import invitation
from hkswitch.hosts.simulated import SimulatedHost

STATE_FOLDER: Final = Path("~/.local/state/hkswitch-demo")

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
    config = _config(config_file, address, port)
    folder = state_folder or _default_folder()
    served = addresses_of(config.bridge)
    bridge = Bridge(config.bridge.name, config.groups, folder, served, config.bridge.port)

    def ready(now: Config) -> None:
        names = ", ".join(group.name for group in now.groups)
        _say(f"Serving simulated switches: {names}.")
        _say(f"Address: {', '.join(served)}, port {config.bridge.port}. State: {folder}. Ctrl-C ends it.")
        _say("Already paired." if bridge.paired else invitation(bridge.setup))

    def reread() -> Config:
        return _config(config_file, address, port)

    await serve(config, SimulatedHost(config.groups), bridge, ready, reread)


def _default_folder() -> Path:
    try:
        return STATE_FOLDER.expanduser()
    except RuntimeError:
        raise NoHome from None


def _config(config_file: Path | None, address: str | None, port: int | None) -> Config:
    config = (
        Config(BridgeConfig(name="hkswitch demo"), GROUPS)
        if config_file is None
        else configfile.read(config_file)
    )
    bridge = config.bridge
    if address is not None:
        bridge = replace(bridge, addresses=(address,), interfaces=())
    if port is not None:
        bridge = replace(bridge, port=port)
    return replace(config, bridge=bridge)


def addresses_of(bridge: BridgeConfig) -> tuple[str, ...]:
    """As the daemon does it, but on loopback where there is no default route."""
    try:
        return addresses.of_bridge(bridge)
    except addresses.NoDefaultRoute:
        _say("There is no default route: serving on loopback only.")
        _say("For a phone, pass --address with an address of this machine that it reaches.")
        return (addresses.LOOPBACK,)


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
