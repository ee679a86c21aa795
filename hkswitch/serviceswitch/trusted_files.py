"""Accepts files that only root can have written, and refuses all others. Runs as root.

A path is walked from `/` by descriptors, and owner and mode are checked on the open descriptor: nothing can
be swapped between a check and its use. The config is never read through a link.
"""

import asyncio
import os
import pwd
import stat
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import PurePosixPath
from typing import Final

from hkswitch.model.errors import Exit, Failure, exit_of
from hkswitch.model.installation import DAEMON_USER

ROOT: Final = 0
LARGEST_FILE_BYTES: Final = 1024 * 1024
MOST_LINKS: Final = 40  # as many as the kernel follows (path_resolution(7))
MOST_INTERPRETERS: Final = 4  # and as many nested script interpreters as it allows
_FIRST_LINE_BYTES: Final = 256  # the part of a script that the kernel reads (execve(2))
_ELSEWHERE: Final = "keep the file in a folder that only root can write"
_WRITABLE_BY_OTHERS: Final = stat.S_IWGRP | stat.S_IWOTH  # an ACL that allows others to write sets S_IWGRP


class Untrusted(Failure):
    """A file that a user other than root can have written, or that cannot be read."""

    exit_code = Exit.DENIED

    def __init__(self, path: str, why: str, code: Exit = Exit.DENIED, what: str = "is not trusted: ") -> None:
        super().__init__(f"{path} {what}{why}", code)


class NoSuchUser(Untrusted):
    """A user that does not exist."""

    def __init__(self, name: str) -> None:
        Failure.__init__(self, f"there is no user {name!r}; create the user, or change `user` of the group")


class NotThere(Failure):
    """A file that does not exist."""

    exit_code = Exit.CONFIG

    def __init__(self, path: str) -> None:
        super().__init__(f"{path} does not exist; run `sudo hkswitch doctor`")


def is_root(name: str) -> bool:
    """Tell whether a user is root under any name; raises `Untrusted`."""
    try:
        uid = pwd.getpwnam(name).pw_uid
    except KeyError:
        raise NoSuchUser(name) from None
    with suppress(KeyError):
        # TRUST: under any name, the daemon could write what it then runs outside its sandbox.
        if uid == pwd.getpwnam(DAEMON_USER).pw_uid:
            raise Untrusted(f"the user {name}", "the daemon runs as this user; choose another one")
    return uid == ROOT


def read(path: str) -> bytes:
    """Read the regular file at the absolute `path`; raises `Untrusted` or `NotThere`."""
    *folders, name = PurePosixPath(path).parts
    walked = PurePosixPath("/")
    folder = _trusted(None, "/", walked, os.O_PATH | os.O_DIRECTORY)
    try:
        for part in folders[1:]:
            walked /= part
            outer, folder = folder, _trusted(folder, part, walked, os.O_PATH | os.O_DIRECTORY)
            os.close(outer)
        # O_NONBLOCK: opening a FIFO must not block.
        file = _trusted(folder, name, walked / name, os.O_RDONLY | os.O_NONBLOCK)
    finally:
        os.close(folder)
    try:
        return _contents(path, file)
    finally:
        os.close(file)


class SharedRead:
    """Reads a file once for all requests that have arrived together.

    The event loop runs what was scheduled before the read, and then forgets the contents. So every request
    that they decide had arrived before the read, and a change that was made before a request counts for it.
    """

    def __init__(self, read: Callable[[str], bytes]) -> None:
        self._read = read
        self._contents: dict[str, bytes] = {}

    def __call__(self, path: str) -> bytes:
        """Return the contents of a file; raises as `read` does."""
        if path not in self._contents:
            self._contents[path] = self._read(path)
            asyncio.get_running_loop().call_soon(self._contents.clear)
        return self._contents[path]


def program(path: str, interpreters: int = MOST_INTERPRETERS) -> None:
    """Refuse a program that users other than root can have written or replaced; raises `Untrusted`.

    The interpreter of a script is checked, too, because it is what runs.
    """
    if (interpreter := interpreter_of(_walked(path))) is None:
        return
    if not interpreters:
        raise Untrusted(path, "too many nested interpreters")
    try:
        program(interpreter, interpreters - 1)
    except Untrusted as refusal:
        raise Untrusted(path, f"its interpreter {refusal}") from None


