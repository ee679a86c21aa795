"""Traces a shell script without running it, to find its calls of systemctl. Pure: no I/O.

It assumes that every call of systemctl succeeds. Anything unsupported raises `NotUnderstood`.
"""

import re
from fnmatch import fnmatchcase
from typing import Final, NoReturn

from hkswitch.homebridge import bash
from hkswitch.homebridge.commands import Call, as_root, call
from hkswitch.homebridge.conditions import condition
from hkswitch.homebridge.expansion import Expansion, NotUnderstood
from hkswitch.homebridge.script import (
    AndOrList,
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
from hkswitch.homebridge.tokens import ShellWord

MOST_STEPS: Final = 10_000

_SAYING: Final = frozenset({"echo", "printf", "logger"})
_SHADOWING: Final = frozenset({"local", "declare", "typeset"})
_DECLARING: Final = _SHADOWING | {"readonly", "export"}
_SET_OPTIONS = re.compile(r"(?:-[eux]+ |-[eux]*o (?:errexit|nounset|pipefail|xtrace) )+")
_TO_NOWHERE = re.compile(r"\d*(?:>|>>|<)|&>>?")
_TO_ANOTHER = re.compile(r"\d*>&")


class _Ended(Exception):
    """The script, or a function, has ended with this status."""

    def __init__(self, status: int, *, everything: bool) -> None:
        super().__init__(status)
        self.status = status
        self.everything = everything


class Evaluation:
    """A trace of one run of a script."""

    def __init__(self, path: str, arguments: tuple[str, ...], *, options: str) -> None:
        self._expansion = Expansion(path, arguments)
        self._expansion.unset_fails = "u" in options
        self._errexit = "e" in options
        self._functions: dict[str, Node] = {}
        self._calls: list[Call] = []
        self._steps = 0

    def calls(self, script: Block) -> tuple[Call, ...]:
        """Return the script's actions on units; it must exit with 0. Raises `NotUnderstood`."""
        try:
            status = self._run(script, tested=False)
        except _Ended as ended:
            status = ended.status
        if status:
            raise NotUnderstood("it refuses these arguments")
        return tuple(self._calls)

    def _run(self, node: Node, *, tested: bool) -> int:
        """Return the exit status of `node`. If it is not `tested`, a failure may end the script (set -e)."""
        self._steps += 1
        if self._steps > MOST_STEPS:
            raise NotUnderstood("it takes too long")
        status = self._status(node, tested=tested)
        self._expansion.status = status
        return status

    def _status(self, node: Node, *, tested: bool) -> int:
        match node:
            case Simple():
                return self._checked(self._simple(node, tested=tested), tested=tested)
            case Block(commands):
                return self._block(commands, tested=tested)
            case AndOrList(first, others):
                return self._chain(first, others, tested=tested)
            case Not(command):
                return int(not self._run(command, tested=True))
            case If(branches):
                chosen = (body for test, body in branches if not test or not self._run(test, tested=True))
                return self._block(next(chosen, Block(())).commands, tested=tested)
            case Case():
                return self._case(node, tested=tested)
            case For():
                return self._for(node, tested=tested)
            case Function(name, body):
                self._functions[name] = body
                return 0
            case Unknown(what):
                raise NotUnderstood(what)

    def _checked(self, status: int, *, tested: bool) -> int:
        if status and self._errexit and not tested:
            raise _Ended(status, everything=True)
        return status

    def _block(self, commands: tuple[Node, ...], *, tested: bool) -> int:
        status = 0
        for command in commands:
            status = self._run(command, tested=tested)
        return status

    def _chain(self, first: Node, others: tuple[tuple[str, Node], ...], *, tested: bool) -> int:
        """Run a chain of && and ||. Only its last command can end the script (set -e)."""
        status = self._run(first, tested=True)
        for index, (operator, command) in enumerate(others, start=1):
            if (operator == "&&") == (status == 0):
                status = self._run(command, tested=tested or index < len(others))
        return status

    def _case(self, node: Case, *, tested: bool) -> int:
        subject = self._expansion.text(node.subject)
        for patterns, body in node.arms:
            if any(fnmatchcase(subject, self._expansion.pattern(pattern)) for pattern in patterns):
                return self._block(body.commands, tested=tested)
        return 0

    def _for(self, node: For, *, tested: bool) -> int:
        items = [*self._expansion.arguments] if node.words is None else self._expansion.words(node.words)
        status = 0
        for item in items:
            self._expansion.assign(node.name, item)
            status = self._run(node.body, tested=tested)
        return status

    def _simple(self, node: Simple, *, tested: bool) -> int:
        for redirection in node.redirections:
            self._redirect(redirection)
        if not node.words:
            for assignment in node.assignments:
                self._expansion.assign(assignment.name, self._expansion.value(assignment.value))
            return 0
        if node.assignments:
            raise NotUnderstood(f"an assignment to '{node.assignments[0].name}' for one command")
        name = node.words[0].plain
        if name in _DECLARING:
            return self._declare(name, node.words[1:])
        if name == "[[":
            return int(not condition(self._expansion.unsplit(node.words[1:]), closing="]]"))
        words = self._expansion.words(node.words)
        return self._program(words, tested=tested) if words else 0

    def _redirect(self, redirection: Redirection) -> None:
        target = self._expansion.text(redirection.target)
        nowhere = target == "/dev/null" and _TO_NOWHERE.fullmatch(redirection.operator)
        another = target.isdecimal() and _TO_ANOTHER.fullmatch(redirection.operator)
        if not nowhere and not another:
            raise NotUnderstood(f"the redirection '{redirection.operator}{target}'")

    def _declare(self, kind: str, words: tuple[ShellWord, ...]) -> int:
        if kind == "local" and not self._expansion.depth:
            raise NotUnderstood("'local' outside of a function")
        for word in words:
            assignment = bash.assigned(word)
            name = assignment.name if assignment else word.plain
            if name in {"-a", "-x"}:
                continue
            if not name.isidentifier():
                raise NotUnderstood(f"'{kind}' with '{name}'")
            value = self._expansion.value(assignment.value) if assignment else None
            if kind in _SHADOWING:
                self._expansion.shadow(name)
            if value is not None:
                self._expansion.assign(name, value)
            if kind == "readonly":
                self._expansion.fix(name)
        return 0

    def _program(self, words: list[str], *, tested: bool) -> int:
        name, *arguments = words
        if name in self._functions:
            return self._function(self._functions[name], arguments, tested=tested)
        if name in _SAYING and arguments[:1] != ["-v"]:
            return 0
        match name:
            case ":" | "true" | "false":
                return int(name == "false")
            case "exit" | "return":
                self._end(arguments, everything=name == "exit")
            case "[" | "test":
                return int(not condition(arguments, closing="]" if name == "[" else ""))
            case "set":
                return self._set(arguments)
            case "shift":
                self._expansion.shift(arguments)
                return 0
            case "exec" if arguments:
                raise _Ended(self._systemd(arguments), everything=True)
        return self._systemd(words)

    def _systemd(self, words: list[str]) -> int:
        inner = as_root(tuple(words))
        found = call(inner) if inner else None
        if found is None:
            raise NotUnderstood(f"the command '{' '.join(words)}'")
        self._calls.append(found)
        return 0

    def _function(self, body: Node, arguments: list[str], *, tested: bool) -> int:
        with self._expansion.inside(arguments):
            try:
                return self._run(body, tested=tested)
            except _Ended as ended:
                if ended.everything:
                    raise
                return ended.status

    def _end(self, arguments: list[str], *, everything: bool) -> NoReturn:
        if not everything and not self._expansion.depth:
            raise NotUnderstood("'return' outside of a function")
        status = arguments[0] if arguments else str(self._expansion.status)
        if len(arguments) > 1 or not status.isdecimal():
            raise NotUnderstood(f"the status '{' '.join(arguments)}'")
        raise _Ended(int(status) % 256, everything=everything)

    def _set(self, arguments: list[str]) -> int:
        if not _SET_OPTIONS.fullmatch("".join(f"{argument} " for argument in arguments)):
            raise NotUnderstood(f"'set {' '.join(arguments)}'")
        flags = {char for argument in arguments if argument.startswith("-") for char in argument}
        self._errexit = self._errexit or "e" in flags or "errexit" in arguments
        self._expansion.unset_fails = self._expansion.unset_fails or "u" in flags or "nounset" in arguments
        return 0
