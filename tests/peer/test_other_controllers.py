"""Two controllers of other people's pair with a bridge, use it and unpair."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from tests.peer import packages
from tests.peer.peers import BridgeKind, ours
from tests.support.waiting import PATIENCE_SECONDS

HERE: Final = Path(__file__).parent
SWITCH: Final = "web"
SEEN: Final = {
    "wrongCode": True,
    "before": False,
    "after": True,
    "event": True,
    "beforeAdded": True,
    "second": "boolean",
    "secondLists": True,
    "afterRemoved": True,
    "afterUnpaired": True,
}
"""What a controller must see; the last ones are refusals."""


def hap_controller() -> list[str]:
    modules = packages.downloaded() / "node_modules"
    return [str(packages.node(modules)), str(HERE / "controller.js"), str(modules)]


def homekit() -> list[str]:
    """It is old, and its pins are not ours: it gets a venv of its own."""
    return [str(packages.venv() / "bin" / "python"), str(HERE / "controller_homekit.py")]


@pytest.mark.parametrize("controller", [hap_controller, homekit])
async def test_it_pairs_reads_writes_listens_adds_a_second_and_unpairs(
    controller: Callable[[], list[str]], tmp_path: Path
) -> None:
    command = await asyncio.to_thread(controller)
    async with ours(tmp_path) as bridges:
        at = bridges.bridges[BridgeKind.UNPAIRED]
        process = await asyncio.create_subprocess_exec(
            *command, at.address, str(at.port), at.code, SWITCH, stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None
        async with asyncio.timeout(2 * PATIENCE_SECONDS):
            assert await process.stdout.readline() == b"listening\n"
            seen = asyncio.create_task(process.stdout.readline())
            on = True
            while not seen.done():  # it may not have subscribed yet
                on = not on
                await bridges.change_externally(SWITCH, on=on)
                await asyncio.wait([seen], timeout=0.5)
            assert json.loads(await seen) == SEEN
            assert await process.wait() == 0
