"""`hkswitch edit`: opens a copy of the configuration in an editor, and installs it only if it is valid."""

import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import click

from hkswitch.cli.config_change import apply_change, make_change, show_change, to_change
from hkswitch.cli.layout import say
from hkswitch.cli.options import config_option, examples
from hkswitch.editing.config_replacement import Original
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
    with to_change(config_file) as original:
        is_changed = edit_copy(original, editor(os.environ))
    if is_changed:
        apply_change(config_file)
    else:
        say(f"{config_file} is unchanged.")


class Discarded(Failure):
    """A copy with mistakes that the user gave up."""

    exit_code = Exit.CONFIG


def edit_copy(original: Original, command: list[str]) -> bool:
    """Edit a copy until it is valid or discarded, and install it; returns whether the file changed.

    Raises `Failure` if the editor fails, if a copy with mistakes is discarded, or if a valid one cannot be
    installed. A changed copy is kept unless the user discards it, whatever happens.
    """
    folder = Path(tempfile.mkdtemp(prefix="hkswitch-edit-"))  # only this user can enter it
    copy = folder / original.file.name
    is_kept = is_edited = False
    try:
        copy.touch(mode=0o600)
        copy.write_bytes(original.data)
        is_edited = True
        return _edit_until_valid(original, command, copy)
    except Discarded:
        raise
    except Failure as failure:
        if is_kept := _is_changed(copy, original):
            raise Failure(f"{failure}; your version is in {copy}", failure.exit_code) from failure
        raise
    except BaseException:  # such as Ctrl-C at the question
        if is_kept := is_edited and _is_changed(copy, original):
            say(f"hkswitch: your version is in {copy}", err=True)
        raise
    finally:
        if not is_kept:
            shutil.rmtree(folder, ignore_errors=True)  # with everything that editors left in it


def _edit_until_valid(original: Original, command: list[str], copy: Path) -> bool:
    while True:
        _run(command, copy)
        data = config_bytes(copy)
        if data == original.data:
            return False
        if _is_valid(data, original.file):
            break
        if not _wants_again():
            raise Discarded(f"the changes were discarded; {original.file} is unchanged")
    show_change(original, data)
    make_change(original, data)
    return True


def _is_changed(copy: Path, original: Original) -> bool:
    """Whether a copy has changes that the file does not have."""
    try:
        edited = config_bytes(copy)
    except Failure:
        return False
    try:
        return edited not in {original.data, config_bytes(original.file)}
    except Failure:
        return edited != original.data


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
    """Ask whether to edit again, or to discard the changes. Raises `Failure` if there is no answer."""
    while True:
        click.echo(
            "The configuration has mistakes. [E]dit again, or [d]iscard the changes? ", nl=False, err=True
        )
        answer = sys.stdin.readline()
        if not answer:
            click.echo(err=True)
            raise Failure("standard input ended without an answer; nothing was changed", Exit.CONFIG)
        if answer.strip().lower() in {"d", "discard"}:
            return False
        if answer.strip().lower() in {"", "e", "edit"}:
            return True
