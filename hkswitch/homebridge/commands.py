"""Reads a command of a Homebridge config: how to run it, and its effect if that is certain. Pure: no I/O."""

import re
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from hkswitch.homebridge import tokens
from hkswitch.homebridge.evaluation import follow
from hkswitch.homebridge.scripts import Script
from hkswitch.homebridge.state import MOST_LENGTH, Status
from hkswitch.homebridge.systemctl import ROOT, Call, Verb, plain_name, scalar, without_sudo
from hkswitch.homebridge.tokens import BUILTINS, SHELLS, Literal, NotUnderstood, ShellWord
from hkswitch.homebridge.wording import quoted
from hkswitch.model import config_values as values
from hkswitch.model.group import Argv

Which = Callable[[str], str | None]
"""The absolute path of a program, as `shutil.which` finds it."""

SHELL: Final = "/bin/sh"

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_GLOB_OR_BRACE = re.compile(r"[*?\[{}]")
_URL_WORD = re.compile(r"[a-z][a-z0-9+.-]*://[^\[{}]*")
_SUDO = re.compile(r"(?:^|[\n;&|(`'\"!]|\b(?:then|do|else|exec|nohup)\b)\s*(?:\S*/)?sudo\s")
_SCRIPTS: Final = (".sh", ".bash", ".py", ".js", ".pl", ".rb", ".php")
_OTHERS_FILE = re.compile(
    r"(?:^|(?<=[\s;&|()<>=,:'\"`!]))"
    r"/(?:home|Users|tmp|var/tmp|var/homebridge|var/lib/homebridge|homebridge)/[^\s;&|()<>'\"`]+"
)
"""A file that users other than root can probably write, in a word or in the text for a shell."""

_RELATIVE = re.compile(r"(?:^|[\s;&|('\"`])\.{1,2}/")
_ELSEWHERE = re.compile(r"\s*cd\s+[\"']?/")
"""A command that begins so does not depend on the folder that Homebridge ran in."""


class Resources(NamedTuple):
    """The machine that Homebridge runs on: its programs, the scripts that can be read, Homebridge's user.

    `is_assumed`: nothing says who that user is, and it is only the usual one.
    """

    which: Which
    scripts: Mapping[str, Script]
    user: str
    is_assumed: bool = False


class CommandEffect(NamedTuple):
    """The effect of a command: an action on units or containers and nothing else, if that is certain.

    `is_constant`: it always ends in the same way. `why`: the reason why nothing is certain.
    """

    call: Call | None = None
    is_constant: bool = False
    why: str = ""


class SwitchCommand(NamedTuple):
    """A command that was read. Without `argv` it cannot be imported, and `why` gives the reason."""

    text: str
    user: str
    argv: Argv = ()
    why: str = ""
    effect: CommandEffect = CommandEffect()
    notes: tuple[str, ...] = ()
    is_relative: bool = False


def read(text: str, machine: Resources) -> SwitchCommand:
    """Find out how to run a command as it was run, and what it does."""
    if len(text) > MOST_LENGTH:
        return SwitchCommand(
            text, machine.user, why=f"is too long; at most {MOST_LENGTH} characters are allowed"
        )
    if _ADDRESS.match(text):
        return SwitchCommand(text, machine.user, why="is no program, but an address; use curl or wget")
    words = _words(text)
    user, inner = without_sudo(words)
    if not inner or ("/" in inner[0] and not inner[0].startswith("/")):
        return _for_shell(text, machine)
    user = user or machine.user
    program = _program(inner[0], machine)
    if not program:
        why = f"needs {quoted(inner[0])}, which is not on this machine; write its absolute path"
        return SwitchCommand(text, user, why=why)
    argv = (program, *inner[1:])
    effect = _effect(text, machine)
    notes = [*_called_as_before(argv, machine, effect), *_written_by_others(argv, user)]
    inner_text = "\n".join(argv[1:]) if plain_name(inner[0]) in SHELLS else ""
    if plain_name(program) == "sudo" or _SUDO.search(inner_text):
        notes += _sudo_inside(user)
    relative = any(_is_relative_script(word) for word in argv[1:])
    return _checked(SwitchCommand(text, user, argv, "", effect, tuple(notes), relative))


def _for_shell(text: str, machine: Resources) -> SwitchCommand:
    argv = (SHELL, "-c", text)
    notes = [*(_sudo_inside(machine.user) if _SUDO.search(text) else ())]
    notes += _written_by_others(argv, machine.user)
    relative = _RELATIVE.search(text) is not None and not _ELSEWHERE.match(text)
    return _checked(
        SwitchCommand(text, machine.user, argv, "", _effect(text, machine), tuple(notes), relative)
    )


