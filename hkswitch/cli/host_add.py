"""`hkswitch host add` and `hkswitch host remove`: the bridge's side of a connection to another host."""

import shlex
import socket
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import click

from hkswitch.cli.config_change import apply_change, make_change, show_change, to_change
from hkswitch.cli.host import (
    a_bridge_name,
    a_destination,
    a_host_name,
    can_ask,
    groups_of,
    needs_ssh,
    only_root,
    other_user,
)
from hkswitch.cli.layout import say
from hkswitch.cli.options import examples
from hkswitch.editing.config_replacement import Original, read_original
from hkswitch.editing.hosts import with_host, without_host
from hkswitch.model.config import parse
from hkswitch.model.config_file import DEFAULT
from hkswitch.model.errors import Exit, Failure
from hkswitch.model.installation import REMOTE_USER
from hkswitch.remote import host_folder, host_key, limits
from hkswitch.remote.host_folder import HostFiles
from hkswitch.remote.keys import PublicKey, bridge_name_of, is_fingerprint
from hkswitch.remote.undo import all_or_nothing


class Wanted(NamedTuple):
    """The arguments of `host add`."""

    name: str
    destination: str
    fingerprint: str | None
    bridge: str | None


def a_fingerprint(context: click.Context, option: click.Parameter, text: str | None) -> str | None:
    """Check a fingerprint (a click callback)."""
    if text is not None and not is_fingerprint(text):
        why = f"{text!r} is not a fingerprint like SHA256:..., with 43 characters after the colon"
        raise click.BadParameter(why, context, option)
    return text


@click.command(
    epilog=examples(
        "sudo hkswitch host add nas nas.lan",
        "sudo hkswitch host add pi ssh://pi.lan:2222",
        "sudo hkswitch host add nas nas.lan --as homelab",
    )
)
@click.argument("name", callback=a_host_name, metavar="NAME")
@click.argument("destination", callback=a_destination, metavar="DESTINATION")
@click.option(
    "--fingerprint",
    callback=a_fingerprint,
    metavar="SHA256",
    help="Accept the host key with this fingerprint, and do not ask",
)
@click.option(
    "--as", "bridge", callback=a_bridge_name, metavar="BRIDGE", help="This bridge's name there [the hostname]"
)
def add(name: str, destination: str, fingerprint: str | None, bridge: str | None) -> None:
    """Make a key for another host, and accept its key.

    Writes the host into the configuration, shows the fingerprint of its key and asks whether it is the right
    one, and prints the command that allows this bridge there. The daemon's key for the host does not leave
    this machine. Running it again keeps that key, and asks if the host's key has changed.
    """
    doing = f"add the host {name}"
    only_root(doing)
    needs_ssh(doing)
    wanted = Wanted(name, destination, fingerprint, bridge)
    with to_change(DEFAULT) as original:
        data = with_host(original.data, str(DEFAULT), name, destination)
        config = parse(data, str(DEFAULT))
        before = host_folder.read_host(name)
        with all_or_nothing() as done, host_folder.staging(name) as staged:
            files = _obtained(wanted, before, staged)
            _place(name, staged, before, files, done)
            if data != original.data:
                show_change(original, data)
                done.callback(_put_back, original, data)
                make_change(original, data)
            done.callback(limits.set_for, len(parse(original.data, str(DEFAULT)).hosts))
            limits.set_for(len(config.hosts))
    if user := other_user(destination):
        say(
            f"hkswitch: the next command allows the bridge to connect as {REMOTE_USER}, not as {user}; "
            f"unless you set that account up yourself, run this again without {user}@",
            err=True,
        )
    say(f"{'Checked' if before and data == original.data else 'Added'} the host {name} ({destination}).")
    if groups_of(config, name):
        apply_change(DEFAULT)
    _say_next(name, files)


def _put_back(original: Original, data: bytes) -> None:
    """Put the old configuration back if the new one is in its place."""
    if read_original(DEFAULT).data == data:
        Original(DEFAULT, data).replace(original.data)


