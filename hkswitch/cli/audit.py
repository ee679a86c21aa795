"""`hkswitch audit`: has journalctl show what root's helper decided and did. It reads no journal itself."""

import os
import sys
from dataclasses import dataclass
from typing import Final, NoReturn

from hkswitch.model.environment import ENVIRONMENT
from hkswitch.model.errors import Failure

JOURNALCTL: Final = "/usr/bin/journalctl"

# TRUST: journald adds the fields with an underscore. sudo writes to its caller's standard error as root, so
# that any local user can add lines with root's _UID; but only systemd puts a process into the slice.
QUERY: Final = (
    "_UID=0",
    "_SYSTEMD_SLICE=system-serviceswitch.slice",
    "_TRANSPORT=journal",
    "SYSLOG_IDENTIFIER=serviceswitch",
)


@dataclass(eq=False)
class NoJournalctl(Failure):
    """It cannot be started."""

    why: str

    def __str__(self) -> str:
        return f"cannot start {JOURNALCTL}: {self.why}"


def command(group: str | None) -> list[str]:
    """Return the argv that shows the audit, of one group if it is named."""
    # A name is never read as an option: it is the end of a word.
    return [JOURNALCTL, "--no-pager", *QUERY, *([] if group is None else [f"HKSWITCH_GROUP={group}"])]


def show(group: str | None) -> NoReturn:
    """Become journalctl; raises `NoJournalctl`."""
    sys.stdout.flush()
    try:
        os.execve(JOURNALCTL, command(group), ENVIRONMENT)  # noqa: S606 -- no shell is wanted
    except (OSError, ValueError) as error:
        raise NoJournalctl(getattr(error, "strerror", None) or str(error)) from None