def _words(text: str) -> tuple[str, ...]:
    """Return the words of a command that needs no shell; none if it needs one."""
    try:
        found = tokens.read(text)
    except NotUnderstood:
        return ()
    words = [_word(token) if isinstance(token, ShellWord) else None for token in found]
    if not words or None in words or BUILTINS.fullmatch(words[0] or "") or "=" in (words[0] or ""):
        return ()
    return tuple(word or "" for word in words)


def _word(word: ShellWord) -> str | None:
    """Return the text of a word that no shell would change; None if one would."""
    if _URL_WORD.fullmatch(word.plain):
        return word.plain  # a pattern in theory, but it would need a folder that is called 'http:'
    texts = []
    for index, part in enumerate(word.parts):
        if not isinstance(part, Literal):
            return None
        if not part.quoted and (_GLOB_OR_BRACE.search(part.text) or (not index and part.text[:1] == "~")):
            return None
        texts.append(part.text)
    return "".join(texts)


def _program(name: str, machine: Resources) -> str:
    if "/" in name:
        return name
    if name in machine.scripts:
        return machine.scripts[name].path
    found = machine.which(name) or ""
    return found if found.startswith("/") else ""


def _checked(command: SwitchCommand) -> SwitchCommand:
    """Return the command, or why hkswitch would reject it."""
    try:
        values.user(scalar(command.user))
        values.program(scalar(command.argv[0]))
        for word in command.argv[1:]:
            values.argument(scalar(word))
    except ValueError as error:
        return SwitchCommand(command.text, command.user, why=f"is invalid: {error}")
    return command


# What it does


def _effect(text: str, machine: Resources) -> CommandEffect:
    try:
        return _judged(*follow(text, machine.scripts, root=machine.user == ROOT))
    except NotUnderstood as why:
        return CommandEffect(why=str(why))


def _judged(ran: list[Call | None], status: Status) -> CommandEffect:
    """Return the action of all programs together, if it is one on units or on one engine's containers."""
    calls = [each for each in ran if each]
    verbs = {each.verb for each in calls}
    members = tuple(dict.fromkeys(member for each in calls for member in each.members))
    why = ""
    if isinstance(status, int) and status:
        why = "it refuses these arguments"
    elif None in ran:
        why = "it runs other programs, too"
    elif len(verbs) != 1:
        why = "it does more than one thing" if verbs else "it does nothing with units or containers"
    elif len({member.rpartition("/")[0] for member in members}) > 1:
        why = "it acts on units and containers, or on two container engines"
    elif Verb.STATUS in verbs and status != frozenset(range(len(ran))):
        why = "its exit status does not depend on its units or containers alone"
    if why:
        return CommandEffect(None, isinstance(status, int), why)
    differences = dict.fromkeys(each.difference for each in calls if each.difference)
    return CommandEffect(Call(verbs.pop(), members, "; ".join(differences)), isinstance(status, int))


# What to say about it


def _called_as_before(argv: Argv, machine: Resources, effect: CommandEffect) -> tuple[str, ...]:
    script = next((word for word in argv[:2] if word in machine.scripts), "")
    return (f"{quoted(script)} is called as before: {effect.why}",) if script and effect.why else ()


def _sudo_inside(user: str) -> tuple[str, ...]:
    if user == ROOT:
        return ()
    return (f"it calls sudo itself: keep the sudo rule of the user {user}",)


def _written_by_others(argv: Argv, user: str) -> list[str]:
    """Return notes about files that root runs and that other users can probably write."""
    if user != ROOT:
        return []
    copy = "use a root-owned copy in /usr/local/libexec"
    files = dict.fromkeys(file for word in argv[1:] for file in _OTHERS_FILE.findall(word))
    found = [
        f"{quoted(file)} {'runs' if file.endswith(_SCRIPTS) else 'runs or is used'} as root, "
        f"and users other than root can write it; {copy}"
        for file in files
    ]
    if _OTHERS_FILE.match(argv[0]):
        found.append(f"{quoted(argv[0])} stays denied as long as users other than root can write it; {copy}")
    return found


def _is_relative_script(word: str) -> bool:
    return word.endswith(_SCRIPTS) and not word.startswith(("/", "-")) and "://" not in word
