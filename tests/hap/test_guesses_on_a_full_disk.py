"""While writing fails, no setup code is compared: no guess is free, and a correct one is not recognisable."""

import errno
import logging
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio
from aiohomekit.exceptions import AuthenticationError, BusyError, MaxTriesError

from hkswitch.hap import state_file, state_writer
from hkswitch.hap.pair_setup import NOT_COUNTED, Verifier
from hkswitch.protocol.control import MOST_FAILED_ATTEMPTS
from tests.hap.conftest import Served
from tests.hap.test_tmpfs import FULL, Machine, machine
from tests.support.controller import Controller
from tests.support.full_disk import filling
from tests.support.raw_client import (
    ERROR,
    METHOD,
    PROOF,
    PUBLIC_KEY,
    STATE,
    raw_client,
)

__all__ = ["machine"]

BEGIN = ((STATE, b"\x01"), (METHOD, b"\x00"))
PROVE = ((STATE, b"\x03"), (PUBLIC_KEY, b"k" * 384), (PROOF, b"p" * 64))
AUTHENTICATION, BUSY = b"\x02", b"\x07"
WRONG = "999-99-998"


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Return a function that fills the disk, or frees space again."""
    monkeypatch.setattr(state_writer, "RETRY_SECONDS", 0)
    return filling(monkeypatch)


def attempts(served: Served) -> tuple[int, int]:
    """Return the failed attempts in memory and on disk."""
    stored = state_file.read(served.state_folder)
    assert stored is not None
    return served.bridge.setup_info().failed_attempts, stored.failed_attempts


@pytest.mark.parametrize("code", ["right", WRONG])
async def test_right_and_wrong_codes_are_refused_alike_and_not_counted(
    unpaired: Served, full: Callable[[bool], None], code: str
) -> None:
    code = unpaired.bridge.setup.code if code == "right" else code
    full(True)
    stages = list[str]()
    for _ in range(3):
        with pytest.raises(BusyError) as caught:
            await Controller.pair(unpaired.address, unpaired.port, code)
        stages.append(str(caught.value))
    assert ["x04" in stages[0], "x02" in stages[1], "x02" in stages[2]] == [True] * 3
    assert attempts(unpaired) == (0, 0)
    full(False)
    with pytest.raises(AuthenticationError):
        await Controller.pair(unpaired.address, unpaired.port, WRONG)
    assert attempts(unpaired) == (1, 1)
    await (await unpaired.pair()).close()
    assert attempts(unpaired) == (1, 1)


async def test_a_bridge_that_cannot_write_tells_every_stranger_that_it_is_busy_and_logs_it_once(
    unpaired: Served, full: Callable[[bool], None], caplog: pytest.LogCaptureFixture
) -> None:
    full(True)
    with caplog.at_level(logging.INFO):
        async with raw_client(unpaired.address, unpaired.port) as attacker:
            await attacker.pair_setup(*BEGIN)
            assert (await attacker.pair_setup(*PROVE)).tlv[ERROR] == BUSY
            answers = [await attacker.pair_setup(*BEGIN) for _ in range(60)]
    assert {(answer.tlv[STATE], answer.tlv[ERROR]) for answer in answers} == {(b"\x02", BUSY)}
    lines = [line for line in caplog.messages if "writ" in line]
    assert [NOT_COUNTED in line for line in lines] == [False, True]
    assert os.strerror(errno.ENOSPC) in lines[0]


async def test_a_disk_that_takes_nothing_is_tried_once_a_second_however_often_a_stranger_asks(
    unpaired: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = 0

    def fsync(_: int) -> None:
        nonlocal tries
        tries += 1
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(state_writer, "RETRY_SECONDS", 3600)
    async with raw_client(unpaired.address, unpaired.port) as attacker:
        await attacker.pair_setup(*BEGIN)
        await attacker.pair_setup(*PROVE)
        for _ in range(20):
            assert (await attacker.pair_setup(*BEGIN)).tlv[ERROR] == BUSY
    assert tries == 1


async def test_an_attempt_is_on_disk_before_its_code_is_compared(
    unpaired: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = list[tuple[int, int]]()

    def look(*_: object) -> None:
        found.append(attempts(unpaired))

    monkeypatch.setattr(Verifier, "verify", look)
    with pytest.raises(AuthenticationError):
        await unpaired.pair()
    assert found == [(1, 1)]


async def test_a_right_code_on_the_last_attempt_locks_nothing(unpaired: Served) -> None:
    unpaired.bridge._driver.attempts.failed = MOST_FAILED_ATTEMPTS - 1
    await (await unpaired.pair()).close()
    assert attempts(unpaired) == (MOST_FAILED_ATTEMPTS - 1,) * 2
    assert not unpaired.bridge._driver.attempts.is_locked


# A disk that is really full, and kills


@pytest_asyncio.fixture(loop_scope="module")
async def almost_locked(machine: Machine) -> AsyncIterator[Machine]:
    """One that has two guesses left."""
    assert await machine.start(), machine.log
    await machine.kill()
    folder = machine.disk.state_folder
    state_file.write(folder, replace(machine.stored, failed_attempts=MOST_FAILED_ATTEMPTS - 2))
    assert await machine.start(), machine.log
    yield machine


async def test_a_restart_on_a_full_disk_gives_no_other_guess(almost_locked: Machine) -> None:
    machine = almost_locked
    with pytest.raises(AuthenticationError):
        await machine.pair(WRONG)
    machine.disk.fill()
    for _ in range(3):
        for code in (WRONG, machine.stored.setup.code):
            with pytest.raises(BusyError):
                await machine.pair(code)
        await machine.kill()
        assert machine.stored.failed_attempts == MOST_FAILED_ATTEMPTS - 1
        assert await machine.start(), machine.log
    machine.disk.free()
    await until_it_writes(machine)
    with pytest.raises(MaxTriesError):
        await machine.pair()
    await machine.kill()
    assert await machine.start(), machine.log
    with pytest.raises(MaxTriesError):
        await machine.pair()


async def until_it_writes(machine: Machine) -> None:
    """Guess wrong, until a guess is counted again: the last one."""
    while True:
        try:
            await machine.pair(WRONG)
        except AuthenticationError:
            return
        except BusyError:
            assert machine.stored.failed_attempts == MOST_FAILED_ATTEMPTS - 1


async def test_a_full_disk_is_one_line_however_many_codes_are_tried(almost_locked: Machine) -> None:
    almost_locked.disk.fill()
    for _ in range(10):
        with pytest.raises(BusyError):
            await almost_locked.pair(WRONG)
    assert len(almost_locked.said(FULL)) == 1
    assert len(almost_locked.said(NOT_COUNTED)) == 1


@pytest.mark.parametrize("where", ["symptoms", "manual", "threats"])
def test_the_documents_say_that_nothing_can_be_guessed_then(where: str) -> None:
    root = Path(__file__).parents[2]
    text = {
        "symptoms": root / "docs" / "troubleshooting.md",
        "manual": root / "docs" / "man" / "hkswitch.1",
        "threats": root / "docs" / "threats.md",
    }[where].read_text()
    words = {
        "symptoms": "no phone can pair, and no setup code is checked",
        "manual": "The bridge writes each attempt to disk before it compares the setup code.",
        "threats": "test_guesses_on_a_full_disk.py::test_a_restart_on_a_full_disk_gives_no_other_guess",
    }
    assert words[where] in text
