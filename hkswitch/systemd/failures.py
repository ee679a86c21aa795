"""Whether a unit has failed, and whether its end was requested, from systemd's signals. Pure: no I/O.

Each signal of a unit has its state, its job and its invocation ID. A crash is signaled without a job, and the
job of an automatic restart comes later. A stop or a restart has its job before the unit begins to end, and a
start that fails has its own; both keep it until after the unit has failed.
"""

from collections.abc import Collection
from enum import Enum
from typing import Final, NamedTuple

from hkswitch.model.unit_state import ActiveState, LoadState, UnitFailure, UnitHealth, UnitState
from hkswitch.systemd.watch import UnitSight

NO_RUN: Final = "none"
"""The run of a unit that failed before it had an invocation ID."""

_STOPS: Final = frozenset({"stop", "restart", "try-restart"})
_RELOADING: Final = frozenset({ActiveState.RELOADING, ActiveState.REFRESHING})
_IS_DOWN: Final = frozenset({UnitHealth.DOWN, UnitHealth.FAILED, UnitHealth.MISSING})
_DOWN: Final = UnitState(LoadState.LOADED, ActiveState.INACTIVE, "dead")
_ENDS: Final = frozenset({UnitHealth.STOPPING, UnitHealth.FAILED})


class Ending(Enum):
    """Why a unit ended, or ends."""

    BY_ITSELF = "by itself"
    BY_JOB = "by job"
    IN_START = "in start"
    """Under a job that does not stop it: its start has failed, or it is restarted before it was up."""


class Verdict(NamedTuple):
    """A unit has failed, in this run. `in_start`: before it was up."""

    run: str
    is_requested: bool
    in_start: bool = False


class UnitHistory(NamedTuple):
    """The part of a unit's past that the next verdict depends on."""

    state: UnitState | None = None
    job: int = 0
    run: str = ""
    harmless_job: int = 0
    """A job that does not stop it: that of its start, or of a reload."""
    ending: Ending | None = None
    verdict: Verdict | None = None

    def after(self, seen: UnitSight) -> "UnitHistory":
        """Return the history after a signal or a read."""
        if self.run and seen.run and seen.run != self.run:  # in a new run, a unit was down before
            return UnitHistory(_DOWN).after(seen)
        run = seen.run or self.run
        harmless_job = self._harmless_job(seen)
        ending = None
        if seen.state.health in _ENDS:
            missed = Ending.BY_JOB if seen.was_stopped else None
            ending = self.ending or missed or self._ending(seen.job, harmless_job)
            if ending is Ending.IN_START and seen.job not in {0, harmless_job}:
                ending = Ending.BY_JOB
        verdict = self._verdict(seen, ending, run or NO_RUN)
        return UnitHistory(seen.state, seen.job, run, harmless_job, ending, verdict)

    @property
    def health(self) -> UnitHealth:
        """Its last known health."""
        return UnitHealth.MISSING if self.state is None else self.state.health

    def _harmless_job(self, seen: UnitSight) -> int:
        # A signal does not tell the type of a job. If a unit is first seen when it ends: in doubt, a stop.
        is_in_doubt = self.state is None and not seen.job_type and seen.state.health in _ENDS
        if seen.job_type in _STOPS or is_in_doubt:
            return 0
        if seen.state.active in _RELOADING:
            was_reloading = self.state is not None and self.state.active in _RELOADING
            return self.harmless_job if was_reloading else seen.job
        if seen.state.health is UnitHealth.UP:
            return self.harmless_job if seen.job == self.harmless_job else 0
        is_waiting = self.health in _IS_DOWN and self.ending is not Ending.IN_START
        return seen.job if is_waiting else self.harmless_job

    def _ending(self, job: int, harmless_job: int) -> Ending:
        if not job and self.health is UnitHealth.UP:
            job = self.job  # only a read, after signals were missed, finds that a stop has ended
        if not job:
            return Ending.BY_ITSELF
        return Ending.IN_START if job == harmless_job else Ending.BY_JOB

    def _verdict(self, seen: UnitSight, ending: Ending | None, run: str) -> Verdict | None:
        if seen.state.health is not UnitHealth.FAILED:
            return None
        is_known = self.verdict is not None and self.verdict.run == run
        # A restart passes through "failed" with its job, and only its start decides.
        if is_known or (ending is Ending.IN_START and seen.job):
            return self.verdict
        return Verdict(run, ending is Ending.BY_JOB, ending is Ending.IN_START)


class Failures:
    """The histories of units by object path, over all connections, and the failures that were told."""

    def __init__(self) -> None:
        """Knows no unit."""
        self.told: dict[str, UnitFailure] = {}
        self._histories: dict[str, UnitHistory] = {}

    def keep(self, paths: Collection[str]) -> None:
        """Forget all other units."""
        for path in self._histories.keys() - {*paths}:
            del self._histories[path]
            self.told.pop(path, None)

    def lost(self) -> None:
        """Note that signals will be missing: what is up may be in another run when it is seen again."""
        for path, history in self._histories.items():
            if history.ending is None:
                self._histories[path] = history._replace(run="")

    def seen(self, path: str, seen: UnitSight) -> Verdict | None:
        """Apply a signal or a read, and return the verdict on the unit; None if it has not failed."""
        self._histories[path] = self._histories.get(path, UnitHistory()).after(seen.without_load)
        return self.verdict(path)

    def verdict(self, path: str) -> Verdict | None:
        """Return the last verdict on a unit."""
        return self._histories.get(path, UnitHistory()).verdict
