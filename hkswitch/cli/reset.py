"""`hkswitch reset`: removes the bridge's state, so that the daemon makes a new identity at its next start."""

import sys
from pathlib import Path
from typing import Final

import click

from hkswitch.cli.layout import say
from hkswitch.cli.options import examples, state_option
from hkswitch.cli.state_folder import REPLACED, held, only_root
from hkswitch.control import START_SERVICE, STATE_FOLDER
from hkswitch.control.words import command
from hkswitch.doctor.finding import counted
from hkswitch.hap import state_file
from hkswitch.hap.state_format import StateDamaged, StateTooNew
from hkswitch.model.config_file import DEFAULT

_DOING: Final = "reset the bridge"


@click.command(epilog=examples("sudo hkswitch reset", "sudo hkswitch reset --yes"))
@click.option("--yes", is_flag=True, help="Do not ask")
@state_option
def reset(state_folder: Path, *, yes: bool) -> None:
    """Give the bridge a new identity.

    Deletes its keys, setup code and pairings, even if they are damaged, and keeps the configuration. Stop the
    service first. Phones then see another bridge: remove the old one from the Home app, and pair again. Rooms
    and automations are lost.
    """
    only_root(_DOING, state_folder)
    with state_file.as_owner(state_folder):
        is_there = _exists(state_folder)
    if not is_there:
        say(f"There is no bridge in {state_folder}.")
        return
    with held(state_folder, _DOING):
        if not yes and not _is_confirmed(state_folder):
            say("Nothing has changed.")
            return
        with state_file.as_owner(state_folder):
            state_file.remove(state_folder)
    start = START_SERVICE if state_folder == STATE_FOLDER else "start the daemon for this folder"
    say("The bridge has no identity now, and gets a new one at the next start.")
    if state_folder == STATE_FOLDER and (kept := sorted(map(str, DEFAULT.parent.glob(f"{REPLACED}*")))):
        say(f"Restores have left earlier keys in {', '.join(kept)}: delete what you no longer need.")
    say(f"Remove the old bridge from the Home app. Then {start}, and run {command(state_folder, 'pair')}.")


def _exists(state_folder: Path) -> bool:
    names = {state_file.FILE_NAME, state_file.BACKUP_NAME}
    return state_folder.exists() and any(each.name in names for each in state_folder.iterdir())


def _is_confirmed(state_folder: Path) -> bool:
    """Ask; raises `UsageError` without a terminal."""
    if sys.stdin is None or not sys.stdin.isatty():
        raise click.UsageError("standard input is no terminal to ask on; use --yes")
    backup = command(state_folder, "backup FILE")
    say(f"{_described(state_folder)} To be able to return to it, run {backup} first.")
    return click.confirm("Delete its keys and pairings?")


def _described(state_folder: Path) -> str:
    """Say what would be lost."""
    try:
        with state_file.as_owner(state_folder):
            stored = state_file.read(state_folder)
    except (StateDamaged, StateTooNew) as failure:
        return f"{str(failure).partition(';')[0]}."
    if stored is None:
        return "There is no bridge."
    paired = counted(len(stored.controllers), "controller")
    return (
        f"The bridge {stored.device_id} has {paired}, which must pair again, and lose rooms and automations."
    )
