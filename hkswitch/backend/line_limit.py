"""A limit on log lines that another program causes at will. Pure: no I/O."""

from enum import Enum, auto


class Verdict(Enum):
    """What becomes of a line."""

    LOG = auto()
    LOG_AS_LAST = auto()
    """Log it, and say that the next ones are left out."""
    LEAVE_OUT = auto()


class LineLimit:
    """A limit on the lines in each period, which begins with a line."""

    def __init__(self, most: int, period_seconds: float) -> None:
        """`most` lines are logged in each period."""
        self._most = most
        self._period_seconds = period_seconds
        self._until_seconds = float("-inf")
        self._logged = 0

    def judge(self, now_seconds: float) -> Verdict:
        """Decide about one more line; `now_seconds` must be monotonic."""
        if now_seconds >= self._until_seconds:
            self._until_seconds, self._logged = now_seconds + self._period_seconds, 0
        self._logged += 1
        if self._logged == self._most:
            return Verdict.LOG_AS_LAST
        return Verdict.LOG if self._logged < self._most else Verdict.LEAVE_OUT
