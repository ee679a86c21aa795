"""Finds out what a command of a Homebridge config does, as far as that is certain. Pure: no I/O.

The caller passes the function that looks up programs on the machine.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import takewhile
from typing import Final

from hkswitch.homebridge import shellwords
from hkswitch.homebridge.wording import quoted
from hkswitch.model import config_values as values
from hkswitch.model.yaml_nodes import Position, Scalar

Which = Callable[[str], str | None]
"""The absolute path of a program, as `shutil.which` finds it."""

_WINDOWS = re.compile(r"[A-Za-z]:[\\/]|\S+\.(?:exe|bat|cmd|ps1|vbs)\b|powershell\b|pwsh\b", re.IGNORECASE)
_MACOS: Final = frozenset({"launchctl", "osascript", "pmset", "caffeinate", "shortcuts"})
_SHELLS: Final = frozenset({"sh", "bash", "dash", "zsh", "ash", "ksh"})
_SHELL_COMMAND = re.compile(r"-[a-zA-Z]*c[a-zA-Z]*")
_REMOTE: Final = frozenset({"ssh", "scp", "sftp", "rsync", "sshpass"})
_SUDO_OPTION = re.compile(
    r"-[nEHSkA]+|--(?:non-interactive|preserve-env|set-home|stdin|reset-timestamp|user=root)"
)
_IGNORED_BY_UNITS: Final = frozenset(
    {"--no-pager", "--quiet", "-q", "--no-block", "--no-ask-password", "--system", "--full", "-l", "--wait"}
)
_SYSTEM_FOLDERS: Final = frozenset({"", "/bin", "/usr/bin", "/sbin", "/usr/sbin"})
_SCRIPTS: Final = (".sh", ".bash", ".py", ".js", ".pl", ".rb", ".php")
_OTHERS_FOLDERS = re.compile(r"/(?:home|Users|tmp|var/tmp|var/homebridge|var/lib/homebridge|homebridge)/.+")


class Verb(StrEnum):
    """An action on units."""

    START = "start"
    STOP = "stop"
    RESTART = "restart"
    STATUS = "status"


_SYSTEMCTL_VERBS: Final = {
    "start": Verb.START,
    "stop": Verb.STOP,
    "restart": Verb.RESTART,
    "try-restart": Verb.RESTART,
    "status": Verb.STATUS,
    "is-active": Verb.STATUS,
}
_SERVICE_VERBS: Final = {verb.value: verb for verb in Verb}


@dataclass(frozen=True, slots=True)
class Call:
    """An action on units, which have their full names."""

    verb: Verb
    units: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class HomebridgeCommand:
    """A command that was read. Without `argv` it cannot be imported, and `why` gives the reason.

    `call`: its action on units, if it does nothing else. `for_shell`: whether it could become a script.
    `words`: those of the command itself, without a sudo that only switches to root.
    """

    text: str
    words: tuple[str, ...] = ()
    argv: tuple[str, ...] = ()
    why: str = ""
    call: Call | None = None
    for_shell: bool = False
    notes: tuple[str, ...] = ()


def read(text: str, which: Which) -> HomebridgeCommand:
    """Parse a command line, and find out what it does."""
    try:
        words = shellwords.split(text)
    except shellwords.NeedsShell as reason:
        return HomebridgeCommand(text, why=f"needs a shell: {reason}", for_shell=True)
    if not words:
        return HomebridgeCommand(text, why="is empty")
    if _WINDOWS.match(text.strip()):
        return HomebridgeCommand(text, why="is for Windows")
    return of_words(text, words, which)


def of_words(text: str, words: tuple[str, ...], which: Which) -> HomebridgeCommand:
    """Find out what a program does with these arguments."""
    inner = as_root(words)
    if not inner:
        return HomebridgeCommand(text, why="names no program")
    name = inner[0].rpartition("/")[2]
    if name in _MACOS:
        return HomebridgeCommand(text, why=f"is for macOS: {quoted(name)}")
    options = list(takewhile(lambda word: word.startswith("-"), inner[1:]))
    if name in _SHELLS and any(_SHELL_COMMAND.fullmatch(option) for option in options):
        return HomebridgeCommand(text, why=f"needs a shell: '{name} -c'", for_shell=True)
    if _name(inner[0]) == "systemctl" and "--user" in inner:
        return HomebridgeCommand(text, why="is for user units, and hkswitch only switches system units")
    notes = tuple(_notes(inner))
    return replace(_program(text, inner, which), words=inner, call=call(inner), notes=notes)


def as_root(words: tuple[str, ...]) -> tuple[str, ...]:
    """Return `words` without a sudo that only switches to root, which runs them anyway.

    A sudo that switches to another user, or does more than that, is kept.
    """
    if not words or _name(words[0]) != "sudo":
        return words
    rest = list(words[1:])
    while rest and rest[0].startswith("-"):
        if rest[:2] in (["-u", "root"], ["--user", "root"]):
            del rest[:2]
        elif rest[0] == "--":
            del rest[0]
            break
        elif _SUDO_OPTION.fullmatch(rest[0]) or rest[0] == "-uroot":
            del rest[0]
        else:
            return words
    return words if rest and "=" in rest[0] else tuple(rest)


def call(words: tuple[str, ...]) -> Call | None:
    """Return the action of these words on units, if they do nothing else."""
    match [_name(words[0]), *words[1:]] if words else []:
        case ["systemctl", *arguments]:
            verb, *names = [word for word in arguments if word not in _IGNORED_BY_UNITS] or [""]
            return _call(_SYSTEMCTL_VERBS.get(verb), names)
        case ["service", name, verb]:
            return _call(_SERVICE_VERBS.get(verb), [name])
        case [script, verb] if script.startswith("/etc/init.d/"):
            return _call(_SERVICE_VERBS.get(verb), [script.removeprefix("/etc/init.d/")])
    return None


def _call(verb: Verb | None, names: list[str]) -> Call | None:
    if not verb or not names or any(name.startswith("-") for name in names):
        return None
    try:
        return Call(verb, tuple(dict.fromkeys(values.unit(_scalar(name)) for name in names)))
    except ValueError:
        return None


def _program(text: str, words: tuple[str, ...], which: Which) -> HomebridgeCommand:
    program = words[0]
    if "/" not in program:
        found = which(program)
        if not found or not found.startswith("/"):
            return HomebridgeCommand(text, why=f"needs {quoted(program)}, which is not on this machine")
        program = found
    if any(len(word) > values.MOST_ARGUMENT for word in words):
        return HomebridgeCommand(text, why=f"has an argument of more than {values.MOST_ARGUMENT} characters")
    try:
        values.program(_scalar(program))
        for word in words[1:]:
            values.argument(_scalar(word))
    except ValueError as error:
        return HomebridgeCommand(text, why=f"is invalid: {error}")
    return HomebridgeCommand(text, argv=(program, *words[1:]))


def _notes(words: tuple[str, ...]) -> list[str]:
    notes = []
    if _name(words[0]) == "sudo":
        notes.append("sudo is kept, because it does more than switch to root")
    if _name(words[0]) in _REMOTE:
        notes.append("root now makes this connection, so root needs the key, and the host in its known_hosts")
    for word in [words[0], *(word for word in words[1:] if word.endswith(_SCRIPTS))]:
        if _OTHERS_FOLDERS.fullmatch(word):
            why = "any user who can write that file can become root; move it to /usr/local/libexec"
            notes.append(f"{quoted(word)}: {why}")
        elif word.endswith(_SCRIPTS) and "/" in word and not word.startswith(("/", "-")):
            notes.append(f"{quoted(word)}: write its absolute path; it no longer runs in Homebridge's folder")
    return notes


def _scalar(text: str) -> Scalar:
    """Return `text` as a config value, to which the config's rules can be applied."""
    return Scalar(Position(1, 1), text, is_text=True)


def _name(program: str) -> str:
    """Return the name of a program in a system folder; of any other program, the whole path."""
    folder, _, name = program.rpartition("/")
    return name if folder in _SYSTEM_FOLDERS else program
