"""The bridge's identity on disk: setup code, keys, pairings and iids in one file, written atomically.

Imports no HAP-python. If the file is damaged or missing, its sound backup is used, with a warning. If neither
is sound, neither is touched: with a new identity, every phone would see a different bridge. A file from a
newer version is not touched either, and its backup, which may be older, is not used. Unknown keys are
preserved.
"""

import errno
import fcntl
import logging
import os
import secrets
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import Final

from hkswitch.hap.state_format import (
    ADMIN_BIT,
    BACKUP_NAME,
    FILE_NAME,
    StateDamaged,
    StateTooNew,
    Stored,
    encode,
    parse,
)
from hkswitch.model.errors import Exit, Failure, exit_of

__all__ = [
    "ADMIN_BIT",
    "BACKUP_NAME",
    "FILE_NAME",
    "LOCK_NAME",
    "StateDamaged",
    "StateInUse",
    "StateTooNew",
    "StateUnwritable",
    "Stored",
    "as_owner",
    "locked",
    "read",
    "remove",
    "with_rights",
    "write",
    "write_whole",
]

LOCK_NAME: Final = "lock"
LARGEST_BYTES: Final = 1024 * 1024
ROOT: Final = 0

_NO_LINKS = os.O_NOFOLLOW | os.O_CLOEXEC

_log = logging.getLogger(__name__)


class StateUnwritable(Failure):
    """A state folder or state file that cannot be written."""

    exit_code = Exit.CANNOT_WRITE

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"cannot write the bridge's state {path}: {why}")


class StateInUse(Failure):
    """A state folder whose lock another process holds."""

    def __init__(self, folder: Path, process: str) -> None:
        self.folder, self.process = folder, process
        super().__init__(f"{folder} is in use by another hkswitch (process {process}); stop it first")


def read(folder: Path) -> Stored | None:
    """Read the state from the file, or else from its backup; return None if both are missing.

    Raises:
        StateDamaged: If neither is sound, but at least one exists.
        StateTooNew: If a newer version wrote the file, or the backup of a damaged or missing file.
        Failure: If one of them cannot be read.
    """
    try:
        stored = _read(folder / FILE_NAME)
    except StateDamaged as damage:
        with suppress(StateDamaged):  # the damaged file's own failure has the remedy
            stored = _read(folder / BACKUP_NAME)
            if stored is not None:
                _log.warning("%s is damaged (%s); using its backup", damage.path, damage.why)
                return stored
        raise
    if stored is None and (stored := _backup_alone(folder)) is not None:
        _log.warning("%s is missing; using its backup", folder / FILE_NAME)
    return stored


def write(folder: Path, stored: Stored) -> None:
    """Write the file and its backup, each atomically.

    Raises `StateUnwritable` and then changes neither. A backup that cannot be written is removed.
    """
    contents = encode(stored)
    path = folder / FILE_NAME
    if len(contents) > LARGEST_BYTES:
        raise StateUnwritable(path, f"too large ({len(contents)} bytes; the limit is {LARGEST_BYTES})")
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_whole(path, contents)
    except OSError as error:
        raise StateUnwritable(path, error.strerror or str(error)) from error
    try:
        # After the file, with the same contents: an older backup could restore a removed controller.
        write_whole(folder / BACKUP_NAME, contents)
    except OSError as error:
        _log.error("%s", StateUnwritable(folder / BACKUP_NAME, error.strerror or str(error)))
        with suppress(OSError):
            _remove(folder / BACKUP_NAME)


def remove(folder: Path) -> None:
    """Remove the file and its backup, sound or not; raises `StateUnwritable` and then keeps the file.

    The backup goes first: the next start would use it in place of the file.
    """
    for name in (BACKUP_NAME, FILE_NAME):
        try:
            _remove(folder / name)
        except OSError as error:
            raise StateUnwritable(folder / name, error.strerror or str(error)) from error


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lock the folder within the block; raises `StateInUse` or `StateUnwritable`."""
    path = folder / LOCK_NAME
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = _open_lock(path)
    except OSError as error:
        raise StateUnwritable(path, error.strerror or str(error)) from error
    with open(lock, "rb", buffering=0) as file:  # noqa: PTH123 -- a descriptor, not a path
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StateInUse(folder, _holder(file)) from None
        with suppress(OSError):  # the disk may be read-only
            _remove_unfinished(folder)
        with suppress(OSError):  # or full: then the lock file names no process or an old one
            os.ftruncate(lock, 0)
            os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
        yield


@contextmanager
def as_owner(folder: Path) -> Iterator[None]:
    """Give root the rights of the folder's owner within the block; other users keep theirs."""
    if os.geteuid() != 0 or not folder.exists():
        yield
        return
    # TRUST: symlinks of the daemon's user could mislead root, and the daemon must own what root writes.
    owner = folder.stat()
    with with_rights(owner.st_uid, owner.st_gid):
        yield


