"""Splits a shell command or script into words and operators. Expands nothing, and runs nothing.

It supports the syntax of POSIX shell and bash that has one plain meaning. Everything else becomes `Opaque`,
or raises `Unreadable`, so that the caller knows that it was not understood. Pure: no I/O.
"""

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

_OPERATOR = re.compile(r"\d*(?:>>|>&|>\||<&|<<|<>|>|<)|&>>|&>|;;&|;;|;&|;|&&|&|\|\||\|&|\||\(|\)|\n")
_BLANK = re.compile(r"(?:[ \t]|\\\n)+")
_COMMENT = re.compile(r"#[^\n]*")
_EXPRESSION = re.compile(r"[^\s'\"`]+(?=\s)")
_PARAMETER: Final = r"|\$(?P<name>[A-Za-z_]\w*|[0-9@*#?])|\$\{(?P<braced>[A-Za-z_]\w*|[0-9]+|[@*#?])\}"
_PART = re.compile(
    r"(?P<plain>[^\s\\'\"$`;&|<>()]+)|'(?P<single>[^']*)'|\\(?P<escaped>[\s\S])" + _PARAMETER, re.ASCII
)
_QUOTED_PART = re.compile(
    r"(?P<plain>[^\\\"$`]+|\\(?![$`\"\\\n]))|\\(?P<escaped>[$`\"\\\n])" + _PARAMETER, re.ASCII
)
_INVALID: Final = {"'": "an unterminated quote", "\\": "a backslash at the end"}


class Unreadable(Exception):
    """Text that is invalid or unsupported shell syntax. The message gives the reason in a few words."""


class Literal(NamedTuple):
    """Literal characters; a shell may treat them as a pattern if they are not `quoted`."""

    text: str
    quoted: bool


class Parameter(NamedTuple):
    """A reference to a parameter."""

    name: str
    quoted: bool


class Opaque(NamedTuple):
    """The source text of an expansion that only a shell can evaluate."""

    source: str


Part = Literal | Parameter | Opaque


class ShellWord(NamedTuple):
    """A word, as a sequence of parts."""

    parts: tuple[Part, ...]

    @property
    def plain(self) -> str:
        """The word's text, if no part of it is quoted or expanded: only such words can be keywords."""
        match self.parts:
            case (Literal(text, quoted=False),):
                return text
        return ""


class Operator(NamedTuple):
    """An operator between words; that of a redirection includes its file descriptor, like '2>'."""

    sign: str


Token = ShellWord | Operator


def read(text: str) -> list[Token]:
    """Return the tokens of `text`. Raises `Unreadable`."""
    return list(_Scanner(text).tokens())


class _Scanner:
    """A scanner that reads the text once."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def tokens(self, *, closed: bool = False) -> Iterator[Token]:
        """Yield all tokens up to the end, or, if `closed`, past the closing parenthesis."""
        before = ""
        while self._skip_blanks():
            if before == "=~" and (expression := self._take(_EXPRESSION)):
                yield ShellWord((Literal(expression, quoted=False),))
                before = ""
                continue
            found = self._take(_OPERATOR)
            if found == ")" and closed:
                return
            if found.endswith("<<"):
                raise Unreadable("a here-document, '<<'")
            token = Operator(found) if found else self._word()
            before = token.plain if isinstance(token, ShellWord) else ""
            yield token
            if found == "(" and closed:
                yield from self.tokens(closed=True)
        if closed:
            raise Unreadable("an unclosed parenthesis")

    def _skip_blanks(self) -> bool:
        while self._take(_BLANK) or self._take(_COMMENT):
            pass
        return self._at < len(self._text)

    def _take(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self._text, self._at)
        self._at = match.end() if match else self._at
        return match[0] if match else ""

    def _word(self) -> ShellWord:
        parts = tuple(self._parts(_PART, quoted=False))
        if not parts:
            char = self._text[self._at]
            raise Unreadable(_INVALID.get(char, f"the character {char!r}"))
        return ShellWord(parts)

    def _parts(self, pattern: re.Pattern[str], *, quoted: bool) -> Iterator[Part]:
        """Yield the parts of a word up to its end, or up to the closing quote."""
        while self._at < len(self._text):
            char = self._text[self._at]
            if match := pattern.match(self._text, self._at):
                self._at = match.end()
                yield _part(match, quoted=quoted)
            elif char in "$`":
                yield self._opaque()
            elif char == '"' and not quoted:
                self._at += 1
                if self._text.startswith('"', self._at):
                    yield Literal("", quoted=True)
                yield from self._parts(_QUOTED_PART, quoted=True)
                if not self._text.startswith('"', self._at):
                    raise Unreadable("an unterminated quote")
                self._at += 1
            else:
                return

    def _opaque(self) -> Opaque:
        start = self._at
        self._at += 1
        if self._text[start] == "`":
            self._at = self._text.find("`", self._at) + 1 or self._no_end()
        elif self._text.startswith("(", self._at):
            self._at += 1
            for _ in self.tokens(closed=True):
                pass
        elif self._text.startswith("{", self._at):
            self._at = self._text.find("}", self._at) + 1 or self._no_end()
        return Opaque(self._text[start : self._at])

    def _no_end(self) -> int:
        raise Unreadable("an unterminated expansion")


def _part(match: re.Match[str], *, quoted: bool) -> Part:
    text = match[match.lastgroup or 0]
    if match.lastgroup in {"name", "braced"}:
        return Parameter(text, quoted)
    if match.lastgroup == "escaped":
        text = text.replace("\n", "")
    return Literal(text, quoted or match.lastgroup != "plain")
