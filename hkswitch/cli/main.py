"""The command line: every command and its options.

Imports of rooms are inside the commands, so that `hkswitch check` does not wait for HomeKit.
"""

import gc
import os
import sys
from collections.abc import Coroutine, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

import click

from hkswitch import __version__
from hkswitch.cli.options import (
    a_folder,
    an_address,
    config_option,
    examples,
    exclude_one_another,
    json_option,
    picture_option,
    state_option,
)

if TYPE_CHECKING:
    from rich.console import Console

    from hkswitch.cli.status import Seen

STANDARD_OUTPUT: Final = Path("-")

_Answer = TypeVar("_Answer")


@click.group(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=examples("hkswitch status", "sudo hkswitch restart fileserver", "sudo hkswitch pair"),
)
@click.version_option(__version__, prog_name="hkswitch", message="%(prog)s %(version)s")
def commands() -> None:
    """Apple Home switches for groups of systemd services."""


@commands.command(epilog=examples("sudo systemctl start hkswitch", "journalctl -u hkswitch"))
@config_option
@state_option
@click.option(
    "--verbose",
    is_flag=True,
    envvar="HKSWITCH_DEBUG",
    show_envvar=True,
    help="Write the debug log: requests, events and states, without secrets",
)
def run(config_file: Path, state_folder: Path, *, verbose: bool) -> None:
    """Serve the bridge; hkswitch.service runs this.

    SIGUSR1 turns the debug log on and off: `systemctl kill --kill-whom=main -s USR1 hkswitch`.
    """
    from hkswitch.daemon import logs, service

    logs.begin(os.environ, verbose=verbose)
    _in_a_loop(service.run(config_file, state_folder))


@commands.command(epilog=examples("hkswitch demo", "hkswitch demo --address 192.168.1.10 --port 51827"))
@click.option(
    "--config",
    "config_file",
    type=click.Path(readable=False, path_type=Path),
    metavar="FILE",
    help="Groups to simulate [the three of the example]",
)
@click.option(
    "--address", metavar="IP", callback=an_address, help="Where to serve [the default route's address]"
)
@click.option("--port", type=click.IntRange(1024, 65535), metavar="N", help="[51826]")
@click.option(
    "--state-dir",
    "state_folder",
    type=click.Path(readable=False, path_type=Path),
    callback=a_folder,
    metavar="DIR",
    help="Where keys and pairings are kept [~/.local/state/hkswitch-demo]",
)
def demo(config_file: Path | None, address: str | None, port: int | None, state_folder: Path | None) -> None:
    """Serve a bridge with simulated units.

    Pair with it and switch: no real unit is touched.
    """
    from hkswitch.cli import demo
    from hkswitch.daemon import logs

    logs.begin({}, every_state=True)
    _in_a_loop(demo.run(config_file, address, port, state_folder))


@commands.command(epilog=examples("hkswitch check", "hkswitch check --config new.yaml"))
@config_option
def check(config_file: Path) -> None:
    """Check the configuration.

    Warns of units that cut off hkswitch or the machine when they are switched.
    """
    from hkswitch.cli import check

    for warning in check.check(config_file):
        click.echo(warning, err=True)
    click.echo("configuration OK")


@commands.command(epilog=examples("sudo hkswitch reload"))
@state_option
def reload(state_folder: Path) -> None:
    """Apply the configuration without a restart.

    A configuration with mistakes changes nothing. `systemctl reload hkswitch` does the same.
    """
    from hkswitch.cli import reload

    note = reload.reload(state_folder)
    click.echo(f"reloaded: {note}" if note else "reloaded")


