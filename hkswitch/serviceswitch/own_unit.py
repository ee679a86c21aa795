"""The systemd unit of this process, by which journald distinguishes its lines from all others. Runs as root.

With the socket, systemd starts the helper in a unit of its own. A helper that sudo started is in its caller's
unit, and would share that unit's rate limit in the journal. So systemd moves it into a scope, and it sends
no line before that.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from hkswitch.model.installation import DAEMON_UNIT, HELPER_SLICE
from hkswitch.serviceswitch.journal import Journal
from hkswitch.systemd.transient import Scope
from hkswitch.systemd.units import Systemd

MEMORY_BYTES: Final = 128 * 2**20
TASKS: Final = 16

ATTEMPTS: Final = 3
"""Each uses a different name: the scope of an earlier process with the same ID may still exist."""

MOVED_WITHIN_SECONDS: Final = 2
LINES_WAIT_SECONDS: Final = 1
"""How long lines wait for the move; after that, the helper refuses requests and answers pings."""

_MOVE_POLL_SECONDS: Final = 0.001


def is_in_own_unit() -> bool:
    """Tell whether this process is in a unit of the helper's slice."""
    return _has_cgroup(_is_in_slice)


def is_in_session() -> bool:
    """Tell whether this process is in a logind session, as when sudo's PAM stack has pam_systemd(8)."""
    return _has_cgroup(_is_of_session)


def _has_cgroup(matches: Callable[[str], bool]) -> bool:
    return any(map(matches, Path("/proc/self/cgroup").read_text().splitlines()))


def _is_in_slice(line: str) -> bool:
    """Test a line of /proc/PID/cgroup; its path begins at the root of the caller's cgroup namespace."""
    # TRUST: users can create cgroups of any name, but only below user.slice.
    folder, _, unit = line.split(":", 2)[-1].rpartition("/")
    return folder in {f"/system.slice/{HELPER_SLICE}", f"/../{HELPER_SLICE}"} and unit != ""


def _is_of_session(line: str) -> bool:
    unit = line.rpartition("/")[2]
    return unit.startswith("session-") and unit.endswith(".scope")


class OwnUnit:
    """The move of this process into its own unit; the journal is held back until it is done."""

    def __init__(
        self, journal: Journal, *, is_remote: bool = False, has_moved: Callable[[], bool] = is_in_own_unit
    ) -> None:
        """`has_moved` tells whether this process is in its own unit. `is_remote`: its daemon is elsewhere."""
        self._journal = journal
        self._is_remote = is_remote
        self._has_moved = has_moved
        self._tried = asyncio.Event()
        if not has_moved():
            journal.hold("the helper is not yet in its own unit")

    async def move(self, systemd: Systemd) -> None:
        """Have systemd move this process, unless it has moved already; raises `BusUnavailable`."""
        why = ""
        for attempt in range(ATTEMPTS):
            if self._has_moved():
                break
            why = await systemd.enter(_scope(attempt, is_remote=self._is_remote))
            if not why:
                why = await self._until_moved()
                break
        if self._has_moved():
            self._journal.release()
        else:
            self._journal.hold(f"systemd did not move the helper into its own unit ({why})")
        self._tried.set()

    async def after_move(self, lines: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Yield the lines after the attempt to move; an earlier denial would be logged under another unit."""
        with suppress(TimeoutError):
            async with asyncio.timeout(LINES_WAIT_SECONDS):
                await self._tried.wait()
        async for line in lines:
            yield line

    async def _until_moved(self) -> str:
        loop = asyncio.get_running_loop()
        deadline_seconds = loop.time() + MOVED_WITHIN_SECONDS
        while not self._has_moved():
            if loop.time() > deadline_seconds:
                return f"not moved within {MOVED_WITHIN_SECONDS} s"
            await asyncio.sleep(_MOVE_POLL_SECONDS)
        return ""


def _scope(attempt: int, *, is_remote: bool) -> Scope:
    # hkswitch.service stops `serviceswitch-*.scope` when it starts and stops: those of its own daemon.
    prefix, stops_after = ("hkswitch-remote", ()) if is_remote else ("serviceswitch", (DAEMON_UNIT,))
    name = f"{prefix}-{os.getpid()}{f'-{attempt}' if attempt else ''}.scope"
    return Scope(name, "Root helper of hkswitch", HELPER_SLICE, stops_after, MEMORY_BYTES, TASKS)
