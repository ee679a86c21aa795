"""A real bridge on loopback with simulated units, and a real controller that is paired with it."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from hkswitch.backend.simulated import INACTIVE, SimulatedHost
from hkswitch.daemon.alerts import Alerts
from hkswitch.daemon.bridge import Bridge
from hkswitch.daemon.kept_alerts import alerts_file
from hkswitch.daemon.switchboard import Switchboard
from hkswitch.model.config import BridgeConfig, Config
from hkswitch.model.group import AccessoryType, Group
from hkswitch.model.switch_events import Tile
from hkswitch.model.unit_state import Action
from tests.support.board_observer import ObservingBoard
from tests.support.controller import Controller
from tests.support.ports import LOOPBACK, free_port
from tests.support.raw_session import RawSession, raw_session
from tests.world.http_reader import request

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
    alerts: Alerts | None = None

    @classmethod
    async def start(cls, state_folder: Path, host: SimulatedHost, groups: tuple[Group, ...]) -> "Served":
        """Create a bridge and bring it online."""
        port = free_port()
        bridge = Bridge("Test Bridge", groups, state_folder, port)
        alerts = Alerts(Config(BridgeConfig(), groups), host, bridge, alerts_file(state_folder))
        switchboard = ObservingBoard(groups, host, bridge, alerts.request_failed)
        switchboard.alerts = alerts
        await host.open(switchboard)
        await bridge.start(switchboard, LOOPBACK)
        return cls(bridge, switchboard, host, LOOPBACK.addresses[0], port, state_folder, alerts)

    async def stop(self) -> None:
        """Take it offline."""
        await self.bridge.stop()
        await self.switchboard.close()
        if self.alerts is not None:
            await self.alerts.close()
        await self.host.close()

    async def pair(self) -> Controller:
        """Return a controller that pairs with it."""
        return await Controller.pair(self.address, self.port, self.bridge.setup.code)

    def reset(self) -> None:
        """Stop all units, as after a boot."""
        self.host.change({unit: INACTIVE for group in GROUPS for unit in group.units})


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    host = SimulatedHost(
        GROUPS,
        job_seconds=0.05,
        slow={"slow.service": 1.5, "doomed.service": 1.5, "lag.service": 0.8},
        broken={"broken.service", "doomed.service"},
    )
    served = await Served.start(tmp_path_factory.mktemp("state"), host, GROUPS)
    yield served
    await served.stop()


@pytest_asyncio.fixture(loop_scope="module")
async def unpaired(tmp_path: Path) -> AsyncIterator[Served]:
    """An unpaired bridge for one test."""
    own = await Served.start(tmp_path, SimulatedHost(GROUPS[1:2]), GROUPS[1:2])
    yield own
    await own.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def paired(served: Served) -> AsyncIterator[Controller]:
    controller = await served.pair()
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


# A raw controller, paired with the bridge of the test file's fixture `known`


@pytest_asyncio.fixture(loop_scope="module")
async def raw(known: Served) -> AsyncIterator[RawSession]:
    """A verified connection, with every unit stopped."""
    known.host.change({unit: INACTIVE for group in known.host.groups for unit in group.units})
    async with raw_session(known.address, known.port) as session:
        yield session


def on(known: Served, group: str, **item: Any) -> dict[str, Any]:  # noqa: ANN401 -- JSON
    """An item of a request for the On of a group."""
    tile = known.bridge._tiles[group, Tile.GROUP]
    return {"aid": tile.aid, "iid": tile.iid_manager.get_iid(tile.on), **item}


def put(*items: dict[str, Any], **more: Any) -> bytes:  # noqa: ANN401 -- JSON
    return request("PUT", "/characteristics", {"characteristics": items, **more})
