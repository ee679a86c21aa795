"""Steps that `add`, `remove` and `edit` share: shows a change of the config, makes it, and has it applied."""

from collections.abc import Iterator
from contextlib import contextmanager
from difflib import unified_diff
from pathlib import Path
from typing import Final

import click

from hkswitch.backup.replacement import remove_unfinished
from hkswitch.cli.check import print_warnings
from hkswitch.cli.layout import say
from hkswitch.cli.reload import request_reload
from hkswitch.control import STATE_FOLDER
from hkswitch.control.client import NoDaemon
from hkswitch.editing.config_replacement import Original, check_rights, is_of_service, locked, read_original
from hkswitch.model import config_file as configs
from hkswitch.model.config import parse
from hkswitch.model.errors import Failure
from hkswitch.model.printable import printable

NOT_RUNNING: Final = (
    "hkswitch is not running: run `sudo systemctl enable --now hkswitch`, then `sudo hkswitch pair`"
)
_COLORS: Final = {"+": "green", "-": "red", "@": "cyan"}

dry_run_option = click.option(
    "--dry-run", is_flag=True, help="Show the change, and leave the configuration as it is"
)


@contextmanager
def to_change(file: Path, *, dry_run: bool = False) -> Iterator[Original]:
    """Read the config, and keep other commands from changing it within the block, unless nothing will change.

    Raises `Failure`.
    """
    if dry_run:
        yield read_original(file)
        return
    check_rights(file)
    with locked(file):
        remove_unfinished([file])  # a restore that was killed leaves a second link to it
        yield read_original(file)


def show_change(original: Original, data: bytes) -> None:
    """Print the change as a unified diff, in color on a terminal."""
    for line in change(original, data):
        click.secho(line, fg=_COLORS.get(line[:1]))


def change(original: Original, data: bytes) -> Iterator[str]:
    """Yield the lines of the unified diff from the original to `data`."""
    old, new = (text.decode(errors="replace").splitlines() for text in (original.data, data))
    name = str(original.file)
    # TRUST: the file may hold escape sequences, which must not reach root's terminal.
    yield from (printable(line) for line in unified_diff(old, new, name, name, lineterm=""))


def make_change(original: Original, data: bytes) -> None:
    """Check the new text, print its warnings, and replace the file. Raises `Failure`."""
    print_warnings(data, parse(data, str(original.file)), original.file)
    original.replace(data)


def apply_change(file: Path) -> bool:
    """Have the daemon apply the service's config, or print how to do so; return whether it did.

    Raises `Failure`.
    """
    if not is_of_service(file):
        say(f"Not applied: hkswitch reads {configs.DEFAULT}.")
        return False
    try:
        note = request_reload(STATE_FOLDER)
    except NoDaemon:
        say(NOT_RUNNING)
        return False
    except Failure as failure:
        raise Failure(f"{file} is changed, but not applied: {failure}", failure.exit_code) from failure
    say(f"reloaded: {note}" if note else "reloaded")
    return True
