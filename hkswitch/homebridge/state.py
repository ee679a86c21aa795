"""The state of a shell while its text is followed: its parameters, and conditions. Pure: no I/O.

A value that depends on more than the text and its arguments raises `NotUnderstood`.
"""

import operator
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from hkswitch.homebridge.tokens import Expansion, Literal, NotUnderstood, ShellWord

MOST_LENGTH: Final = 4096

_PATTERN = re.compile(r"[*?\[{~\\]")
_TEMPLATE = re.compile(r"\{\{(?:\.[A-Za-z]+)+\}\}")
"""A field of Docker's output, in braces that no shell expands."""

_BLANK = re.compile(r"[ \t\n]")
_WORD = re.compile(r"[^ \t\n]+")
_DECIDING = re.compile(
    r"_|(?:BASH|COMP|DBUS|EPOCH|FUNC|GLOB|HIST|HOST|LANG|LINE|OPT|READLINE|SHELL).*"
    r"|(?:CONTAINER|DOCKER)_(?:API|CERT|CONFIG|CONN|CONTEXT|HOST|PASS|PROXY|SSH|TLS).*|STORAGE_(?:DRIVER|OPTS)"
    r"|(?:CONTAINERS|LC|LD|PODMAN|SYSTEMD|XDG)_.*|CDPATH|COLUMNS|COPROC|DIRSTACK|E?UID|ENV|EXECIGNORE|GROUPS"
    r"|HOME|IFS|MACHTYPE"
    r"|MAPFILE|OSTYPE|PATH|PIPESTATUS|POSIXLY_CORRECT|PPID|PS[0-4]|(?:OLD)?PWD|S?RANDOM|REPLY|SECONDS|SHLVL|TERM"
    r"|TIMEFORMAT|TMOUT|TMPDIR"
)
"""The names of parameters that a shell sets or obeys itself, or that change what programs do."""

_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]{0,8})", re.ASCII)
_EXPRESSION = re.compile(
    r"\^(?:\([\w@-]+(?:\|[\w@-]+)*\)|\[(?:a-z|A-Z|0-9|\\?[\w@.:/]|-(?=\]))+\]\+)\$", re.ASCII
)
"""Expressions ^(one|of)$ and ^[characters]+$, which bash and Python read alike but for a backslash."""

_COMPARISONS: Final[dict[str, Callable[[int, int], bool]]] = {
    f"-{name}": getattr(operator, name) for name in ("eq", "ne", "lt", "le", "gt", "ge")
}

Status = int | frozenset[int]
"""An exit status; if it depends on programs, the numbers of those that must succeed for it to be 0."""


class State:
    """The state of a shell. `known`: the values of parameters, and of expansions like '(id -u)'.

    `has_errexit`: a failure may end the shell (set -e).
    """

    def __init__(self, arguments: Iterable[str], known: dict[str, str]) -> None:
        self.arguments = list(arguments)
        self.status: Status = 0
        self.has_errexit = False
        self._values = dict(known)
        self._is_bounded = False

    def end(self, status: Status) -> None:
        """Note how a command ended."""
        if status and self.has_errexit:
            raise NotUnderstood("a command that can fail, after 'set -e'")
        self.status = status

    def succeeded(self) -> bool:
        """Whether the last command did, which was a condition."""
        if not isinstance(self.status, int):
            raise NotUnderstood("it depends on how a program ends")
        return self.status == 0

    @contextmanager
    def bounded(self) -> Iterator[None]:
        """Refuse changes of the shell: they are those of another shell, or may not happen."""
        before, self._is_bounded = self._is_bounded, True
        yield
        self._is_bounded = before

    def check_change(self, what: str) -> None:
        """Refuse a change of the shell where none is allowed."""
        if self._is_bounded:
            raise NotUnderstood(f"{what} in a subshell, or after a program and '&&'")

    def assign(self, words: Iterable[ShellWord]) -> None:
        """Set parameters, by words that are assignments."""
        for word in words:
            if not (found := word.assignment):
                raise NotUnderstood("an assignment for one command")
            self.check_change(f"the assignment to '{found[0]}'")
            if _DECIDING.fullmatch(found[0]):
                raise NotUnderstood(f"the assignment to '{found[0]}'")
            self._values[found[0]] = self.text(found[1])
        self.end(0)

    def value(self, name: str) -> str:
        """Return the value of a parameter."""
        if name == "#":
            return str(len(self.arguments))
        if name in "123456789" and int(name) <= len(self.arguments):
            return self.arguments[int(name) - 1]
        if name not in self._values:
            raise NotUnderstood(f"the value of '${name}' is unknown")
        return self._values[name]

    def text(self, word: ShellWord) -> str:
        """Expand a word that stays one word, and that no file name can replace."""
        text = ""
        for part in word.parts:
            value = part.text if isinstance(part, Literal) else self.value(part.name)
            if isinstance(part, Expansion) and not part.quoted and _BLANK.search(value):
                raise NotUnderstood(f"the words of '{value}'")
            text += value if part.quoted or word.plain == "[" else _stable(value)
            if len(text) > MOST_LENGTH:
                raise NotUnderstood("it takes too much memory")
        return text

    def words(self, words: Iterable[ShellWord]) -> list[str]:
        """Expand words to the arguments of a command."""
        found: list[str] = []
        for word in words:
            match word.parts:
                case (Expansion("@", quoted=True),):
                    found += self.arguments
                case (Expansion(name, quoted=False),):
                    values = self.arguments if name == "@" else [self.value(name)]
                    found += (piece for value in values for piece in _WORD.findall(_stable(value)))
                case _:
                    found.append(self.text(word))
            if sum(map(len, found), len(found)) > MOST_LENGTH:
                raise NotUnderstood("it takes too much memory")
        return found


def _stable(text: str) -> str:
    """Return text without quotes, which a file name could replace if it had a pattern."""
    if found := _PATTERN.search(_TEMPLATE.sub("", text)):
        raise NotUnderstood(f"the pattern '{found[0]}'")
    return text


def both(left: frozenset[int], right: Status) -> Status:
    """Return the status of two commands of which the second runs if the first, a program, succeeds."""
    if not isinstance(right, int):
        return left | right
    if right:
        raise NotUnderstood("a command that fails if a program succeeds")
    return left


def condition(words: Sequence[str]) -> bool:
    """Whether the condition holds."""
    match words:
        case [left, "=" | "==" | "!=" as comparison, right]:
            return (left == right) == (comparison != "!=")
        case [left, comparison, right] if comparison in _COMPARISONS:
            return _COMPARISONS[comparison](_number(left), _number(right))
        case ["!", *others]:
            return not condition(others)
        case ["-z" | "-n" as test, text]:
            return bool(text) == (test == "-n")
    raise NotUnderstood(f"the condition '{' '.join(words)}'")


def matches(text: str, expression: str) -> bool:
    """Whether the whole text matches the expression."""
    if not _EXPRESSION.fullmatch(expression) or "\\" in text:
        raise NotUnderstood(f"the expression '{expression}'")
    return re.fullmatch(expression, text) is not None


def _number(text: str) -> int:
    if not _INTEGER.fullmatch(text):
        raise NotUnderstood(f"the number '{text}'")
    return int(text)
