"""`hkswitch audit`: runs journalctl to show the root helper's decisions and results.

It does not read the journal itself; on a terminal, it breaks journalctl's lines between words.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Final, NoReturn

import click

from hkswitch.cli.layout import columns_of, say
from hkswitch.cli.options import examples
from hkswitch.cli.other_host import audit_there
from hkswitch.model import config_file
from hkswitch.model.environment import CHILD_ENVIRONMENT
from hkswitch.model.errors import ConfigError, ConfigUnreadable, Exit, Failure
from hkswitch.model.installation import HELPER_SLICE
from hkswitch.model.printable import printable

JOURNALCTL: Final = "/usr/bin/journalctl"

JOURNALS: Final = ("/var/log/journal", "/run/log/journal")

NOT_ALLOWED: Final = (
    "cannot read the journal: permission denied; use sudo, or run "
    "`sudo usermod -aG systemd-journal $USER` and log in again"
)

# TRUST: journald itself adds the fields that begin with an underscore. Any local user can add lines with
# root's _UID, because sudo writes to its caller's standard error as root; but only systemd puts a process
# into the slice.
QUERY: Final = (
    "_UID=0",
    f"_SYSTEMD_SLICE={HELPER_SLICE}",
    "_TRANSPORT=journal",
    "SYSLOG_IDENTIFIER=serviceswitch",
)


@click.command(
    epilog=examples(
        "sudo hkswitch audit", "sudo hkswitch audit fileserver", "sudo hkswitch audit --bridge homelab"
    )
)
@click.argument("group", required=False, metavar="[GROUP]")
@click.option("--bridge", metavar="BRIDGE", help="Show only the requests of this bridge of another host")
def audit(group: str | None, bridge: str | None) -> None:
    """Show the audit log of the root helper.

    The helper logs each decision before it acts on it, and then the result; of a group that another host
    runs, the helper there does. This command runs journalctl; root and members of the groups adm and
    systemd-journal may read the journal.
    """
    show_journal(group, bridge)


def journalctl(group: str | None, *options: str, bridge: str | None = None) -> list[str]:
    """Return the command that shows the audit log, or the part about one group or for one bridge."""
    # No name can be mistaken for an option: the name of a field comes before it.
    fields = (("HKSWITCH_GROUP", group), ("HKSWITCH_BRIDGE", bridge))
    matches = (*QUERY, *(f"{field}={value}" for field, value in fields if value is not None))
    return [JOURNALCTL, "--no-pager", *options, *matches]


def show_journal(group: str | None, bridge: str | None = None) -> NoReturn:
    """Show the audit log, and exit.

    Raises `Failure` if this user may not read the journal, if journalctl cannot be started, or if the group
    is neither configured nor logged.
    """
    check_right()
    try:
        if group is not None:
            _check_group(group)
    except (OSError, ValueError) as error:
        raise _cannot_start(error) from None
    show_lines_of(journalctl(group, bridge=bridge))


def check_right() -> None:
    """Raise `Failure` if this user cannot read the system's journal: journalctl would show nothing of it."""
    files = [file for folder in JOURNALS for file in Path(folder).glob("*/system.journal")]
    if files and not any(os.access(file, os.R_OK) for file in files):
        raise Failure(NOT_ALLOWED, Exit.DENIED)


def show_lines_of(command: list[str]) -> NoReturn:
    """Show what journalctl prints, and exit; without a terminal, by replacing this process with it.

    Raises `Failure` if it cannot be started.
    """
    sys.stdout.flush()
    try:
        if columns_of(sys.stdout) is not None:
            sys.exit(_show_each_line(command))
        os.execve(command[0], command, CHILD_ENVIRONMENT)  # noqa: S606 -- no shell is wanted
    except (OSError, ValueError) as error:
        raise _cannot_start(error) from None


def _show_each_line(command: list[str]) -> int:
    """Print the lines of a program as wide as the terminal; return its exit code."""
    with subprocess.Popen(  # noqa: S603 -- no shell, and no group can become an option
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env=CHILD_ENVIRONMENT, errors="replace"
    ) as asked:
        assert asked.stdout is not None  # noqa: S101 -- it is a pipe
        for line in asked.stdout:
            say(printable(line.rstrip("\n"), len(line)))  # whole: the end of a message may have the reason
    return asked.returncode


def _cannot_start(error: Exception) -> Failure:
    return Failure(f"cannot start {JOURNALCTL}: {getattr(error, 'strerror', None) or error}")


def _check_group(group: str) -> None:
    """Print a note about a group that another host runs. Raises `Failure` for one that is not known at all.

    An invalid configuration may contain any group.
    """
    try:
        found = config_file.read(config_file.DEFAULT).group(group)
    except (ConfigError, ConfigUnreadable):
        return
    if found is None:
        _check_for_lines(group)
    elif (place := found.elsewhere) is not None:
        say(f"hkswitch: {audit_there(place.host.name, place.group)}", err=True)


def _check_for_lines(group: str) -> None:
    """Print that a group was removed. Raises `Failure` if the journal has no line about it either."""
    asked = subprocess.run(  # noqa: S603 -- no shell, and the group cannot become an option
        journalctl(group, "--quiet", "--lines=1", "--output=cat"),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        env=CHILD_ENVIRONMENT,
    )
    if asked.returncode != 0:
        return  # journalctl will print the reason
    if not asked.stdout:
        reason = "it is not in the configuration, and the journal has no line about it"
        raise Failure(f"cannot show the audit log of group {group!r}: {reason}", Exit.USAGE)
    gone = f"hkswitch: group {group!r} is no longer in the configuration"
    say(f"{gone}; these are its lines in the journal:", err=True)
