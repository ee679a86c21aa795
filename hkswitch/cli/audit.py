"""`hkswitch audit`: has journalctl show what root's helper decided and did. It reads no journal itself."""

import os
import subprocess
import sys
from dataclasses import dataclass
from typing import Final, NoReturn

from hkswitch.model import config_file
from hkswitch.model.environment import ENVIRONMENT
from hkswitch.model.errors import ConfigError, ConfigUnreadable, Exit, Failure
from hkswitch.model.installation import HELPER_SLICE

JOURNALCTL: Final = "/usr/bin/journalctl"

# TRUST: journald adds the fields with an underscore. sudo writes to its caller's standard error as root, so
# that any local user can add lines with root's _UID; but only systemd puts a process into the slice.
QUERY: Final = (
    "_UID=0",
    f"_SYSTEMD_SLICE={HELPER_SLICE}",
    "_TRANSPORT=journal",
    "SYSLOG_IDENTIFIER=serviceswitch",
)


@dataclass(eq=False)
class NoJournalctl(Failure):
    """It cannot be started."""

    why: str

    def __str__(self) -> str:
        return f"cannot start {JOURNALCTL}: {self.why}"


@dataclass(eq=False)
class NoSuchGroup(Failure):
    """There is no such group, and there was none."""

    group: str
    exit_code = Exit.USAGE

    def __str__(self) -> str:
        return f"there is no group {self.group!r} in the configuration, and no line of it in the journal"


def command(group: str | None, *options: str) -> list[str]:
    """Return the argv that shows the audit, of one group if it is named."""
    # A name is never read as an option: it is the end of a word.
    matches = (*QUERY, *(() if group is None else (f"HKSWITCH_GROUP={group}",)))
    return [JOURNALCTL, "--no-pager", *options, *matches]


def show(group: str | None) -> NoReturn:
    """Become journalctl; raises `NoJournalctl`, and `NoSuchGroup` if nothing is known of the group."""
    sys.stdout.flush()
    try:
        if group is not None and not _may_be_configured(group):
            _look_for_lines(group)
        os.execve(JOURNALCTL, command(group), ENVIRONMENT)  # noqa: S606 -- no shell is wanted
    except (OSError, ValueError) as error:
        raise NoJournalctl(getattr(error, "strerror", None) or str(error)) from None


def _may_be_configured(group: str) -> bool:
    """Whether it is in the configuration; one with mistakes says nothing of its groups."""
    try:
        return group in {each.id for each in config_file.read(config_file.DEFAULT).groups}
    except (ConfigError, ConfigUnreadable):
        return True


def _look_for_lines(group: str) -> None:
    """Say on standard error that a group was removed; raises `NoSuchGroup` if the audit does not know it."""
    asked = subprocess.run(  # noqa: S603 -- no shell, and the group is the end of a word
        command(group, "--quiet", "--lines=1", "--output=cat"),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        env=ENVIRONMENT,
    )
    if asked.returncode != 0:
        return  # journalctl is about to say why
    if not asked.stdout:
        raise NoSuchGroup(group)
    sys.stderr.write(
        f"hkswitch: there is no group {group!r} in the configuration; it has lines in the journal:\n"
    )
    sys.stderr.flush()
