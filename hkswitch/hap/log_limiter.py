"""Logs what devices in the network do wrong: a line a minute for each of a few, and one for all others."""

import asyncio
import logging
import re
from collections import Counter
from typing import Final

LOG_INTERVAL_SECONDS: Final = 60.0
MOST_SOURCES: Final = 16
"""Lines a minute of one kind, each of another source. The rest is counted."""

MOST_KINDS: Final = 32
MOST_COUNTED: Final = 1_000


class RateLimitedLog:
    """Logs what is due, and how much was left out when that is over."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._limiter = LogRateLimiter()
        self._summing_up: asyncio.TimerHandle | None = None

    def log_warning(self, address: str, what: str) -> None:
        """Log what an address did, if that is due. Lines that begin with the same words are of one kind.

        So no line may begin with what a device has chosen: it would have as many kinds as it likes.
        """
        loop = asyncio.get_running_loop()
        line = f"{address}: {what}"
        if self._limiter.may_log(address, loop.time(), _first_words(what), line):
            self._log.warning("%s", line)
        self._plan(loop)

    def close(self) -> None:
        """Log nothing more of what was done until now."""
        if self._summing_up is not None:
            self._summing_up.cancel()
            self._summing_up = None  # a bridge that could not start tries again

    def _plan(self, loop: asyncio.AbstractEventLoop) -> None:
        due_seconds = self._limiter.due_seconds
        if self._summing_up is None and due_seconds is not None:
            self._summing_up = loop.call_at(due_seconds, self._sum_up, loop)

    def _sum_up(self, loop: asyncio.AbstractEventLoop) -> None:
        self._summing_up = None
        for number, line in self._limiter.suppressed(loop.time()):
            self._log.warning("%s more addresses in a minute, such as %s", number, line)
        self._plan(loop)


class LogRateLimiter:
    """Whether to log what a source did: once a minute each, and few sources of a kind; of the rest, how many.

    A device can have as many addresses as it likes, and what it does with them must hide nothing else.
    """

    def __init__(self) -> None:
        self._until_seconds: dict[int, tuple[float, str]] = {}
        """Until when a source was heard of, and by which kind of line, in the order of time."""
        self._lines: Counter[str] = Counter()
        self._suppressed: dict[str, SuppressedSources] = {}

    def may_log(self, source: str, now_seconds: float, kind: str = "", line: str = "") -> bool:
        """Whether a line about this source is due; `now_seconds` never goes back. One of a kind is kept."""
        for known, (until_seconds, its_kind) in list(self._until_seconds.items()):
            if until_seconds > now_seconds:
                break
            del self._until_seconds[known]
            self._lines[its_kind] -= 1
        hashed = hash(source)
        if hashed in self._until_seconds:
            return False
        if kind not in self._lines and len(self._lines) >= MOST_KINDS:
            self._lines = +self._lines  # forget those of which there are none
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
        """How many sources of a kind were left out, and a line of them, once for each minute."""
        due = {kind: left for kind, left in self._suppressed.items() if left.due_seconds <= now_seconds}
        for kind in due:
            del self._suppressed[kind]
        return [(left.number, left.line) for left in due.values()]

    @property
    def due_seconds(self) -> float | None:
        """When `suppressed` will have something to tell."""
        return min((left.due_seconds for left in self._suppressed.values()), default=None)


class SuppressedSources:
    """The sources of which no line was logged."""

    def __init__(self, due_seconds: float) -> None:
        self.due_seconds = due_seconds
        self.line = ""
        self._sources: set[int] = set()

    def add(self, source: int, line: str) -> None:
        """Count one, if it is another."""
        if len(self._sources) < MOST_COUNTED:
            self._sources.add(source)
        self.line = line

    @property
    def number(self) -> str:
        """For a sentence."""
        number = len(self._sources)
        return f"{number}" if number < MOST_COUNTED else f"at least {number}"


def _first_words(text: str) -> str:
    """What a text begins with, before anything that devices may have chosen."""
    return re.split(r"[^a-z ,;-]", text, maxsplit=1)[0]
