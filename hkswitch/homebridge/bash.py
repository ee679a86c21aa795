"""Parses shell text into the tree of its commands, and runs nothing. Pure: no I/O.

It knows the syntax that wrappers use; anything else raises `Unreadable`.
"""

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

from hkswitch.homebridge import tokens
from hkswitch.homebridge.tokens import Literal, Operator, ShellWord, Token, Unreadable

_ASSIGNMENT = re.compile(r"(?P<name>[A-Za-z_]\w*)=", re.ASCII)
_FUNCTION_NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_REDIRECTION = re.compile(r"\d*(?:>>|>&|>\||<&|<>|>|<)|&>>?")
_OF_BASH = re.compile(r"\[\[|function|==|\|&|&>>?|;;?&")
_UNKNOWN: Final = frozenset({"for", "while", "until", "select", "time", "coproc"})
_CLOSING: Final = frozenset({"then", "else", "elif", "fi", "do", "done", "esac", "}"})


class Assignment(NamedTuple):
    """`name=value`."""

    name: str
    value: ShellWord


class Redirection(NamedTuple):
    """A redirection of input or output: an operator like `2>`, and its target."""

    operator: str
    target: ShellWord


class Simple(NamedTuple):
    """A program, a function or a builtin with its arguments, or assignments alone."""

    assignments: tuple[Assignment, ...]
    words: tuple[ShellWord, ...]
    redirections: tuple[Redirection, ...]


class Compound(NamedTuple):
    """Commands, joined as `kind` says: `;` `&` `|` `&&` `||` `!` `(` or `if`.

    The commands of an `if` are its conditions, each with the commands that follow it, and those of its else.
    """

    kind: str
    commands: tuple["Node", ...]
    redirections: tuple[Redirection, ...] = ()


class Case(NamedTuple):
    """Patterns and their commands, of which the first with a pattern that matches the subject run."""

    subject: ShellWord
    arms: tuple[tuple[tuple[ShellWord, ...], Compound], ...]


class Function(NamedTuple):
    """The definition of a function."""

    name: str
    body: "Node"


Node = Simple | Compound | Case | Function


def read(text: str, *, is_bash: bool) -> Compound:
    """Return the commands of a script, which is plain POSIX unless it `is_bash`. Raises `Unreadable`."""
    try:
        found = tokens.read(text)
        if not is_bash and (bashisms := [text for text in map(_text, found) if _OF_BASH.fullmatch(text)]):
            raise Unreadable(f"{bashisms[0]!r}, which not every sh has")
        parser = _Parser(found)
        block = parser.block()
    except RecursionError:
        raise Unreadable("it is nested too deeply") from None
    if parser.next is not None:
        raise parser.unexpected()
    return block


def _text(token: Token) -> str:
    return token.sign if isinstance(token, Operator) else token.plain