def _obtained(wanted: Wanted, before: HostFiles | None, staged: Path) -> HostFiles:
    """Fetch the host's key, have it accepted, and make our key unless there is one. Raises `Failure`."""
    found = host_key.fetch(wanted.name, wanted.destination, staged / "fetched")
    _accept(wanted, found, before.host_key if before else None)
    hostname = bridge_name_of(socket.gethostname())
    bridge = wanted.bridge or (before.bridge if before else hostname)
    key = before.key if before else host_folder.make_key(staged, bridge)
    return HostFiles(key, bridge, found)


def _accept(wanted: Wanted, found: PublicKey, known: PublicKey | None) -> None:
    """Return if this is the host's key; raises `Failure`, or `Exit` if the answer is no."""
    shown = f"{found.short_kind} {found.fingerprint}"
    if wanted.fingerprint is not None:
        if found.fingerprint != wanted.fingerprint:
            why = f"its key is {shown}, not {wanted.fingerprint}; another machine may answer in its place"
            raise Failure(f"cannot add the host {wanted.name}: {why}", Exit.DENIED)
        return
    if found == known:
        say(f"{wanted.name} has the key that was accepted before: {shown}")
        return
    file = f"/etc/ssh/ssh_host_{found.short_kind.lower()}_key.pub"
    if known is not None:
        say(f"The key of {wanted.name} has changed. If it was not reinstalled, another machine answers.")
        say(f"  accepted  {known.short_kind} {known.fingerprint}")
        say(f"  now       {shown}")
    else:
        say(f"{wanted.name} ({wanted.destination}) shows this key:")
        say(f"  {shown}")
    say(f"There, `ssh-keygen -lf {file}` prints the right one.")
    if not can_ask():
        why = "standard input is no terminal to ask on; use --fingerprint"
        raise Failure(f"cannot accept the key of {wanted.name}: {why}", Exit.USAGE)
    if not click.confirm("Is this its key?"):
        say("Nothing has changed.")
        raise click.exceptions.Exit(Exit.OK)


def _place(name: str, staged: Path, before: HostFiles | None, files: HostFiles, done: ExitStack) -> None:
    """Put the files of a host in place, and note how to take that back."""
    if before is None:
        done.callback(host_folder.remove_host, name)
        host_folder.place_new(staged, name, files)
        return
    if before.host_key is not None:
        done.callback(host_folder.update, name, before)
    host_folder.update(name, files)


def _say_next(name: str, files: HostFiles) -> None:
    say("On that host, where hkswitch must be installed, run:")
    click.echo(f"\n  {allow_command(files)}\n")  # in one line, which can be copied
    say("Then, here:")
    click.echo(f"\n  sudo hkswitch host test {name}\n  sudo hkswitch add ID --host {name}\n")


def allow_command(files: HostFiles) -> str:
    """Return the command that allows this bridge on another host."""
    return f"sudo hkswitch host allow {files.bridge} {shlex.quote(str(files.key))}"


@click.command(epilog=examples("sudo hkswitch host remove nas"))
@click.argument("name", callback=a_host_name, metavar="HOST")
def remove(name: str) -> None:
    """Remove another host and the key for it.

    Removes the host from the configuration and deletes this bridge's key for it, unless a group needs it.
    """
    doing = f"remove the host {name}"
    only_root(doing)
    with to_change(DEFAULT) as original:
        config = parse(original.data, str(DEFAULT))
        if users := groups_of(config, name):
            why = f"needed by {', '.join(users)}; run `sudo hkswitch remove {' '.join(users)}` first"
            raise Failure(f"cannot {doing}: {why}", Exit.USAGE)
        left = [host for host in config.hosts if host.name != name]
        files = host_folder.read_host(name)
        if left != [*config.hosts]:
            data = without_host(original.data, str(DEFAULT), name)
            show_change(original, data)
            make_change(original, data)
        elif not host_folder.remove_host(name):
            have = f"the hosts are {', '.join(host.name for host in left)}" if left else "there are none"
            raise Failure(f"cannot {doing}: there is no host {name!r}; {have}", Exit.USAGE)
        host_folder.remove_host(name)
        limits.set_for(len(left))
    say(f"Removed the host {name} and the key for it.")
    if files is not None:
        say(f"On that host, run `sudo hkswitch host disallow {files.bridge}`.")
