"""Follows shell text without running it, to find its actions on units and containers. Pure: no I/O.

It knows a small part of the language: functions, case, if, lists, blocks and subshells. Anything else, and
whatever depends on how a program ends, raises `NotUnderstood`: it never guesses.
"""

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Final, NoReturn

from hkswitch.homebridge import containers, tokens
from hkswitch.homebridge.scripts import Script, ScriptRun
from hkswitch.homebridge.state import State, Status, both, condition, matches
from hkswitch.homebridge.systemctl import ROOT, Call, call, plain_name, without_sudo
from hkswitch.homebridge.tokens import Cursor, Expansion, NotUnderstood, ShellWord, plain_word

_CLOSING: Final = frozenset({"then", "else", "elif", "fi", "esac", "}", ";;", ")"})
_UNKNOWN: Final = {
    "": _CLOSING | {"for", "while", "until", "select", "time", "coproc", "do", "done"},
    "(": {"("},  # arithmetic
    "!": {"!"},  # an error in some shells
}
"""What must not follow an operator or keyword, or begin a command."""

_FUNCTION = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_HARMLESS = re.compile(r"\d*>/dev/null|\d*>&[12]", re.ASCII)
"""Redirections that change only where messages go."""

_OF_ERRORS: Final = frozenset({"2>/dev/null"})
"""Those that leave the output as it is."""


def follow(text: str, scripts: Mapping[str, Script], *, root: bool) -> tuple[list[Call | None], Status]:
    """Return the programs that a command runs, in their order, and its exit status.

    None stands for a program that does something else than such an action. Raises `NotUnderstood`.
    """
    run = ScriptRun(scripts)
    try:
        status = _Shell(run, Script("sh", tokens.read(text)), (), root=root).run()
    except RecursionError:
        raise NotUnderstood("it is nested too deeply") from None
    return run.ran, status


class _Ended(Exception):
    """The script has ended."""


