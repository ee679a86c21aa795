"""What root allows, and the audit of what came of it. Runs as root."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from hkswitch.model.errors import Exit, Failure
from hkswitch.model.group import Group
from hkswitch.model.unit_state import Action, UnitResult, failure_of
from hkswitch.serviceswitch.audit import Audit, Denial, Effect
from hkswitch.serviceswitch.commands import programs_of
from hkswitch.serviceswitch.policy import Denied, permit
from hkswitch.serviceswitch.rules import Rules

CUT_SHORT: Final = "ended before its jobs did; systemd goes on with those that it has"

NOT_BEGUN: Final = "not begun: the helper ended"

Results = tuple[UnitResult, ...]


async def _asked_by_root() -> None:
    """Let root's own command line through: nothing stands between it and systemd."""


class Refusal(Failure):
    """What was asked will not be done; `str()` says why."""

    exit_code = Exit.DENIED


@dataclass(slots=True)
class Record:
    """What the audit will say of an action that was allowed."""

    results: Results = ()
    excused: bool = False
    """Whether a newer request took its place, which is no failure."""


@dataclass(frozen=True, slots=True)
class Worker:
    """Lets through what the rules allow, and writes down what came of it."""

    rules: Rules
    audit: Audit
    admit: Callable[[], Awaitable[None]] = _asked_by_root
    """Is awaited before each decision, and raises why there must be none."""

    def allowed(self, action: Action, group_id: str, token: str | None = None) -> Group:
        """The group that an action may be done on; a refusal is audited.

        Args:
            action: What is asked for.
            group_id: For which group of the config.
            token: What the caller takes the group for, None for whatever it is today.

        Raises `Refusal`, or what is wrong with the config or with a program.
        """
        try:
            return self._permitted(action, group_id, token)
        except Failure as failure:
            self.audit.denied(Denial(str(failure), action, group_id))
            raise

    @asynccontextmanager
    async def audited(self, action: Action, group_id: str) -> AsyncIterator[Record]:
        """Record the decision for an action before it is done, and what came of it, however it ends.

        Raises `Unwritten`, or what `admit` does, in place of doing it.
        """
        try:
            await self.admit()
            decision = await self.audit.decided(action, group_id)
        except (Failure, asyncio.CancelledError) as failure:  # the decision may be in the journal
            self.audit.denied(Denial(str(failure) or NOT_BEGUN, action, group_id))
            raise
        began_seconds, record, failed = _now_seconds(), Record(), CUT_SHORT
        try:
            yield record
            failed = "" if record.excused else failure_of(record.results) or ""
        except Failure as failure:
            failed = str(failure)
            raise
        finally:
            took_ms = round((_now_seconds() - began_seconds) * 1000)
            self.audit.ended(Effect(decision, failed, record.results, took_ms))

    def _permitted(self, action: Action, group_id: str, token: str | None) -> Group:
        verdict = permit(action, group_id, token, self.rules.now())
        if isinstance(verdict, Denied):
            raise Refusal(verdict.reason)
        for program in programs_of(action, verdict.group):
            self.rules.examine(program)
        return verdict.group


def _now_seconds() -> float:
    return asyncio.get_running_loop().time()
