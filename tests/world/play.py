"""Plays the world of a seed from its boot to its end, and keeps a trace of it.

Two seeds in eight are a bridge and its disk, and one has controllers that speak HAP.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Final
from unittest import mock

from tests.world.chance import Chance
from tests.world.files import parsed_by_root
from tests.world.happenings import Happenings
from tests.world.play_state import play_state
from tests.world.played import Played, played_by
from tests.world.processes import make_task, number
from tests.world.reach import Direct, Hap, Reach
from tests.world.rest import check_calm, check_edited, check_last_wish, check_nobody_notices, check_rest
from tests.world.watcher import Watcher
from tests.world.world import World

OPERATIONS: Final = 25
"""Between two rests."""

RESTS: Final = 2

CHECKS: Final = (check_rest, check_calm, check_last_wish, check_nobody_notices, check_edited)
"""What is looked at in a rest."""


def play(seed: int) -> Played:
    """Play it; `failure` is what was wrong, if anything was."""
    match seed % 8:
        case 2 | 6:
            return played_by(seed, play_state)
        case 3:
            return played_by(seed, partial(_play, kind=Hap))
    return played_by(seed, partial(_play, kind=Direct))


async def _play(played: Played, kind: Callable[[Chance], Reach]) -> None:
    loop = asyncio.get_running_loop()
    loop.set_task_factory(make_task)
    chance = Chance.of(played.seed)
    world = World(chance, played.note, kind(chance))
    clock, numbers = mock.patch("time.time", world.unix_seconds), mock.patch("os.getpid", number)
    rules = mock.patch("hkswitch.serviceswitch.policy.parse", parsed_by_root)
    with clock, numbers, rules, world.reach.around():
        world.boot()
        happenings = Happenings(world)
        watcher = Watcher(world)
        watching = asyncio.create_task(watcher.look_again_and_again())
        await asyncio.sleep(chance.seconds(0, 6))
        for _ in range(RESTS):
            happenings.begin()
            for _ in range(OPERATIONS):
                await happenings.happen()
                played.steps += 1
                watcher.look()
                if watcher.violation is not None:
                    raise watcher.violation
                if played.failure:
                    return
            for check in CHECKS:
                await check(world)
                played.steps += 1
            if watcher.violation is not None:
                raise watcher.violation
        watching.cancel()
        await world.end()
