"""Writes the completions for bash, zsh and fish from hkswitch's command line; packaging/stage installs them.

    python release/completions.py FOLDER

Commands and options are written into the scripts, so that completing them starts no program. For groups,
hosts and controllers, the scripts ask hkswitch, and systemctl for units; they accept only what can be such a
name: bash expands what a completion offers, and a hostile daemon could have it run a command.
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
    HOST = auto()
    FREE = auto()


VALUES: Final[Mapping[str, Value]] = {
    "FILE": Value.FILE,
    "CONFIG.JSON": Value.FILE,
    "DIR": Value.FOLDER,
    "GROUP": Value.GROUP,
    "CONTROLLER": Value.CONTROLLER,
    "OLD=COPY": Value.FILE,
    "UNIT": Value.UNIT,
    "HOST": Value.HOST,
    "NAME": Value.FREE,
    "ID": Value.FREE,
    "TYPE": Value.FREE,
    "SENSOR": Value.FREE,
    "PROJECT": Value.FREE,
    "ENGINE": Value.FREE,
    "IP": Value.FREE,
    "N": Value.FREE,
    "DESTINATION": Value.FREE,
    "SHA256": Value.FREE,
    "BRIDGE": Value.FREE,
    "KEY": Value.FREE,
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
    """A command, a group of commands, or the program itself."""

    name: str
    summary: str
    options: tuple[Option, ...]
    argument: Value | None
    repeats: bool
    """Whether the argument may be given several times."""
    commands: tuple["Command", ...] = ()

    def below(self, command: "Command") -> str:
        """Return the words of one of its commands."""
        return f"{self.name} {command.name}"


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
    values = [VALUES[each.make_metavar(context).strip("[].")] for each in arguments]
    offered = [value for value in values if value is not Value.FREE]
    if len(offered) > 1 or offered != values[: len(offered)]:
        raise SystemExit(f"{name} has {len(arguments)} arguments: only the first one can be completed")
    repeats = any(each.nargs == -1 for each in arguments)
    summary = command.get_short_help_str(200).removesuffix(".")
    argument = offered[0] if offered else None
    return Command(name, summary, tuple(options), argument, repeats, tuple(_below(command, context)))


def _below(command: click.Command, context: click.Context) -> Iterator[Command]:
    """Read the commands of a group of commands; there are none of any other command."""
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None  # noqa: S101 -- it is listed
            yield read_command(name, found, context)


def _quoted(text: str) -> str:
    """Quote a word for each of the three shells."""
    return "'" + text.replace("'", """'"'"'""") + "'"


def read_program() -> tuple[Command, tuple[Command, ...]]:
    """Read hkswitch itself and its commands."""
    whole = read_command("hkswitch", program, None)
    return whole, whole.commands


@cache
def scripts() -> dict[str, str]:
    """Return the scripts by the names of their files."""
    whole, commands = read_program()
    return {
        "hkswitch.bash": "\n".join(bash(whole, commands)) + "\n",
        "_hkswitch": "\n".join(zsh(whole)) + "\n",
        "hkswitch.fish": "\n".join(fish(whole, commands)) + "\n",
    }


# bash

_GROUPS = """hkswitch status --json 2>/dev/null | sed -n 's/^      "id": "\\([a-z0-9-]*\\)",$/\\1/p'"""
_HOSTS = """hkswitch host list --json 2>/dev/null | sed -n 's/^      "name": "\\([a-z0-9-]*\\)",$/\\1/p'"""
_CONTROLLERS = """hkswitch pair --list 2>/dev/null | sed -n 's/^\\([0-9A-F-]*\\)  .*/\\1/p'"""
_LISTED = "systemctl list-unit-files --type=service --no-legend --no-pager --plain 2>/dev/null"
_UNITS = f"""{_LISTED} | sed -n 's/^\\([A-Za-z0-9:_.@-]*\\)\\.service .*/\\1/p'"""
_BASH_REPLY: Final = 'mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")'
_BASH_OFFERS: Final = {
    Value.FILE: "compopt -o default",  # of readline: files
    Value.FOLDER: "compopt -o dirnames",
    Value.GROUP: "words=$(_hkswitch_groups)",
    Value.CONTROLLER: "words=$(_hkswitch_controllers)",
    Value.UNIT: "words=$(_hkswitch_units)",
    Value.HOST: "words=$(_hkswitch_hosts)",
}


def bash(whole: Command, commands: Iterable[Command]) -> Iterator[str]:
    """Yield the lines of the completion for bash."""
    yield from ("# shellcheck shell=bash", NOTE, "")
    yield from ("_hkswitch_groups() {", f"    {_GROUPS}", "}", "")
    yield from ("_hkswitch_hosts() {", f"    {_HOSTS}", "}", "")
    yield from ("_hkswitch_controllers() {", f"    {_CONTROLLERS}", "}", "")
    yield from ("_hkswitch_units() {", f"    {_UNITS}", "}", "")
    yield "_hkswitch() {"
    yield '    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} command="" words="" i'
    yield "    COMPREPLY=()"
    yield "    # bash makes --config=FILE three words."
    yield from ("    if [[ $cur == = ]]; then", '        cur=""', "    elif [[ $prev == = ]]; then")
    yield from ("        prev=${COMP_WORDS[COMP_CWORD - 2]}", "    fi", "    case $prev in")
    leaves = [leaf for command in commands for leaf in command.commands or (command,)]
    groups = [command for command in commands if command.commands]
    for value, names in _options_by_value(leaves).items():
        offer = _BASH_OFFERS.get(value)
        lines = [offer] if offer else []
        if value is Value.HOST:  # it has set the words
            lines.append(_BASH_REPLY)
        yield f"        {' | '.join(names)})"
        yield from (f"            {line}" for line in (*lines, "return", ";;"))
    yield from ("    esac", "    for ((i = 1; i < COMP_CWORD; i++)); do")
    yield "        if [[ ${COMP_WORDS[i]} != -* ]]; then"
    yield '            command+="${command:+ }${COMP_WORDS[i]}"'
    yield f"            [[ $command == {'|'.join(group.name for group in groups)} ]] || break"
    yield from ("        fi", "    done", "    case $command:$cur in")
    yield f'        :-*) words="{_long_options(whole)}" ;;'
    yield f'        :*) words="{" ".join(command.name for command in commands)}" ;;'
    for command in commands:
        yield from _bash_cases(command, command.name)
        for below in command.commands:
            yield from _bash_cases(below, f'"{command.below(below)}"')
    yield from ("    esac", f"    {_BASH_REPLY}", "}", "")
    yield "complete -F _hkswitch hkswitch"


