"""`hkswitch edit`: opens a copy of the configuration in an editor, and installs it only if it is valid."""

import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import click

from hkswitch.cli.config_change import apply_change, make_change, show_change
from hkswitch.cli.layout import say
from hkswitch.cli.options import config_option, examples
from hkswitch.editing.config_replacement import CannotReplace, Original, check_rights, locked, read_original
from hkswitch.model.config import parse
from hkswitch.model.config_file import config_bytes
from hkswitch.model.environment import SEARCH_PATH
from hkswitch.model.errors import ConfigError, Exit, Failure
from hkswitch.model.printable import printable_lines

VARIABLES: Final = ("SUDO_EDITOR", "VISUAL", "EDITOR")
"""The variables that name the editor, in the order of sudoedit(8)."""

EDITORS: Final = ("editor", "nano", "vi")
"""The editors to look for if none of them is set; the first is Debian's alternative."""


@click.command(epilog=examples("sudo hkswitch edit", "sudo EDITOR=nano hkswitch edit"))
@config_option
def edit(config_file: Path) -> None:
    """Edit the configuration.

    Opens a copy in the editor that SUDO_EDITOR, VISUAL or EDITOR names. If the copy has mistakes, you can
    edit it again or discard it; otherwise it replaces the configuration, and the daemon is reloaded.
    """
    check_rights(config_file)
    with locked(config_file):
        original = read_original(config_file)
        is_changed = edit_copy(original, editor(os.environ))
    if is_changed:
        apply_change(config_file)
    else:
        say(f"{config_file} is unchanged.")


def edit_copy(original: Original, command: list[str]) -> bool:
    """Edit a copy until it is valid or discarded, and install it; returns whether the file changed.

    Raises `Failure` if the editor fails, or if a copy with mistakes is discarded.
    """
    with _private_folder() as folder:
        copy = folder / original.file.name
        copy.touch(mode=0o600)
        copy.write_bytes(original.data)
        while True:
            _run(command, copy)
            data = config_bytes(copy)
            if data == original.data:
                return False
            if _is_valid(data, original.file):
                break
            if not _wants_again():
                raise Failure(f"the changes were discarded; {original.file} is unchanged", Exit.CONFIG)
        show_change(original, data)
        try:
            make_change(original, data)
        except CannotReplace as failure:
            kept = _keep(copy)
            raise CannotReplace(
                original.file, f"{failure}; your version is in {kept}", failure.exit_code
            ) from failure
        return True


def editor(environment: Mapping[str, str]) -> list[str]:
    """Return the editor's command. Raises `Failure` if there is none."""
    # TRUST: it runs as the caller, with the environment that sudo's policy has passed on, as for sudoedit. A
    # user who may edit the configuration may have root run any command in it anyway.
    for variable in VARIABLES:
        try:
            if words := shlex.split(environment.get(variable, "")):
                return words
        except ValueError as error:
            raise Failure(f"cannot read {variable}: {error}", Exit.USAGE) from None
    for name in EDITORS:
        if path := shutil.which(name, path=SEARCH_PATH):
            return [path]
    raise Failure(f"found no editor; set {VARIABLES[-1]}, as in `sudo EDITOR=nano hkswitch edit`")


@contextmanager
def _private_folder() -> Iterator[Path]:
    """Make a folder that only this user can enter, and remove it with everything that editors left in it."""
    with tempfile.TemporaryDirectory(prefix="hkswitch-edit-") as folder:
        yield Path(folder)


def _keep(copy: Path) -> Path:
    """Move an edited copy to where it outlives this command; only this user can read it."""
    return copy.rename(Path(tempfile.mkdtemp(prefix="hkswitch-edited-")) / copy.name)


def _run(command: list[str], copy: Path) -> None:
    """Run the editor to its end. Ctrl-C is the editor's alone."""
    sys.stdout.flush()
    before = signal.signal(signal.SIGINT, lambda *_: None)  # not SIG_IGN, which the editor would inherit
    try:
        ended = subprocess.run([*command, copy], check=False)  # noqa: S603 -- no shell
    except OSError as error:
        raise Failure(f"cannot start the editor {command[0]}: {error.strerror or error}") from error
    finally:
        signal.signal(signal.SIGINT, before)
    if ended.returncode != 0:
        raise Failure(f"the editor {command[0]} failed (status {ended.returncode}); nothing was changed")


def _is_valid(data: bytes, file: Path) -> bool:
    """Whether the text is a config; prints its problems, with the name of the real file."""
    try:
        parse(data, str(file))
    except ConfigError as error:
        say(printable_lines(str(error)), err=True)
        return False
    return True


def _wants_again() -> bool:
    """Ask whether to edit again; the end of standard input discards the changes."""
    while True:
        click.echo(
            "The configuration has mistakes. [E]dit again, or [d]iscard the changes? ", nl=False, err=True
        )
        answer = sys.stdin.readline()
        if not answer or answer.strip().lower() in {"d", "discard"}:
            return False
        if answer.strip().lower() in {"", "e", "edit"}:
            return True
