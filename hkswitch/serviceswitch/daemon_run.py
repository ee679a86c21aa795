"""The run of hkswitch.service that a helper serves. Runs as root.

The helper acts for no other run, and not after this one has ended. A process that outlives the daemon may
have received its end of the pipe or socket, so the helper asks systemd for the main process of the current
run.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Final

from hkswitch.model.installation import DAEMON_UNIT
from hkswitch.serviceswitch.policy import Refusal

NOT_RUNNING: Final = f"{DAEMON_UNIT} is not running"
NOT_OF_THIS_RUN: Final = f"this helper does not belong to the current run of {DAEMON_UNIT}"


MainProcess = Callable[[str], Awaitable[int]]
"""Asks systemd for the main process of a service, 0 if there is none; raises `BusUnavailable`."""


class DaemonRun:
    """One run of the daemon's service, identified by its main process."""

    def __init__(self, peer_pid: int | None, *, is_required: bool, is_in_session: Callable[[], bool]) -> None:
        """`peer_pid`: the process that connected to a socket, None for a pipe.

        Requests need a run only if `is_required`. `is_in_session` tells whether PAM has moved this process
        out of the daemon's unit.
        """
        # TRUST: the kernel recorded it at connect(2), and reuses a process ID only after all others.
        self._pid = peer_pid
        self._is_required = is_required
        self._is_in_session = is_in_session
        self._question: asyncio.Task[int] | None = None
        """What is about to be asked."""

    async def begin(self, main_process: MainProcess) -> None:
        """Record the run in which sudo started this process, before it leaves the daemon's cgroup.

        Until then, this process ends with that run, so systemd's answer cannot be about a later one. If PAM
        has moved sudo into a logind session, this process may outlive the run, but its session leader is the
        daemon's main process.
        """
        if self._pid is None and self._is_required:
            pid = await main_process(DAEMON_UNIT)
            # TRUST: a service's main process leads its session (setsid(2)), and no other process can join.
            self._pid = os.getsid(0) if self._is_in_session() else pid

    async def require(self, main_process: MainProcess) -> None:
        """Raise `Refusal` unless this is the current run, or `BusUnavailable` if systemd does not answer.

        Requests that arrive together share a question, which is asked after the last of them.
        """
        if not self._is_required:
            return
        if self._question is None:
            self._question = asyncio.ensure_future(self._ask(main_process))
            # Those who asked may all have been canceled.
            self._question.add_done_callback(lambda done: done.cancelled() or done.exception())
        pid = await asyncio.shield(self._question)
        if not pid:
            raise Refusal(NOT_RUNNING)
        if pid != self._pid:
            raise Refusal(NOT_OF_THIS_RUN)

    async def _ask(self, main_process: MainProcess) -> int:
        self._question = None  # the answer may be older than later requests
        return await main_process(DAEMON_UNIT)
