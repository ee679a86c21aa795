"""Hides the systemd of this machine and its journal, if it has them: they must not decide a test."""

from pathlib import Path
from typing import Final

from hkswitch.cli import audit
from hkswitch.unit_names import systemctl

NOWHERE: Final = Path("/nonexistent")


def hide() -> None:
    """Have this process find no running systemd, and no journal that it may not read."""
    systemctl.RUNNING = NOWHERE  # type: ignore[misc] # no code of ours assigns it
    audit.JOURNALS = (str(NOWHERE), str(NOWHERE))  # type: ignore[misc] # the same
