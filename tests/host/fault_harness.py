"""Daemons for fault injection, run on a booted host outside their unit, and the checks after a fault.

Each has its own folder, port and config, so several run in parallel. The helper reads the host's config,
which has the groups of all of them. They differ from the real daemon only in lacking the sandbox of
hkswitch.service.
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
from tests.host.fault_injection import Fault, Injector, run_with_fault
from tests.host.machine import ADDRESS, Host
from tests.support.controller import Controller
from tests.support.waiting import PATIENCE_SECONDS

TAPPED: Final = ("httpd", "netatalk", "libvirt-guests")
"""The unit that each bridge switches, by the bridge's number; no two bridges share one."""

_GROUPS: Final = """\
groups:
  lit: {name: Lit, units: [smb]}
  dark: {name: Dark, units: [nmb]}
"""
EXTRA: Final = "  extra: {name: Extra, units: [nmb]}\n"

FOLDER: Final = "/run/faults"
FIRST_PORT: Final = 51900
CONFIG: Final = f"bridge: {{address: {ADDRESS}}}\n{_GROUPS}{EXTRA}" + "".join(
    f"  tapped{number}: {{name: Tapped {number}, units: [{unit}]}}\n" for number, unit in enumerate(TAPPED)
)
"""The helper's config: the groups of all bridges."""

TRACEBACK: Final = re.compile(
    r"Traceback|Exception ignored|never retrieved|Fatal Python|Logging error|^  File ", re.MULTILINE
)
"""Output that neither program may ever print."""

_ENVIRONMENT: Final = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin", "LANG": "C.UTF-8"}
_LOOK_SECONDS: Final = 0.02
_EXIT_CODES: Final = {*Exit} - {Exit.OK}


class CheckFailed(Exception):
    """A requirement that did not hold after a fault."""


@dataclass(frozen=True)
class PairedState:
    """A bridge's state file with one pairing, and the paired controller."""

    state: bytes
    controller: Controller


@dataclass
class Bridge:
    """A bridge on a host: its number, from which its folder and port follow, and the file of its output."""

    host: Host
    number: int
    printed: Path

    @property
    def port(self) -> int:
        return FIRST_PORT + self.number

    @property
    def folder(self) -> str:
        """The bridge's folder, as the host sees it."""
        return f"{FOLDER}/{self.number}"

    @property
    def outside_folder(self) -> Path:
        """The same folder, as the test machine sees it."""
        return Path(f"/proc/{self.host.leader}/root{self.folder}")

    @property
    def tapped(self) -> str:
        """The unit that this bridge switches."""
        return TAPPED[self.number]

    @property
    def state(self) -> Path:
        return self.outside_folder / "state"

    def make(self) -> None:
        """Create the folder with the config."""
        self.host.run("install", "-d", "-o", "hkswitch", "-g", "hkswitch", self.folder)
        self.configure()

    def configure(self, more: str = "") -> None:
        """Write the config, with `more` groups at its end."""
        bridge = f"bridge: {{address: {ADDRESS}, port: {self.port}}}\n"
        tapped = f"  tapped{self.number}: {{name: Tapped, units: [{self.tapped}]}}\n"
        (self.outside_folder / "config.yaml").write_text(bridge + _GROUPS + tapped + more)

    def restore(self, state: bytes | None) -> None:
        """Put this state in place, with its backup; None removes both."""
        script = f"rm -rf {self.folder}/state; install -d -m 700 -o hkswitch -g hkswitch {self.folder}/state"
        self.host.run("sh", "-ec", script)
        if state is not None:
            for name in (state_file.FILE_NAME, state_file.BACKUP_NAME):
                (self.state / name).write_bytes(state)
            self.host.run(
                "sh", "-ec", f"chmod 600 {self.folder}/state/*; chown hkswitch: {self.folder}/state/*"
            )

    def is_as_restored(self, state: bytes) -> bool:
        """Whether the next start finds the same files as right after `restore`."""
        names = (state_file.FILE_NAME, state_file.BACKUP_NAME)
        there = {path.name for path in self.state.iterdir()} - {state_file.LOCK_NAME}
        return there == {*names} and all((self.state / name).read_bytes() == state for name in names)

    def again(self, controller: Controller) -> Controller:
        """Return a copy of a controller that connects to this bridge's port."""
        copy = controller.again()
        data: dict[str, Any] = copy.pairing.pairing_data  # type: ignore[assignment]
        data["AccessoryPort"] = self.port
        copy.pairing.connection.port = self.port
        return copy

    def setup_code(self) -> str:
        file = self.state / state_file.FILE_NAME
        return parse(file, file.read_bytes()).setup.code

    @asynccontextmanager
    async def runs(self, fault: Fault | None = None) -> AsyncIterator["RunningDaemon"]:
        """Start a daemon, with its calls counted from main() on, and stop it in the end."""
        notify = self.outside_folder / "notify"
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
            notifications = stack.enter_context(
                socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
            )
            notifications.bind(str(notify))
            notify.chmod(0o666)
            self.printed.write_bytes(b"")
            output = stack.enter_context(self.printed.open("ab"))
            process, injector = stack.enter_context(
                run_with_fault(
                    command,
                    fault,
                    env=_ENVIRONMENT | {"NOTIFY_SOCKET": f"{self.folder}/notify"},
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                )
            )
            run = RunningDaemon(self, process, injector)
            loop = asyncio.get_running_loop()
            loop.add_reader(
                notifications, lambda: run.on_notify(notifications.recv(4096))
            )  # the daemon blocks if nothing reads its notifications
            try:
                yield run
                await run.stop()
            finally:
                loop.remove_reader(notifications)
                run.kill(signal.SIGKILL)
                process.wait()


