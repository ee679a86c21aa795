"""The command that starts the helper through sudo: the only one that sudoers allows."""

import shutil

from hkswitch.backend import sudo_reasons


def sudo_command() -> tuple[str, ...]:
    """Return the command, an argv. sudo-rs may be the only sudo installed."""
    sudo = shutil.which("sudo") or shutil.which("sudo-rs") or "sudo"
    return (sudo, "-n", "-u", "root", *sudo_reasons.HELPER)
