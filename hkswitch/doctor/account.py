"""Checks the daemon's user and its groups, its state folder, and the pairings that are stored there."""

import grp
import logging
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from hkswitch.control.words import command
from hkswitch.doctor.context import Account, Context
from hkswitch.doctor.finding import (
    WITH_SUDO,
    Check,
    Finding,
    Verdict,
    counted,
    fail,
    needs_root,
    ok,
    skip,
    todo,
)
from hkswitch.hap import state_file
from hkswitch.hap.state_file import Stored
from hkswitch.model.errors import Failure
from hkswitch.model.installation import DAEMON_UNIT, DAEMON_USER
from hkswitch.protocol.control import MOST_FAILED_ATTEMPTS
from hkswitch.protocol.report import BridgeReport, PairedController

SYSUSERS_FILE: Final = "hkswitch.conf"
SYSUSERS_FOLDERS: Final = tuple(
    map(Path, ("/etc/sysusers.d", "/run/sysusers.d", "/usr/local/lib/sysusers.d", "/usr/lib/sysusers.d"))
)
DOCKER_GROUP: Final = "docker"
"""The group of Docker's socket, through which its members can become root."""
STATE_FOLDER_MODE: Final = 0o700
LEAST_FREE_BYTES: Final = 2 * state_file.LARGEST_BYTES
"""Room for the largest state file next to the one that it replaces."""


async def user(context: Context) -> tuple[Finding]:
    """Check that the daemon's user and group exist, and that no group gives the user root's rights."""
    is_installed = any(folder.joinpath(SYSUSERS_FILE).exists() for folder in SYSUSERS_FOLDERS)
    has_user = context.account is not None
    found = exist(has_user=has_user, has_group=_has_group(), is_installed=is_installed)
    is_member = context.account is not None and _is_in(DOCKER_GROUP, context.account)
    return (without_docker(found, is_member=is_member),)


async def state(context: Context) -> tuple[Finding]:
    """Check the state folder. A fault of the folder comes first: it may be why the daemon cannot write.

    Of a bridge that was taken over, also check that Homebridge would not start it again.
    """
    folder, bridge, found = context.state_folder, context.bridge, _folder(context)
    if found.verdict is not Verdict.FAIL:
        if isinstance(bridge, BridgeReport) and bridge.storage:
            return (unwritable(folder, bridge.storage),)
        with suppress(OSError):
            found = disk_fault(folder, os.statvfs(folder)) or found
    if found.verdict is Verdict.OK and context.has_daemon_rights:
        known, _ = stored(folder)
        if isinstance(known, Stored) and known.taken_over is not None:
            from hkswitch.doctor.former_bridge import former_bridge  # noqa: PLC0415 -- few bridges need it

            found = former_bridge(known.device_id) or found
    return (found,)


async def pairing(context: Context) -> tuple[Finding]:
    """Check that a controller is paired, according to the daemon, or else to the state folder."""
    bridge, folder = context.bridge, context.state_folder
    if isinstance(bridge, BridgeReport):
        return (paired(bridge.controllers, folder, locked=bridge.pairing_refused),)
    if not context.has_daemon_rights:
        return (needs_root(Check.PAIRING) if context.account else skip(Check.PAIRING, _no_user()),)
    found, _ = stored(folder)
    if isinstance(found, Failure):
        return (skip(Check.PAIRING, "cannot read the state"),)
    if not isinstance(found, Stored):
        return (paired((), folder),)
    return (paired(found.controllers, folder, locked=found.setup_info.pairing_refused),)


def exist(*, has_user: bool, has_group: bool, is_installed: bool) -> Finding:
    """Judge whether the daemon's user and group exist. `is_installed`: whether systemd can create them."""
    missing = [word for word, has in (("user", has_user), ("group", has_group)) if not has]
    if missing:
        advice = f"run `sudo systemd-sysusers {SYSUSERS_FILE}`" if is_installed else "install hkswitch"
        return fail(Check.USER, f"there is no {' or '.join(missing)} {DAEMON_USER}", advice)
    return ok(Check.USER, f"user and group {DAEMON_USER} exist")


def without_docker(found: Finding, *, is_member: bool) -> Finding:
    """Judge whether the daemon's user may use Docker's socket: it could then become root."""
    if not is_member:
        return found
    what = f"the user {DAEMON_USER} is in the group {DOCKER_GROUP}, so the daemon could become root"
    advice = f"run `sudo gpasswd -d {DAEMON_USER} {DOCKER_GROUP}` and `sudo systemctl restart {DAEMON_UNIT}`"
    return fail(Check.USER, what, advice)


