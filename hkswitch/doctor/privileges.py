"""Checks that NoNewPrivileges is off for a daemon that needs sudo, and on for one that does not.

`systemctl show` does not report NoNewPrivileges if another setting implies it, and which settings imply it
depends on the version of systemd. The kernel reports it for a running daemon. While none is running, the
doctor starts another process with those settings of the unit that may imply it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hkswitch.doctor.context import Context
from hkswitch.doctor.finding import WITH_SUDO, Check, Finding, fail, ok, skip
from hkswitch.doctor.programs import CannotRun, Completed, run
from hkswitch.model.installation import DAEMON_UNIT
from hkswitch.model.unit_state import HelperTransport

IMPLYING: Final = frozenset(
    {
        *("NoNewPrivileges", "PrivateDevices", "ProtectKernelTunables", "ProtectKernelModules"),
        *("ProtectKernelLogs", "ProtectClock", "ProtectHostname", "RestrictAddressFamilies"),
        *("RestrictNamespaces", "LockPersonality", "MemoryDenyWriteExecute", "RestrictRealtime"),
        *("RestrictSUIDSGID", "SystemCallArchitectures", "SystemCallFilter", "SystemCallLog"),
        *("DynamicUser", "PrivateUsers"),
    }
)
"""docs/sandbox.md gives the reasons. PrivateUsers does not imply it, but breaks sudo all the same."""

ALWAYS_IMPLYING: Final = frozenset({"NoNewPrivileges", "DynamicUser", "PrivateUsers"})
"""The others imply it with some versions of systemd only."""

PACKAGED_DROP_IN: Final = f"/usr/lib/systemd/system/{DAEMON_UNIT}.d/50-systemd-257.conf"
"""A file that is installed only where sudo works with this version of systemd."""

SOCKET_DROP_IN: Final = "/usr/lib/hkswitch/systemd/helper-socket.conf"

_LINK_DROP_IN: Final = (
    f"run `sudo mkdir -p /etc/systemd/system/{DAEMON_UNIT}.d`, "
    f"`sudo ln -s {SOCKET_DROP_IN} /etc/systemd/system/{DAEMON_UNIT}.d`, "
    f"`sudo systemctl daemon-reload` and `sudo systemctl restart {DAEMON_UNIT}`"
)

TRIAL_USER: Final = "nobody"
"""The user of the trial: not the daemon's, whose other processes could tamper with the trial's process."""

_REMOVE_SETTING: Final = (
    f"remove it, then run `sudo systemctl daemon-reload` and `sudo systemctl restart {DAEMON_UNIT}`"
)
_OFF: Final = frozenset({"", "no", "false", "off", "0", "n", "f"})


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting of the unit, and the file that contains it."""

    name: str
    value: str
    file: str

    def __str__(self) -> str:
        return f"{self.name}={self.value} in {self.file}"


async def privileges(context: Context) -> tuple[Finding]:
    """Check NoNewPrivileges of the daemon's process, or of its unit."""
    pid = context.main_pid
    if context.transport is HelperTransport.SOCKET:
        return (of_daemon_without_sudo(pid, _status(pid)),)
    status = _status(pid) if pid else ""  # first, while the process exists
    try:
        shown = await run("systemctl", "cat", DAEMON_UNIT)
    except CannotRun as failure:
        shown = Completed(1, "", str(failure))
    text = "" if shown.code else shown.output
    settings = implying(text)
    if pid:
        return (of_daemon(pid, status, _status(1), settings),)
    if not text:
        return (skip(Check.PRIVILEGES, f"cannot read {DAEMON_UNIT}: {shown.last_line}"),)
    trial = await _trial(settings) if settings and context.is_root and context.account else ""
    return (of_unit(settings, trial),)