def _bash_cases(command: Command, words: str) -> Iterator[str]:
    """Yield what to offer after a command."""
    yield f'        {words}:-*) words="{_long_options(command)}" ;;'
    if command.commands:
        yield f'        {words}:*) words="{" ".join(below.name for below in command.commands)}" ;;'
    elif command.argument:
        yield f"        {words}:*) {_BASH_OFFERS[command.argument]} ;;"


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

_hkswitch_hosts() {{
    [[ $PREFIX != -* ]] || return 1
    local expl
    local -a hosts
    hosts=(${{(f)"$(_call_program hosts {_HOSTS})"}})
    _wanted hosts expl host compadd -a hosts
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
    local -A opt_args"""
_ZSH_DESCRIBE: Final = "_describe -t commands command commands"
_ZSH_OFFERS: Final = {
    Value.FILE: "file:_files",
    Value.FOLDER: "folder:_files -/",
    Value.GROUP: "group:_hkswitch_groups",
    Value.CONTROLLER: "controller:_hkswitch_controllers",
    Value.UNIT: "unit:_hkswitch_units",
    Value.HOST: "host:_hkswitch_hosts",
    Value.FREE: "value: ",
}


def zsh(whole: Command) -> Iterator[str]:
    """Yield the lines of the completion for zsh."""
    yield _ZSH_HEAD
    yield from _zsh_group(whole, "    ")
    yield from ("    return ret", "}", "", '_hkswitch "$@"')


def _zsh_group(group: Command, indent: str) -> Iterator[str]:
    """Yield the lines for a group of commands: the names of those, and what each takes."""
    yield f"{indent}commands=("
    yield from (f"{indent}    {_quoted(f'{each.name}:{_zsh_text(each.summary)}')}" for each in group.commands)
    yield f"{indent})"
    yield from _zsh_arguments(
        indent, ["-C -A '-*'", *_zsh_options(group), "'1:command:->command'", "'*::argument:->argument'"]
    )
    yield from (f"{indent}case $state in", f"{indent}    command) {_ZSH_DESCRIBE} && ret=0 ;;")
    yield from (f"{indent}    argument)", f"{indent}        case $words[1] in")
    for command in group.commands:
        yield f"{indent}            {command.name})"
        if command.commands:
            yield f"{indent}                state="  # of this group
            yield from _zsh_group(command, f"{indent}                ")
        else:
            yield from _zsh_arguments(f"{indent}                ", _zsh_words(command))
        yield f"{indent}                ;;"
    yield from (f"{indent}        esac", f"{indent}        ;;", f"{indent}esac")


def _zsh_words(command: Command) -> list[str]:
    """Return the options and the argument of a command."""
    words = [*_zsh_options(command)]
    if command.argument:
        words.append(_quoted(f"{'*' if command.repeats else '1'}:{_ZSH_OFFERS[command.argument]}"))
    return words


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

function __hkswitch_hosts
    string match --quiet -- '-*' (commandline -ct); and return
    set -l listed (hkswitch host list --json 2>/dev/null)
    string replace --filter --regex '^      "name": "([a-z0-9-]*)",$' '$1' $listed
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

# Whether these are the command of a group and the group; without a command: none yet.
function __hkswitch_subcommand
    set -l words (commandline -opc)
    set -l found (string match --invert -- '-*' $words[2..])
    test "$found[1]" = "$argv[1]"; and test "$found[2]" = "$argv[2]"
end

complete -c hkswitch -f
"""
_FISH_ARGUMENTS: Final = {
    Value.FILE: "-F",
    Value.GROUP: "-a '(__hkswitch_groups)' -d Group",
    Value.CONTROLLER: "-a '(__hkswitch_controllers)' -d Controller",
    Value.UNIT: "-a '(__hkswitch_units)' -d Unit",
    Value.HOST: "-a '(__hkswitch_hosts)' -d Host",
}
_FISH_VALUES: Final = {
    Value.FILE: " -rF",
    Value.FOLDER: " -xa '(__fish_complete_directories)'",
    Value.HOST: " -xa '(__hkswitch_hosts)'",
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
        kind = "subcommand" if command.commands else "command"
        begin = f"complete -c hkswitch -n '__hkswitch_{kind} {command.name}'"
        yield from _fish_command(command, begin)
        yield from (f"{begin} -a {each.name} -d {_quoted(each.summary)}" for each in command.commands)
        for each in command.commands:
            words = command.below(each)
            yield from _fish_command(each, f"complete -c hkswitch -n '__hkswitch_subcommand {words}'")


def _fish_command(command: Command, begin: str) -> Iterator[str]:
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