class _Shell:
    """A shell that reads and follows a script in one go. What is not `live` is only read."""

    def __init__(self, run: ScriptRun, script: Script, arguments: tuple[str, ...], *, root: bool) -> None:
        known = {"(id -u)": "0", **({"EUID": "0", "UID": "0"} if script.is_bash else {})} if root else {}
        self._run = run
        self._script = script
        self._root = root
        self._state = State(arguments, {**known, "0": script.path})
        self._functions: dict[str, int] = {}
        self._tokens = Cursor(script.tokens)

    def run(self) -> Status:
        """Return the exit status of the script."""
        if self._script.why:
            raise NotUnderstood(self._script.why)
        for live in False, True:  # a mistake anywhere may be one that the shell finds first
            self._tokens.at = 0
            with suppress(_Ended):
                self._block(live=live)
                if self._tokens.next is not None:
                    raise self._tokens.unexpected()
        return self._state.status

    # The grammar

    def _block(self, *, live: bool) -> bool:
        """Follow commands up to a word that closes a construct; returns whether there are any."""
        is_empty = True
        while self._tokens.skip_lines() and self._tokens.next not in _CLOSING:
            is_empty = False
            self._list(live=live)
            if not self._tokens.take(";") and self._tokens.next not in {"\n", ";;", ")", None}:
                raise self._tokens.unexpected()
        return not is_empty

    def _body(self, closing: str = "", *, live: bool) -> None:
        if not self._block(live=live):
            raise self._tokens.unexpected()
        if closing:
            self._tokens.expect(closing)

    def _list(self, *, live: bool) -> None:
        self._command(live=live)
        while sign := self._tokens.take("&&", "||"):
            self._tokens.skip_lines()
            before = self._state.status
            if live and sign == "&&" and not isinstance(before, int):
                with self._state.bounded():
                    self._command(live=True)
                self._state.end(both(before, self._state.status))
            else:
                self._command(live=live and self._state.succeeded() == (sign == "&&"))

    def _command(self, *, live: bool) -> None:
        self._run.count(1)
        sign = self._tokens.take("!", "(", "{", "[[", "if", "case", "function")
        if self._tokens.next in _UNKNOWN.get(sign, ()):
            raise self._tokens.unexpected()
        match sign:
            case "!":
                self._command(live=live)
                if live:
                    self._state.end(int(self._state.succeeded()))
            case "(":
                with self._state.bounded():
                    self._body(")", live=live)
            case "{":
                self._body("}", live=live)
            case "[[":
                self._only_in_bash(sign)
                self._double_brackets(live=live)
            case "if":
                self._if(live=live)
            case "case":
                self._case(live=live)
            case "function":
                self._only_in_bash(sign)
                self._function(self._tokens.word().plain, live=live)
            case _:
                self._simple(live=live)

    def _if(self, *, live: bool) -> None:
        following = "elif"
        while following == "elif":
            self._body("then", live=live)
            is_taken = live and self._state.succeeded()
            self._body(live=is_taken)
            live = live and not is_taken
            following = self._tokens.take("elif", "else")
        if following:
            self._body(live=live)
        elif live:
            self._state.end(0)
        self._tokens.expect("fi")

    def _case(self, *, live: bool) -> None:
        subject = self._tokens.word()
        text = self._state.text(subject) if live else ""
        self._tokens.skip_lines()
        self._tokens.expect("in")
        self._tokens.skip_lines()
        while not self._tokens.take("esac"):
            is_taken = self._matches(text, live=live)
            if not self._block(live=is_taken) and is_taken:
                self._state.end(0)
            live = live and not is_taken
            if not self._tokens.take(";;") and self._tokens.next != "esac":
                raise self._tokens.unexpected()
            self._tokens.skip_lines()
        if live:
            self._state.end(0)

    def _matches(self, text: str, *, live: bool) -> bool:
        """Pass over the patterns of a case; returns whether one is an asterisk or this text."""
        self._tokens.take("(")
        words = [self._tokens.word()]
        while self._tokens.take("|"):
            words.append(self._tokens.word())
        self._tokens.expect(")")
        return live and any(word.plain == "*" or self._state.text(word) == text for word in words)

    def _function(self, name: str, *, live: bool) -> None:
        if not _FUNCTION.fullmatch(name) or tokens.BUILTINS.fullmatch(name):
            raise NotUnderstood(f"a function '{name}'")
        if self._tokens.take("("):
            self._tokens.expect(")")
        self._tokens.skip_lines()
        self._tokens.expect("{")
        start = self._tokens.at
        self._body("}", live=False)
        if live:
            self._state.check_change("a function")
            self._functions[name] = start
            self._state.end(0)

    def _double_brackets(self, *, live: bool) -> None:
        """Follow a condition in [[ ]]. Bash refuses a malformed one before it runs anything."""
        left = self._tokens.word()
        sign = self._tokens.take("=~", "==", "!=")
        if not sign or left.plain[:1] in {"-", "!"}:
            raise NotUnderstood("a condition in [[ ]]")
        right = self._tokens.expression() if sign == "=~" else self._tokens.word()
        self._tokens.expect("]]")
        if not live:
            return
        if isinstance(right, str):
            self._state.end(int(not matches(self._state.text(left), right)))
        elif asked := self._asked([plain_word("test"), left, plain_word(sign), right]):
            self._note(asked)
        else:
            self._state.end(int(not condition([self._state.text(left), sign, self._state.text(right)])))

    def _simple(self, *, live: bool) -> None:
        words, redirections = self._tokens.simple_command()
        if self._tokens.next == "(" and len(words) == 1 and not redirections:
            self._function(words[0].plain, live=live)
            return
        self._run.count(len(words))
        if not words:
            raise self._tokens.unexpected()
        if plain_name(words[0].plain) in containers.PRINTING and self._tokens.take("|"):
            self._pipe(words, redirections, live=live)
        elif live:
            _check(redirections)
            self._carry_out(words)

    def _pipe(self, words: list[ShellWord], redirections: list[str], *, live: bool) -> None:
        """Follow a command whose output grep searches."""
        search, others = self._tokens.simple_command()
        self._run.count(len(search))
        names = {word.plain for word in (words[0], *search[:1])}
        if not search or plain_name(search[0].plain) != "grep" or names & self._functions.keys():
            raise NotUnderstood("a pipe to another program than grep")
        if live:
            _check(others)
            found = self._action(self._state.words(words), ["grep", *self._state.words(search[1:])])
            self._note(found if _OF_ERRORS.issuperset(redirections) else None)

    def _only_in_bash(self, text: str) -> None:
        if not self._script.is_bash:
            raise NotUnderstood(f"'{text}', which not every sh has")

    # The commands

    def _carry_out(self, words: list[ShellWord]) -> None:
        program = words[0].plain
        if words[0].assignment:
            self._state.assign(words)
        elif plain_name(program) == "echo" and program not in self._functions:
            self._echo(words[1:])
        elif program == "exit":
            self._exit(words[1:])
        elif asked := self._asked(words):
            self._note(asked)
        else:
            self._program(self._state.words(words))

    def _echo(self, words: list[ShellWord]) -> None:
        """Pass over a message, and the programs whose output it has."""
        for part in (part for word in words for part in word.parts if isinstance(part, Expansion)):
            if part.name.startswith("("):
                self._run.ran.append(None)
            elif part.name != "@":
                self._state.value(part.name)  # with set -u, one without a value ends the script
        self._state.end(0)

    def _program(self, words: list[str]) -> None:
        match words:
            case [name, *arguments] if name in self._functions:
                self._call(self._functions[name], arguments)
            case ["printf", text, *_] if not re.search(r"^-|[%\\]", text):
                self._state.end(0)
            case [":" | "true" | "/bin/true" | "/usr/bin/true", *_]:
                self._state.end(0)
            case ["false" | "/bin/false" | "/usr/bin/false", *_]:
                self._state.end(1)
            case ["[", *arguments, "]"] | ["test", *arguments]:
                if "==" in arguments:
                    self._only_in_bash("==")
                self._state.end(int(not condition(arguments)))
            case ["set", *options] if all(re.fullmatch("-[efux]+", option) for option in options):
                self._state.check_change("'set'")
                self._state.has_errexit |= "e" in "".join(options)
                self._state.end(0)
            case ["shift"] if self._state.arguments:
                self._state.check_change("'shift'")
                del self._state.arguments[0]
                self._state.end(0)
            case [name, *_] if name not in {"[", "printf"} and not tokens.BUILTINS.fullmatch(name):
                self._external(words)
            case _:
                raise NotUnderstood(f"the command '{' '.join(words)}'")

    def _call(self, start: int, arguments: list[str]) -> None:
        """Follow the function whose body is there."""
        after, outside = self._tokens.at, self._state.arguments
        self._tokens.at, self._state.arguments = start, arguments
        self._body("}", live=True)
        self._tokens.at, self._state.arguments = after, outside

    def _exit(self, words: list[ShellWord]) -> NoReturn:
        self._state.check_change("'exit'")
        match words:
            case [] | [ShellWord((Expansion("?"),))]:
                pass
            case [word] if re.fullmatch(r"[0-9]{1,3}", word.plain) and int(word.plain) < 256:
                self._state.status = int(word.plain)
            case _:
                raise NotUnderstood("an argument of 'exit'")
        raise _Ended

    def _asked(self, words: list[ShellWord]) -> Call | None:
        """Return what a condition asks about containers, by the output of a command."""
        text, test = containers.question(words, is_bash=self._script.is_bash)
        self._run.count(len(text))
        inner = Cursor(tokens.read(text))
        command, redirections = inner.simple_command()
        names = {word.plain for word in (words[0], *command[:1])}
        if inner.next or not command or names & self._functions.keys():
            return None
        found = self._action(self._state.words(command), self._state.words(test))
        return found if _OF_ERRORS.issuperset(redirections) else None

    def _action(self, words: list[str], test: Sequence[str] = ()) -> Call | None:
        """Return the action of a program on members, if it does nothing else."""
        user, inner = without_sudo(tuple(words))
        if user not in {"", ROOT}:
            return None
        is_root = bool(user) or self._root
        return (None if test else call(inner)) or containers.call(inner, test, is_root=is_root)

    def _external(self, words: list[str]) -> None:
        """Note what a program does: an action on members, a script that is known, or something else."""
        user, inner = without_sudo(tuple(words))
        found = self._action(words)
        if not found and (called := self._called(inner)):
            inner_root = user == ROOT or (self._root and not user)
            self._state.end(_Shell(self._run, *called, root=inner_root).run())
            return
        self._note(found, is_constant=plain_name(inner[0]) == "gpio" and "read" in inner)

    def _note(self, found: Call | None, *, is_constant: bool = False) -> None:
        self._run.ran.append(found)
        self._state.end(0 if is_constant else frozenset({len(self._run.ran) - 1}))

    def _called(self, words: tuple[str, ...]) -> tuple[Script, tuple[str, ...]] | None:
        """Return the script that a command runs, and its arguments, if that is known."""
        shell = plain_name(words[0]) if plain_name(words[0]) in tokens.SHELLS else ""
        match words[1:] if shell else words:
            case ("-c", text) if shell:
                return Script(shell, tokens.read(text), is_bash=shell == "bash"), ()
            case (path, *arguments) if path in self._run.scripts:
                script = self._run.scripts[path]
                if script.is_bash and shell not in {"", "bash"}:
                    raise NotUnderstood("a script of bash that another shell runs")
                return script, tuple(arguments)
        return None


def _check(redirections: list[str]) -> None:
    if unknown := [text for text in redirections if not _HARMLESS.fullmatch(text)]:
        raise NotUnderstood(f"the redirection '{unknown[0]}'")
