"""Checks that the bridges of other hosts that were allowed on this one can reach its helper.

It looks at all that `hkswitch host allow` made, and starts the helper as sshd does, without a request.
"""

import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from hkswitch.doctor.context import ROOT, Context
from hkswitch.doctor.finding import Check, Finding, counted, fail, needs_root, ok, rights, several
from hkswitch.model.errors import Failure
from hkswitch.model.installation import REMOTE_USER
from hkswitch.remote import account, admission, sshd
from hkswitch.remote.granted import AUTHORIZED_KEYS, Granted, files_for

_ALLOW: Final = "run the command again that `sudo hkswitch host list` prints on the bridge's machine"
_START: Final = "run `sudo systemctl enable --now ssh` (Debian) or `sshd` (Fedora)"


async def bridges(context: Context) -> tuple[Finding, ...]:
    """Check the access of the bridges of other hosts, if any was allowed."""
    if not any(path.exists() for path in admission.FILES):
        return ()
    if not context.is_root:
        return (needs_root(Check.BRIDGES),)
    # TRUST: not in a thread: other checks give up root's rights for a moment, and with them all threads do.
    return (_examined(),)


def _examined() -> Finding:
    try:
        granted = admission.granted_now()
        fault = next(_faults(granted), None)
    except Failure as failure:
        what, _, advice = str(failure).rpartition("; ")
        return fail(Check.BRIDGES, what or advice, advice if what else _ALLOW)
    if fault is not None:
        return fail(Check.BRIDGES, *fault)
    return ok(Check.BRIDGES, f"{counted(len(granted), 'bridge')} allowed: {several(sorted(granted))}")


def _faults(granted: Granted) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with files, account, sshd and sudo, each with its remedy. Raises `Failure`."""
    yield from _file_faults(granted)
    if not account.exists():
        yield f"there is no user {REMOTE_USER}", _ALLOW
    if account.is_locked():
        yield f"the account {REMOTE_USER} is locked", f"run `sudo usermod --password '*' {REMOTE_USER}`"
    sshd.check_in_place()
    if sshd.BOOTED.exists() and not sshd.is_listening():  # only systemd can tell
        yield "no SSH server is running", _START
    for bridge in sorted(granted):
        admission.check_helper(bridge)


def _file_faults(granted: Granted) -> Iterator[tuple[str, str]]:
    wanted = files_for(granted)
    for path in admission.FILES:
        if path not in wanted:
            if path.exists():
                yield f"{path} is left although no bridge is allowed", f"run `sudo rm {path}`"
            continue
        if not path.exists():
            yield f"{path} does not exist", _ALLOW
            continue
        text, mode = wanted[path]
        if fault := mode_fault(path, path.stat().st_uid, stat.S_IMODE(path.stat().st_mode), mode):
            yield fault
        if path.read_text(errors="replace") != text:
            yield f"{path} is not as `hkswitch host allow` writes it", _ALLOW
    for folder in AUTHORIZED_KEYS.parents:
        found = folder.stat()
        if found.st_uid != ROOT or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            what = f"sshd ignores {AUTHORIZED_KEYS}: other users than root can write {folder}"
            yield what, f"run `sudo chown root {folder}` and `sudo chmod go-w {folder}`"


def mode_fault(path: Path, owner: int, mode: int, wanted: int) -> tuple[str, str] | None:
    """Return what is wrong with the owner or permissions of a file, and the remedy; None if nothing is."""
    if owner == ROOT and mode == wanted:
        return None
    what = f"{path} has mode {mode:04o}" if owner == ROOT else f"{path} is not owned by root"
    return what, rights(path, "root:root", wanted)
