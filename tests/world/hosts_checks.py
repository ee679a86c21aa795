"""Checks of a world with several hosts at its checkpoints: in order, and while all other hosts are not."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from hkswitch.model.group import Group
from hkswitch.model.switch_events import Tile
from hkswitch.model.unit_state import Action, GroupState, ProbeResult
from hkswitch.protocol.control import Status, encode_control_reply, parse_control_reply
from tests.world.hosts_operations import HostsOperations
from tests.world.hosts_reference import HostsReference
from tests.world.hosts_scene import UNSEEN_PROGRAMS
from tests.world.hosts_world import HostsWorld
from tests.world.ills import Ill
from tests.world.machine import Machine
from tests.world.quiescence import check_tiles
from tests.world.remote_site import RemoteSite
from tests.world.reports import runs
from tests.world.seed_run import Violation

SETTLED_SECONDS: Final = 16.0
REST_SECONDS: Final = 140.0
"""Longer than a request whose helper went away may wait for units."""

QUICK: Final = ("a.service", "b.service", "d.service")
"""Units of which each start and stop is a success, and quick."""

QUICK_SECONDS: Final = 0.9
"""By then a tap on such a group is answered with its outcome: 0.3 s of its start, 0.2 s of looking at it."""

RELOADED_SECONDS: Final = 2.0
RIGHT_SECONDS: Final = 12.0
PROBED_SECONDS: Final = 12.0
RULE_SECONDS: Final = 80.0
WELL_SECONDS: Final = 36.0

Check = Callable[[HostsWorld, HostsOperations, HostsReference], Awaitable[None]]


async def check_settled(world: HostsWorld, operations: HostsOperations, reference: HostsReference) -> None:
    """Put everything right; soon everything that is said is right, and no request is left."""
    world.note("nothing disturbs any more")
    operations.end()
    world.recover()
    world.reload()
    await asyncio.sleep(SETTLED_SECONDS)
    until_seconds = asyncio.get_running_loop().time() + REST_SECONDS
    while _is_busy(world) and asyncio.get_running_loop().time() < until_seconds:  # noqa: ASYNC110 -- no event
        await asyncio.sleep(SETTLED_SECONDS)
    world.meet()
    await asyncio.sleep(1)
    for phone in world.phones:
        phone.look(world.daemon.front)
    await asyncio.sleep(1)
    reference.look()
    if waiting := [act for act in world.acts if act.ended_seconds is None and act.daemon is world.daemon]:
        raise Violation(f"a client waits for ever: {'; '.join(map(str, waiting))}")
    check_all(world)


def _is_busy(world: HostsWorld) -> bool:
    unsettled = {GroupState.STARTING, GroupState.STOPPING}
    return any(report.state in unsettled or runs(report) for report in world.reports())


def check_all(world: HostsWorld) -> None:
    """The report, all tiles, and what phones believe are as the groups of all hosts are."""
    groups, reports = world.daemon.front.groups, {report.id: report for report in world.reports()}
    wanted = {group.id for group in world.file.parsed.groups}
    if wanted != {*reports} or wanted != {*groups}:
        raise Violation(f"there are {sorted(reports)}, and the config has {sorted(wanted)}")
    right = parse_control_reply(encode_control_reply(Status(world.daemon.serving.report())))
    seen = world.watched.status
    assert isinstance(right, Status)
    if seen is None or seen.report.groups != right.report.groups:
        raise Violation(f"a watching terminal sees something else: {seen}")
    for name, site in world.sites.items():
        is_used = any(each.elsewhere and each.elsewhere.host.name == name for each in groups.values())
        if is_used is not (site.connected is not None):
            raise Violation(f"{name} is {'not ' * is_used}connected")
        known = {host.name: host for host in right.report.hosts}
        since_unix_seconds = known[name].connected_since_unix_seconds if name in known else 0
        if is_used is not bool(since_unix_seconds):
            raise Violation(f"the report says of {name}: {known.get(name)}")
    for group in groups.values():
        _check_one(world, group, reports[group.id].state)


def _check_one(world: HostsWorld, group: Group, said: GroupState | None) -> None:
    defined = world.truth_of(group)
    state = None if defined is None else _truth(defined, world.machine_of(group.elsewhere))
    is_assumed = defined is not None and defined.assume_state
    if is_assumed:
        is_on = group.id in world.assumed.contents
        state = GroupState.ON if is_on else GroupState.OFF
    if said is not state:
        raise Violation(f"{group.id} is {state}, and hkswitch says {said}")
    check_tiles(world.daemon.front.tiles, world.phones, group, state)


def _truth(group: Group, machine: Machine) -> GroupState | None:
    if group.commands is not None:
        is_unseen = group.commands.start[0] in UNSEEN_PROGRAMS
        return GroupState.ON if machine.programs.is_lit and not is_unseen else GroupState.OFF
    units = {member: machine.truth(member) for member in group.members}
    passes = not group.check or machine.programs.passes[group.check[1]]
    return group.state(units, ProbeResult.ON if passes else ProbeResult.OFF)


async def check_neighbours(world: HostsWorld, operations: HostsOperations, reference: HostsReference) -> None:
    """While all other hosts are in trouble, each tap on a quick group is answered soon, and right."""
    quick = [group for group in world.daemon.front.groups.values() if _is_quick(world, group)]
    if not quick:
        return
    group = world.chance.one_of(quick)
    own = "" if group.elsewhere is None else group.elsewhere.host.name
    others = [site for name, site in world.sites.items() if name != own]
    for site in others:
        operations.make_ill(site, world.chance.one_of([*Ill]), seconds=30)
    if world.chance.of_one_in(2):
        await _reload_quickly(world)
    for on in (True, False, True):
        await asyncio.sleep(world.chance.one_of((0.0, 0.3, 3.0, 7.0)))
        await _tap_quickly(world, group, on=on)
    await _put_right(world, operations, reference)


async def _put_right(world: HostsWorld, operations: HostsOperations, reference: HostsReference) -> None:
    """Have nothing wrong, and a reload, which makes the daemon try at once; soon everything is right."""
    operations.end()
    world.recover()
    world.reload()
    await asyncio.sleep(RIGHT_SECONDS)
    reference.look()


async def _reload_quickly(world: HostsWorld) -> None:
    """A reload waits for this machine, whose checks take their time, and for a moment for others."""
    await asyncio.sleep(0.5)
    before, has_checks = len(world.daemon.reloads), any(group.probe for group in world.file.parsed.groups)
    world.reload()
    await asyncio.sleep(RELOADED_SECONDS)
    if len(world.daemon.reloads) == before and not has_checks:
        raise Violation(f"a reload takes more than {RELOADED_SECONDS} s, and only other hosts are in trouble")


def _is_quick(world: HostsWorld, group: Group) -> bool:
    defined = world.truth_of(group)
    if defined is None or defined.probe or defined.commands is not None:
        return False
    return {*defined.members} <= {*QUICK} and {Action.START, Action.STOP} <= defined.actions


async def _tap_quickly(world: HostsWorld, group: Group, *, on: bool) -> None:
    machine, defined = world.machine_of(group.elsewhere), world.truth_of(group)
    assert defined is not None
    phone = world.chance.one_of(world.phones)
    world.note(
        f"in the calm of its host, the {phone.name} phone writes {'On' if on else 'Off'} to {group.id}"
    )
    write = phone.tap(world.daemon.front, world.daemon.process, (group.id, Tile.GROUP), on=on)
    await asyncio.sleep(QUICK_SECONDS + 0.2)
    if write is None or not write.ok or write.answered_seconds is None:
        raise Violation(f"a tap on {group.id} failed, and only other hosts are in trouble: {write}")
    if write.answered_seconds - write.asked_seconds > QUICK_SECONDS:
        raise Violation(f"a tap on {group.id} was slow, and only other hosts are in trouble: {write}")
    wrong = [member for member in defined.members if machine.is_up(member) is not on]
    if wrong:
        raise Violation(f"{group.id} was told to be {'on' if on else 'off'}, and {wrong} are not")
    shown = world.daemon.front.tiles[group.id, Tile.GROUP].read
    if shown is not on:
        raise Violation(f"{group.id} is {'on' if on else 'off'}, and a read says {shown}")


async def check_unseen(world: HostsWorld, operations: HostsOperations, reference: HostsReference) -> None:
    """The assumed state of a group is the last success, whatever happens to its host and to the daemon."""
    for group in [*world.daemon.front.groups.values()]:
        defined = world.truth_of(group)
        if group.elsewhere is None or defined is None or defined.commands is None:
            continue
        if defined.commands.start[0] not in UNSEEN_PROGRAMS:
            continue
        on = world.chance.of_one_in(2) or defined.momentary
        site = world.sites[group.elsewhere.host.name]
        act = world.act(Action.START if on else Action.STOP, group.id)
        await asyncio.sleep(PROBED_SECONDS)
        if not act.asked.is_done:
            raise Violation(f"in the calm, {act}")
        operations.make_ill(site, world.chance.one_of((Ill.CUT, Ill.OFF, Ill.SLOW)), seconds=11)
        await asyncio.sleep(12 * 1.2)
        if world.chance.of_one_in(3):
            world.kill_daemon()
            world.boot()
        await asyncio.sleep(PROBED_SECONDS)
        shown = world.daemon.front.tiles[group.id, Tile.GROUP].read
        if shown is not (on and defined.assume_state):
            raise Violation(f"{group.id} was last turned {'on' if on else 'off'}, and a read says {shown}")
    await _put_right(world, operations, reference)


async def check_sensors(world: HostsWorld, operations: HostsOperations, reference: HostsReference) -> None:
    """A crash on a host opens its group's sensor, which a cut neither closes nor opens."""
    groups = world.daemon.front.groups.values()
    for group in [each for each in groups if each.alert is not None and _is_quick(world, each)][:1]:
        machine, place = world.machine_of(group.elsewhere), group.elsewhere
        defined = world.truth_of(group)
        assert defined is not None
        unit = defined.members[0]
        machine.systemd.start(unit)
        await asyncio.sleep(WELL_SECONDS)
        if world.sensors[group.id]:
            raise Violation(f"{group.id} is well, and its sensor is open")
        machine.note(f"{unit} crashes")
        crashed_seconds = asyncio.get_running_loop().time()
        machine.systemd.crash(unit, status=1)
        await asyncio.sleep(3)
        if not world.sensors[group.id]:
            raise Violation(f"{unit} of {group.id} crashed, and its sensor is closed")
        told = [each for each in world.machine.systemd.facts.commands if each.at_seconds >= crashed_seconds]
        if [each.group_id for each in told if each.group_id == group.id] != [group.id] * bool(
            world.layout.head
        ):
            raise Violation(f"{unit} of {group.id} crashed, and the alert command was told {told}")
        if place is not None:
            operations.make_ill(world.sites[place.host.name], Ill.CUT, seconds=20)
            await asyncio.sleep(24 + 4)
            if not world.sensors[group.id]:
                raise Violation(f"{group.id} has failed, and a cut closed its sensor")
        machine.systemd.start(unit)
        await asyncio.sleep(WELL_SECONDS)
        if world.sensors[group.id] and all(map(machine.is_up, defined.members)):
            raise Violation(f"{group.id} is well again, and its sensor is open")
    await _put_right(world, operations, reference)


