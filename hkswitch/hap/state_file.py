"""The bridge's identity on disk: setup code, keys, pairings, iids in one file, written whole or not at all.

Knows no HAP-python. A damaged file is said, and its backup used; without one it is left alone, and so is a
damaged backup of a file that is gone. Neither is ever replaced by a new identity, which every phone would
take for another bridge. A file that a newer version wrote is left alone too, and its backup, which may be
older, is not used. Unknown keys are written back.
"""

import errno
import fcntl
import logging
import os
import secrets
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
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
from hkswitch.model.errors import Exit, Failure

__all__ = [
    "ADMIN_BIT",
    "BACKUP_NAME",
    "FILE_NAME",
    "LOCK_NAME",
    "StateDamaged",
    "StateInUse",
    "StateTooNew",
    "StateUnreadable",
    "StateUnwritable",
    "Stored",
    "as_owner",
    "locked",
    "read",
    "with_rights",
    "write",
    "write_whole",
]

LOCK_NAME: Final = "lock"
LARGEST_BYTES: Final = 1024 * 1024
ROOT: Final = 0

_NO_LINKS = os.O_NOFOLLOW | os.O_CLOEXEC

_log = logging.getLogger(__name__)


@dataclass(eq=False)
class StateUnreadable(Failure):
    """The file cannot be read."""

    path: Path
    why: str
    exit_code = Exit.DENIED

    def __str__(self) -> str:
        return f"cannot read the bridge's state {self.path}: {self.why}; it is for root and the daemon only"


@dataclass(eq=False)
class StateUnwritable(Failure):
    """The folder or the file cannot be written."""

    path: Path
    why: str
    exit_code = Exit.CANNOT_WRITE

    def __str__(self) -> str:
        return f"cannot write the bridge's state {self.path}: {self.why}"


@dataclass(eq=False)
class StateInUse(Failure):
    """Another process holds the lock."""

    folder: Path
    process: str

    def __str__(self) -> str:
        return f"{self.folder} is in use by another hkswitch (process {self.process}): stop that one first"


def read(folder: Path) -> Stored | None:
    """What the file holds, or else its backup; None if there is neither.

    Raises:
        StateDamaged: If neither the file nor its backup is sound, but one of them is there.
        StateTooNew: If a newer version wrote the file, or the backup of one that is damaged or gone.
        StateUnreadable: If one of them cannot be read.
    """
    try:
        stored = _read(folder / FILE_NAME)
    except StateDamaged as damage:
        with suppress(StateDamaged):  # of the backup: the file's own says what to do
            stored = _read(folder / BACKUP_NAME)
            if stored is not None:
                _log.warning("%s is damaged (%s): its backup is used", damage.path, damage.why)
                return stored
        raise
    if stored is None and (stored := _backup_alone(folder)) is not None:
        _log.warning("%s is gone: its backup is used", folder / FILE_NAME)
    return stored


def write(folder: Path, stored: Stored) -> None:
    """Write file and backup, each with either the old or the new contents.

    Raises `StateUnwritable`, and then both are as they were. A backup that cannot be written is removed.
    """
    contents = encode(stored)
    path = folder / FILE_NAME
    if len(contents) > LARGEST_BYTES:
        raise StateUnwritable(path, f"it would have {len(contents)} bytes, and {LARGEST_BYTES} are read")
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_whole(path, contents)
    except OSError as error:
        raise StateUnwritable(path, error.strerror or str(error)) from error
    try:
        # After the file, and the same: an older one could bring back a controller that was removed.
        write_whole(folder / BACKUP_NAME, contents)
    except OSError as error:
        _log.error("%s", StateUnwritable(folder / BACKUP_NAME, error.strerror or str(error)))
        with suppress(OSError):
            _remove(folder / BACKUP_NAME)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Have the folder for this process alone; raises `StateInUse` or `StateUnwritable`."""
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
        with suppress(OSError):  # or full: others are then told of no process, or of an old one
            os.ftruncate(lock, 0)
            os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
        yield


@contextmanager
def as_owner(folder: Path) -> Iterator[None]:
    """Root works in the daemon's folder with the daemon's rights; for others nothing changes."""
    if os.geteuid() != 0 or not folder.exists():
        yield
        return
    # TRUST: the daemon's user could put links there that lead root elsewhere; what root writes must be its.
    owner = folder.stat()
    with with_rights(owner.st_uid, owner.st_gid):
        yield


@contextmanager
def with_rights(user_id: int, group_id: int, groups: Sequence[int] = ()) -> Iterator[None]:
    """Root has the rights of a user meanwhile, and stays out of that user's reach.

    Its real and its saved user stay root, so that no process of the user may signal, trace or read it
    (kill(2), ptrace(2)). Nothing may be awaited or started meanwhile.
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
        raise OSError(errno.EINVAL, "it is not a regular file")
    return lock


def _holder(lock: FileIO) -> str:
    """The process that has the lock, as far as it could say so."""
    with suppress(OSError):
        written = (lock.read(20) or b"").decode("ascii", "replace").strip()
        return written if written.isdecimal() else "?"  # a power cut may have left anything
    return "?"


def _remove_unfinished(folder: Path) -> None:
    """What a process left that was killed while it wrote."""
    for unfinished in folder.glob(f".{FILE_NAME}*"):
        unfinished.unlink()


def _backup_alone(folder: Path) -> Stored | None:
    try:
        return _read(folder / BACKUP_NAME)
    except StateDamaged as damage:
        raise StateDamaged(damage.path, f"{damage.why}, and {FILE_NAME} is gone") from None


def _read(path: Path) -> Stored | None:
    try:
        # Not blocking: a pipe in the file's place must not hold up the reader.
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | _NO_LINKS)
        with open(file, "rb") as opened:  # noqa: PTH123 -- a descriptor, not a path
            found = os.fstat(file)
            if not stat.S_ISREG(found.st_mode):
                raise StateDamaged(path, "it is no regular file")
            if found.st_uid not in {ROOT, os.geteuid()}:
                raise StateUnreadable(path, f"it belongs to user {found.st_uid}")
            contents = opened.read(LARGEST_BYTES)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StateUnreadable(path, error.strerror or str(error)) from error
    return parse(path, contents)


def write_whole(path: Path, contents: bytes) -> None:
    """Write a new file for its owner alone and rename it over the old one, with fsync.

    Raises `OSError`, and then the old file is there, unless the disk does not take that back either.
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
    """A descriptor to sync the folder by; opened first, as nothing may fail behind a rename."""
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
    """What a regular file holds; None where there is none, or a larger one than is ever written."""
    try:
        # Not blocking: a pipe in the file's place must not hold up the reader.
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | _NO_LINKS)
    except FileNotFoundError:
        return None
    with open(file, "rb") as opened:  # noqa: PTH123 -- a descriptor, not a path
        contents = opened.read(LARGEST_BYTES + 1) if stat.S_ISREG(os.fstat(file).st_mode) else None
        return None if contents is None or len(contents) > LARGEST_BYTES else contents
