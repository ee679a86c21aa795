"""The parameters of a shell script, and what words become by them. Runs nothing. Pure: no I/O.

What depends on something that is not in the script and its arguments ends in `NotUnderstood`.
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
    """It is not certain what the script does. Says why, in a few words."""


class Expansion:
    """Parameters at one time in a run. `status` is that of the last command."""

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
        """Give the parameter this value."""
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
        """The parameter is a constant from now on."""
        self._fixed.add(name)

    def shadow(self, name: str) -> None:
        """From now to the end of the function the parameter is another one, without a value."""
        if self._shadowed:
            self._shadowed[-1].setdefault(name, self._values.get(name))
            self._values.pop(name, None)

    @contextmanager
    def inside(self, arguments: list[str]) -> Iterator[None]:
        """A function, called with these arguments."""
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
        """Drop arguments from the front, one if it is not said how many."""
        count = arguments[0] if arguments else "1"
        if len(arguments) > 1 or not count.isdecimal() or int(count) > len(self.arguments):
            raise NotUnderstood(f"'shift {' '.join(arguments)}' with {len(self.arguments)} arguments")
        del self.arguments[: int(count)]

    def value(self, word: ShellWord) -> Value:
        """What the right side of an assignment means."""
        match word.parts:
            case (Array(items),):
                return tuple(self.words(items))
        return self.text(word)

    def text(self, word: ShellWord) -> str:
        """The word where it stays one: nothing is split, and nothing is a pattern."""
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
        """The word as a pattern for fnmatch."""
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
        """The words inside of [[ ]]: nothing is split, but something could be a pattern."""
        return ["".join(self._plain(part) for part in word.parts) for word in words]

    def words(self, words: Iterable[ShellWord]) -> list[str]:
        """What a command gets of these words."""
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
        """The part, cut where a new word begins; None is no word at all."""
        if isinstance(part, Parameter):
            values = self._expanded(part)
            if part.quoted:
                return list(values) if "@" in (part.name, part.index) else [" ".join(values)]
            return [piece or None for piece in _BLANKS.split(_plain(" ".join(values)))]
        return [self._plain(part)]

    def _plain(self, part: Literal | Parameter | Opaque | Array) -> str:
        """The part, if nothing in it can be a pattern."""
        if isinstance(part, Literal):
            return part.text if part.quoted else _plain(part.text)
        text = " ".join(self._expanded(part))
        return text if isinstance(part, Parameter) and part.quoted else _plain(text)

    def _expanded(self, part: Parameter | Opaque | Array) -> tuple[str, ...]:
        match part:
            case Opaque("$(id -u)" | "`id -u`"):
                return ("0",)  # it is root who runs it
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
        """The values of a parameter; None if it is an argument that is not there."""
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
    """`text`, if nothing in it can be a pattern."""
    if text != "[" and (found := _PATTERN.search(text)):
        raise NotUnderstood(f"the pattern '{found[0]}'")
    return text
