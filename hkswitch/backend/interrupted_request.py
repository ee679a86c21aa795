"""A request whose helper ended before it reported a result: judged by later states. Pure: no I/O."""

from dataclasses import dataclass
from typing import Final

from hkswitch.model.group import Group
from hkswitch.model.unit_state import Action, ActionResult, GroupState

PASSING: Final = frozenset({GroupState.STARTING, GroupState.STOPPING})


@dataclass(frozen=True, slots=True)
class InterruptedRequest:
    """A request that a helper had begun. `has_left_on`: its group was on before, and was not at the end."""

    action: Action
    group: Group
    has_left_on: bool

    def has_moved(self, state: GroupState | None) -> bool:
        """Tell whether its jobs have shown an effect; a group that is on may not have been restarted."""
        is_final = state is self._wanted and self.action is not Action.RESTART
        return self.has_left_on or state in PASSING or is_final

    def has_settled(self, state: GroupState | None) -> bool:
        """Tell whether its jobs have ended."""
        return state is not None and state not in PASSING

    def has_succeeded(self, state: GroupState | None) -> bool:
        """Tell whether the group is in the state that was requested."""
        return state is self._wanted

    def result(self, state: GroupState | None, why_gone: str, *, moved: bool) -> ActionResult:
        """Return its result, judged by the last state of its group and whether that was seen to change."""
        if not self.has_succeeded(state):
            return ActionResult(why_gone)
        # The helper itself restarts containers, one part of the group after the other.
        if self.action is Action.RESTART and (self.group.contained or not moved):
            return ActionResult(f"{why_gone}; it is not known whether {self.group.id} was restarted")
        return ActionResult()

    @property
    def _wanted(self) -> GroupState:
        return GroupState.OFF if self.action is Action.STOP else GroupState.ON
