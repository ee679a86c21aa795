"""A pairing that cannot be written did not happen: not on disk, not in memory, not for the phone."""

import errno
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from aiohomekit.exceptions import HomeKitException

from hkswitch.core.model import Group
from hkswitch.homekit.bridge import Bridge
from hkswitch.hosts.simulated import SimulatedHost
from hkswitch.switchboard import Switchboard
from tests.support.controller import Controller
from tests.support.ports import free_port

GROUPS = (Group("web", "Web Server", ("httpd.service",)),)


@pytest_asyncio.fixture(loop_scope="module")
async def address(tmp_path: Path) -> AsyncIterator[tuple[int, Bridge]]:
    port = free_port()
    host = SimulatedHost(GROUPS)
    bridge = Bridge("Test Bridge", GROUPS, tmp_path, ("127.0.0.1",), port)
    switchboard = Switchboard(GROUPS, host, bridge)
    await host.open(switchboard)
    await bridge.start(switchboard)
    yield port, bridge
    await bridge.stop()
    await switchboard.close()
    await host.close()


def full(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


async def test_a_pairing_on_a_full_disk_fails_and_works_when_there_is_room(
    address: tuple[int, Bridge], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    port, bridge = address
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(HomeKitException):
            await Controller.pair("127.0.0.1", port, bridge.setup.code)
    paired = [bridge.paired]
    assert "not paired: cannot write the bridge's state" in caplog.text
    controller = await Controller.pair("127.0.0.1", port, bridge.setup.code)
    assert [*paired, bridge.paired] == [False, True]
    await controller.close()
