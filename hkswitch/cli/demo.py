"""`hkswitch demo`: the real bridge with simulated units, to try hkswitch without changing the machine."""

import os
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import click

from hkswitch.backend import simulated_faults
from hkswitch.backend.simulated import SimulatedHost
from hkswitch.cli.entry import in_event_loop
from hkswitch.cli.layout import say
from hkswitch.cli.options import a_folder, an_address, examples
from hkswitch.cli.qr import invitation
from hkswitch.control.words import gone_from_home, locked
from hkswitch.daemon import logs
from hkswitch.daemon.bridge import CannotServe
from hkswitch.daemon.service import serve
from hkswitch.daemon.serving import ServedBridge
from hkswitch.model.config import BridgeConfig, Config
from hkswitch.model.config_file import read as read_config
from hkswitch.model.errors import Failure
from hkswitch.model.group import AlertSensor, Group, RestartWhen
from hkswitch.model.unit_state import Action
from hkswitch.network import addresses
from hkswitch.network.choice import NoDefaultRoute
from hkswitch.network.endpoint import Endpoint

DEMO_STATE_FOLDER: Final = Path("~/.local/state/hkswitch-demo")

HIGHEST_PORT: Final = 65535

NAME_ADDRESS: Final = "pass --address with an address of this machine that your phone can reach"
"""The remedy here: the demo ignores the address and port of a configuration."""

GROUPS: Final = (
    Group("vm-guests", "VM Guests", ("libvirt-guests.service",)),
    Group("fileserver", "File Server", ("smb.service", "nmb.service", "netatalk.service")),
    Group("web", "Web Server", ("httpd.service",)),
)
"""The groups of config.example.yaml; a test compares them."""

TROUBLED_GROUPS: Final = (
    Group("mail", "Mail Server", ("postfix.service",), alert=AlertSensor.CONTACT),
    Group(
        "photos",
        "Photos",
        ("photoprism.service",),
        actions=frozenset(Action),
        restart_when=RestartWhen(cpu_percent=65, for_seconds=30),
    ),
)
"""Groups of which one crashes now and then, and the other one uses too much CPU time."""

FAULTS_EVERY_SECONDS: Final = 5.0

REMOVE_FIRST: Final = "Before you stop the demo, remove its bridge from the Home app."
"""A bridge that is off does not learn that it was removed."""


@click.command(epilog=examples("hkswitch demo", "hkswitch demo --address 192.168.1.10 --port 51827"))
@click.option(
    "--config",
    "config_file",
    type=click.Path(readable=False, path_type=Path),
    metavar="FILE",
    help="Configuration with the groups to simulate [five examples]",
)
@click.option(
    "--address", metavar="IP", callback=an_address, help="Address to serve on [that of the default route]"
)
@click.option(
    "--port", type=click.IntRange(1024, HIGHEST_PORT), metavar="N", help="TCP port to serve on [51826]"
)
@click.option(
    "--state-dir",
    "state_folder",
    type=click.Path(readable=False, path_type=Path),
    callback=a_folder,
    metavar="DIR",
    help="Folder for keys and pairings [~/.local/state/hkswitch-demo]",
)
def demo(config_file: Path | None, address: str | None, port: int | None, state_folder: Path | None) -> None:
    """Try a bridge with simulated units.

    Pair it with your phone and use the switches; real units are not affected.
    """
    logs.begin({}, every_state=True)
    in_event_loop(serve_demo(config_file, address, port, state_folder))


async def serve_demo(
    config_file: Path | None, address: str | None, port: int | None, state_folder: Path | None
) -> None:
    """Serve until interrupted. Raises `Failure`."""
    folder = state_folder or _default_folder()
    terminal = _Terminal(config_file, address, port, folder)
    config = await terminal.read()
    try:
        # Nothing else would end it once its terminal is closed, and it would keep its port.
        host = SimulatedHost(config.groups, faults_every_seconds=FAULTS_EVERY_SECONDS)
        await serve(config, host, folder, terminal, hangup_ends=True)
    except CannotServe as failure:
        failure.remedy = f"stop that program, or {_another_port(config.bridge.port, address)}"
        raise


