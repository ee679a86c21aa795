"""Turns the debug log on and off, limits its lines, and formats those about switches.

Each module writes its own lines, with `logging.DEBUG`. Libraries write none: pyhap's lines contain keys.
"""

import logging
import time
from dataclasses import dataclass
from typing import Final

from hkswitch.model import switch_events
from hkswitch.model.printable import escaped, one_line
from hkswitch.model.switch_events import Decision, Observed
from hkswitch.model.unit_state import in_words

LONGEST_DEBUG_LINE: Final = 1000
"""Characters."""

DEBUG_PERIOD_SECONDS: Final = 60

MOST_DEBUG_LINES: Final = 600
"""Lines per period of each logger; there are about ten loggers."""

MOST_UNAUTHENTICATED_LINES: Final = 60
"""Lines per period about each unauthenticated device."""

MOST_ADDRESSES: Final = 16
"""Unauthenticated devices with lines of their own per period; all others share the lines of one."""

OTHERS: Final = ""
"""Stands for the addresses of those others."""

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
    probe = [f"probe {observed.probe_result}"] if observed.probe_result else []
    return ", ".join([*in_words(observed.units), *probe]) or "nothing yet"


def decided(decision: Decision) -> str:
    """Return a decision of a switch in a few words; empty for timers and for what is logged anyway."""
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
    """The lines of a logger, or about an address, in a period."""

    most: int
    until_seconds: float
    lines: int = 0


class DebugLimit(logging.Filter):
    """A filter that shortens the lines of the debug log, and drops those over a limit.

    Each logger has a limit. A record with an `address` is about an unauthenticated device, and counts for
    that instead: a device that floods the log hides neither controllers nor a phone that tries to pair.
    """

    def __init__(self) -> None:
        super().__init__()
        self._loggers: dict[str, _Count] = {}
        self._addresses: dict[str, _Count] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether to log a record; the first of a period also says how many the last one dropped."""
        if record.levelno > logging.DEBUG:
            return True
        now_seconds = time.monotonic()
        count = self._count_of(record, now_seconds)
        dropped = 0
        if now_seconds >= count.until_seconds:
            dropped = max(0, count.lines - count.most)
            count.until_seconds, count.lines = now_seconds + DEBUG_PERIOD_SECONDS, 0
        count.lines += 1
        if count.lines > count.most:
            return False
        text = escaped(one_line(record.getMessage()), LONGEST_DEBUG_LINE)
        record.msg, record.args = (
            f"{text} (dropped {dropped} earlier lines)" if dropped else text,
            None,
        )
        return True

    def _count_of(self, record: logging.LogRecord, now_seconds: float) -> _Count:
        until_seconds = now_seconds + DEBUG_PERIOD_SECONDS
        address: str | None = getattr(record, "address", None)
        if address is None:
            return self._loggers.setdefault(record.name, _Count(MOST_DEBUG_LINES, until_seconds))
        if address not in self._addresses and len(self._addresses) >= MOST_ADDRESSES:
            current = self._addresses.items()
            self._addresses = {name: count for name, count in current if count.until_seconds > now_seconds}
        known = address if address in self._addresses or len(self._addresses) < MOST_ADDRESSES else OTHERS
        return self._addresses.setdefault(known, _Count(MOST_UNAUTHENTICATED_LINES, until_seconds))
