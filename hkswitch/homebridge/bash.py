"""Parses the text of a shell script into the tree of its commands, and runs nothing. Pure: no I/O.

Unsupported syntax raises `Unreadable`, or becomes an `Unknown` node, which a run may never reach.
"""

import re
from typing import Final

from hkswitch.homebridge import tokens
from hkswitch.homebridge.cursor import Cursor
from hkswitch.homebridge.script import (
    AndOrList,
    Assignment,
    Block,
    Case,
    For,
    Function,
    If,
    Node,
    Not,
    Redirection,
    Simple,
    Unknown,
)
from hkswitch.homebridge.tokens import Literal, Operator, ShellWord, Unreadable

_ASSIGNMENT = re.compile(r"(?P<name>[A-Za-z_]\w*)=", re.ASCII)
_FUNCTION_NAME = re.compile(r"[A-Za-z_][\w-]*", re.ASCII)
_COMPARISON = re.compile(r"[=!]?=|=~|-(?:eq|ne|lt|le|gt|ge|nt|ot|ef)")
_TEST = re.compile(r"-[a-zA-Z]")
_REDIRECTION = re.compile(r"\d*(?:>>|>&|>\||<&|<>|>|<)|&>>?")
_UNKNOWN: Final = frozenset({"while", "until", "select", "time", "coproc"})
_CLOSING: Final = frozenset({"then", "else", "elif", "fi", "do", "done", "esac", "}"})


def read(text: str) -> Block:
    """Return the commands of the script. Raises `Unreadable`."""
    parser = _Parser(tokens.read(text))
    block = parser.block()
    parser.end()
    return block


class _Parser(Cursor):
    """A recursive descent parser."""

    def block(self) -> Block:
        """Parse commands up to a word or an operator that closes a construct."""
        commands: list[Node] = []
        while self.skip("\n", ";") and not self._closing():
            command = self._chain()
            if self.at("&"):
                self.pass_over()
                command = Unknown("a command in the background")
            elif not (self.at("\n", ";", ";;", ")") or self.next() is None):
                raise Unreadable(f"{self.quoted()} after a command")
            commands.append(command)
        return Block(tuple(commands))

    def end(self) -> None:
        if self.next() is not None:
            raise Unreadable(f"{self.quoted()} at the end")

    def _chain(self) -> Node:
        first = self._pipeline()
        others = []
        while self.at("&&", "||"):
            operator = self.operator()
            self.skip("\n")
            others.append((operator, self._pipeline()))
        return AndOrList(first, tuple(others)) if others else first

    def _pipeline(self) -> Node:
        if self.keyword("!"):
            return Not(self._pipeline())
        command = self._command()
        while self.at("|", "|&"):
            self.pass_over()
            self.skip("\n")
            self._command()
            command = Unknown("a pipe")
        return command

    def _command(self) -> Node:
        match self.word_ahead():
            case "{":
                return self._redirected(self._braces())
            case "if":
                return self._redirected(self._if())
            case "case":
                return self._redirected(self._case())
            case "for":
                return self._redirected(self._for())
            case "function":
                self.expect("function")
                return self._function(self.word().plain)
            case word if word in _UNKNOWN | _CLOSING:
                raise Unreadable(f"'{word}'")
        return self._simple()

    def _braces(self) -> Block:
        self.expect("{")
        block = self.block()
        self.expect("}")
        return block

    def _if(self) -> Node:
        self.expect("if")
        branches: list[tuple[Block | None, Block]] = [self._branch()]
        while self.keyword("elif"):
            branches.append(self._branch())
        if self.keyword("else"):
            branches.append((None, self.block()))
        self.expect("fi")
        return If(tuple(branches))

    def _branch(self) -> tuple[Block, Block]:
        condition = self.block()
        self.expect("then")
        return condition, self.block()

    def _case(self) -> Node:
        self.expect("case")
        subject = self.word()
        self.skip("\n")
        self.expect("in")
        self.skip("\n")
        arms = []
        while not self.keyword("esac"):
            arms.append((self._patterns(), self.block()))
            if self.at(";;"):
                self.pass_over()
            elif self.word_ahead() != "esac":
                raise Unreadable(f"{self.quoted()} in a case")
            self.skip("\n")
        return Case(subject, tuple(arms))

    def _patterns(self) -> tuple[ShellWord, ...]:
        if self.at("("):
            self.pass_over()
        patterns = [self.word()]
        while self.at("|"):
            self.pass_over()
            patterns.append(self.word())
        if self.operator() != ")":
            raise Unreadable("a pattern without ')'")
        return tuple(patterns)

    def _for(self) -> Node:
        self.expect("for")
        name = self.word().plain
        if not name.isidentifier():
            raise Unreadable(f"a loop over {name!r}")
        self.skip("\n")
        words: list[ShellWord] | None = None
        if self.keyword("in"):
            words = []
            while isinstance(self.next(), ShellWord):
                words.append(self.word())
        self.skip("\n", ";")
        self.expect("do")
        body = self.block()
        self.expect("done")
        return For(name, None if words is None else tuple(words), body)

    def _function(self, name: str) -> Node:
        if not _FUNCTION_NAME.fullmatch(name):
            raise Unreadable(f"a function with the name {name!r}")
        if self.at("("):
            self.pass_over()
            if self.operator() != ")":
                raise Unreadable("a function with text in its parentheses")
        self.skip("\n")
        return Function(name, self._redirected(self._braces()))

    def _closing(self) -> bool:
        return self.word_ahead() in _CLOSING or self.at(";;", ")")

    def _redirected(self, node: Node) -> Node:
        """Return `node`, or an unknown node if redirections follow."""
        if self._redirections():
            return Unknown("a redirection of several commands")
        return node

    def _redirections(self) -> tuple[Redirection, ...]:
        found = []
        while isinstance(token := self.next(), Operator) and _REDIRECTION.fullmatch(token.text):
            found.append(Redirection(self.operator(), self.word()))
        return tuple(found)

    def _simple(self) -> Node:
        assignments: list[Assignment] = []
        words: list[ShellWord] = []
        redirections = [*self._redirections()]
        while isinstance(token := self.next(), ShellWord):
            self.pass_over()
            assignment = None if words else assigned(token)
            if assignment:
                assignments.append(assignment)
            else:
                words.append(token)
            redirections += self._redirections()
            if self.at("(") and len(words) == 1 and not assignments:
                return self._function(token.plain)
        if not (assignments or words or redirections):
            raise Unreadable(self.quoted())
        if words and words[0].plain == "[[":
            _check_condition([word.plain for word in words[1:]])
        return Simple(tuple(assignments), tuple(words), tuple(redirections))


def assigned(word: ShellWord) -> Assignment | None:
    """Return the word as an assignment, if it is one."""
    match word.parts:
        case (Literal(text, quoted=False), *others) if match := _ASSIGNMENT.match(text):
            rest = text[match.end() :]
            value = ([Literal(rest, quoted=False)] if rest else []) + list(others)
            return Assignment(match["name"], ShellWord(tuple(value)))
    return None


def _check_condition(plain: list[str]) -> None:
    """Reject conditions that bash rejects before it runs anything. `plain`: the words, empty if quoted."""
    *words, closing = plain or [""]
    while words[:1] == ["!"]:
        del words[0]
    match words:
        case [alone] if not _COMPARISON.fullmatch(alone) and not _TEST.fullmatch(alone) and closing == "]]":
            return
        case [test, _] if _TEST.fullmatch(test) and closing == "]]":
            return
        case [_, comparison, _] if _COMPARISON.fullmatch(comparison) and closing == "]]":
            return
    raise Unreadable("a condition in [[ ]]")