@dataclass(slots=True)
class _Terminal:
    """The terminal and the options: an environment for the daemon's service."""

    config_file: Path | None
    address: str | None
    port: int | None
    state_folder: Path
    was_paired: bool | None = None
    """Whether the bridge was paired at the start, and still is; None before the start."""
    printed: dict[str, str] = field(default_factory=dict)
    """The text printed last for each topic."""

    @property
    def restart(self) -> str:
        return "a restart of the demo"

    async def read(self) -> Config:
        """Return the groups and the name of the config, but not its address: the real bridge may use that."""
        default = Config(BridgeConfig(name="hkswitch demo"), (*GROUPS, *TROUBLED_GROUPS))
        config = default if self.config_file is None else read_config(self.config_file)
        bridge = BridgeConfig(name=config.bridge.name)
        if self.address is not None:
            bridge = replace(bridge, addresses=(self.address,))
        if self.port is not None:
            bridge = replace(bridge, port=self.port)
        return Config(bridge, config.groups, hosts=config.hosts)

    def reloading(self) -> None:
        pass  # the client that requested it prints the outcome

    def find(self, bridge: BridgeConfig, before: Endpoint | None) -> Endpoint:
        """Find the network as the daemon does, but use loopback if there is no default route."""
        try:
            place = addresses.endpoint_of(bridge, before)
        except NoDefaultRoute:
            return Endpoint((addresses.LOOPBACK,), frozenset())
        if place.lack and not bridge.addresses:  # the default route is gone: it keeps its address
            missing = NoDefaultRoute(NAME_ADDRESS)
            return replace(place, lack=f"{missing.wanted}: {missing}")
        return place

    def waiting(self, why: str) -> None:
        self._print_changes({"waiting": f"{why[:1].upper()}{why[1:]}."})

    def serving(self, config: Config, place: Endpoint, front: ServedBridge, trouble: str) -> None:
        self.was_paired = front.paired and self.was_paired is not False
        names = ", ".join(group.name for group in config.groups if group.id not in front.left_out)
        where = (
            f"Address: {place}, port {config.bridge.port}. State: {self.state_folder}. Press Ctrl-C to stop."
        )
        if self.printed.get("waiting"):
            self.printed.pop("address", None)  # to be printed again, even if it is the same
        topics = {
            "waiting": "",
            "switches": f"Serving simulated switches: {names}.",
            **_faults(config.groups),
            "address": where,
            "trouble": f"Note: {trouble}." if trouble else "",  # no capital: it may begin with a path
            "loopback": "",
            "pairing": self._pairing(front),
        }
        if place.addresses == (addresses.LOOPBACK,) and self.address is None:
            topics["loopback"] = (
                "There is no default route, so only this machine can connect.\n"
                f"To try it with a phone, {NAME_ADDRESS}."
            )
        self._print_changes(topics)

    def _pairing(self, front: ServedBridge) -> str:
        if self.was_paired:
            return f"Already paired. {gone_from_home(self.state_folder)}"
        if front.paired:
            return f"Paired. {REMOVE_FIRST}"
        if front.pairing_refused:
            return f"No controller can pair: {locked(self.state_folder)}."
        return invitation(front.setup, sys.stdout, self.state_folder)

    def _print_changes(self, topics: Mapping[str, str]) -> None:
        """Print each topic's text if it differs from the one printed last; an empty text ends the topic."""
        before = dict(self.printed)
        self.printed.update(topics)
        for topic, text in topics.items():
            if text and text != before.get(topic):
                say(text)
        if before.get("trouble") and topics.get("trouble") == "":
            say("The last note no longer applies.")


def _another_port(taken: int, address: str | None) -> str:
    """Return how to choose another port: make passes no options, and must get the address again."""
    port = taken + 1 if taken < HIGHEST_PORT else taken - 1
    if os.environ.get("MAKELEVEL"):
        return f"run `make demo PORT={port}{f' ADDRESS={address}' if address else ''}`"
    return f"pass another port, such as `--port {port}`"


def _faults(groups: Collection[Group]) -> dict[str, str]:
    """Return a line about the groups that crash, and one about those that use too much."""
    crashing, hungry = (
        ", ".join(group.name for group in found)
        for found in (simulated_faults.crashing(groups), simulated_faults.hungry(groups))
    )
    crash, calm = int(simulated_faults.CRASH_AFTER_SECONDS), int(simulated_faults.CALM_SECONDS)
    back = int(simulated_faults.RETURN_AFTER_SECONDS)
    return {
        "crashes": f"Simulated crashes: {crashing}, {crash} seconds after each start, for {back} seconds; "
        "the sensor detects it."
        if crashing
        else "",
        "load": f"Simulated load: {hungry}, {calm} seconds after each start; the rule then restarts it."
        if hungry
        else "",
    }


def _default_folder() -> Path:
    try:
        return DEMO_STATE_FOLDER.expanduser()
    except RuntimeError:
        raise Failure("cannot keep the demo's state: you have no home folder; pass --state-dir") from None
