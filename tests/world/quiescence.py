"""Invariants of a quiescent world: the daemon, the controllers and the machine agree about everything."""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Final

from hkswitch.model.group import Group
from hkswitch.model.switch_events import Tile
from hkswitch.model.unit_state import Action, GroupState, ProbeResult
from hkswitch.protocol.control import Status, encode_control_reply, parse_control_reply
from tests.world.front import FAILED, Key, Shown
from tests.world.invariants import check_step
from tests.world.phone import Phone
from tests.world.reports import runs
from tests.world.scene import HEALTHY
from tests.world.seed_run import Violation
from tests.world.systemd import at_once
from tests.world.trouble_reference import CHECKED_SECONDS
from tests.world.world import Act, World

SETTLED_SECONDS: Final = 16.0
"""Longer than the interval of a probe and the one that runs, and than what the units take."""

REST_SECONDS: Final = 140.0
"""Longer than a helper's longest pause, and than units that a helper left in transition are waited for."""

UNNOTICED_SECONDS: Final = 12.0
LASTED_SECONDS: Final = 12.0
"""The one after a helper that has lived for so long is started at once."""

MOMENTS_SECONDS: Final = (0.0, 0.0005, 0.005, 0.05, 0.3)

NOTICED_SECONDS: Final = 6.0
"""The helper looks at its config at least every 5 s."""

HEALED_SECONDS: Final = 8.0
"""Longer than engines take to start, and what they say of containers to arrive."""

CALM_SECONDS: Final = 4.0
SLOW_CALM_SECONDS: Final = 12.0
"""Longer than what is healthy takes to start, and to stop."""


async def settle(world: World) -> None:
    """End all disturbances, and wait until the world is quiescent."""
    world.note("nothing disturbs any more")
    world.repair()
    world.reload()
    await asyncio.sleep(SETTLED_SECONDS)
    loop = asyncio.get_running_loop()
    until_seconds = loop.time() + REST_SECONDS
    while _is_busy(world) and loop.time() < until_seconds:  # noqa: ASYNC110 -- the world has no such event
        await asyncio.sleep(SETTLED_SECONDS)
    world.meet()
    await _settle(world)
    for phone in world.phones:
        phone.look(world.daemon.front)
    await _settle(world)


async def _settle(world: World) -> None:
    if world.access.settle_seconds:
        await asyncio.sleep(world.access.settle_seconds)


def _is_busy(world: World) -> bool:
    """Return whether something is still pending or unknown."""
    report = world.daemon.serving.report()
    unsettled = {None, GroupState.STARTING, GroupState.STOPPING}
    return any(group.state in unsettled or runs(group) for group in report.groups)


async def check_quiescence(world: World) -> None:
    """Let the world settle, and check it."""
    await settle(world)
    check_step(world, asyncio.get_running_loop().time(), world.reports())
    if len(world.daemon.reloads) != world.reloads_asked:
        raise Violation(f"{world.reloads_asked} reloads were asked for, and ended: {world.daemon.reloads}")
    if world.daemon.outside.served != world.daemon.outside.place:
        raise Violation(f"the daemon serves at {world.daemon.outside.served}")
    if waiting := [act for act in world.acts if act.ended_seconds is None and act.daemon is world.daemon]:
        raise Violation(f"a client waits for ever: {'; '.join(map(str, waiting))}")
    check_agreement(world)


def check_agreement(world: World) -> None:
    """Report, tiles and what phones believe are as units and programs are."""
    groups = world.file.read_by_daemon().groups
    reports = {report.id: report for report in world.daemon.serving.report().groups}
    if {*reports} != {group.id for group in groups}:
        raise Violation(f"there are {sorted(reports)}, and the config has other groups")
    seen, right = (
        world.watched.status,
        parse_control_reply(encode_control_reply(Status(world.daemon.serving.report()))),
    )
    assert isinstance(right, Status)
    if seen is None or seen.report.groups != right.report.groups:
        raise Violation(f"a watching terminal sees something else: {seen}")
    for group in groups:
        state = _truth(world, group)
        if reports[group.id].state is not state:
            said = f"{reports[group.id].state or reports[group.id].why}"
            raise Violation(f"{group.id} is {state}, and hkswitch says {said}")
        check_tiles(world.daemon.front.tiles, world.phones, group, state)


async def check_troubles(world: World) -> None:
    """Sensors, what phones believe of them, and what is kept agree, and are as units are."""
    if not world.has_alerts:
        return
    if any(group.check for group in world.served):  # one that has not passed for so long is a trouble
        await asyncio.sleep(CHECKED_SECONDS)
    world.note("sensors are compared")
    world.troubles.check_quiescent()
    if repeats := [text for phone in world.phones for text in phone.repeats]:
        raise Violation(f"an event that is no news: {repeats}")


