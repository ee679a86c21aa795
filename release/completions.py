"""Writes the completions for bash, zsh and fish from hkswitch's command line; packaging/stage installs them.

    python release/completions.py FOLDER

Commands and options are written into the scripts, so that completing them starts no program. For groups and
controllers, the scripts ask hkswitch, and systemctl for units; they accept only what can be such a name: bash
expands what a completion offers, and a hostile daemon could have it run a command.
"""

import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from functools import cache
from pathlib import Path
from typing import Final

import click

from hkswitch.cli.main import commands as program

NOTE: Final = "# Completion of hkswitch(1), made from its command line by release/completions.py."


class Value(Enum):
    """What the value of an option, or an argument, is."""

    FILE = auto()
    FOLDER = auto()
    GROUP = auto()
    CONTROLLER = auto()
    UNIT = auto()
    FREE = auto()


VALUES: Final[Mapping[str, Value]] = {
    "FILE": Value.FILE,
    "CONFIG.JSON": Value.FILE,
    "DIR": Value.FOLDER,
    "GROUP": Value.GROUP,
    "CONTROLLER": Value.CONTROLLER,
    "OLD=COPY": Value.FILE,
    "UNIT": Value.UNIT,
    "NAME": Value.FREE,
    "HOST": Value.FREE,
    "ID": Value.FREE,
    "TYPE": Value.FREE,
    "SENSOR": Value.FREE,
    "PROJECT": Value.FREE,
    "ENGINE": Value.FREE,
    "IP": Value.FREE,
    "N": Value.FREE,
}
"""By the word for it in --help; add a new word here."""

HELP: Final[Mapping[str, str]] = {"--help": "Show help", "--version": "Show the version"}
"""Instead of click's own texts for these options."""


@dataclass(frozen=True, slots=True)
class Option:
    """An option in all its spellings; without a value, it is a flag."""

    names: tuple[str, ...]
    help: str
    value: Value | None

    @property
    def long(self) -> str:
        return self.names[-1]


@dataclass(frozen=True, slots=True)
class Command:
    """A command, or the program itself."""

    name: str
    summary: str
    options: tuple[Option, ...]
    argument: Value | None
    repeats: bool
    """Whether the argument may be given several times."""


def read_command(name: str, command: click.Command, parent: click.Context | None) -> Command:
    """Read the options and the argument of a click command."""
    context = click.Context(command, parent=parent, info_name=name, **command.context_settings)
    options: list[Option] = []
    arguments: list[click.Argument] = []
    for parameter in command.get_params(context):
        if isinstance(parameter, click.Argument):
            arguments.append(parameter)
        elif isinstance(parameter, click.Option) and not parameter.hidden:
            value = None if parameter.is_flag else VALUES[parameter.make_metavar(context)]
            without_default = re.sub(r" \[.*\]$", "", parameter.help or "")
            text = HELP.get(parameter.opts[-1], without_default)
            options.append(Option(tuple(parameter.opts), text, value))
    if len(arguments) > 1:
        raise SystemExit(f"{name} has {len(arguments)} arguments: only one is supported")
    argument = VALUES[arguments[0].make_metavar(context).strip("[].")] if arguments else None
    repeats = any(each.nargs == -1 for each in arguments)
    return Command(name, command.get_short_help_str(200).removesuffix("."), tuple(options), argument, repeats)


def _quoted(text: str) -> str:
    """Quote a word for each of the three shells."""
    return "'" + text.replace("'", """'"'"'""") + "'"


def read_program() -> tuple[Command, tuple[Command, ...]]:
    """Read hkswitch itself and its commands."""
    parent = click.Context(program, info_name="hkswitch", **program.context_settings)
    found = [(name, program.get_command(parent, name)) for name in program.list_commands(parent)]
    return (
        read_command("hkswitch", program, None),
        tuple(read_command(name, command, parent) for name, command in found if command is not None),
    )


@cache
def scripts() -> dict[str, str]:
    """Return the scripts by the names of their files."""
    whole, commands = read_program()
    return {
        "hkswitch.bash": "\n".join(bash(whole, commands)) + "\n",
        "_hkswitch": "\n".join(zsh(whole, commands)) + "\n",
        "hkswitch.fish": "\n".join(fish(whole, commands)) + "\n",
    }


# bash

