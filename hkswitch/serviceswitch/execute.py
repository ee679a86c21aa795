"""Carries out an action on a group by jobs or by the group's commands; systemd runs both. Runs as root.

This process starts no program itself.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from itertools import count
from typing import Final, NamedTuple, Protocol

from hkswitch.model.environment import SEARCH_PATH
from hkswitch.model.group import MOST_DETACHED, Argv, Group
from hkswitch.model.unit_state import (
    Action,
    GroupState,
    JobResult,
    ProbeResult,
    UnitResult,
    UnitState,
    failure_of,
)
from hkswitch.protocol.helper import Alert
from hkswitch.serviceswitch.trusted_files import Untrusted
from hkswitch.systemd.command import LARGEST_ANSWER, MAY_MEAN, Command, Ended, ServiceResult

COMMAND_ENVIRONMENT: Final = {"PATH": SEARCH_PATH, "LANG": "C.UTF-8"}

DETACHED_SECONDS: Final = 600
"""The time limit of a detached command, unless `timeout_seconds` is more."""

ALERT_SECONDS: Final = 60
"""The time limit of the alert command."""

PROBE_AGAIN_SECONDS: Final = 0.5
"""The interval between probes of a group that has not reached the requested state."""


class MemberManager(Protocol):
    """Runs the members of groups: units, or containers. Each method may raise `BusUnavailable`."""

    async def states(self, names: Iterable[str], /) -> dict[str, UnitState]:
        """Return the states of members now."""

    async def run(
        self, action: Action, names: Iterable[str], confirm_seconds: float, begin: Callable[[], None], /
    ) -> tuple[UnitResult, ...]:
        """Perform an action on members; a started one must be up `confirm_seconds` after that.

        Calls `begin`, which may raise, after the last await before it queues jobs or asks an engine.
        """


class ServiceManager(MemberManager, Protocol):
    """The part of systemd that groups need. Each method raises `BusUnavailable`."""

    async def execute(self, command: Command, begin: Callable[[], None], begun: Callable[[], None]) -> Ended:
        """Run a command to its end; `begin` as above. Calls `begun` once systemd runs it."""


class ProbeOutcome(NamedTuple):
    """The result of a probe and a short reason. `denied`: its program is not trusted, and was not run."""

    result: ProbeResult
    reason: str = ""
    denied: bool = False


Probe = Callable[[Group], Awaitable[ProbeOutcome]]


class ActionGuard(NamedTuple):
    """The checks that an action is still wanted."""

    begin: Callable[..., None]
    """Called just before the action, with the members that it is on; raises if it is no longer wanted."""
    is_superseded: Callable[[], bool]
    """Whether a newer request replaced it."""


UNGUARDED: Final = ActionGuard(lambda *_: None, lambda: False)


@dataclass(frozen=True, slots=True)
class Executor:
    """The executor of actions and probes; `examine` raises `Untrusted` for a program that must not run."""

    systemd: ServiceManager
    engines: MemberManager
    examine: Callable[[Group, str], None]
    _probes: "count[int]" = field(default_factory=count, init=False)

    async def probe(self, group: Group) -> ProbeOutcome:
        """Run the group's status or check command; raises `BusUnavailable`."""
        # systemd 257 logs a notice about a name that it has seen before.
        unit = f"hkswitch-status-{group.id}-{os.getpid()}-{next(self._probes)}.service"
        try:
            ended = await self._run(group, group.probe, unit, UNGUARDED.begin, is_probe=True)
        except Untrusted as refusal:
            return ProbeOutcome(ProbeResult.UNAVAILABLE, str(refusal), denied=True)
        return ProbeOutcome(_probe_result(group, ended), f"{group.probe[0]} {_how_it_ended(group, ended)}")

    async def do(
        self,
        action: Action,
        group: Group,
        probe: Probe,
        confirm_seconds: float,
        guard: ActionGuard = UNGUARDED,
    ) -> tuple[UnitResult, ...]:
        """Perform an action on a group, by its members or by its commands; the results say what failed.

        Units start before containers, which may need them, and stop after them.

        Raises `Untrusted`, `BusUnavailable`, and what `guard.begin` raises.
        """
        if group.commands is not None:
            return (await self._run_command(action, group.commands.of(action), group, probe, guard),)
        parts: list[tuple[MemberManager, tuple[str, ...]]]
        parts = [(self.systemd, group.units), (self.engines, group.contained)]
        results: tuple[UnitResult, ...] = ()
        for manager, names in parts[::-1] if action is Action.STOP else parts:
            if names and (action is Action.STOP or failure_of(results) is None):

                def begin(names: tuple[str, ...] = names) -> None:
                    guard.begin(names)

                results += await manager.run(action, names, confirm_seconds, begin)
        if action is Action.STOP or failure_of(results) is not None:
            return results
        return (*results, *await self._confirm(group, probe, guard.is_superseded))

    async def alert(self, argv: Argv, alert: Alert, begin: Callable[[], None]) -> UnitResult:
        """Run the alert command, but once at a time for each group; raises as `do` does."""
        # TRUST: the daemon chose the words, which are printable and short; root does not act on them. Nothing
        # interprets them before the program, which need not be trusted, because it gets no rights.
        variables = {
            "HKSWITCH_GROUP": alert.group,
            "HKSWITCH_REASON": alert.reason,
            "HKSWITCH_STATE": alert.state,
        }
        unit, environment = f"hkswitch-alert-{alert.group}.service", COMMAND_ENVIRONMENT | variables
        command = Command(unit, argv, environment, ALERT_SECONDS, unprivileged=True)
        ended = await self.systemd.execute(command, begin, lambda: None)
        if ended.exit_code == 0:
            return UnitResult(argv[0], JobResult.DONE)
        return UnitResult(argv[0], JobResult.FAILED, str(ended))

    async def states(self, group: Group) -> dict[str, UnitState]:
        """Return the states of a group's members now; raises `BusUnavailable`."""
        return await self.systemd.states(group.units) | await self.engines.states(group.contained)

    async def _run_command(
        self, action: Action, argv: Argv, group: Group, probe: Probe, guard: ActionGuard
    ) -> UnitResult:
        """Run the command of an action, and wait until the group is as requested.

        A group that is already in that state is left alone, as systemd does with a unit. The probe decides
        whether the action succeeded: an exit code alone proves nothing. Without a probe, it has to do.
        """
        program = argv[0]
        aim = ProbeResult.OFF if action is Action.STOP else ProbeResult.ON
        deadline_seconds = _now_seconds() + group.timeout_seconds
        while True:
            # A detached command may still be about to change the state.
            if group.probe and (action is Action.RESTART or not group.detach):
                before = (await probe(group)).result
                if before is (ProbeResult.OFF if action is Action.RESTART else aim):
                    return UnitResult(program, JobResult.DONE)
            ended = await self._run_action(group, argv, _Goal(aim, probe, guard, deadline_seconds))
            # The helper of another host's bridge may be running a command of the group.
            if ended.result is not ServiceResult.EXISTS or group.detach or _now_seconds() > deadline_seconds:
                break
            await asyncio.sleep(PROBE_AGAIN_SECONDS)
        if ended.exit_code != 0 and ended.result not in {ServiceResult.LOST, ServiceResult.DETACHED}:
            return UnitResult(program, JobResult.FAILED, _how_it_ended(group, ended))
        if not group.probe and ended.result is ServiceResult.LOST:
            return UnitResult(program, JobResult.FAILED, str(ended))
        if not group.probe:
            return UnitResult(program, JobResult.DONE)
        last = await _probe_until(aim, group, probe, guard.is_superseded, deadline_seconds)
        if last.result is aim:
            return UnitResult(program, JobResult.DONE)
        if guard.is_superseded():
            return UnitResult(program, JobResult.CANCELED)
        still = f"{ended}, but after {group.timeout_seconds} s the state is still"
        return UnitResult(program, JobResult.FAILED, f"{still} {last.result}: {last.reason}")

    async def _run_action(self, group: Group, argv: Argv, goal: "_Goal") -> Ended:
        """Run the command of an action to its end, or until a detached one need not be waited for."""
        if not group.detach:
            return await self._run(group, argv, f"hkswitch-command-{group.id}.service", goal.guard.begin)
        has_begun = asyncio.Event()
        running = asyncio.ensure_future(self._run_in_free_unit(group, argv, goal.guard.begin, has_begun.set))
        try:
            while True:
                await asyncio.wait([running], timeout=PROBE_AGAIN_SECONDS)
                if running.done():
                    return running.result()
                if has_begun.is_set() and await goal.is_over(group):
                    return Ended(ServiceResult.DETACHED, 0)
        finally:
            running.cancel()  # the command itself goes on
            await asyncio.gather(running, return_exceptions=True)

    async def _run_in_free_unit(
        self, group: Group, argv: Argv, begin: Callable[[], None], begun: Callable[[], None]
    ) -> Ended:
        """Run a command beside earlier ones of the group, up to a limit."""
        # TRUST: the daemon may request any number of actions. systemd holds a name as long as its unit has
        # processes.
        for number in range(MOST_DETACHED):
            unit = f"hkswitch-command-{group.id}:{number}.service"  # a group's id has no colon
            ended = await self._run(group, argv, unit, begin, begun)
            if ended.result is not ServiceResult.EXISTS:
                return ended
        why = f"{MOST_DETACHED} earlier commands of the group still have processes"
        return Ended(ServiceResult.EXISTS, 0, why)

    async def _confirm(
        self, group: Group, probe: Probe, is_superseded: Callable[[], bool]
    ) -> tuple[UnitResult, ...]:
        """Wait until the check, if there is one, confirms that the group is on; all its units must be up."""
        if not group.check:
            return ()
        units = await self.states(group)
        if group.state(units, ProbeResult.ON) is not GroupState.ON:
            return ()  # a unit is down, so the group is not on, whatever the check says
        deadline_seconds = _now_seconds() + group.timeout_seconds
        last = await _probe_until(ProbeResult.ON, group, probe, is_superseded, deadline_seconds)
        if last.result is ProbeResult.ON:
            return ()
        job = JobResult.CANCELED if is_superseded() else JobResult.FAILED
        return (UnitResult("check", job, f"failed: {last.reason}"),)

    async def _run(  # noqa: PLR0913 -- of the command, and of its start
        self,
        group: Group,
        argv: Argv,
        unit: str,
        begin: Callable[[], None],
        begun: Callable[[], None] = lambda: None,
        *,
        is_probe: bool = False,
    ) -> Ended:
        # TRUST: if root runs this, only root can have written the file or a folder on its path, so only
        # root can replace it before systemd executes it.
        self.examine(group, argv[0])
        detached = group.detach and not is_probe
        command = Command(
            unit,
            argv,
            COMMAND_ENVIRONMENT | {"HKSWITCH_GROUP": group.id},
            max(DETACHED_SECONDS, group.timeout_seconds) if detached else group.timeout_seconds,
            is_probe,
            group.user,
            group.directory,
            detached,
        )
        return await self.systemd.execute(command, begin, begun)


