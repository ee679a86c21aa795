"""When a rule may restart a group, and when it must, by what units truly used: it knows no samples."""

import asyncio
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from hkswitch.model.group import Group, RestartWhen
from hkswitch.model.unit_state import GroupState
from tests.world.reports import runs
from tests.world.seed_run import Violation

if TYPE_CHECKING:
    from tests.world.world import World

HOUR_SECONDS: Final = 3600.0
LATE_SECONDS: Final = 35.0
"""Two samples and more: a window that is full is noticed by then."""

TOLD_SECONDS: Final = 2.0
INTERVAL_SECONDS: Final = 15.5
STEP_SECONDS: Final = 0.5
ROUNDING: Final = 0.98
"""Of a limit that is exceeded, as far as samples can tell."""

CLEARLY: Final = 1.03
"""Of a limit that is exceeded beyond doubt."""

_MIB: Final = 2**20


@dataclass(eq=False)
class RuleReference:
    """The rules of all groups."""

    world: "World"
    restarts: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    """When root allowed each group to be restarted by its rule."""
    attempts: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    """When each rule asked for a restart, allowed or not."""
    _unmet: list[tuple[float, str]] = field(default_factory=list)
    """Attempts that should be in the audit."""
    _most: dict[str, tuple[int, bool]] = field(default_factory=dict)
    """How many restarts of a group were allowed within an hour, and whether its rule had given up."""
    _over_since: defaultdict[str, float] = field(default_factory=lambda: defaultdict(lambda: math.inf))
    _runs: dict[str, tuple[str, ...]] = field(default_factory=dict)
    _looked_at_seconds: float = 0

    def regrouped(self, groups: Iterable[Group]) -> None:
        """These groups are served from now on: a rule that goes is forgotten."""
        with_rule = {group.id for group in groups if group.restart_when is not None}
        for known in (self.attempts, self.restarts):
            for name in known.keys() - with_rule:
                del known[name]

    def attempted(self, group_id: str) -> None:
        """A rule asks for a restart."""
        now_seconds = asyncio.get_running_loop().time()
        group = self.world.daemon.front.groups[group_id]
        assert group.restart_when is not None
        earlier, most = self.attempts[group_id], group.restart_when.at_most_per_hour
        if len([at for at in earlier if now_seconds - at < HOUR_SECONDS]) >= most:
            self._wrong(f"the rule of {group_id} asks for more than {most} restarts within an hour")
        earlier.append(now_seconds)
        self._unmet.append((now_seconds, group_id))

    def _wrong(self, what: str) -> None:
        self.world.violation = self.world.violation or Violation(what)

    def restarted(self, group_id: str) -> None:
        """Root allows a rule to restart a group."""
        now_seconds = asyncio.get_running_loop().time()
        self.world.note(f"    the rule of {group_id} restarts it")
        group = self.world.daemon.front.groups.get(group_id)
        if group is None or group.restart_when is None:  # a reload has just removed it
            return
        earlier = self.restarts[group_id]
        if wrong := self._what_is_wrong(group, group.restart_when, earlier, now_seconds):
            self._wrong(f"the rule of {group_id} restarts it, {wrong}")
        earlier.append(now_seconds)
        self._unmet = [each for each in self._unmet if each[1] != group_id]
        if len(earlier) > len(self.attempts[group_id]):
            self._wrong(f"a restart of {group_id} is audited as one of its rule, and it is none")

    def _what_is_wrong(
        self, group: Group, limits: RestartWhen, earlier: list[float], now_seconds: float
    ) -> str:
        facts, machine = self.world.facts, self.world.machine
        sampled_seconds = now_seconds - TOLD_SECONDS
        if not all(machine.was_up(unit, sampled_seconds, now_seconds) for unit in group.units):
            return "which is not on"
        if len([at for at in earlier if now_seconds - at < HOUR_SECONDS]) >= limits.at_most_per_hour:
            return f"more than {limits.at_most_per_hour} times within an hour"
        if earlier and now_seconds - earlier[-1] < limits.for_seconds:
            return f"again after {now_seconds - earlier[-1]:.1f} s"
        young = [
            unit
            for unit in group.units
            if facts.run_since(unit, sampled_seconds) > now_seconds - limits.for_seconds + STEP_SECONDS
            and facts.run_since(unit, now_seconds) > now_seconds - limits.for_seconds + STEP_SECONDS
        ]
        if young:
            return f"and {young} were started too lately"
        if not (self._used_cpu(group, limits, now_seconds) or self._used_memory(group, limits, now_seconds)):
            return "which used too little"
        return ""

    def _used_cpu(self, group: Group, limits: RestartWhen, now_seconds: float) -> bool:
        """Whether the whole group used too much, on average over a window that ends lately."""
        if limits.cpu_percent is None:
            return False
        used = self.world.facts.used_seconds
        for early in range(int(TOLD_SECONDS / STEP_SECONDS) + 1):
            to_seconds = now_seconds - early * STEP_SECONDS
            for more in range(int(INTERVAL_SECONDS / STEP_SECONDS) + 1):
                from_seconds = to_seconds - limits.for_seconds - more * STEP_SECONDS
                seconds = sum(used(unit, from_seconds, to_seconds) for unit in group.units)
                if 100 * seconds > limits.cpu_percent * (to_seconds - from_seconds) * ROUNDING:
                    return True
        return False

    def _used_memory(self, group: Group, limits: RestartWhen, now_seconds: float) -> bool:
        """Whether it used too much at some moment of each interval."""
        if limits.memory_mib is None:
            return False
        from_seconds = now_seconds - limits.for_seconds
        while from_seconds < now_seconds:
            to_seconds = min(from_seconds + INTERVAL_SECONDS, now_seconds)
            amounts = [
                sum(self.world.facts.load(unit, at).memory_bytes for unit in group.units)
                for at in _moments(from_seconds, to_seconds)
            ]
            if max(amounts) <= limits.memory_mib * _MIB:
                return False
            from_seconds = to_seconds
        return True

    # At every moment

    def look(self, now_seconds: float) -> None:
        """A group that used too much for long, while all is told, was restarted, or its rule gave up."""
        since_seconds, self._looked_at_seconds = self._looked_at_seconds, now_seconds
        if self.world.daemon.is_down:
            self._over_since.clear()
            return
        self._check_audited(now_seconds)
        reports = {report.id: report for report in self.world.reports()}
        for group in self.world.served:
            limits, report = group.restart_when, reports.get(group.id)
            if limits is None or report is None:
                self._over_since.pop(group.id, None)
                self._most.pop(group.id, None)
                continue
            self._check_gave_up(group.id, limits, now_seconds)
            is_on = report.state is GroupState.ON and not runs(report)
            was_asked = self.world.facts.asked.get(group.id, -math.inf) >= since_seconds - TOLD_SECONDS
            is_told = is_on and not was_asked and self.world.troubles.is_told(group.id, now_seconds)
            self._look_at(group, limits, since_seconds, now_seconds, is_told=is_told)

    def _look_at(
        self, group: Group, limits: RestartWhen, since_seconds: float, now_seconds: float, *, is_told: bool
    ) -> None:
        facts = self.world.facts
        now_runs = tuple(facts.load(unit, now_seconds).run for unit in group.units)
        if (
            not is_told
            or self._runs.get(group.id) != now_runs
            or not self._exceeds(group, limits, since_seconds)
        ):
            self._over_since[group.id] = now_seconds
            self._runs[group.id] = now_runs
            return
        over_seconds = now_seconds - self._over_since[group.id]
        if over_seconds < limits.for_seconds + LATE_SECONDS:
            return
        if "gave up" in self.world.daemon.rules.description(group.id):
            return
        used = f"since {self._over_since[group.id]:.3f}"
        raise Violation(f"{group.id} uses more than {limits} {used}, and its rule does nothing")

    def _check_gave_up(self, group_id: str, limits: RestartWhen, now_seconds: float) -> None:
        """A rule that gives up has tried as often as it may."""
        has_given_up = "gave up" in self.world.daemon.rules.description(group_id)
        most, had_given_up = self._most.get(group_id, (limits.at_most_per_hour, False))
        self._most[group_id] = limits.at_most_per_hour, has_given_up
        lately = [at for at in self.attempts[group_id] if now_seconds - at < HOUR_SECONDS + LATE_SECONDS]
        if has_given_up and not had_given_up and len(lately) < min(most, limits.at_most_per_hour):
            raise Violation(f"the rule of {group_id} gave up, and has tried only {len(lately)} times")

    def _check_audited(self, now_seconds: float) -> None:
        """What a rule asks for is in the audit, with the rule as the caller."""
        left = []
        for at_seconds, group_id in self._unmet:
            was_asked = self.world.facts.asked.get(group_id, -math.inf) >= at_seconds - TOLD_SECONDS
            if at_seconds + TOLD_SECONDS > now_seconds:
                left.append((at_seconds, group_id))
            elif not was_asked and self.world.troubles.is_told(group_id, at_seconds):
                raise Violation(f"a restart that the rule of {group_id} asked for is not in the audit")
        self._unmet = left

    def _exceeds(self, group: Group, limits: RestartWhen, since_seconds: float) -> bool:
        """Whether it used too much at each moment since then."""
        facts, now_seconds = self.world.facts, self._looked_at_seconds
        moments = {since_seconds, now_seconds}
        for unit in group.units:
            pieces = facts.loads_between(unit, since_seconds, now_seconds)
            moments |= {piece.at_seconds for piece in pieces}
        loads = [[facts.load(unit, at) for unit in group.units] for at in moments]
        if limits.cpu_percent is not None:
            least = min(sum(load.cores for load in each) for each in loads)
            if 100 * least > limits.cpu_percent * CLEARLY:
                return True
        if limits.memory_mib is None:
            return False
        return min(sum(load.memory_bytes for load in each) for each in loads) > limits.memory_mib * _MIB


def _moments(from_seconds: float, to_seconds: float) -> Iterator[float]:
    for step in range(int((to_seconds - from_seconds) / STEP_SECONDS) + 1):
        yield from_seconds + step * STEP_SECONDS
    yield to_seconds
