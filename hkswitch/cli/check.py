"""`hkswitch check`: validates the configuration, and warns about units that are dangerous to switch."""

from pathlib import Path

import click

from hkswitch.cli.options import config_option, examples
from hkswitch.model.config import parse
from hkswitch.model.config_file import config_bytes
from hkswitch.model.dangerous_units import warnings


@click.command(epilog=examples("hkswitch check", "hkswitch check --config new.yaml"))
@config_option
def check(config_file: Path) -> None:
    """Validate the configuration.

    Also warns about units that would cut off hkswitch or the machine when switched, and about misspelt
    suffixes.
    """
    contents = config_bytes(config_file)
    for found in warnings(contents, parse(contents, str(config_file))):
        # As compilers print them, so that editors can jump there.
        place = f"{config_file}:{found.line}:{found.column}"
        click.echo(f"{place}: warning: {found.path}: {found.message}", err=True)
    click.echo("configuration OK")
