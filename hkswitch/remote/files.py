"""Writes root's small files whole or not at all; a file with the right contents stays as it is."""

import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final

from hkswitch.model.errors import Exit, Failure, reason_of

_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def read_file(path: Path) -> bytes | None:
    """Return the contents of a file; None if there is none. Raises `Failure`."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        denied = isinstance(error, PermissionError)
        code = Exit.DENIED if denied else Exit.UNAVAILABLE
        raise Failure(f"cannot read {reason_of(error)}" + ("; use sudo" if denied else ""), code) from error


def write_file(path: Path, contents: bytes, mode: int, group_id: int = 0) -> bool:
    """Replace a file of root's, or make it and its folder; return whether it changed. Raises `Failure`."""
    if read_file(path) == contents and stat.S_IMODE(path.stat().st_mode) == mode:
        return False
    # A dot in front: neither sudo, sshd nor systemd reads a file of this name.
    new = path.with_name(f".{path.name}.new")
    try:
        if not path.parent.exists():
            path.parent.mkdir(parents=True)
            path.parent.chmod(0o755)  # whatever the umask is
        new.unlink(missing_ok=True)  # a command that was killed left it
        create(new, contents, mode, group_id)
        new.rename(path)
        sync_folder(path.parent)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        with suppress(OSError):
            new.unlink(missing_ok=True)
    return True


def create(path: Path, contents: bytes, mode: int, group_id: int = 0, user_id: int = 0) -> None:
    """Make a file that has its owner and mode before it has contents, and is on disk."""
    descriptor = os.open(path, _CREATE, 0o600)
    with open(descriptor, "wb") as file:  # noqa: PTH123 -- of a descriptor
        if os.geteuid() == 0:
            os.fchown(descriptor, user_id, group_id)
        os.fchmod(descriptor, mode)
        file.write(contents)
        file.flush()
        os.fsync(descriptor)


def remove_file(path: Path) -> bool:
    """Remove a file, and return whether it was there. Raises `Failure`."""
    try:
        path.unlink()
        sync_folder(path.parent)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise cannot_write(path, error) from error
    return True


def sync_folder(folder: Path) -> None:
    """Have the names in a folder on disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def cannot_write(path: Path, error: OSError) -> Failure:
    return Failure(f"cannot write {path}: {error.strerror or error}", Exit.CANNOT_WRITE)
