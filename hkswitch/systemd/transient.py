"""Commands as transient units: each has its own session and cgroup, and systemd ends and reaps all of it.

And a scope, a unit that takes over a process. systemd.service(5), systemd.exec(5), systemd.kill(5) and
systemd.resource-control(5) describe the properties.
"""

from collections.abc import Collection, Mapping
from typing import Any, Final, NamedTuple

from hkswitch.systemd.command import Command, Ended, ServiceResult
from hkswitch.systemd.connection import SYSTEMD
from hkswitch.systemd.interface import Properties

SERVICE: Final = f"{SYSTEMD}.Service"

KILL_AFTER_SECONDS: Final = 2
"""What does not end at SIGTERM after its time is killed."""

STOP_WITHIN_SECONDS: Final = 5
"""A scope that is stopped is killed after so long."""

MOST_LINES: Final = 200
MOST_LINES_WITHIN_SECONDS: Final = 30

_FROM_SYSTEMD: Final = (
    *("INVOCATION_ID", "JOURNAL_STREAM", "SYSTEMD_EXEC_PID", "NOTIFY_SOCKET", "CREDENTIALS_DIRECTORY"),
    *("MEMORY_PRESSURE_WATCH", "MEMORY_PRESSURE_WRITE", "USER", "LOGNAME", "HOME", "SHELL", "TERM"),
)
"""What systemd puts into an environment by itself (systemd.exec(5))."""

_SECOND: Final = 1_000_000  # microseconds


def properties_of(command: Command, inherited: Collection[str]) -> Properties:
    """A oneshot unit that is gone when the command has ended. `inherited`: names in systemd's environment."""
    program, *_ = command.argv
    unwanted = {*_FROM_SYSTEMD, *inherited} - command.environment.keys()
    return [
        ("Description", ("s", f"hkswitch: {program}")),
        ("Type", ("s", "oneshot")),
        # Without an environment's variables: an argument with a dollar sign is what it is.
        ("ExecStartEx", ("a(sasas)", [(program, list(command.argv), ["no-env-expand"])])),
        ("Environment", ("as", [f"{name}={value}" for name, value in command.environment.items()])),
        ("UnsetEnvironment", ("as", sorted(unwanted))),
        ("StandardInput", ("s", "null")),
        ("IgnoreSIGPIPE", ("b", False)),
        ("TimeoutStartUSec", ("t", command.timeout_seconds * _SECOND)),
        ("TimeoutStopUSec", ("t", KILL_AFTER_SECONDS * _SECOND)),
        ("StartLimitIntervalUSec", ("t", 0)),
        ("CollectMode", ("s", "inactive-or-failed")),
        *(_QUIET if command.probe else _LOGGED),
    ]


_LOGGED: Final[Properties] = [
    ("StandardOutput", ("s", "journal")),
    ("StandardError", ("s", "journal")),
    ("LogRateLimitIntervalUSec", ("t", MOST_LINES_WITHIN_SECONDS * _SECOND)),
    ("LogRateLimitBurst", ("u", MOST_LINES)),
]

_QUIET: Final[Properties] = [
    ("StandardOutput", ("s", "null")),
    ("StandardError", ("s", "null")),
    ("LogLevelMax", ("i", 0)),
    ("SuccessExitStatus", ("(aiai)", (list(range(1, 256)), []))),
]


class Scope(NamedTuple):
    """A unit that this process is moved into."""

    name: str
    description: str
    slice: str
    stops_after: str
    """The unit with which it ends, after it."""
    memory_bytes: int
    tasks: int

    @property
    def properties(self) -> Properties:
        """What systemd makes it of."""
        return [
            ("Description", ("s", self.description)),
            ("PIDs", ("au", [0])),  # that is the process which asks
            ("Slice", ("s", self.slice)),
            ("Before", ("as", [self.stops_after])),
            ("StopPropagatedFrom", ("as", [self.stops_after])),
            ("MemoryMax", ("t", self.memory_bytes)),
            ("TasksMax", ("t", self.tasks)),
            ("DevicePolicy", ("s", "closed")),
            ("TimeoutStopUSec", ("t", STOP_WITHIN_SECONDS * _SECOND)),
            ("CollectMode", ("s", "inactive-or-failed")),
        ]


def ended(properties: Mapping[str, tuple[str, Any]]) -> Ended:
    """What the last properties of a service say of its end."""
    _, result = properties.get("Result", ("s", ""))
    _, status = properties.get("ExecMainStatus", ("i", 0))
    return Ended(ServiceResult(result), status)
