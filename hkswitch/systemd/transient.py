"""Commands as transient units: each has its own session and cgroup, whose processes systemd ends and reaps.

Also a scope: a unit into which systemd moves a running process. systemd.service(5), systemd.exec(5),
systemd.kill(5) and systemd.resource-control(5) describe the properties.
"""

from collections.abc import Collection, Mapping
from typing import Any, Final, NamedTuple

from hkswitch.systemd.command import Command, Ended, ServiceResult
from hkswitch.systemd.interface import TypedProperties

KILL_AFTER_SECONDS: Final = 2
"""How long systemd waits after SIGTERM before it kills a command that took too long."""

STOP_WITHIN_SECONDS: Final = 5
"""How long a stopped scope has before systemd kills it."""

MOST_LINES: Final = 200
MOST_LINES_WITHIN_SECONDS: Final = 30

_FROM_SYSTEMD: Final = (
    *("INVOCATION_ID", "JOURNAL_STREAM", "SYSTEMD_EXEC_PID", "NOTIFY_SOCKET", "CREDENTIALS_DIRECTORY"),
    *("MEMORY_PRESSURE_WATCH", "MEMORY_PRESSURE_WRITE", "TERM"),
)
_OF_USER: Final = ("USER", "LOGNAME", "HOME", "SHELL")
"""Variables that systemd sets by itself, the latter for a unit with a user (systemd.exec(5))."""

_MICROSECONDS: Final = 1_000_000
"""In a second."""


def properties_of(command: Command, inherited: Collection[str]) -> TypedProperties:
    """Return the properties of a oneshot unit; `inherited` are the names in systemd's environment."""
    program, *_ = command.argv
    of_user = _OF_USER if command.user else ()
    unwanted = {*_FROM_SYSTEMD, *_OF_USER, *inherited} - {*command.environment, *of_user}
    return [
        ("Description", ("s", f"hkswitch: {program}")),
        ("Type", ("s", "oneshot")),
        # Without variable expansion: an argument with a dollar sign stays as it is.
        ("ExecStartEx", ("a(sasas)", [(program, list(command.argv), ["no-env-expand"])])),
        ("Environment", ("as", [f"{name}={value}" for name, value in command.environment.items()])),
        ("UnsetEnvironment", ("as", sorted(unwanted))),
        ("StandardInput", ("s", "null")),
        ("IgnoreSIGPIPE", ("b", False)),
        ("TimeoutStartUSec", ("t", command.timeout_seconds * _MICROSECONDS)),
        ("TimeoutStopUSec", ("t", KILL_AFTER_SECONDS * _MICROSECONDS)),
        ("StartLimitIntervalUSec", ("t", 0)),
        ("CollectMode", ("s", "inactive-or-failed")),
        *(_QUIET if command.probe else _LOGGED),
        *_identity(command),
        *([("KillMode", ("s", "process"))] if command.detached else ()),
    ]


def _identity(command: Command) -> TypedProperties:
    """Return the properties with which systemd becomes the user: it sets the user's groups and variables.

    No-new-privileges stays off, because the command may use sudo if its user may.
    """
    if command.unprivileged:
        return _UNPRIVILEGED
    if not command.user:
        return []
    return [("User", ("s", command.user)), ("WorkingDirectory", ("s", command.directory or "~"))]


_UNPRIVILEGED: Final[TypedProperties] = [
    # Implies no-new-privileges, a /tmp of its own and otherwise read-only files (systemd.exec(5)).
    ("DynamicUser", ("b", True)),
    ("ProtectHome", ("s", "yes")),
    ("CapabilityBoundingSet", ("t", 0)),
]

_LOGGED: Final[TypedProperties] = [
    ("StandardOutput", ("s", "journal")),
    ("StandardError", ("s", "journal")),
    ("LogRateLimitIntervalUSec", ("t", MOST_LINES_WITHIN_SECONDS * _MICROSECONDS)),
    ("LogRateLimitBurst", ("u", MOST_LINES)),
]

_QUIET: Final[TypedProperties] = [
    ("StandardOutput", ("s", "null")),
    ("StandardError", ("s", "null")),
    ("LogLevelMax", ("i", 0)),
    ("SuccessExitStatus", ("(aiai)", (list(range(1, 256)), []))),
]


class Scope(NamedTuple):
    """A unit into which this process is moved."""

    name: str
    description: str
    slice: str
    stops_after: tuple[str, ...]
    """Units whose stop propagates to the scope, which stops after them."""
    memory_bytes: int
    tasks: int

    @property
    def properties(self) -> TypedProperties:
        """The properties with which systemd creates it."""
        return [
            ("Description", ("s", self.description)),
            ("PIDs", ("au", [0])),  # 0 is the calling process
            ("Slice", ("s", self.slice)),
            ("Before", ("as", [*self.stops_after])),
            ("StopPropagatedFrom", ("as", [*self.stops_after])),
            ("MemoryMax", ("t", self.memory_bytes)),
            ("TasksMax", ("t", self.tasks)),
            ("DevicePolicy", ("s", "closed")),
            ("TimeoutStopUSec", ("t", STOP_WITHIN_SECONDS * _MICROSECONDS)),
            ("CollectMode", ("s", "inactive-or-failed")),
        ]


def ended(properties: Mapping[str, tuple[str, Any]]) -> Ended:
    """Return how a command ended, from the last properties of its service."""
    _, result = properties.get("Result", ("s", ""))
    _, status = properties.get("ExecMainStatus", ("i", 0))
    return Ended(ServiceResult(result), status)
