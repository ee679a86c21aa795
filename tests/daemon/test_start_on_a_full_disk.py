"""A daemon that cannot write its state tells systemd, the status and who watches it, until it can again."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
import pytest_asyncio

from hkswitch.cli import status
from hkswitch.model.group import AccessoryType, Group
from hkswitch.model.unit_state import GroupState
from tests.support.accessory_database import bridge_of, pair
from tests.support.fake_systemd import FakeSystemd, Unit
from tests.support.fixtures import bus_address, fake, systemd_on_bus
from tests.support.full_disk import filling
from tests.support.real_daemon import RealDaemon
from tests.support.waiting import eventually

__all__ = ["bus_address", "fake", "systemd_on_bus"]

pytestmark = pytest.mark.asyncio(loop_scope="module")

FILES: dict[str, Any] = {"files": {"units": ["smb"], "type": "light"}}
WEB: dict[str, Any] = {"web": {"units": ["httpd"]}}
WHY = "No space left on device"


@pytest.fixture(autouse=True)
def units(fake: FakeSystemd) -> Iterator[None]:
    fake.reset(Unit("smb.service"), Unit("httpd.service"))
    yield
    fake.release_lists()


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Fill the disk, or make room again."""
    return filling(monkeypatch)


@pytest_asyncio.fixture(loop_scope="module")
async def folder_of_files(daemon: RealDaemon) -> AsyncIterator[None]:
    """The state of a paired bridge with one group, which was a switch."""
    pair(bridge_of(daemon.state_folder, Group("files", "Files", ("smb.service",), AccessoryType.SWITCH)))
    yield


async def storage(daemon: RealDaemon) -> str:
    bridge = (await daemon.report()).bridge
    assert bridge is not None
    return bridge.storage


@pytest.mark.usefixtures("folder_of_files")
async def test_a_start_that_cannot_write_says_so_and_a_reload_behind_it_that_can_takes_it_back(
    daemon: RealDaemon, full: Callable[[bool], None]
) -> None:
    full(True)
    async with daemon.served(FILES | WEB):
        said = await storage(daemon)
        assert WHY in said
        assert said.endswith("; not in the Home app: Web; still shown with the old type: Files")
        assert said in daemon.told[-1]
        await daemon.until_states(files=GroupState.OFF, web=GroupState.OFF)  # it can be switched here
        full(False)
        assert await daemon.reload() == ""
        assert await storage(daemon) == ""
        await eventually(lambda: WHY not in daemon.told[-1])


@pytest.mark.usefixtures("folder_of_files")
async def test_a_change_that_fails_is_told_to_those_who_watch(
    daemon: RealDaemon, full: Callable[[bool], None]
) -> None:
    async with daemon.served(FILES):
        assert await storage(daemon) == ""
        watched = status.watch_reports(daemon.state_folder, ())
        await asyncio.to_thread(next, watched)
        full(True)
        with pytest.raises(Exception, match=WHY):
            daemon.front.unpair(None)
        while True:
            seen = await asyncio.to_thread(next, watched)
            if seen.report.bridge is not None and seen.report.bridge.storage:
                break
        assert WHY in seen.report.bridge.storage
        assert "Home app" not in seen.report.bridge.storage
        await eventually(lambda: WHY in daemon.told[-1])
        full(False)


@pytest.mark.usefixtures("folder_of_files")
async def test_a_daemon_that_can_write_says_nothing(daemon: RealDaemon) -> None:
    async with daemon.served(FILES | WEB):
        assert await storage(daemon) == ""
        assert "write" not in "".join(daemon.told)