_GROUPS = """hkswitch status --json 2>/dev/null | sed -n 's/^      "id": "\\([a-z0-9-]*\\)",$/\\1/p'"""
_CONTROLLERS = """hkswitch pair --list 2>/dev/null | sed -n 's/^\\([0-9A-F-]*\\)  .*/\\1/p'"""
_LISTED = "systemctl list-unit-files --type=service --no-legend --no-pager --plain 2>/dev/null"
_UNITS = f"""{_LISTED} | sed -n 's/^\\([A-Za-z0-9:_.@-]*\\)\\.service .*/\\1/p'"""
_BASH_OFFERS: Final = {
    Value.FILE: "compopt -o default",  # of readline: files
    Value.FOLDER: "compopt -o dirnames",
    Value.GROUP: "words=$(_hkswitch_groups)",
    Value.CONTROLLER: "words=$(_hkswitch_controllers)",
    Value.UNIT: "words=$(_hkswitch_units)",
}


def bash(whole: Command, commands: Iterable[Command]) -> Iterator[str]:
    """Yield the lines of the completion for bash."""
    yield from ("# shellcheck shell=bash", NOTE, "")
    yield from ("_hkswitch_groups() {", f"    {_GROUPS}", "}", "")
    yield from ("_hkswitch_controllers() {", f"    {_CONTROLLERS}", "}", "")
    yield from ("_hkswitch_units() {", f"    {_UNITS}", "}", "")
    yield "_hkswitch() {"
    yield '    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} command="" words="" i'
    yield "    COMPREPLY=()"
    yield "    # bash makes --config=FILE three words."
    yield from ("    if [[ $cur == = ]]; then", '        cur=""', "    elif [[ $prev == = ]]; then")
    yield from ("        prev=${COMP_WORDS[COMP_CWORD - 2]}", "    fi", "    case $prev in")
    for value, names in _options_by_value(commands).items():
        offer = _BASH_OFFERS.get(value)
        yield f"        {' | '.join(names)})"
        yield from (f"            {line}" for line in ([offer] if offer else []) + ["return", ";;"])
    yield from ("    esac", "    for ((i = 1; i < COMP_CWORD; i++)); do")
    yield from ("        if [[ ${COMP_WORDS[i]} != -* ]]; then", "            command=${COMP_WORDS[i]}")
    yield from ("            break", "        fi", "    done", "    case $command:$cur in")
    yield f'        :-*) words="{_long_options(whole)}" ;;'
    yield f'        :*) words="{" ".join(command.name for command in commands)}" ;;'
    for command in commands:
        yield f'        {command.name}:-*) words="{_long_options(command)}" ;;'
        if command.argument:
            yield f"        {command.name}:*) {_BASH_OFFERS[command.argument]} ;;"
    yield from ("    esac", '    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")', "}", "")
    yield "complete -F _hkswitch hkswitch"


def _options_by_value(commands: Iterable[Command]) -> dict[Value, list[str]]:
    """All options that have a value; one of several commands has the same kind of value in each."""
    kinds = {
        name: option.value
        for command in commands
        for option in command.options
        if option.value
        for name in option.names
    }
    return {
        value: [name for name, kind in kinds.items() if kind is value]
        for value in dict.fromkeys(kinds.values())
    }


def _long_options(command: Command) -> str:
    return " ".join(option.long for option in command.options)


# zsh

_ZSH_HEAD: Final = f"""\
#compdef hkswitch
{NOTE}

_hkswitch_groups() {{
    [[ $PREFIX != -* ]] || return 1
    local expl
    local -a groups
    groups=(${{(f)"$(_call_program groups {_GROUPS})"}})
    _wanted groups expl group compadd -a groups
}}

_hkswitch_controllers() {{
    [[ $PREFIX != -* ]] || return 1
    local expl
    local -a controllers
    controllers=(${{(f)"$(_call_program controllers {_CONTROLLERS})"}})
    _wanted controllers expl controller compadd -a controllers
}}

_hkswitch_units() {{
    [[ $PREFIX != -* ]] || return 1
    local expl
    local -a units
    units=(${{(f)"$(_call_program units {_UNITS})"}})
    _wanted units expl unit compadd -a units
}}

_hkswitch() {{
    local curcontext=$curcontext state ret=1
    local -a commands line
    local -A opt_args
    commands=("""
_ZSH_OFFERS: Final = {
    Value.FILE: "file:_files",
    Value.FOLDER: "folder:_files -/",
    Value.GROUP: "group:_hkswitch_groups",
    Value.CONTROLLER: "controller:_hkswitch_controllers",
    Value.UNIT: "unit:_hkswitch_units",
    Value.FREE: "value: ",
}