def of_daemon(pid: int, status: str, status_of_init: str, settings: tuple[Setting, ...]) -> Finding:
    """Judge a daemon that needs sudo. `status`: /proc/PID/status of its process."""
    is_set = has_no_new_privileges(status)
    if is_set is None:
        return skip(Check.PRIVILEGES, f"cannot read /proc/{pid}/status")
    if not is_set:
        return ok(Check.PRIVILEGES, "NoNewPrivileges is not set for the daemon")
    what = "NoNewPrivileges is set for the daemon, so sudo cannot start the helper"
    if has_no_new_privileges(status_of_init):
        advice = "turn it off in the settings of the container or virtual machine"
        return fail(Check.PRIVILEGES, f"{what}; process 1 has it too", advice)
    cause = _names(settings) or "a setting of its unit implies it"
    return fail(Check.PRIVILEGES, f"{what}: {cause}", _REMOVE_SETTING)


def of_daemon_without_sudo(pid: int, status: str) -> Finding:
    """Judge a daemon whose helper systemd starts: it should be unable to gain privileges."""
    is_set = has_no_new_privileges(status)
    if is_set is None:
        return skip(
            Check.PRIVILEGES, f"cannot read /proc/{pid}/status" if pid else "the daemon is not running"
        )
    if is_set:
        return ok(Check.PRIVILEGES, "NoNewPrivileges is set for the daemon, which needs no sudo")
    what = "the daemon could gain privileges, which it does not need with `helper: socket`"
    return fail(Check.PRIVILEGES, what, _LINK_DROP_IN)


def of_unit(settings: tuple[Setting, ...], trial: str) -> Finding:
    """Judge a stopped daemon's unit. `trial`: the status of a process with these settings, if any ran."""
    if not settings:
        return ok(Check.PRIVILEGES, "no unit setting enables NoNewPrivileges")
    is_certain = any(setting.name in ALWAYS_IMPLYING for setting in settings)
    is_set = True if is_certain else has_no_new_privileges(trial)
    if is_set is None:
        what = f"with this version of systemd, the unit may enable NoNewPrivileges: {_names(settings)}"
        return skip(Check.PRIVILEGES, what, WITH_SUDO)
    if not is_set:
        return ok(Check.PRIVILEGES, "with this version of systemd, no unit setting enables NoNewPrivileges")
    return fail(Check.PRIVILEGES, f"sudo could not start the helper: {_names(settings)}", _REMOVE_SETTING)


def has_no_new_privileges(status: str) -> bool | None:
    """Whether the flag is set, by a process's status in /proc; None if the status does not say."""
    for line in status.split("\n"):
        name, _, value = line.partition(":")
        if name == "NoNewPrivs":
            return value.strip() != "0"
    return None


def implying(text: str) -> tuple[Setting, ...]:
    """Return the settings in the output of `systemctl cat` that may keep sudo from becoming root."""
    found: dict[str, Setting] = {}
    for setting in settings_in(text):
        if setting.name in IMPLYING and setting.file != PACKAGED_DROP_IN:
            found[setting.name] = setting
    return tuple(setting for setting in found.values() if setting.value.lower() not in _OFF)


def settings_in(text: str) -> Iterator[Setting]:
    """Yield all settings in the output of `systemctl cat`, in order."""
    file = ""
    for line in text.replace("\\\n", " ").split("\n"):
        if line.startswith("# /"):
            file = line.removeprefix("# ")
        elif not line.lstrip().startswith(("#", ";", "[")) and "=" in line:
            name, _, value = line.partition("=")
            yield Setting(name.strip(), value.strip(), file)


def _names(settings: tuple[Setting, ...]) -> str:
    certain = [setting for setting in settings if setting.name in ALWAYS_IMPLYING]
    return " and ".join(str(setting) for setting in certain or settings)


async def _trial(settings: tuple[Setting, ...]) -> str:
    """Return the status in /proc of an unprivileged process that systemd starts with these settings."""
    values = (f"{setting.name}={setting.value}" for setting in settings)
    properties = (f"--property={value}" for value in (f"User={TRIAL_USER}", *values))
    unit = ("--quiet", "--wait", "--pipe", "--collect", *properties)
    try:
        return (await run("systemd-run", *unit, "cat", "/proc/self/status")).output
    except CannotRun:
        return ""


def _status(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
