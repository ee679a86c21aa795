"""Allows a bridge to reach this host's helper, or revokes that. Runs as root, on the other host.

A change is planned and can be shown first. It is checked before it takes effect, and taken back as a whole
if a check fails.
"""

import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Final, NamedTuple

from hkswitch.backend import ssh_reasons
from hkswitch.model.errors import Exit, Failure
from hkswitch.model.installation import REMOTE_USER
from hkswitch.remote import account, programs, sshd
from hkswitch.remote.files import read_file, remove_file, write_file
from hkswitch.remote.granted import (
    AUTHORIZED_KEYS,
    SSHD_DROP_IN,
    SUDOERS,
    Granted,
    files_for,
    parse_granted,
    serve_command,
    sshd_text,
    sudoers_text,
)
from hkswitch.remote.host_folder import host_with_key
from hkswitch.remote.keys import PublicKey
from hkswitch.remote.undo import all_or_nothing

FILES: Final = (SUDOERS, AUTHORIZED_KEYS, SSHD_DROP_IN)
NO_SUDO: Final = (
    "cannot find sudo, with which a bridge starts the helper; install it (sudo-rs alone is not enough)"
)
_REMEDIES: Final = {
    "a password is required": "/etc/sudoers needs the line `@includedir /etc/sudoers.d`, as its last one",
    "command not found": "install hkswitch on this host",
}
HELLO: Final = '"type":"hello"'


class FileChange(NamedTuple):
    """A file of root's before and after; None if there is none."""

    path: Path
    before: str | None
    after: str | None
    mode: int

    def make(self) -> None:
        _put(self.path, self.after, self.mode)

    def take_back(self) -> None:
        _put(self.path, self.before, self.mode)


class Admission(NamedTuple):
    """A planned change: the bridges that may connect then, and what it takes."""

    bridge: str
    granted: Granted
    files: tuple[FileChange, ...]
    makes_account: bool = False
    unlocks_account: bool = False
    removes_account: bool = False
    ended: tuple[str, ...] = ()
    """Bridges whose helpers end, because their keys are gone."""

    @property
    def is_empty(self) -> bool:
        return self == Admission(self.bridge, self.granted, ())


def granted_now() -> dict[str, PublicKey]:
    """Return the bridges that may connect; raises `Failure`."""
    text = (read_file(AUTHORIZED_KEYS) or b"").decode("ascii", errors="replace")
    try:
        return parse_granted(text)
    except ValueError as error:
        raise Failure(f"cannot change {AUTHORIZED_KEYS}: {error}", Exit.CONFIG) from None


def plan_allow(bridge: str, key: PublicKey) -> Admission:
    """Return the change that allows a bridge with this key, and no other; raises `Failure`."""
    sshd.path()
    if programs.path_of("sudo") is None:
        raise Failure(NO_SUDO)
    if host := host_with_key(key):
        why = f"this machine itself has this key, for its host {host}; run the command on {host}"
        raise Failure(f"cannot allow {bridge}: {why}", Exit.USAGE)
    before = granted_now()
    if owner := next((name for name, each in before.items() if each == key and name != bridge), ""):
        why = f"{owner} has this key; run `sudo hkswitch host disallow {owner}` first"
        raise Failure(f"cannot allow {bridge}: {why}", Exit.USAGE)
    is_there = account.exists()
    granted = {**before, bridge: key}
    return Admission(
        bridge,
        granted,
        _changes(granted),
        makes_account=not is_there,
        unlocks_account=is_there and account.is_locked(),
        ended=(bridge,) if before.get(bridge, key) != key else (),
    )


def plan_disallow(bridge: str) -> Admission:
    """Return the change that revokes the access of a bridge; raises `Failure`."""
    before = granted_now()
    if bridge not in before and not account.helpers_for(bridge):  # a command that was killed leaves one
        known = f"allowed are {', '.join(sorted(before))}" if before else "no bridge is allowed"
        raise Failure(f"cannot disallow {bridge}: it is not allowed; {known}", Exit.USAGE)
    granted = {name: key for name, key in before.items() if name != bridge}
    is_last = not granted
    return Admission(
        bridge, granted, _changes(granted), removes_account=is_last and account.exists(), ended=(bridge,)
    )


def carry_out(planned: Admission) -> bool:
    """Make a planned change, or none of it; return whether an SSH server accepts connections now.

    What is revoked stays so, whatever fails afterwards. Raises `Failure`.
    """
    is_allowing = planned.bridge in planned.granted
    if planned.granted:
        _check_rules(sudoers_text(planned.granted))
    if is_allowing:
        sshd.check_staged(sshd_text())
    with all_or_nothing() as done:
        _make(planned, done)
        if is_allowing:
            sshd.check_in_place()
            check_helper(planned.bridge)
            # From here on, a failure has sshd read the old files again.
            done.callback(_take_effect_again, planned)
            is_running = sshd.reload()
    # TRUST: the holders of old keys, and other users, may try to keep all this from ending.
    for bridge in planned.ended:
        account.end_sessions(bridge)
    if planned.removes_account:
        account.remove()
    return is_running if is_allowing else sshd.reload()


def _make(planned: Admission, done: ExitStack) -> None:
    """Write all files, and make the account; note how to take that back."""
    if planned.makes_account:
        done.callback(_remove_account)
        account.make()
    if planned.unlocks_account:
        account.unlock()
    for change in planned.files:
        done.callback(change.take_back)
        change.make()


def _remove_account() -> None:
    if account.exists():
        account.remove()


def _take_effect_again(planned: Admission) -> None:
    """Put the old files back, and have sshd read them."""
    for change in planned.files:
        change.take_back()
    sshd.reload()


def _check_rules(text: str) -> None:
    """Have visudo check rules first: a mistake would break sudo for all users. Raises `Failure`."""
    with tempfile.TemporaryDirectory(prefix="hkswitch-") as folder:
        staged = Path(folder, "rules")
        write_file(staged, text.encode(), 0o440)
        programs.checked("visudo", "-c", "-f", str(staged))


def check_helper(bridge: str) -> None:
    """Start the helper as sshd will do for a bridge; raises `Failure` with the reason and the remedy."""
    ran = programs.run("sudo", "-n", *serve_command(bridge).split(), account=REMOTE_USER)
    if HELLO not in ran.output:
        why = ssh_reasons.telling_line(ran.errors.splitlines()) or ran.reason
        hint = _REMEDIES.get(why.rpartition(": ")[2], "")
        raise Failure(f"cannot start the helper for {bridge}: {why}" + (f"; {hint}" if hint else ""))


def _changes(granted: Granted) -> tuple[FileChange, ...]:
    """Return the files that differ from what they should be for these bridges."""
    wanted = files_for(granted)
    # What makes sshd accept the keys is written last and removed first.
    paths = FILES if granted else tuple(reversed(FILES))
    changes = (FileChange(path, _text(path), *(wanted.get(path) or (None, 0o644))) for path in paths)
    return tuple(change for change in changes if change.before != change.after)


def _text(path: Path) -> str | None:
    contents = read_file(path)
    return None if contents is None else contents.decode(errors="replace")


def _put(path: Path, text: str | None, mode: int) -> None:
    if text is None:
        remove_file(path)
    else:
        write_file(path, text.encode(), mode)
