"""Faults of simulated units, so that alerts and rules can be seen in the demo. Pure: the host has the clock.

The first member of each group with a rule exceeds its limits some time after each start, so that the rule
restarts it. That of each other group with a sensor crashes, and comes back.
"""

from collections.abc import Collection
from typing import Final, NamedTuple

from hkswitch.model.group import Group, RestartWhen
from hkswitch.model.unit_state import Sample, Usage

CRASH_AFTER_SECONDS: Final = 60.0
"""From the start of a unit to its crash."""

RETURN_AFTER_SECONDS: Final = 20.0
"""From its crash to its next start."""

CALM_SECONDS: Final = 20.0
"""From the start of a unit until it uses too much."""

EXCESS: Final = 1.5
"""How much a unit then uses, as a multiple of its group's limits."""

USUAL_CPU_SHARE: Final = 0.01
USUAL_MEMORY_BYTES: Final = 12 * 2**20

_NS: Final = 1e9
_MIB: Final = 2**20


class SimulatedRun(NamedTuple):
    """A run of a simulated unit, and when it began."""

    name: str
    at_seconds: float


def crashing(groups: Collection[Group]) -> tuple[Group, ...]:
    """Return the groups whose first member crashes."""
    return tuple(group for group in groups if group.members and group.alert and group.restart_when is None)


def hungry(groups: Collection[Group]) -> tuple[Group, ...]:
    """Return the groups whose first member uses too much."""
    return tuple(group for group in groups if group.members and group.restart_when)


def sample(group: Group, rule: RestartWhen, runs: dict[str, SimulatedRun], now_seconds: float) -> Sample:
    """Return the resources of a group's units that run; `runs` has these."""
    usages = (
        _usage(member, runs[member], rule, now_seconds, is_hungry=member == group.members[0])
        for member in group.members
        if member in runs
    )
    return Sample(now_seconds, tuple(usages))


def _usage(
    member: str, run: SimulatedRun, rule: RestartWhen, now_seconds: float, *, is_hungry: bool
) -> Usage:
    age_seconds = now_seconds - run.at_seconds
    hungry_seconds = max(0.0, age_seconds - CALM_SECONDS) if is_hungry else 0.0
    share = USUAL_CPU_SHARE if rule.cpu_percent is None else EXCESS * rule.cpu_percent / 100
    used_seconds = USUAL_CPU_SHARE * (age_seconds - hungry_seconds) + share * hungry_seconds
    memory_bytes = USUAL_MEMORY_BYTES
    if hungry_seconds and rule.memory_mib is not None:
        memory_bytes = round(EXCESS * rule.memory_mib * _MIB)
    return Usage(member, run.name, run.at_seconds, round(used_seconds * _NS), memory_bytes)
