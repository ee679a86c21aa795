"""Hides the systemd of this machine, if it runs one: which units exist must not decide a test."""

from pathlib import Path
from typing import Final

from hkswitch.unit_names import systemctl

NOWHERE: Final = Path("/nonexistent")


def hide() -> None:
    """Have this process find no running systemd."""
    systemctl.RUNNING = NOWHERE  # type: ignore[misc] # no code of ours assigns it
