"""Reads a file that only root could have written, or refuses. Runs as root.

The path is walked from `/` by descriptors, never through a link, and owner and mode are those of what was
opened: nothing can be swapped in between a check and its use.
"""

import os
import stat
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import IO, Final

from hkswitch.core.errors import Exit, Failure

ROOT: Final = 0
LARGEST_FILE_BYTES: Final = 1024 * 1024
_WRITABLE_BY_OTHERS: Final = stat.S_IWGRP | stat.S_IWOTH  # an ACL that lets others write sets the group's bit


@dataclass(eq=False)
class Untrusted(Failure):
    """Somebody other than root could have written this, or it cannot be read at all."""

    path: str
    why: str
    exit_code = Exit.DENIED

    def __str__(self) -> str:
        return f"{self.path} is not trusted: {self.why}"


@dataclass(eq=False)
class NotThere(Failure):
    """There is no such file."""

    path: str
    exit_code = Exit.CONFIG

    def __str__(self) -> str:
        return f"{self.path} does not exist; the configuration belongs there"


def read(path: str) -> bytes:
    """The contents of the regular file at the absolute `path`; raises `Untrusted` or `NotThere`."""
    *folders, name = PurePosixPath(path).parts
    walked = PurePosixPath("/")
    folder = _open(None, "/", walked, os.O_PATH | os.O_DIRECTORY)
    try:
        for part in folders[1:]:
            walked /= part
            outer, folder = folder, _open(folder, part, walked, os.O_PATH | os.O_DIRECTORY)
            os.close(outer)
        # O_NONBLOCK: opening a FIFO that somebody put here must not hang.
        file = _open(folder, name, walked / name, os.O_RDONLY | os.O_NONBLOCK)
    finally:
        os.close(folder)
    with open(file, "rb") as opened:  # noqa: PTH123 -- a descriptor, not a path
        return _contents(path, opened)


def why_not(found: os.stat_result) -> str | None:
    """What is wrong with owner or mode, or None if only root can write it."""
    if found.st_uid != ROOT:
        return f"its owner is uid {found.st_uid}, not root; try: chown root"
    if found.st_mode & _WRITABLE_BY_OTHERS:
        return f"others than root can write it (mode {stat.S_IMODE(found.st_mode):04o}); try: chmod go-w"
    return None


def _open(folder: int | None, name: str, path: PurePosixPath, flags: int) -> int:
    """A descriptor of what is called `name` in an open folder, and is trusted."""
    try:
        descriptor = os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    except FileNotFoundError:
        raise NotThere(str(path)) from None
    except OSError as error:
        why = "it is a symbolic link" if os.path.islink(path) else str(error.strerror)  # noqa: PTH114 -- pure path
        raise Untrusted(str(path), why) from None
    try:
        _check(path, os.fstat(descriptor), folder=bool(flags & os.O_DIRECTORY))
    except Untrusted:
        os.close(descriptor)
        raise
    return descriptor


def _contents(path: str, opened: IO[bytes]) -> bytes:
    """All of an open file, as it was at one moment."""
    before = os.fstat(opened.fileno())
    try:
        contents = opened.read(LARGEST_FILE_BYTES + 1)
    except OSError as error:
        raise Untrusted(path, str(error.strerror)) from None
    if len(contents) > LARGEST_FILE_BYTES:
        raise Untrusted(path, f"it is larger than {LARGEST_FILE_BYTES} bytes")
    after = os.fstat(opened.fileno())
    if (before.st_mtime_ns, before.st_size) != (after.st_mtime_ns, len(contents)):
        raise Untrusted(path, "it was written while it was read; try again")
    return contents


def _check(path: PurePosixPath, found: os.stat_result, *, folder: bool) -> None:
    # TRUST: what root reads here decides what root does.
    if not folder and not stat.S_ISREG(found.st_mode):
        raise Untrusted(str(path), "it is not a file")
    if (why := why_not(found)) is not None:
        raise Untrusted(str(path), why)
