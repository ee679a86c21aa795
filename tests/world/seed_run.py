"""Runs the world of a seed in virtual time, and records its trace, its log included."""

import asyncio
import logging
import traceback
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.world import loop as virtual


class Violation(AssertionError):
    """A violated invariant of the program."""


async def first_violation(look: Callable[[], None], every_seconds: float) -> Violation:
    """Look again and again; return what is wrong first."""
    while True:
        try:
            look()
        except Violation as violation:
            return violation
        await asyncio.sleep(every_seconds)


@dataclass
class SeedRun:
    """The run of one seed: its trace, and what failed."""

    seed: int
    trace: list[str] = field(default_factory=list)
    failure: str = ""
    """What failed, or the traceback of an unexpected error."""
    steps: int = 0

    def note(self, text: str) -> None:
        """Add a line to the trace."""
        now_seconds = asyncio.get_running_loop().time()
        self.trace.append(f"{now_seconds:10.4f}  {text}")


class _Log(logging.Handler):
    """Adds log lines to the trace."""

    def __init__(self, seed_run: SeedRun) -> None:
        super().__init__()
        self._seed_run = seed_run

    def emit(self, record: logging.LogRecord) -> None:
        self._seed_run.note(f"    log: {record.getMessage()}")
        if record.exc_info and record.exc_info[1] is not None:
            text = "".join(traceback.format_exception(record.exc_info[1]))
            self._seed_run.failure = self._seed_run.failure or f"a traceback in the log:\n{text}"


def run_seed(seed: int, player: Callable[[SeedRun], Coroutine[Any, Any, None]]) -> SeedRun:
    """Run a seed in virtual time, with the log in its trace."""
    seed_run = SeedRun(seed)
    with _logged(seed_run):
        try:
            virtual.run(player(seed_run))
        except Violation as violation:
            seed_run.failure = seed_run.failure or str(violation)
        except Exception as error:  # noqa: BLE001 -- a defect of any kind is a find
            seed_run.failure = seed_run.failure or "".join(traceback.format_exception(error))
    return seed_run


@contextmanager
def _logged(seed_run: SeedRun) -> Iterator[None]:
    handler, ours, others = _Log(seed_run), logging.getLogger("hkswitch"), logging.getLogger("asyncio")
    level, passes_on = ours.level, ours.propagate
    ours.setLevel(logging.INFO)
    ours.propagate = False
    ours.addHandler(handler)
    others.addHandler(handler)
    try:
        yield
    finally:
        ours.removeHandler(handler)
        others.removeHandler(handler)
        ours.propagate = passes_on
        ours.setLevel(level)