@contextmanager
def with_rights(user_id: int, group_id: int, groups: Sequence[int] = ()) -> Iterator[None]:
    """Give root the effective rights of a user within the block, without exposing this process to that user.

    The real and saved user IDs stay root, so that the user's processes cannot signal, trace or read this one
    (kill(2), ptrace(2)). The block must not await anything or start a process.
    """
    before = os.getgroups()
    os.setgroups(groups)
    os.setegid(group_id)
    os.seteuid(user_id)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(before)


def _open_lock(path: Path) -> int:
    try:
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NONBLOCK | _NO_LINKS, 0o600)
    except OSError as error:
        if error.errno != errno.EROFS or not path.exists():
            raise
        lock = os.open(path, os.O_RDONLY | os.O_NONBLOCK | _NO_LINKS)
    if not stat.S_ISREG(os.fstat(lock).st_mode):
        os.close(lock)
        raise OSError(errno.EINVAL, "not a regular file")
    return lock


def _holder(lock: FileIO) -> str:
    """Return the ID of the process that holds the lock, or `?` if the file does not contain it."""
    with suppress(OSError):
        written = (lock.read(20) or b"").decode("ascii", "replace").strip()
        return written if written.isdecimal() else "?"  # a power cut can leave anything in it
    return "?"


def _remove_unfinished(folder: Path) -> None:
    """Remove temporary files of a process that was killed while writing any file of the folder."""
    for unfinished in folder.glob(".*.json*"):
        unfinished.unlink()


def _backup_alone(folder: Path) -> Stored | None:
    try:
        return _read(folder / BACKUP_NAME)
    except StateDamaged as damage:
        raise StateDamaged(damage.path, f"{damage.why}, and {FILE_NAME} is missing") from None


def _read(path: Path) -> Stored | None:
    try:
        # Non-blocking, in case a pipe replaced the file.
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | _NO_LINKS)
        with open(file, "rb") as opened:  # noqa: PTH123 -- a descriptor, not a path
            found = os.fstat(file)
            if not stat.S_ISREG(found.st_mode):
                raise StateDamaged(path, "not a regular file")
            if found.st_uid not in {ROOT, os.geteuid()}:
                why = f"it belongs to user {found.st_uid}, not to root or user {os.geteuid()}"
                raise _unreadable(path, why, Exit.DENIED)
            contents = opened.read(LARGEST_BYTES)
    except FileNotFoundError:
        return None
    except PermissionError as error:
        why = "permission denied: only root and the daemon may read it; use sudo"
        raise _unreadable(path, why, Exit.DENIED) from error
    except OSError as error:
        reason, exit_code = error.strerror or str(error), exit_of(error, Exit.DAMAGED)
        if exit_code is Exit.DAMAGED:  # a folder or a link is in its place
            raise StateDamaged(path, reason) from error
        raise _unreadable(path, reason, exit_code) from error
    return parse(path, contents)


def _unreadable(path: Path, why: str, exit_code: Exit) -> Failure:
    return Failure(f"cannot read the bridge's state {path}: {why}", exit_code)


def write_whole(path: Path, contents: bytes) -> None:
    """Write a new file that only its owner can read, and rename it over the old one, with fsync.

    Raises `OSError` and then restores the old file, unless writing that fails too.
    """
    with _folder_of(path) as folder:
        old = _contents(path)
        _replace(path, contents)
        try:
            os.fsync(folder)
        except OSError:
            if old is None:
                path.unlink()
            else:
                _replace(path, old)
            os.fsync(folder)
            raise


def _remove(path: Path) -> None:
    with _folder_of(path) as folder:
        path.unlink(missing_ok=True)
        os.fsync(folder)


@contextmanager
def _folder_of(path: Path) -> Iterator[int]:
    """Open the folder for fsync; before a rename, because nothing may fail after it."""
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield folder
    finally:
        os.close(folder)


def _replace(path: Path, contents: bytes) -> None:
    new = path.with_name(f".{path.name[:50]}.{secrets.token_hex(4)}")
    try:
        file = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NO_LINKS, 0o600)
        with open(file, "wb") as opened:  # noqa: PTH123 -- a descriptor, not a path
            opened.write(contents)
            opened.flush()
            os.fsync(file)
        new.rename(path)
    except OSError:
        new.unlink(missing_ok=True)
        raise


def _contents(path: Path) -> bytes | None:
    """Return the contents of a regular file.

    Return None if there is none, or if it is larger than any that hkswitch writes.
    """
    try:
        # Non-blocking, in case a pipe replaced the file.
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | _NO_LINKS)
    except FileNotFoundError:
        return None
    with open(file, "rb") as opened:  # noqa: PTH123 -- a descriptor, not a path
        contents = opened.read(LARGEST_BYTES + 1) if stat.S_ISREG(os.fstat(file).st_mode) else None
        return None if contents is None or len(contents) > LARGEST_BYTES else contents
