"""A pairing that cannot be written has no effect: on disk, in memory, or for the phone."""

import errno
import os
import stat
from collections.abc import Callable

import pytest
from aiohomekit.exceptions import BusyError, HomeKitException

from hkswitch.hap import state_file, state_writer
from tests.hap.conftest import Served


def full(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


async def test_a_pairing_on_a_full_disk_fails_and_works_when_there_is_room(
    unpaired: Served, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    before = state_file.read(unpaired.state_folder)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(BusyError):
            await unpaired.pair()
    assert "cannot write the bridge's state" in caplog.text
    monkeypatch.setattr(state_writer, "RETRY_SECONDS", 0)
    assert unpaired.bridge.controllers() == ()
    assert state_file.read(unpaired.state_folder) == before
    controller = await unpaired.pair()
    assert unpaired.bridge.paired
    await controller.close()


def full_folder() -> Callable[[int], None]:
    """A sync that fails for the first folder: the new file has its name by then, and may not keep it."""
    sync, failed = os.fsync, False

    def fsync(file: int) -> None:
        nonlocal failed
        if stat.S_ISDIR(os.fstat(file).st_mode) and not failed:
            failed = True
            full()
        sync(file)

    return fsync


async def test_a_pairing_whose_file_is_there_but_not_synced_did_not_happen_either(
    unpaired: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = state_file.read(unpaired.state_folder)
    monkeypatch.setattr(os, "fsync", full_folder())
    with pytest.raises(HomeKitException):
        await unpaired.pair()
    assert state_file.read(unpaired.state_folder) == before


async def test_a_pairing_whose_file_was_gone_and_cannot_be_synced_is_not_there_either(
    unpaired: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = state_file.read(unpaired.state_folder)
    (unpaired.state_folder / state_file.FILE_NAME).unlink()
    monkeypatch.setattr(os, "fsync", full_folder())
    with pytest.raises(HomeKitException):
        await unpaired.pair()
    assert state_file.read(unpaired.state_folder) == before  # of its backup


async def test_an_unpairing_whose_file_is_there_but_not_synced_did_not_happen_either(
    unpaired: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    controller = await unpaired.pair()
    before = state_file.read(unpaired.state_folder)
    monkeypatch.setattr(os, "fsync", full_folder())
    with pytest.raises(HomeKitException):
        await controller.unpair()
    assert state_file.read(unpaired.state_folder) == before
    await controller.close()


def test_a_reset_of_attempts_whose_file_is_there_but_not_synced_did_not_happen_either(
    unpaired: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    unpaired.bridge._driver.attempts.count()
    before = state_file.read(unpaired.state_folder)
    monkeypatch.setattr(os, "fsync", full_folder())
    with pytest.raises(state_file.StateUnwritable):
        unpaired.bridge.reset_attempts()
    assert state_file.read(unpaired.state_folder) == before


async def test_an_unpairing_on_a_full_disk_fails_and_the_controller_stays(
    unpaired: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    controller = await unpaired.pair()
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(HomeKitException):
            await controller.unpair()
    assert len(unpaired.bridge.controllers()) == 1
    assert await controller.read("Web Server") is False
    await controller.unpair()
    assert unpaired.bridge.controllers() == ()
    await controller.close()