def check_tiles(
    tiles: Mapping[Key, Shown], phones: Iterable[Phone], group: Group, state: GroupState | None
) -> None:
    """Check what reads of a group's tiles say, and what phones believe."""
    is_known = state not in {None, GroupState.MISSING}
    for key, shown in tiles.items():
        if key[0] != group.id:
            continue
        right = (state is not None and state.on and key[1] is Tile.GROUP) if is_known else FAILED
        if shown.read != right:
            raise Violation(f"{group.id} is {state}, and a read of {key[1].value} says {shown.read}")
        for phone in phones:
            if is_known and phone.believes.get(key) != right:
                believes = phone.believes.get(key)
                raise Violation(
                    f"{group.id} is {state}, and {phone.name} believes {believes} of {key[1].value}"
                )


def _truth(world: World, group: Group) -> GroupState | None:
    programs = world.machine.programs
    if group.commands is not None:
        return GroupState.ON if programs.is_lit else GroupState.OFF
    units = {member: world.machine.truth(member) for member in group.members}
    return group.state(
        units, ProbeResult.OFF if group.check and not programs.passes[group.check[1]] else ProbeResult.ON
    )


async def check_calm(world: World) -> None:
    """Without disturbances, each tap on a healthy group succeeds, and all clients see so."""
    if world.has_engines:
        world.note("all containers are in order")
        world.machine.engines.heal()
        await asyncio.sleep(HEALED_SECONDS)
    if (group := _healthy(world)) is None:
        return
    for on in (True, False, True):
        if (Action.START if on else Action.STOP) not in group.actions:
            continue
        phone = world.chance.one_of(world.phones)
        before = world.daemon.front.read()[group.id, Tile.GROUP]
        for each in world.phones:
            each.heard.clear()
        world.note(f"in the calm, the {phone.name} phone writes {'On' if on else 'Off'} to {group.id}")
        write = phone.tap(world.daemon.front, world.daemon.process, (group.id, Tile.GROUP), on=on)
        await asyncio.sleep(_calm_seconds(group))
        if write is None or not write.ok:
            raise Violation(f"in the calm a tap on {group.id} failed: {write}")
        check_step(world, asyncio.get_running_loop().time(), world.reports())
        _check_came(world, group, Action.START if on else Action.STOP)
        _check_events(world, phone, group, is_news=before is not on, on=on)
    check_agreement(world)


def _healthy(world: World) -> Group | None:
    """A group whose starts are successes, if there is any; its check passes from now on."""
    world.machine.programs.passes |= {"one": True, "two": True}
    healthy = _healthy_groups(world)
    return world.chance.one_of(healthy) if healthy else None


def _healthy_groups(world: World) -> list[Group]:
    groups = world.file.read_by_daemon().groups
    healthy = [group for group in groups if {*group.units} <= {*HEALTHY} - {"once.service"}]
    return [group for group in healthy if all(map(world.machine.engines.can_start, group.contained))]


def _calm_seconds(group: Group) -> float:
    return SLOW_CALM_SECONDS if "slow.service" in group.units or group.contained else CALM_SECONDS


def _check_came(world: World, group: Group, action: Action) -> None:
    """The group has the state that its action requests."""
    state = _truth(world, group)
    stopped = {GroupState.OFF, GroupState.FAILED}  # what crashed before stays failed
    if state not in (stopped if action is Action.STOP else {GroupState.ON}):
        raise Violation(f"in the calm there was a {action} of {group.id}, and it is {state}")


