"""`hkswitch check`: validates the configuration.

It also warns about dangerous units, and about users and directories that this machine lacks.
"""

from collections.abc import Iterator
from pathlib import Path

import click

from hkswitch.cli.layout import say
from hkswitch.cli.options import config_option, examples
from hkswitch.model import machine
from hkswitch.model.config import Config, parse
from hkswitch.model.config_file import config_bytes
from hkswitch.model.dangerous_units import entries_of, warnings
from hkswitch.model.errors import Problem
from hkswitch.model.yaml_nodes import read


@click.command(epilog=examples("hkswitch check", "hkswitch check --config new.yaml"))
@config_option
def check(config_file: Path) -> None:
    """Validate the configuration.

    Also warns about units that would cut off hkswitch or the machine when switched, about misspelt suffixes,
    and about users and directories that do not exist on this machine.
    """
    contents = config_bytes(config_file)
    config = parse(contents, str(config_file))
    for found in sorted((*warnings(contents, config), *_missing(contents, config))):
        # As compilers print them, so that editors can jump there.
        place = f"{config_file}:{found.line}:{found.column}"
        say(f"{place}: warning: {found.path}: {found.message}", err=True)
    say("configuration OK")


def _missing(contents: bytes, config: Config) -> Iterator[Problem]:
    """Yield the users and directories of groups that this machine does not have."""
    groups = entries_of(entries_of(read(contents, []))["groups"])
    for group in config.groups:
        keys = entries_of(groups[group.id])
        if group.user and (why := machine.why_no_user(group.user)):
            yield keys["user"].position.problem(why)
        if group.directory and (why := machine.why_no_directory(group.directory)):
            yield keys["directory"].position.problem(why)
