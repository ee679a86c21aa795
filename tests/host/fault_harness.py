"""Daemons by hand on a booted host whose system calls fail, and whether all is well after that.

Each has a folder, a port and a config of its own, so that several run side by side. The helper reads the
host's config, which has all groups of all of them. Only the sandbox of hkswitch.service is missing.
"""

import asyncio
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Container, Mapping
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from aiohomekit.exceptions import HomeKitException

from hkswitch.cli import status
from hkswitch.hap import state_file
from hkswitch.hap.state_format import parse
from hkswitch.model.errors import Exit, Failure
from tests.host.fault_injection import Fault, Injector, injected
from tests.host.machine import ADDRESS, Host
from tests.support.controller import Controller
from tests.support.waiting import PATIENCE_SECONDS

TAPPED: Final = ("httpd", "netatalk", "libvirt-guests")
"""The unit of each bridge that is switched; no other bridge's."""

_GROUPS: Final = """\
groups:
  lit: {name: Lit, units: [smb]}
  dark: {name: Dark, units: [nmb]}
"""
EXTRA: Final = "  extra: {name: Extra, units: [nmb]}\n"

FOLDER: Final = "/run/injected"
FIRST_PORT: Final = 51900
CONFIG: Final = f"bridge: {{address: {ADDRESS}}}\n{_GROUPS}{EXTRA}" + "".join(
    f"  tapped{number}: {{name: Tapped {number}, units: [{unit}]}}\n" for number, unit in enumerate(TAPPED)
)
"""The helper's."""

BROKEN: Final = re.compile(
    r"Traceback|Exception ignored|never retrieved|Fatal Python|Logging error|^  File ", re.MULTILINE
)
"""What no program of ours may print."""

_ENVIRONMENT: Final = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin", "LANG": "C.UTF-8"}
_LOOK_SECONDS: Final = 0.02
_EXITS: Final = {*Exit} - {Exit.OK}


class Wrong(Exception):
    """The program did not do what it must after a fault."""


@dataclass(frozen=True)
class Master:
    """A bridge's state with one pairing, and the controller that has it."""

    state: bytes
    controller: Controller


@dataclass
class Bridge:
    """The folder and the port of a daemon by hand, and what it printed."""

    host: Host
    number: int
    printed: Path

    @property
    def port(self) -> int:
        return FIRST_PORT + self.number

    @property
    def folder(self) -> str:
        """As the host calls it."""
        return f"{FOLDER}/{self.number}"

    @property
    def seen(self) -> Path:
        """The same, as this machine does."""
        return Path(f"/proc/{self.host.leader}/root{self.folder}")

    @property
    def tapped(self) -> str:
        """Its unit that is switched."""
        return TAPPED[self.number]

    @property
    def state(self) -> Path:
        return self.seen / "state"

    def make(self) -> None:
        """Make the folder."""
        self.host.run("install", "-d", "-o", "hkswitch", "-g", "hkswitch", self.folder)
        self.configure()

    def configure(self, more: str = "") -> None:
        """Write the config."""
        bridge = f"bridge: {{address: {ADDRESS}, port: {self.port}}}\n"
        tapped = f"  tapped{self.number}: {{name: Tapped, units: [{self.tapped}]}}\n"
        (self.seen / "config.yaml").write_text(bridge + _GROUPS + tapped + more)

    def restore(self, state: bytes | None) -> None:
        """Have this state, and its backup, or none."""
        script = f"rm -rf {self.folder}/state; install -d -m 700 -o hkswitch -g hkswitch {self.folder}/state"
        self.host.run("sh", "-ec", script)
        if state is not None:
            for name in (state_file.FILE_NAME, state_file.BACKUP_NAME):
                (self.state / name).write_bytes(state)
            self.host.run(
                "sh", "-ec", f"chmod 600 {self.folder}/state/*; chown hkswitch: {self.folder}/state/*"
            )

    def is_as_restored(self, state: bytes) -> bool:
        """Whether a start would find what it would have found after `restore`."""
        names = (state_file.FILE_NAME, state_file.BACKUP_NAME)
        there = {path.name for path in self.state.iterdir()} - {state_file.LOCK_NAME}
        return there == {*names} and all((self.state / name).read_bytes() == state for name in names)

    def again(self, controller: Controller) -> Controller:
        """A controller that knows this bridge by another port."""
        copy = controller.again()
        data: dict[str, Any] = copy.pairing.pairing_data  # type: ignore[assignment]
        data["AccessoryPort"] = self.port
        copy.pairing.connection.port = self.port
        return copy

    def setup_code(self) -> str:
        file = self.state / state_file.FILE_NAME
        return parse(file, file.read_bytes()).setup.code

    @asynccontextmanager
    async def runs(self, fault: Fault | None = None) -> AsyncIterator["Run"]:
        """Have a daemon that starts; with a fault or None its calls are counted from main() on."""
        notify = self.seen / "notify"
        notify.unlink(missing_ok=True)
        command = self.host._command(
            *(
                "hkswitch",
                "run",
                "--config",
                f"{self.folder}/config.yaml",
                "--state-dir",
                f"{self.folder}/state",
            ),
            user="hkswitch",
        )
        with ExitStack() as stack:
            told = stack.enter_context(
                socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
            )
            told.bind(str(notify))
            notify.chmod(0o666)
            self.printed.write_bytes(b"")
            output = stack.enter_context(self.printed.open("ab"))
            process, injector = stack.enter_context(
                injected(
                    command,
                    fault,
                    env=_ENVIRONMENT | {"NOTIFY_SOCKET": f"{self.folder}/notify"},
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                )
            )
            run = Run(self, process, injector)
            loop = asyncio.get_running_loop()
            loop.add_reader(told, lambda: run.hear(told.recv(4096)))  # it waits for who does not read
            try:
                yield run
                await run.stop()
            finally:
                loop.remove_reader(told)
                run.kill(signal.SIGKILL)
                process.wait()


