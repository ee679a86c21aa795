"""Failures, and the exit codes they end a program with. Pure: no I/O."""

from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple


class Exit(IntEnum):
    """Exit codes, after sysexits.h. Never 1 on purpose: sudo and a crash give that one."""

    OK = 0
    NOT_ON = 3  # `status` of a group that is not on, as systemctl says it
    USAGE = 64  # EX_USAGE
    DAMAGED = 65  # EX_DATAERR
    UNAVAILABLE = 69  # EX_UNAVAILABLE
    CANNOT_WRITE = 73  # EX_CANTCREAT
    OUTPUT = 74  # EX_IOERR
    DENIED = 77  # EX_NOPERM
    CONFIG = 78  # EX_CONFIG; systemd does not restart the daemon after this one


class Failure(Exception):
    """Something a person can fix: `str()` is one sentence (what, where, what to do)."""

    exit_code: Exit = Exit.UNAVAILABLE

    def __init__(self, text: str = "", exit_code: Exit | None = None) -> None:
        super().__init__(text)
        self.exit_code = exit_code or self.exit_code


class Problem(NamedTuple):
    """One mistake in a config. `line` and `column` count from 1; `path` is like `groups.web.units[0]`."""

    line: int
    column: int
    path: str
    message: str

    def __str__(self) -> str:
        where = f"{self.line}:{self.column}"
        return f"{where}: {self.path}: {self.message}" if self.path else f"{where}: {self.message}"


@dataclass(eq=False)
class ConfigError(Failure):
    """A config with mistakes: all of them, in the file's order."""

    file: str
    problems: tuple[Problem, ...]
    exit_code = Exit.CONFIG

    def __str__(self) -> str:
        return "\n".join(f"{self.file}:{problem}" for problem in self.problems)


@dataclass(eq=False)
class ConfigUnreadable(Failure):
    """A config that cannot be read at all."""

    file: str
    why: str
    exit_code = Exit.CONFIG

    def __str__(self) -> str:
        return f"{self.file}: cannot read the configuration: {self.why}"


@dataclass(eq=False)
class BusUnavailable(Failure):
    """The system bus, or systemd on it, does not answer."""

    why: str
    exit_code = Exit.UNAVAILABLE

    def __str__(self) -> str:
        return f"cannot talk to systemd over the system bus: {self.why}"
