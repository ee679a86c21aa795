"""Looks at a world every moment, for what must not last: what is said must follow what is so."""

import asyncio
import math
from dataclasses import dataclass, field
from typing import Final

from hkswitch.model.switch_events import KNOWN_WITHIN_SECONDS, Tile
from hkswitch.protocol.report import GroupReport
from tests.world.front import FAILED
from tests.world.invariants import check_step, runs
from tests.world.played import Violation
from tests.world.world import World

LOOK_AGAIN_SECONDS: Final = 0.4
HEARD_WITHIN_SECONDS: Final = 2.0
"""A daemon hears by then what its helper tells, if neither of them is held up."""


@dataclass(eq=False)
class Watcher:
    """Who looks."""

    world: World
    violation: Violation | None = None
    _unknown_since: dict[str, float] = field(default_factory=dict)
    _free_since_seconds: float = math.inf
    """Since when the newest helper works and is heard, looked at every moment."""

    async def look_again_and_again(self) -> None:
        """Until cancelled, or until something is wrong."""
        while self.violation is None:
            try:
                self.look()
            except Violation as violation:
                self.violation = violation
            await asyncio.sleep(LOOK_AGAIN_SECONDS)

    def look(self) -> None:
        """Once."""
        now_seconds = asyncio.get_running_loop().time()
        check_step(self.world, now_seconds)
        helper = self.world.transport.newest
        is_free = helper is not None and helper.goes_on.is_set() and not helper.output.is_held
        self._free_since_seconds = min(self._free_since_seconds, now_seconds) if is_free else math.inf
        if self.world.daemon.is_down:
            self._unknown_since.clear()
            return
        reports = self.world.daemon.serving.report().groups
        for report in reports:
            self._check_no_response(report, now_seconds)
        if self._free_since_seconds + HEARD_WITHIN_SECONDS < now_seconds:
            self._check_bus(reports, now_seconds)
            self._check_verdicts(reports, now_seconds)
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
        """A check has its say about units that came up, and not about those of before."""
        machine = self.world.machine
        groups = {group.id: group for group in self.world.served}
        for report in reports:
            group = groups.get(report.id)
            if group is None or not group.check or runs(report) or machine.programs.passes[group.check[1]]:
                continue
            up_since_seconds = max(map(machine.up_since, group.units))
            shown = self.world.daemon.front.tiles.get((group.id, Tile.GROUP))
            is_judged = machine.judged_at_seconds < up_since_seconds < now_seconds - HEARD_WITHIN_SECONDS
            if is_judged and shown is not None and shown.read is True:
                raise Violation(f"{group.id} is shown on, and its check did not pass since it came up")

    def _check_reloaded(self, reports: tuple[GroupReport, ...]) -> None:
        """A reload that was a success serves what the file says."""
        daemon = self.world.daemon
        is_over = daemon.reloads and len(daemon.reloads) == self.world.reloads_asked
        if not is_over or self.world.file.text != self.world.text_at_reload:
            return
        if daemon.reloads[-1].startswith("not reloaded"):
            return
        wanted = {group.id for group in self.world.file.parsed.groups}
        if {report.id for report in reports} != wanted:
            raise Violation(f"reloaded, and {sorted(report.id for report in reports)} are served")