@dataclass
class Run:
    """A daemon by hand that runs."""

    bridge: Bridge
    process: "subprocess.Popen[bytes]"
    injector: Injector
    serves: bool = False

    @property
    def lost_helper(self) -> bool:
        """Whether a helper of its ended: it waits longer before each one that follows too soon."""
        printed = self.bridge.printed.read_text(errors="replace")
        return "the helper exited unexpectedly" in printed or "the helper cannot run" in printed

    def hear(self, told: bytes) -> None:
        """Take what it told systemd."""
        self.serves |= b"STATUS=Serving" in told

    async def until_served(self) -> bool:
        """Wait until it serves; False if it ended instead."""
        deadline_seconds = time.monotonic() + PATIENCE_SECONDS
        while self.process.poll() is None:
            if self.serves:
                return True
            if time.monotonic() > deadline_seconds:
                raise Wrong("it neither serves nor ends")
            await asyncio.sleep(_LOOK_SECONDS)
        return False

    async def stop(self) -> None:
        """End it by SIGTERM, and see whether it ends well, if it has not ended by itself."""
        if self.process.poll() is None:
            self.kill(signal.SIGTERM)
            await self.until_ended()
            if self.process.returncode != 0:
                raise Wrong(f"it stopped with {self.process.returncode}")
        self.look()

    def kill(self, number: signal.Signals) -> None:
        """Send it a signal, if it runs: the process that Popen knows is nsenter's, which waits for it."""
        nsenter = self.process.pid
        with suppress(FileNotFoundError, ProcessLookupError):
            for child in Path(f"/proc/{nsenter}/task/{nsenter}/children").read_text().split():
                os.kill(int(child), number)

    async def until_ended(self) -> None:
        deadline_seconds = time.monotonic() + PATIENCE_SECONDS
        while self.process.poll() is None:
            if time.monotonic() > deadline_seconds:
                raise Wrong("it does not end")
            await asyncio.sleep(_LOOK_SECONDS)

    def look(self) -> None:
        """See whether it printed sentences only, and ended with one of our exit codes and its reason."""
        printed = self.bridge.printed.read_text(errors="replace")
        if BROKEN.search(printed):
            raise Wrong("it printed more than a sentence")
        code = self.process.poll()
        if code is None or code == 0:
            return
        if code not in _EXITS:
            raise Wrong(f"it exited with {code}")
        failed = self.injector.failed
        is_mute = failed is not None and failed.file == str(self.bridge.printed)
        if not is_mute and not re.search(r"^hkswitch: .+$|^\S+config\.yaml: .+", printed, re.MULTILINE):
            raise Wrong(f"it exited with {code} without a sentence")

    async def verify(
        self, controller: Controller, truth: Mapping[str, bool], *, moving: Container[str] = ()
    ) -> None:
        """See whether a controller and `hkswitch status` know what is true, and nothing else before.

        `moving`: what may be something else for a while.
        """
        deadline_seconds = time.monotonic() + PATIENCE_SECONDS
        phone = self.bridge.again(controller)
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await phone.look()
                if phone.switches.keys() != truth.keys():
                    raise Wrong(f"the switches are {', '.join(phone.switches)}")
                while (read := dict(await phone.read_all(truth))) != truth:
                    for name, on in truth.items():
                        if isinstance(read[name], bool) and read[name] is not on and name not in moving:
                            raise Wrong(f"{name} reads {read[name]}")
                    await asyncio.sleep(_LOOK_SECONDS)
        except (HomeKitException, TimeoutError, OSError) as error:
            raise Wrong(f"a controller cannot read what is true: {error!r}") from error
        finally:
            await phone.close()
        while (said := await asyncio.to_thread(self._status)) != truth:
            if time.monotonic() > deadline_seconds:
                raise Wrong(f"status says {said}, and should say {truth}")
            await asyncio.sleep(_LOOK_SECONDS)

    def _status(self) -> dict[str, bool]:
        try:
            report = status.from_daemon(self.bridge.state)
        except Failure as failure:
            raise Wrong(f"no status: {failure}") from failure
        if report is None or report.bridge is None or report.bridge.helper:
            return {}  # its states may be those of before the helper ended
        return {group.name: group.state == "on" for group in report.groups}
