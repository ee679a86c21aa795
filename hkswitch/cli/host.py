"""`hkswitch host`: its commands, and what they share."""

import os
import sys
from collections.abc import Sequence

import click

from hkswitch.backend.ssh_command import SSH, user_of
from hkswitch.backend.ssh_reasons import INSTALL_SSH
from hkswitch.cli.main import LazyCommand, LazyGroup
from hkswitch.cli.options import examples
from hkswitch.model import config_values
from hkswitch.model.config import Config
from hkswitch.model.elsewhere import Elsewhere
from hkswitch.model.errors import Exit, Failure
from hkswitch.model.installation import REMOTE_USER
from hkswitch.model.yaml_nodes import Position, Scalar
from hkswitch.remote.keys import is_bridge_name

NAME_RULE = "at most 32 of a-z, 0-9 and '-', without '-' at the start"


@click.group(
    cls=LazyGroup,
    lazy_subcommands={
        "add": LazyCommand("hkswitch.cli.host_add:add", "Make a key for another host, and accept its key"),
        "list": LazyCommand("hkswitch.cli.host_list:list_hosts", "Show the other hosts of this bridge"),
        "test": LazyCommand("hkswitch.cli.host_list:test", "Connect to another host as the daemon does"),
        "remove": LazyCommand("hkswitch.cli.host_add:remove", "Remove another host and the key for it"),
        "allow": LazyCommand("hkswitch.cli.host_allow:allow", "Allow another host's bridge to connect"),
        "disallow": LazyCommand(
            "hkswitch.cli.host_allow:disallow", "Revoke the access of another host's bridge"
        ),
    },
    epilog=examples(
        "sudo hkswitch host add nas nas.lan",
        "sudo hkswitch host test nas",
        "hkswitch host list",
    ),
)
def host() -> None:
    """Connect bridges and other hosts over SSH.

    Groups of another host can then be switches of this bridge. `add`, `list`, `test` and `remove` run on the
    bridge's machine, `allow` and `disallow` on the other host; `add` prints the command for that.
    """


def a_host_name(context: click.Context, argument: click.Parameter, text: str) -> str:
    """Check the name of a host (a click callback)."""
    return _checked(context, argument, text, config_values.host)


def a_destination(context: click.Context, argument: click.Parameter, text: str) -> str:
    """Check an SSH destination (a click callback)."""
    return _checked(context, argument, text, config_values.ssh_destination)


def a_bridge_name(context: click.Context, argument: click.Parameter, text: str | None) -> str | None:
    """Check the name of a bridge (a click callback)."""
    if text is not None and not is_bridge_name(text):
        raise click.BadParameter(f"{text!r} is not the name of a bridge; use {NAME_RULE}", context, argument)
    return text


def _checked(
    context: click.Context, argument: click.Parameter, text: str, convert: config_values.Convert[str]
) -> str:
    try:
        return convert(Scalar(Position(1, 1), text, is_text=True))
    except ValueError as error:
        raise click.BadParameter(str(error), context, argument) from None


def groups_of(config: Config, name: str) -> dict[str, Elsewhere]:
    """Return the groups that a host runs, by their ids here."""
    places = {group.id: group.elsewhere for group in config.groups if group.elsewhere is not None}
    return {group_id: place for group_id, place in places.items() if place.host.name == name}


def only_root(doing: str) -> None:
    """Raise `Failure` for other users."""
    if os.geteuid() != 0:
        raise Failure(f"cannot {doing}: permission denied; use sudo", Exit.DENIED)


def needs_ssh(doing: str) -> None:
    """Raise `Failure` without OpenSSH's client."""
    if not os.access(SSH, os.X_OK):
        raise Failure(f"cannot {doing}: {SSH} does not exist; {INSTALL_SSH}")


def other_user(destination: str) -> str | None:
    """Return the user that a destination names, if it is not the account that `host allow` makes."""
    user = user_of(destination)
    return None if user == REMOTE_USER else user


def no_such_host(name: str, known: Sequence[str]) -> str:
    """Return that the configuration lacks a host, and the remedy."""
    have = f"the hosts are {', '.join(known)}; " if known else ""
    return f"there is no host {name!r}; {have}to add it, run `sudo hkswitch host add {name} DESTINATION`"


def can_ask() -> bool:
    return sys.stdin is not None and sys.stdin.isatty()
