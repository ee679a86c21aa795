"""`hkswitch add ID --host HOST`: a group of another host, and what became of it after the reload."""

import time
from pathlib import Path
from typing import Final

from hkswitch.cli.host import no_such_host
from hkswitch.cli.layout import say
from hkswitch.control import STATE_FOLDER, client, socket_of
from hkswitch.editing.hosts import hosts_in
from hkswitch.editing.new_group import converted, new_group
from hkswitch.model import config_values
from hkswitch.model.elsewhere import Elsewhere, RemoteHost
from hkswitch.model.errors import Exit, Failure
from hkswitch.model.group import AccessoryType, AlertSensor, Group
from hkswitch.model.printable import printable_line
from hkswitch.protocol.report import Report

STATE_WITHIN_SECONDS: Final = 5
"""How long to wait for the first state: ssh connects in less, or gives up."""

_ASK_AGAIN_SECONDS: Final = 0.1


def remote_group(  # noqa: PLR0913 -- one for each option
    group_id: str,
    host: str,
    id_there: str | None,
    name: str | None,
    kind: AccessoryType,
    *,
    restart: bool,
    alert: AlertSensor | None,
) -> Group:
    """Return a group of another host, whose destination is still to be found. Raises `Failure`."""
    there = converted(group_id if id_there is None else id_there, config_values.group_id)
    place = Elsewhere(RemoteHost(converted(host, config_values.host), ""), there)
    return new_group((), name, group_id, kind, restart=restart, alert=alert, elsewhere=place)


def host_in(data: bytes, name: str) -> RemoteHost:
    """Return the host of a config with this name; raises `Failure` if it has none."""
    hosts = hosts_in(data)
    if name in hosts:
        return RemoteHost(name, hosts[name])
    raise Failure(f"cannot add the group: {no_such_host(name, [*hosts])}", Exit.USAGE)


def say_state(group: Group, state_folder: Path = STATE_FOLDER) -> None:
    """Wait a moment for the first state of the group, and print it, or on standard error why there is none.

    Raises `Failure` if the daemon cannot be asked.
    """
    until_seconds = time.monotonic() + STATE_WITHIN_SECONDS
    while True:
        report = client.ask_report(socket_of(state_folder))
        found = next((each for each in report.groups if each.id == group.id), None)
        if found is not None and found.state is not None:
            say(f"{group.id} is {found.state}.")
            return
        if time.monotonic() >= until_seconds:
            say(f"hkswitch: {group.id} does not respond yet: {_why_unknown(group, report)}", err=True)
            return
        time.sleep(_ASK_AGAIN_SECONDS)


def _why_unknown(group: Group, report: Report) -> str:
    """Return why the state of a group is not known, and the remedy."""
    assert group.elsewhere is not None  # noqa: S101 -- it is a group of another host
    name = group.elsewhere.host.name
    host = next((each for each in report.hosts if each.name == name), None)
    why = next((each.why for each in report.groups if each.id == group.id), "")
    if host is not None and host.connected_since_unix_seconds:
        there = "add it there, or correct `group` here with `sudo hkswitch edit`"
        return printable_line(f"{why}; {there}" if why else "its state is not known yet")
    reason = host.problem if host is not None and host.problem else why or "the daemon has not connected yet"
    return printable_line(f"the host {name} is not connected: {reason}; run `sudo hkswitch host test {name}`")
