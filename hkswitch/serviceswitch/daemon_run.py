"""The run of hkswitch.service that a helper serves: it acts for no other, and for none that has ended.

The daemon's end of a pipe or of a socket can be given to a process that outlives it. systemd knows the
main process of the run that goes on. Runs as root.
"""

import os
from collections.abc import Callable
from typing import Final, Protocol

from hkswitch.serviceswitch.own_unit import DAEMON_UNIT
from hkswitch.serviceswitch.policy import Refusal

NOT_RUNNING: Final = f"{DAEMON_UNIT} is not running"
NOT_OF_THIS_RUN: Final = f"this helper does not belong to the run of {DAEMON_UNIT} that goes on"


class Services(Protocol):
    """What is asked of systemd."""

    async def main_process(self, service: str) -> int:
        """The main process of a service, 0 if there is none; raises `BusUnavailable`."""


class DaemonRun:
    """One run, told from all others by its main process."""

    def __init__(self, peer_pid: int | None, *, is_needed: bool, moved: Callable[[], bool]) -> None:
        """`peer_pid`: who connected to a socket, None for a pipe; `is_needed`: else all may ask.

        `moved` tells whether PAM has moved this process out of the daemon's unit.
        """
        # TRUST: the kernel noted it at connect(2), and gives its number away only after all others.
        self._pid = peer_pid
        self._is_needed = is_needed
        self._moved = moved

    async def begin(self, systemd: Services) -> None:
        """Note in which run sudo started this process; comes before it leaves the daemon's cgroup.

        Until then it ends with that run, so that systemd's answer is about no later one. PAM may have moved
        sudo into a session of logind's, where it does not.
        """
        if self._pid is None and self._is_needed:
            pid = await systemd.main_process(DAEMON_UNIT)
            # TRUST: a service's main process leads its session (setsid(2)), which nobody joins from outside.
            self._pid = os.getsid(0) if self._moved() else pid

    async def require(self, systemd: Services) -> None:
        """Raise `Refusal` unless this run goes on, and `BusUnavailable` if systemd does not say so."""
        if not self._is_needed:
            return
        pid = await systemd.main_process(DAEMON_UNIT)
        if not pid:
            raise Refusal(NOT_RUNNING)
        if pid != self._pid:
            raise Refusal(NOT_OF_THIS_RUN)
