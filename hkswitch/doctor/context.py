"""What several points need to know, read once. A part that is not to be had is a `Failure`."""

import os
import pwd
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hkswitch.control import client, socket_of
from hkswitch.doctor.programs import CannotRun, run
from hkswitch.model.config import Config
from hkswitch.model.config_file import READ_WITHIN_SECONDS, read_within
from hkswitch.model.errors import Failure
from hkswitch.model.installation import DAEMON_UNIT, DAEMON_USER
from hkswitch.model.unit_state import HelperTransport
from hkswitch.network import addresses
from hkswitch.network.choice import NoAddress
from hkswitch.network.endpoint import Endpoint
from hkswitch.protocol.control import Ask, Question, Status
from hkswitch.protocol.report import BridgeReport

USER: Final = DAEMON_USER
UNIT: Final = DAEMON_UNIT

PROPERTIES: Final = (
    *("LoadState", "ActiveState", "SubState", "Result", "MainPID", "UnitFileState", "NeedDaemonReload"),
    *("FragmentPath", "DropInPaths", "MemoryMax", "MemoryCurrent", "TasksMax", "TasksCurrent", "LimitNOFILE"),
)

ROOT: Final = 0


@dataclass(frozen=True, slots=True)
class Account:
    """A user, to look at things with its rights."""

    name: str
    user_id: int
    group_id: int


@dataclass(frozen=True, slots=True)
class Situation:
    """Who asks, and what there is."""

    config_file: Path
    state_folder: Path
    asker: int
    account: Account | None
    config: Config | Failure
    place: Endpoint | Failure
    unit: Mapping[str, str] | Failure
    bridge: BridgeReport | Failure

    @property
    def may_look_as_daemon(self) -> bool:
        """Whether it can be told what the daemon's user can see and do."""
        return self.account is not None and self.asker in {ROOT, self.account.user_id}

    @property
    def is_asked_by_daemon(self) -> bool:
        """Whether the daemon's user asks, whom the bus denies everything."""
        return self.account is not None and self.asker == self.account.user_id

    @property
    def crossing(self) -> HelperTransport:
        """How the daemon gets at its helper; the usual way while no config says it."""
        return HelperTransport.SUDO if isinstance(self.config, Failure) else self.config.helper

    @property
    def main_process(self) -> int:
        """The daemon's process as systemd knows it; 0 if it does not run."""
        return 0 if isinstance(self.unit, Failure) else int(self.unit.get("MainPID", "0"))


async def collect(config_file: Path, state_folder: Path) -> Situation:
    """Look around. `config_file` is an absolute path."""
    config = await _config(config_file)
    return Situation(
        config_file=config_file,
        state_folder=state_folder,
        asker=os.geteuid(),
        account=_account(),
        config=config,
        place=config if isinstance(config, Failure) else _place(config),
        unit=await _unit(),
        bridge=_bridge(state_folder),
    )


def properties(text: str) -> dict[str, str]:
    """What `systemctl show` and `timedatectl show` print. Pure."""
    pairs = (line.partition("=") for line in text.split("\n"))
    return {name: value for name, equals, value in pairs if equals}


async def _config(file: Path) -> Config | Failure:
    try:
        return await read_within(file, READ_WITHIN_SECONDS)
    except Failure as failure:
        return failure


def _account() -> Account | None:
    try:
        found = pwd.getpwnam(USER)
    except KeyError:
        return None
    return Account(USER, found.pw_uid, found.pw_gid)


def _place(config: Config) -> Endpoint | Failure:
    try:
        return addresses.place_of(config.bridge)
    except NoAddress as failure:
        return failure


async def _unit() -> Mapping[str, str] | Failure:
    try:
        shown = await run("systemctl", "show", f"--property={','.join(PROPERTIES)}", UNIT)
    except CannotRun as failure:
        return failure
    return properties(shown.output) if shown.code == 0 else CannotRun("systemctl", shown.complaint)


def _bridge(state_folder: Path) -> BridgeReport | Failure:
    path = socket_of(state_folder)
    try:
        said = client.ask(path, Question(Ask.STATUS))
    except Failure as failure:
        return failure
    assert isinstance(said, Status)  # noqa: S101 -- client.ask has looked
    return said.report.bridge or client.NoDaemon(path)
