"""Runs the commands of groups, by systemd and never by itself. Runs as root."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from itertools import count
from typing import Final, NamedTuple, Protocol

from hkswitch.model.group import Argv, Group
from hkswitch.model.unit_state import (
    Action,
    GroupState,
    JobResult,
    ProbeResult,
    UnitResult,
    UnitState,
    failure_of,
)
from hkswitch.serviceswitch.trusted_files import Untrusted
from hkswitch.systemd.command import LARGEST_ANSWER, Command, Ended, ServiceResult

ENVIRONMENT: Final = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LANG": "C.UTF-8",
}

LOOK_AGAIN_SECONDS: Final = 0.5


class Manager(Protocol):
    """systemd, as far as groups need it. Each of these raises `BusUnavailable`."""

    async def states(self, units: Iterable[str]) -> dict[str, UnitState]:
        """The states of units now."""

    async def run(
        self, action: Action, units: Iterable[str], confirm_seconds: float, begin: Callable[[], None]
    ) -> tuple[UnitResult, ...]:
        """Do an action on units; a started one must be up `confirm_seconds` after its job.

        `begin` is called when nothing more is awaited before the jobs are made, and may raise.
        """

    async def execute(self, command: Command, begin: Callable[[], None]) -> Ended:
        """Run a command to its end; `begin` as above."""


@dataclass(frozen=True, slots=True)
class Said:
    """What a probe said, and why, in a few words. `denied`: it was not run, because it is not trusted."""

    verdict: ProbeResult
    reason: str = ""
    denied: bool = False


Probe = Callable[[Group], Awaitable[Said]]


class Wanted(NamedTuple):
    """Whether an action is wanted still."""

    begin: Callable[[], None]
    """Is called just before it is done, and raises if it is not."""
    superseded: Callable[[], bool]
    """Whether a newer request took its place."""


ALWAYS: Final = Wanted(lambda: None, lambda: False)


@dataclass(frozen=True, slots=True)
class Runner:
    """Runs programs that `examine` does not refuse; that one raises `Untrusted`."""

    systemd: Manager
    examine: Callable[[str], None]
    _probes: "count[int]" = field(default_factory=count, init=False)

    async def probe(self, group: Group) -> Said:
        """Run what tells the state of a group; raises `BusUnavailable`."""
        # systemd 257 logs a notice about a name that it has seen before.
        unit = f"hkswitch-status-{group.id}-{os.getpid()}-{next(self._probes)}.service"
        try:
            ended = await self._run(group, group.probe, unit, ALWAYS.begin, probe=True)
        except Untrusted as refusal:
            return Said(ProbeResult.UNAVAILABLE, str(refusal), denied=True)
        return Said(_verdict(group, ended), f"{group.probe[0]} {_how(group, ended)}")

    async def do(
        self, action: Action, group: Group, probe: Probe, confirm_seconds: float, wanted: Wanted = ALWAYS
    ) -> tuple[UnitResult, ...]:
        """Do an action on a group, by its units or by its commands; the results say what failed.

        Raises `Untrusted`, `BusUnavailable`, and what `wanted.begin` raises.
        """
        if group.commands is not None:
            return (await self._act(action, group.commands.of(action), group, probe, wanted),)
        results = await self.systemd.run(action, group.units, confirm_seconds, wanted.begin)
        if action is Action.STOP or failure_of(results) is not None:
            return results
        return (*results, *await self._confirm(group, probe, wanted.superseded))

    async def _act(
        self, action: Action, argv: Argv, group: Group, probe: Probe, wanted: Wanted
    ) -> UnitResult:
        """Run the command of an action, and wait until the group is as it should be.

        A group that is so already is left alone, as systemd leaves a unit. Success is what `probe` says, and
        an exit code alone is none.
        """
        program = argv[0]
        aim = ProbeResult.OFF if action is Action.STOP else ProbeResult.ON
        deadline_seconds = _now_seconds() + group.timeout_seconds
        before = (await probe(group)).verdict
        if before is (ProbeResult.OFF if action is Action.RESTART else aim):
            return UnitResult(program, JobResult.DONE)
        ended = await self._run(group, argv, f"hkswitch-command-{group.id}.service", wanted.begin)
        if ended.exit_code != 0 and ended.result is not ServiceResult.LOST:
            return UnitResult(program, JobResult.FAILED, _how(group, ended))
        said = await _last_said(group, aim, probe, wanted.superseded, deadline_seconds)
        if said.verdict is aim:
            return UnitResult(program, JobResult.DONE)
        if wanted.superseded():
            return UnitResult(program, JobResult.CANCELED)
        still = f"{ended}, but after {group.timeout_seconds} s the state is still"
        return UnitResult(program, JobResult.FAILED, f"{still} {said.verdict}: {said.reason}")

    async def _confirm(
        self, group: Group, probe: Probe, superseded: Callable[[], bool]
    ) -> tuple[UnitResult, ...]:
        """Wait until the check says yes of units that are all up, if there is one."""
        if not group.check:
            return ()
        units = await self.systemd.states(group.units)
        if group.state(units, ProbeResult.ON) is not GroupState.ON:
            return ()  # what the units say is enough
        deadline_seconds = _now_seconds() + group.timeout_seconds
        said = await _last_said(group, ProbeResult.ON, probe, superseded, deadline_seconds)
        if said.verdict is ProbeResult.ON:
            return ()
        job = JobResult.CANCELED if superseded() else JobResult.FAILED
        return (UnitResult("check", job, f"failed: {said.reason}"),)

    async def _run(
        self, group: Group, argv: Argv, unit: str, begin: Callable[[], None], *, probe: bool = False
    ) -> Ended:
        # TRUST: root runs this. Nobody but root can have written the file, nor anything on the way to it, so
        # nobody but root can put another one there before systemd executes it.
        self.examine(argv[0])
        environment = ENVIRONMENT | {"HKSWITCH_GROUP": group.id}
        command = Command(unit, argv, environment, group.timeout_seconds, probe)
        return await self.systemd.execute(command, begin)


async def _last_said(
    group: Group, wanted: ProbeResult, probe: Probe, superseded: Callable[[], bool], deadline_seconds: float
) -> Said:
    """What the probe says when it says what is wanted, or when there is no time left for that."""
    while (said := await probe(group)).verdict is not wanted:
        if superseded() or _now_seconds() > deadline_seconds:
            break
        await asyncio.sleep(LOOK_AGAIN_SECONDS)
    return said


def _now_seconds() -> float:
    return asyncio.get_running_loop().time()


def _verdict(group: Group, ended: Ended) -> ProbeResult:
    if not ended.was_run:
        return ProbeResult.UNAVAILABLE
    if ended.exit_code == 0:
        return ProbeResult.ON
    answered = ended.exit_code is not None and ended.exit_code <= LARGEST_ANSWER
    # A check has nothing to say but yes: one that hangs did not say it.
    return ProbeResult.OFF if answered or group.check else ProbeResult.UNAVAILABLE


def _how(group: Group, ended: Ended) -> str:
    """How a program of the group ended."""
    if ended.result is ServiceResult.TIMEOUT:
        return f"took longer than {group.timeout_seconds} s"
    return str(ended)
