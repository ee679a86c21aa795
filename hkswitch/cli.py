"""The command line: every command's options, one sentence and an exit code for every failure.

Imports of rooms are inside the commands, so that `hkswitch check` does not wait for HomeKit.
"""

import asyncio
import json
import os
import sys
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Final

import click

from hkswitch import __version__, configfile
from hkswitch.core.errors import ConfigError, Exit, Failure

STATE_FOLDER: Final = Path("/var/lib/hkswitch")


@dataclass(eq=False)
class NoBridgeYet(Failure):
    """There is no state file to show."""

    folder: Path

    def __str__(self) -> str:
        return (
            f"there is no bridge in {self.folder} yet: start hkswitch.service first, or name its --state-dir"
        )


_config_option = click.option(
    "--config",
    "config_file",
    type=click.Path(readable=False, path_type=Path),
    default=configfile.DEFAULT,
    metavar="FILE",
    help=f"The configuration [{configfile.DEFAULT}]",
)
_state_option = click.option(
    "--state-dir",
    "state_folder",
    type=click.Path(readable=False, path_type=Path),
    default=STATE_FOLDER,
    metavar="DIR",
    help=f"The folder with the bridge's keys and pairings [{STATE_FOLDER}]",
)
_json_option = click.option("--json", "as_json", is_flag=True, help="For programs, not for people")


def main() -> None:
    """Run the command line and exit."""
    try:
        sys.exit(commands.main(standalone_mode=False))
    except (OSError, UnicodeError) as error:
        _say_without_output(error)
        sys.exit(Exit.OUTPUT)
    except Failure as failure:
        # A config's problems begin with its name, as compilers do it, so that editors can jump there.
        click.echo(str(failure) if isinstance(failure, ConfigError) else f"hkswitch: {failure}", err=True)
        sys.exit(failure.exit_code)
    except click.exceptions.Exit as ended:
        sys.exit(ended.exit_code)
    except click.ClickException as misuse:
        misuse.show()
        sys.exit(Exit.USAGE)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)


def _an_address(context: click.Context, option: click.Parameter, text: str | None) -> str | None:
    if text is not None:
        try:
            ip_address(text)
        except ValueError:
            raise click.BadParameter(f"{text!r} is not an IPv4 or IPv6 address", context, option) from None
    return text


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="hkswitch", message="%(prog)s %(version)s")
def commands() -> None:
    """Apple Home switches for groups of systemd services."""


@commands.command()
@_config_option
@_state_option
def run(config_file: Path, state_folder: Path) -> None:
    """Serve the bridge; hkswitch.service runs this."""
    from hkswitch import daemon, logs

    logs.begin(os.environ)
    asyncio.run(daemon.run(config_file, state_folder))


@commands.command()
@click.option(
    "--config",
    "config_file",
    type=click.Path(readable=False, path_type=Path),
    metavar="FILE",
    help="Groups to simulate [the three of the example]",
)
@click.option(
    "--address", metavar="IP", callback=_an_address, help="Where to serve [the default route's address]"
)
@click.option("--port", type=click.IntRange(1024, 65535), metavar="N", help="[51826]")
@click.option(
    "--state-dir",
    "state_folder",
    type=click.Path(readable=False, path_type=Path),
    metavar="DIR",
    help="Where keys and pairings are kept [~/.local/state/hkswitch-demo]",
)
def demo(config_file: Path | None, address: str | None, port: int | None, state_folder: Path | None) -> None:
    """Serve a bridge with simulated units, to pair with and to switch."""
    from hkswitch import demo, logs

    logs.begin({})
    asyncio.run(demo.run(config_file, address, port, state_folder))


@commands.command()
@_config_option
def check(config_file: Path) -> None:
    """Check the configuration."""
    configfile.read(config_file)
    click.echo("configuration OK")


@commands.command()
@_state_option
@_json_option
def pair(state_folder: Path, *, as_json: bool) -> None:
    """Show what a phone needs to pair: the setup code and its QR code."""
    from hkswitch.homekit import pairing, statefile

    stored = statefile.read(state_folder / statefile.FILE_NAME)
    if stored is None:
        raise NoBridgeYet(state_folder)
    if as_json:
        click.echo(
            json.dumps(
                {
                    "paired": stored.paired,
                    "device_id": stored.device_id,
                    "setup_code": stored.setup.code,
                    "setup_payload": stored.setup.payload,
                }
            )
        )
    elif stored.paired:
        click.echo(
            f"Already paired. To let others in, share the home in the Home app. Code: {stored.setup.code}"
        )
    else:
        click.echo(pairing.invitation(stored.setup))


@commands.command()
@_config_option
@_json_option
def status(config_file: Path, *, as_json: bool) -> None:
    """Show the state of each group and of its units."""
    from rich.console import Console

    from hkswitch import status

    config = configfile.read(config_file)
    states = asyncio.run(status.read(config))
    if as_json:
        click.echo(status.as_json(config, states))
    else:
        terminal = sys.stdout.isatty()
        status.show(config, states, Console(highlight=False, width=None if terminal else 1000))


def _say_without_output(error: OSError | UnicodeError) -> None:
    """Standard output is closed, full, or speaks no Unicode; whoever closed a pipe wants no words."""
    if not isinstance(error, BrokenPipeError):
        click.echo(f"hkswitch: cannot write to standard output: {error}", err=True)
    sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115 -- what is left in its buffer has nowhere to go
