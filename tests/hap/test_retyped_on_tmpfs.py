"""A phone, a bridge that restarts with changed groups, and a disk that is really full."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from hkswitch.control import STATE_FOLDER
from tests.hap.test_tmpfs import FULL, Machine, machine
from tests.support.controller import Controller
from tests.support.waiting import eventually

__all__ = ["machine"]

BEFORE = "groups:\n  lamp: {units: [lamp], type: light}\n  web: {units: [web]}\n"
AFTER = "groups:\n  lamp: {units: [lamp], type: fan}\n  web: {units: [web]}\n  new: {units: [new]}\n"


@pytest_asyncio.fixture(loop_scope="module")
async def controller(machine: Machine, tmp_path: Path) -> AsyncIterator[Controller]:
    """A phone that is paired with a bridge that has groups, which then change while the disk is full."""
    machine.config = tmp_path / "config.yaml"
    machine.config.write_text(BEFORE)
    assert await machine.start(), machine.log
    controller = await machine.pair()
    await machine.kill()
    machine.config.write_text(AFTER)
    machine.disk.fill()
    assert await machine.start(), machine.log
    yield controller
    await controller.close()


async def asked(machine: Machine, *arguments: str) -> str:
    """Return the output of the command line in the disk's mount namespace."""
    ended = await asyncio.create_subprocess_exec(
        *machine.disk.hkswitch(*arguments, "--state-dir", STATE_FOLDER),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    printed, _ = await ended.communicate()
    return printed.decode()


async def test_a_phone_keeps_its_switch_and_gets_the_new_type_when_there_is_room(
    machine: Machine, controller: Controller
) -> None:
    assert machine.process is not None
    assert machine.process.stdout is not None
    assert (await machine.process.stdout.readline()).startswith(b"Note: cannot write the bridge's state")
    again = controller.again()
    assert await again.write("Lamp", on=True) == 0
    assert await again.read("Lamp") is True
    status = " ".join((await asked(machine, "status")).split())
    assert f"{FULL}; free space on that disk" in status
    assert "not in the Home app: New; still shown with the old type: Lamp" in status
    assert len(machine.said("still shown with the old type: Lamp")) == 1
    await again.look()
    assert again.switches.keys() == {"Lamp", "Web"}
    old = again.switches["Lamp"]
    assert old == controller.switches["Lamp"]
    machine.disk.free()
    assert "reloaded" in await asked(machine, "reload")
    await eventually(lambda: machine.said("can be written again"))
    await again.look()
    assert again.switches.keys() == {"Lamp", "Web", "New"}
    assert again.switches["Lamp"] != old
    assert await again.read("Lamp") is True
    assert await again.write("Lamp", on=False) == 0
    assert "not written" not in await asked(machine, "status")
    await again.close()


async def test_the_doctor_says_so_too(machine: Machine, controller: Controller) -> None:
    del controller  # it is paired
    (line,) = [
        line for line in (await asked(machine, "doctor")).splitlines() if line[8:].startswith("state ")
    ]
    assert line.startswith("FAIL    state           cannot write the bridge's state")
    assert "still shown with the old type: Lamp" in line
    assert f"`df -h {STATE_FOLDER}`" in line
