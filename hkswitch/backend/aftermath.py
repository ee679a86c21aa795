"""Waits for what later reports tell about a request whose helper ended before it reported a result.

Decides nothing: interrupted_request.py does.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from hkswitch.backend.interrupted_request import InterruptedRequest
from hkswitch.backend.wakeups import Wakeups
from hkswitch.model.unit_state import Action, ActionResult, GroupState

SETTLED_WITHIN_SECONDS: Final = 100
"""How long to wait for units that a helper left in transition; systemd itself gives them 90 s by default."""

STAYS_ON_SECONDS: Final = 1
"""A start has succeeded if its group is still on after this time."""

STARTING_WITHIN_SECONDS: Final = 2
"""How long to wait for the first sign of jobs that a helper left in the queue."""


@dataclass(frozen=True, slots=True)
class Aftermath:
    """What is reported of the request's group."""

    news: Wakeups
    has_reported: Callable[[], bool]
    """Whether the next helper has reported."""
    state: Callable[[], GroupState | None]
    is_another: Callable[[], bool]
    """Whether the group means something else by now."""

    async def result(self, request: InterruptedRequest, why_gone: str, within_seconds: float) -> ActionResult:
        """Return the result of a request; the next helper must report within this time."""

        def is_over() -> bool:
            return self.is_another() or request.has_settled(self.state())

        if not await self.news.until(self.has_reported, within_seconds):
            return ActionResult(why_gone)
        moved = await self.news.until(lambda: request.has_moved(self.state()), STARTING_WITHIN_SECONDS)
        await self.news.until(is_over, SETTLED_WITHIN_SECONDS)
        if request.action is not Action.STOP and request.has_succeeded(self.state()):
            # A group in a crash loop is on some of the time.
            await self.news.until(lambda: not request.has_succeeded(self.state()), STAYS_ON_SECONDS)
        return request.result(self.state(), why_gone, moved=moved)
