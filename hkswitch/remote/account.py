"""The account of other hosts' bridges: without a password and without a home. Runs as root."""

import os
import pwd
import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from hkswitch.model.errors import Exit, Failure
from hkswitch.model.installation import REMOTE_USER
from hkswitch.remote import programs

HOME: Final = "/nonexistent"
SHELL: Final = "/bin/sh"
LEAST_ID: Final = 1000
"""Of accounts of people."""

END_SECONDS: Final = 5
PAUSE_SECONDS: Final = 0.05
PROC: Final = Path("/proc")

USERADD: Final = (
    *("useradd", "--system", "--user-group", "--no-create-home", "--home-dir", HOME, "--shell", SHELL),
    *("--password", "*"),  # no password matches; with `!`, an sshd without PAM would deny all logins
    *("--comment", "Bridges of other hosts", REMOTE_USER),
)


def exists() -> bool:
    """Tell whether the account is there; raises `Failure` if it is one for something else."""
    try:
        found = pwd.getpwnam(REMOTE_USER)
    except KeyError:
        return False
    if found.pw_uid == 0 or found.pw_uid >= LEAST_ID or found.pw_dir != HOME:
        why = f"there is another account {REMOTE_USER} (uid {found.pw_uid}, home {found.pw_dir})"
        raise Failure(f"cannot use the account: {why}; remove it", Exit.CONFIG)
    if found.pw_shell.endswith(("/nologin", "/false")):
        why = f"its shell is {found.pw_shell}; run `sudo usermod --shell {SHELL} {REMOTE_USER}`"
        raise Failure(f"cannot use the account {REMOTE_USER}: {why}", Exit.CONFIG)
    return True


def make() -> None:
    """Make the account; raises `Failure`."""
    programs.checked(*USERADD)


def is_locked() -> bool:
    """Tell whether the account is locked: an sshd without PAM denies all logins of such an account."""
    fields = programs.checked("getent", "shadow", REMOTE_USER).split(":")
    return len(fields) > 1 and fields[1].startswith("!")


def unlock() -> None:
    """Unlock the account without giving it a password. Raises `Failure`."""
    programs.checked("usermod", "--password", "*", REMOTE_USER)


def remove() -> None:
    """Remove the account and its group, with its processes. Raises `Failure`."""
    uid = pwd.getpwnam(REMOTE_USER).pw_uid
    _end(lambda: processes_of(uid), "the account")
    programs.checked("userdel", REMOTE_USER)


def end_sessions(bridge: str) -> None:
    """End the helpers that serve a bridge now; raises `Failure` if one does not end."""
    _end(lambda: helpers_for(bridge), f"the bridge {bridge}")


def helpers_for(bridge: str) -> list[int]:
    """Return the PIDs of root's processes that serve a bridge: helpers, and sudo above them."""
    return [pid for pid in _pids() if _serves(_arguments(pid), bridge) and _uid(pid) == 0]


def _serves(arguments: list[bytes], bridge: str) -> bool:
    *program, command, option, last = [b"", b"", b"", *arguments]
    is_helper = any(b"serviceswitch" in word for word in program)
    return is_helper and [command, option, last] == [b"serve", b"--for", bridge.encode()]


def processes_of(uid: int) -> list[int]:
    return [pid for pid in _pids() if _uid(pid) == uid]


def _end(find: Callable[[], list[int]], whose: str) -> None:
    until_seconds = time.monotonic() + END_SECONDS
    sending = signal.SIGTERM
    while pids := find():
        if time.monotonic() > until_seconds:
            if sending is signal.SIGKILL:
                raise Failure(f"cannot end the processes of {whose}: {', '.join(map(str, pids))}")
            sending, until_seconds = signal.SIGKILL, time.monotonic() + END_SECONDS
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, sending)
        time.sleep(PAUSE_SECONDS)


def _pids() -> Iterator[int]:
    return (int(each.name) for each in PROC.iterdir() if re.fullmatch("[0-9]+", each.name))


def _arguments(pid: int) -> list[bytes]:
    try:
        return (PROC / str(pid) / "cmdline").read_bytes().split(b"\0")[:-1]
    except OSError:
        return []


def _uid(pid: int) -> int | None:
    """Return the effective user of a process; None if it has ended."""
    try:
        status = (PROC / str(pid) / "status").read_text()
    except OSError:
        return None
    found = re.search(r"^Uid:\s+\d+\s+(\d+)", status, re.MULTILINE)
    has_ended = re.search(r"^State:\s+Z", status, re.MULTILINE)
    return int(found[1]) if found and not has_ended else None
