"""A real bridge on loopback with simulated units, and a real controller that is paired with it."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from hkswitch.core.model import AccessoryType, Action, Group
from hkswitch.homekit.bridge import Bridge
from hkswitch.hosts.simulated import INACTIVE, SimulatedHost
from hkswitch.switchboard import Switchboard
from tests.support.controller import Controller
from tests.support.ports import free_port

GROUPS = (
    Group("fileserver", "File Server", ("smb.service", "nmb.service", "netatalk.service")),
    Group("web", "Web Server", ("httpd.service",)),
    Group("slow", "Slow Server", ("slow.service",)),
    Group("broken", "Broken Server", ("broken.service",)),
    Group("doomed", "Doomed Server", ("doomed.service",)),
    Group("outlet", "Some Outlet", ("outlet.service",), type=AccessoryType.OUTLET),
    Group("lamp", "Some Lamp", ("lamp.service",), type=AccessoryType.LIGHT),
    Group("fan", "Some Fan", ("fan.service",), type=AccessoryType.FAN),
    Group("kick", "Kick", ("kick.service",), actions=frozenset(Action), restart=True),
    Group("lag", "Lag", ("lag.service",), actions=frozenset(Action), restart=True),
)


@dataclass
class Served:
    """A bridge that is online."""

    bridge: Bridge
    switchboard: Switchboard
    host: SimulatedHost
    address: str
    port: int
    state_folder: Path

    def reset(self) -> None:
        """All units stopped, as after a boot."""
        self.host.change({unit: INACTIVE for group in GROUPS for unit in group.units})


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    state_folder = tmp_path_factory.mktemp("state")
    address, port = "127.0.0.1", free_port()
    host = SimulatedHost(
        GROUPS,
        job_seconds=0.05,
        slow={"slow.service": 1.5, "doomed.service": 1.5, "lag.service": 0.8},
        broken={"broken.service", "doomed.service"},
    )
    bridge = Bridge("Test Bridge", GROUPS, state_folder, (address,), port)
    switchboard = Switchboard(GROUPS, host, bridge)
    await host.open(switchboard)
    await bridge.start(switchboard)
    yield Served(bridge, switchboard, host, address, port, state_folder)
    await bridge.stop()
    await switchboard.close()
    await host.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def paired(served: Served) -> AsyncIterator[Controller]:
    controller = await Controller.pair(served.address, served.port, served.bridge.setup.code)
    yield controller
    await controller.close()


@pytest_asyncio.fixture(loop_scope="module")
async def controller(paired: Controller, served: Served) -> AsyncIterator[Controller]:
    """A fresh connection, subscribed, with every unit stopped."""
    served.reset()
    fresh = paired.again()
    await fresh.subscribe()
    yield fresh
    await fresh.close()


@pytest_asyncio.fixture(loop_scope="module")
async def other(paired: Controller) -> AsyncIterator[Controller]:
    """A second connection."""
    fresh = paired.again()
    await fresh.subscribe()
    yield fresh
    await fresh.close()
