"""The daemon's limits, which grow with the number of hosts: a drop-in of hkswitch.service."""

from contextlib import suppress
from pathlib import Path
from typing import Final

from hkswitch.model.installation import DAEMON_UNIT
from hkswitch.remote import programs
from hkswitch.remote.files import remove_file, write_file

DROP_IN: Final = Path(f"/etc/systemd/system/{DAEMON_UNIT}.d/60-hosts.conf")
BOOTED: Final = Path("/run/systemd/system")

MEMORY_MIB, TASKS, FILES = 256, 64, 1024
"""Without other hosts, as in hkswitch.service."""

MEMORY_MIB_A_HOST, TASKS_A_HOST, FILES_A_HOST = 16, 4, 16


def text_for(hosts: int) -> str:
    """Return the drop-in for this number of hosts."""
    return (
        f"# The limits for {hosts} {'host' if hosts == 1 else 'hosts'}; "
        "`hkswitch host add` and `hkswitch host remove` write this file.\n"
        "[Service]\n"
        f"MemoryMax={MEMORY_MIB + hosts * MEMORY_MIB_A_HOST}M\n"
        f"TasksMax={TASKS + hosts * TASKS_A_HOST}\n"
        f"LimitNOFILE={FILES + hosts * FILES_A_HOST}\n"
    )


def set_for(hosts: int, drop_in: Path = DROP_IN) -> None:
    """Write the drop-in for this number of hosts, or remove it. Raises `Failure`.

    systemd applies memory and tasks to a running daemon at once, and files at its next start.
    """
    text = text_for(hosts).encode()
    changed = write_file(drop_in, text, 0o644) if hosts else remove_file(drop_in)
    if not hosts:
        with suppress(OSError):  # other files may be in it
            drop_in.parent.rmdir()
    if changed and BOOTED.exists():
        programs.checked("systemctl", "daemon-reload")
