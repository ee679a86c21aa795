"""What root writes down in a world, by which jobs are judged: each was decided, and written, before."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from hkswitch.model.unit_state import Action
from hkswitch.serviceswitch.audit import Decision, Denial, Effect
from hkswitch.serviceswitch.policy import ALERT
from tests.world.files import ConfigFile
from tests.world.messages import Message

ACTIONS: Final = {
    "StartUnit": Action.START,
    "StopUnit": Action.STOP,
    "TryRestartUnit": Action.RESTART,
}
VERBS: Final = {"start": {Action.START, Action.RESTART}, "stop": {Action.STOP, Action.RESTART}}
"""The actions that need each request to an engine."""

COMMAND: Final = "hkswitch-command-{}.service"
ALERT_COMMAND: Final = "hkswitch-alert-{}.service"


@dataclass(eq=False)
class AuditLog:
    """The audit of one helper; `file` says what its groups are."""

    file: ConfigFile
    by_rule: Callable[[str], None] = lambda _: None
    """Is told the group of each request of a rule that was allowed."""
    undecided: list[str] = field(default_factory=list)
    """Jobs that it asked for, and had not decided on."""
    effects: int = 0
    _allowed: Counter[tuple[Action | None, str]] = field(default_factory=Counter)
    """How many jobs it has decided on, and not asked for yet: of a command, whatever it does."""
    _without_effect: set[int] = field(default_factory=set)
    _decisions: int = 0
    _decided: list[tuple[Decision, frozenset[str]]] = field(default_factory=list)
    """All decisions, and the containers that each is about."""

    async def decided(self, action: Action, group_id: str, *, by_rule: bool = False) -> Decision:
        group = self.file.parsed.group(group_id)
        assert group is not None
        self._decisions += 1
        self._without_effect.add(self._decisions)
        if action == ALERT:
            self._allowed[None, ALERT_COMMAND.format(group_id)] += 1
        elif group.commands is None:
            self._allowed.update((action, unit) for unit in group.units)
        else:
            self._allowed[None, COMMAND.format(group_id)] += 1
        decision = Decision(action, group_id, self._decisions, by_rule)
        if action != ALERT:
            self._decided.append((decision, frozenset(group.contained)))
        if by_rule:
            self.by_rule(group_id)
        return decision

    def denied(self, denial: Denial) -> None:
        assert denial.reason

    def ended(self, effect: Effect) -> None:
        self._without_effect.remove(effect.decision.number)
        self.effects += 1

    def asked_for(self, call: Message) -> None:
        """Take note of a call that makes a job."""
        job = ACTIONS.get(call.member), str(call.body[0])
        self._allowed[job] -= 1
        if self._allowed[job] < 0:
            self.undecided.append(f"{call.member} {job[1]}")

    def posted(self, verb: str, members: frozenset[str]) -> str:
        """Say what is wrong with a start or stop of a container of these members; empty if nothing is."""
        pending = [
            decision
            for decision, named in self._decided
            if named & members and decision.number in self._without_effect and decision.action in VERBS[verb]
        ]
        if not pending:
            return "no request that was written down, and has not ended, is for that"
        if all(map(self._is_overruled, pending)):
            return "a newer request for the group had overruled it"
        return ""

    def _is_overruled(self, decision: Decision) -> bool:
        newest = [other for other, _ in self._decided if other.group == decision.group][-1]
        return Action(newest.action).overrules(Action(decision.action))

    @property
    def without_effect(self) -> int:
        """How many decisions have no result."""
        return len(self._without_effect)