def folder_fault(folder: Path, mode: int, *, owned: bool) -> Finding | None:
    """Return the finding about a fault of the folder itself, if any. `owned`: by the daemon's user."""
    if not stat.S_ISDIR(mode):
        return fail(Check.STATE, f"{folder} is not a folder", f"move it away, and restart {DAEMON_UNIT}")
    if not owned:
        advice = f"run `sudo chown -R {DAEMON_USER}:{DAEMON_USER} {folder}`"
        return fail(Check.STATE, f"{folder} is not owned by {DAEMON_USER}", advice)
    if stat.S_IMODE(mode) != STATE_FOLDER_MODE:
        what = f"{folder} has mode {stat.S_IMODE(mode):04o}, but contains keys"
        return fail(Check.STATE, what, f"run `sudo chmod {STATE_FOLDER_MODE:04o} {folder}`")
    return None


def unwritable(folder: Path, why: str) -> Finding:
    """Return the finding for a daemon that cannot write. `why`: its reason, the effect, and the remedy."""
    advice = f"check the disk with `df -h {folder}`, `df -i {folder}` and `findmnt -T {folder}`"
    return fail(Check.STATE, why, advice)


def disk_fault(folder: Path, disk: os.statvfs_result) -> Finding | None:
    """Return the finding if the next pairing, or the next new group, could not be written."""
    if disk.f_flag & os.ST_RDONLY:
        what = f"the file system of {folder} is read-only"
        return fail(Check.STATE, what, f"make it writable: `findmnt -T {folder}` shows where it is mounted")
    if disk.f_bavail * disk.f_frsize < LEAST_FREE_BYTES:
        what = f"the disk with {folder} is full"
        return fail(Check.STATE, what, f"free some space: `df -h {folder}` shows the usage")
    if disk.f_files and not disk.f_favail:  # file systems without a limit on files report 0 for both
        what = f"the file system of {folder} has no free inodes"
        return fail(Check.STATE, what, f"delete some files: `df -i {folder}` shows the usage")
    return None


def contents(folder: Path, found: Stored | Failure | None, warnings: list[str]) -> Finding:
    """Judge the folder's contents. `warnings`: logged while they were read."""
    if isinstance(found, state_file.StateDamaged | state_file.StateTooNew):
        return fail(Check.STATE, str(found), f"then restart {DAEMON_UNIT}")
    if isinstance(found, Failure):
        return fail(Check.STATE, str(found), f"run `sudo chown -R {DAEMON_USER}:{DAEMON_USER} {folder}`")
    if warnings:
        advice = f"check the disk, then run `sudo systemctl restart {DAEMON_UNIT}` to write the file again"
        return fail(Check.STATE, warnings[0], advice)
    return ok(Check.STATE, str(folder) if found else f"{folder} is empty; the first start fills it")


def paired(controllers: tuple[PairedController, ...], folder: Path, *, locked: bool = False) -> Finding:
    """Judge the pairings. `locked`: no controller can pair any more."""
    if controllers:
        return ok(Check.PAIRING, f"{counted(len(controllers), 'controller')} paired")
    if locked:
        what = f"pairing is locked after {MOST_FAILED_ATTEMPTS} wrong setup codes"
        return fail(Check.PAIRING, what, f"run {command(folder, 'pair --reset-attempts')}")
    return todo(Check.PAIRING, "not paired yet", f"run {command(folder, 'pair')}")


def stored(folder: Path) -> tuple[Stored | Failure | None, list[str]]:
    """Return the state, and the warnings that reading it logged. For root and the daemon's user."""
    with _captured_log(state_file.__name__) as warnings:
        try:
            with state_file.as_owner(folder):
                return state_file.read(folder), warnings
        except Failure as failure:
            return failure, warnings


def _folder(context: Context) -> Finding:
    folder = context.state_folder
    if context.account is None:
        return skip(Check.STATE, _no_user())
    try:
        found = folder.stat()
    except FileNotFoundError:
        return ok(Check.STATE, f"{folder} does not exist yet; the first start creates it")
    except OSError as error:
        return skip(Check.STATE, f"{folder}: {error.strerror}", WITH_SUDO)
    owned = found.st_uid == context.account.user_id
    if (finding := folder_fault(folder, found.st_mode, owned=owned)) is not None:
        return finding
    if not context.has_daemon_rights:
        return needs_root(Check.STATE)
    return contents(folder, *stored(folder))


def _no_user() -> str:
    return f"there is no user {DAEMON_USER}"


@contextmanager
def _captured_log(module: str) -> Iterator[list[str]]:
    """Capture a module's log lines instead of showing them."""
    messages: list[str] = []
    handler, log = logging.Handler(), logging.getLogger(module)
    handler.emit = lambda record: messages.append(record.getMessage())  # type: ignore[method-assign]
    propagates, log.propagate = log.propagate, False
    log.addHandler(handler)
    try:
        yield messages
    finally:
        log.removeHandler(handler)
        log.propagate = propagates


def _has_group() -> bool:
    try:
        grp.getgrnam(DAEMON_USER)
    except KeyError:
        return False
    return True


def _is_in(group: str, account: Account) -> bool:
    """Whether a user is in a group; false if there is no such group."""
    try:
        found = grp.getgrnam(group)
    except KeyError:
        return False
    return found.gr_gid in os.getgrouplist(account.name, account.group_id)
