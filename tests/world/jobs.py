"""The jobs of simulated units: which replaces, joins or pulls in which, as src/core/job.c of systemd does it.

It must not know the bus, nor how a unit starts.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from hkswitch.systemd.interface import MANAGER_PATH
from tests.world.unit import Unit
from tests.world.unit_states import Begun


class Kind(StrEnum):
    """What a job does."""

    START = "start"
    STOP = "stop"
    RESTART = "restart"
    NOP = "nop"
    """What is left of a try-restart of something that does not run."""


@dataclass(eq=False, slots=True)
class Job:
    """One job of a unit."""

    number: int
    unit: Unit
    kind: Kind
    runs: bool = False

    @property
    def path(self) -> str:
        return f"{MANAGER_PATH}/job/{self.number}"


class Listener(Protocol):
    """Who tells of the ends of jobs."""

    def job_removed(self, job: Job, result: str) -> None:
        """Tell that a job ended, after the last change of its unit."""

    def touched(self, unit: Unit) -> None:
        """Tell of a unit whose job came, or went."""

    def units(self) -> Iterable[Unit]:
        """All that are loaded."""

    def load(self, name: str) -> Unit:
        """The unit with this name."""


@dataclass(eq=False)
class Jobs:
    """All jobs, of which a unit has one at most, but for those that do nothing."""

    listener: Listener
    of: dict[str, Job] = field(default_factory=dict)
    """By the name of the unit."""
    _queue: list[Job] = field(default_factory=list)
    _numbers: int = 0

    @property
    def has_work(self) -> bool:
        return bool(self._queue)

    def add(self, unit: Unit, kind: Kind, *, again: bool = False) -> Job:
        """Make a job and those that it pulls in; `again`: one that runs already begins anew."""
        for other, pulled in self._pulled_in(unit, kind):
            self._install(other, pulled)
        return self._install(unit, kind, again=again)

    def try_restart(self, unit: Unit) -> Job:
        """Make a job that restarts what runs."""
        is_off = unit.is_down or unit.active == "deactivating"
        return self.add(unit, Kind.NOP if is_off else Kind.RESTART)

    def run(self) -> None:
        """Run all jobs that wait, and those that come meanwhile."""
        while self._queue:
            job = self._queue.pop(0)
            if job.kind is Kind.NOP:
                self._finish(job, "done")
            elif self.of.get(job.unit.name) is job and not job.runs and not self._waits_for_another(job):
                self._run(job)

    def changed(self, unit: Unit) -> None:
        """Take over the new state of a unit: its job may be done, or can be run now."""
        if (job := self.of.get(unit.name)) is None:
            return
        if not job.runs:
            self._enqueue(job)
        if job.kind is Kind.START:
            if unit.is_up:
                self._finish(job, "done")
            elif job.runs and unit.is_down:
                self._finish(job, "failed" if unit.active == "failed" else "done")
        elif unit.is_down:
            self._finish(job, "done")
        elif job.runs and unit.active != "deactivating":
            self._finish(job, "failed")

    def _pulled_in(self, unit: Unit, kind: Kind) -> Iterator[tuple[Unit, Kind]]:
        if kind is Kind.NOP:
            return
        if kind is Kind.STOP:
            bound = [*self._naming(unit, "binds_to"), *self._naming(unit, "part_of")]
            yield from ((other, Kind.STOP) for other in bound if self._is_on(other))
            return
        needed = [self.listener.load(name) for name in unit.spec.binds_to]
        yield from ((other, Kind.START) for other in needed if not other.is_up or other.name in self.of)
        enemies = [self.listener.load(name) for name in unit.spec.conflicts]
        for enemy in (*enemies, *self._naming(unit, "conflicts")):
            if self._is_on(enemy):
                yield enemy, Kind.STOP
        if kind is Kind.RESTART:
            bound = [*self._naming(unit, "binds_to"), *self._naming(unit, "part_of")]
            yield from ((other, Kind.RESTART) for other in bound if self._is_on(other))

    def _naming(self, unit: Unit, setting: str) -> list[Unit]:
        """The units that name this one in a setting."""
        return [other for other in self.listener.units() if unit.name in getattr(other.spec, setting)]

    def _is_on(self, unit: Unit) -> bool:
        return not unit.is_down or unit.name in self.of

    def _install(self, unit: Unit, kind: Kind, *, again: bool = False) -> Job:
        self._numbers += 1
        before = self.of.get(unit.name)
        if kind is Kind.NOP:
            job = Job(self._numbers, unit, kind)
            self._queue.append(job)
            return job
        if before is not None and (before.kind is Kind.STOP) == (kind is Kind.STOP):
            self._join(before, kind, again=again)
            return before
        if before is not None:
            self._finish(before, "canceled")
        job = self.of[unit.name] = Job(self._numbers, unit, kind)
        self._enqueue(job)
        self.listener.touched(unit)
        return job

    def _join(self, job: Job, kind: Kind, *, again: bool) -> None:
        """Have a job do what another one was to do, too."""
        if kind is Kind.RESTART and job.kind is Kind.START:
            job.kind = Kind.RESTART
            again = True
        if again:
            job.runs = False
            self._enqueue(job)
        self.listener.touched(job.unit)

    def _enqueue(self, job: Job) -> None:
        if job not in self._queue:
            self._queue.append(job)

    def _waits_for_another(self, job: Job) -> bool:
        """Whether another job goes first: units are started after those that they are bound to."""
        if job.kind is Kind.STOP:
            return any(other.name in self.of for other in self._naming(job.unit, "binds_to"))
        return any(name in self.of for name in job.unit.spec.binds_to)

    def _run(self, job: Job) -> None:
        job.runs = True
        self.listener.touched(job.unit)
        begun = job.unit.start() if job.kind is Kind.START else job.unit.stop()
        if self.of.get(job.unit.name) is not job:  # it has ended by now
            return
        match begun:
            case Begun.NOT_NOW:
                job.runs = False
            case Begun.ALREADY | Begun.UNMET:
                self._finish(job, "done")
            case Begun.ASSERT | Begun.FAILED:
                self._finish(job, begun.value)

    def _finish(self, job: Job, result: str) -> None:
        unit = job.unit
        if job.kind is Kind.RESTART and result == "done":
            job.kind, job.runs = Kind.START, False
            self._enqueue(job)
            self.listener.touched(unit)
            return
        self.listener.job_removed(job, result)
        if job.kind is Kind.NOP:
            return
        del self.of[unit.name]
        self.listener.touched(unit)
        for other in self._naming(unit, "binds_to"):
            waiting = self.of.get(other.name)
            if waiting is not None and waiting.kind is Kind.START and result != "done":
                self._finish(waiting, "dependency")
        for waiting in [*self.of.values()]:
            if not waiting.runs:
                self._enqueue(waiting)