@commands.command(
    epilog=examples("sudo hkswitch pair", "sudo hkswitch pair --svg code.svg", "hkswitch pair --list")
)
@state_option
@json_option
@click.option("--list", "listed", is_flag=True, help="Show the controllers that are paired")
@click.option("--reset-attempts", is_flag=True, help="Allow pairing again after 100 failed attempts")
@picture_option("png")
@picture_option("svg")
def pair(  # noqa: PLR0913 -- one for each option
    state_folder: Path,
    *,
    as_json: bool,
    listed: bool,
    reset_attempts: bool,
    png: Path | None,
    svg: Path | None,
) -> None:
    """Show the setup code and its QR code.

    It is what a phone needs to pair. Asks the daemon if it runs, and reads its state folder if not. The setup
    code is for root and for members of the group hkswitch; any local user may ask the service who is paired.
    """
    from hkswitch.cli import pair

    actions = {"--reset-attempts": reset_attempts, "--png": png, "--svg": svg}
    exclude_one_another(actions | {"--list": listed})
    exclude_one_another(actions | {"--json": as_json})
    if listed:
        paired = pair.controllers(state_folder)
        click.echo(pair.listed_as_json(paired) if as_json else pair.listed(paired))
    elif reset_attempts:
        click.echo(pair.reset_attempts(state_folder))
    elif (path := png or svg) is not None:
        setup = pair.setup_info(state_folder)
        contents = pair.picture(setup, "svg" if png is None else "png")
        if path == STANDARD_OUTPUT:
            click.echo(contents, nl=False)
        else:
            pair.write_picture(path, contents)
            click.echo(f"{path} is readable by its owner alone: it holds the setup code.")
        if why := pair.of_no_use(setup, state_folder):
            click.echo(why, err=True)
    else:
        setup = pair.setup_info(state_folder)
        click.echo(pair.setup_as_json(setup) if as_json else pair.shown(setup, state_folder))


@commands.command(epilog=examples("sudo hkswitch unpair 3C7A", "sudo hkswitch unpair --all"))
@state_option
@click.argument("controller", required=False)
@click.option("--all", "everybody", is_flag=True, help="Remove every controller")
def unpair(state_folder: Path, controller: str | None, *, everybody: bool) -> None:
    """Remove the pairing of a controller.

    This is for a phone that was lost. CONTROLLER is an ID of `hkswitch pair --list`, or the beginning of one;
    without it, the only one there is. With the last admin, all others are removed too. Homes that had the
    bridge show it as not responding until it is removed there.
    """
    from hkswitch.cli import pair

    exclude_one_another({"CONTROLLER": controller is not None, "--all": everybody})
    click.echo(pair.unpair(state_folder, controller, everybody=everybody))


@commands.command(epilog=examples("hkswitch status", "hkswitch status web", "hkswitch status --watch"))
@click.argument("groups", nargs=-1, metavar="[GROUP]...")
@config_option
@state_option
@json_option
@click.option("--watch", "watched", is_flag=True, help="Show it again after each change, until Ctrl-C")
def status(
    groups: tuple[str, ...], config_file: Path, state_folder: Path, *, as_json: bool, watched: bool
) -> None:
    """Show the groups, their units, and the bridge.

    With one GROUP, the exit code says whether it is on (0) or not (3). Without the service, systemd is asked.
    --watch needs a daemon to begin with, and then goes on when the daemon restarts.
    """
    from hkswitch.cli import status

    if watched:
        _show_each(status.watch(state_folder, groups), state_folder, as_json=as_json)
        return
    everything = status.from_daemon(state_folder) or _in_a_loop(status.from_systemd(config_file))
    report = status.chosen(everything, groups)
    if as_json:
        click.echo(status.as_json(report))
    else:
        from hkswitch.cli import page

        page.show(report, _console(), state_folder)
    sys.exit(status.exit_code(report, groups))


def _show_each(seen: "Iterable[Seen]", state_folder: Path, *, as_json: bool) -> None:
    gc.enable()  # this may take long: see __main__.py
    if as_json:
        from hkswitch.cli import status

        for report, away in seen:
            shown = status.without_daemon(report) if away else report
            click.echo(status.as_json(shown, indent=None))
    else:
        from hkswitch.cli import page

        page.show_each(seen, _console(), state_folder)


