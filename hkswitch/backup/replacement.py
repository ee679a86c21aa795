"""Replaces several files, all or none, and keeps copies of the old ones.

Everything that needs space is written first, beside the old files; then there are only renames, which are
undone in reverse if one fails. Works in each folder with the rights of its owner.
"""

import os
import signal
import stat
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple

from hkswitch.backup.backup_format import SavedFile
from hkswitch.hap.state_file import as_owner
from hkswitch.model.errors import Exit, Failure

MOST_KEPT_BYTES: Final = 4 * 1024 * 1024
"""The largest file that may be replaced: more than hkswitch reads or writes."""

_DEFERRED: Final = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class NotPutBack(Failure):
    """A file that was replaced and cannot be put back."""


class NewFile(NamedTuple):
    """A file to put in the place of another one; None removes that one.

    `group_id` and `user_id` are set only if root owns the folder; -1 leaves them.
    """

    path: Path
    new: SavedFile | None
    group_id: int = -1
    user_id: int = -1


class _Staged(NamedTuple):
    """A file that is ready to be replaced: the names of the new one and of a second link to the old one."""

    path: Path
    new: Path | None
    old: Path | None

    def commit(self) -> None:
        with as_owner(self.path.parent):
            if self.new is not None:
                self.new.rename(self.path)
            elif self.old is not None:
                self.path.unlink()
            _sync(self.path.parent)

    def revert(self) -> None:
        with as_owner(self.path.parent):
            if self.old is not None:
                self.old.rename(self.path)
            else:
                self.path.unlink(missing_ok=True)
            _sync(self.path.parent)


class Replaced(NamedTuple):
    """The files that were there, by path."""

    files: dict[Path, SavedFile]

    @classmethod
    def read(cls, paths: Sequence[Path], cannot: str) -> "Replaced":
        """Read the files that exist; raises `Failure` for one that could not be put back."""
        found = {path: _contents(path, cannot) for path in paths}
        return cls({path: each for path, each in found.items() if each is not None})

    def keep(self, folder: Path) -> None:
        """Write copies into a new folder that only its owner can enter; raises `Failure`."""
        try:
            with as_owner(folder.parent), ExitStack() as undo:
                folder.mkdir(mode=0o700)
                undo.callback(remove_folder, folder)
                for path, each in self.files.items():
                    _write(folder / self._kept_name(path), each.contents, 0o600)
                _sync(folder)
                _sync(folder.parent)
                undo.pop_all()
        except OSError as error:
            raise Failure(f"cannot write {folder}: {error.strerror or error}", Exit.CANNOT_WRITE) from error

    def _kept_name(self, path: Path) -> str:
        """Return the name of a copy: that of the file, with its folder's if it has one name with another."""
        is_unique = [each.name for each in self.files].count(path.name) == 1
        return path.name if is_unique else f"{path.parent.name}.{path.name}"


def remove_unfinished(paths: Sequence[Path]) -> None:
    """Remove what a process that was killed left beside these files."""
    for path in paths:
        _remove(*_beside(path))


def replace_all(files: Sequence[NewFile], kept: Path | None) -> None:
    """Replace the files in this order, or none of them. Raises `Failure`, which names `kept`, the copies.

    Signals that would end the process wait meanwhile. A process that is killed leaves each file whole, old or
    new, and no later one is new before an earlier one.
    """
    with _signals_deferred(), ExitStack() as cleaning:
        try:
            staged = [_stage(file, cleaning) for file in files]
        except OSError as error:
            raise _unwritable(error) from error
        done: list[_Staged] = []
        try:
            for each in staged:
                done.append(each)
                each.commit()
        except OSError as error:
            _revert(done, kept)
            raise _unwritable(error) from error
        except BaseException:
            _revert(done, kept)
            raise


def _stage(file: NewFile, cleaning: ExitStack) -> _Staged:
    """Write the new file beside the old one, and link the old one, for a way back that needs no space."""
    folder, (new, old) = file.path.parent, _beside(file.path)
    cleaning.callback(_remove, new, old)
    with as_owner(folder):
        had = os.path.lexists(file.path)
        if had:
            os.link(file.path, old, follow_symlinks=False)
        if file.new is not None:
            owner = (file.user_id, file.group_id) if os.geteuid() == 0 else (-1, -1)
            _write(new, file.new.contents, file.new.mode, owner)
        _sync(folder)
    return _Staged(file.path, None if file.new is None else new, old if had else None)


def _beside(path: Path) -> tuple[Path, Path]:
    return path.with_name(f".{path.name}.restore-new"), path.with_name(f".{path.name}.restore-old")


def _revert(done: Sequence[_Staged], kept: Path | None) -> None:
    left = []
    for each in reversed(done):
        try:
            each.revert()
        except OSError as error:
            left.append(f"{each.path}: {error.strerror or error}")
    if left:
        copies = f"; copies of the old files are in {kept}" if kept is not None else ""
        raise NotPutBack(f"cannot put back {', '.join(left)}{copies}", Exit.CANNOT_WRITE)


@contextmanager
def _signals_deferred() -> Iterator[None]:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _DEFERRED)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _contents(path: Path, cannot: str) -> SavedFile | None:
    with as_owner(path.parent):
        try:
            if not stat.S_ISREG(path.lstat().st_mode):
                raise Failure(f"cannot {cannot}: {path} is not a regular file; move it away", Exit.DAMAGED)
            opened = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
            with open(opened, "rb") as reading:  # noqa: PTH123 -- a descriptor, not a path
                contents = reading.read(MOST_KEPT_BYTES + 1)
                mode = stat.S_IMODE(os.fstat(opened).st_mode)
        except FileNotFoundError:
            return None
        except OSError as error:
            reason = f"cannot read {path}: {error.strerror or error}; move it away"
            raise Failure(f"cannot {cannot}: {reason}", Exit.DAMAGED) from error
    if len(contents) > MOST_KEPT_BYTES:
        raise Failure(f"cannot {cannot}: {path} is too large; move it away", Exit.DAMAGED)
    return SavedFile(contents, mode)


def _write(path: Path, contents: bytes, mode: int, owner: tuple[int, int] = (-1, -1)) -> None:
    opened = os.open(path, _CREATE, 0o600)
    with open(opened, "wb") as writing:  # noqa: PTH123 -- a descriptor, not a path
        if owner != (-1, -1):
            os.fchown(opened, *owner)
        os.fchmod(opened, mode)
        writing.write(contents)
        writing.flush()
        os.fsync(opened)


def _sync(folder: Path) -> None:
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _remove(*paths: Path) -> None:
    for path in paths:
        with suppress(OSError), as_owner(path.parent):
            path.unlink(missing_ok=True)


def remove_folder(folder: Path) -> None:
    """Remove a folder with copies, as far as that is possible."""
    with suppress(OSError), as_owner(folder.parent):
        for each in folder.iterdir():
            each.unlink()
        folder.rmdir()


def _unwritable(error: OSError) -> Failure:
    where = error.filename2 or error.filename or "the files"
    return Failure(f"cannot write {where}: {error.strerror or error}; nothing has changed", Exit.CANNOT_WRITE)
