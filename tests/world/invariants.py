"""Invariants of a world after every step. They compare with the actual state of the machine."""

import math
from collections.abc import Sequence
from typing import Final

from hkswitch.model.switch_events import WRITE_TIMEOUT_SECONDS, Tile
from hkswitch.model.unit_state import Action
from hkswitch.protocol.helper import CONFIRM_AT_LENGTH_MS
from hkswitch.protocol.report import GroupReport
from tests.world.phone import Phone, Write
from tests.world.random_source import SLOW_SECONDS
from tests.world.reports import runs
from tests.world.seed_run import Violation
from tests.world.world import Act, World, action_of

ON_ITS_WAY_SECONDS: Final = 2 * SLOW_SECONDS
MERGED_SECONDS: Final = CONFIRM_AT_LENGTH_MS / 1000 + 6 * SLOW_SECONDS
"""A request serves the same wish again until the daemon has heard of its end."""

SETTLED_WITHIN_SECONDS: Final = 110.0
"""A request whose helper went away serves the same wish for so long."""

FORGOTTEN_AFTER_SECONDS: Final = 11.0
"""A helper is asked every 5 s whether it is there, and believed for 5 s more."""


def check_step(world: World, now_seconds: float, reports: Sequence[GroupReport]) -> None:
    """What is so at every moment; `reports` are of the daemon, none of one that is down."""
    _check_processes(world)
    for phone in world.phones:
        _check_answers(phone, now_seconds)
    _check_successes(world)
    _check_unknown(world, reports)
    _check_forgotten(world, reports, now_seconds)
    for ended in [act for act in world.acts if act.ended_seconds is not None]:
        world.note(f"    {ended}")
        world.acts.remove(ended)
    for phone in world.phones:
        for answered in phone.forget_answered():
            world.note(f"    the {phone.name} phone: {answered}")


def _check_processes(world: World) -> None:
    if unruly := world.daemon.front.unruly:
        raise Violation(f"the rules of events are broken: {unruly}")
    if (broke := world.daemon.broke) is not None:
        raise Violation(f"the daemon broke: {broke!r}") from broke
    if world.late_acts:
        raise Violation("a helper acted although the daemon had let go of it")
    if world.transport.unwritten:
        raise Violation(f"not in the audit: {world.transport.unwritten}")
    if wrong := world.machine.engines.wrongs:
        raise Violation(f"with an engine: {wrong}")
    if world.machine.overlaps:
        raise Violation("two commands of one group ran at once")


def _check_successes(world: World) -> None:
    for phone in world.phones:
        for write in phone.writes:
            if write.ok and not _may_be_success(world, write):
                raise Violation(f"the {phone.name} phone was told a success that did not happen: {write}")
    for act in world.acts:
        if act.asked.is_done and not _happened(world, act):
            raise Violation(f"a success that did not happen: {act}")


def _check_answers(phone: Phone, now_seconds: float) -> None:
    """Each write is answered once, within a second."""
    for write in phone.writes:
        took_seconds = (write.answered_seconds or now_seconds) - write.asked_seconds
        is_late = took_seconds > WRITE_TIMEOUT_SECONDS + ON_ITS_WAY_SECONDS
        if is_late and not write.wire.is_cut:
            raise Violation(
                f"the {phone.name} phone's write was not answered within {took_seconds:.3f} s: {write}"
            )
        if write.answers > 1:
            raise Violation(f"the {phone.name} phone's write was answered {write.answers} times: {write}")


def _check_unknown(world: World, groups: Sequence[GroupReport]) -> None:
    """What is not known is never on."""
    for group in groups:
        shown = world.daemon.front.tiles.get((group.id, Tile.GROUP))
        if group.state is None and shown is not None and shown.read is True and not runs(group):
            raise Violation(f"{group.id} is not known, and shown on")


def _check_forgotten(world: World, groups: Sequence[GroupReport], now_seconds: float) -> None:
    """A state is unknown once it is no longer reported."""
    told_at_seconds = world.transport.told_at_seconds
    if now_seconds - told_at_seconds < FORGOTTEN_AFTER_SECONDS:
        return
    known = [group.id for group in groups if group.state is not None]
    if known:
        raise Violation(f"there is no helper since {told_at_seconds:.3f}, and {known} are known")


def _may_be_success(world: World, write: Write) -> bool:
    """Whether what was called a success before the second was over did happen."""
    answered_seconds = write.answered_seconds or 0.0
    if answered_seconds - write.asked_seconds >= WRITE_TIMEOUT_SECONDS - 1e-6:
        is_nothing = write.key[1] is Tile.RESTART and not write.on
        accepted_at_seconds = world.transport.accepted_at_seconds.get(write.key[0], -math.inf)
        return is_nothing or accepted_at_seconds >= write.asked_seconds - SETTLED_WITHIN_SECONDS
    if write.is_disputed:
        return True
    action = action_of(write.key[1], on=write.on)
    if action is None:
        return True  # there is nothing to take back
    return _did(world, write, action, answered_seconds)


def _happened(world: World, act: Act) -> bool:
    ended_seconds = act.ended_seconds or 0.0
    is_alone = not (act.is_disputed or act.is_shared or act.is_second)
    if is_alone and world.machine.fell(act.units, act.asked_seconds, ended_seconds):
        return False
    return _did(world, act, act.action, ended_seconds)


def _did(world: World, wish: Write | Act, action: Action, to_seconds: float) -> bool:
    """Whether the action was done to what the group was for who did it, which may have changed meanwhile."""
    group_id = wish.key[0] if isinstance(wish, Write) else wish.group_id
    # The request began so early, at the earliest, that the wish was merged with.
    from_seconds = world.outages.before(wish.asked_seconds - MERGED_SECONDS) - MERGED_SECONDS
    meanings = [wish.units, *world.units_between(group_id, wish.asked_seconds - MERGED_SECONDS, to_seconds)]
    return any(world.machine.did(action, units, from_seconds, to_seconds) for units in meanings)