async def check_last_request(world: World) -> None:
    """The last request for healthy units wins and succeeds, whatever was done to them before."""
    if (group := _healthy(world)) is None:
        return
    world.machine.programs.takes_seconds = world.chance.one_of((0.01, 0.3))
    systemd = world.machine.systemd
    for unit in group.units:
        if world.chance.of_one_in(2):
            operation = world.chance.one_of((systemd.start, systemd.stop, systemd.restart, systemd.crash))
            world.note(f"in the calm, {operation.__name__} of {unit} by another client")
            world.machine.disturb(unit)
            operation(unit)
    for member in group.contained:
        verb = world.chance.one_of(("", "", "start", "stop", "kill"))
        if verb:
            world.note(f"in the calm, {verb} of {member} by another client")
            world.machine.disturb(member)
            world.machine.engines.by_command(verb, member)
            # Unlike systemd, an engine that is told to start and to stop something does both at once.
            await asyncio.sleep(0 if verb == "kill" else CALM_SECONDS)
    await asyncio.sleep(world.chance.one_of(MOMENTS_SECONDS))
    killed = world.chance.of_one_in(3) and killed_helper(world)
    last = _sharing(world, group) if world.chance.of_one_in(3) else group
    wishes = [world.chance.one_of(sorted(group.actions)) for _ in range(world.chance.stream.randrange(3))]
    acts = []
    for each, action in (
        *((group, wish) for wish in wishes),
        (last, world.chance.one_of(sorted(last.actions))),
    ):
        acts.append(world.act(action, each.id, at_once))
        await asyncio.sleep(world.chance.one_of(MOMENTS_SECONDS))
    await asyncio.sleep(2 * max(map(_calm_seconds, (group, last))))
    matter = acts if last is group else acts[-1:]  # who has another group of the same unit undid the others
    failed = [act for act in matter if not (act.asked.is_done or _was_undone(act, is_last=act is acts[-1]))]
    if failed and not killed:  # the next helper may come too late
        raise Violation(f"in the calm a wish failed: {'; '.join(map(str, failed))}")
    if acts[-1].action is not Action.RESTART and acts[-1].asked.is_done:  # what is stopped stays so
        _check_came(world, last, acts[-1].action)
    check_step(world, asyncio.get_running_loop().time(), world.reports())


def killed_helper(world: World) -> bool:
    """Have the helper killed, if the next one is started at once; returns whether it was."""
    helper, lasted_since_seconds = world.transport.newest, asyncio.get_running_loop().time() - LASTED_SECONDS
    if helper is None or helper.began_at_seconds > lasted_since_seconds:
        return False
    world.note("in the calm, the helper is killed")
    helper.kill()
    return True


def _sharing(world: World, group: Group) -> Group:
    """Another healthy group that shares a member with this one, if there is any."""
    others = [other for other in _healthy_groups(world) if {*other.members} & {*group.members}]
    return world.chance.one_of(others) if others else group


def _was_undone(act: Act, *, is_last: bool) -> bool:
    """Whether another request undid this one, so that its success is undefined."""
    said = str(act.asked.last)
    return ("replaced this one" in said and not is_last) or (
        act.action is Action.RESTART and "was stopped" in said
    )


async def check_helper_restart_unnoticed(world: World) -> None:
    """A helper that dies is replaced, and a reload that changes other groups is done, and no switch fails."""
    front = world.daemon.front
    same = {*world.served}
    responds = {group.id for group in same if front.tiles[group.id, Tile.GROUP].read != FAILED}
    front.lapses.clear()
    if world.chance.of_one_in(2) and killed_helper(world):
        await asyncio.sleep(world.chance.one_of((*MOMENTS_SECONDS, 0.6, 0.8)))
    for _ in range(world.chance.stream.randrange(3)):
        world.edit()
        same &= {*world.file.read_by_daemon().groups}
        world.reload()
        await asyncio.sleep(world.chance.one_of(MOMENTS_SECONDS))
    await asyncio.sleep(UNNOTICED_SECONDS)
    if failed := sorted({group.id for group in same} & responds & {*front.lapses}):
        raise Violation(f"in the calm {failed} failed for a moment, though no client changed them")
    check_step(world, asyncio.get_running_loop().time(), world.reports())
    for phone in world.phones:
        phone.look(front)
    await _settle(world)
    check_agreement(world)


def _check_events(world: World, writer: Phone, group: Group, *, is_news: bool, on: bool) -> None:
    """Other controllers get one event of the change; there is no other event, and none of a reversal."""
    for phone in world.phones:
        heard = [value for key, value in phone.heard if key == (group.id, Tile.GROUP)]
        right = [on] if is_news and phone is not writer else []
        if heard not in ([], right) or (right and not heard):
            raise Violation(f"in the calm {phone.name} heard {heard} of {group.id}, and should have {right}")


async def check_edited(world: World) -> None:
    """A group that root's config has otherwise is not known, until the daemon reads the config too."""
    before = {group.id: group.token for group in world.file.read_by_daemon().groups}
    world.edit()
    await asyncio.sleep(NOTICED_SECONDS)
    now = {group.id: group.token for group in world.file.read_by_daemon().groups}
    for report in world.daemon.serving.report().groups:
        is_same = now.get(report.id) == before[report.id]
        if not is_same and report.state is not None:
            raise Violation(f"{report.id} is another one for root, and still said to be {report.state}")
