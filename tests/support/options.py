"""The command line as click has it: what the man page and the completions must say."""

from collections.abc import Sequence
from dataclasses import dataclass

import click

from hkswitch.cli.main import commands as program


@dataclass(frozen=True)
class CommandSeen:
    """A command. Its options are by each spelling, with the word for their value, or nothing for a flag."""

    options: dict[str, str]
    arguments: tuple[str, ...]

    @property
    def long_options(self) -> set[str]:
        return {option for option in self.options if option.startswith("--")}

    @property
    def with_value(self) -> dict[str, bool]:
        """Whether an option has a value."""
        return {option: bool(value) for option, value in self.options.items()}


def program_seen() -> CommandSeen:
    """hkswitch itself, without a command."""
    return _seen(program, click.Context(program, info_name="hkswitch", **program.context_settings))


def commands_seen() -> dict[str, CommandSeen]:
    """Every command by its name."""
    return {name: _seen(command(name), _context(name)) for name in program.list_commands(_parent())}


def command(name: str) -> click.Command:
    """A command by its name."""
    found = program.get_command(_parent(), name)
    assert found is not None
    return found


def parse(words: Sequence[str]) -> None:
    """Take a command and its arguments as the program would, and run nothing; raises `click.UsageError`."""
    name, *arguments = words
    _, found, _ = program.resolve_command(_parent(), [name])
    assert found is not None
    found.make_context(name, arguments, parent=_parent())


def examples(of: click.Command) -> list[str]:
    """The command lines at the end of a command's help."""
    title, *lines = (of.epilog or "").removeprefix("\b\n").splitlines()
    assert title == "Examples:"
    return [line.strip() for line in lines]


def _parent() -> click.Context:
    return click.Context(program, info_name="hkswitch", **program.context_settings)


def _context(name: str) -> click.Context:
    return click.Context(command(name), parent=_parent(), info_name=name)


def _seen(of: click.Command, context: click.Context) -> CommandSeen:
    options: dict[str, str] = {}
    arguments: list[str] = []
    for parameter in of.get_params(context):
        if isinstance(parameter, click.Option) and not parameter.hidden:
            value = "" if parameter.is_flag else parameter.make_metavar(context)
            options |= dict.fromkeys((*parameter.opts, *parameter.secondary_opts), value)
        elif isinstance(parameter, click.Argument):
            arguments.append(parameter.make_metavar(context))
    return CommandSeen(options, tuple(arguments))
