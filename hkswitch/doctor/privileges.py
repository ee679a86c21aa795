"""Whether the daemon's processes may gain the privileges that sudo gives its helper.

`systemctl show` says nothing of no-new-privileges that another option implies: the kernel knows it of the
daemon that runs, and while none does, the unit's own text is read.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hkswitch.doctor.finding import Finding, Point, ok, unknown, wrong
from hkswitch.doctor.programs import CannotRun, run
from hkswitch.doctor.situation import UNIT, Situation

IMPLYING: Final = frozenset(
    {
        *("NoNewPrivileges", "PrivateDevices", "ProtectKernelTunables", "ProtectKernelModules"),
        *("ProtectKernelLogs", "ProtectClock", "ProtectHostname", "RestrictAddressFamilies"),
        *("RestrictNamespaces", "LockPersonality", "MemoryDenyWriteExecute", "RestrictRealtime"),
        *("RestrictSUIDSGID", "SystemCallArchitectures", "SystemCallFilter", "PrivateUsers"),
    }
)
"""packaging/hkswitch.service says why. PrivateUsers does not imply it, and makes sudo as useless."""

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
    status = _status(process) if process else ""
    try:
        text = (await run("systemctl", "cat", UNIT)).output
    except CannotRun:
        text = ""
    if not process and not text:
        return (unknown(Point.PRIVILEGES, f"systemd has no {UNIT}"),)
    return (gained(process, status, _status(1), implying(text)),)


def gained(process: int, status: str, status_of_init: str, options: tuple[Option, ...]) -> Finding:
    """`status`: what /proc says of the daemon's process, 0 for none, and of process 1."""
    named = " and ".join(str(option) for option in options)
    advice = f"remove it, `sudo systemctl daemon-reload` and restart {UNIT}"
    if process:
        none = has_none(status)
        if none is None:
            return unknown(Point.PRIVILEGES, f"/proc/{process}/status cannot be read")
        if not none:
            return ok(Point.PRIVILEGES, "not set for the daemon")
        what = "it is set for the daemon, so that sudo cannot start the helper"
        if has_none(status_of_init):
            advice = "the container or virtual machine that this runs in must allow it"
            return wrong(Point.PRIVILEGES, f"{what}; process 1 has it too", advice)
        return wrong(Point.PRIVILEGES, f"{what}: {named or 'an option of its unit implies it'}", advice)
    if options:
        return wrong(Point.PRIVILEGES, f"sudo could not start the helper: {named}", advice)
    return ok(Point.PRIVILEGES, "no option of the unit implies it")


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
        if option.name in IMPLYING:
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


def _status(process: int) -> str:
    try:
        return Path(f"/proc/{process}/status").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
