"""Failures, and the exit codes that they lead to. Pure: no I/O."""

import errno
from enum import IntEnum
from typing import Final, NamedTuple

_DENIED: Final = {errno.EACCES, errno.EPERM}
_NO_SUCH_FILE: Final = {
    *(errno.ENOENT, errno.ENOTDIR, errno.EISDIR),
    *(errno.ELOOP, errno.ENAMETOOLONG, errno.EINVAL, errno.ENXIO),
}
"""Errors of a path that does not lead to a regular file: none of them fixes itself."""


class Exit(IntEnum):
    """Exit codes, as in sysexits.h; 1 is left to sudo and to crashes."""

    OK = 0
    NOT_ON = 3  # `status` of a group that is not on, as in systemctl
    USAGE = 64  # EX_USAGE
    DAMAGED = 65  # EX_DATAERR
    UNAVAILABLE = 69  # EX_UNAVAILABLE
    CANNOT_WRITE = 73  # EX_CANTCREAT
    OUTPUT = 74  # EX_IOERR
    DENIED = 77  # EX_NOPERM
    CONFIG = 78  # EX_CONFIG; systemd does not restart the daemon after this one


def exit_of(error: OSError, no_such_file: Exit) -> Exit:
    """Return the exit code for a file that cannot be read.

    That is `no_such_file` if there is no such file. Other errors, such as a lack of descriptors, may be gone
    at the next attempt, so their code lets systemd restart the daemon.
    """
    if error.errno in _DENIED:
        return Exit.DENIED
    return no_such_file if error.errno in _NO_SUCH_FILE else Exit.UNAVAILABLE


def reason_of(error: Exception) -> str:
    """Return why something failed, in a few words, with the name of the file if there is one."""
    if isinstance(error, MemoryError):
        return "out of memory"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror if error.filename is None else f"{error.filename}: {error.strerror}"
    return str(error) or type(error).__name__


class Failure(Exception):
    """An error that the user can fix: `str()` is one sentence that says what, where, and what to do."""

    exit_code: Exit = Exit.UNAVAILABLE

    def __init__(self, text: str, exit_code: Exit | None = None) -> None:
        super().__init__(text)
        self.exit_code = exit_code or self.exit_code


class Problem(NamedTuple):
    """One mistake in a config. `line` and `column` count from 1; `path` looks like `groups.web.units[0]`."""

    line: int
    column: int
    path: str
    message: str

    def __str__(self) -> str:
        where = f"{self.line}:{self.column}"
        return f"{where}: {self.path}: {self.message}" if self.path else f"{where}: {self.message}"


class ConfigError(Failure):
    """A config with mistakes; lists all of them, in the order of the file."""

    exit_code = Exit.CONFIG

    def __init__(self, file: str, problems: tuple[Problem, ...]) -> None:
        super().__init__("\n".join(f"{file}:{problem}" for problem in problems))
        self.problems = problems


class ConfigUnreadable(Failure):
    """A config that cannot be read at all."""

    def __init__(self, file: str, reason: str, exit_code: Exit = Exit.UNAVAILABLE) -> None:
        super().__init__(f"cannot read {file}: {reason}", exit_code)


class BusUnavailable(Failure):
    """The system bus, or systemd on it, does not respond."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"no connection to systemd over the system bus: {reason}")
