"""The groups whose probe result an earlier helper reported, retained until the new helper's probes answer.

Keeps the groups and the deadlines, not the results.
"""

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping

from hkswitch.protocol.helper import ProbeUpdate


class RetainedResults:
    """The retained probe results of one host, by the ids of groups."""

    def __init__(self, forget: Callable[[Collection[str]], None]) -> None:
        """`forget` is called with the groups whose results have expired."""
        self._forget = forget
        self._until_seconds: dict[str, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def __bool__(self) -> bool:
        return bool(self._until_seconds)

    def __contains__(self, group_id: str) -> bool:
        return group_id in self._until_seconds

    def keep(self, group_ids: Iterable[str], seconds: float) -> None:
        """Retain these and no others; a result that was retained before keeps its deadline."""
        until_seconds = asyncio.get_running_loop().time() + seconds
        self._until_seconds = {name: self._until_seconds.get(name, until_seconds) for name in group_ids}
        self._arm()

    def answered(self, probes: Mapping[str, ProbeUpdate], *, is_believed: bool) -> None:
        """Drop results where the new helper has its own; one that is believed has also if a probe runs."""
        for group_id, probe in probes.items():
            if probe.verdict is not None or is_believed:
                self._until_seconds.pop(group_id, None)

    def drop(self, changed: set[str], units_of: Mapping[str, Collection[str]]) -> list[str]:
        """Drop the results of groups with a changed unit; return the ids of these groups."""
        due = [
            name for name in self._until_seconds if any(unit in changed for unit in units_of.get(name, ()))
        ]
        for name in due:
            del self._until_seconds[name]
        return due

    def close(self) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self) -> None:
        self.close()
        if self._until_seconds:
            at_seconds = min(self._until_seconds.values())
            self._timer = asyncio.get_running_loop().call_at(at_seconds, self._expire, at_seconds)

    def _expire(self, now_seconds: float) -> None:
        due = [name for name, until_seconds in self._until_seconds.items() if until_seconds <= now_seconds]
        for name in due:
            del self._until_seconds[name]
        self._arm()
        self._forget(due)
