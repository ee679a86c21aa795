"""`hkswitch check`: validates the configuration.

It also warns about dangerous units, about users and directories that this machine lacks, and about programs
that root does not trust.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import click

from hkswitch.cli.layout import say
from hkswitch.cli.options import config_option, examples
from hkswitch.model import machine
from hkswitch.model.config import Config, parse
from hkswitch.model.config_file import config_bytes
from hkswitch.model.dangerous_units import entries_of, warnings
from hkswitch.model.errors import Problem
from hkswitch.model.group import Group
from hkswitch.model.yaml_nodes import Node, Position, Scalar, Sequence, read


@click.command(epilog=examples("hkswitch check", "hkswitch check --config new.yaml"))
@config_option
def check(config_file: Path) -> None:
    """Validate the configuration.

    Also warns about units that would cut off hkswitch or the machine when switched, about misspelt suffixes,
    about users and directories that do not exist on this machine, and about programs that root would run
    although other users can write them.
    """
    contents = config_bytes(config_file)
    config = parse(contents, str(config_file))
    for found in sorted((*warnings(contents, config), *_of_machine(contents, config))):
        # As compilers print them, so that editors can jump there.
        place = f"{config_file}:{found.line}:{found.column}"
        say(f"{place}: warning: {found.path}: {found.message}", err=True)
    say("configuration OK")


def _of_machine(contents: bytes, config: Config) -> Iterator[Problem]:
    """Yield what keeps this machine from running the commands of groups."""
    groups = entries_of(entries_of(read(contents, []))["groups"])
    for group in config.groups:
        keys = entries_of(groups[group.id])
        yield from _missing(group, keys)
        if group.check or group.commands:
            yield from _refused(group, keys)


def _missing(group: Group, keys: Mapping[str, Node]) -> Iterator[Problem]:
    """Yield the user and the directory of a group that this machine does not have."""
    if group.user and (why := machine.why_no_user(group.user)):
        yield keys["user"].position.problem(why)
    if why := machine.why_no_working_directory(group):
        yield keys["directory" if group.directory else "user"].position.problem(why)


def _refused(group: Group, keys: Mapping[str, Node]) -> Iterator[Problem]:
    """Yield the user and the programs of a group that exist, and that the helper refuses."""
    from hkswitch.doctor import refused_programs as refused  # noqa: PLC0415 -- not for groups of units

    if (refusal := refused.why_no_user(group)) and not machine.why_no_user(group.user):
        yield keys["user"].position.problem(str(refusal))
    programs = dict.fromkeys(refused.programs_of_root(group))
    commands = entries_of(keys["commands"]) if group.commands else {"check": keys["check"]}
    for program, place in _programs(commands.values()):
        if programs.pop(program, ...) is None and (why := _why_refused(program)):
            yield place.problem(why)


def _programs(commands: Iterable[Node]) -> Iterator[tuple[str, Position]]:
    for command in commands:
        match command:
            case Sequence(items=(Scalar(text=program, position=place), *_)):
                yield program, place


def _why_refused(program: str) -> str:
    """Return why root does not trust a program; empty if it does, is not here, or if only root can tell."""
    from hkswitch.doctor import refused_programs as refused  # noqa: PLC0415 -- as above

    with suppress(OSError):
        if Path(program).exists() and (refusal := refused.why_no_program(program)):
            return "" if refused.is_permission_denied(refusal) else str(refusal)
    return ""
