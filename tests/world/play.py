"""Plays the world of a seed from its boot to its end, and keeps a trace of it."""

import asyncio
import logging
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final
from unittest import mock

from tests.world import loop as virtual
from tests.world.chance import Chance
from tests.world.invariants import Violation, check_step
from tests.world.processes import make_task, number
from tests.world.rest import check_calm, check_edited, check_rest
from tests.world.watcher import Watcher
from tests.world.world import World

OPERATIONS: Final = 25
"""Between two rests."""

RESTS: Final = 2


@dataclass
class Played:
    """One seed, and what happened in its world."""

    seed: int
    trace: list[str] = field(default_factory=list)
    failure: str = ""
    """What was wrong, and where if it is a defect of another kind."""
    steps: int = 0

    def note(self, text: str) -> None:
        """A line of the trace."""
        now_seconds = asyncio.get_running_loop().time()
        self.trace.append(f"{now_seconds:10.4f}  {text}")


class _Log(logging.Handler):
    """Log lines belong into the trace."""

    def __init__(self, played: Played) -> None:
        super().__init__()
        self._played = played

    def emit(self, record: logging.LogRecord) -> None:
        self._played.note(f"    log: {record.getMessage()}")
        if record.exc_info and record.exc_info[1] is not None:
            text = "".join(traceback.format_exception(record.exc_info[1]))
            self._played.failure = self._played.failure or f"a traceback in the log:\n{text}"


def play(seed: int, *, operations: int = OPERATIONS, rests: int = RESTS) -> Played:
    """Play it; `failure` is what was wrong, if anything was."""
    played = Played(seed)
    with _logged(played):
        try:
            virtual.run(_play(played, operations, rests))
        except Violation as violation:
            played.failure = played.failure or str(violation)
        except Exception as error:  # noqa: BLE001 -- a defect of any kind is a find
            played.failure = played.failure or "".join(traceback.format_exception(error))
    return played


async def _play(played: Played, operations: int, rests: int) -> None:
    loop = asyncio.get_running_loop()
    loop.set_task_factory(make_task)
    chance = Chance.of(played.seed)
    world = World(chance, played.note)
    with mock.patch("time.time", world.unix_seconds), mock.patch("os.getpid", number):
        world.boot()
        watcher = Watcher(world)
        watching = asyncio.create_task(watcher.look_again_and_again())
        await asyncio.sleep(chance.seconds(0, 6))
        for _ in range(rests):
            for _ in range(operations):
                await world.happen()
                played.steps += 1
                check_step(world, loop.time())
                if watcher.violation is not None:
                    raise watcher.violation
                if played.failure:
                    return
            await check_rest(world)
            await check_calm(world)
            await check_edited(world)
            if watcher.violation is not None:
                raise watcher.violation
        watching.cancel()
        await world.end()


@contextmanager
def _logged(played: Played) -> Iterator[None]:
    handler, ours, others = _Log(played), logging.getLogger("hkswitch"), logging.getLogger("asyncio")
    kept = ours.level, ours.propagate
    ours.setLevel(logging.INFO)
    ours.propagate = False
    ours.addHandler(handler)
    others.addHandler(handler)
    try:
        yield
    finally:
        ours.removeHandler(handler)
        others.removeHandler(handler)
        ours.level, ours.propagate = kept
