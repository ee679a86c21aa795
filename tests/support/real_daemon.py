"""The daemon's service in this process, with the helper as a child process and a real config file."""

import asyncio
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hkswitch.backend.child_pipes import ChildPipes
from hkswitch.backend.helper_client import back_off_seconds
from hkswitch.backend.helper_host import HelperHost
from hkswitch.backend.helper_session import HelperGone, HelperSession, Terms, local_terms
from hkswitch.backend.helper_transport import SudoTransport
from hkswitch.cli import reload, status
from hkswitch.control import client, socket_of
from hkswitch.daemon.service import serve
from hkswitch.daemon.serving import ServedBridge
from hkswitch.model.config import BridgeConfig, Config
from hkswitch.model.config_file import read as read_config
from hkswitch.model.errors import Failure
from hkswitch.model.unit_state import Action, GroupState
from hkswitch.network.endpoint import Endpoint
from hkswitch.protocol.control import ControlRequest, Operation
from hkswitch.protocol.report import GroupReport, Report
from tests.support.fake_systemd import FakeSystemd
from tests.support.helper import HelperProgram
from tests.support.ports import LOOPBACK, free_port
from tests.support.waiting import PATIENCE_SECONDS, eventually

Groups = Mapping[str, Mapping[str, Any]]


@dataclass
class Gate:
    """The transport to helpers that run without root; a test can block it, and knows the newest helper."""

    config_file: Path
    is_open: asyncio.Event = field(default_factory=asyncio.Event)
    refused: str = ""
    """The reason why no helper can be started; empty if one can."""
    tries: int = 0
    pid: int = 0
    """The process ID of the newest helper."""

    @property
    def terms(self) -> Terms:
        return local_terms()

    def pause_seconds(self, why_gone: str, attempt: int) -> float:  # noqa: ARG002 -- Transport's signature
        return back_off_seconds(attempt)

    async def open(self, session: HelperSession) -> ChildPipes:
        self.tries += 1
        await self.is_open.wait()
        if self.refused:
            raise HelperGone(self.refused)
        pipes = await SudoTransport(HelperProgram(self.config_file).command("serve")).open(session)
        self.pid = pipes._transport.get_pid()
        return pipes

    def explain(self, why_gone: str) -> str:
        return why_gone

    def hint(self, why_gone: str) -> str:  # noqa: ARG002 -- Transport's signature
        return ""


@dataclass
class RealDaemon:
    """A daemon, its environment (`Environment`), and its clients."""

    folder: Path
    port: int = field(default_factory=free_port)
    place: Endpoint = LOOPBACK
    told: list[str] = field(default_factory=list)
    """The notifications to systemd."""
    after_read: Callable[[], None] = lambda: None
    """Called whenever the daemon has read its config."""

    def __post_init__(self) -> None:
        self.config_file = self.folder / "config.yaml"
        self.state_folder = self.folder / "state"
        self.gate = Gate(self.config_file)
        self.gate.is_open.set()

    def write(self, groups: Groups) -> None:
        """Replace the config, whole: the helper may be reading it."""
        bridge = {"address": "127.0.0.1", "port": self.port}
        new = self.config_file.with_suffix(".new")
        new.write_text(json.dumps({"bridge": bridge, "groups": groups}))
        new.replace(self.config_file)

    @asynccontextmanager
    async def begun(self, groups: Groups) -> AsyncIterator[None]:
        """Provide a starting daemon within the block, and stop it with SIGTERM."""
        self.write(groups)
        config = read_config(self.config_file)
        self.host = HelperHost(config.groups, self.gate)
        running = asyncio.create_task(serve(config, self.host, self.state_folder, self))
        await eventually(lambda: running.done() or socket_of(self.state_folder).exists())
        try:
            yield
        finally:
            if not running.done():
                os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.wait_for(running, PATIENCE_SECONDS)

    @asynccontextmanager
    async def served(self, groups: Groups) -> AsyncIterator[None]:
        """Provide a serving daemon within the block."""
        async with self.begun(groups):
            await eventually(lambda: self.told)
            yield

    # The daemon's environment

    async def read(self) -> Config:
        config = read_config(self.config_file)
        self.after_read()
        return config

    @property
    def restart(self) -> str:
        return "`sudo systemctl restart hkswitch`"

    def reloading(self) -> None:
        self.told.append("reloading")

    def find(self, bridge: BridgeConfig, before: Endpoint | None) -> Endpoint:
        del bridge, before
        return self.place

    def waiting(self, why: str) -> None:
        self.told.append(why)

    def serving(self, config: Config, place: Endpoint, front: ServedBridge, trouble: str) -> None:
        groups = " ".join(group.id for group in config.groups)
        self.front = front
        self.told.append(f"serving {groups} on {place.addresses[0]}" + (f"; {trouble}" if trouble else ""))

    # Requests of clients; the command line blocks, so it runs in threads

    async def reload(self) -> str:
        """Reload; return the note or the error."""
        return await _in_time(reload.request_reload, self.state_folder)

    async def start(self, group_id: str) -> str:
        """Start a group; return the note or the error."""

        def start() -> str:
            question = ControlRequest(Operation.ACT, action=Action.START, group=group_id)
            with client.PendingRequest(socket_of(self.state_folder), question) as asked:
                return asked.end()

        return await _in_time(start)

    async def report(self) -> Report:
        report = await asyncio.to_thread(status.from_daemon, self.state_folder)
        assert report is not None
        return report

    async def groups(self) -> dict[str, GroupReport]:
        return {group.id: group for group in (await self.report()).groups}

    async def states(self) -> dict[str, GroupState | None]:
        return {group_id: group.state for group_id, group in (await self.groups()).items()}

    async def config_problem(self) -> str:
        bridge = (await self.report()).bridge
        assert bridge is not None
        return bridge.config

    async def until_states(self, **states: GroupState | None) -> None:
        """Wait until exactly these groups have these states."""
        deadline_seconds = time.monotonic() + PATIENCE_SECONDS
        while (found := await self.states()) != states:
            assert time.monotonic() < deadline_seconds, f"still {found}"
            await asyncio.sleep(0.01)

    async def until_asked(self, group_id: str) -> None:
        """Wait until an action on a group has been requested."""
        deadline_seconds = time.monotonic() + PATIENCE_SECONDS
        while (await self.groups())[group_id].last_action is None:
            assert time.monotonic() < deadline_seconds, "nothing was asked"
            await asyncio.sleep(0.01)

    async def until_config_problem(self, is_so: Callable[[str], object]) -> None:
        """Wait until the config problem meets a condition."""
        deadline_seconds = time.monotonic() + PATIENCE_SECONDS
        while not is_so(found := await self.config_problem()):
            assert time.monotonic() < deadline_seconds, f"still {found!r}"
            await asyncio.sleep(0.01)

    # The helper

    def kill_helper(self) -> None:
        """Kill the helper."""
        os.kill(self.gate.pid, signal.SIGKILL)

    async def has_heard(self, fake: FakeSystemd) -> None:
        """Return when the helper has received everything that systemd sent, and the daemon the results."""
        await fake.heard()
        await self.host.check_config()


async def _in_time(do: Callable[..., str], *arguments: object) -> str:
    try:
        return await asyncio.wait_for(asyncio.to_thread(do, *arguments), PATIENCE_SECONDS)
    except Failure as failure:
        return f"failed: {failure}"
