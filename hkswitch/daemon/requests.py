"""The writes that wait for a response, and the last request of each group."""

import asyncio
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

from hkswitch.model.switch_events import RequestOrigin
from hkswitch.model.unit_state import Action, ActionResult
from hkswitch.protocol.report import LastAction, Outcome


@dataclass(eq=False, slots=True)
class Write:
    """A write of On by a controller, a command by a user, or a restart by a rule."""

    group_id: str
    by: str
    """A controller's ID, a user's number, or `rule`."""
    writer: Hashable | None = None
    """The controller's connection."""
    origin: RequestOrigin = RequestOrigin.CONTROLLER
    respond: Callable[[bool], None] = lambda _: None
    """Takes whether the response to the controller is a success."""
    is_answered: bool = False
    timer: asyncio.TimerHandle | None = None
    """Its time limit."""

    def settle(self, *, ok: bool) -> None:
        """Answer, unless it already has an answer."""
        if self.is_answered:
            return
        self.is_answered = True
        if self.timer is not None:
            self.timer.cancel()
        self.respond(ok)


@dataclass(eq=False, slots=True)
class ActionRequest:
    """One action on one group, from the first write that led to it to its end."""

    id: int
    group_id: str
    action: Action
    by: str
    origin: RequestOrigin
    ended: asyncio.Future[ActionResult] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )
    is_begun: bool = False
    """Whether the host has accepted it."""
    is_replaced: bool = False
    """Whether a newer request for the group came before its end."""
    asked_unix_seconds: int = field(default_factory=lambda: int(time.time()))
    asked_seconds: float = field(default_factory=lambda: asyncio.get_running_loop().time())
    took_seconds: float = 0
    task: asyncio.Task[None] | None = None
    """The task that carries it out."""
    _begun: list[Callable[[], None]] = field(default_factory=list)

    def when_begun(self, tell: Callable[[], None]) -> None:
        """Call `tell` once the host has accepted the request, or now if it has."""
        if self.is_begun:
            tell()
        else:
            self._begun.append(tell)

    def begin(self) -> None:
        """Note that the host has accepted it."""
        self.is_begun = True
        for tell in self._begun:
            tell()
        self._begun.clear()

    def end(self, result: ActionResult) -> None:
        """Note its end; callbacks of `when_begun` are dropped."""
        self._begun.clear()
        if not self.ended.done():
            self.took_seconds = asyncio.get_running_loop().time() - self.asked_seconds
            self.ended.set_result(result)

    @property
    def last_action(self) -> LastAction:
        """The state of the request, for a report."""
        asked = LastAction(self.action, self.by, self.asked_unix_seconds)
        if not self.ended.done() or self.ended.cancelled():
            return asked
        failure = self.ended.result().failure
        outcome = Outcome.DONE if failure is None else Outcome.FAILED
        return asked._replace(
            outcome=outcome, failure=failure or "", duration_ms=round(self.took_seconds * 1000)
        )
