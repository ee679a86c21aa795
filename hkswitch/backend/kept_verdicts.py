"""Which probes' verdicts are an earlier helper's, kept for a moment until the new one's probes answer.

Knows whose they are and for how long, and no verdict. It must not know what becomes of one it forgets.
"""

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping


class KeptVerdicts:
    """Of one host, by the ids of groups."""

    def __init__(self, forget: Callable[[Collection[str]], None]) -> None:
        """`forget` is called with those that were kept for too long."""
        self._forget = forget
        self._until_seconds: dict[str, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def __bool__(self) -> bool:
        return bool(self._until_seconds)

    def __contains__(self, group_id: str) -> bool:
        return group_id in self._until_seconds

    def keep(self, group_ids: Iterable[str], seconds: float) -> None:
        """Keep these and no others; what was kept by the helper before this one, too, no longer for that."""
        until_seconds = asyncio.get_running_loop().time() + seconds
        self._until_seconds = {name: self._until_seconds.get(name, until_seconds) for name in group_ids}
        self._arm()

    def answered(self, group_id: str) -> None:
        """The new helper's probe says something itself."""
        self._until_seconds.pop(group_id, None)

    def drop(self, changed: set[str], units_of: Mapping[str, Collection[str]]) -> list[str]:
        """Keep none of a group of which a unit changed; returns the ids of these groups."""
        due = [
            name for name in self._until_seconds if any(unit in changed for unit in units_of.get(name, ()))
        ]
        for name in due:
            del self._until_seconds[name]
        return due

    def close(self) -> None:
        """Forget nothing any more."""
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
