"""The command line as click defines it, for comparison with the man page and the completions."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import click

from hkswitch.cli.help_pages import HelpContext
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
    """Return the commands by name; one of a group has the name of its group first, as in `host add`."""
    return {name: _seen(command(name), context(name)) for name in _names(_parent(), program)}


def top_level() -> list[str]:
    """Return the commands and groups of commands that the program lists."""
    return program.list_commands(_parent())


def command(name: str) -> click.Command:
    """Return a command by its name."""
    return context(name).command


def context(name: str) -> click.Context:
    """Return the context in which a command runs, below that of its group."""
    found = _parent()
    for word in name.split():
        assert isinstance(found.command, click.Group)
        below = found.command.get_command(found, word)
        assert below is not None
        found = HelpContext(below, parent=found, info_name=word)
    return found


def summary(name: str) -> str:
    """Return what the list of commands says of one."""
    *_, last = name.split()
    parent = context(name).parent
    assert parent is not None
    assert isinstance(parent.command, click.Group)
    return parent.command.commands[last].short_help or ""


def parse(words: Sequence[str]) -> None:
    """Parse a command line as the program would, without running it; raises `click.UsageError`."""
    found, rest = _parent(), list(words)
    while isinstance(found.command, click.Group):
        name, below, rest = found.command.resolve_command(found, rest)
        assert below is not None
        if isinstance(below, click.Group):
            found = click.Context(below, parent=found, info_name=name)
        else:
            found = below.make_context(name, rest, parent=found)


def _names(parent: click.Context, group: click.Group, before: str = "") -> Iterator[str]:
    for name in group.list_commands(parent):
        found = group.get_command(parent, name)
        if isinstance(found, click.Group):
            yield from _names(click.Context(found, parent=parent, info_name=name), found, f"{before}{name} ")
        else:
            yield f"{before}{name}"


def examples(of: click.Command) -> list[str]:
    """Return the command lines at the end of a command's help."""
    title, *lines = (of.epilog or "").removeprefix("\b\n").splitlines()
    assert title == "Examples:"
    return [line.strip() for line in lines]


def _parent() -> click.Context:
    return click.Context(program, info_name="hkswitch", **program.context_settings)


def _seen(of: click.Command, within: click.Context) -> CommandSeen:
    options: dict[str, str] = {}
    arguments: list[str] = []
    for parameter in of.get_params(within):
        if isinstance(parameter, click.Option) and not parameter.hidden:
            value = "" if parameter.is_flag else parameter.make_metavar(within)
            options |= dict.fromkeys((*parameter.opts, *parameter.secondary_opts), value)
        elif isinstance(parameter, click.Argument):
            arguments.append(parameter.make_metavar(within))
    return CommandSeen(options, tuple(arguments))
