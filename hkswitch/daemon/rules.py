"""Runs the rules of groups with `restart_when`: passes samples to them, and has groups restarted.

Decides nothing: model/restart_rule.py does. A rule requests a restart as users and controllers do.
"""

import asyncio
import logging
from collections.abc import Awaitable, Iterable, Mapping
from typing import Any, Protocol

from hkswitch.model.errors import Failure
from hkswitch.model.group import Group
from hkswitch.model.restart_rule import RestartRule
from hkswitch.model.restart_rule_events import (
    Armed,
    GaveUp,
    RestartDue,
    RestartEnded,
    RuleChanged,
    RuleDecision,
    RuleEvent,
    Sampled,
    SamplesLost,
)
from hkswitch.model.switch_events import Observed
from hkswitch.model.unit_state import ActionResult, Sample

_log = logging.getLogger(__name__)


class RestartableGroups(Protocol):
    """The groups, as rules need them."""

    def is_on(self, group_id: str) -> bool:
        """Return whether a group is on, and no request for it is pending."""

    def restart_by_rule(self, group_id: str) -> Awaitable[ActionResult]:
        """Restart what runs of a group; returns the result when it ends. Raises `Failure`."""

    def noticed(self) -> None:
        """Tell the watchers that the report has changed."""


class RuleAlerts(Protocol):
    """Where rules alert, and what they keep over restarts of the daemon."""

    def rule_decided(self, group_id: str, decision: GaveUp | Armed) -> None:
        """Alert that a rule has given up, or note that it acts again."""

    @property
    def kept_rules(self) -> Mapping[str, Mapping[str, Any]]:
        """What each rule keeps, by group."""

    @kept_rules.setter
    def kept_rules(self, rules: Mapping[str, Mapping[str, Any]]) -> None: ...


class Rules:
    """The rules of all groups that have one."""

    def __init__(self, groups: Iterable[Group], board: RestartableGroups, alerts: RuleAlerts) -> None:
        """Begin with what was kept; no rule acts before its group has exceeded a limit for a whole window."""
        self._board = board
        self._alerts = alerts
        self._rules: dict[str, RestartRule] = {}
        self._restarts: set[asyncio.Task[None]] = set()
        self.regroup(groups)

    def regroup(self, groups: Iterable[Group]) -> None:
        """Replace the groups; a rule that changes keeps its restarts of the last hour."""
        kept, before, self._rules = self._alerts.kept_rules, self._rules, {}
        for group in groups:
            if group.restart_when is None:
                continue
            if (rule := before.get(group.id)) is None:
                rule = RestartRule.restored(group.restart_when, group.members, kept.get(group.id))
            self._rules[group.id] = rule
            self._step(group.id, RuleChanged(group.restart_when, group.members))
            if rule.gave_up:
                self._alerts.rule_decided(group.id, GaveUp(rule.gave_up, ""))

    def observed(self, group_id: str, observed: Observed) -> None:
        """Forget what was measured of a group of which nothing is known, and learn what a group is."""
        if observed.units is None:
            self._step(group_id, SamplesLost())
        rule, told = self._rules.get(group_id), observed.group
        if rule is not None and told is not None and rule.members != told.members:
            self._step(group_id, RuleChanged(rule.limits, told.members))

    def sampled(self, group_id: str, sample: Sample) -> None:
        """Handle the resources of a group."""
        self._step(group_id, Sampled(sample, self._board.is_on(group_id)))

    def description(self, group_id: str) -> str:
        """Return how far a group's rule is, for the status; empty if it has nothing to say."""
        rule = self._rules.get(group_id)
        return "" if rule is None else rule.description

    async def close(self) -> None:
        """Wait for no restart any longer."""
        for restart in self._restarts:
            restart.cancel()
        await asyncio.gather(*self._restarts, return_exceptions=True)

    def _step(self, group_id: str, event: RuleEvent) -> None:
        before = self._rules.get(group_id)
        if before is None:
            return  # a reload removed it
        after, decisions = before.step(event)
        self._rules[group_id] = after
        if after.kept != before.kept:  # before it acts: a daemon that is killed now must count this restart
            self._alerts.kept_rules = {**self._alerts.kept_rules, group_id: after.kept}
        for decision in decisions:
            self._carry_out(group_id, decision)
        for what in {*after.unmeasured} - {*before.unmeasured}:
            _log.warning("%s: cannot measure %s; its limit has no effect", group_id, what)
        if after.description != before.description:
            self._board.noticed()

    def _carry_out(self, group_id: str, decision: RuleDecision) -> None:
        match decision:
            case RestartDue(reason):
                _log.warning("%s: restarting: %s", group_id, reason)
                restart = asyncio.create_task(self._restart(group_id))
                self._restarts.add(restart)
                restart.add_done_callback(self._restarts.discard)
            case GaveUp(reason, excess):
                _log.error("%s: restart_when %s: %s", group_id, reason, excess)
                self._alerts.rule_decided(group_id, decision)
            case Armed(reason):
                _log.info("%s: restart_when is active again: %s", group_id, reason)
                self._alerts.rule_decided(group_id, decision)

    async def _restart(self, group_id: str) -> None:
        try:
            failure = (await self._board.restart_by_rule(group_id)).failure
        except Failure as error:
            failure = str(error)
        self._step(group_id, RestartEnded(failure))
