"""What the daemon is told: the newest state of each group, unit and probe, once it reads. Pure. Used as root.

A daemon that reads slowly gets fewer messages, and never an older state after a newer one. What is kept here
is bounded by the config.
"""

from collections.abc import Collection, Iterable, Mapping
from itertools import islice

from hkswitch.model.errors import Failure
from hkswitch.model.group import Group
from hkswitch.model.unit_state import UnitState
from hkswitch.protocol.helper import (
    MOST_STATES,
    Complete,
    GroupUpdate,
    Lost,
    ProbeUpdate,
    Reply,
    StatesUpdate,
)


class States:
    """What is known, and which of it is still to be told."""

    def __init__(self) -> None:
        """Nothing is told before `begin`."""
        self._epoch = 0
        self._groups: dict[str, Group] = {}
        self._units: dict[str, UnitState] = {}
        self._probes: dict[str, ProbeUpdate] = {}
        self._why_lost = ""
        self._untold_loss = False
        self._untold_groups: dict[str, None] = {}
        self._untold_units: dict[str, None] = {}
        self._untold_probes: dict[str, None] = {}
        self._complete = False

    def begin(self, epoch: int) -> None:
        """Tell everything anew, as part of this epoch."""
        self._epoch = epoch
        self._untold_loss = bool(self._why_lost)
        self._untold_groups |= dict.fromkeys(self._groups)
        self._untold_units = dict.fromkeys(self._units)
        self._untold_probes = dict.fromkeys(self._probes)
        self._complete = False

    def regroup(self, groups: Collection[Group]) -> None:
        """These are the groups of the config now; forget what is of no other group."""
        before, self._groups = self._groups, {group.id: group for group in groups}
        changed = [name for name in before | self._groups if before.get(name) != self._groups.get(name)]
        self._untold_groups |= dict.fromkeys(changed)
        # The daemon keeps states of its own groups only: it may have none of a group that comes back.
        there = [self._groups[name] for name in changed if name in self._groups]
        again = {unit for group in there for unit in group.units}
        self._untold_units |= dict.fromkeys(unit for unit in self._units if unit in again)
        self._untold_probes |= dict.fromkeys(group.id for group in there if group.id in self._probes)
        units = {unit for group in groups for unit in group.units}
        probed = {group.id for group in groups if group.probe}
        for known, untold, wanted in (
            (self._units, self._untold_units, units),
            (self._probes, self._untold_probes, probed),
        ):
            for name in known.keys() - wanted:
                del known[name]
                untold.pop(name, None)

    def seen(self, units: Mapping[str, UnitState]) -> None:
        """These are the states of some units now."""
        self._units |= units
        self._untold_units |= dict.fromkeys(units)

    def probed(self, group_id: str, told: ProbeUpdate) -> None:
        """This is what a group's probe says now."""
        if self._probes.get(group_id) != told:
            self._probes[group_id] = told
            self._untold_probes[group_id] = None

    def lose(self, why: Failure) -> None:
        """No unit's state is known any more."""
        if str(why) != self._why_lost:  # each try to connect again says so
            self._why_lost, self._untold_loss = str(why), True
        self._units.clear()
        self._untold_units.clear()
        self._complete = False

    def complete(self) -> None:
        """All units were seen."""
        self._why_lost, self._untold_loss = "", False
        self._complete = True

    def next(self) -> Reply | None:
        """The next message, None if everything was told."""
        if not self._epoch:
            return None
        if self._untold_groups:
            [group_id] = _taken(self._untold_groups, 1)
            group = self._groups.get(group_id)
            if group is None:
                return GroupUpdate(self._epoch, group_id, "")
            return GroupUpdate(self._epoch, group_id, group.token, group.units)
        if self._untold_loss:
            self._untold_loss = False
            return Lost(self._epoch, self._why_lost)
        if self._untold_units or self._untold_probes:
            units = {unit: self._units[unit] for unit in _taken(self._untold_units, MOST_STATES)}
            probes = {
                group_id: self._probes[group_id] for group_id in _taken(self._untold_probes, MOST_STATES)
            }
            return StatesUpdate(self._epoch, units, probes)
        if self._complete:
            self._complete = False
            return Complete(self._epoch)
        return None


def _taken(untold: dict[str, None], most: int) -> Iterable[str]:
    """The first names of those that are untold; they are told with this."""
    names = list(islice(untold, most))
    for name in names:
        del untold[name]
    return names
