"""Plays a bridge and its disk: many more steps a second than a whole world."""

import asyncio
from typing import Final

from tests.world.disk import Disk, Killed
from tests.world.disk_calls import mounted
from tests.world.network import SimulatedNetwork
from tests.world.pairing import without_arithmetic
from tests.world.processes import make_task
from tests.world.random_source import RandomSource
from tests.world.seed_run import SeedRun
from tests.world.state_world import StateWorld

STEPS: Final = 120


async def play_state(seed_run: SeedRun) -> None:
    """Play a bridge and its disk; raises `Violation`."""
    loop = asyncio.get_running_loop()
    loop.set_task_factory(make_task)
    loop.set_exception_handler(_but_for_killed)
    chance, air = RandomSource.of(seed_run.seed), SimulatedNetwork()
    disk = Disk(chance)
    with mounted(disk) as folder, air.around(), without_arithmetic():
        world = StateWorld(chance, seed_run.note, folder, disk, air)
        for _ in range(STEPS):
            await world.run_one()
            seed_run.steps += 1
            world.invariants.check()
            if seed_run.failure:
                return
        await world.end()


def _but_for_killed(loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
    """What a process that is dead leaves behind is no defect."""
    if not isinstance(context.get("exception"), Killed):
        loop.default_exception_handler(context)
