"""Follows shell text without running it, to find its calls of systemctl. Pure: no I/O.

Anything unsupported raises `NotUnderstood`: it never guesses.
"""

import re
from collections.abc import Mapping
from contextlib import suppress
from fnmatch import fnmatchcase
from typing import Final, NoReturn

from hkswitch.homebridge import bash
from hkswitch.homebridge.bash import Case, Compound, Function, Node, Redirection, Simple
from hkswitch.homebridge.expansion import Expansion, NotUnderstood, condition, matches
from hkswitch.homebridge.scripts import Script
from hkswitch.homebridge.systemctl import ROOT, call, plain_name, without_sudo
from hkswitch.homebridge.tokens import Literal, Opaque, Parameter, ShellWord
from hkswitch.homebridge.trace import Trace, Way, ways

SHELLS: Final = frozenset({"sh", "bash", "dash"})
BUILTINS = re.compile(
    r"[.:!]|alias|bg|break|builtin|case|cd|command|continue|coproc|declare|disown|enable|eval|exec|exit|export"
    r"|fg|for|function|getopts|hash|if|jobs|let|local|logout|mapfile|popd|pushd|read|readarray|readonly|return"
    r"|select|set|shift|shopt|source|times|trap|type|typeset|ulimit|umask|unalias|unset|until|wait|while"
)
_SAYING: Final = frozenset({"echo", "printf", "/bin/echo", "/usr/bin/echo"})
_ALWAYS_SUCCEED: Final = {"gpio": "read", "raspi-gpio": "get", "pinctrl": "get", "pigs": "r"}
_SET_OPTIONS = re.compile(r"(?:-[efux]+ |-[efux]*o (?:errexit|nounset|xtrace) )+")
_FORMAT = re.compile(r"(?:[^-%\\]|\\n|%s)(?:[^%\\]|\\n|%[s%])*")
"""Formats with which printf always succeeds, and that are no option."""

_TO_NOWHERE = re.compile(r"\d*(?:>|>>|<)|&>>?")
_FAILED: Final = 3
"""Stands for any exit status of a program that failed."""


def follow(text: str, scripts: Mapping[str, Script], *, root: bool) -> list[Way]:
    """Return all ways through a command. Raises `NotUnderstood` or `Unreadable`."""
    script = Script("sh", bash.read(text, is_bash=False))
    return list(ways(lambda trace: _Shell(trace, scripts, script, (), root=root).run()))


class _Ended(Exception):
    """The script, or a function, has ended."""

    def __init__(self, *, everything: bool) -> None:
        super().__init__()
        self.everything = everything


