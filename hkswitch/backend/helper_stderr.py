"""The standard error of helpers, and of the programs that start them: kept, and logged. No other I/O.

The number and the length of its lines are limited, and they are made printable. Each retry of a helper that
cannot start prints the same lines: they are logged once.
"""

import logging
from collections import deque
from typing import Final

from hkswitch.backend.host_log import prefix_of
from hkswitch.backend.ssh_reasons import is_noise
from hkswitch.model.printable import printable

MOST_KEPT: Final = 20
LONGEST_STDERR_LINE: Final = 300
MOST_KNOWN: Final = 200
PERIOD_SECONDS: Final = 10
MOST_LOGGED: Final = 40
"""Lines in a period."""

OF_ANOTHER_HOST_SECONDS: Final = 600
"""The period of another host, which may write whatever it likes for years."""

_log = logging.getLogger(__name__)


class HelperStderr:
    """The lines of successive helpers, and the rate limit of their log."""

    def __init__(self, host: str = "") -> None:
        """`host` is empty for this machine."""
        self._prefix = prefix_of(host)
        self._period_seconds = OF_ANOTHER_HOST_SECONDS if host else PERIOD_SECONDS
        self._kept: deque[str] = deque(maxlen=MOST_KEPT)
        self._known: set[str] = set()
        self._until_seconds = 0.0
        self._logged = 0
        self._left_out = 0

    @property
    def lines(self) -> tuple[str, ...]:
        """The newest lines of this helper."""
        return tuple(self._kept)

    def begin(self) -> None:
        """Drop the earlier lines: a helper is being started, or is ready."""
        self._kept.clear()

    def forget(self) -> None:
        """Allow earlier lines to be logged again: that problem is over."""
        self._known.clear()

    def take(self, text: str, now_seconds: float, *, again: bool) -> None:
        """Keep a line and log it; a line that was logged before only if `again`."""
        line = printable(text.rstrip().expandtabs(), LONGEST_STDERR_LINE)
        if not line or is_noise(line):
            return
        self._kept.append(line)
        if line in self._known and not again:
            return
        if len(self._known) < MOST_KNOWN:
            self._known.add(line)
        if self._is_due(now_seconds):
            _log.warning("%s%s", self._prefix, line)

    def _is_due(self, now_seconds: float) -> bool:
        if now_seconds >= self._until_seconds:
            if self._left_out:
                left_out = "%ssuppressed lines of the helper's standard error: %d"
                _log.warning(left_out, self._prefix, self._left_out)
            self._until_seconds, self._logged, self._left_out = now_seconds + self._period_seconds, 0, 0
        self._logged += 1
        if self._logged > MOST_LOGGED:
            self._left_out += 1
        return self._logged <= MOST_LOGGED
