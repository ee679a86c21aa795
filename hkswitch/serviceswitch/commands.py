"""Runs the commands of groups, by systemd and never by itself. Runs as root."""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Final

from hkswitch.model.group import Argv, Commands, Group
from hkswitch.model.unit_state import Action, GroupState, JobResult, UnitResult, Verdict, failure_of
from hkswitch.serviceswitch.trusted_files import Untrusted
from hkswitch.systemd import Systemd
from hkswitch.systemd.command import LARGEST_ANSWER, Command, Ended, ServiceResult

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
    _probes: "count[int]" = field(default_factory=count, init=False)

    async def probe(self, group: Group) -> Said:
        """Run what tells the state of a group; raises `BusUnavailable`."""
        # systemd 257 logs a notice about a name that it has seen before.
        unit = f"hkswitch-status-{group.id}-{os.getpid()}-{next(self._probes)}.service"
        try:
            ended = await self._run(group, group.probe, unit, probe=True)
        except Untrusted as refusal:
            return Said(Verdict.UNAVAILABLE, str(refusal), denied=True)
        return Said(_verdict(group, ended), _sentence(group, group.probe, ended))

    async def do(
        self, action: Action, group: Group, probe: Probe, superseded: Callable[[], bool] = lambda: False
    ) -> tuple[UnitResult, ...]:
        """Do an action on a group, by its units or by its commands; the results say what failed.

        Raises `Untrusted` and `BusUnavailable`.
        """
        if group.commands is not None:
            argv = _argv(action, group.commands)
            return (await self._act(action, argv, group, probe, superseded),)
        results = await self.systemd.run(action, group.units)
        if action is Action.STOP or failure_of(results) is not None:
            return results
        return (*results, *await self._confirm(group, probe, superseded))

    async def _act(
        self, action: Action, argv: Argv, group: Group, probe: Probe, superseded: Callable[[], bool]
    ) -> UnitResult:
        """Run the command of an action, and wait until the group is as it should be.

        A group that is so already is left alone, as systemd leaves a unit. Success is what `probe` says, and
        an exit code alone is none.
        """
        unit = f"hkswitch-command-{group.id}.service"
        wanted = Verdict.OFF if action is Action.STOP else Verdict.ON
        deadline_seconds = time.monotonic() + group.timeout_seconds
        before = (await probe(group)).verdict
        if before is (Verdict.OFF if action is Action.RESTART else wanted):
            return UnitResult(unit, JobResult.DONE)
        ended = await self._run(group, argv, unit)
        if ended is None or ended.exit_code != 0:
            return UnitResult(unit, JobResult.FAILED, _sentence(group, argv, ended))
        said = await _last_said(group, wanted, probe, superseded, deadline_seconds)
        if said.verdict is wanted:
            return UnitResult(unit, JobResult.DONE)
        if superseded():
            return UnitResult(unit, JobResult.CANCELED)
        still = f"{argv[0]} exited with 0, but after {group.timeout_seconds} s the state is still"
        return UnitResult(unit, JobResult.FAILED, f"{still} {said.verdict}: {said.reason}")

    async def _confirm(
        self, group: Group, probe: Probe, superseded: Callable[[], bool]
    ) -> tuple[UnitResult, ...]:
        """Wait until the check says yes of units that are all up, if there is one."""
        if not group.check:
            return ()
        units = await self.systemd.states(group.units)
        if group.state(units, Verdict.ON) is not GroupState.ON:
            return ()  # what the units say is enough
        deadline_seconds = time.monotonic() + group.timeout_seconds
        said = await _last_said(group, Verdict.ON, probe, superseded, deadline_seconds)
        job = JobResult.CANCELED if superseded() else JobResult.FAILED
        return () if said.verdict is Verdict.ON else (UnitResult("check", job, said.reason),)

    async def _run(self, group: Group, argv: Argv, unit: str, *, probe: bool = False) -> Ended | None:
        # TRUST: root runs this. Nobody but root can have written the file, nor anything on the way to it, so
        # nobody but root can put another one there before systemd executes it.
        self.examine(argv[0])
        environment = ENVIRONMENT | {"HKSWITCH_GROUP": group.id}
        return await self.systemd.execute(Command(unit, argv, environment, group.timeout_seconds, probe))


async def _last_said(
    group: Group, wanted: Verdict, probe: Probe, superseded: Callable[[], bool], deadline_seconds: float
) -> Said:
    """What the probe says when it says what is wanted, or when there is no time left for that."""
    while (said := await probe(group)).verdict is not wanted:
        if superseded() or time.monotonic() > deadline_seconds:
            break
        await asyncio.sleep(LOOK_AGAIN_SECONDS)
    return said


def programs_of(action: Action, group: Group) -> tuple[str, ...]:
    """What an action runs; one on a group of units needs no program."""
    return () if group.commands is None else (_argv(action, group.commands)[0], group.commands.status[0])


def _argv(action: Action, commands: Commands) -> Argv:
    match action:
        case Action.START:
            return commands.start
        case Action.STOP:
            return commands.stop
        case Action.RESTART:
            return commands.restart


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
