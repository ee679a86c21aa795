"""The log lines about the states of groups, limited for a group that changes again and again. No other I/O.

Such a group is in a crash loop, or on a host that lies. Its lines would fill the journal, and journald would
drop the lines of all others with them.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

MOST_STATE_LINES: Final = 20
"""Of a group, in `STATES_PERIOD_SECONDS`."""

STATES_PERIOD_SECONDS: Final = 60
CALM_AFTER_SECONDS: Final = 60
"""A group whose lines are left out is calm again when its state has not changed for so long."""


@dataclass(slots=True)
class _Lines:
    """The lines of a group: those of the period, which begins with a line, and those that were left out."""

    period_ends_seconds: float
    logged: int = 0
    left_out: int = 0
    newest: str = ""
    changed_seconds: float = 0.0
    calm: asyncio.TimerHandle | None = None
    """The timer that runs while lines are left out."""


class StateLines:
    """The log of the states of all groups."""

    def __init__(self, log: logging.Logger, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` returns monotonic seconds."""
        self._log = log
        self._clock = clock
        self._lines: dict[str, _Lines] = {}

    def write(self, level: int, group_id: str, state: str) -> None:
        """Log the state that a group has now, or leave it out."""
        if not self._log.isEnabledFor(level):
            return
        now_seconds = self._clock()
        lines = self._lines.get(group_id)
        if lines is None or (lines.calm is None and now_seconds >= lines.period_ends_seconds):
            lines = self._lines[group_id] = _Lines(now_seconds + STATES_PERIOD_SECONDS)
        lines.changed_seconds = now_seconds
        if lines.calm is not None:
            lines.left_out += 1
            lines.newest = state
            return
        lines.logged += 1
        self._log.log(level, "%s: %s", group_id, state)
        if lines.logged == MOST_STATE_LINES:
            said = "%s: %d changes of its state within a minute: the next ones are left out until it is calm"
            self._log.warning(said, group_id, MOST_STATE_LINES)
            self._look_again(lines, CALM_AFTER_SECONDS, group_id)

    def is_left_out(self, group_id: str) -> bool:
        """Return whether the lines of a group are left out now."""
        return (lines := self._lines.get(group_id)) is not None and lines.calm is not None

    def forget(self, group_id: str) -> None:
        """Drop what is known of a group that was removed."""
        if (lines := self._lines.pop(group_id, None)) is not None and lines.calm is not None:
            lines.calm.cancel()

    def close(self) -> None:
        """Log nothing later."""
        for group_id in tuple(self._lines):
            self.forget(group_id)

    def _look_again(self, lines: _Lines, seconds: float, group_id: str) -> None:
        lines.calm = asyncio.get_running_loop().call_later(seconds, self._calmed, group_id)

    def _calmed(self, group_id: str) -> None:
        """Log the last state of a group that has not changed for long enough, or wait for longer."""
        lines = self._lines[group_id]
        calm_seconds = self._clock() - lines.changed_seconds
        if calm_seconds < CALM_AFTER_SECONDS:
            self._look_again(lines, CALM_AFTER_SECONDS - calm_seconds, group_id)
            return
        del self._lines[group_id]
        if lines.left_out:
            changes = "1 change that was" if lines.left_out == 1 else f"{lines.left_out} changes that were"
            self._log.info("%s: %s (after %s left out)", group_id, lines.newest, changes)
