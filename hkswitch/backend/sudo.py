"""How the daemon becomes root: the only command that sudoers allows, and what its refusals mean."""

import shutil
from collections.abc import Sequence

from hkswitch.backend.sudo_reasons import HELPER, REASONS, SUDOERS_RULE, Reason

__all__ = ["HELPER", "SUDOERS_RULE", "by_sudo", "explain", "hint", "reason_of", "telling"]


def by_sudo() -> tuple[str, ...]:
    """How the daemon becomes root: the one command that sudoers allows. sudo-rs may be all there is."""
    return (shutil.which("sudo") or shutil.which("sudo-rs") or "sudo", "-n", "-u", "root", *HELPER)


def reason_of(why: str) -> Reason | None:
    """Return the reason whose words these are; None if they are other words."""
    return next((reason for reason in REASONS if reason.words in why), None)


def telling(lines: Sequence[str]) -> str:
    """Return the line that gives the reason, or else the last one; nothing if there are none."""
    said = (line for reason in REASONS for line in lines if reason.words in line)
    return next(said, lines[-1] if lines else "")


def hint(why: str) -> str:
    """Return the cause and the remedy; nothing if they are not known."""
    reason = reason_of(why)
    return f"{reason.cause}; {reason.remedy}" if reason else ""


def explain(why: str) -> str:
    """What to do about a helper that is gone for this reason: one sentence for the log."""
    if known := hint(why):
        return f"the helper cannot run: {known} ({why})"
    return f"the helper exited unexpectedly ({why}); switches do not respond until it is back"
