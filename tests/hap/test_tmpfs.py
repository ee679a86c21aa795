"""A disk that is really full, or read-only: its contents stay, and paired controllers keep working."""

import asyncio
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import PIPE

import pytest
import pytest_asyncio
from aiohomekit.exceptions import BusyError, HomeKitException

from hkswitch.control import STATE_FOLDER
from hkswitch.hap import state_file
from hkswitch.hap.state_file import BACKUP_NAME, FILE_NAME, LOCK_NAME, Stored
from hkswitch.hap.state_writer import REMEDY
from hkswitch.model.errors import Exit
from tests.support.controller import Controller
from tests.support.disk import Disk
from tests.support.ports import LOOPBACK, free_port
from tests.support.waiting import PATIENCE_SECONDS

FULL, READ_ONLY = "No space left on device", "Read-only file system"


@dataclass
class Machine:
    """A small disk, and a bridge that has its state there."""

    disk: Disk
    log_file: Path
    port: int = field(default_factory=free_port)
    process: Process | None = None
    config: Path | None = None

    async def start(self) -> bool:
        """Start the bridge; return whether it serves."""
        where = ("--address", LOOPBACK.addresses[0], "--port", str(self.port), "--state-dir", STATE_FOLDER)
        groups = () if self.config is None else ("--config", self.config)
        with self.log_file.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *self.disk.hkswitch("demo", *where, *groups), stdout=PIPE, stderr=log
            )
        assert self.process.stdout is not None
        async with asyncio.timeout(PATIENCE_SECONDS):
            while line := await self.process.stdout.readline():
                if line.startswith(b"Address: "):
                    return True
        return False

    async def ended(self) -> int:
        """Wait until the bridge has exited, and return its exit code."""
        assert self.process is not None
        await self.process.communicate()
        assert self.process.returncode is not None
        return self.process.returncode

    async def kill(self) -> None:
        if self.process is not None:
            with suppress(ProcessLookupError):
                self.process.kill()
            await self.ended()

    async def pair(self, setup_code: str | None = None) -> Controller:
        code = setup_code or self.stored.setup.code
        return await Controller.pair(LOOPBACK.addresses[0], self.port, code)

    async def pair_again(self) -> Controller:
        """Pair as soon as the bridge has noticed free space."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                try:
                    return await self.pair()
                except BusyError:
                    await asyncio.sleep(0.1)

    @property
    def stored(self) -> Stored:
        """Return the state on the disk."""
        stored = state_file.read(self.disk.state_folder)
        assert stored is not None
        return stored

    @property
    def log(self) -> list[str]:
        return self.log_file.read_text().splitlines()

    def said(self, what: str) -> list[str]:
        """Return the log lines with this text; they begin with the time."""
        assert not any("Traceback" in line for line in self.log)
        return [line.partition(" ")[2] for line in self.log if what in line]


@pytest_asyncio.fixture(loop_scope="module")
async def machine(tmp_path: Path) -> AsyncIterator[Machine]:
    """A machine with an empty disk."""
    async with Disk.mounted() as disk:
        own = Machine(disk, tmp_path / "log")
        yield own
        await own.kill()


@pytest_asyncio.fixture(loop_scope="module")
async def unpaired(machine: Machine) -> Machine:
    """A machine with an unpaired bridge."""
    assert await machine.start(), machine.log
    return machine


@pytest_asyncio.fixture(loop_scope="module")
async def controller(unpaired: Machine) -> AsyncIterator[Controller]:
    controller = await unpaired.pair()
    yield controller
    await controller.close()


async def works(controller: Controller) -> bool:
    """Return whether a controller can read and write, on its own connection."""
    again = controller.again()
    on = not await again.read("Web Server")
    try:
        return await again.write("Web Server", on=on) == 0 and await again.read("Web Server") is on
    finally:
        await again.close()


CANNOT_WRITE = f"cannot write the bridge's state {STATE_FOLDER / FILE_NAME}"
MEANWHILE = f"{REMEDY}; until then: no controller can be paired or removed"


async def test_a_pairing_on_a_full_disk_fails_and_works_when_there_is_room(unpaired: Machine) -> None:
    before = unpaired.disk.contents
    unpaired.disk.fill()
    with pytest.raises(BusyError):
        await unpaired.pair()
    assert unpaired.disk.contents == before
    assert unpaired.said(FULL) == [f"{CANNOT_WRITE}: {FULL}; {MEANWHILE}"]
    unpaired.disk.free()
    controller = await unpaired.pair_again()
    assert await works(controller)
    assert len(unpaired.stored.controllers) == 1
    assert len(unpaired.said(FULL)) == 1
    await controller.close()


async def test_a_wrong_setup_code_is_refused_on_a_full_disk_too(unpaired: Machine) -> None:
    before = unpaired.disk.contents
    unpaired.disk.fill()
    wrong = "031-45-154" if unpaired.stored.setup.code != "031-45-154" else "031-45-155"
    with pytest.raises(BusyError):
        await unpaired.pair(wrong)
    assert unpaired.disk.contents == before
    assert unpaired.said(FULL) == [f"{CANNOT_WRITE}: {FULL}; {MEANWHILE}"]
    unpaired.disk.free()
    await (await unpaired.pair_again()).close()
    assert unpaired.stored.failed_attempts == 0


async def test_an_unpairing_on_a_full_disk_fails_and_the_controller_stays(
    unpaired: Machine, controller: Controller
) -> None:
    before = unpaired.disk.contents
    unpaired.disk.fill()
    with pytest.raises(HomeKitException):
        await controller.unpair()
    assert unpaired.disk.contents == before
    assert all(line.endswith(f"{CANNOT_WRITE}: {FULL}") for line in unpaired.said(FULL))
    assert len(unpaired.said(FULL)) == 1
    assert await works(controller)
    unpaired.disk.free()
    await controller.again().unpair()
    assert unpaired.stored.controllers == ()


async def test_a_disk_that_becomes_read_only_loses_nothing(unpaired: Machine, controller: Controller) -> None:
    before = unpaired.disk.contents
    await unpaired.disk.forbid_writing()
    with pytest.raises(HomeKitException):
        await controller.unpair()
    assert unpaired.disk.contents == before
    assert len(unpaired.said(READ_ONLY)) == 1
    assert unpaired.said(READ_ONLY)[0].endswith(f"{CANNOT_WRITE}: {READ_ONLY}")
    assert await works(controller)
    await unpaired.disk.allow_writing()
    await controller.again().unpair()
    assert unpaired.stored.controllers == ()


@pytest.mark.parametrize(("make", "why"), [("fill", FULL), ("forbid", READ_ONLY)])
async def test_a_bridge_that_has_a_state_serves_without_writing_and_says_so(
    unpaired: Machine, controller: Controller, make: str, why: str
) -> None:
    await unpaired.kill()
    before = unpaired.disk.contents
    (unpaired.disk.state_folder / LOCK_NAME).write_bytes(b"")  # its process ID may be reused
    await spoil(unpaired.disk, make)
    assert await unpaired.start(), unpaired.log
    assert await works(controller)
    assert f"{CANNOT_WRITE}: {why}; {MEANWHILE}" in unpaired.said(why)
    after = unpaired.disk.contents
    assert (after[FILE_NAME], after[BACKUP_NAME]) == (before[FILE_NAME], before[BACKUP_NAME])


@pytest.mark.parametrize(("make", "why"), [("fill", FULL), ("forbid", READ_ONLY)])
async def test_a_first_start_that_cannot_write_fails_with_one_sentence(
    machine: Machine, make: str, why: str
) -> None:
    await spoil(machine.disk, make)
    assert not await machine.start()
    assert await machine.ended() == Exit.CANNOT_WRITE
    (line,) = machine.log
    assert line.startswith(f"hkswitch: cannot write the bridge's state {STATE_FOLDER}/")
    assert line.endswith(f": {why}")


async def spoil(disk: Disk, make: str) -> None:
    if make == "fill":
        disk.fill()
    else:
        await disk.forbid_writing()
