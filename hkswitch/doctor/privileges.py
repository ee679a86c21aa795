"""Whether the daemon's processes may gain the privileges that sudo gives its helper.

`systemctl show` says nothing of no-new-privileges that another option implies, and which ones do depends on
systemd's version. The kernel knows it of the daemon that runs. While none does, those options of the unit
that may imply it are tried with another process.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hkswitch.doctor.context import ROOT, UNIT, Situation
from hkswitch.doctor.finding import WITH_SUDO, Finding, Point, ok, unknown, wrong
from hkswitch.doctor.programs import CannotRun, Ran, run
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
"""docs/sandbox.md says why. PrivateUsers does not imply it, and makes sudo as useless."""

ALWAYS: Final = frozenset({"NoNewPrivileges", "DynamicUser", "PrivateUsers"})
"""The others do only with some releases of systemd."""

OURS: Final = f"/usr/lib/systemd/system/{UNIT}.d/50-systemd-257.conf"
"""It is installed only where systemd lets sudo survive it."""

DROP_IN: Final = "/usr/lib/hkswitch/systemd/helper-socket.conf"

_LINK: Final = (
    f"`sudo install -d /etc/systemd/system/{UNIT}.d`, `sudo ln -s {DROP_IN} /etc/systemd/system/{UNIT}.d/`, "
    f"`sudo systemctl daemon-reload` and restart {UNIT}"
)

NOBODY: Final = "nobody"

_ADVICE: Final = f"remove it, `sudo systemctl daemon-reload` and restart {UNIT}"
_OFF: Final = frozenset({"", "no", "false", "off", "0", "n", "f"})


@dataclass(frozen=True, slots=True)
class Option:
    """An option of the unit, and the file that has it."""

    name: str
    value: str
    file: str

    def __str__(self) -> str:
        return f"{self.name}={self.value} in {self.file}"


async def privileges(situation: Situation) -> tuple[Finding]:
    """The point no-new-privileges."""
    process = situation.main_process
    if situation.crossing is HelperTransport.SOCKET:
        return (without_sudo(process, _status(process)),)
    status = _status(process) if process else ""  # first, while it is there
    try:
        shown = await run("systemctl", "cat", UNIT)
    except CannotRun as failure:
        shown = Ran(1, "", str(failure))
    text = "" if shown.code else shown.output
    options = implying(text)
    if process:
        return (of_daemon(process, status, _status(1), options),)
    if not text:
        return (unknown(Point.PRIVILEGES, shown.complaint),)
    tried = await _tried(options) if options and situation.asker == ROOT and situation.account else ""
    return (of_unit(options, tried),)


def of_daemon(process: int, status: str, status_of_init: str, options: tuple[Option, ...]) -> Finding:
    """`status`: what /proc says of the daemon's process, and of process 1."""
    none = has_none(status)
    if none is None:
        return unknown(Point.PRIVILEGES, f"/proc/{process}/status cannot be read")
    if not none:
        return ok(Point.PRIVILEGES, "not set for the daemon")
    what = "it is set for the daemon, so that sudo cannot start the helper"
    if has_none(status_of_init):
        advice = "the container or virtual machine that this runs in must allow it"
        return wrong(Point.PRIVILEGES, f"{what}; process 1 has it too", advice)
    return wrong(
        Point.PRIVILEGES, f"{what}: {_named(options) or 'an option of its unit implies it'}", _ADVICE
    )


def without_sudo(process: int, status: str) -> Finding:
    """Of a daemon that systemd starts the helper for: it should not be able to gain any."""
    none = has_none(status)
    if none is None:
        return unknown(
            Point.PRIVILEGES, f"/proc/{process}/status cannot be read" if process else "no daemon runs"
        )
    if none:
        return ok(Point.PRIVILEGES, "set for the daemon, which needs no sudo")
    what = "the daemon could gain privileges, which it does not need with `helper: socket`"
    return wrong(Point.PRIVILEGES, what, _LINK)


def of_unit(options: tuple[Option, ...], tried: str) -> Finding:
    """`tried`: what /proc says of a process that was started with these options, if one was."""
    if not options:
        return ok(Point.PRIVILEGES, "no option of the unit implies it")
    none = True if any(option.name in ALWAYS for option in options) else has_none(tried)
    if none is None:
        return unknown(Point.PRIVILEGES, f"this systemd may imply it: {_named(options)}", WITH_SUDO)
    if not none:
        return ok(Point.PRIVILEGES, "no option of the unit implies it with this systemd")
    return wrong(Point.PRIVILEGES, f"sudo could not start the helper: {_named(options)}", _ADVICE)


def has_none(status: str) -> bool | None:
    """Whether a process can gain no new privileges, by its status in /proc; None if that says nothing."""
    for line in status.split("\n"):
        name, _, value = line.partition(":")
        if name == "NoNewPrivs":
            return value.strip() != "0"
    return None


def implying(text: str) -> tuple[Option, ...]:
    """The options in what `systemctl cat` prints that keep sudo from becoming root."""
    found: dict[str, Option] = {}
    for option in options_of(text):
        if option.name in IMPLYING and option.file != OURS:
            found[option.name] = option
    return tuple(option for option in found.values() if option.value.lower() not in _OFF)


def options_of(text: str) -> Iterator[Option]:
    """Every option in what `systemctl cat` prints, in its order."""
    file = ""
    for line in text.replace("\\\n", " ").split("\n"):
        if line.startswith("# /"):
            file = line.removeprefix("# ")
        elif not line.lstrip().startswith(("#", ";", "[")) and "=" in line:
            name, _, value = line.partition("=")
            yield Option(name.strip(), value.strip(), file)


def _named(options: tuple[Option, ...]) -> str:
    sure = [option for option in options if option.name in ALWAYS]
    return " and ".join(str(option) for option in sure or options)


async def _tried(options: tuple[Option, ...]) -> str:
    """The status in /proc of a process that is started with these options, as a user who is not root.

    It is not the daemon's user: whatever runs as that one can reach into the process.
    """
    settings = (f"{option.name}={option.value}" for option in options)
    properties = (f"--property={setting}" for setting in (f"User={NOBODY}", *settings))
    unit = ("--quiet", "--wait", "--pipe", "--collect", *properties)
    try:
        return (await run("systemd-run", *unit, "cat", "/proc/self/status")).output
    except CannotRun:
        return ""


def _status(process: int) -> str:
    try:
        return Path(f"/proc/{process}/status").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
