"""How the daemon becomes root: the only command that sudoers allows, and what its refusals mean."""

import shutil
from typing import Final

HELPER: Final = ("/usr/sbin/serviceswitch", "serve")
SUDOERS_RULE: Final = f"hkswitch ALL=(root) NOPASSWD: {' '.join(HELPER)}"


def by_sudo() -> tuple[str, ...]:
    """How the daemon becomes root: the one command that sudoers allows. sudo-rs may be all there is."""
    return (shutil.which("sudo") or shutil.which("sudo-rs") or "sudo", "-n", *HELPER)


def explain(why: str) -> str:
    """What to do about a helper that is gone for this reason: one sentence for the log."""
    # sudo 1.9 says it in two lines, of which the last one is known here.
    if any(words in why for words in ("no new privileges", "disable the flag", "setuid bit")):
        return f"the helper cannot become root ({why}): hkswitch.service must not imply NoNewPrivileges"
    if "password is required" in why or "I'm afraid I can't do that" in why or "not allowed" in why:
        return f"sudo refuses the helper ({why}): /etc/sudoers.d/hkswitch must hold the line: {SUDOERS_RULE}"
    return f"the helper exited unexpectedly ({why}); switches do not respond until it is back"
