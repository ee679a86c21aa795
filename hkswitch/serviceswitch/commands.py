"""Runs the commands of groups, by systemd and never by itself. Runs as root."""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from hkswitch.core.command import LARGEST_ANSWER, Command, Ended, ServiceResult
from hkswitch.core.model import Action, Argv, Group, JobResult, UnitResult, Verdict
from hkswitch.serviceswitch.trusted import Untrusted
from hkswitch.systemd import Systemd

ENVIRONMENT: Final = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LANG": "C.UTF-8",
}

LOOK_AGAIN_SECONDS: Final = 0.5


@dataclass(frozen=True, slots=True)
class Said:
    """What a probe said, and why, in a few words. `denied`: it was not run, because it is not trusted."""

    verdict: Verdict
    reason: str = ""
    denied: bool = False


Probe = Callable[[Group], Awaitable[Said]]


@dataclass(frozen=True, slots=True)
class Runner:
    """Runs programs that `examine` does not refuse; that one raises `Untrusted`."""

    systemd: Systemd
    examine: Callable[[str], None]

    async def probe(self, group: Group) -> Said:
        """Run what tells the state of a group; raises `BusUnavailable`."""
        unit = f"hkswitch-status-{group.id}-{os.getpid()}.service"
        try:
            ended = await self._run(group, group.probe, unit, probe=True)
        except Untrusted as refusal:
            return Said(Verdict.UNAVAILABLE, str(refusal), denied=True)
        return Said(_verdict(group, ended), _sentence(group, group.probe, ended))

    async def act(
        self, action: Action, group: Group, probe: Probe, superseded: Callable[[], bool] = lambda: False
    ) -> UnitResult:
        """Run the command of an action, and wait until the group is as it should be.

        A group that is so already is left alone, as systemd leaves a unit. Success is what `probe` says, and
        an exit code alone is none. Raises `Untrusted` and `BusUnavailable`.
        """
        unit = f"hkswitch-command-{group.id}.service"
        wanted = Verdict.OFF if action is Action.STOP else Verdict.ON
        deadline_seconds = time.monotonic() + group.timeout_seconds
        before = (await probe(group)).verdict
        if before is (Verdict.OFF if action is Action.RESTART else wanted):
            return UnitResult(unit, JobResult.DONE)
        argv = argv_of(action, group)
        ended = await self._run(group, argv, unit)
        if ended is None or ended.exit_code != 0:
            return UnitResult(unit, JobResult.FAILED, _sentence(group, argv, ended))
        while (said := await probe(group)).verdict is not wanted:
            if superseded():
                return UnitResult(unit, JobResult.CANCELED)
            if time.monotonic() > deadline_seconds:
                still = f"{argv[0]} exited with 0, but after {group.timeout_seconds} s the state is still"
                return UnitResult(unit, JobResult.FAILED, f"{still} {said.verdict}: {said.reason}")
            await asyncio.sleep(LOOK_AGAIN_SECONDS)
        return UnitResult(unit, JobResult.DONE)

    async def _run(self, group: Group, argv: Argv, unit: str, *, probe: bool = False) -> Ended | None:
        # TRUST: root runs this. Nobody but root can have written the file, nor anything on the way to it, so
        # nobody but root can put another one there before systemd executes it.
        self.examine(argv[0])
        environment = ENVIRONMENT | {"HKSWITCH_GROUP": group.id}
        return await self.systemd.execute(Command(unit, argv, environment, group.timeout_seconds, probe))


def argv_of(action: Action, group: Group) -> Argv:
    """What an action runs; a group of units runs nothing."""
    commands = group.commands
    if commands is None:
        return ()
    return {Action.START: commands.start, Action.STOP: commands.stop, Action.RESTART: commands.restart}[
        action
    ]


def _verdict(group: Group, ended: Ended | None) -> Verdict:
    if ended is None or not ended.was_run:
        return Verdict.UNAVAILABLE
    if ended.exit_code == 0:
        return Verdict.ON
    answered = ended.exit_code is not None and ended.exit_code <= LARGEST_ANSWER
    # A check has nothing to say but yes: one that hangs did not say it.
    return Verdict.OFF if answered or group.check else Verdict.UNAVAILABLE


def _sentence(group: Group, argv: Argv, ended: Ended | None) -> str:
    if ended is None:
        return f"{argv[0]} was not run: another one runs for {group.id}"
    if ended.result is ServiceResult.TIMEOUT:
        return f"{argv[0]} took longer than {group.timeout_seconds} s"
    return f"{argv[0]} {ended}"
