"""The lines that helpers, and the programs that start them, write to standard error. No I/O but the log.

Their number and size are limited, and only what can be printed is left of them. Each retry of a helper that
cannot start writes the same lines: the log has them once.
"""

import logging
from collections import deque
from typing import Final

from hkswitch.model.printable import printable

MOST_KEPT: Final = 20
LONGEST_LINE: Final = 300
MOST_KNOWN: Final = 200
PERIOD_SECONDS: Final = 10
MOST_LOGGED: Final = 40
"""Lines in a period."""

_log = logging.getLogger(__name__)


class Complaints:
    """The lines of one helper after the other."""

    def __init__(self) -> None:
        self._kept: deque[str] = deque(maxlen=MOST_KEPT)
        self._known: set[str] = set()
        self._until_seconds = 0.0
        self._logged = 0
        self._left_out = 0

    @property
    def lines(self) -> tuple[str, ...]:
        """The newest ones of this helper."""
        return tuple(self._kept)

    def begin(self) -> None:
        """Forget why something else ended: a helper is started now, or is ready."""
        self._kept.clear()

    def forget(self) -> None:
        """Log again what was logged: the trouble of before is over."""
        self._known.clear()

    def take(self, text: str, now_seconds: float, *, again: bool) -> None:
        """Keep a line, and log it; one that is known only if `again`."""
        line = printable(text.rstrip().expandtabs(), LONGEST_LINE)
        if not line:
            return
        self._kept.append(line)
        if line in self._known and not again:
            return
        if len(self._known) < MOST_KNOWN:
            self._known.add(line)
        if self._is_due(now_seconds):
            _log.warning("%s", line)

    def _is_due(self, now_seconds: float) -> bool:
        if now_seconds >= self._until_seconds:
            if self._left_out:
                _log.warning("%d more lines of the helper's standard error were left out", self._left_out)
            self._until_seconds, self._logged, self._left_out = now_seconds + PERIOD_SECONDS, 0, 0
        self._logged += 1
        if self._logged > MOST_LOGGED:
            self._left_out += 1
        return self._logged <= MOST_LOGGED
