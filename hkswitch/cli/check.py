"""`hkswitch check`: validates the configuration.

It also warns about dangerous units, and about units, users and directories that this machine lacks.
"""

from collections.abc import Iterator
from pathlib import Path

import click

from hkswitch.cli.options import config_option, examples
from hkswitch.model import machine
from hkswitch.model.config import Config, parse
from hkswitch.model.config_file import config_bytes
from hkswitch.model.dangerous_units import entries_of, warnings
from hkswitch.model.errors import Problem
from hkswitch.model.misspelt_suffixes import unit_meant
from hkswitch.model.yaml_nodes import Sequence, read
from hkswitch.unit_names import systemctl


@click.command(epilog=examples("hkswitch check", "hkswitch check --config new.yaml"))
@config_option
def check(config_file: Path) -> None:
    """Validate the configuration.

    Also warns about units that would cut off hkswitch or the machine when switched, about misspelt suffixes,
    and about units, users and directories that do not exist on this machine.
    """
    contents = config_bytes(config_file)
    print_warnings(contents, parse(contents, str(config_file)), config_file)
    click.echo("configuration OK")


def print_warnings(contents: bytes, config: Config, config_file: Path) -> None:
    """Print the warnings about a valid config on standard error, in the order of the file."""
    found = (*warnings(contents, config), *_missing(contents, config), *_missing_units(contents, config))
    for warning in sorted(found):
        # As compilers print them, so that editors can jump there.
        place = f"{config_file}:{warning.line}:{warning.column}"
        click.echo(f"{place}: warning: {warning.path}: {warning.message}", err=True)


def _missing(contents: bytes, config: Config) -> Iterator[Problem]:
    """Yield the users and directories of groups that this machine does not have."""
    groups = entries_of(entries_of(read(contents, []))["groups"])
    for group in config.groups:
        keys = entries_of(groups[group.id])
        if group.user and (why := machine.why_no_user(group.user)):
            yield keys["user"].position.problem(why)
        if group.directory and (why := machine.why_no_directory(group.directory)):
            yield keys["directory"].position.problem(why)


def _missing_units(contents: bytes, config: Config) -> Iterator[Problem]:
    """Yield the units that systemd does not find, where it is running."""
    missing = systemctl.missing(unit for group in config.groups for unit in group.units)
    hints = systemctl.hints(missing)
    groups = entries_of(entries_of(read(contents, []))["groups"]) if missing else {}
    for group in config.groups if missing else ():
        units = entries_of(groups[group.id]).get("units")
        for index, unit in enumerate(group.units):
            if unit in missing and not unit_meant(unit) and isinstance(units, Sequence):
                hint = f"; {hints[unit]}" if unit in hints else ""
                yield units.items[index].position.problem(f"{unit} does not exist{hint}")
