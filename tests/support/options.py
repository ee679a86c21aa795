"""The command line as click defines it, for comparison with the man page and the completions."""

from collections.abc import Sequence
from dataclasses import dataclass

import click

from hkswitch.cli.main import commands as program


@dataclass(frozen=True)
class CommandSeen:
    """A command. `options` maps each spelling to the name of its value, empty for a flag."""

    options: dict[str, str]
    arguments: tuple[str, ...]

    @property
    def long_options(self) -> set[str]:
        return {option for option in self.options if option.startswith("--")}

    @property
    def with_value(self) -> dict[str, bool]:
        """Return for each option whether it takes a value."""
        return {option: bool(value) for option, value in self.options.items()}


def program_seen() -> CommandSeen:
    """Return hkswitch itself, without a command."""
    return _seen(program, click.Context(program, info_name="hkswitch", **program.context_settings))


def commands_seen() -> dict[str, CommandSeen]:
    """Return the commands by name."""
    return {name: _seen(command(name), _context(name)) for name in program.list_commands(_parent())}


def command(name: str) -> click.Command:
    """Return a command by its name."""
    found = program.get_command(_parent(), name)
    assert found is not None
    return found


def parse(words: Sequence[str]) -> None:
    """Parse a command line as the program would, without running it; raises `click.UsageError`."""
    name, *arguments = words
    _, found, _ = program.resolve_command(_parent(), [name])
    assert found is not None
    found.make_context(name, arguments, parent=_parent())


def examples(of: click.Command) -> list[str]:
    """Return the command lines at the end of a command's help."""
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
