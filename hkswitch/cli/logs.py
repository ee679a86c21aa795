"""`hkswitch logs`: has journalctl show the log of a group's units, and what hkswitch did with them.

It does not read the journal itself.
"""

from collections.abc import Iterator
from typing import Final

import click

from hkswitch.cli import audit
from hkswitch.cli.options import examples
from hkswitch.control import STATE_FOLDER, client, socket_of
from hkswitch.model import config_file
from hkswitch.model.errors import Failure
from hkswitch.model.group import MOST_DETACHED
from hkswitch.protocol.report import unknown_group
from hkswitch.unit_names import systemctl

COREDUMP: Final = "MESSAGE_ID=fc2e22bc6ee647b6b90729ab34a250b1"
"""The records of systemd-coredump(8)."""


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
    """
    units = units_of(group)
    audit.check_right()
    # journald knows a unit by its own name, also while the configuration has an alias of it.
    matches = matches_of(group, tuple(dict.fromkeys((*units, *systemctl.names_of(units)))))
    options = [f"--lines={lines}", *(["--follow"] if follow else [])]
    audit.show_lines_of([audit.JOURNALCTL, "--no-pager", *options, *matches])


def units_of(group_id: str) -> tuple[str, ...]:
    """Return a group's units, none if it has commands, from the daemon or from the config.

    Raises `Failure` if there is no such group.
    """
    try:
        known = {each.id: tuple(each.units) for each in client.ask_report(socket_of(STATE_FOLDER)).groups}
    except Failure:
        known = {each.id: each.units for each in config_file.read(config_file.DEFAULT).groups}
    if group_id not in known:
        raise unknown_group(group_id, known)
    return known[group_id]


def matches_of(group_id: str, units: tuple[str, ...]) -> Iterator[str]:
    """Yield journalctl's matches: the units as `journalctl -u` has them, or the commands; and the audit."""
    numbered = (f"hkswitch-command-{group_id}:{number}.service" for number in range(MOST_DETACHED))
    for unit in units or (f"hkswitch-command-{group_id}.service", *numbered):
        yield from (f"_SYSTEMD_UNIT={unit}", "+")
        # TRUST: only pid 1 and root report about other units.
        yield from ("_PID=1", f"UNIT={unit}", "+")
        yield from ("_UID=0", f"COREDUMP_UNIT={unit}", COREDUMP, "+")
        yield from ("_UID=0", f"OBJECT_SYSTEMD_UNIT={unit}", "+")
    yield from (*audit.QUERY, f"HKSWITCH_GROUP={group_id}")
