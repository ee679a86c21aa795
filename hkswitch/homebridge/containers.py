"""Recognises commands that do nothing but start, stop or ask containers. Pure: no I/O.

Most commands only print whether a container runs, so a test of their output belongs to the question.
"""

import re
from collections.abc import Sequence
from typing import Final

from hkswitch.homebridge.systemctl import Call, Verb, plain_name, scalar
from hkswitch.homebridge.tokens import Expansion, ShellWord, plain_word
from hkswitch.model import config_values as values
from hkswitch.model.group import Engine

PRINTING: Final = frozenset({"sudo", *Engine})
"""The programs whose output may be a question."""

_NO_NAME = re.compile(r".|(?=.*\d)[0-9a-f]{4,}|[0-9a-f]{12,}", re.ASCII)
"""Texts that may be the beginning of an ID, which a container loses when it is created again."""

_END: Final = r"(?= |\Z)"
_FORMAT = re.compile(rf" (?:-f|--format)[ =]{{{{\t?\.(?P<field>[A-Za-z.]+)\t?}}}}{_END}")
_FILTER: Final = r" (?:-f|--filter)[ =]"
_RUNNING = re.compile(rf"{_FILTER}status=running{_END}")
_NAMED = re.compile(rf"{_FILTER}name=(?P<flags>)(?P<start>\^?)/?(?P<name>[\w.-]+)(?P<end>\$?){_END}")
_GREP: Final = (
    r"grep(?P<flags>(?: -(?:[Ecioqsw{x}]|(?P<F>F))+)*) "
    r"(?(F)|(?P<start>{start}))(?P<name>[\w.-]+)(?(F)|(?P<end>\$?))"
)
_SEARCHED = re.compile(_GREP.format(x="x", start=r"\^?"))
_SEARCHED_IN_LINES = re.compile(_GREP.format(x="", start=""))  # no line is a name, or begins with one
_ANY_LINE = re.compile(r"-n|grep(?: -[Ecoqs]+)* \.")

_WHILE_RUNNING: Final = {"State.Running": "true", "State.Status": "running"}
_COLUMNS: Final = {"ps": "*", "ps -q": "ID", "ps --quiet": "ID"}
_OF_ANY: Final = "it was on with any of its containers running, and is now on with all of them"
_ANY_LIKE: Final = (
    "it was on with any container that `{} ps` finds by '{}', and is now on with the one of that name"
)


def question(words: Sequence[ShellWord], *, is_bash: bool) -> tuple[str, list[ShellWord]]:
    """Return the command of whose output a condition is, and the test of the output, as in `call`.

    Both are empty for a condition of another form than `[ "$(docker ps -q)" ]` or `[ "$(docker ps)" = a ]`.
    """
    test = [plain_word("-n")]
    match [word.plain for word in words]:
        case ["[", _, sign, _, "]"] | ["test", _, sign, _] if sign == "=" or (is_bash and sign == "=="):
            output, test = words[1], [plain_word("="), words[3]]
        case ["[", "-n", _, "]"] | ["test", "-n", _]:
            output = words[2]
        case ["[", _, "]"] | ["test", _]:
            output = words[1]
        case _:
            return "", []
    match output.parts:
        case (Expansion(name, quoted),) if name.startswith("(") and (quoted or len(test) > 1):
            return name[1:-1], test
    return "", []


def call(words: Sequence[str], test: Sequence[str] = (), *, is_root: bool) -> Call | None:
    """Return the action of these words on containers, if they do nothing else.

    `test`: how their output is tested: by grep and its arguments, by "=" and a text, or by "-n" for any
    output. Without it, their exit status counts.
    """
    engine, arguments = plain_name(words[0]) if words else "", list(words[1:])
    if engine not in frozenset(Engine) or (engine == Engine.PODMAN and not is_root):
        return None  # each user of podman has other containers, and hkswitch those of root
    if arguments[:1] == ["container"]:
        arguments = ["ps" if word == "ls" else word for word in arguments[1:]]
    text, tested = (" ".join(word.replace(" ", "\t") for word in each) for each in (arguments, test))
    match arguments:
        case [("start" | "stop") as verb, *names] if not test:
            return _call(engine, Verb(verb), names)
        case ["top", name] | ["exec", name, "true"] if not test:
            return _call(engine, Verb.STATUS, [name])
        case ["inspect", *_]:
            return _inspected(engine, text, tested)
        case ["ps", *_]:
            return _listed(engine, text.replace(" -qf ", " -q -f "), tested)
    return None


def _inspected(engine: str, text: str, test: str) -> Call | None:
    printed, text = _cut(_FORMAT, text)
    names = text.split(" ")[1:]
    wanted = _WHILE_RUNNING.get(printed["field"], "") if printed else ""
    searched = _SEARCHED.fullmatch(test)
    is_running = searched["name"] == wanted if searched else test == f"= {wanted}" and len(names) == 1
    return _call(engine, Verb.STATUS, names, _OF_ANY if len(names) > 1 else "") if is_running else None


def _listed(engine: str, text: str, test: str) -> Call | None:
    printed, text = _cut(_FORMAT, text)
    named, text = _cut(_NAMED, text)
    column = _COLUMNS.get(_cut(_RUNNING, text)[1], "")
    if printed:
        column = printed["field"] if column == "*" else ""
    searched = (_SEARCHED if column == "Names" else _SEARCHED_IN_LINES).fullmatch(test)
    if _ANY_LINE.fullmatch(test):
        found = [named] if named and column in {"ID", "Names"} else []
    else:
        found = [each for each in (named, searched) if searched and each and column in {"*", "Names"}]
    if len({each["name"] for each in found}) != 1:
        return None
    name = found[0]["name"]
    difference = "" if any(map(_is_whole, found)) else _ANY_LIKE.format(engine, name)
    return _call(engine, Verb.STATUS, [name], difference)


def _is_whole(match: re.Match[str]) -> bool:
    """Tell whether a pattern matches only its own text."""
    is_anchored = (match["start"] and match["end"]) or "x" in match["flags"]
    return bool(is_anchored) and "i" not in match["flags"] and "." not in match["name"]


def _call(engine: str, verb: Verb, names: Sequence[str], difference: str = "") -> Call | None:
    if not names or any(map(_NO_NAME.fullmatch, names)):
        return None
    try:
        found = [f"{engine}/{values.container(scalar(name))}" for name in names]
    except ValueError:
        return None
    return Call(verb, tuple(found), difference)


def _cut(pattern: re.Pattern[str], text: str) -> tuple[re.Match[str] | None, str]:
    """Return the first match, and the text without it."""
    match = pattern.search(text)
    return (match, text[: match.start()] + text[match.end() :]) if match else (None, text)
