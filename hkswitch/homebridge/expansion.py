"""Expands the parameters of shell text, and evaluates conditions, without running it. Pure: no I/O.

A value that depends on more than the text and its arguments raises `NotUnderstood`.
"""

import operator
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from hkswitch.homebridge.tokens import Literal, Opaque, Parameter, Part, ShellWord

MOST_LENGTH: Final = 4096

_PATTERN = re.compile(r"[*?\[{~]")
_WORD = re.compile(r"[^ \t\n]+")
_DECIDING = re.compile(
    r"_|(?:BASH|COMP|DBUS|EPOCH|FUNC|GLOB|HIST|HOST|LANG|LINE|OPT|READLINE|SHELL).*"
    r"|(?:LC|LD|SYSTEMD|XDG)_.*|CDPATH|COLUMNS|COPROC|DIRSTACK|E?UID|ENV|EXECIGNORE|GROUPS|HOME|IFS|MACHTYPE"
    r"|MAPFILE|OSTYPE|PATH|PIPESTATUS|POSIXLY_CORRECT|PPID|PS[0-4]|(?:OLD)?PWD|S?RANDOM|REPLY|SECONDS|SHLVL|TERM"
    r"|TIMEFORMAT|TMOUT|TMPDIR"
)
"""The names of parameters that a shell sets or obeys itself, or that change what programs do."""

_ESCAPED: Final = {"*": "[*]", "?": "[?]", "[": "[[]"}
_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]{0,8})")
_ONE_OF = re.compile(r"\^\((?P<words>[\w@|-]+)\)\$", re.ASCII)
_MADE_OF = re.compile(r"\^\[(?P<set>(?:a-z|A-Z|0-9|\\?[\w@.:/]|-(?=\]))+)\]\+\$", re.ASCII)
_COMPARISONS: Final[dict[str, Callable[[int, int], bool]]] = {
    f"-{name}": getattr(operator, name) for name in ("eq", "ne", "lt", "le", "gt", "ge")
}


class NotUnderstood(Exception):
    """The effect of the text is not certain. The message gives the reason in a few words."""


class Expansion:
    """The parameters during a run. `status` returns the exit status of the last command."""

    def __init__(self, path: str, arguments: Iterable[str], status: Callable[[], int], *, root: bool) -> None:
        self.arguments = list(arguments)
        self.values: dict[str, str] = {}
        self.unset_fails = False
        self._path = path
        self._status = status
        self._root = root

    def copy(self) -> "Expansion":
        """Return a copy, for a subshell."""
        copied = Expansion(self._path, self.arguments, self._status, root=self._root)
        copied.values, copied.unset_fails = dict(self.values), self.unset_fails
        return copied

    def assign(self, name: str, value: ShellWord) -> None:
        """Set a parameter."""
        if _DECIDING.fullmatch(name):
            raise NotUnderstood(f"the assignment to '{name}'")
        self.values[name] = self.text(value)

    def check_set(self, words: Iterable[ShellWord]) -> None:
        """Refuse words that end a shell because a parameter in them is not set (set -u)."""
        for part in (part for word in words for part in word.parts if isinstance(part, Parameter)):
            if self.unset_fails and part.name != "?":
                self._expanded(part)

    def text(self, word: ShellWord) -> str:
        """Expand a word that is not split, and that no file name can replace."""
        if any("~" in part.text for part in word.parts if isinstance(part, Literal) and not part.quoted):
            raise NotUnderstood("a home folder, '~'")
        return _joined(map(self._expanded, word.parts))

    def pattern(self, word: ShellWord) -> str:
        """Return the word as a pattern for fnmatch."""
        return _joined(map(self._pattern, word.parts))

    def plain(self, word: ShellWord) -> str:
        """Expand a word that is not split, and that must not be a pattern."""
        return _joined(map(self._plain, word.parts))

    def words(self, words: Iterable[ShellWord]) -> list[str]:
        """Expand words to the arguments of a command."""
        found: list[str] = []
        for word in words:
            match word.parts:
                case (Parameter("@", quoted=True),):
                    found += self.arguments
                case (Parameter(quoted=False) as part,):
                    found += _WORD.findall(self._plain(part))
                case _:
                    found.append(self.plain(word))
                    if any(isinstance(part, Parameter) for part in word.parts):
                        self._check(word, found[-1])
            if sum(map(len, found), len(found)) > MOST_LENGTH:
                raise NotUnderstood("it takes too much memory")
        return found

    def _check(self, word: ShellWord, text: str) -> None:
        """Refuse a word of several parts that may become several words, or none."""
        found = [part for part in word.parts if isinstance(part, Parameter)]
        is_split = not all(part.quoted for part in found) and not _WORD.fullmatch(text)
        if is_split or (len(self.arguments) != 1 and any(part.name == "@" for part in found)):
            raise NotUnderstood(f"the words of '{text}'")

    def _pattern(self, part: Part) -> str:
        if not isinstance(part, Literal) or part.quoted:
            return "".join(_ESCAPED.get(char, char) for char in self._plain(part))
        if re.search(r"[\[~]", part.text):
            raise NotUnderstood(f"the pattern '{part.text}'")
        return part.text

    def _plain(self, part: Part) -> str:
        text = self._expanded(part)
        is_quoted = isinstance(part, Literal | Parameter) and part.quoted
        if text != "[" and not is_quoted and (found := _PATTERN.search(text)):
            raise NotUnderstood(f"the pattern '{found[0]}'")
        return text

    def _expanded(self, part: Part) -> str:
        if isinstance(part, Literal):
            return part.text
        if isinstance(part, Opaque):
            if self._root and part.source in {"$(id -u)", "`id -u`"}:
                return "0"
            raise NotUnderstood(f"'{part.source}'")
        value = self._parameter(part.name)
        if value is None and self.unset_fails:
            raise NotUnderstood(f"'${part.name}' without a value")
        return value or ""

    def _parameter(self, name: str) -> str | None:
        """Return the value of a parameter; None if it is an argument that was not passed."""
        match name:
            case "@" | "*":
                return _joined(" ".join(self.arguments))
            case "#":
                return str(len(self.arguments))
            case "?":
                return str(self._status())
            case "0":
                return self._path
        if name.isdecimal():
            return next(iter(self.arguments[int(name[:9]) - 1 : int(name[:9])]), None)
        if name not in self.values:
            raise NotUnderstood(f"the variable '${name}', which is never set")
        return self.values[name]


def condition(words: Sequence[str]) -> bool:
    """Whether the condition of `test` holds."""
    match words:
        case [] | [""]:
            return False
        case [_]:
            return True
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
    """Whether the text matches an expression of [[ ]], of two kinds: ^(one|of)$ and ^[characters]+$."""
    if found := _ONE_OF.fullmatch(expression):
        return text in found["words"].split("|")
    if (found := _MADE_OF.fullmatch(expression)) and "\\" not in text:
        characters = found["set"].replace("\\", "").replace(".", r"\.")
        return re.fullmatch(f"[{characters}]+", text) is not None
    raise NotUnderstood(f"the expression '{expression}'")


def _number(text: str) -> int:
    if not _INTEGER.fullmatch(text):
        raise NotUnderstood(f"the number '{text}'")
    return int(text)


def _joined(texts: Iterable[str]) -> str:
    joined = ""
    for text in texts:
        joined += text
        if len(joined) > MOST_LENGTH:
            raise NotUnderstood("it takes too much memory")
    return joined
