"""One request: decided, done, and audited however it ends. Runs as root."""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Final

from hkswitch.model.errors import Exit, Failure
from hkswitch.model.group import Group
from hkswitch.model.unit_state import Action, UnitResult, failure_of
from hkswitch.serviceswitch.audit import Audit, Decision
from hkswitch.serviceswitch.commands import programs_of
from hkswitch.serviceswitch.policy import Denied, permit
from hkswitch.serviceswitch.rules import Rules

CUT_SHORT: Final = "ended before its jobs did; systemd goes on with those that it has"

Results = tuple[UnitResult, ...]
Run = Callable[[Group], Awaitable[Results]]


class Refusal(Failure):
    """What was asked will not be done; `str()` says why."""

    exit_code = Exit.DENIED


@dataclass(frozen=True, slots=True)
class Worker:
    """Does what the rules allow and the audit is told of."""

    rules: Rules
    audit: Audit

    async def carry_out(
        self, action: Action, group_id: str, run: Run, excused: Callable[[Results], bool] = lambda _: False
    ) -> Results:
        """Have `run` do the action on the group, if that is allowed; returns the results.

        Raises what is wrong with the config or with the request, or `BusUnavailable`. Results that are
        `excused` are no failure.
        """
        started_seconds = time.monotonic()
        try:
            group = self._allowed(action, group_id)
        except Failure as failure:
            self._write(Decision(action, group_id, denied=str(failure)), started_seconds)
            raise
        results: Results = ()
        failed = CUT_SHORT
        try:
            results = await run(group)
            failed = "" if excused(results) else failure_of(results) or ""
        except Failure as failure:
            failed = str(failure)
            raise
        finally:
            self._write(Decision(action, group_id, failed=failed, results=results), started_seconds)
        return results

    def _write(self, decision: Decision, started_seconds: float) -> None:
        took_ms = round((time.monotonic() - started_seconds) * 1000)
        self.audit.write(replace(decision, duration_ms=took_ms))

    def _allowed(self, action: Action, group_id: str) -> Group:
        verdict = permit(action, group_id, self.rules.now())
        if isinstance(verdict, Denied):
            raise Refusal(verdict.reason)
        for program in programs_of(action, verdict.group):
            self.rules.examine(program)
        return verdict.group