class _Shell:
    """A shell that runs a script. `_status` is None while it depends on the machine.

    `is_exact`: a failure has just this status. Programs, even systemctl, fail with more than one.
    """

    def __init__(
        self,
        trace: Trace,
        scripts: Mapping[str, Script],
        script: Script,
        arguments: tuple[str, ...],
        *,
        root: bool,
    ) -> None:
        self._trace = trace
        self._scripts = scripts
        self._script = script
        self._root = root
        self._expansion = Expansion(script.path, arguments, self._exact_status, root=root)
        self._expansion.values = {"EUID": "0", "UID": "0"} if root and script.is_bash else {}
        self._expansion.unset_fails = "u" in script.options
        self._errexit = "e" in script.options
        self._functions: dict[str, Node] = {}
        self._tested = False
        self._depth = 0
        self._set(0)

    def run(self) -> int:
        """Return the exit status of the script."""
        if self._script.commands is None:
            raise NotUnderstood(self._script.why)
        with suppress(_Ended):
            self._node(self._script.commands, tested=False)
        return self._settled()

    # The exit status of the last command

    def _set(self, status: int | None, *, exact: bool = True) -> None:
        self._status, self.is_exact = status, exact

    def _settled(self) -> int:
        if self._status is None:
            self._status = 0 if self._trace.succeeds() else _FAILED
        return self._status

    def _exact_status(self) -> int:
        status = self._settled()
        if status and not self.is_exact:
            raise NotUnderstood("the exit status of a program that failed")
        return status

    # The commands

    def _node(self, node: Node, *, tested: bool) -> None:
        """Run a command. If it is not `tested`, a failure may end the script (set -e)."""
        self._trace.step()
        match node:
            case Simple():
                self._tested = tested
                self._simple(node)
                self._check(tested=tested)
            case Compound():
                self._redirect(node.redirections)
                self._compound(node, tested=tested)
            case Case():
                self._case(node, tested=tested)
            case Function(name, body):
                if BUILTINS.fullmatch(name):
                    raise NotUnderstood(f"a function in the place of '{name}'")
                self._functions[name] = body
                self._set(0)

    def _check(self, *, tested: bool) -> None:
        if self._errexit and not tested and self._settled():
            raise _Ended(everything=True)

    def _compound(self, node: Compound, *, tested: bool) -> None:
        match node.kind, node.commands:
            case ";", commands:
                if not commands:
                    self._set(0)
                for command in commands:
                    self._node(command, tested=tested)
            case ("&&" | "||") as operator, (left, right):
                self._node(left, tested=True)
                if (self._settled() == 0) == (operator == "&&"):
                    self._node(right, tested=tested)
            case "!", (command,):
                self._node(command, tested=True)
                self._set(int(not self._settled()))
            case "if", commands:
                self._if(commands, tested=tested)
            case "(" | "|", (*others, last):
                self._trace.is_pure &= not others
                self._subshell(last, tested=tested)
            case _:
                raise NotUnderstood("a command in the background")

    def _if(self, commands: tuple[Node, ...], *, tested: bool) -> None:
        for test, body in zip(commands[::2], commands[1::2], strict=False):
            self._node(test, tested=True)
            if not self._settled():
                self._node(body, tested=tested)
                return
        self._set(0)
        if len(commands) % 2:
            self._node(commands[-1], tested=tested)

    def _subshell(self, command: Node, *, tested: bool) -> None:
        outside, functions, errexit = self._expansion, dict(self._functions), self._errexit
        self._expansion = outside.copy()
        with suppress(_Ended):
            self._node(command, tested=tested)
        self._expansion, self._functions, self._errexit = outside, functions, errexit
        self._check(tested=tested)

    def _case(self, node: Case, *, tested: bool) -> None:
        subject = self._expansion.text(node.subject)
        for patterns, body in node.arms:
            if any(fnmatchcase(subject, self._expansion.pattern(pattern)) for pattern in patterns):
                self._node(body, tested=tested)
                return
        self._set(0)

    def _redirect(self, redirections: tuple[Redirection, ...]) -> None:
        for operator, word in redirections:
            target = self._expansion.text(word)
            nowhere = target == "/dev/null" and _TO_NOWHERE.fullmatch(operator)
            if not nowhere and not (target in {"1", "2"} and operator.endswith(">&")):
                raise NotUnderstood(f"the redirection '{operator}{target}'")

    def _simple(self, node: Simple) -> None:
        self._redirect(node.redirections)
        if node.words and node.assignments:
            raise NotUnderstood(f"an assignment to '{node.assignments[0].name}' for one command")
        for assignment in node.assignments:
            self._expansion.assign(assignment.name, assignment.value)
        match node.words:
            case (first, *others) if first.plain == "[[":
                self._set(int(not self._condition(others[:-1])))
            case (first, ShellWord((Parameter("?"),))) if first.plain == "exit":
                raise _Ended(everything=True)
            case (first, *others) if (
                plain_name(first.plain) in _SAYING and first.plain not in self._functions
            ):
                self._say(plain_name(first.plain), others)
            case words:
                self._program(self._expansion.words(words))

    def _say(self, program: str, words: list[ShellWord]) -> None:
        """Pass over a message, and the programs whose output it has."""
        if program == "printf" and not (words and _is_format(words[0])):
            raise NotUnderstood("an option or a format of 'printf'")
        self._expansion.check_set(words)
        for part in (part for word in words for part in word.parts if isinstance(part, Opaque)):
            if not re.match(r"`|\$\((?!\()", part.source):
                raise NotUnderstood(f"'{part.source}'")
            self._trace.is_pure = False
        self._set(0)

    def _condition(self, words: list[ShellWord]) -> bool:
        match [word.plain for word in words]:
            case ["!", *_]:
                return not self._condition(words[1:])
            case [_, "=~", expression]:
                return matches(self._expansion.plain(words[0]), expression)
        return condition([self._expansion.plain(word) for word in words])

    def _test(self, arguments: list[str]) -> None:
        if "==" in arguments and not self._script.is_bash:
            raise NotUnderstood("'==', which not every sh has")
        self._set(int(not condition(arguments)))

    def _program(self, words: list[str]) -> None:
        match words:
            case []:
                self._set(0)
            case [name, *arguments] if name in self._functions:
                self._function(self._functions[name], arguments)
            case [":" | "true" | "/bin/true" | "/usr/bin/true", *_]:
                self._set(0)
            case ["false" | "/bin/false" | "/usr/bin/false", *_]:
                self._set(1)
            case ["exit" | "return" as name, *arguments]:
                self._end(name, arguments)
            case ["[", *arguments, "]"] | ["test", *arguments]:
                self._test(arguments)
            case ["set", *arguments]:
                self._options(arguments)
            case ["shift"] | ["shift", "1"] if self._expansion.arguments:
                del self._expansion.arguments[0]
                self._set(0)
            case [name, *_] if name in {"[", "printf"} or BUILTINS.fullmatch(name):
                raise NotUnderstood(f"the command '{' '.join(words)}'")
            case _:
                self._external(tuple(words))

    def _external(self, words: tuple[str, ...]) -> None:
        """Note what a program does: an action on units, a script that is known, or something else."""
        user, inner = without_sudo(words)
        found = call(inner) if user in {"", ROOT} else None
        if found:
            self._trace.calls.append(found)
            self._set(None, exact=False)
        elif not self._runs_script(inner, root=user == ROOT or (self._root and not user)):
            self._trace.is_pure = False
            verb = next((word for word in inner[1:] if not word.startswith("-")), "")
            always = _ALWAYS_SUCCEED.get(plain_name(inner[0])) == verb
            self._set(0 if always else None, exact=always)

    def _runs_script(self, words: tuple[str, ...], *, root: bool) -> bool:
        """Run a script that is known, or a command for a shell; returns whether it is one."""
        shell = plain_name(words[0]) if plain_name(words[0]) in SHELLS else ""
        match words[1:] if shell else words:
            case ("-c", text) if shell:
                script = Script("sh", bash.read(text, is_bash=shell == "bash"), is_bash=shell == "bash")
                arguments: tuple[str, ...] = ()
            case (path, *rest) if path in self._scripts:
                script, arguments = self._scripts[path], tuple(rest)
            case _:
                return False
        if shell and script.is_bash and shell != "bash":
            raise NotUnderstood("a script of bash that another shell runs")
        inner = _Shell(self._trace, self._scripts, script, arguments, root=root)
        self._set(inner.run(), exact=inner.is_exact)
        return True

    def _function(self, body: Node, arguments: list[str]) -> None:
        outside, self._expansion.arguments = self._expansion.arguments, arguments
        self._depth += 1
        try:
            self._node(body, tested=self._tested)
        except _Ended as ended:
            if ended.everything:
                raise
        finally:
            self._depth -= 1
            self._expansion.arguments = outside

    def _end(self, name: str, arguments: list[str]) -> NoReturn:
        if name == "return" and not self._depth:
            raise NotUnderstood("'return' outside of a function")
        match arguments:
            case []:
                pass
            case [status] if re.fullmatch(r"[0-9]{1,3}", status):
                self._set(int(status) % 256)
            case _:
                raise NotUnderstood(f"'{name} {' '.join(arguments)}'")
        raise _Ended(everything=name == "exit")

    def _options(self, arguments: list[str]) -> None:
        text = "".join(f"{argument} " for argument in arguments)
        if not _SET_OPTIONS.fullmatch(text):
            raise NotUnderstood(f"'set {text.strip()}'")
        flags = {char for argument in arguments if argument.startswith("-") for char in argument}
        self._errexit |= "e" in flags or "errexit" in arguments
        self._expansion.unset_fails |= "u" in flags or "nounset" in arguments
        self._set(0)


def _is_format(word: ShellWord) -> bool:
    """Whether this is a format of printf, known without an expansion."""
    texts = [part.text for part in word.parts if isinstance(part, Literal)]
    return len(texts) == len(word.parts) and _FORMAT.fullmatch("".join(texts)) is not None
