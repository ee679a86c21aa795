"""The facts that several checks need, collected once. A fact that is not available is a `Failure`."""

import os
import pwd
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hkswitch.control import client, socket_of
from hkswitch.doctor.programs import CannotRun, run
from hkswitch.model.config import Config
from hkswitch.model.config_file import CONFIG_TIMEOUT_SECONDS, read_within
from hkswitch.model.errors import Failure
from hkswitch.model.installation import DAEMON_UNIT, DAEMON_USER
from hkswitch.model.unit_state import HelperTransport
from hkswitch.network import addresses
from hkswitch.network.choice import NoAddress
from hkswitch.network.endpoint import Endpoint
from hkswitch.protocol.host_report import HostReport
from hkswitch.protocol.report import BridgeReport

SHOWN_PROPERTIES: Final = (
    *("LoadState", "ActiveState", "SubState", "Result", "MainPID", "UnitFileState", "NeedDaemonReload"),
    *("FragmentPath", "DropInPaths", "MemoryMax", "MemoryCurrent", "TasksMax", "TasksCurrent", "LimitNOFILE"),
)

ROOT: Final = 0


@dataclass(frozen=True, slots=True)
class Account:
    """A user of this machine."""

    name: str
    user_id: int
    group_id: int


@dataclass(frozen=True, slots=True)
class Context:
    """The facts about the installation, and the user who runs the doctor (`user_id`).

    `account` is the daemon's user, None if there is none.
    """

    config_file: Path
    state_folder: Path
    user_id: int
    account: Account | None
    config: Config | Failure
    endpoint: Endpoint | Failure
    unit: Mapping[str, str] | Failure
    bridge: BridgeReport | Failure
    hosts: tuple[HostReport, ...] = ()
    """The daemon's reports on other hosts, if it can be asked."""

    @property
    def is_root(self) -> bool:
        """Whether root runs the doctor."""
        return self.user_id == ROOT

    @property
    def is_daemon_user(self) -> bool:
        """Whether the daemon's user runs the doctor; the bus denies that user every call."""
        return self.account is not None and self.user_id == self.account.user_id

    @property
    def has_daemon_rights(self) -> bool:
        """Whether the doctor can find out what the daemon's user can read and do."""
        return self.account is not None and (self.is_root or self.is_daemon_user)

    @property
    def transport(self) -> HelperTransport:
        """How the daemon reaches its helper; the default while there is no valid configuration."""
        return HelperTransport.SUDO if isinstance(self.config, Failure) else self.config.helper

    @property
    def main_pid(self) -> int:
        """The daemon's process, according to systemd; 0 if it is not running."""
        return 0 if isinstance(self.unit, Failure) else int(self.unit.get("MainPID", "0"))


async def collect(config_file: Path, state_folder: Path) -> Context:
    """Collect the facts. `config_file` is an absolute path."""
    config = await _config(config_file)
    bridge, hosts = _reported(state_folder)
    return Context(
        config_file=config_file,
        state_folder=state_folder,
        user_id=os.geteuid(),
        account=_account(),
        config=config,
        endpoint=config if isinstance(config, Failure) else _endpoint(config),
        unit=await _unit(),
        bridge=bridge,
        hosts=hosts,
    )


def parse_properties(text: str) -> dict[str, str]:
    """Parse the output of `systemctl show`. Pure."""
    pairs = (line.partition("=") for line in text.split("\n"))
    return {name: value for name, equals, value in pairs if equals}


async def _config(file: Path) -> Config | Failure:
    try:
        return await read_within(file, CONFIG_TIMEOUT_SECONDS)
    except Failure as failure:
        return failure


def _account() -> Account | None:
    try:
        found = pwd.getpwnam(DAEMON_USER)
    except KeyError:
        return None
    return Account(DAEMON_USER, found.pw_uid, found.pw_gid)


def _endpoint(config: Config) -> Endpoint | Failure:
    try:
        return addresses.endpoint_of(config.bridge)
    except NoAddress as failure:
        return failure


async def _unit() -> Mapping[str, str] | Failure:
    try:
        shown = await run("systemctl", "show", f"--property={','.join(SHOWN_PROPERTIES)}", DAEMON_UNIT)
    except CannotRun as failure:
        return failure
    if shown.code != 0:
        return Failure(f"systemctl failed: {shown.last_line}")
    return parse_properties(shown.output)


def _reported(state_folder: Path) -> tuple[BridgeReport | Failure, tuple[HostReport, ...]]:
    path = socket_of(state_folder)
    try:
        report = client.ask_report(path)
    except Failure as failure:
        return failure, ()
    return report.bridge or client.NoDaemon(path), report.hosts
