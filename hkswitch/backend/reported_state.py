"""The reports of a helper so far: its groups, and the states of their units and probes. Pure: no I/O.

A helper may be on another machine, and is trusted only about its own groups: reports about any other group
are dropped.
"""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final

from hkswitch.model.switch_events import Observed
from hkswitch.model.unit_state import Sample, UnitFailure, UnitState
from hkswitch.protocol.helper import (
    CONFIG_CHANGED,
    Complete,
    GroupUpdate,
    Lost,
    ProbeUpdate,
    SamplesUpdate,
    StatesUpdate,
    Update,
)

MOST_UNITS: Final = 128
"""In a group."""


def changed_groups(group_ids: Collection[str]) -> str:
    """Return what is wrong with a config in which these groups mean something else than in the daemon's."""
    if not group_ids:
        return ""
    return CONFIG_CHANGED.replace("the configuration", f"the configuration of {', '.join(group_ids)}", 1)


def missing_groups(ids_there: Collection[str], host: str) -> str:
    """Return that the config of another host lacks groups; empty if there are none."""
    if not ids_there:
        return ""
    return f"the configuration of the host {host} has no group {', '.join(map(repr, ids_there))}"


def rejected_config(why: str, host: str) -> str:
    """Return why root rejects a config, of another host if it has a name; empty if root accepts it."""
    return f"the host {host} rejects its configuration: {why}" if why and host else why


@dataclass(slots=True)
class ReportedState:
    """The state that one helper has reported, within one epoch."""

    wanted: Collection[str]
    """The ids of the groups whose reports are kept."""
    groups: dict[str, GroupUpdate] = field(default_factory=dict)
    units: dict[str, UnitState] = field(default_factory=dict)
    probes: dict[str, ProbeUpdate] = field(default_factory=dict)
    failures: dict[str, UnitFailure] = field(default_factory=dict)
    is_complete: bool = False
    """Whether everything was reported once."""
    lost: str = ""
    """Why no state is known; empty if states are known."""
    _groups_of: dict[str, dict[str, None]] = field(default_factory=dict)

    def take(self, update: Update) -> Collection[str]:
        """Apply a report; return the ids of the groups that it concerns."""
        match update:
            case GroupUpdate(group=group_id):
                return self._take_group(update) if group_id in self.wanted else ()
            case StatesUpdate():
                return self._take_states(update)
            case SamplesUpdate():
                return ()
            case Lost(reason=reason):
                self.units.clear()
                self.failures.clear()
                self.lost, self.is_complete = reason or "systemd is unavailable", False
            case Complete():
                self.lost, self.is_complete = "", True
        return self.wanted

    def has(self, group_id: str, token: str) -> bool:
        """Tell whether the helper has this group, with the same meaning; an empty token stands for none."""
        group = self.groups.get(group_id)
        return group is not None and bool(token) and group.token == token

    def observed(self, group_id: str, token: str) -> Observed:
        """Return the state of the group that `token` stands for."""
        if not self.has(group_id, token):
            return Observed(None, None, CONFIG_CHANGED)
        if self.lost:
            return Observed(None, None, self.lost)
        probe = self.probes.get(group_id, ProbeUpdate(None))
        members = self.groups[group_id].units
        units = {unit: self.units[unit] for unit in members if unit in self.units}
        failures = {unit: self.failures[unit] for unit in members if unit in self.failures}
        return Observed(units, probe.verdict, probe.reason, failures)

    def sample(self, group_id: str, token: str, update: SamplesUpdate) -> Sample | None:
        """Return the resources of the group that `token` stands for."""
        if not self.has(group_id, token):
            return None
        members = {*self.groups[group_id].units}
        usages = tuple(usage for usage in update.usages if usage.member in members)
        return Sample(update.at_seconds, usages)

    def unanswered_of(self, before: "ReportedState") -> dict[str, ProbeUpdate]:
        """Return earlier results of probes that have not answered yet, for groups that did not change."""
        return {
            group_id: before.probes[group_id]
            for group_id, group in self.groups.items()
            if group_id in before.probes
            and self.probes.get(group_id, ProbeUpdate(None)).verdict is None
            and before.has(group_id, group.token)
            and all(self.units.get(unit) == before.units.get(unit) for unit in group.units)
        }

    def _take_group(self, group: GroupUpdate) -> Collection[str]:
        before = self.groups.get(group.group)
        group = group._replace(units=group.units[:MOST_UNITS])
        self.groups[group.group] = group
        if before is not None and before.token != group.token:
            self.probes.pop(group.group, None)  # the probe may be another one, whose result follows
        for unit in group.units:
            self._groups_of.setdefault(unit, {})[group.group] = None
        for unit in {*before.units} - {*group.units} if before is not None else ():
            self._groups_of[unit].pop(group.group, None)
            if not self._groups_of[unit]:  # no reports about it follow
                del self._groups_of[unit]
                self.units.pop(unit, None)
                self.failures.pop(unit, None)
        return (group.group,)

    def _take_states(self, update: StatesUpdate) -> Collection[str]:
        concerned: dict[str, None] = {}
        for unit, state in update.units.items():
            if groups := self._groups_of.get(unit):
                self.units[unit] = state
                concerned |= groups
        for unit, failure in update.failures.items():
            if groups := self._groups_of.get(unit):
                self._set_failure(unit, failure)
                concerned |= groups
        for group_id, probe in update.probes.items():
            if group_id in self.groups:
                self.probes[group_id] = probe
                concerned[group_id] = None
        return concerned.keys()

    def _set_failure(self, unit: str, failure: UnitFailure | None) -> None:
        if failure is None:
            self.failures.pop(unit, None)
        else:
            self.failures[unit] = failure
