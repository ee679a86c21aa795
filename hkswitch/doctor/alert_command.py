"""Checks that the alert command can run as a user without rights, for the doctor and `check`.

systemd runs it as a dynamic user: with the rights of others, and without a home.
"""

import os
import shlex
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final

from hkswitch.doctor.configuration import HOME_FOLDERS, TEMPORARY_FOLDERS
from hkswitch.doctor.context import Context
from hkswitch.doctor.finding import NO_CONFIG, Check, Finding, counted, fail, ok, skip, warn
from hkswitch.model.errors import Failure
from hkswitch.model.group import Argv
from hkswitch.serviceswitch import trusted_files

NEVER_RUNS: Final = "`alert_command` never runs: no group has `alert`"
ADD_ALERT: Final = "add `alert: contact` to a group with `sudo hkswitch edit`"

HIDDEN_FOLDERS: Final = (*HOME_FOLDERS, *TEMPORARY_FOLDERS)
"""Folders that the command does not see, or that it has empty ones of its own in place of."""

_FIRST_LINE_BYTES: Final = 256

_MOVE: Final = "move it to /usr/local/bin"


async def alerts(context: Context) -> tuple[Finding]:
    """Check that the alert command has an alert to run for, and that it can run."""
    config = context.config
    if isinstance(config, Failure):
        return (skip(Check.ALERTS, NO_CONFIG),)
    watched = sum(group.alert is not None for group in config.groups)
    if not watched:
        found = warn(Check.ALERTS, NEVER_RUNS, ADD_ALERT) if config.alert_command else None
        return (found or ok(Check.ALERTS, "no group has an alert"),)
    said = f"{counted(watched, 'group')} with a sensor"
    if not config.alert_command:
        return (ok(Check.ALERTS, said),)
    if fault := why_cannot_run(config.alert_command):
        return (fail(Check.ALERTS, *fault),)
    return (ok(Check.ALERTS, f"{said}; each trouble runs {config.alert_command[0]}"),)


def why_cannot_run(command: Argv) -> tuple[str, str] | None:
    """Return why a dynamic user cannot run a command, and the remedy; None if nothing is known of that."""
    program, *arguments = command
    path = program
    for _ in range(trusted_files.MOST_INTERPRETERS):
        if fault := _why_not_executable(path):
            return fault
        if (interpreter := _interpreter_of(path)) is None:
            break
        path = interpreter
    # Often the program is an interpreter, and the script is its argument.
    return next((fault for path in arguments if path.startswith("/") and (fault := _why_hidden(path))), None)


def _why_not_executable(path: str) -> tuple[str, str] | None:
    if fault := _why_hidden(path):
        return fault
    whole = Path(path).resolve()
    for folder in reversed(whole.parents):
        if folder.is_dir() and not folder.stat().st_mode & stat.S_IXOTH:
            return _denied(f"other users cannot open {folder}", f"run `sudo chmod o+x {_quoted(folder)}`")
    with suppress(OSError):
        mode = whole.stat().st_mode
        if not stat.S_ISREG(mode):
            return f"{path} is not a file", "correct `alert_command`"
        wanted = stat.S_IXOTH | (stat.S_IROTH if _interpreter_of(path) is not None else 0)
        if mode & wanted != wanted:
            verb = "read" if mode & stat.S_IXOTH else "run"
            mark = "rx" if wanted & stat.S_IROTH else "x"
            return _denied(
                f"other users cannot {verb} {whole}", f"run `sudo chmod o+{mark} {_quoted(whole)}`"
            )
        return None
    return f"{path} does not exist", "create it, or correct `alert_command`"


def _why_hidden(path: str) -> tuple[str, str] | None:
    """Return why the command's sandbox hides a path from it, and the remedy."""
    for folder in HIDDEN_FOLDERS:
        if any(Path(each).is_relative_to(folder) for each in (path, os.path.realpath(path))):
            return f"the alert command cannot see {path}: its sandbox hides {folder}", _MOVE
    return None


def _interpreter_of(path: str) -> str | None:
    """Return the interpreter of a script; None of what is none, or cannot be read."""
    with suppress(OSError):
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            start = os.read(file, _FIRST_LINE_BYTES)
        finally:
            os.close(file)
        words = start.removeprefix(b"#!").split(b"\n")[0].split(b"\0")[0].split()
        if start.startswith(b"#!") and words and words[0].startswith(b"/"):
            return words[0].decode("ascii", "replace")
    return None


def _denied(why: str, remedy: str) -> tuple[str, str]:
    return f"the alert command runs as a user without rights, but {why}", remedy


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))
