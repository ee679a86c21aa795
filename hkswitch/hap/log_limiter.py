"""Limits log lines about devices on the network, by source and by kind, and summarises the rest."""

import asyncio
import logging
import re
from collections import Counter
from typing import Final

LOG_INTERVAL_SECONDS: Final = 60.0
MOST_SOURCES: Final = 16
"""Lines of one kind per minute, each about a different source. Further sources are only counted."""

MOST_KINDS: Final = 32
MOST_COUNTED: Final = 1_000


class RateLimitedLog:
    """A logger for events that devices can cause at will: it skips lines, and later logs how many."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._limiter = LogRateLimiter()
        self._summing_up: asyncio.TimerHandle | None = None

    def log_warning(self, address: str, what: str) -> None:
        """Log what an address did, if the limits allow it.

        Lines that begin with the same words are of one kind. So `what` must not begin with text from a
        device, which could then create any number of kinds.
        """
        loop = asyncio.get_running_loop()
        line = f"{address}: {what}"
        if self._limiter.may_log(address, loop.time(), _first_words(what), line):
            self._log.warning("%s", line)
        self._plan(loop)

    def close(self) -> None:
        """Drop the pending summaries."""
        if self._summing_up is not None:
            self._summing_up.cancel()
            self._summing_up = None  # a bridge that failed to start uses this log again

    def _plan(self, loop: asyncio.AbstractEventLoop) -> None:
        due_seconds = self._limiter.due_seconds
        if self._summing_up is None and due_seconds is not None:
            self._summing_up = loop.call_at(due_seconds, self._sum_up, loop)

    def _sum_up(self, loop: asyncio.AbstractEventLoop) -> None:
        self._summing_up = None
        for number, line in self._limiter.suppressed(loop.time()):
            self._log.warning("%s more addresses in the last minute, for example %s", number, line)
        self._plan(loop)


class LogRateLimiter:
    """A limit of one line a minute for each source, and of a few sources for each kind of line.

    It counts the other sources. A device can use any number of addresses, and the lines about them must not
    hide lines of other kinds.
    """

    def __init__(self) -> None:
        self._until_seconds: dict[int, tuple[float, str]] = {}
        """The time until which each source is silenced, and the kind of its line, by hash of the source.
        Ordered by time."""
        self._lines: Counter[str] = Counter()
        self._suppressed: dict[str, SuppressedSources] = {}

    def may_log(self, source: str, now_seconds: float, kind: str = "", line: str = "") -> bool:
        """Return whether to log a line about a source; `now_seconds` must be monotonic.

        The last suppressed line of each kind is kept as an example.
        """
        for known, (until_seconds, its_kind) in list(self._until_seconds.items()):
            if until_seconds > now_seconds:
                break
            del self._until_seconds[known]
            self._lines[its_kind] -= 1
        hashed = hash(source)
        if hashed in self._until_seconds:
            return False
        if kind not in self._lines and len(self._lines) >= MOST_KINDS:
            self._lines = +self._lines  # drop the kinds without a current line
            kind = kind if len(self._lines) < MOST_KINDS else ""
        if self._lines[kind] >= MOST_SOURCES:
            self._suppressed.setdefault(kind, SuppressedSources(now_seconds + LOG_INTERVAL_SECONDS)).add(
                hashed, line
            )
            return False
        self._until_seconds[hashed] = now_seconds + LOG_INTERVAL_SECONDS, kind
        self._lines[kind] += 1
        return True

    def suppressed(self, now_seconds: float) -> list[tuple[str, str]]:
        """Return, for each kind that is due, how many sources were suppressed and an example.

        A kind is due once a minute.
        """
        due = {kind: left for kind, left in self._suppressed.items() if left.due_seconds <= now_seconds}
        for kind in due:
            del self._suppressed[kind]
        return [(left.number, left.line) for left in due.values()]

    @property
    def due_seconds(self) -> float | None:
        """The time when `suppressed` next has something to return."""
        return min((left.due_seconds for left in self._suppressed.values()), default=None)


class SuppressedSources:
    """The sources whose lines were not logged, all of one kind."""

    def __init__(self, due_seconds: float) -> None:
        self.due_seconds = due_seconds
        self.line = ""
        self._sources: set[int] = set()

    def add(self, source: int, line: str) -> None:
        """Count a source unless it was counted before."""
        if len(self._sources) < MOST_COUNTED:
            self._sources.add(source)
        self.line = line

    @property
    def number(self) -> str:
        """The number of sources, as text for a sentence."""
        number = len(self._sources)
        return f"{number}" if number < MOST_COUNTED else f"at least {number}"


def _first_words(text: str) -> str:
    """Return the beginning of a text, up to anything that devices may have chosen."""
    return re.split(r"[^a-z ,;-]", text, maxsplit=1)[0]