def interpreter_of(path: str) -> str | None:
    """Return the interpreter of the script at a trusted `path` without links; None if it is not a script."""
    try:
        file = _open(None, path, PurePosixPath(path), os.O_RDONLY | os.O_NONBLOCK)
    except NotThere:
        raise Untrusted(path, "does not exist", what="") from None
    try:
        mark, line = os.read(file, 2), os.read(file, _FIRST_LINE_BYTES - 2)
    finally:
        os.close(file)
    if mark != b"#!":
        return None
    # As in fs/binfmt_script.c. The kernel does not run a name that is cut off here.
    words = line.split(b"\n")[0].split(b"\0")[0].replace(b"\t", b" ").strip(b" ").split(b" ")
    name = words[0].decode("ascii", "replace")
    if not name.startswith("/") or not name.isprintable() or "\ufffd" in name:
        raise Untrusted(path, "its first line does not name an interpreter by its absolute path")
    return name


def _walked(path: str) -> str:
    """Return the path of a trusted program without links.

    Links are followed as the kernel follows them, and their targets are walked in the same way.
    """
    steps, walked, links = deque(PurePosixPath(path).parts), PurePosixPath("/"), 0
    reached: int | None = None
    try:
        while steps:
            step = steps.popleft()
            here = walked.parent if step == ".." else walked / step
            try:
                found = _open(reached, step, here, os.O_PATH)
            except NotThere:
                raise Untrusted(str(here), "does not exist; install it, or fix the path", what="") from None
            if stat.S_ISLNK(os.fstat(found).st_mode):
                links += 1
                steps.extendleft(reversed(_target(found, here, links)))
                continue
            reached, walked, outer = found, here, reached
            if outer is not None:
                os.close(outer)
            _check(walked, os.fstat(found))
        assert reached is not None  # noqa: S101 -- there was a first step
        _check_file(walked, os.fstat(reached))
        if not os.fstat(reached).st_mode & stat.S_IXUSR:
            raise Untrusted(str(walked), f"it is not executable; run `sudo chmod +x {walked}`")
        return str(walked)
    finally:
        if reached is not None:
            os.close(reached)


def why_not(path: PurePosixPath, found: os.stat_result) -> str | None:
    """Explain why owner or mode let others write it; None if only root can."""
    if found.st_uid != ROOT:
        chown = f"run `sudo chown root {path}`"
        if stat.S_ISDIR(found.st_mode):
            is_home = path.is_relative_to("/home")  # and has to stay its user's
            chown = _ELSEWHERE if is_home else f"{_ELSEWHERE}; if this folder should be root's, {chown}"
        return f"its owner is uid {found.st_uid}, not root; {chown}"
    if found.st_mode & _WRITABLE_BY_OTHERS:
        # /tmp is for all users.
        advice = _ELSEWHERE if found.st_mode & stat.S_ISVTX else f"run `sudo chmod go-w {path}`"
        return f"other users can write it (mode {stat.S_IMODE(found.st_mode):04o}); {advice}"
    return None


def _trusted(folder: int | None, name: str, path: PurePosixPath, flags: int) -> int:
    """Open the trusted file or folder `name` in an open folder."""
    descriptor = _open(folder, name, path, flags)
    try:
        found = os.fstat(descriptor)
        if not flags & os.O_DIRECTORY:
            _check_file(path, found)
        _check(path, found)
    except Untrusted:
        os.close(descriptor)
        raise
    return descriptor


def _open(folder: int | None, name: str, path: PurePosixPath, flags: int) -> int:
    try:
        return os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    except FileNotFoundError:
        raise NotThere(str(path)) from None
    except OSError as error:
        why = "it is a symbolic link" if os.path.islink(path) else str(error.strerror)  # noqa: PTH114 -- pure path
        raise Untrusted(str(path), why, exit_of(error, Exit.DENIED)) from None


def _target(link: int, path: PurePosixPath, links: int) -> tuple[str, ...]:
    """Return the steps of an open link's target; closes the link."""
    try:
        if links > MOST_LINKS:
            raise Untrusted(str(path), "too many symbolic links")
        return PurePosixPath(os.readlink("", dir_fd=link)).parts
    finally:
        os.close(link)


def _contents(path: str, file: int) -> bytes:
    """Read all of an open file, as it was at one moment."""
    before = os.fstat(file)
    if before.st_size > LARGEST_FILE_BYTES:
        raise Untrusted(path, f"it is larger than {LARGEST_FILE_BYTES} bytes")
    try:
        contents = os.read(file, before.st_size + 1)
    except OSError as error:
        raise Untrusted(path, str(error.strerror), exit_of(error, Exit.DENIED)) from None
    after = os.fstat(file)
    if (before.st_mtime_ns, before.st_size) != (after.st_mtime_ns, len(contents)):
        raise Untrusted(path, "it changed while it was being read; try again")
    return contents


def _check(path: PurePosixPath, found: os.stat_result) -> None:
    # TRUST: the files that root reads or runs here decide what root does.
    if (why := why_not(path, found)) is not None:
        raise Untrusted(str(path), why)


def _check_file(path: PurePosixPath, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise Untrusted(str(path), "it is not a file")
