"""What was asked of groups: the writes that wait for an answer, and the requests that run or ran last."""

import asyncio
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

from hkswitch.model.unit_state import Action, ActionResult
from hkswitch.protocol.report import LastAction, Outcome


@dataclass(eq=False, slots=True)
class Write:
    """A controller or a person wants something of a group."""

    group_id: str
    by: str
    """A controller's ID, or a user's number."""
    writer: Hashable | None = None
    """The controller's connection."""
    at_length: bool = False
    """Whether a person waits, who would rather know more than know it soon."""
    answer: asyncio.Future[bool] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    """Whether the controller may be told a success."""

    def settle(self, *, ok: bool) -> None:
        """Answer it, if that is still of use: the controller may have gone."""
        if not self.answer.done():
            self.answer.set_result(ok)


@dataclass(eq=False, slots=True)
class Request:
    """One action on one group, from the first write that wanted it to its end."""

    id: int
    group_id: str
    action: Action
    by: str
    at_length: bool
    ended: asyncio.Future[ActionResult] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )
    is_begun: bool = False
    """Whether it was handed over to those who do it."""
    is_replaced: bool = False
    """Whether a newer one of the group came before its end."""
    asked_unix_seconds: int = field(default_factory=lambda: int(time.time()))
    asked_seconds: float = field(default_factory=lambda: asyncio.get_running_loop().time())
    took_seconds: float = 0
    task: asyncio.Task[None] | None = None
    """Which has it done."""
    _begun: list[Callable[[], None]] = field(default_factory=list)

    def when_begun(self, tell: Callable[[], None]) -> None:
        """Call `tell` once the request was handed over, now if it was."""
        if self.is_begun:
            tell()
        else:
            self._begun.append(tell)

    def begin(self) -> None:
        """It was handed over."""
        self.is_begun = True
        for tell in self._begun:
            tell()
        self._begun.clear()

    def end(self, result: ActionResult) -> None:
        """It has ended; nobody is told any more that it was begun."""
        self._begun.clear()
        if not self.ended.done():
            self.took_seconds = asyncio.get_running_loop().time() - self.asked_seconds
            self.ended.set_result(result)

    @property
    def last_action(self) -> LastAction:
        """How it is, for a report."""
        asked = LastAction(self.action, self.by, self.asked_unix_seconds)
        if not self.ended.done() or self.ended.cancelled():
            return asked
        failure = self.ended.result().failure
        outcome = Outcome.DONE if failure is None else Outcome.FAILED
        return asked._replace(
            outcome=outcome, failure=failure or "", duration_ms=round(self.took_seconds * 1000)
        )