def zsh(whole: Command, commands: Iterable[Command]) -> Iterator[str]:
    """Yield the lines of the completion for zsh."""
    yield _ZSH_HEAD
    yield from (f"        {_quoted(f'{each.name}:{_zsh_text(each.summary)}')}" for each in commands)
    yield "    )"
    yield from _zsh_arguments(
        "    ", ["-C -A '-*'", *_zsh_options(whole), "'1:command:->command'", "'*::argument:->argument'"]
    )
    yield from ("    case $state in", "        command) _describe -t commands command commands && ret=0 ;;")
    yield from ("        argument)", "            case $words[1] in")
    for command in commands:
        argument = (
            f"{'*' if command.repeats else '1'}:{_ZSH_OFFERS[command.argument]}" if command.argument else ""
        )
        yield f"                {command.name})"
        yield from _zsh_arguments(
            " " * 20, [*_zsh_options(command), *([_quoted(argument)] if argument else [])]
        )
        yield "                    ;;"
    yield from ("            esac", "            ;;", "    esac", "    return ret", "}", "", '_hkswitch "$@"')


def _zsh_arguments(indent: str, words: list[str]) -> Iterator[str]:
    lines = [f"{indent}_arguments {words[0]}", *(f"{indent}    {word}" for word in words[1:])]
    yield from (f"{line} \\" for line in lines[:-1])
    yield f"{lines[-1]} && ret=0"


def _zsh_options(command: Command) -> Iterator[str]:
    for option in command.options:
        text = f"[{_zsh_text(option.help)}]" + (f":{_ZSH_OFFERS[option.value]}" if option.value else "")
        names = [_zsh_name(name, option.value) for name in option.names]
        others = option.names if len(names) > 1 else ()
        excludes = "(- *)" if option.long in HELP else f"({' '.join(others)})" if others else ""
        if not others:
            yield _quoted(f"{excludes}{names[0]}{text}")
        else:
            yield f"{_quoted(excludes)}{{{','.join(names)}}}{_quoted(text)}"


def _zsh_name(name: str, value: Value | None) -> str:
    """An option as _arguments has it: its value may follow after `=`, or at once after a single letter."""
    if value is None:
        return name
    return f"{name}=" if name.startswith("--") else f"{name}+"


def _zsh_text(text: str) -> str:
    return re.sub(r"([\[\]:\\])", r"\\\1", text)


# fish

_FISH_HEAD: Final = f"""\
{NOTE}

function __hkswitch_groups
    string match --quiet -- '-*' (commandline -ct); and return
    hkswitch status --json 2>/dev/null | string replace --filter --regex '^      "id": "([a-z0-9-]*)",$' '$1'
end

function __hkswitch_controllers
    string match --quiet -- '-*' (commandline -ct); and return
    hkswitch pair --list 2>/dev/null | string replace --filter --regex '^([0-9A-F-]*)  .*' '$1'
end

function __hkswitch_units
    string match --quiet -- '-*' (commandline -ct); and return
    {_LISTED} | string replace --filter --regex '^([A-Za-z0-9:_.@-]*)\\.service .*' '$1'
end

# Whether the command, the first word that is not an option, is one of these; without arguments: none yet.
function __hkswitch_command
    set -l words (commandline -opc)
    set -l command (string match --invert -- '-*' $words[2..])[1]
    contains -- "$command" $argv; or test -z "$command$argv"
end

complete -c hkswitch -f
"""
_FISH_ARGUMENTS: Final = {
    Value.FILE: "-F",
    Value.GROUP: "-a '(__hkswitch_groups)' -d Group",
    Value.CONTROLLER: "-a '(__hkswitch_controllers)' -d Controller",
    Value.UNIT: "-a '(__hkswitch_units)' -d Unit",
}
_FISH_VALUES: Final = {
    Value.FILE: " -rF",
    Value.FOLDER: " -xa '(__fish_complete_directories)'",
    Value.FREE: " -x",
    None: "",
}


def fish(whole: Command, commands: Iterable[Command]) -> Iterator[str]:
    """Yield the lines of the completion for fish."""
    yield _FISH_HEAD
    begin = "complete -c hkswitch -n __hkswitch_command"
    yield from (f"{begin} {_fish_option(option)}" for option in whole.options)
    yield from (f"{begin} -a {each.name} -d {_quoted(each.summary)}" for each in commands)
    for command in commands:
        begin = f"complete -c hkswitch -n '__hkswitch_command {command.name}'"
        yield ""
        if command.argument:
            yield f"{begin} {_FISH_ARGUMENTS[command.argument]}"
        yield from (f"{begin} {_fish_option(option)}" for option in command.options)


def _fish_option(option: Option) -> str:
    names = " ".join(f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}" for name in option.names)
    return f"{names}{_FISH_VALUES[option.value]} -d {_quoted(option.help)}"


def main() -> None:
    """Write the scripts into a folder."""
    folder = Path(sys.argv[1])
    for name, text in scripts().items():
        (folder / name).write_text(text)


if __name__ == "__main__":
    main()
