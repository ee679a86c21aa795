"""Plays a world with several hosts, from its boot to its end."""

import asyncio
from typing import Final
from unittest import mock

from tests.world.files import parsed_by_root
from tests.world.hosts_checks import HOSTS_CHECKS
from tests.world.hosts_operations import HostsOperations
from tests.world.hosts_reference import HostsReference
from tests.world.hosts_world import HostsWorld
from tests.world.processes import make_task, number
from tests.world.random_source import RandomSource
from tests.world.seed_run import SeedRun

OPERATIONS: Final = 25
CHECKPOINTS: Final = 2


async def play_hosts(seed_run: SeedRun) -> None:
    """Play several hosts; raises `Violation`."""
    loop = asyncio.get_running_loop()
    loop.set_task_factory(make_task)
    chance = RandomSource.of(seed_run.seed)
    world = HostsWorld(chance, seed_run.note)
    clock, numbers = mock.patch("time.time", world.unix_seconds), mock.patch("os.getpid", number)
    rules = mock.patch("hkswitch.serviceswitch.policy.parse", parsed_by_root)
    memory = mock.patch("hkswitch.systemd.resources.memory_bytes", world.machine.systemd.memory_of)
    ssh = mock.patch("hkswitch.backend.child_process.execute", world.execute)
    # What this process works takes no virtual time.
    work = mock.patch("hkswitch.backend.paced_input.thread_time", return_value=0.0)
    with clock, numbers, rules, memory, work, ssh:
        world.boot()
        operations, reference = HostsOperations(world), HostsReference(world)
        watching = asyncio.create_task(reference.look_again_and_again())
        await asyncio.sleep(chance.seconds(0, 6))
        for _ in range(CHECKPOINTS):
            for _ in range(OPERATIONS):
                await operations.run_one()
                seed_run.steps += 1
                reference.look()
                if reference.violation is not None:
                    raise reference.violation
                if seed_run.failure:
                    return
            for check in HOSTS_CHECKS:
                await check(world, operations, reference)
                seed_run.steps += 1
                if reference.violation is not None:
                    raise reference.violation
        watching.cancel()
        await world.end()
