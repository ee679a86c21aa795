"""`hkswitch logs`: has journalctl show the log of a group, and what hkswitch did with it.

It does not read the journal itself. The engines keep the logs of containers, perhaps in the journal.
"""

from collections.abc import Iterator
from typing import Final

import click

from hkswitch.cli import audit
from hkswitch.cli.layout import say
from hkswitch.cli.options import examples
from hkswitch.cli.other_host import log_there
from hkswitch.containers.members import Member
from hkswitch.control import STATE_FOLDER, client, socket_of
from hkswitch.model import config_file
from hkswitch.model.errors import Exit, Failure
from hkswitch.model.group import MOST_DETACHED, Engine
from hkswitch.protocol.report import unknown_group
from hkswitch.unit_names import systemctl
from hkswitch.unit_names.contained import contained_among, described, log_command, title_of, units_among

COREDUMP: Final = "MESSAGE_ID=fc2e22bc6ee647b6b90729ab34a250b1"
"""The records of systemd-coredump(8)."""

# TRUST: any user can write a container's name into the journal, through sudo even with root's _UID and under
# any name of the process. Only an engine is in Docker's unit, or is podman's conmon(8).
_WRITERS: Final = {
    Engine.DOCKER: ("_SYSTEMD_UNIT=docker.service",),
    Engine.PODMAN: tuple(f"_EXE={folder}/conmon" for folder in ("/usr/bin", "/usr/libexec/podman")),
}


@click.command(epilog=examples("sudo hkswitch logs fileserver", "sudo hkswitch logs --follow web"))
@click.argument("group", metavar="GROUP")
@click.option("-f", "--follow", is_flag=True, help="Go on with new lines, until Ctrl-C")
@click.option(
    "-n", "--lines", type=click.IntRange(min=0), default=100, metavar="N", help="Show the last N lines [100]"
)
def logs(group: str, lines: int, *, follow: bool) -> None:
    """Show the log of a group.

    Shows the log of its units or commands together with the records of the root helper, in the order of time.
    This command runs journalctl; root and members of the groups adm and systemd-journal may read the journal.
    The log of a container is there only if its engine writes it to the journal; a note has the command that
    shows it otherwise. The log of a group that another host runs is on that host.
    """
    members = members_of(group)
    audit.check_right()
    units, contained = units_among(members), contained_among(members)
    # journald knows a unit by its own name, also while the configuration has an alias of it.
    names = tuple(dict.fromkeys((*units, *systemctl.names_of(units))))
    matches = matches_of(group, names, contained)
    for each in contained:
        say(f"hkswitch: {note_on(each)}", err=True)
    options = [f"--lines={lines}", *(["--follow"] if follow else [])]
    audit.show_lines_of([audit.JOURNALCTL, "--no-pager", *options, *matches])


def members_of(group_id: str) -> tuple[str, ...]:
    """Return a group's units and containers, none if it has commands, from the daemon or from the config.

    Raises `Failure` if there is no such group, or if another host runs it.
    """
    known = _known_groups()
    if group_id not in known:
        raise unknown_group(group_id, known)
    host, id_there, members = known[group_id]
    if host:
        why = f"the host {host} runs it; {log_there(host, id_there)}"
        raise Failure(f"cannot show the log of {group_id}: {why}", Exit.UNAVAILABLE)
    return members


def _known_groups() -> dict[str, tuple[str, str, tuple[str, ...]]]:
    """Return the host of each group, its id there, and its members. Raises `Failure`."""
    try:
        groups = client.ask_report(socket_of(STATE_FOLDER)).groups
    except Failure:
        config = config_file.read(config_file.DEFAULT)
        places = {each.id: each.elsewhere for each in config.groups}
        where = {each: (at.host.name, at.group) if at else ("", "") for each, at in places.items()}
        return {each.id: (*where[each.id], each.members) for each in config.groups}
    return {each.id: (each.host, each.group, tuple(each.units)) for each in groups}


def note_on(contained: Member) -> str:
    """Return where the log of a container or of a project is, if it is not in the journal."""
    if contained.is_project:
        return f"`{log_command(contained)}` shows the log of {described(contained)}"
    engine = title_of(contained.engine)
    return (
        f"unless {engine} logs to the journal, `{log_command(contained)}` shows the log of {contained.name}"
    )


def matches_of(group_id: str, units: tuple[str, ...], contained: tuple[Member, ...] = ()) -> Iterator[str]:
    """Yield journalctl's matches: the units as `journalctl -u` has them, or the commands; and the audit.

    The drivers of both engines for journald name the container; a project's name is not in the journal.
    """
    numbered = (f"hkswitch-command-{group_id}:{number}.service" for number in range(MOST_DETACHED))
    commands = () if contained else (f"hkswitch-command-{group_id}.service", *numbered)
    for unit in units or commands:
        yield from (f"_SYSTEMD_UNIT={unit}", "+")
        # TRUST: only pid 1 and root report about other units.
        yield from ("_PID=1", f"UNIT={unit}", "+")
        yield from ("_UID=0", f"COREDUMP_UNIT={unit}", COREDUMP, "+")
        yield from ("_UID=0", f"OBJECT_SYSTEMD_UNIT={unit}", "+")
    for _, engine, name, is_project in contained:
        if not is_project:
            yield from ("_UID=0", *_WRITERS[engine], f"CONTAINER_NAME={name}", "+")
    yield from (*audit.QUERY, f"HKSWITCH_GROUP={group_id}")
