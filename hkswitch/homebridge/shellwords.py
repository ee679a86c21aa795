"""Splits a command into words, if that needs no shell. Pure: no I/O.

It never guesses: a word that a shell would expand raises `NeedsShell`, even if it looks harmless.
"""

import re
from typing import Final

from hkswitch.homebridge import tokens
from hkswitch.homebridge.tokens import Literal, Operator, Part, ShellWord

_GLOB_OR_BRACE = re.compile(r"[*?\[{}]")
_URL = re.compile(r"[a-z][a-z0-9+.-]*://[^\[{}]*")
_ANY_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*\+?=", re.ASCII)
_KEYWORD = re.compile(
    r"[!.:{}]|\[\[|case|coproc|do|done|elif|else|esac|fi|for|function|if|in|select|then|time|until|while"
    r"|alias|bg|break|builtin|cd|command|continue|declare|disown|eval|exec|exit|export|fg|hash|jobs|let|local"
    r"|logout|popd|pushd|read|readonly|return|set|shift|source|times|trap|type|typeset|ulimit|umask|unalias"
    r"|unset|wait"
)
_OPERATORS: Final = {"\n": "a second line", "&": "a command in the background, '&'", "|": "a pipe, '|'"}


class NeedsShell(Exception):
    """Only a shell can interpret this. The message gives the reason in a few words."""


def split(command: str) -> tuple[str, ...]:
    """Return the words of `command`; none if it is empty. Raises `NeedsShell`."""
    try:
        words = [_word(token) for token in tokens.read(command.strip(" \t\n"))]
    except tokens.Unreadable as error:
        raise NeedsShell(str(error)) from None
    except RecursionError:
        raise NeedsShell("parentheses nested too deeply") from None
    if words and (found := _ANY_ASSIGNMENT.match(words[0])):
        raise NeedsShell(f"an assignment, '{found[0]}'")
    if words and _KEYWORD.fullmatch(words[0]):
        raise NeedsShell(f"the shell builtin or keyword '{words[0]}'")
    return tuple(words)


def _word(token: tokens.Token) -> str:
    match token:
        case Operator(text):
            raise NeedsShell(_OPERATORS.get(text, f"'{text}'"))
        case ShellWord(parts=(Literal(text, quoted=False),)) if _URL.fullmatch(text):
            return text  # a pattern in theory, but it would need a folder that is called 'http:'
        case ShellWord(parts=parts):
            return "".join(_text(part, first=part is parts[0]) for part in parts)


def _text(part: Part, *, first: bool) -> str:
    match part:
        case Literal(text, quoted=True):
            return text
        case Literal(text):
            if first and text.startswith("~"):
                raise NeedsShell("a home folder, '~'")
            if found := _GLOB_OR_BRACE.search(text):
                raise NeedsShell(f"the pattern '{found[0]}'")
            return text
        case tokens.Parameter(name):
            raise NeedsShell(f"the variable '${name}'")
        case tokens.Opaque(text):
            raise NeedsShell(f"'{text[:1] if text[:1] == '`' else text[:2]}'")
        case tokens.Array():
            raise NeedsShell("an array")
