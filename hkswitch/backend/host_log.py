"""The log lines about a host: its connection, its probes, its systemd and its config.

Writes each change once. TRUST: another host causes these lines at will, so their number is limited; journald
would drop those about all other hosts, too.
"""

import logging
import time
from collections.abc import Mapping
from typing import Final

from hkswitch.backend.line_limit import LineLimit, Verdict
from hkswitch.model.unit_state import ProbeResult
from hkswitch.protocol.helper import ProbeUpdate

MOST_LINES: Final = 200
"""In a period, about one host: all its probes may become unavailable at once."""

LINES_PERIOD_SECONDS: Final = 600

_log = logging.getLogger(__name__)


def prefix_of(host: str) -> str:
    """Return how a log line about another host begins; empty for this machine."""
    return f"host {host}: " if host else ""


class HostLog:
    """The log of one host."""

    def __init__(self, host: str = "") -> None:
        """`host` is empty for this machine."""
        self._prefix = prefix_of(host)
        self._bus_problem = ""
        self._limit = LineLimit(MOST_LINES, LINES_PERIOD_SECONDS)

    def line(self, level: int, text: str) -> None:
        """Log a line about the host."""
        if not _log.isEnabledFor(level):
            return
        verdict = self._limit.judge(time.monotonic())
        if verdict is not Verdict.LEAVE_OUT:
            _log.log(level, "%s%s", self._prefix, text)
        if verdict is Verdict.LOG_AS_LAST:
            said = "%s%d lines within ten minutes: the next ones are left out; see `hkswitch status`"
            _log.warning(said, self._prefix, MOST_LINES)

    def bus(self, problem: str) -> None:
        """Log once for all groups that systemd is unavailable, and that it is available again."""
        if problem and not self._bus_problem:
            self.line(logging.ERROR, f"{problem}; switches do not respond until it is available again")
        elif self._bus_problem and not problem:
            self.line(logging.INFO, "systemd is available again")
        self._bus_problem = problem

    def config(self, problem: str) -> None:
        """Log that the config on disk is rejected, or valid again; the caller calls this for each change."""
        if problem:
            what = "the configuration on disk was rejected, and actions are refused"
            self.line(logging.ERROR, f"{what}: {problem}")
        else:
            self.line(logging.INFO, "the configuration on disk is valid again")

    def probes(self, probes: Mapping[str, ProbeUpdate], before: Mapping[str, ProbeUpdate]) -> None:
        """Log which probes have become unavailable."""
        for group_id, probe in probes.items():
            known = before.get(group_id)
            was_so = known is not None and known.verdict is probe.verdict
            if probe.verdict is ProbeResult.UNAVAILABLE and not was_so:
                self.line(logging.WARNING, f"{group_id}: unavailable: {probe.reason}")
