"""What a helper has told so far: its groups, and the states of their units and probes. Pure: no I/O.

A helper may be on another machine, and is not believed further than its own groups: what it tells beyond
those that are asked for is not kept.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Final

from hkswitch.model.switch_events import Observed
from hkswitch.model.unit_state import UnitState
from hkswitch.protocol.helper import CONFIG_CHANGED, Complete, GroupTold, Lost, ProbeTold, StatesTold, Told

MOST_UNITS: Final = 128
"""In a group."""


@dataclass(slots=True)
class Knowledge:
    """What is known by one life of a helper, within one epoch."""

    wanted: Collection[str]
    """The ids of the groups that are asked for."""
    groups: dict[str, GroupTold] = field(default_factory=dict)
    units: dict[str, UnitState] = field(default_factory=dict)
    probes: dict[str, ProbeTold] = field(default_factory=dict)
    is_complete: bool = False
    """Whether everything was told once."""
    lost: str = ""
    """Why nothing is known of units."""
    _groups_of: dict[str, dict[str, None]] = field(default_factory=dict)

    def take(self, told: Told) -> Collection[str]:
        """Take over what was told; returns the ids of the groups that it is about."""
        match told:
            case GroupTold(group=group_id):
                return self._take_group(told) if group_id in self.wanted else ()
            case StatesTold(units=units, probes=probes):
                return self._take_states(units, probes)
            case Lost(reason=reason):
                self.units.clear()
                self.lost, self.is_complete = reason or "systemd cannot be reached", False
            case Complete():
                self.lost, self.is_complete = "", True
        return self.wanted

    def has(self, group_id: str, token: str) -> bool:
        """Whether the helper has this group, and means the same by it."""
        told = self.groups.get(group_id)
        return told is not None and told.token == token

    def observed(self, group_id: str, token: str) -> Observed:
        """What is known of a group that `token` stands for."""
        if not self.has(group_id, token):
            return Observed(None, None, CONFIG_CHANGED)
        if self.lost:
            return Observed(None, None, self.lost)
        probe = self.probes.get(group_id, ProbeTold(None))
        told = self.groups[group_id]
        units = {unit: self.units[unit] for unit in told.units if unit in self.units}
        return Observed(units, probe.verdict, probe.reason)

    def unanswered_of(self, before: "Knowledge") -> dict[str, ProbeTold]:
        """What the probes said before that have not answered yet, of groups that are as they were."""
        return {
            group_id: before.probes[group_id]
            for group_id, told in self.groups.items()
            if group_id in before.probes
            and self.probes.get(group_id, ProbeTold(None)).verdict is None
            and before.has(group_id, told.token)
            and all(self.units.get(unit) == before.units.get(unit) for unit in told.units)
        }

    def _take_group(self, told: GroupTold) -> Collection[str]:
        before = self.groups.get(told.group)
        told = told._replace(units=told.units[:MOST_UNITS])
        self.groups[told.group] = told
        if before is not None and before.token != told.token:
            self.probes.pop(told.group, None)  # it was another probe, perhaps: what this one says follows
        for unit in told.units:
            self._groups_of.setdefault(unit, {})[told.group] = None
        for unit in {*before.units} - {*told.units} if before is not None else ():
            self._groups_of[unit].pop(told.group, None)
            if not self._groups_of[unit]:  # nothing is told of it any more
                del self._groups_of[unit]
                self.units.pop(unit, None)
        return (told.group,)

    def _take_states(
        self, units: Mapping[str, UnitState], probes: Mapping[str, ProbeTold]
    ) -> Collection[str]:
        concerned: dict[str, None] = {}
        for unit, state in units.items():
            if groups := self._groups_of.get(unit):
                self.units[unit] = state
                concerned |= groups
        for group_id, told in probes.items():
            if group_id in self.groups:
                self.probes[group_id] = told
                concerned[group_id] = None
        return concerned.keys()
