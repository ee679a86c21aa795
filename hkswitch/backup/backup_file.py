"""Writes and reads the file of a backup, as root, wherever it is: also in a folder of another user.

A backup has private keys, and commands that root runs. So no other user may read what is written, and none
may have written what is read.
"""

import errno
import os
import secrets
import shlex
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from hkswitch.backup.backup_format import (
    MOST_BACKUP_BYTES,
    Backup,
    BackupDamaged,
    encode_backup,
    parse_backup,
)
from hkswitch.model.errors import Exit, Failure, exit_of

_READ_CHUNK_BYTES: Final = 1 << 16
_READ: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

_NO_LINKS: Final = frozenset({errno.EPERM, errno.ENOTSUP})
"""The errors of file systems that have no links, such as FAT on a USB stick."""


def write_backup(file: Path, backup: Backup) -> None:
    """Write a new file that only its owner can read, whole or not at all; never replace one.

    Raises `Failure`.
    """
    contents = encode_backup(backup)
    assert parse_backup(contents, str(file)) == backup  # noqa: S101 -- better now than at the restore
    try:
        folder = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            _write_new(folder, file.name, contents)
        finally:
            os.close(folder)
    except FileExistsError:
        raise _cannot_write(file, "it already exists; remove it, or name another file") from None
    except OSError as error:
        raise _cannot_write(file, error.strerror or str(error)) from error


def _write_new(folder: int, name: str, contents: bytes) -> None:
    """Write the file in an open folder, which no other user can swap for another one meanwhile."""
    if _exists(folder, name):
        raise FileExistsError
    with _temporary(folder, name) as temporary:
        opened = os.open(temporary, _CREATE, 0o600, dir_fd=folder)
        with open(opened, "wb") as writing:  # noqa: PTH123 -- a descriptor, not a path
            os.fchmod(opened, 0o600)  # whatever the umask is
            if os.fstat(opened).st_mode & 0o077:
                raise OSError(0, "the file system there does not keep other users from reading it")
            writing.write(contents)
            writing.flush()
            os.fsync(opened)
        _name_as(folder, temporary, name)
        try:
            os.fsync(folder)
        except OSError:
            os.unlink(name, dir_fd=folder)
            raise


def _name_as(folder: int, temporary: str, name: str) -> None:
    """Give the file its name, and never replace another one."""
    try:
        # Unlike a rename, a link fails if the name exists, even as a dangling link of another user.
        os.link(temporary, name, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NO_LINKS or _exists(folder, name):
            raise
        os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)


def _exists(folder: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


@contextmanager
def _temporary(folder: int, name: str) -> Iterator[str]:
    """Yield a name for a new file, and remove that file afterwards."""
    temporary = f".{name[:50]}.{secrets.token_hex(4)}"
    try:
        yield temporary
    finally:
        with suppress(OSError):
            os.unlink(temporary, dir_fd=folder)


def read_backup(file: Path) -> Backup:
    """Read a backup that only root, or the user of this process, could have written; raises `Failure`."""
    try:
        _refuse_irregular(file, file.stat())  # before opening it: opening a device can have side effects
        opened = os.open(file, _READ)
        try:
            _refuse_irregular(file, found := os.fstat(opened))
            _refuse_foreign(file, found)
            contents = _read(opened)
        finally:
            os.close(opened)
    except OSError as error:
        remedy = "; use sudo" if isinstance(error, PermissionError) and os.geteuid() != 0 else ""
        reason = f"{error.strerror or error}{remedy}"
        raise Failure(f"cannot read {file}: {reason}", exit_of(error, Exit.USAGE)) from error
    return parse_backup(contents, str(file))


def _read(opened: int) -> bytes:
    """Read one byte more than the limit at most."""
    contents = bytearray()
    while more := os.read(opened, min(_READ_CHUNK_BYTES, MOST_BACKUP_BYTES + 1 - len(contents))):
        contents += more
    return bytes(contents)


def _refuse_irregular(file: Path, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise BackupDamaged(str(file), "it is not a regular file")


def _refuse_foreign(file: Path, found: os.stat_result) -> None:
    """Raise `Failure` if another user could have written the file."""
    # TRUST: root runs the commands in it.
    if found.st_uid not in {0, os.geteuid()}:
        why = f"it belongs to user {found.st_uid}"
    elif found.st_mode & 0o022:
        why = "other users may write it"
    else:
        return
    copy = "/root/hkswitch.backup"
    raise Failure(
        f"cannot restore {file}: {why}, and root runs the commands in it; if you trust it, "
        f"run `sudo install -m 600 {shlex.quote(str(file))} {copy}` and restore {copy}",
        Exit.DENIED,
    )


def _cannot_write(file: Path, reason: str) -> Failure:
    return Failure(f"cannot write {file}: {reason}", Exit.CANNOT_WRITE)
