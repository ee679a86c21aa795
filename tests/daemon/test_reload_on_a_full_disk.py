"""A reload whose accessories cannot be written: it fails, changes nothing, and can be tried again."""

import asyncio
import errno
import os
from collections.abc import Iterator

import pytest

from hkswitch.cli import reload
from hkswitch.model.errors import Exit, Failure
from hkswitch.model.group import Group
from hkswitch.model.unit_state import GroupState
from tests.support.accessory_database import bridge_of, pair
from tests.support.fake_systemd import FakeSystemd, Unit
from tests.support.fixtures import bus_address, fake, systemd_on_bus
from tests.support.real_daemon import RealDaemon

__all__ = ["bus_address", "fake", "systemd_on_bus"]

pytestmark = pytest.mark.asyncio(loop_scope="module")

FILES = {"files": {"units": ["smb"]}}
WEB = {"web": {"units": ["httpd"]}}


@pytest.fixture(autouse=True)
def units(fake: FakeSystemd) -> Iterator[None]:
    fake.reset(Unit("smb.service"), Unit("httpd.service"))
    yield
    fake.release_lists()


def full(_: int) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


async def test_a_reload_that_cannot_write_new_iids_fails_with_the_reason_and_works_when_there_is_room(
    daemon: RealDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair(bridge_of(daemon.state_folder, Group("files", "Files", ("smb.service",))))
    async with daemon.served(FILES):
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            daemon.write(FILES | WEB)
            with pytest.raises(Failure) as caught:
                await asyncio.to_thread(reload.request_reload, daemon.state_folder)
            said = str(caught.value)
            assert said.startswith("not reloaded: cannot write the bridge's state")
            assert "No space left on device; free space on that disk" in said
            assert said.endswith("hkswitch then reloads automatically")
            assert caught.value.exit_code is Exit.CANNOT_WRITE
            assert (await daemon.states()).keys() == {"files"}
        assert await daemon.reload() == ""
        await daemon.until_states(files=GroupState.OFF, web=GroupState.OFF)