@dataclass
class RunningDaemon:
    """A running daemon."""

    bridge: Bridge
    process: "subprocess.Popen[bytes]"
    injector: Injector
    serves: bool = False

    @property
    def lost_helper(self) -> bool:
        """Whether a helper exited: the daemon backs off longer before each replacement."""
        printed = self.bridge.printed.read_text(errors="replace")
        return "the helper exited unexpectedly" in printed or "the helper cannot run" in printed

    def on_notify(self, message: bytes) -> None:
        """Handle an sd_notify message."""
        self.serves |= b"STATUS=Serving" in message

    async def until_served(self) -> bool:
        """Wait until the daemon serves; return False if it exits instead."""
        deadline_seconds = time.monotonic() + PATIENCE_SECONDS
        while self.process.poll() is None:
            if self.serves:
                return True
            if time.monotonic() > deadline_seconds:
                raise CheckFailed("the daemon neither serves nor exits")
            await asyncio.sleep(_LOOK_SECONDS)
        return False

    async def stop(self) -> None:
        """Stop the daemon by SIGTERM if it still runs, and check its exit code and output."""
        if self.process.poll() is None:
            self.kill(signal.SIGTERM)
            await self.until_ended()
            if self.process.returncode != 0:
                raise CheckFailed(f"the daemon exited with {self.process.returncode} when stopped")
        self.check_output()

    def kill(self, number: signal.Signals) -> None:
        """Send the daemon a signal if it runs: it is a child of nsenter, which Popen started."""
        nsenter = self.process.pid
        with suppress(FileNotFoundError, ProcessLookupError):
            for child in Path(f"/proc/{nsenter}/task/{nsenter}/children").read_text().split():
                os.kill(int(child), number)

    async def until_ended(self) -> None:
        deadline_seconds = time.monotonic() + PATIENCE_SECONDS
        while self.process.poll() is None:
            if time.monotonic() > deadline_seconds:
                raise CheckFailed("the daemon does not exit")
            await asyncio.sleep(_LOOK_SECONDS)

    def check_output(self) -> None:
        """Check that there is no traceback, and that an exit has one of our codes and a reason."""
        printed = self.bridge.printed.read_text(errors="replace")
        if TRACEBACK.search(printed):
            raise CheckFailed("the output has a traceback")
        code = self.process.poll()
        if code is None or code == 0:
            return
        if code not in _EXIT_CODES:
            raise CheckFailed(f"the daemon exited with {code}")
        failed = self.injector.failed
        could_not_print = failed is not None and failed.file == str(self.bridge.printed)
        if not could_not_print and not re.search(
            r"^hkswitch: .+$|^\S+config\.yaml: .+", printed, re.MULTILINE
        ):
            raise CheckFailed(f"the daemon exited with {code} without an error message")

    async def verify(
        self, controller: Controller, truth: Mapping[str, bool], *, moving: Container[str] = ()
    ) -> None:
        """Check that a controller and `hkswitch status` come to report `truth`, and nothing else before.

        Switches in `moving` may report another value at first.
        """
        deadline_seconds = time.monotonic() + PATIENCE_SECONDS
        phone = self.bridge.again(controller)
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await phone.look()
                if phone.switches.keys() != truth.keys():
                    raise CheckFailed(f"the switches are {', '.join(phone.switches)}")
                while (read := dict(await phone.read_all(truth))) != truth:
                    for name, on in truth.items():
                        if isinstance(read[name], bool) and read[name] is not on and name not in moving:
                            raise CheckFailed(f"{name} reads {read[name]}")
                    await asyncio.sleep(_LOOK_SECONDS)
        except (HomeKitException, TimeoutError, OSError) as error:
            raise CheckFailed(f"a controller cannot read the states: {error!r}") from error
        finally:
            await phone.close()
        while (shown := await asyncio.to_thread(self._status)) != truth:
            if time.monotonic() > deadline_seconds:
                raise CheckFailed(f"hkswitch status reports {shown} instead of {truth}")
            await asyncio.sleep(_LOOK_SECONDS)

    def _status(self) -> dict[str, bool]:
        try:
            report = status.from_daemon(self.bridge.state)
        except Failure as failure:
            raise CheckFailed(f"no status: {failure}") from failure
        if report is None or report.bridge is None or report.bridge.helper:
            return {}  # the states may be from before the helper exited
        return {group.name: group.state == "on" for group in report.groups}