class _Parser:
    """A recursive descent parser."""

    def __init__(self, found: Sequence[Token]) -> None:
        self._tokens = found
        self._at = 0

    @property
    def next(self) -> Token | None:
        """The next token; None at the end."""
        return self._tokens[self._at] if self._at < len(self._tokens) else None

    def unexpected(self) -> Unreadable:
        """Return a failure that names the next token."""
        match self.next:
            case None:
                return Unreadable("it ends too early")
            case Operator(sign):
                return Unreadable(f"{sign!r} in this place")
            case ShellWord(parts):
                text = "".join(part.text for part in parts if isinstance(part, Literal))
                return Unreadable(f"{text!r} in this place")

    def block(self) -> Compound:
        """Parse commands up to a word or an operator that closes a construct."""
        commands: list[Node] = []
        while self._skip("\n") and not self._is(*_CLOSING, ";;", ")"):
            command = self._chain()
            if self._take("&"):
                command = Compound("&", (command,))
            elif not self._take(";") and not (self._is("\n", ";;", ")") or self.next is None):
                raise self.unexpected()
            commands.append(command)
        return Compound(";", tuple(commands))

    def _chain(self) -> Node:
        command = self._pipeline()
        while operator := self._take("&&", "||"):
            self._skip("\n")
            command = Compound(operator, (command, self._pipeline()))
        return command

    def _pipeline(self) -> Node:
        if self._take("!"):
            return Compound("!", (self._pipeline(),))
        commands = [self._command()]
        while self._take("|", "|&"):
            self._skip("\n")
            commands.append(self._command())
        return Compound("|", tuple(commands)) if len(commands) > 1 else commands[0]

    def _command(self) -> Node:
        if self._is(*_UNKNOWN, *_CLOSING):
            raise self.unexpected()
        match self._take("(", "{", "if", "case", "function"):
            case "(" if not self._is("("):
                node: Compound | Case = Compound("(", (self._closed(")"),))
            case "{":
                node = self._closed("}")
            case "if":
                node = self._if()
            case "case":
                node = self._case()
            case "function":
                return self._function(self._word().plain)
            case "":
                return self._simple()
            case _:
                raise self.unexpected()
        redirections = tuple(self._redirections())
        return Compound(";", (node,), redirections) if redirections else node

    def _commands(self) -> Compound:
        block = self.block()
        if not block.commands:
            raise self.unexpected()
        return block

    def _closed(self, closing: str) -> Compound:
        block = self._commands()
        self._expect(closing)
        return block

    def _if(self) -> Compound:
        commands = [self._closed("then"), self._commands()]
        while self._take("elif"):
            commands += [self._closed("then"), self._commands()]
        if self._take("else"):
            commands.append(self._commands())
        self._expect("fi")
        return Compound("if", tuple(commands))

    def _case(self) -> Case:
        subject = self._word()
        self._skip("\n")
        self._expect("in")
        self._skip("\n")
        arms = []
        while not self._take("esac"):
            arms.append((self._patterns(), self.block()))
            if not self._take(";;") and not self._is("esac"):
                raise self.unexpected()
            self._skip("\n")
        return Case(subject, tuple(arms))

    def _patterns(self) -> tuple[ShellWord, ...]:
        self._take("(")
        patterns = [self._word()]
        while self._take("|"):
            patterns.append(self._word())
        self._expect(")")
        return tuple(patterns)

    def _function(self, name: str) -> Function:
        if not _FUNCTION_NAME.fullmatch(name):
            raise self.unexpected()
        if self._take("("):
            self._expect(")")
        self._skip("\n")
        self._expect("{")
        return Function(name, self._closed("}"))

    def _redirections(self) -> list[Redirection]:
        found = []
        while isinstance(token := self.next, Operator) and _REDIRECTION.fullmatch(token.sign):
            self._at += 1
            found.append(Redirection(token.sign, self._word()))
        return found

    def _simple(self) -> Simple | Function:
        assignments: list[Assignment] = []
        words: list[ShellWord] = []
        redirections = self._redirections()
        while isinstance(token := self.next, ShellWord):
            self._at += 1
            if not words and (assignment := _assignment(token)):
                assignments.append(assignment)
            else:
                words.append(token)
            redirections += self._redirections()
            if self._is("(") and len(words) == 1 and not assignments:
                return self._function(token.plain)
        if not (assignments or words or redirections):
            raise self.unexpected()
        if words and words[0].plain == "[[":
            _check_condition([word.plain for word in words[1:]] + [""] * bool(redirections))
        return Simple(tuple(assignments), tuple(words), tuple(redirections))

    # The tokens

    def _is(self, *texts: str) -> bool:
        """Whether one of these operators or keywords is next."""
        match self.next:
            case Operator(sign):
                return sign in texts
            case ShellWord() as word:
                return word.plain in texts
        return False

    def _take(self, *texts: str) -> str:
        """Pass over the next token if it is one of these, and return it."""
        found = next((text for text in texts if self._is(text)), "")
        self._at += bool(found)
        return found

    def _skip(self, *texts: str) -> bool:
        """Pass over all of these; returns whether any token follows."""
        while self._take(*texts):
            pass
        return self.next is not None

    def _expect(self, text: str) -> None:
        if not self._take(text):
            raise self.unexpected()

    def _word(self) -> ShellWord:
        token = self.next
        if not isinstance(token, ShellWord):
            raise self.unexpected()
        self._at += 1
        return token


def _check_condition(plain: list[str]) -> None:
    """Refuse conditions that bash may refuse before it runs anything. `plain`: the words, empty if quoted."""
    match plain:
        case ["!", *others]:
            _check_condition(others)
        case ["-n" | "-z", _, "]]"] | [_, "=" | "==" | "!=" | "=~", _, "]]"]:
            pass
        case [_, "-eq" | "-ne" | "-lt" | "-le" | "-gt" | "-ge", _, "]]"]:
            pass
        case _:
            raise Unreadable("a condition in [[ ]]")


def _assignment(word: ShellWord) -> Assignment | None:
    match word.parts:
        case (Literal(text, quoted=False), *others) if match := _ASSIGNMENT.match(text):
            rest = text[match.end() :]
            value = [Literal(rest, quoted=False), *others] if rest else others
            return Assignment(match["name"], ShellWord(tuple(value)))
    return None
