"""`hkswitch host allow` and `hkswitch host disallow`: the other host's side of a connection from a bridge."""

from collections.abc import Iterator
from difflib import unified_diff

import click

from hkswitch.cli.host import a_bridge_name, can_ask, only_root
from hkswitch.cli.layout import say
from hkswitch.cli.options import examples
from hkswitch.editing.config_replacement import locked
from hkswitch.model.config_file import DEFAULT
from hkswitch.model.installation import REMOTE_USER
from hkswitch.model.printable import printable
from hkswitch.remote import admission, sshd
from hkswitch.remote.admission import Admission, FileChange
from hkswitch.remote.granted import AUTHORIZED_KEYS
from hkswitch.remote.keys import parse_public_key

NO_SERVER_RUNS = f"No SSH server is running on this host; {sshd.START}."


yes_option = click.option("--yes", is_flag=True, help="Do not ask")


@click.command(epilog=examples('sudo hkswitch host allow homelab "$(cat homelab.pub)"'))
@click.argument("bridge", callback=a_bridge_name, metavar="BRIDGE")
@click.argument("key", nargs=-1, required=True, metavar="KEY")
@yes_option
def allow(bridge: str, key: tuple[str, ...], *, yes: bool) -> None:
    """Allow another host's bridge to connect.

    Run this on the host whose groups the bridge should show. The bridge can then switch the groups of this
    host's configuration, and nothing else. Makes the account hkswitch-remote, which has no password and can
    run only the helper, and shows each file before it writes it. If a check fails, nothing has changed. A new
    key of the same bridge replaces the old one.
    """
    doing = f"allow the bridge {bridge}"
    only_root(doing)
    try:
        public = parse_public_key(" ".join(key))  # also without its quotes
    except ValueError as error:
        raise click.UsageError(f"KEY is not valid: {error}") from None
    with locked(AUTHORIZED_KEYS):
        planned = admission.plan_allow(bridge, public)
        if not DEFAULT.exists():
            say(
                f"hkswitch: {DEFAULT} does not exist; the bridge finds no groups until you create it",
                err=True,
            )
        if planned.is_empty:
            sshd.reload()  # a command that was killed may have written the files, and not got so far
            say(f"The bridge {bridge} is allowed already; nothing has changed.")
            return
        show(planned)
        if planned.ended:
            say(
                f"The bridge {bridge} has another key so far. If that is another machine, answer no, and run "
                "`host add` again on the new one, with another name after `--as`."
            )
        if not _is_confirmed(
            f"{'Replace the key of' if planned.ended else 'Allow'} the bridge {bridge}?", yes=yes
        ):
            return
        is_running = admission.carry_out(planned)
    say(f"The bridge {bridge} is allowed. On its machine, run `sudo hkswitch host test NAME`.")
    if not is_running:
        say(NO_SERVER_RUNS)


@click.command(epilog=examples("sudo hkswitch host disallow homelab"))
@click.argument("bridge", callback=a_bridge_name, metavar="BRIDGE")
@yes_option
def disallow(bridge: str, *, yes: bool) -> None:
    """Revoke the access of another host's bridge.

    Removes its key and its rule for sudo, and ends its connection. With the last bridge, the account
    hkswitch-remote and all settings for it go, too.
    """
    doing = f"disallow the bridge {bridge}"
    only_root(doing)
    with locked(AUTHORIZED_KEYS):
        planned = admission.plan_disallow(bridge)
        show(planned)
        if not _is_confirmed(f"Revoke the access of the bridge {bridge}?", yes=yes):
            return
        admission.carry_out(planned)
    say(f"The bridge {bridge} is no longer allowed.")


def show(planned: Admission) -> None:
    """Print what a change consists of."""
    if planned.makes_account:
        say(f"The account {REMOTE_USER} is created: no password, no home directory.")
    if planned.unlocks_account:
        say(f"The account {REMOTE_USER} is unlocked, but gets no password.")
    if planned.removes_account:
        say(f"The account {REMOTE_USER} is removed.")
    for change in planned.files:
        for line in _lines(change):
            # TRUST: the old file may hold escape sequences, which must not reach root's terminal.
            click.echo(printable(line))


def _lines(change: FileChange) -> Iterator[str]:
    """Yield a new file with its contents, the difference of a changed one, or that one is removed."""
    if change.after is None:
        yield f"{change.path} is removed."
    elif change.before is None:
        yield f"{change.path} is created:"
        yield from (f"  {line}" for line in change.after.splitlines())
    else:
        yield f"{change.path} changes:"
        old, new = change.before.splitlines(), change.after.splitlines()
        yield from (f"  {line}" for line in [*unified_diff(old, new, lineterm="", n=0)][2:])


def _is_confirmed(question: str, *, yes: bool) -> bool:
    """Ask; raises `UsageError` without a terminal."""
    if yes:
        return True
    if not can_ask():
        raise click.UsageError("standard input is no terminal to ask on; use --yes")
    if click.confirm(question):
        return True
    say("Nothing has changed.")
    return False
