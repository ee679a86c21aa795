"""States not yet sent to the daemon, and a sample: the newest of each. Pure: no I/O. Used as root.

A failure is sent with its unit's state or after it, and even if the unit has been started again meanwhile.

A daemon that reads slowly gets fewer messages, but never an older state after a newer one. The config bounds
what is kept here.
"""

from collections.abc import Collection, Iterable, Mapping
from itertools import islice

from hkswitch.model.errors import Failure
from hkswitch.model.group import Group
from hkswitch.model.unit_state import Action, UnitFailure, UnitState, Usage
from hkswitch.protocol.helper import (
    MOST_STATES,
    Complete,
    GroupUpdate,
    Lost,
    ProbeUpdate,
    Reply,
    SamplesUpdate,
    StatesUpdate,
)


class UnsentStates:
    """All known states, and which of them are still to be sent."""

    def __init__(self) -> None:
        """Sends nothing before `begin`."""
        self._epoch = 0
        self._groups: dict[str, Group] = {}
        self._units: dict[str, UnitState] = {}
        self._probes: dict[str, ProbeUpdate] = {}
        self._failures: dict[str, UnitFailure] = {}
        self._passed_failures: dict[str, UnitFailure] = {}
        """Those that were over before they were sent; the first of each unit."""
        self._why_lost = ""
        self._unsent_loss = False
        self._unsent_groups: dict[str, None] = {}
        self._unsent_units: dict[str, None] = {}
        self._unsent_probes: dict[str, None] = {}
        self._unsent_failures: dict[str, None] = {}
        self._complete = False
        self._sample: tuple[float, tuple[Usage, ...]] | None = None

    def begin(self, epoch: int) -> None:
        """Send everything again, as part of this epoch."""
        self._epoch = epoch
        self._unsent_loss = bool(self._why_lost)
        self._unsent_groups |= dict.fromkeys(self._groups)
        self._unsent_units = dict.fromkeys(self._units)
        self._unsent_probes = dict.fromkeys(self._probes)
        self._unsent_failures |= dict.fromkeys(self._failures)
        self._complete = False
        self._sample = None

    def regroup(self, groups: Collection[Group]) -> None:
        """Apply the groups of a new config, and forget the states of all others."""
        before, self._groups = self._groups, {group.id: group for group in groups}
        changed = [name for name in before | self._groups if before.get(name) != self._groups.get(name)]
        self._unsent_groups |= dict.fromkeys(changed)
        # The daemon keeps states of its own groups only: it may have none of a group that comes back.
        present = [self._groups[name] for name in changed if name in self._groups]
        again = {unit for group in present for unit in group.members}
        self._unsent_units |= dict.fromkeys(unit for unit in self._units if unit in again)
        self._unsent_failures |= dict.fromkeys(unit for unit in self._failures if unit in again)
        self._unsent_probes |= dict.fromkeys(group.id for group in present if group.id in self._probes)
        units = {unit for group in groups for unit in group.members}
        probed = {group.id for group in groups if group.probe}
        for known, unsent, wanted in (
            (self._units, self._unsent_units, units),
            (self._failures, self._unsent_failures, units),
            (self._passed_failures, self._unsent_failures, units),
            (self._probes, self._unsent_probes, probed),
        ):
            for name in known.keys() - wanted:
                del known[name]
                unsent.pop(name, None)

    def seen(self, units: Mapping[str, UnitState]) -> None:
        """Update the states of some units."""
        self._units |= units
        self._unsent_units |= dict.fromkeys(units)

    def failed(self, unit: str, failure: UnitFailure | None) -> None:
        """Update the failure of a unit; None: it has not failed any longer."""
        before = self._failures.get(unit)
        if failure == before:
            return
        is_over = before is not None and (failure is None or failure.run != before.run)
        if before is not None and is_over and unit in self._unsent_failures:
            self._passed_failures.setdefault(unit, before)
        self._unsent_failures[unit] = None
        if failure is None:
            del self._failures[unit]
        else:
            self._failures[unit] = failure

    def probed(self, group_id: str, message: ProbeUpdate) -> None:
        """Update the probe result of a group."""
        if self._probes.get(group_id) != message:
            self._probes[group_id] = message
            self._unsent_probes[group_id] = None

    def sampled(self, at_seconds: float, usages: tuple[Usage, ...]) -> None:
        """Replace the sample that is not sent yet."""
        self._sample = at_seconds, usages

    def lose(self, why: Failure) -> None:
        """Forget the states of all units: they are no longer known."""
        if str(why) != self._why_lost:  # each attempt to reconnect reports it
            self._why_lost, self._unsent_loss = str(why), True
        self._units.clear()
        self._unsent_units.clear()
        self._sample = None
        for failures in (self._failures, self._passed_failures, self._unsent_failures):
            failures.clear()
        self._complete = False

    def complete(self) -> None:
        """Note that the states of all units are known."""
        self._why_lost, self._unsent_loss = "", False
        self._complete = True

    def next(self) -> Reply | None:
        """Return the next message, None if everything was sent."""
        if not self._epoch:
            return None
        if self._unsent_groups:
            [group_id] = _take(self._unsent_groups, 1)
            group = self._groups.get(group_id)
            if group is None:
                return GroupUpdate(self._epoch, group_id, "")
            actions = tuple(action for action in Action if action in group.actions)
            told = group.members, actions, group.traits, group.timeout_seconds
            return GroupUpdate(self._epoch, group_id, group.token, *told)
        if self._unsent_loss:
            self._unsent_loss = False
            return Lost(self._epoch, self._why_lost)
        if self._unsent_units or self._unsent_probes or self._unsent_failures:
            units = {unit: self._units[unit] for unit in _take(self._unsent_units, MOST_STATES)}
            probes = {
                group_id: self._probes[group_id] for group_id in _take(self._unsent_probes, MOST_STATES)
            }
            return StatesUpdate(self._epoch, units, probes, self._next_failures())
        if self._complete:
            self._complete = False
            return Complete(self._epoch)
        if self._sample is not None:
            (at_seconds, usages), self._sample = self._sample, None
            return SamplesUpdate(self._epoch, at_seconds, usages)
        return None

    def _next_failures(self) -> dict[str, UnitFailure | None]:
        if self._unsent_units:  # those in the next message may be of these
            return {}
        failures: dict[str, UnitFailure | None] = {}
        for unit in _take(self._unsent_failures, MOST_STATES):
            failures[unit] = self._passed_failures.pop(unit, self._failures.get(unit))
            if failures[unit] != self._failures.get(unit):
                self._unsent_failures[unit] = None
        return failures


def _take(unsent: dict[str, None], most: int) -> Iterable[str]:
    """Remove and return the first names, at most `most`."""
    names = list(islice(unsent, most))
    for name in names:
        del unsent[name]
    return names
