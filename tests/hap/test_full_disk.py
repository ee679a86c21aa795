"""A pairing that cannot be written did not happen: not on disk, not in memory, not for the phone."""

import errno
import os

import pytest
from aiohomekit.exceptions import HomeKitException

from hkswitch.hap import state_file
from tests.hap.conftest import Served


def full(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


async def test_a_pairing_on_a_full_disk_fails_and_works_when_there_is_room(
    unpaired: Served, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    before = state_file.read(unpaired.state_folder)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(HomeKitException):
            await unpaired.pair()
    assert "not paired: cannot write the bridge's state" in caplog.text
    assert unpaired.bridge.controllers() == ()
    assert state_file.read(unpaired.state_folder) == before
    controller = await unpaired.pair()
    assert unpaired.bridge.paired
    await controller.close()


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
