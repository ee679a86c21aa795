"""The daemon's user and its state folder."""

import grp
import logging
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from hkswitch.control.words import command
from hkswitch.doctor.context import UNIT, USER, Situation
from hkswitch.doctor.finding import WITH_SUDO, Finding, Point, Verdict, counted, ok, unknown, wrong
from hkswitch.hap import state_file
from hkswitch.hap.state_file import Stored
from hkswitch.model.errors import Failure
from hkswitch.protocol.control import MOST_FAILED_ATTEMPTS
from hkswitch.protocol.report import BridgeReport, PairedController

MODE: Final = 0o700
LEAST_FREE_BYTES: Final = 2 * state_file.LARGEST_BYTES
"""For the largest state file beside the one that it replaces."""


async def user(situation: Situation) -> tuple[Finding]:
    """The point of this name."""
    return (there(has_user=situation.account is not None, has_group=_has_group()),)


async def state(situation: Situation) -> tuple[Finding]:
    """The point of this name. What is wrong with the folder may be why nothing can be written there."""
    folder, bridge, found = situation.state_folder, situation.bridge, _folder(situation)
    if found.verdict is not Verdict.WRONG:
        if isinstance(bridge, BridgeReport) and bridge.storage:
            return (unwritten(folder, bridge.storage),)
        with suppress(OSError):
            return (room_in(folder, os.statvfs(folder)) or found,)
    return (found,)


def _folder(situation: Situation) -> Finding:
    folder = situation.state_folder
    if situation.account is None:
        return unknown(Point.STATE, f"there is no user {USER} that it could belong to")
    try:
        found = folder.stat()
    except FileNotFoundError:
        return ok(Point.STATE, f"no {folder} yet: the first start makes it")
    except OSError as error:
        return unknown(Point.STATE, f"{folder}: {error.strerror}", WITH_SUDO)
    owned = found.st_uid == situation.account.user_id
    if (finding := folder_is(folder, found.st_mode, owned=owned)) is not None:
        return finding
    if not situation.may_look_as_daemon:
        return unknown(Point.STATE, f"only root and {USER} can look into {folder}", WITH_SUDO)
    return contents_are(folder, *stored(folder))


def there(*, has_user: bool, has_group: bool) -> Finding:
    """Whether the daemon has somebody to run as."""
    missing = [word for word, has in (("user", has_user), ("group", has_group)) if not has]
    if missing:
        advice = "`sudo systemd-sysusers hkswitch.conf` makes it"
        return wrong(Point.USER, f"there is no {' and no '.join(missing)} {USER}", advice)
    return ok(Point.USER, f"user and group {USER}")


def folder_is(folder: Path, mode: int, *, owned: bool) -> Finding | None:
    """What is wrong with the folder, if anything."""
    if not stat.S_ISDIR(mode):
        return wrong(Point.STATE, f"{folder} is no folder", f"move it away, and restart {UNIT}")
    if not owned:
        advice = f"`sudo chown -R {USER}:{USER} {folder}`"
        return wrong(Point.STATE, f"{folder} does not belong to {USER}", advice)
    if stat.S_IMODE(mode) != MODE:
        what = f"{folder} has mode {stat.S_IMODE(mode):04o}, and holds keys"
        return wrong(Point.STATE, what, f"`sudo chmod {MODE:04o} {folder}`")
    return None


def unwritten(folder: Path, why: str) -> Finding:
    """`why`: the daemon's reason, what that means for phones, and the remedy."""
    return wrong(
        Point.STATE, why, f"`df -h {folder}`, `df -i {folder}` and `findmnt -T {folder}` show the disk"
    )


def room_in(folder: Path, disk: os.statvfs_result) -> Finding | None:
    """Why the next pairing, or the next new group, could not be written, if it could not."""
    if disk.f_flag & os.ST_RDONLY:
        what = f"{folder} is on a disk that is read-only"
        return wrong(Point.STATE, what, f"make it writable: `findmnt -T {folder}` shows where it is mounted")
    if disk.f_bavail * disk.f_frsize < LEAST_FREE_BYTES:
        what = f"the disk with {folder} is full"
        return wrong(Point.STATE, what, f"make room on it: `df -h {folder}` shows how much there is")
    if disk.f_files and not disk.f_favail:  # some file systems have no number of files
        what = f"the disk with {folder} can have no more files"
        return wrong(Point.STATE, what, f"remove some: `df -i {folder}` shows how many there are")
    return None


def contents_are(folder: Path, found: state_file.Stored | Failure | None, warnings: list[str]) -> Finding:
    """`warnings`: what was said while it was read."""
    if isinstance(found, state_file.StateDamaged | state_file.StateTooNew):
        return wrong(Point.STATE, str(found), f"then restart {UNIT}")
    if isinstance(found, Failure):
        return wrong(Point.STATE, str(found), f"`sudo chown -R {USER}:{USER} {folder}`")
    if warnings:
        advice = f"look after the disk; `sudo systemctl restart {UNIT}` writes it anew"
        return wrong(Point.STATE, warnings[0], advice)
    return ok(
        Point.STATE, str(folder) if found else f"{folder} is empty yet: the first start makes the bridge"
    )


def stored(folder: Path) -> tuple[state_file.Stored | Failure | None, list[str]]:
    """What is in the folder, and what was said while it was read. For root and the daemon's user."""
    with _said_by(state_file.__name__) as warnings:
        try:
            with state_file.as_owner(folder):
                return state_file.read(folder), warnings
        except Failure as failure:
            return failure, warnings


@contextmanager
def _said_by(module: str) -> Iterator[list[str]]:
    """What a module logs meanwhile, which goes nowhere else."""
    lines: list[str] = []
    listener, log = logging.Handler(), logging.getLogger(module)
    listener.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    passes_on, log.propagate = log.propagate, False
    log.addHandler(listener)
    try:
        yield lines
    finally:
        log.removeHandler(listener)
        log.propagate = passes_on


def _has_group() -> bool:
    try:
        grp.getgrnam(USER)
    except KeyError:
        return False
    return True


async def paired(situation: Situation) -> tuple[Finding]:
    """The point of this name."""
    if isinstance(situation.bridge, BridgeReport):
        bridge = situation.bridge
        return (by(bridge.controllers, situation.state_folder, locked=bridge.pairing_refused),)
    if not situation.may_look_as_daemon:
        why = "there is no daemon to ask"
        return (unknown(Point.PAIRED, why, WITH_SUDO if situation.account else ""),)
    found, _ = stored(situation.state_folder)
    if isinstance(found, Failure):
        return (unknown(Point.PAIRED, "the state cannot be read"),)
    if not isinstance(found, Stored):
        return (by((), situation.state_folder),)
    return (by(found.controllers, situation.state_folder, locked=found.setup_is.pairing_refused),)


def by(controllers: tuple[PairedController, ...], state_folder: Path, *, locked: bool = False) -> Finding:
    """`controllers`: those that are paired. `locked`: another cannot pair."""
    if controllers:
        return ok(Point.PAIRED, f"with {counted(len(controllers), 'controller')}")
    if locked:
        why = f"with nobody, and pairing is locked after {MOST_FAILED_ATTEMPTS} wrong setup codes"
        return wrong(Point.PAIRED, why, f"{command(state_folder, 'pair --reset-attempts')} unlocks it")
    return wrong(Point.PAIRED, "with nobody", f"{command(state_folder, 'pair')} shows the code to scan")
