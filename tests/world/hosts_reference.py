"""What must be true of several hosts, said without the program: a reference model of who can be heard.

What is said of a host's groups is right soon after nothing is wrong with it, and nothing is said soon after
it cannot be heard. What is wrong with one host is no reason for anything on another.
"""

import asyncio
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from hkswitch.model.elsewhere import Elsewhere
from hkswitch.model.group import Group
from hkswitch.model.switch_events import STABLE_AFTER_SECONDS, WRITE_TIMEOUT_SECONDS, Tile
from hkswitch.model.unit_state import Action, GroupState
from hkswitch.protocol.report import GroupReport
from tests.world.front import FAILED
from tests.world.hosts_scene import UNSEEN_PROGRAMS
from tests.world.hosts_world import HostsWorld
from tests.world.ills import UNREACHABLE, Ill
from tests.world.machine import Machine
from tests.world.phone import Write
from tests.world.random_source import SLOW_SECONDS
from tests.world.remote_site import RELOADED_SECONDS, RETURN_SECONDS, RemoteSite
from tests.world.reports import runs
from tests.world.seed_run import Violation, first_violation
from tests.world.world import Act, action_of

CUT_SHOWS_SECONDS: Final = 10.0
"""A host that is not heard for so long has no tile that says anything."""

LOOK_SECONDS: Final = 0.4
ON_ITS_WAY_SECONDS: Final = 2 * SLOW_SECONDS
SETTLED_SECONDS: Final = 3.0
"""After the change of a unit, what is said of it is right."""

NOTICED_SECONDS: Final = 6.0
"""A helper reads its config that often, and then tells what its groups are."""

MERGED_SECONDS: Final = 2.0
INTERRUPTED_SECONDS: Final = 110.0
"""A request whose helper went away may have begun so long before it is called a success."""

REASON_SECONDS: Final = 60.0
NOT_CONNECTED: Final = "is not connected"
"""In the failure of a request that a cut is the reason of, which is no trouble of the group."""


class Success(NamedTuple):
    """A request that was called a success; `is_late`: when its second was over."""

    group_id: str
    action: Action
    asked_seconds: float
    to_seconds: float
    is_late: bool


