"""Tells the failures of watched units: reads the reason of each, and never waits long for it."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final, NamedTuple, Protocol

from hkswitch.model.unit_state import UnitFailure
from hkswitch.systemd.failures import Failures, Verdict
from hkswitch.systemd.starts import unit_at
from hkswitch.systemd.watch import UnitSight, WatchedUnits

REASON_WITHIN_SECONDS: Final = 0.04
"""A failure is told without its reason if that takes longer; the reason follows."""

REASON_EVERY_SECONDS: Final = 1.0
"""The shortest interval between two reads for one unit: in a crash loop, the last reason is told again."""

FailureCallback = Callable[[str, UnitFailure | None], None]
"""Called with the name of a watched unit and its failure; None once it has not failed any longer."""


class ReadReason(Protocol):
    """Reads why a unit failed, in a few words; empty if systemd does not know. None: it ended well."""

    async def __call__(self, unit: str, *, in_start: bool) -> str | None:
        """`in_start`: before it was up."""


class FailureObserver(NamedTuple):
    """A receiver of failures, and what it was told over all connections."""

    failures: Failures
    on_failure: FailureCallback


class FailureReports:
    """The failures of the units of one watch."""

    def __init__(
        self,
        watch: WatchedUnits,
        observer: FailureObserver,
        read_reason: ReadReason,
        spawn: Callable[[Coroutine[Any, Any, None]], object],
    ) -> None:
        """`spawn` runs a coroutine until the connection ends."""
        self._watch = watch
        self._failures, self._on_failure = observer
        self._read_reason = read_reason
        self._spawn = spawn
        self._explained: dict[str, Verdict] = {}
        """The last verdicts whose failures are told, or about to be."""
        self._reasons: dict[str, tuple[float, str | None]] = {}
        """The last reason of each unit, and when it was read."""

    def seen(self, path: str, sight: UnitSight) -> None:
        """Apply a signal or a read about a unit, and tell what it means."""
        before = self._failures.verdict(path)
        verdict = self._failures.seen(path, sight)
        told = self._failures.told.get(path)
        if verdict is None:
            self._failures.told.pop(path, None)
            self._explained.pop(path, None)
            if before is not None:
                self._tell(path, None)
        elif told is not None and told.run == verdict.run and told.is_requested >= verdict.is_requested:
            self._tell(path, told)  # it may have been forgotten when the connection was lost
        elif self._explained.get(path) != verdict:
            self._explained[path] = verdict
            self._spawn(self._explain(path, verdict))

    def all_read(self) -> None:
        """Forget units that are not watched; tell anew of timers, which may start other units now."""
        self._failures.keep(self._watch.paths)
        for timer in self._watch.triggers:
            self._on_failure(timer, self._failure_of(timer))

    async def _explain(self, path: str, verdict: Verdict) -> None:
        if verdict.is_requested:
            self._tell_of_run(path, verdict, "failed when it was stopped")
            return
        reading = asyncio.ensure_future(self._reason(path, verdict))
        try:
            await asyncio.wait([reading], timeout=REASON_WITHIN_SECONDS)
            is_late = not reading.done()
            self._tell_of_run(path, verdict, "failed" if is_late else reading.result())
            if is_late and self._failures.verdict(path) == verdict:
                self._tell_of_run(path, verdict, await reading)
        finally:
            reading.cancel()

    async def _reason(self, path: str, verdict: Verdict) -> str | None:
        now_seconds = asyncio.get_running_loop().time()
        read_seconds, reason = self._reasons.get(path, (float("-inf"), "failed"))
        if reason is None or now_seconds - read_seconds >= REASON_EVERY_SECONDS:
            self._reasons[path] = now_seconds, reason
            reason = await self._read_reason(unit_at(path), in_start=verdict.in_start)
            self._reasons[path] = now_seconds, reason
        return reason

    def _tell_of_run(self, path: str, verdict: Verdict, reason: str | None) -> None:
        """Tell a failure, even if the unit has been started again meanwhile.

        A unit that ended well, and waits for its next start, has done what it should: nobody need hear of it.
        """
        words = f"{unit_at(path)} {'ended well' if reason is None else reason or 'failed'}"
        failure = UnitFailure(verdict.run, verdict.is_requested or reason is None, words)
        if self._failures.verdict(path) == verdict:
            self._failures.told[path] = failure
        self._tell(path, failure)
        if self._failures.verdict(path) != verdict:
            self._tell(path, self._failures.told.get(path))

    def _tell(self, path: str, failure: UnitFailure | None) -> None:
        for name in self._watch.named_after(path):
            self._on_failure(name, failure or self._failure_of(name))

    def _failure_of(self, name: str) -> UnitFailure | None:
        """Return the failure of a unit, or else of one that it starts, which is a timer's."""
        told = (self._failures.told.get(path) for path in self._watch.paths_of(name))
        return next(filter(None, told), None)
