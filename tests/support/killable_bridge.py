"""A real bridge in a separate process, to kill and restart on the same state folder and port."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from tests.support import bridge_fork_server
from tests.support.ports import free_port
from tests.support.waiting import PATIENCE_SECONDS

ADDRESS = str(IPv4Address("127.1.0.0") + os.getpid())
"""A loopback address for this process alone: another process could take the port while the bridge is dead."""


@dataclass
class KillableBridge:
    """One bridge, and the program that forks it."""

    folder: Path
    port: int
    fork_server: asyncio.subprocess.Process
    config_version: int = 0
    """The version that it printed when it last began to serve."""

    serving: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    _started: asyncio.Event = field(default_factory=asyncio.Event)
    _process: int | None = None
    """A pidfd, because the ID of a dead process may be reused."""

    @classmethod
    @asynccontextmanager
    async def kept(cls, folder: Path) -> AsyncIterator["KillableBridge"]:
        """Provide a bridge in its own folder within the block."""
        folder.mkdir()
        with (folder / "log").open("wb") as log:
            program = await asyncio.create_subprocess_exec(
                *(sys.executable, bridge_fork_server.__file__),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
            )
        own = cls(folder, free_port(ADDRESS), program)
        hearing = asyncio.create_task(own._hear())
        try:
            yield own
        finally:
            own.kill()
            program.kill()
            await program.wait()
            await hearing
            own._let_go()

    @property
    def state_folder(self) -> Path:
        return self.folder / "state"

    @property
    def log(self) -> str:
        """The log of all its bridges."""
        return (self.folder / "log").read_text()

    def configure(self, group_ids: Iterable[str]) -> None:
        """Replace the groups; takes effect at the next start or reload."""
        groups = "".join(f"  {group}: {{units: [{group}]}}\n" for group in group_ids)
        bridge = f"bridge: {{address: {ADDRESS}, port: {self.port}}}\n"
        (self.folder / "config.yaml").write_text(f"{bridge}groups:\n{groups}")

    async def start(self, *, dies_at: int = 0) -> None:
        """Begin to start; `dies_at` is the file operation at which to die."""
        self.serving.clear()
        self.ended.clear()
        self._started.clear()
        line = f"{self.folder / 'config.yaml'}\t{self.state_folder}\t{dies_at}\n"
        assert self.fork_server.stdin is not None
        self.fork_server.stdin.write(line.encode())
        await self._soon(self._started)

    async def served_or_ended(self) -> None:
        """Wait until it serves or is dead."""
        await self._soon(self.serving, self.ended)

    async def served(self) -> None:
        """Wait until it serves."""
        await self.served_or_ended()
        assert not self.ended.is_set(), f"it did not start:\n{self.log[-2000:]}"

    async def killed(self) -> None:
        """Kill it unless it is dead, and wait until all its resources are free."""
        self.kill()
        await self._soon(self.ended)

    def reload(self) -> None:
        """Make it reload its config; `serving` is set when it has."""
        self.serving.clear()
        self._send(signal.SIGHUP)

    def doom(self, operation: int) -> None:
        """Make it die just before its nth file operation from now on."""
        self._send(signal.SIGRTMIN + operation)

    def kill(self) -> None:
        self._send(signal.SIGKILL)

    async def _soon(self, *events: asyncio.Event) -> None:
        """Wait until one of them is set."""
        waiting = [asyncio.create_task(event.wait()) for event in events]
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    def _send(self, number: int) -> None:
        if self._process is not None:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._process, number)

    def _let_go(self) -> None:
        if self._process is not None:
            os.close(self._process)
            self._process = None

    async def _hear(self) -> None:
        assert self.fork_server.stdout is not None
        async for line in self.fork_server.stdout:
            word, *rest = line.decode().split()
            self._heard(word, rest)

    def _heard(self, word: str, rest: list[Any]) -> None:
        match word:
            case "started":
                self._let_go()
                with suppress(ProcessLookupError):  # it is already dead
                    self._process = os.pidfd_open(int(rest[0]))
                self._started.set()
            case "serving":
                self.config_version = int(rest[0])
                self.serving.set()
            case "ended":
                self.ended.set()
