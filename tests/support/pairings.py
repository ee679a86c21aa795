"""Pairings for tests: contents of a state file, and a bridge that records its calls."""

import asyncio
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from hkswitch.hap.setup_code import Setup
from hkswitch.hap.state_file import ADMIN_BIT, Stored
from hkswitch.model.errors import Exit, Failure
from hkswitch.model.unit_state import Action, ActionResult
from hkswitch.protocol.alert_report import AlertReport
from hkswitch.protocol.control import SetupInfo
from hkswitch.protocol.report import PairedController, Report

SETUP = Setup("314-15-926", "7OSX")
DEVICE_ID = "AA:BB:CC:DD:EE:FF"
ADMIN = "8DE3A2C0-5D7B-4E7C-9F52-3F1B7A2D9E10"
OTHER_ADMIN = "8DE30000-5D7B-4E7C-9F52-3F1B7A2D9E10"
USER = "1F00A2C0-5D7B-4E7C-9F52-3F1B7A2D9E10"


@contextmanager
def folder_for_all_users() -> Iterator[Path]:
    """Provide a folder that other users can reach; pytest's are for its own user."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


def stored(*admins: str, users: tuple[str, ...] = (), failed_attempts: int = 0) -> Stored:
    """Return the state of a bridge with these controllers."""
    rights = {**dict.fromkeys(admins, ADMIN_BIT), **dict.fromkeys(users, 0)}
    accessory = {
        "mac": DEVICE_ID,
        "config_version": 3,
        "private_key": "11" * 32,
        "public_key": "22" * 32,
        "accessories_hash": "",
        "paired_clients": {uuid.lower(): "33" * 32 for uuid in rights},
        "client_properties": {uuid.lower(): {"permissions": bits} for uuid, bits in rights.items()},
        "client_uuid_to_bytes": {uuid.lower(): uuid.encode().hex() for uuid in rights},
    }
    iids = {1: {"3E": 1, "3E.14": 2}, 5: {"3E": 1, "49": 16, "49.25": 17}}
    return Stored(SETUP, accessory, failed_attempts, iids=iids)


class Broken(Failure):
    """A failure that a test makes pairings raise."""

    def __init__(self) -> None:
        super().__init__("cannot write /ä\n: No space left on device", Exit.CANNOT_WRITE)


@dataclass
class NotedPairings:
    """A daemon's pairings and switches that record calls; changes raise `error`."""

    paired: tuple[PairedController, ...] = ()
    failed_attempts: int = 0
    error: Exception | None = None
    done: list[str | None] = field(default_factory=list)
    shown: Report = field(default_factory=lambda: Report(None, ()))
    alerts: tuple[AlertReport, ...] = ()
    changed: asyncio.Event | None = None
    """The event of the current watcher."""
    acted: list[tuple[Action, str, str]] = field(default_factory=list)
    failure: str | None = None
    note: str = ""
    """The note that an action or a reload returns."""
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    """Actions end when this is set."""

    def setup_info(self) -> SetupInfo:
        return SetupInfo(
            SETUP.code,
            SETUP.payload,
            DEVICE_ID,
            bool(self.paired),
            self.failed_attempts,
            self.failed_attempts >= 100,
        )

    def controllers(self) -> tuple[PairedController, ...]:
        return self.paired

    def unpair(self, controller_id: str | None) -> None:
        self._do(controller_id)
        self.paired = tuple(c for c in self.paired if controller_id not in {None, c.id})

    def reset_attempts(self) -> None:
        self._do("reset")
        self.failed_attempts = 0

    def _do(self, what: str | None) -> None:
        if self.error is not None:
            raise self.error
        self.done.append(what)

    def report(self) -> Report:
        return self.shown

    def last_alerts(self) -> tuple[AlertReport, ...]:
        return self.alerts

    async def act(self, action: Action, group_id: str, by: str, begun: Callable[[], None]) -> ActionResult:
        if self.error is not None:
            raise self.error
        begun()
        self.acted.append((action, group_id, by))
        await self.ended.wait()
        return ActionResult(self.failure, self.note)

    async def reload(self) -> str:
        self._do("reload")
        return self.note

    @contextmanager
    def changes(self) -> Iterator[asyncio.Event]:
        self.changed = asyncio.Event()
        yield self.changed
