"""The unit that this process runs in, by which journald tells its lines from all others. Runs as root.

A helper of the socket is started in a unit of its own. A helper that sudo started is in its caller's unit,
whose limit of lines in the journal it would share: systemd moves it, and it sends no line before that.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from hkswitch.serviceswitch.journal import Journal
from hkswitch.systemd.transient import Scope
from hkswitch.systemd.units import Systemd

SLICE: Final = "system-serviceswitch.slice"
"""systemd's own choice for serviceswitch@.service; scopes are there too, so that one query finds all."""

DAEMON_UNIT: Final = "hkswitch.service"

MEMORY_BYTES: Final = 128 * 2**20
TASKS: Final = 16

ATTEMPTS: Final = 3
"""With another name each: a scope with this process ID in its name may be left of another process."""

MOVED_WITHIN_SECONDS: Final = 2
LINES_WAIT_SECONDS: Final = 1
"""For systemd; then requests are refused, and pings are answered."""

_LOOK_AGAIN_SECONDS: Final = 0.005


def is_own() -> bool:
    """Whether this process is in a unit of the slice."""
    return any(map(_is_in_slice, Path("/proc/self/cgroup").read_text().splitlines()))


def _is_in_slice(line: str) -> bool:
    """Look at a line of /proc/PID/cgroup; the path begins at the root of the caller's cgroup namespace."""
    # TRUST: users can make cgroups of any name, but below user.slice only.
    folder, _, unit = line.split(":", 2)[-1].rpartition("/")
    return folder in {f"/system.slice/{SLICE}", f"/../{SLICE}"} and unit != ""


def is_in_session() -> bool:
    """Whether this process is in a session of logind's, as where sudo's PAM has pam_systemd(8)."""
    return any(map(_is_of_session, Path("/proc/self/cgroup").read_text().splitlines()))


def _is_of_session(line: str) -> bool:
    unit = line.rpartition("/")[2]
    return unit.startswith("session-") and unit.endswith(".scope")


class OwnUnit:
    """Moves this process, and holds back the journal until it has."""

    def __init__(
        self,
        journal: Journal,
        has_moved: Callable[[], bool] = is_own,
    ) -> None:
        """`has_moved` tells whether this process is in a unit of its own."""
        self._journal = journal
        self._has_moved = has_moved
        self._tried = asyncio.Event()
        if not has_moved():
            journal.hold("the helper has no unit of its own yet")

    async def move(self, systemd: Systemd) -> None:
        """Have this process moved, if it has not been; raises `BusUnavailable`."""
        why = ""
        for attempt in range(ATTEMPTS):
            if self._has_moved():
                break
            why = await systemd.enter(_scope(attempt))
            if not why:
                why = await self._until_moved()
                break
        if self._has_moved():
            self._journal.release()
        else:
            self._journal.hold(f"systemd gave the helper no unit of its own ({why})")
        self._tried.set()

    async def after_it(self, lines: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Take no line before: a denial by a process that ended too soon would be in no unit of its own."""
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
            await asyncio.sleep(_LOOK_AGAIN_SECONDS)
        return ""


def _scope(attempt: int) -> Scope:
    name = f"serviceswitch-{os.getpid()}{f'-{attempt}' if attempt else ''}.scope"
    return Scope(name, "Root helper of hkswitch", SLICE, DAEMON_UNIT, MEMORY_BYTES, TASKS)
