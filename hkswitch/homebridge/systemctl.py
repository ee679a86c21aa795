"""Recognises commands that do nothing but start, stop or ask units, and what sudo adds. Pure: no I/O."""

import re
from enum import StrEnum
from typing import Final, NamedTuple

from hkswitch.model import config_values as values
from hkswitch.model.yaml_nodes import Position, Scalar

_USER: Final = r"[A-Za-z_][A-Za-z0-9_.-]{0,30}"
_SUDO_OPTION = re.compile(r"-[nEHSkA]+|--(?:non-interactive|preserve-env|set-home|stdin|reset-timestamp)")
_SUDO_USER = re.compile(rf"(?:-n?u|--user[ =])[ ]?(?P<user>{_USER})")
_IGNORED: Final = frozenset(
    {"--no-pager", "--quiet", "-q", "--no-block", "--no-ask-password", "--system", "--full", "-l", "--wait"}
)
_SYSTEM_FOLDERS: Final = frozenset({"", "/bin", "/usr/bin", "/sbin", "/usr/sbin"})

ROOT: Final = "root"


class Verb(StrEnum):
    """An action on units or containers."""

    START = "start"
    STOP = "stop"
    STATUS = "status"


_SERVICE_VERBS: Final = {verb.value: verb for verb in Verb}
_SYSTEMCTL_VERBS: Final = {**_SERVICE_VERBS, "is-active": Verb.STATUS}
_OF_ANY: Final = "it was on with any of its units active, and is now on with all of them"


class Call(NamedTuple):
    """An action on members of a group, by their full names: `a.service`, `docker/a`.

    `difference`: when it says that they are on, if not just when such a group is on.
    """

    verb: Verb
    members: tuple[str, ...]
    difference: str = ""


def is_user(name: str) -> bool:
    """Return whether this can be the name of a user."""
    return re.fullmatch(_USER, name) is not None


def without_sudo(words: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
    """Return the user to whom sudo switches, and the words without it.

    The user is empty if there is no sudo, or one that does more than to switch to a user.
    """
    if not words or plain_name(words[0]) != "sudo":
        return "", words
    user, rest = ROOT, list(words[1:])
    while rest and rest[0].startswith("-") and rest[0] != "--":
        if match := _SUDO_USER.fullmatch(rest[0]) or _SUDO_USER.fullmatch(" ".join(rest[:2])):
            del rest[: 1 if _SUDO_USER.fullmatch(rest[0]) else 2]
            user = match["user"]
        elif _SUDO_OPTION.fullmatch(rest[0]):
            del rest[0]
        else:
            return "", words
    rest = rest[1:] if rest[:1] == ["--"] else rest
    return ("", words) if not rest or "=" in rest[0] else (user, tuple(rest))


def call(words: tuple[str, ...]) -> Call | None:
    """Return the action of these words on units, if they do nothing else."""
    match [plain_name(words[0]), *words[1:]] if words else []:
        case ["systemctl", *arguments]:
            verb, *names = [word for word in arguments if word not in _IGNORED] or [""]
            difference = _OF_ANY if verb == "is-active" and len(names) > 1 else ""
            return _call(_SYSTEMCTL_VERBS.get(verb), names, difference)
        case ["service", name, verb]:
            return _call(_SERVICE_VERBS.get(verb), [name])
        case [script, verb] if script.startswith("/etc/init.d/"):
            return _call(_SERVICE_VERBS.get(verb), [script.removeprefix("/etc/init.d/")])
    return None


def _call(verb: Verb | None, names: list[str], difference: str = "") -> Call | None:
    if not verb or not names or any(name.startswith("-") for name in names):
        return None
    try:
        return Call(verb, tuple(dict.fromkeys(values.unit(scalar(name)) for name in names)), difference)
    except ValueError:
        return None


def scalar(text: str) -> Scalar:
    """Return `text` as a config value, to which the config's rules can be applied."""
    return Scalar(Position(1, 1), text, is_text=True)


def plain_name(program: str) -> str:
    """Return the name of a program in a system folder; of any other program, the whole path."""
    folder, _, name = program.rpartition("/")
    return name if folder in _SYSTEM_FOLDERS else program