@dataclass(eq=False)
class HostsReference:
    """Looks at a world, again and again."""

    world: HostsWorld
    violation: Violation | None = None

    async def look_again_and_again(self) -> None:
        """Until cancelled, or until something is wrong."""
        self.violation = await first_violation(self.look, LOOK_SECONDS)

    def look(self) -> None:
        """Once."""
        now_seconds = asyncio.get_running_loop().time()
        self._check_processes()
        self._check_answers(now_seconds)
        self._check_successes()
        for site in self.world.sites.values():
            self._note_served(site, now_seconds)
        if not self.world.daemon.is_down:
            reports = {report.id: report for report in self.world.reports()}
            for group in self.world.daemon.front.groups.values():
                if group.id in reports:
                    self._check_group(group, reports[group.id], now_seconds)
            self._check_openings(reports)
        self._forget_ended()

    # Everything

    def _check_processes(self) -> None:
        world = self.world
        if (broke := world.daemon.broke) is not None:
            raise Violation(f"the daemon broke: {broke!r}") from broke
        if unruly := world.daemon.front.unruly:
            raise Violation(f"the rules of events are broken: {unruly}")
        if unwritten := world.transport.unwritten:
            raise Violation(f"not in the audit: {unwritten}")
        for site in world.sites.values():
            if wrongs := [*site.wrongs, *site.transport.unwritten]:
                raise Violation(f"on {site.name}: {wrongs}")
            if site.machine.overlaps:
                raise Violation(f"two commands of one group ran at once on {site.name}")

    def _check_answers(self, now_seconds: float) -> None:
        for phone in self.world.phones:
            for write in phone.writes:
                took_seconds = (write.answered_seconds or now_seconds) - write.asked_seconds
                if took_seconds > WRITE_TIMEOUT_SECONDS + ON_ITS_WAY_SECONDS and not write.wire.is_cut:
                    raise Violation(f"{phone.name}: not answered within {took_seconds:.3f} s: {write}")
                if write.answers > 1:
                    raise Violation(f"{phone.name}: answered {write.answers} times: {write}")

    def _forget_ended(self) -> None:
        for ended in [act for act in self.world.acts if act.ended_seconds is not None]:
            self.world.note(f"    {ended}")
            self.world.acts.remove(ended)
        for phone in self.world.phones:
            for answered in phone.forget_answered():
                self.world.note(f"    the {phone.name} phone: {answered}")

    # No success that did not happen

    def _check_successes(self) -> None:
        for phone in self.world.phones:
            for write in phone.writes:
                action = action_of(write.key[1], on=write.on)
                answered_seconds = write.answered_seconds
                if write.ok and answered_seconds is not None and action is not None:
                    self._check_success(write, write.key[0], action, answered_seconds)
        for act in self.world.acts:
            if act.asked.is_done and act.ended_seconds is not None:
                self._check_success(act, act.group_id, act.action, act.ended_seconds)

    def _check_success(self, wish: Write | Act, group_id: str, action: Action, to_seconds: float) -> None:
        if wish.is_disputed:
            return
        asked_seconds = wish.asked_seconds
        is_late = isinstance(wish, Write) and to_seconds - asked_seconds >= WRITE_TIMEOUT_SECONDS - 1e-6
        success = Success(group_id, action, asked_seconds, to_seconds, is_late)
        places = [*self._places(group_id, asked_seconds - ON_ITS_WAY_SECONDS, to_seconds)]
        # One that was removed is another one by now.
        if places and not any(self._did(success, place) for place in places):
            raise Violation(f"a success that did not happen: {wish}")

    def _places(self, group_id: str, from_seconds: float, to_seconds: float) -> Iterator[Elsewhere | None]:
        """Where the daemon had the group, at some moment between these."""
        served = self.world.served
        before = [each for each in served if each.at_seconds <= from_seconds][-1:]
        for each in (*before, *(each for each in served if from_seconds < each.at_seconds <= to_seconds)):
            if group_id in each.groups:
                yield each.groups[group_id].elsewhere

    def _did(self, success: Success, place: Elsewhere | None) -> bool:
        """Whether it happened in this place."""
        if place is None:
            return self._did_here(success)
        site, there = self.world.sites[place.host.name], place.group
        from_seconds = success.asked_seconds - INTERRUPTED_SECONDS
        if site.was_ill(Ill.LIES, from_seconds):
            return True  # its own groups are what it says
        if not site.was_ill(None, from_seconds):
            from_seconds = success.asked_seconds - MERGED_SECONDS
        groups = site.groups_between(there, from_seconds, success.to_seconds)
        accepted_seconds = site.transport.accepted_at_seconds.get(there, -math.inf)
        return self._was_done(success, groups, site.machine, from_seconds, accepted_seconds)

    def _did_here(self, success: Success) -> bool:
        found = (served.groups.get(success.group_id) for served in self.world.served)
        groups = [group for group in found if group is not None and group.elsewhere is None]
        accepted_seconds = self.world.transport.accepted_at_seconds.get(success.group_id, -math.inf)
        from_seconds = success.asked_seconds - MERGED_SECONDS
        return self._was_done(success, groups, self.world.machine, from_seconds, accepted_seconds)

    def _was_done(
        self,
        success: Success,
        groups: list[Group],
        machine: Machine,
        from_seconds: float,
        accepted_seconds: float,
    ) -> bool:
        """Whether it happened to the group, which may have been any of these."""
        if success.is_late and accepted_seconds >= success.asked_seconds - INTERRUPTED_SECONDS:
            return True
        for group in groups:
            is_nothing = group.momentary and success.action not in group.actions
            if is_nothing or (not success.is_late and _was_done(success, group, machine, from_seconds)):
                return True
        return False

    # What is said of groups

    def _note_served(self, site: RemoteSite, now_seconds: float) -> None:
        """Note whether the daemon hears anything of this host."""
        if site.connected is not None and site.ills.keys().isdisjoint(UNREACHABLE):
            site.unserved_since_seconds = math.inf
        else:
            site.unserved_since_seconds = min(site.unserved_since_seconds, now_seconds)

    def _check_group(self, group: Group, report: GroupReport, now_seconds: float) -> None:
        world, place = self.world, group.elsewhere
        shown = world.daemon.front.tiles[group.id, Tile.GROUP]
        if report.state is None and shown.read is True and not runs(report):
            raise Violation(f"{group.id} is not known, and shown on")
        right_from_seconds = world.changed_at_seconds + RELOADED_SECONDS
        if place is None:
            right_from_seconds = max(right_from_seconds, world.helper_killed_at_seconds + RELOADED_SECONDS)
        if place is not None:
            site = world.sites[place.host.name]
            silent_since_seconds = max(site.unserved_since_seconds, site.heard_at_seconds)
            if silent_since_seconds + CUT_SHOWS_SECONDS + LOOK_SECONDS < now_seconds:
                self._check_unavailable(group, report, site)
            right_from_seconds = max(
                site.right_from_seconds(world.reloaded_at_seconds),
                right_from_seconds,
                site.changed_at_seconds + NOTICED_SECONDS + RETURN_SECONDS,
            )
        if right_from_seconds + LOOK_SECONDS < now_seconds:
            self._check_right(group, report, now_seconds)

    def _check_unavailable(self, group: Group, report: GroupReport, site: RemoteSite) -> None:
        since_seconds = site.unserved_since_seconds
        if report.state is not None:
            raise Violation(
                f"{site.name} is not heard since {since_seconds:.3f}, and {group.id} is said to be "
                f"{report.state}"
            )
        for tile in Tile:
            shown = self.world.daemon.front.tiles.get((group.id, tile))
            if shown is not None and shown.read != FAILED:
                raise Violation(
                    f"{site.name} is not heard since {since_seconds:.3f}, and {group.id} reads {shown.read}"
                )

    def _check_right(self, group: Group, report: GroupReport, now_seconds: float) -> None:
        """What is said of a group is what it is; units that change just now aside."""
        defined, machine = self.world.truth_of(group), self.world.machine_of(group.elsewhere)
        shown = self.world.daemon.front.tiles[group.id, Tile.GROUP]
        if defined is None or (group.elsewhere is None and defined.token != group.token):
            if report.state is not None or shown.read != FAILED:
                raise Violation(f"{group.id} does not exist, and is said to be {report.state}")
            if group.elsewhere is not None and "has no group" not in report.why:
                raise Violation(f"{group.id} does not exist, and this is said of it: {report.why}")
            return
        if defined.probe or defined.commands is not None:
            if report.state is None and not defined.probe:
                raise Violation(f"{group.id} is not known, and its host is in order: {report.why}")
            return
        if now_seconds - machine.changed_at_seconds(defined.members) < SETTLED_SECONDS:
            return
        state = defined.state({member: machine.truth(member) for member in defined.members}, None)
        if state is not report.state:
            raise Violation(f"{group.id} is {state}, and said to be {report.state} ({report.why})")
        is_known = state not in {None, GroupState.MISSING}
        right = (state is not None and state.on) if is_known else FAILED
        if shown.read != right and not self._is_fresh(report):
            raise Violation(f"{group.id} is {state}, and a read says {shown.read}")

    def _is_fresh(self, report: GroupReport) -> bool:
        """Whether a request has not ended, or just now: after a failure, a group must stay up to be on."""
        last = report.last_action
        if last is None or runs(report):
            return last is not None
        ended_unix_seconds = last.at_unix_seconds + last.duration_ms / 1000
        return self.world.unix_seconds() < ended_unix_seconds + STABLE_AFTER_SECONDS + 2

    # Sensors

    def _check_openings(self, reports: dict[str, GroupReport]) -> None:
        """A sensor opens for what happened to its group, and not because a host is away."""
        openings, self.world.openings = self.world.openings, []
        for opened_seconds, group_id in openings:
            group = self.world.daemon.front.groups.get(group_id)
            if group is None or self._has_reason(group, reports.get(group_id), opened_seconds):
                continue
            raise Violation(f"the sensor of {group_id} opens at {opened_seconds:.3f} for no reason")

    def _has_reason(self, group: Group, report: GroupReport | None, at_seconds: float) -> bool:
        machine, since_seconds = self.world.machine_of(group.elsewhere), at_seconds - REASON_SECONDS
        if group.elsewhere is not None:
            site = self.world.sites[group.elsewhere.host.name]
            if site.was_ill(Ill.LIES, since_seconds):
                return True
            since_seconds = min(since_seconds, site.ill_since_seconds(since_seconds) - REASON_SECONDS)
        defined = self.world.truth_of(group)
        faults = [fault.unit for fault in machine.systemd.facts.faults if fault.at_seconds >= since_seconds]
        members = {*(defined.members if defined else ()), *group.members}
        last = report.last_action if report is not None else None
        return (
            not members.isdisjoint(faults)
            or bool(defined and defined.probe)
            or (last is not None and last.failure != "" and NOT_CONNECTED not in last.failure)
            or any(machine.truth(member).health.value in {"failed", "missing"} for member in members)
        )


def _was_done(success: Success, group: Group, machine: Machine, from_seconds: float) -> bool:
    """Whether the action was done to what the group was."""
    if group.commands is None:
        return machine.did(success.action, group.members, from_seconds, success.to_seconds)
    program = group.commands.start[0]
    if program not in UNSEEN_PROGRAMS:
        return machine.did(success.action, None, from_seconds, success.to_seconds)
    ran = [argv for at_seconds, argv in machine.ran if from_seconds <= at_seconds <= success.to_seconds]
    return (program, success.action.value) in ran
