"""Replaces the config file as a whole, and only if it is still the file that was read. Runs as the caller.

The helper's rules hold for the service's own config. Another file must be a regular one of the caller's or of
root's, without links to it.
"""

import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple

from hkswitch.model.config_file import DEFAULT, config_bytes
from hkswitch.model.errors import Exit, Failure
from hkswitch.model.yaml_nodes import MOST_CONFIG_BYTES
from hkswitch.serviceswitch import trusted_files

_NO_ATTRIBUTES: Final = frozenset({errno.ENOTSUP, errno.ENODATA, errno.EPERM})


class CannotReplace(Failure):
    """A config file that cannot be replaced."""

    exit_code = Exit.CANNOT_WRITE

    def __init__(self, file: Path, reason: str, exit_code: Exit | None = None) -> None:
        super().__init__(f"cannot change {file}: {reason}", exit_code)


class Original(NamedTuple):
    """A config file as it was read."""

    file: Path
    data: bytes

    def replace(self, data: bytes) -> None:
        """Replace the file by one with other contents, and with the same owner, group, mode and attributes.

        The caller has the lock.

        Raises:
            CannotReplace: If the file has changed since it was read, or cannot be written.
        """
        if read_original(self.file).data != self.data:
            raise CannotReplace(self.file, "it changed in the meantime; try again")
        new = self.file.with_name(f".{self.file.name}.edit-new")
        try:
            new.unlink(missing_ok=True)  # a command that was killed left it, and this one has the lock
            _write_like(self.file, new, data)
            new.rename(self.file)
            _sync_folder(self.file.parent)
        except OSError as error:
            raise _failure(self.file, error) from error
        finally:
            with suppress(OSError):
                new.unlink()


def read_original(file: Path) -> Original:
    """Read a config that is to be replaced, as a whole.

    Raises `CannotReplace`, `ConfigUnreadable`, or `Untrusted`.
    """
    # TRUST: root changes only a config that only root can have written, and follows no link.
    if is_of_service(file) and os.geteuid() == trusted_files.ROOT:
        data = trusted_files.read(str(DEFAULT))
    else:
        data = config_bytes(file)
    if len(data) > MOST_CONFIG_BYTES:  # the rest was not read, and would be lost
        raise CannotReplace(file, f"it is larger than {MOST_CONFIG_BYTES} bytes", Exit.CONFIG)
    try:
        found = file.lstat()
    except OSError as error:
        raise _failure(file, error) from error
    if not stat.S_ISREG(found.st_mode):
        raise CannotReplace(file, "it is not a regular file; name the file itself, not a link to it")
    if found.st_nlink > 1:
        raise CannotReplace(
            file, f"it has {found.st_nlink} hard links, and the others would keep the old text"
        )
    if found.st_uid not in {trusted_files.ROOT, os.geteuid()}:
        raise CannotReplace(file, f"its owner is uid {found.st_uid}, not you", Exit.DENIED)
    return Original(file, data)


def is_of_service(file: Path) -> bool:
    """Whether this is the service's config, by any path without links."""
    return os.path.abspath(file) == str(DEFAULT)  # noqa: PTH100 -- absolute() keeps `..`


def check_rights(file: Path) -> None:
    """Raise `CannotReplace` if this user may not replace the file, before any work is done."""
    if not file.parent.is_dir():
        raise CannotReplace(file, f"there is no folder {file.parent}", Exit.CONFIG)
    if not os.access(file.parent, os.W_OK | os.X_OK, effective_ids=True):
        is_root = os.geteuid() == trusted_files.ROOT
        reason = f"{file.parent} is not writable" if is_root else "permission denied; use sudo"
        raise CannotReplace(file, reason, Exit.DENIED)


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """Keep other commands that change the file out. Raises `CannotReplace` if one is running."""
    lock = file.with_name(f".{file.name}.lock")
    try:
        descriptor = _lock(lock)
    except BlockingIOError:
        raise CannotReplace(
            file, "another hkswitch command is changing it; wait until that has ended", Exit.UNAVAILABLE
        ) from None
    except OSError as error:
        raise _failure(file, error) from error
    try:
        yield
    finally:
        with suppress(OSError):
            lock.unlink()
        os.close(descriptor)


def _lock(path: Path) -> int:
    """Open and lock a file that no other user can open, and make sure that it has not been unlinked."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with suppress(FileNotFoundError):
                if path.lstat().st_ino == os.fstat(descriptor).st_ino:
                    return descriptor
        except OSError:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _write_like(file: Path, new: Path, data: bytes) -> None:
    """Write a new file that has the owner, group, mode and attributes of another one, and is on disk."""
    like = file.lstat()
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as written:  # noqa: PTH123 -- of a descriptor
        if (like.st_uid, like.st_gid) != (os.geteuid(), os.getegid()):
            os.fchown(descriptor, like.st_uid, like.st_gid)
        os.fchmod(descriptor, stat.S_IMODE(like.st_mode))
        _copy_attributes(file, descriptor)
        written.write(data)
        written.flush()
        os.fsync(descriptor)


def _copy_attributes(file: Path, descriptor: int) -> None:
    """Copy extended attributes: access control lists, and the labels of SELinux."""
    try:
        names = os.listxattr(file, follow_symlinks=False)
    except OSError:
        return  # the file system has none
    for name in names:
        try:
            os.setxattr(descriptor, name, os.getxattr(file, name, follow_symlinks=False))
        except OSError as error:
            if error.errno not in _NO_ATTRIBUTES:
                raise


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _failure(file: Path, error: OSError) -> CannotReplace:
    denied = error.errno in {errno.EACCES, errno.EPERM}
    return CannotReplace(file, error.strerror or str(error), Exit.DENIED if denied else Exit.CANNOT_WRITE)
