"""A reload on a full disk says what phones are not told; what it could not do is done when there is room."""

import asyncio
import errno
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from hkswitch.control import STATE_FOLDER
from hkswitch.daemon import serving
from hkswitch.daemon.notify import Notifier
from hkswitch.daemon.service import _Service
from hkswitch.hap import state_writer
from hkswitch.model.config import BridgeConfig, Config
from hkswitch.model.group import Group
from hkswitch.model.unit_state import GroupState
from tests.support.accessory_database import bridge_of, pair
from tests.support.fake_systemd import FakeSystemd, Unit
from tests.support.fixtures import bus_address, fake, systemd_on_bus
from tests.support.full_disk import filling
from tests.support.ports import LOOPBACK
from tests.support.real_daemon import RealDaemon
from tests.support.waiting import eventually

__all__ = ["bus_address", "fake", "systemd_on_bus"]

pytestmark = pytest.mark.asyncio(loop_scope="module")

FILES: dict[str, Any] = {"files": {"units": ["smb"]}}
WEB: dict[str, Any] = {"web": {"units": ["httpd"]}}
RENAMED: dict[str, Any] = {"files": {"units": ["smb"], "name": "Fotos"}}
OFF = GroupState.OFF
WHY = os.strerror(errno.ENOSPC)

SMB, HTTPD = Group("files", "Files", ("smb.service",)), Group("web", "Web", ("httpd.service",))


@pytest.fixture(autouse=True)
def units(fake: FakeSystemd) -> Iterator[None]:
    fake.reset(Unit("smb.service"), Unit("httpd.service"))
    yield
    fake.release_lists()


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Fill the disk, or make room again, which the bridge finds soon."""
    monkeypatch.setattr(state_writer, "WRITE_AGAIN_SECONDS", 0.1)
    return filling(monkeypatch, WHY)


async def test_a_reload_that_was_refused_for_want_of_room_is_done_when_there_is_room(
    daemon: RealDaemon, full: Callable[[bool], None], caplog: pytest.LogCaptureFixture
) -> None:
    pair(bridge_of(daemon.state_folder, SMB))
    async with daemon.served(FILES):
        version = daemon.front.config_version
        full(True)
        daemon.write(FILES | WEB)
        said = await daemon.reload()
        assert said.endswith("hkswitch then reloads automatically")
        assert (await daemon.states()).keys() == {"files"}
        assert "reloads automatically" in await daemon.config_problem()
        with caplog.at_level(logging.INFO):
            full(False)
            await daemon.until_states(files=OFF, web=OFF)
        assert await daemon.config_problem() == ""
        assert daemon.front.config_version > version
        assert "reloading again: the last reload could not write the bridge's state" in caplog.messages
        await eventually(lambda: WHY not in daemon.told[-1])


async def test_what_is_applied_then_is_the_configuration_of_that_moment(
    daemon: RealDaemon, full: Callable[[bool], None]
) -> None:
    pair(bridge_of(daemon.state_folder, SMB))
    async with daemon.served(FILES):
        full(True)
        daemon.write(FILES | WEB)
        assert WHY in await daemon.reload()
        daemon.config_file.write_text("groups: 1\n")
        full(False)
        await eventually(lambda: "must be" in daemon.told[-1])
        assert (await daemon.states()).keys() == {"files"}


@pytest.mark.parametrize("after", ["mistakes", "done"])
async def test_a_reload_that_failed_otherwise_or_was_done_meanwhile_is_not_done_again(
    daemon: RealDaemon, full: Callable[[bool], None], after: str
) -> None:
    pair(bridge_of(daemon.state_folder, SMB))
    async with daemon.served(FILES):
        full(True)
        daemon.write(FILES | WEB)
        assert WHY in await daemon.reload()
        if after == "mistakes":
            daemon.config_file.write_text("groups: 1\n")
            assert WHY not in await daemon.reload()
        else:
            daemon.write(FILES)
            assert WHY in await daemon.reload()  # of the state, in a note
        daemon.write(FILES | WEB)
        reloads = daemon.told.count("reloading")
        full(False)
        await eventually(lambda: not daemon.front.storage_problem)
        await eventually(lambda: WHY not in daemon.told[-1])
        assert (await daemon.states()).keys() == {"files"}
        assert daemon.told.count("reloading") == reloads


async def test_a_disk_with_room_for_the_old_state_alone_is_not_reloaded_for_again_and_again(
    daemon: RealDaemon, full: Callable[[bool], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    pair(bridge_of(daemon.state_folder, SMB))
    slept, really_sleep = list[float](), asyncio.sleep

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        await really_sleep(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    async with daemon.served(FILES):
        full(True)
        daemon.write(FILES | WEB)
        assert WHY in await daemon.reload()
        full(False)
        await daemon.until_states(files=OFF, web=OFF)
        await eventually(lambda: serving.RELOAD_AGAIN_SECONDS in slept)


@pytest.mark.parametrize("groups", [FILES, RENAMED | WEB], ids=["removed", "renamed"])
async def test_a_reload_that_phones_are_not_told_of_says_so(
    daemon: RealDaemon, full: Callable[[bool], None], groups: dict[str, Any]
) -> None:
    pair(bridge_of(daemon.state_folder, SMB, HTTPD))
    async with daemon.served(FILES | WEB):
        version = daemon.front.config_version
        full(True)
        daemon.write(groups)
        note = await daemon.reload()
        assert WHY in note
        assert note.endswith("no controller can be paired or removed; phones are not notified of changes")
        assert (await daemon.states()).keys() == groups.keys()
        assert daemon.front.config_version == version
        full(False)
        await eventually(lambda: daemon.front.config_version > version)
        assert daemon.front.storage_problem == ""


async def test_a_reload_that_changes_nothing_has_no_phone_to_tell(
    daemon: RealDaemon, full: Callable[[bool], None]
) -> None:
    pair(bridge_of(daemon.state_folder, SMB))
    async with daemon.served(FILES):
        full(True)
        assert await daemon.reload() == ""


async def test_a_start_counts_the_groups_that_are_served(
    tmp_path: Path, full: Callable[[bool], None], caplog: pytest.LogCaptureFixture
) -> None:
    pair(bridge_of(tmp_path, SMB))
    full(True)
    bridge = bridge_of(tmp_path, SMB, HTTPD)
    assert bridge.left_out == {"web"}
    service = _Service(Path("config.yaml"), STATE_FOLDER, Notifier({}))
    config = Config(BridgeConfig(), (SMB, HTTPD))
    with caplog.at_level(logging.INFO):
        service.serving(config, LOOPBACK, cast("Any", bridge), "")
        full(False)
        bridge._driver.writer.try_again()
        service.serving(config, LOOPBACK, cast("Any", bridge), "")
    served = [line.partition(" on ")[0] for line in caplog.messages if line.startswith("serving")]
    assert served == ["serving 1 of 2 groups", "serving 2 groups"]
    assert bridge.left_out == frozenset()
