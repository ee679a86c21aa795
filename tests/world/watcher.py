"""Checks a world continuously for what must not last: reports must follow the actual state."""

import asyncio
import math
from dataclasses import dataclass, field
from typing import Final

from hkswitch.model.group import Engine, Group
from hkswitch.model.switch_events import KNOWN_WITHIN_SECONDS, Tile
from hkswitch.model.unit_state import GroupState
from hkswitch.protocol.report import GroupReport
from tests.world.front import FAILED
from tests.world.helper import Helper
from tests.world.invariants import check_step
from tests.world.reports import runs
from tests.world.seed_run import Violation, first_violation
from tests.world.world import World

LOOK_AGAIN_SECONDS: Final = 0.4
HEARD_WITHIN_SECONDS: Final = 2.0
"""A daemon hears by then what its helper tells, if neither of them is held up."""

CONNECTED_SECONDS: Final = 1.0
"""A helper has begun, is connected, and has told what it saw."""

KEPT_SECONDS: Final = 5.0
"""What a check said to a helper is believed so long after the next one began, if its units are the same."""

SEEN_WITHIN_SECONDS: Final = 4.0
"""A container's change by then: podman tells it 0.5 s later, and a restart counts for 1 s more."""

KNOWN_AGAIN_SECONDS: Final = 8.0
"""What a helper that is gone told is believed for 5 s, and then the next one has been heard."""


@dataclass(eq=False)
class Watcher:
    """Who looks."""

    world: World
    violation: Violation | None = None
    _unknown_since: dict[str, float] = field(default_factory=dict)
    _helper: Helper | None = None
    _free_since_seconds: float = math.inf
    """Since when the newest helper works and is heard, looked at every moment."""

    async def look_again_and_again(self) -> None:
        """Until cancelled, or until something is wrong."""
        self.violation = await first_violation(self.look, LOOK_AGAIN_SECONDS)

    def look(self) -> None:
        """Once."""
        now_seconds = asyncio.get_running_loop().time()
        reports = self.world.reports()
        check_step(self.world, now_seconds, reports)
        if self.world.has_alerts:
            self.world.troubles.look(now_seconds)
            self.world.rules.look(now_seconds)
        if self.world.violation is not None:
            raise self.world.violation
        helper = self.world.transport.newest
        if helper is not self._helper:
            self._helper, self._free_since_seconds = helper, math.inf
        is_free = helper is not None and helper.goes_on.is_set() and not helper.output.is_held
        self._free_since_seconds = min(self._free_since_seconds, now_seconds) if is_free else math.inf
        if self.world.daemon.is_down:
            self._unknown_since.clear()
            return
        for report in reports:
            self._check_no_response(report, now_seconds)
        if self._free_since_seconds + HEARD_WITHIN_SECONDS < now_seconds:
            self._check_bus(reports, now_seconds)
            if not self.world.outages.any_but([*self.world.machine.units, *Engine]):
                self._check_verdicts(reports, now_seconds)
                self._check_states(reports, now_seconds)
        self._check_reloaded(reports)

    def _check_no_response(self, report: GroupReport, now_seconds: float) -> None:
        """What stays unknown is "No Response" soon."""
        if report.state is not None or runs(report):
            self._unknown_since.pop(report.id, None)
            return
        since_seconds = self._unknown_since.setdefault(report.id, now_seconds)
        shown = self.world.daemon.front.tiles.get((report.id, Tile.GROUP))
        if shown is None or shown.read == FAILED:
            return
        since_seconds = max(since_seconds, shown.told_at_seconds)
        if now_seconds - since_seconds > KNOWN_WITHIN_SECONDS + 2 * LOOK_AGAIN_SECONDS:
            raise Violation(f"{report.id} is unknown since {since_seconds:.3f}, and reads say {shown.read}")

    def _check_bus(self, reports: tuple[GroupReport, ...], now_seconds: float) -> None:
        """Without a bus nothing is known."""
        if self.world.bus_lost_at_seconds + HEARD_WITHIN_SECONDS > now_seconds:
            return
        if known := [report.id for report in reports if report.state is not None]:
            raise Violation(f"there is no bus, and {known} are known")

    def _check_verdicts(self, reports: tuple[GroupReport, ...], now_seconds: float) -> None:
        """A group is on when its check passed since its units came up, and not for what it said before."""
        machine, helper = self.world.machine, self.world.transport.newest
        groups = {group.id: group for group in self.world.served}
        for report in reports:
            group = groups.get(report.id)
            if group is None or not group.check or runs(report) or report.state is not GroupState.ON:
                continue
            if not self._is_told(group, now_seconds):
                continue
            up_since_seconds = max(map(machine.up_since, group.members))
            if machine.passed.get(group.check[1], 0) >= up_since_seconds:
                continue
            began_seconds = 0 if helper is None else helper.began_at_seconds
            is_kept = up_since_seconds < began_seconds + CONNECTED_SECONDS  # as the units are as they were
            heard_at_seconds = began_seconds + KEPT_SECONDS if is_kept else up_since_seconds
            if group.contained:  # what was down between two looks has not changed, as far as these see
                heard_at_seconds += group.interval_seconds + group.timeout_seconds
            if heard_at_seconds + CONNECTED_SECONDS < now_seconds:
                raise Violation(f"{group.id} is said to be on, and its check did not pass since it came up")

    def _check_states(self, reports: tuple[GroupReport, ...], now_seconds: float) -> None:
        """What is known of units is so, a moment after the last of them changed."""
        world = self.world
        groups = {group.id: group for group in world.served}
        is_long_free = self._free_since_seconds + KNOWN_AGAIN_SECONDS < now_seconds
        within_seconds = HEARD_WITHIN_SECONDS if is_long_free else KNOWN_AGAIN_SECONDS
        for report in reports:
            group = groups.get(report.id)
            if report.state is None or group is None or group.probe:
                continue
            changed_at_seconds = max(
                world.changed_at_seconds, world.machine.changed_at_seconds(group.members)
            )
            seen_seconds = max(within_seconds, SEEN_WITHIN_SECONDS if group.contained else 0)
            if now_seconds - changed_at_seconds < seen_seconds or not self._is_told(group, now_seconds):
                continue
            units = {member: world.machine.truth(member) for member in group.members}
            if (state := group.state(units, None)) is not report.state:
                raise Violation(
                    f"{group.id} is {state} since {changed_at_seconds:.3f}, and said to be {report.state}"
                )

    def _is_told(self, group: Group, now_seconds: float) -> bool:
        """Whether engines tell each change of a group's containers."""
        for member in group.contained:
            engine = self.world.machine.engines.engine_of(member)
            is_known = engine.troubled_at_seconds + KNOWN_AGAIN_SECONDS < now_seconds
            if self.world.outages.has(engine.engine) or engine.is_moving or not is_known:
                return False
        return True

    def _check_reloaded(self, reports: tuple[GroupReport, ...]) -> None:
        """A reload that was a success serves what the file says."""
        daemon = self.world.daemon
        is_over = daemon.reloads and len(daemon.reloads) == self.world.reloads_asked
        if not is_over or self.world.file.edits != self.world.edits_at_reload:
            return
        if daemon.reloads[-1].startswith("not reloaded"):
            return
        wanted = self.world.file.parsed.groups
        if {report.id for report in reports} != {group.id for group in wanted} or self.world.served != wanted:
            raise Violation(f"reloaded, and other groups are served than the file has: {self.world.served}")
