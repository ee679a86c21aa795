"""Plays the world of a seed from its boot to its end, and keeps a trace of it.

Of eight seeds, one has controllers that speak HAP, and one has containers. Of sixteen, one is a bridge and
its disk, one has alerts and rules, and one has several hosts.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Final
from unittest import mock

from tests.world.controller_access import ControllerAccess, DirectAccess, HapAccess
from tests.world.engine_checks import check_engine_trouble
from tests.world.files import parsed_by_root
from tests.world.operations import Operations
from tests.world.play_hosts import play_hosts
from tests.world.play_state import play_state
from tests.world.processes import make_task, number
from tests.world.quiescence import (
    check_calm,
    check_edited,
    check_helper_restart_unnoticed,
    check_last_request,
    check_quiescence,
    check_troubles,
)
from tests.world.random_source import RandomSource
from tests.world.seed_run import SeedRun, run_seed
from tests.world.watcher import Watcher
from tests.world.world import World

OPERATIONS: Final = 25
"""Operations between two checks of the quiescent world."""

CHECKPOINTS: Final = 2

OF_TROUBLE: Final = 12
"""Of sixteen seeds, this one has alerts and rules."""

OF_HOSTS: Final = 10
"""And this one has several hosts."""

CHECKS: Final = (
    check_quiescence,
    check_troubles,
    check_calm,
    check_last_request,
    check_helper_restart_unnoticed,
    check_engine_trouble,
    check_edited,
)
"""The checks of a quiescent world."""


def play(seed: int) -> SeedRun:
    """Play a seed; `failure` says what was wrong, if anything."""
    if seed % 16 == OF_HOSTS:
        return run_seed(seed, play_hosts)
    if seed % 16 == OF_TROUBLE:
        kind = HapAccess if seed % 3 == 0 else DirectAccess
        return run_seed(seed, partial(_play, kind=kind, has_alerts=True))
    match seed % 8:
        case 2:
            return run_seed(seed, play_state)
        case 6:
            return run_seed(seed, partial(_play, kind=DirectAccess, has_engines=True))
        case 3:
            return run_seed(seed, partial(_play, kind=HapAccess))
    return run_seed(seed, partial(_play, kind=DirectAccess))


async def _play(
    seed_run: SeedRun,
    kind: Callable[[RandomSource], ControllerAccess],
    *,
    has_engines: bool = False,
    has_alerts: bool = False,
) -> None:
    loop = asyncio.get_running_loop()
    loop.set_task_factory(make_task)
    chance = RandomSource.of(seed_run.seed)
    world = World(chance, seed_run.note, kind(chance), has_engines, has_alerts)
    clock, numbers = mock.patch("time.time", world.unix_seconds), mock.patch("os.getpid", number)
    rules = mock.patch("hkswitch.serviceswitch.policy.parse", parsed_by_root)
    memory = mock.patch("hkswitch.systemd.resources.memory_bytes", world.machine.systemd.memory_of)
    with clock, numbers, rules, memory, world.access.around():
        world.machine.engines.begin()
        world.boot()
        operations = Operations(world)
        watcher = Watcher(world)
        watching = asyncio.create_task(watcher.look_again_and_again())
        await asyncio.sleep(chance.seconds(0, 6))
        for _ in range(CHECKPOINTS):
            operations.begin()
            for _ in range(OPERATIONS):
                await operations.run_one()
                seed_run.steps += 1
                watcher.look()
                if watcher.violation is not None:
                    raise watcher.violation
                if seed_run.failure:
                    return
            for check in CHECKS:
                await check(world)
                seed_run.steps += 1
            if watcher.violation is not None:
                raise watcher.violation
        watching.cancel()
        await world.end()
