"""The log has what a bridge that serves waits for besides, once per change, and the end of that."""

import asyncio
import logging
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from hkswitch.backend.simulated import SimulatedHost
from hkswitch.cli import reload
from hkswitch.control import socket_of
from hkswitch.daemon.notify import Notifier
from hkswitch.daemon.service import _Service, serve
from hkswitch.model.config import BridgeConfig
from hkswitch.model.errors import Failure
from hkswitch.network.choice import NoAddress
from hkswitch.network.endpoint import Endpoint
from tests.support.ports import free_port
from tests.support.waiting import PATIENCE_SECONDS, eventually

ALL = Endpoint(("127.0.0.1",), frozenset())
MORE = Endpoint(("127.0.0.1", "127.0.0.2"), frozenset())
NO_ETH7 = replace(ALL, lack="eth7: there is no interface eth7")
DOWN_ETH7 = replace(ALL, lack="eth7: the interface eth7 is down")
NOWHERE = NoAddress("the interface eth0 is down", "eth0")

SERVING, SERVING_MORE = "serving ADDRESS", "serving ADDRESS, 127.0.0.2"
WAITING = "waiting for eth7: there is no interface eth7"
WAITING_UP = "waiting for eth7: the interface eth7 is down"
WAITING_ALL = "waiting for eth0: the interface eth0 is down"
AGAIN = "no longer waiting for eth7"


@dataclass
class Service(_Service):
    """The service, on a network that a test makes."""

    found: Endpoint | Failure = ALL

    def find(self, bridge: BridgeConfig, before: Endpoint | None) -> Endpoint:
        del bridge, before
        if isinstance(self.found, Failure):
            raise self.found
        return self.found


@asynccontextmanager
async def served(folder: Path, found: Endpoint = ALL) -> AsyncIterator[Service]:
    file = folder / "config.yaml"
    file.write_text(f"bridge: {{port: {free_port()}}}\ngroups: {{web: {{units: [httpd]}}}}\n")
    service = Service(file, folder / "state", Notifier({}), found=found)
    config = await service.read()
    running = asyncio.create_task(serve(config, SimulatedHost(config.groups), service.state_folder, service))
    await eventually(lambda: running.done() or socket_of(service.state_folder).exists())
    try:
        yield service
    finally:
        if not running.done():
            os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(running, PATIENCE_SECONDS)


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was logged about the network; a serving line by its addresses only."""
    lines = [each.getMessage() for each in caplog.records if each.name.startswith("hkswitch.daemon.")]
    told = [line for line in lines if line.startswith(("serving", "waiting", "no longer", "trying"))]
    return [
        "serving" + line.partition(" on")[2].partition(", port")[0].replace("127.0.0.1", "ADDRESS")
        if line.startswith("serving")
        else line
        for line in told
    ]


@pytest.mark.parametrize(
    ("found", "lines"),
    [
        pytest.param([ALL, ALL], [], id="everywhere, as before"),
        pytest.param([NO_ETH7], [WAITING], id="one of two is not there"),
        pytest.param([NO_ETH7, NO_ETH7, NO_ETH7], [WAITING], id="still not there"),
        pytest.param([NO_ETH7, DOWN_ETH7], [WAITING, WAITING_UP], id="for another reason"),
        pytest.param([NO_ETH7, ALL], [WAITING, AGAIN], id="there again, and it stays where it is"),
        pytest.param([NO_ETH7, MORE], [WAITING, SERVING_MORE, AGAIN], id="there again, with an address"),
        pytest.param([MORE, NO_ETH7], [SERVING_MORE, SERVING, WAITING], id="one of two goes away"),
        pytest.param([NO_ETH7, NOWHERE], [WAITING, WAITING_ALL], id="the other one goes away too"),
        pytest.param([NOWHERE, ALL], [WAITING_ALL, SERVING], id="nowhere, then everywhere"),
        pytest.param([NOWHERE, NO_ETH7], [WAITING_ALL, SERVING, WAITING], id="nowhere, then on one of two"),
    ],
)
async def test_what_a_bridge_waits_for_is_logged_once_per_change(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, found: list[Endpoint | Failure], lines: list[str]
) -> None:
    caplog.set_level(logging.INFO)
    async with served(tmp_path) as service:
        await eventually(lambda: said(caplog) == [SERVING])
        caplog.clear()
        for service.found in found:
            await asyncio.to_thread(reload.request_reload, service.state_folder)
        assert said(caplog) == lines


async def test_a_start_on_one_of_two_warns_of_the_other(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with served(tmp_path, NO_ETH7):
        await eventually(lambda: said(caplog) == [SERVING, WAITING])
    waits = [each for each in caplog.records if each.getMessage() == WAITING]
    assert [each.levelno for each in waits] == [logging.WARNING]
