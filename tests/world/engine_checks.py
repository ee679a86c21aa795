"""A check of a quiescent world with container engines: the trouble of one concerns its own groups alone."""

import asyncio
from typing import Final

from hkswitch.model.switch_events import Tile
from tests.world.engine import RememberedEngine
from tests.world.front import FAILED
from tests.world.invariants import check_step
from tests.world.quiescence import HEALED_SECONDS, MOMENTS_SECONDS, check_agreement, killed_helper
from tests.world.scene import HEALTHY
from tests.world.seed_run import Violation
from tests.world.world import World

TROUBLE_SECONDS: Final = 12.0
"""Longer than a helper is waited for, and than a look at a container."""


async def check_engine_trouble(world: World) -> None:
    """While an engine is off, hangs or is gone, no other group fails; while it is off, its own do."""
    if not world.has_engines:
        return
    engine = world.chance.one_of(list(world.machine.engines.of.values()))
    theirs = {group.id for group in world.served if not {*group.contained}.isdisjoint(engine.members)}
    before = {key: value for key, value in world.daemon.front.read().items() if key[0] not in theirs}
    world.daemon.front.lapses.clear()
    for phone in world.phones:
        phone.heard.clear()
    is_off = _trouble(world, engine)
    world.outages.begin(engine.engine, TROUBLE_SECONDS, engine.go_on)
    if world.chance.of_one_in(3):
        await asyncio.sleep(world.chance.one_of(MOMENTS_SECONDS))
        killed_helper(world)
    await asyncio.sleep(TROUBLE_SECONDS)
    _check_others(world, {group_id for (group_id, _), value in before.items() if value != FAILED})
    if is_off:
        _check_off(world, engine, theirs)
    world.note("the trouble ends")
    world.machine.systemd.start(engine.engine.unit)
    await asyncio.sleep(HEALED_SECONDS)
    check_step(world, asyncio.get_running_loop().time(), world.reports())
    check_agreement(world)


def _trouble(world: World, engine: RememberedEngine) -> bool:
    """Begin it; returns whether the engine is off."""
    unit = engine.engine.unit
    kind = world.chance.one_of(("stopped", "killed", "hung", "cut off"))
    world.note(f"in the calm, {engine.engine} is {kind}")
    engine.trouble()
    match kind:
        case "stopped":
            world.machine.systemd.stop(unit)
        case "killed":
            world.machine.systemd.crash(engine.process_unit, signal=9)
        case "hung":
            engine.hang()
        case "cut off":
            engine.hang_up()
    return kind == "stopped"


def _check_others(world: World, respond: set[str]) -> None:
    if failed := sorted(respond & {*world.daemon.front.lapses}):
        raise Violation(f"an engine's trouble made others fail: {failed}")
    healthy = {group.id for group in world.served if group.units and {*group.units} <= {*HEALTHY}}
    for phone in world.phones:
        heard = [(key[0], on) for key, on in phone.heard if key[0] in respond & healthy]
        if heard:
            raise Violation(f"an engine's trouble changed others: {phone.name} heard {heard}")


def _check_off(world: World, engine: RememberedEngine, theirs: set[str]) -> None:
    unit = engine.engine.unit
    if world.machine.systemd.truth(unit).is_running:
        raise Violation(f"{unit} was stopped, and is {world.machine.systemd.truth(unit)}")
    for group_id in theirs:
        if (read := world.daemon.front.tiles[group_id, Tile.GROUP].read) != FAILED:
            raise Violation(f"{engine.engine} is off, and a read of {group_id} says {read}")
