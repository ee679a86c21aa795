"""Logs what devices in the network do wrong: a line a minute for each of a few, and one for all others."""

import asyncio
import logging
import re

from hkswitch.hap.limits import Complaints


class ComplaintLog:
    """Logs what is due, and how much was left out when that is over."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._complaints = Complaints()
        self._summing_up: asyncio.TimerHandle | None = None

    def complain(self, address: str, what: str) -> None:
        """Log what an address did, if that is due. Lines that begin with the same words are of one kind.

        So no line may begin with what a device has chosen: it would have as many kinds as it likes.
        """
        loop = asyncio.get_running_loop()
        line = f"{address}: {what}"
        if self._complaints.may_log(address, loop.time(), _first_words(what), line):
            self._log.warning("%s", line)
        self._plan(loop)

    def close(self) -> None:
        """Log nothing more of what was done until now."""
        if self._summing_up is not None:
            self._summing_up.cancel()
            self._summing_up = None  # a bridge that could not start tries again

    def _plan(self, loop: asyncio.AbstractEventLoop) -> None:
        due_seconds = self._complaints.due_seconds
        if self._summing_up is None and due_seconds is not None:
            self._summing_up = loop.call_at(due_seconds, self._sum_up, loop)

    def _sum_up(self, loop: asyncio.AbstractEventLoop) -> None:
        self._summing_up = None
        for number, line in self._complaints.left_out(loop.time()):
            self._log.warning("%s more addresses in a minute, such as %s", number, line)
        self._plan(loop)


def _first_words(text: str) -> str:
    """What a text begins with, before anything that devices may have chosen."""
    return re.split(r"[^a-z ,;-]", text, maxsplit=1)[0]
