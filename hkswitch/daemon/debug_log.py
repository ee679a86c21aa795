"""Turns the debug log on and off, limits its lines, and words those about switches.

Each module writes its own lines, with `logging.DEBUG`. Libraries have no part in it: pyhap's lines have keys.
"""

import logging
import time
from dataclasses import dataclass
from typing import Final

from hkswitch.model import switch_events
from hkswitch.model.printable import printable_line
from hkswitch.model.switch_events import Decision, Observed

LONGEST_DEBUG_LINE: Final = 1000
"""Characters."""

DEBUG_PERIOD_SECONDS: Final = 60

MOST_DEBUG_LINES: Final = 600
"""In a period, from each logger: there are about ten."""

MOST_UNAUTHENTICATED_LINES: Final = 60
"""In a period, about devices that have not authenticated; they have loggers of their own."""

UNAUTHENTICATED: Final = ".unauthenticated"

_ours: Final = logging.getLogger("hkswitch")
_log = logging.getLogger(__name__)


def turn(*, on: bool) -> None:
    """Turn the debug log on or off."""
    _ours.setLevel(logging.DEBUG if on else logging.INFO)


def toggle() -> None:
    """Turn the debug log off if it is on, and on if it is off; say so in the log."""
    on = not _ours.isEnabledFor(logging.DEBUG)
    turn(on=on)
    _log.info("debug log: %s", "on" if on else "off")


def described(observed: Observed) -> str:
    """Return the state of a group in a few words."""
    if observed.units is None:
        return f"unknown: {observed.why}"
    states = [f"{name}={state.active}/{state.sub}" for name, state in observed.units.items()]
    return (
        ", ".join([*states, f"probe {observed.probe_result}"] if observed.probe_result else states)
        or "nothing yet"
    )


def decided(decision: Decision) -> str:
    """Return a decision of a switch in a few words; nothing for timers, and for what is logged anyway."""
    match decision:
        case switch_events.Send(number, action):
            return f"request {number}: {action}"
        case switch_events.Answer(number, ok):
            return f"write {number}: {'success' if ok else 'failure'}"
        case switch_events.Show(on, tile=tile):
            return f"show {tile.value} {'on' if on else 'off'}"
        case switch_events.Available(available):
            return "readable" if available else "not readable: No Response"
    return ""


@dataclass(slots=True)
class _Count:
    """The lines of a logger in a period."""

    until_seconds: float = 0.0
    lines: int = 0


class DebugLimit(logging.Filter):
    """Shortens the lines of the debug log, and drops those of a logger that has too many."""

    def __init__(self) -> None:
        super().__init__()
        self._counts: dict[str, _Count] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to log a record; the first line of a period says how many were dropped in the last one."""
        if record.levelno > logging.DEBUG:
            return True
        most = MOST_UNAUTHENTICATED_LINES if record.name.endswith(UNAUTHENTICATED) else MOST_DEBUG_LINES
        count, now_seconds = self._counts.setdefault(record.name, _Count()), time.monotonic()
        dropped = 0
        if now_seconds >= count.until_seconds:
            dropped = max(0, count.lines - most)
            count.until_seconds, count.lines = now_seconds + DEBUG_PERIOD_SECONDS, 0
        count.lines += 1
        if count.lines > most:
            return False
        text = printable_line(record.getMessage(), LONGEST_DEBUG_LINE)
        record.msg, record.args = (
            f"{text} (dropped {dropped} earlier lines)" if dropped else text,
            None,
        )
        return True
