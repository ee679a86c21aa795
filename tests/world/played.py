"""What came of a seed, and how it is played: in virtual time, with all that is logged in the trace."""

import asyncio
import logging
import traceback
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.world import loop as virtual


class Violation(AssertionError):
    """The program was wrong."""


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


def played_by(seed: int, player: Callable[[Played], Coroutine[Any, Any, None]]) -> Played:
    """Have it played in virtual time, with all that is logged in the trace."""
    played = Played(seed)
    with _logged(played):
        try:
            virtual.run(player(played))
        except Violation as violation:
            played.failure = played.failure or str(violation)
        except Exception as error:  # noqa: BLE001 -- a defect of any kind is a find
            played.failure = played.failure or "".join(traceback.format_exception(error))
    return played


@contextmanager
def _logged(played: Played) -> Iterator[None]:
    handler, ours, others = _Log(played), logging.getLogger("hkswitch"), logging.getLogger("asyncio")
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
