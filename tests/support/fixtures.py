"""Fixtures that the helper's tests and the local host's tests share: a private bus with a fake systemd."""

import os
import shutil
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from tests.support.fake_systemd import FakeSystemd, private_bus

VARIABLE = "DBUS_SYSTEM_BUS_ADDRESS"


@pytest.fixture(scope="module")
def bus_address() -> Iterator[str]:
    """A private bus that serves as the system bus for this process and its children."""
    if shutil.which("dbus-daemon") is None:
        pytest.skip("needs dbus-daemon")
    with private_bus() as address, pytest.MonkeyPatch.context() as patch:
        patch.setitem(os.environ, VARIABLE, address)
        yield address


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def systemd_on_bus(bus_address: str) -> AsyncIterator[FakeSystemd]:
    fake = await FakeSystemd.on(bus_address)
    yield fake
    fake.bus.disconnect()


@pytest_asyncio.fixture(loop_scope="module")
async def fake(systemd_on_bus: FakeSystemd) -> FakeSystemd:
    """The fake systemd, with no units yet."""
    systemd_on_bus.reset()
    return systemd_on_bus
