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
    _end(lambda: _all_of(uid), "the account")
    programs.checked("userdel", REMOTE_USER)


def end_sessions(bridge: str) -> None:
    """End what may belong to a bridge's old key; raises `Failure` if something does not end."""
    _end(lambda: [*helpers_for(bridge), *connections_without_others(bridge)], f"the bridge {bridge}")


def helpers_for(bridge: str) -> list[int]:
    """Return the PIDs of root's processes that serve a bridge: helpers, and sudo above them."""
    return [pid for pid, served in _helpers() if served == bridge]


def connections_without_others(bridge: str) -> list[int]:
    """Return the PIDs of the account's processes that do not lead to the helper of another bridge.

    sshd checks a key only once: its holder can keep a connection, and begin another session in it later.
    Whose an idle connection is cannot be told; a bridge that loses one makes another.
    """
    kept = {above for pid, served in _helpers() if served != bridge for above in (pid, *_above(pid))}
    uid = pwd.getpwnam(REMOTE_USER).pw_uid if exists() else None
    return [] if uid is None else [pid for pid in processes_of(uid) if pid not in kept]


def _helpers() -> Iterator[tuple[int, str]]:
    """Yield root's processes that serve a bridge, and the bridge."""
    for pid in _pids():
        *program, command, option, bridge = [b"", b"", b"", *_arguments(pid)]
        is_helper = any(b"serviceswitch" in word for word in program)
        if is_helper and (command, option) == (b"serve", b"--for") and _status(pid, "Uid") == 0:
            yield pid, bridge.decode(errors="replace")


def _above(pid: int) -> Iterator[int]:
    """Yield the parents of a process, the nearest first."""
    while parent := _status(pid, "PPid"):
        yield (pid := parent)


def processes_of(uid: int) -> list[int]:
    return [pid for pid in _all_of(uid) if not _has_ended(pid)]


def _all_of(uid: int) -> list[int]:
    """Return a user's processes as userdel counts them, with those that ended and a beginning sudo."""
    return [pid for pid in _pids() if re.search(rf"^Uid:.*\s{uid}(\s|$)", _text(pid), re.MULTILINE)]


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


def _status(pid: int, name: str) -> int | None:
    """Return the parent or the effective user of a process; None if there is no such process."""
    found = re.search(rf"^{name}:\s+(?:\d+\s+(?=\d))?(\d+)", _text(pid), re.MULTILINE)
    return int(found[1]) if found else None


def _has_ended(pid: int) -> bool:
    """Tell whether its parent only has not noticed yet."""
    return bool(re.search(r"^State:\s+Z", _text(pid), re.MULTILINE))


def _text(pid: int) -> str:
    try:
        return (PROC / str(pid) / "status").read_text()
    except OSError:
        return ""