class _Goal(NamedTuple):
    """The aim of an action, and how long to wait for it."""

    aim: ProbeResult
    probe: Probe
    guard: ActionGuard
    deadline_seconds: float

    async def is_over(self, group: Group) -> bool:
        """Whether it is reached, given up or no longer wanted; without a probe, it is never known."""
        if self.guard.is_superseded() or _now_seconds() > self.deadline_seconds:
            return True
        return bool(group.probe) and (await self.probe(group)).result is self.aim


async def _probe_until(
    wanted: ProbeResult,
    group: Group,
    probe: Probe,
    is_superseded: Callable[[], bool],
    deadline_seconds: float,
) -> ProbeOutcome:
    """Probe until the result is the wanted one or time is up; return the last outcome."""
    while (outcome := await probe(group)).result is not wanted:
        if is_superseded() or _now_seconds() > deadline_seconds:
            break
        await asyncio.sleep(PROBE_AGAIN_SECONDS)
    return outcome


def _now_seconds() -> float:
    return asyncio.get_running_loop().time()


def _probe_result(group: Group, ended: Ended) -> ProbeResult:
    if not ended.was_run:
        return ProbeResult.UNAVAILABLE
    if ended.exit_code == 0:
        return ProbeResult.ON
    answered = ended.exit_code is not None and ended.exit_code <= LARGEST_ANSWER
    # A check can only confirm that a group is on: one that hangs does not confirm it.
    return ProbeResult.OFF if answered or group.check else ProbeResult.UNAVAILABLE


def _how_it_ended(group: Group, ended: Ended) -> str:
    if ended.result is ServiceResult.TIMEOUT:
        return f"took longer than {group.timeout_seconds} s"
    if group.user and ended.exit_code in MAY_MEAN:
        return f"{ended}, like systemd if it {MAY_MEAN[ended.exit_code]}"
    return str(ended)
