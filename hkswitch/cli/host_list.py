"""`hkswitch host list` and `hkswitch host test`: the hosts of this bridge, and whether they answer."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import click

from hkswitch.cli.entry import in_event_loop
from hkswitch.cli.host import a_host_name, groups_of, needs_ssh, no_such_host
from hkswitch.cli.host_add import allow_command
from hkswitch.cli.layout import say
from hkswitch.cli.options import examples, json_option
from hkswitch.control import STATE_FOLDER, client, socket_of
from hkswitch.model.config import Config
from hkswitch.model.config_file import DEFAULT, read
from hkswitch.model.elsewhere import RemoteHost
from hkswitch.model.errors import Exit, Failure
from hkswitch.model.printable import printable
from hkswitch.remote.admission import granted_now
from hkswitch.remote.host_folder import HostFiles, read_host
from hkswitch.remote.trial import NOT_RESTARTED, TrialResult, allow_restart, try_host

NEEDS_ROOT = "use sudo"


def configured() -> Config:
    """Return the service's config; raises `Failure`."""
    return read(DEFAULT)


@click.command("list", epilog=examples("sudo hkswitch host list", "hkswitch host list --json"))
@json_option
def list_hosts(*, as_json: bool) -> None:
    """Show the other hosts of this bridge.

    Shows each with its destination and its groups, and to root and members of the group hkswitch also the
    fingerprints of the two keys, and the command that allows this bridge there. Ends with the bridges of
    other hosts that are allowed on this one.
    """
    config = configured()
    files = {host.name: _files(host.name) for host in config.hosts}
    bridges = _allowed_bridges()
    if as_json:
        rows = [_as_json(config, host, files[host.name]) for host in config.hosts]
        click.echo(as_text(rows, bridges))
        return
    if not config.hosts and not bridges:
        say("There are no other hosts; `sudo hkswitch host add NAME DESTINATION` adds one.")
    for host in config.hosts:
        say(f"{host.name}  {host.ssh}")
        for title, text in _rows(config, host, files[host.name]):
            # The last one is a command, which must stay in one line to be copied.
            click.echo(f"  {title:9} {text}")
    for bridge in bridges:
        say(f"The bridge {bridge} is allowed here; `sudo hkswitch host disallow {bridge}` revokes that.")


def as_text(rows: Sequence[Mapping[str, Any]], bridges: Sequence[str] = ()) -> str:
    """Return the hosts as JSON; completions read the names from its lines."""
    return json.dumps({"hosts": rows, "bridges": bridges}, indent=2)


def _allowed_bridges() -> list[str]:
    """Return the bridges that may connect to this host; if that is unclear, the doctor says why."""
    with suppress(Failure):
        return sorted(granted_now())
    return []


def _files(name: str) -> HostFiles | str:
    """Return the files of a host, or why they are not shown."""
    try:
        return read_host(name) or f"no key; run `sudo hkswitch host add {name} DESTINATION`"
    except Failure as failure:
        return NEEDS_ROOT if failure.exit_code is Exit.DENIED else str(failure)


def _rows(config: Config, host: RemoteHost, files: HostFiles | str) -> Iterator[tuple[str, str]]:
    yield "groups", ", ".join(groups_of(config, host.name)) or "none"
    if isinstance(files, str):
        yield "keys", printable(files)
        return
    key = files.host_key
    yield "host key", f"{key.short_kind} {key.fingerprint}" if key else "none was accepted"
    yield "our key", f"{files.key.short_kind} {files.key.fingerprint}"
    yield "there", allow_command(files)


def _as_json(config: Config, host: RemoteHost, files: HostFiles | str) -> dict[str, Any]:
    places = groups_of(config, host.name)
    row: dict[str, Any] = {
        "name": host.name,
        "ssh": host.ssh,
        "groups": {group_id: place.group for group_id, place in places.items()},
    }
    if isinstance(files, HostFiles):
        row |= {
            "host_key": files.host_key.fingerprint if files.host_key else None,
            "our_key": files.key.fingerprint,
            "bridge": files.bridge,
        }
    return row


@click.command(epilog=examples("sudo hkswitch host test nas"))
@click.argument("name", callback=a_host_name, metavar="HOST")
def test(name: str) -> None:
    """Connect to another host as the daemon does.

    Uses the daemon's key, user and SSH command, shows the version there, the round trip and the groups, and
    whether those of this configuration exist. If it fails, it says why, and what to do. Requests no action.
    """
    needs_ssh(f"test the host {name}")
    config = configured()
    host = next((each for each in config.hosts if each.name == name), None)
    if host is None:
        remedy = no_such_host(name, [each.name for each in config.hosts])
        raise Failure(f"cannot test the host {name}: {remedy}", Exit.USAGE)
    result = in_event_loop(try_host(name, host.ssh))
    say(
        f"{name}: hkswitch {result.version}, connected in {result.connected_seconds:.1f} s, "
        f"round trip {result.round_trip_ms:.1f} ms"
    )
    if result.missing:
        say(f"  an older version: {result.missing}")
    if not result.config_problem:
        say(f"  groups there: {', '.join(sorted(result.groups)) or 'none'}")
    problems = [*_problems(config, host, result)]
    for line in problems:
        say(f"  {line}")
    if not problems and _lacks_connection(name):
        say("  the daemon is not connected; run `sudo hkswitch reload`: it then connects at once")
    if problems:
        raise click.exceptions.Exit(Exit.CONFIG)


def _lacks_connection(name: str) -> bool:
    """Return whether the daemon needs a connection to a host, and has none."""
    try:
        hosts = client.ask_report(socket_of(STATE_FOLDER)).hosts
    except Failure:
        return False  # it is not running
    return any(host.name == name and host.problem and not host.connected_since_unix_seconds for host in hosts)


def _problems(config: Config, host: RemoteHost, result: TrialResult) -> Iterator[str]:
    if result.config_problem:
        yield f"the configuration there is rejected: {result.config_problem}; there, run `hkswitch check`"
        return
    restarted = {group.id for group in config.groups if group.restart or group.restart_when is not None}
    for group_id, place in groups_of(config, host.name).items():
        if place.group not in result.groups:
            yield f"{group_id}: there is no group {place.group}; add it there, or fix `group` here"
        elif group_id in restarted and place.group in result.not_restarted:
            yield f"{group_id}: {NOT_RESTARTED}; {allow_restart(place.group)}"