@commands.command(
    "import-homebridge", epilog=examples("hkswitch import-homebridge ~/.homebridge/config.json -o new.yaml")
)
@click.argument("config", type=click.Path(readable=False, path_type=Path), metavar="CONFIG.JSON")
@click.option(
    "--wrapper",
    type=click.Path(readable=False, path_type=Path),
    metavar="FILE",
    help="The script that the switches call [/usr/local/bin/serviceswitch, if there is one]",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Where to write it [standard output]",
)
@click.option(
    "--scripts",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Write a script for each command that needs a shell",
)
def import_homebridge(config: Path, wrapper: Path | None, output: Path | None, scripts: Path | None) -> None:
    """Import the switches of a Homebridge config.

    The cmdSwitch2 switches become a configuration. Each has a comment that says what became of it. What needs
    a shell is left as a comment, and no command is run.
    """
    from hkswitch.cli import import_homebridge

    imported = import_homebridge.read(config, wrapper, scripts)
    if output is None:
        click.echo(imported.text, nl=False)
    else:
        import_homebridge.write(output, imported.text)
    click.echo(imported.summary, err=output is None)


def _action(word: str, what: str) -> None:
    """Add the command that asks for an action."""

    @commands.command(
        word,
        help=f"{what}.\n\nThe daemon does it; root can also do it while the service is stopped.",
        epilog=examples(f"sudo hkswitch {word} fileserver", f"sudo hkswitch {word} --no-wait fileserver web"),
    )
    @click.argument("groups", nargs=-1, required=True, metavar="GROUP...")
    @state_option
    @click.option("--no-wait", is_flag=True, help="Do not wait until it is done")
    def act(groups: tuple[str, ...], state_folder: Path, *, no_wait: bool) -> None:
        from hkswitch.cli import actions

        sys.exit(actions.act(word, groups, state_folder, wait=not no_wait))


_action("start", "Start groups")
_action("stop", "Stop groups")
_action("restart", "Restart groups, but only those that run")


@commands.command(epilog=examples("sudo hkswitch audit", "sudo hkswitch audit fileserver"))
@click.argument("group", required=False, metavar="[GROUP]")
def audit(group: str | None) -> None:
    """Show what root's helper was asked for, and what it did.

    Each decision is in the journal before it is acted on, and a second line has the result. This runs
    journalctl, which shows the journal to root and to members of the groups adm and systemd-journal.
    """
    from hkswitch.cli import audit

    audit.show(group)


@commands.command(epilog=examples("sudo hkswitch doctor", "hkswitch doctor --json"))
@config_option
@state_option
@json_option
def doctor(config_file: Path, state_folder: Path, *, as_json: bool) -> None:
    """Look at the installation, and say what to do.

    Some points need root, and are left open without it. The exit code is 69 if something is wrong.
    """
    from hkswitch.doctor import checks, page

    findings = _in_a_loop(checks.run(config_file.absolute(), state_folder))
    if as_json:
        click.echo(page.as_json(findings))
    else:
        page.show(findings, _console())
    sys.exit(page.exit_code(findings))


@commands.command(epilog=examples("sudo hkswitch diagnostics > diagnostics.txt"))
@config_option
@state_option
def diagnostics(config_file: Path, state_folder: Path) -> None:
    """Print a text for a bug report.

    No secret is in it. It has the findings of `hkswitch doctor`, versions, the configuration, the status, and
    the last log lines.
    """
    from hkswitch.cli import diagnostics

    click.echo(_in_a_loop(diagnostics.text(config_file.absolute(), state_folder)))


def _in_a_loop(doing: Coroutine[object, object, _Answer]) -> _Answer:
    import asyncio  # a question to the daemon does not wait for it

    gc.enable()  # this may take long: see __main__.py
    try:
        return asyncio.run(doing)
    finally:
        doing.close()  # without a descriptor there is no loop, and it was not begun


def _console() -> "Console":
    """Standard output; what is not a terminal is as wide as a line gets."""
    from rich.console import Console

    width = None if sys.stdout.isatty() else 1000
    return Console(highlight=False, markup=False, emoji=False, width=width)
