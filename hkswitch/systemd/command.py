"""A command that systemd runs once, and how it ended. Pure: no I/O."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final, NamedTuple

from hkswitch.model.group import Argv
from hkswitch.systemd.outcome import NOT_EXECUTED, signal_name

MAY_MEAN: Final = {
    200: "cannot enter its directory",
    216: "cannot take on the user's groups",
    217: "cannot take on the user",
}
"""Exit codes of systemd's own, from before a program runs (systemd.exec(5)); programs may use them, too."""

LARGEST_ANSWER: Final = 125
"""Shells and other wrappers use higher exit codes when they cannot run a program."""


class Command(NamedTuple):
    """A program to run as a transient unit of this name, with a time limit.

    A probe runs repeatedly: its exit code is the answer, and its output is not logged. Without a `user`, root
    runs the program. A detached command leaves its children running when it ends. An unprivileged one runs as
    a user that exists only meanwhile.
    """

    unit: str
    argv: Argv
    environment: Mapping[str, str]
    timeout_seconds: int
    probe: bool = False
    user: str = ""
    directory: str = ""
    """The working directory; empty for the user's home."""
    detached: bool = False
    unprivileged: bool = False


class ServiceResult(StrEnum):
    """systemd's Result of a service (org.freedesktop.systemd1(5))."""

    SUCCESS = "success"
    EXIT_CODE = "exit-code"
    SIGNAL = "signal"
    CORE_DUMP = "core-dump"
    TIMEOUT = "timeout"
    RESOURCES = "resources"
    EXISTS = "exists"  # ours: a unit of that name has processes
    DETACHED = "detached"  # ours: it is still running, and nobody waits for it any longer
    OTHER = "other"  # ours: a result that makes no difference here, or one of a newer systemd
    LOST = "lost"  # ours: it ended while there was no connection to systemd

    @classmethod
    def _missing_(cls, value: object) -> "ServiceResult":  # noqa: ARG003 -- the signature is Enum's
        return cls.OTHER


class Ended(NamedTuple):
    """How a command ended: `status` is its exit code, or the number of the signal that ended it.

    `detail` is why it was not run, if systemd created no unit for it.
    """

    result: ServiceResult
    status: int
    detail: str = ""

    @property
    def exit_code(self) -> int | None:
        """The exit code of the program itself; None if it did not exit."""
        ended = self.result in {ServiceResult.SUCCESS, ServiceResult.EXIT_CODE}
        return self.status if ended and self.status != NOT_EXECUTED else None

    @property
    def was_run(self) -> bool:
        """Whether the program was executed."""
        unmade = {ServiceResult.RESOURCES, ServiceResult.OTHER, ServiceResult.EXISTS, ServiceResult.LOST}
        exited = {ServiceResult.SUCCESS, ServiceResult.EXIT_CODE}
        return self.result not in unmade and (self.result not in exited or self.exit_code is not None)

    def __str__(self) -> str:
        match self.result:
            case ServiceResult.SUCCESS | ServiceResult.EXIT_CODE:
                return f"exited with status {self.status}" if self.was_run else "could not be executed"
            case ServiceResult.SIGNAL | ServiceResult.CORE_DUMP:
                return f"was killed by {signal_name(self.status)}"
            case ServiceResult.TIMEOUT:
                return "took too long"
            case ServiceResult.DETACHED:
                return "is still running"
            case ServiceResult.LOST:
                return "ended while systemd was unreachable"
            case ServiceResult.RESOURCES | ServiceResult.OTHER | ServiceResult.EXISTS:
                return f"was not run: {self.detail}" if self.detail else "could not be run"
