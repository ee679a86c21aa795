"""Expands the parameters of a shell script, without running it. Pure: no I/O.

A value that depends on more than the script and its arguments raises `NotUnderstood`.
"""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Final

from hkswitch.homebridge.tokens import Array, Literal, Opaque, Parameter, ShellWord

MOST_LENGTH: Final = 4096

_PATTERN = re.compile(r"[*?\[{~]")
_BLANKS = re.compile(r"[ \t\n]+")
_DECIDING = re.compile(r"IFS|E?UID|PATH|(?:BASH|DBUS|SYSTEMD|XDG|LD)_.*")
_ESCAPED: Final = {"*": "[*]", "?": "[?]", "[": "[[]"}

Value = str | tuple[str, ...]


class NotUnderstood(Exception):
    """The effect of the script is not certain. The message gives the reason in a few words."""


class Expansion:
    """The parameters during a run. `status`: the exit status of the last command."""

    def __init__(self, path: str, arguments: Iterable[str]) -> None:
        self.status = 0
        self.arguments = list(arguments)
        self.depth = 0
        self.unset_fails = False
        self._path = path
        self._values: dict[str, Value] = {"EUID": "0", "UID": "0"}
        self._fixed: set[str] = set()
        self._shadowed: list[dict[str, Value | None]] = []

    def assign(self, name: str, value: Value) -> None:
        """Set a parameter."""
        if _DECIDING.fullmatch(name):
            raise NotUnderstood(f"the assignment to '{name}'")
        if name in self._fixed:
            raise NotUnderstood(f"the assignment to the constant '{name}'")
        if isinstance(self._values.get(name), tuple) and isinstance(value, str):
            raise NotUnderstood(f"the assignment to the array '{name}'")
        if len(value) > MOST_LENGTH:
            raise NotUnderstood("it takes too much memory")
        self._values[name] = value

    def fix(self, name: str) -> None:
        """Make a parameter read-only."""
        self._fixed.add(name)

    def shadow(self, name: str) -> None:
        """Make a parameter local to the current function, without a value."""
        if self._shadowed:
            self._shadowed[-1].setdefault(name, self._values.get(name))
            self._values.pop(name, None)

    @contextmanager
    def inside(self, arguments: list[str]) -> Iterator[None]:
        """Enter a function that is called with these arguments."""
        outside, self.arguments = self.arguments, arguments
        self._shadowed.append({})
        self.depth += 1
        try:
            yield
        finally:
            self.depth -= 1
            self.arguments = outside
            for name, value in self._shadowed.pop().items():
                self._values.pop(name, None)
                if value is not None:
                    self._values[name] = value

    def shift(self, arguments: list[str]) -> None:
        """Drop the first arguments: as many as given, by default one."""
        count = arguments[0] if arguments else "1"
        if len(arguments) > 1 or not count.isdecimal() or int(count) > len(self.arguments):
            raise NotUnderstood(f"'shift {' '.join(arguments)}' with {len(self.arguments)} arguments")
        del self.arguments[: int(count)]

    def value(self, word: ShellWord) -> Value:
        """Return the value of the right side of an assignment."""
        match word.parts:
            case (Array(items),):
                return tuple(self.words(items))
        return self.text(word)

    def text(self, word: ShellWord) -> str:
        """Expand a word without word splitting or pathname expansion."""
        parts = []
        for part in word.parts:
            if isinstance(part, Literal):
                if "~" in part.text and not part.quoted:
                    raise NotUnderstood("a home folder, '~'")
                parts.append(part.text)
            else:
                parts.append(" ".join(self._expanded(part)))
        return "".join(parts)

    def pattern(self, word: ShellWord) -> str:
        """Return the word as a pattern for fnmatch."""
        parts = []
        for part in word.parts:
            if isinstance(part, Literal) and not part.quoted:
                if re.search(r"[\[~]", part.text):
                    raise NotUnderstood(f"the pattern '{part.text}'")
                parts.append(part.text)
            else:
                text = self._plain(part)
                parts.append("".join(_ESCAPED.get(char, char) for char in text))
        return "".join(parts)

    def unsplit(self, words: Iterable[ShellWord]) -> list[str]:
        """Expand the words inside [[ ]]: without word splitting, but they may be patterns."""
        return ["".join(self._plain(part) for part in word.parts) for word in words]

    def words(self, words: Iterable[ShellWord]) -> list[str]:
        """Expand words to the arguments of a command."""
        return [field for word in words for field in self._fields(word)]

    def _fields(self, word: ShellWord) -> Iterator[str]:
        field: str | None = None
        for part in word.parts:
            first, *others = self._pieces(part) or [None]
            if first is not None:
                field = (field or "") + first
            for other in others:
                if field is not None:
                    yield field
                field = other
        if field is not None:
            yield field

    def _pieces(self, part: Literal | Parameter | Opaque | Array) -> list[str | None]:
        """Split the part where a new word begins; None stands for no word."""
        if isinstance(part, Parameter):
            values = self._expanded(part)
            if part.quoted:
                return list(values) if "@" in (part.name, part.index) else [" ".join(values)]
            return [piece or None for piece in _BLANKS.split(_plain(" ".join(values)))]
        return [self._plain(part)]

    def _plain(self, part: Literal | Parameter | Opaque | Array) -> str:
        """Return the text of the part, which must not contain a pattern."""
        if isinstance(part, Literal):
            return part.text if part.quoted else _plain(part.text)
        text = " ".join(self._expanded(part))
        return text if isinstance(part, Parameter) and part.quoted else _plain(text)

    def _expanded(self, part: Parameter | Opaque | Array) -> tuple[str, ...]:
        match part:
            case Opaque("$(id -u)" | "`id -u`"):
                return ("0",)  # root runs the script
            case Opaque(text):
                raise NotUnderstood(f"'{text}'")
            case Array():
                raise NotUnderstood("an array in a command")
        values = self._parameter(part.name, part.index)
        if part.default is not None and not any(values or ()):
            return (part.default,)
        if values is None:
            if self.unset_fails:
                raise NotUnderstood(f"'${part.name}' without a value")
            return ("",)
        return values

    def _parameter(self, name: str, index: str) -> tuple[str, ...] | None:
        """Return the values of a parameter; None if it is an argument that was not passed."""
        match name:
            case "@" | "*":
                return tuple(self.arguments)
            case "#":
                return (str(len(self.arguments)),)
            case "?":
                return (str(self.status),)
            case "0":
                return (self._path,)
        if name.isdecimal():
            found = self.arguments[int(name) - 1 : int(name)]
            return tuple(found) or None
        if name not in self._values:
            raise NotUnderstood(f"the variable '${name}', which is never set")
        value = self._values[name]
        if isinstance(value, str):
            return (value,)
        return value if index else value[:1]


def _plain(text: str) -> str:
    """Return `text`, which must not contain a pattern."""
    if text != "[" and (found := _PATTERN.search(text)):
        raise NotUnderstood(f"the pattern '{found[0]}'")
    return text
