"""`hkswitch unpair`: removes the pairing of one controller or of all."""

from collections.abc import Sequence
from pathlib import Path

import click

from hkswitch.cli.layout import say
from hkswitch.cli.options import allow_only_one, examples, state_option
from hkswitch.cli.pair import ask_or_do, paired_controllers
from hkswitch.control.words import command
from hkswitch.hap.setup_code import some, unknown_controller
from hkswitch.model.errors import Exit, Failure
from hkswitch.protocol.control import ControlRequest, Operation
from hkswitch.protocol.report import PairedController


@click.command(epilog=examples("sudo hkswitch unpair 3C7A", "sudo hkswitch unpair --all"))
@state_option
@click.argument("controller", required=False)
@click.option("--all", "remove_all", is_flag=True, help="Remove every controller")
def unpair(state_folder: Path, controller: str | None, *, remove_all: bool) -> None:
    """Remove a paired phone.

    Use this when a phone is lost. CONTROLLER is an ID from `hkswitch pair --list`, or the beginning of one;
    you can leave it out if only one controller is paired. Removing the last admin also removes all other
    controllers. The Home app shows the bridge as not responding until you remove it there.
    """
    allow_only_one({"CONTROLLER": controller is not None, "--all": remove_all})
    say(remove(state_folder, controller, remove_all=remove_all))


def remove(state_folder: Path, typed: str | None, *, remove_all: bool) -> str:
    """Remove one controller or all; returns a sentence about the outcome. Raises `Failure`."""
    before = paired_controllers(state_folder)
    if not before and typed is None:
        return "No controller is paired."
    one = None if remove_all else select_controller(before, typed)
    ask_or_do(state_folder, ControlRequest(Operation.UNPAIR, None if one is None else one.id))
    return removed(one, before, paired_controllers(state_folder), command(state_folder, "pair"))


def select_controller(among: Sequence[PairedController], typed: str | None) -> PairedController:
    """Return the controller by its ID or the beginning of it; by None, the only one. Raises `Failure`."""
    if typed is None:
        found = tuple(among)
    else:
        wanted = typed.upper()
        exact = tuple(controller for controller in among if controller.id == wanted)
        found = exact or tuple(c for c in among if wanted and c.id.startswith(wanted))
        if not found:
            raise unknown_controller(typed, [controller.id for controller in among])
    if len(found) != 1:
        ids = some([controller.id for controller in found])
        if typed is None:
            reason = f"{len(found)} controllers are paired: {ids}; name one of them, or use --all"
        else:
            reason = f"{len(found)} IDs begin with {typed!r}: {ids}; type more of the ID"
        raise Failure(f"cannot choose a controller: {reason}", Exit.USAGE)
    return found[0]


def removed(
    one: PairedController | None,
    before: Sequence[PairedController],
    after: Sequence[PairedController],
    pair_again: str,
) -> str:
    """Describe the removal of one controller, or of all (None); `pair_again` is the command to pair again."""
    left = {controller.id for controller in after}
    gone = [c.id for c in before if c.id not in left]
    others = ", ".join(controller_id for controller_id in gone if one is None or controller_id != one.id)
    if one is None:
        text = f"Removed all controllers: {others}."
    elif others:
        text = f"Removed {one.id}, the last admin, and with it all others: {others}."
    else:
        text = f"Removed {one.id}."
    return (
        text
        if left
        else f"{text} No controller is paired now; run {pair_again} to show the setup code again."
    )
