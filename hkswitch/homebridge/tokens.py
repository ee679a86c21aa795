"""Splits shell text into words and operators. Expands nothing, and runs nothing. Pure: no I/O.

It supports the syntax of POSIX shell and bash that has one plain meaning; all else raises `NotUnderstood`.
"""

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

SHELLS: Final = frozenset({"sh", "bash", "dash"})
BUILTINS = re.compile(
    r"[.:!]|alias|bg|break|builtin|case|cd|command|continue|coproc|declare|disown|enable|eval|exec|exit|export"
    r"|fg|for|function|getopts|hash|if|jobs|let|local|logout|mapfile|popd|pushd|read|readarray|readonly|return"
    r"|select|set|shift|shopt|source|times|trap|type|typeset|ulimit|umask|unalias|unset|until|wait|while"
)

_BLANK = re.compile(r"(?:[ \t]|\\\n|#[^\n]*)+")
_OPERATOR = re.compile(r"\d*(?:>>|>&|>|<)|;;|;|&&|&|\|\||\||\(|\)|\n", re.ASCII)
_MOST_EXCERPT: Final = 40
_EXPRESSION = re.compile(r"\^[^\s'\"`]+(?=\s)", re.ASCII)
"""A regular expression after =~, in which parentheses and bars are no operators."""

_ASSIGNMENT = re.compile(r"(?P<name>[A-Za-z_]\w*)=", re.ASCII)

_QUOTED_TEXT: Final = r"'[^']*+'|\"(?:[^\"\\$`]|\\.|\$(?!\())*+\""
_EXPANSION: Final = (
    r"\$(?:(?P<name>[A-Za-z_]\w*+|[0-9@#?])"
    r"|\{(?P<braced>[A-Za-z_]\w*+|[0-9])\}"
    rf"|(?P<substitution>\((?![^)]*\bcase\b)(?:[^()'\"\\`#<$\n]|\\.|\$(?!\()|{_QUOTED_TEXT})++\)))"
)
"""An expansion of a parameter or of a command, in which there is no other one."""

_PART = re.compile(
    r"(?P<plain>[^\s\\'\"$`;&|<>()]++)|'(?P<single>[^']*+)'|\\(?P<escaped>[\s\S])"
    rf"|\"(?P<double>(?:[^\"\\$`]|\\[\s\S]|{re.sub('P<[a-z]+>', ':', _EXPANSION)}|\$(?=\"))*+)\"|{_EXPANSION}"
    r"|(?P<dollar>\$(?=[\s;&|)]|\Z))",
    re.ASCII,
)
_QUOTED_PART = re.compile(
    r"(?P<plain>(?:[^\\$]|\\(?![$`\"\\\n]))++)|\\(?P<escaped>[$`\"\\\n])|(?P<dollar>\$\Z)|" + _EXPANSION,
    re.ASCII,
)


class NotUnderstood(Exception):
    """The effect of a text is not certain. The message gives the reason in a few words."""


class Literal(NamedTuple):
    """Literal characters; a shell may treat them as a pattern if they are not `quoted`."""

    text: str
    quoted: bool


class Expansion(NamedTuple):
    """A reference to the parameter `name`, or to the output of a command, which is in parentheses."""

    name: str
    quoted: bool


Part = Literal | Expansion


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

    @property
    def assignment(self) -> tuple[str, "ShellWord"] | None:
        """The name of a parameter and its new value, if the word can be an assignment."""
        match self.parts:
            case (Literal(text, quoted=False) as first, *others) if match := _ASSIGNMENT.match(text):
                value = first._replace(text=text[match.end() :])
                return match["name"], ShellWord((value, *others))
        return None


def plain_word(text: str) -> ShellWord:
    """Return a word without quotes."""
    return ShellWord((Literal(text, quoted=False),))


_MATCHES: Final = plain_word("=~")

Token = ShellWord | str
"""A word, an operator, or an expression after =~. An operator includes its file descriptor, like '2>'."""


def read(text: str) -> tuple[Token, ...]:
    """Return the tokens of `text`. Raises `NotUnderstood`."""
    return tuple(_tokens(text))


def _tokens(text: str) -> Iterator[Token]:
    at = 0
    before: Token = ""
    while at < len(text):
        if blank := _BLANK.match(text, at):
            at = blank.end()
        elif before == _MATCHES and (expression := _EXPRESSION.match(text, at)):
            at, before = expression.end(), expression[0]
            yield before
        elif operator := _OPERATOR.match(text, at):
            at, before = operator.end(), operator[0]
            yield before
        else:
            parts: list[Part] = []
            while part := _PART.match(text, at):
                at = part.end()
                parts += _parts(part, quoted=False)
            if not parts:
                line = text[at : at + _MOST_EXCERPT].partition("\n")[0]
                raise NotUnderstood(f"'{line}'")
            before = ShellWord(tuple(parts))
            yield before


def _parts(match: re.Match[str], *, quoted: bool) -> Iterator[Part]:
    kind = match.lastgroup or ""
    text = match[kind]
    if kind in {"name", "braced", "substitution"}:
        yield Expansion(text, quoted)
    elif kind == "double":
        if not text:
            yield Literal("", quoted=True)
        for part in _QUOTED_PART.finditer(text):
            yield from _parts(part, quoted=True)
    elif kind == "escaped":
        yield Literal(text.replace("\n", ""), quoted=True)
    else:
        yield Literal(text, quoted or kind == "single")


class Cursor:
    """A place in tokens. `at` is the number of the next one."""

    def __init__(self, tokens: tuple[Token, ...]) -> None:
        self.at = 0
        self._tokens = tokens

    @property
    def next(self) -> str | None:
        """The next operator or keyword; empty for a word that cannot be one, and None at the end."""
        token = self._token
        return token.plain if isinstance(token, ShellWord) else token

    @property
    def _token(self) -> Token | None:
        return self._tokens[self.at] if self.at < len(self._tokens) else None

    def take(self, *texts: str) -> str:
        """Pass over the next token if it is one of these, and return it."""
        found = self.next if self.next in texts else None
        self.at += found is not None
        return found or ""

    def expect(self, text: str) -> None:
        """Pass over the next token, which must be this one."""
        if not self.take(text):
            raise self.unexpected()

    def skip_lines(self) -> bool:
        """Pass over the ends of lines; returns whether any token follows."""
        while self.take("\n"):
            pass
        return self.next is not None

    def word(self) -> ShellWord:
        """Pass over the next token, which must be a word, and return it."""
        if not isinstance(token := self._token, ShellWord):
            raise self.unexpected()
        self.at += 1
        return token

    def simple_command(self) -> tuple[list[ShellWord], list[str]]:
        """Pass over words and redirections, and return them: those are operators with plain words."""
        words: list[ShellWord] = []
        redirections: list[str] = []
        while token := self._token:
            if isinstance(token, ShellWord):
                words.append(self.word())
            elif token.endswith((">", "<", ">&")):
                redirections.append(self.take(token) + self.word().plain)
            else:
                break
        return words, redirections

    def expression(self) -> str:
        """Pass over the next token, which must be a regular expression, and return it."""
        if not (self.next or "").startswith("^"):
            raise self.unexpected()
        return self.take(self.next or "")

    def unexpected(self) -> NotUnderstood:
        """Return a failure that names the next token."""
        where = "it ends too early" if self.next is None else f"it has {self.next!r} in an unsupported place"
        return NotUnderstood(where)
