"""The log lines about a host: its probes, its systemd and its config. Writes each change once."""

import logging
from collections.abc import Mapping

from hkswitch.model.unit_state import ProbeResult
from hkswitch.protocol.helper import ProbeUpdate

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

    def bus(self, problem: str) -> None:
        """Log once for all groups that systemd is unavailable, and that it is available again."""
        if problem and not self._bus_problem:
            _log.error("%s%s; switches do not respond until it is available again", self._prefix, problem)
        elif self._bus_problem and not problem:
            _log.info("%ssystemd is available again", self._prefix)
        self._bus_problem = problem

    def config(self, problem: str) -> None:
        """Log that the config on disk is rejected, or valid again; the caller calls this for each change."""
        if problem:
            _log.error(
                "%sthe configuration on disk was rejected, and actions are refused: %s", self._prefix, problem
            )
        else:
            _log.info("%sthe configuration on disk is valid again", self._prefix)

    def probes(self, probes: Mapping[str, ProbeUpdate], before: Mapping[str, ProbeUpdate]) -> None:
        """Log which probes have become unavailable."""
        for group_id, probe in probes.items():
            known = before.get(group_id)
            was_so = known is not None and known.verdict is probe.verdict
            if probe.verdict is ProbeResult.UNAVAILABLE and not was_so:
                _log.warning("%s%s: unavailable: %s", self._prefix, group_id, probe.reason)