async def check_rules(world: HostsWorld, operations: HostsOperations, reference: HostsReference) -> None:
    """A hungry group is restarted on its own host by the rule of this config, and no other group is."""
    ruled = [each for each in world.daemon.front.groups.values() if each.restart_when and each.elsewhere]
    for group in ruled[:1]:
        assert group.elsewhere is not None
        site, unit = world.sites[group.elsewhere.host.name], "hungry.service"
        defined = world.truth_of(group)
        if defined is None or unit not in defined.members:
            continue
        for member in defined.members:
            site.machine.systemd.start(member)
        await asyncio.sleep(SETTLED_SECONDS)
        before = {name: each.machine.systemd.history.last(unit).starts for name, each in _with(world, unit)}
        world.note(f"on {site.name}: {unit} is hungry")
        site.machine.systemd.use_cores(unit, 1.0)
        await asyncio.sleep(RULE_SECONDS)
        site.machine.systemd.use_cores(unit, 0)
        after = {name: each.machine.systemd.history.last(unit).starts for name, each in _with(world, unit)}
        more = {name for name in before if after[name] > before[name]}
        report = next(report for report in world.reports() if report.id == group.id)
        if more != {site.name} and "gave up" not in report.trouble:
            raise Violation(f"{unit} on {site.name} is hungry, and restarted were those on {sorted(more)}")
    await _put_right(world, operations, reference)


def _with(world: HostsWorld, unit: str) -> list[tuple[str, RemoteSite]]:
    return [(name, site) for name, site in world.sites.items() if unit in site.machine.units]


HOSTS_CHECKS: Final[tuple[Check, ...]] = (
    check_settled,
    check_neighbours,
    check_unseen,
    check_settled,
    check_sensors,
    check_rules,
)
"""In this order."""
