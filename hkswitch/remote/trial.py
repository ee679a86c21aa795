"""A trial of the connection to another host, as the daemon would make it: with its command, as its user.

What arrives is checked like any untrusted input, and bounded in length and time. It requests no action.
"""

import asyncio
import os
import pwd
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from hkswitch import __version__
from hkswitch.backend import ssh_reasons
from hkswitch.backend.ssh_command import SETTINGS, SSH, SSH_CONFIG, ssh_command
from hkswitch.model.environment import CHILD_ENVIRONMENT
from hkswitch.model.errors import Exit, Failure
from hkswitch.model.group import MOST_ACCESSORIES
from hkswitch.model.installation import DAEMON_USER
from hkswitch.model.printable import printable
from hkswitch.model.unit_state import Action
from hkswitch.protocol.helper import (
    LONGEST_REPLY_BYTES,
    Complete,
    ConfigUpdate,
    DaemonMessage,
    GroupUpdate,
    Hello,
    Observe,
    Ping,
    Pong,
)
from hkswitch.protocol.helper_dialect import SPOKEN, encode_for, missing_in
from hkswitch.protocol.helper_replies import parse_reply
from hkswitch.protocol.json_lines import MalformedMessage

CONNECT_SECONDS: Final = 10
TRIAL_SECONDS: Final = 20
MOST_MESSAGES: Final = 20_000
"""A host with the most groups and units sends fewer."""

LONGEST_SHOWN: Final = 200
MOST_ERROR_BYTES: Final = 64 * 1024
_END_SECONDS: Final = 1
NOBODY: Final = "nobody"
"""Its group owns nothing, and no process of the daemon has it."""


NOT_RESTARTED: Final = "its `restart` or `restart_when` has no effect, as that host does not allow restart"


def allow_restart(group: str) -> str:
    """Return the remedy for `NOT_RESTARTED`."""
    return f"there, run `sudo hkswitch edit`, and add `actions: [start, stop, restart]` to the group {group}"


class TrialResult(NamedTuple):
    """What another host's helper told."""

    version: str
    missing: str
    """What that version of the helper does not do; empty if it does everything."""
    connected_seconds: float
    """From the start of ssh until the helper was ready."""
    round_trip_ms: float
    groups: Mapping[str, str]
    """The groups of its config, with their tokens."""
    config_problem: str
    """Why the helper there rejects its config; empty if it does not."""
    not_restarted: frozenset[str] = frozenset()
    """The groups whose `actions` there lack restart; an old helper does not tell them."""
    clock_seconds: int | None = None
    """How far the clock there is ahead of this one, to a second or so; None if it is not known."""


@dataclass
class _Told:
    """What has been told so far."""

    groups: dict[str, str] = field(default_factory=dict)
    not_restarted: set[str] = field(default_factory=set)
    config_problem: str = ""


class Account(NamedTuple):
    """The user and groups of a child; None for those of this process."""

    user: int | None = None
    group: int | None = None
    extra_groups: list[int] | None = None


async def try_host(
    name: str, destination: str, account: Account | None = None, settings: Path = SETTINGS
) -> TrialResult:
    """Connect to a host and have its helper tell its groups; raises `Failure` with a remedy.

    ssh runs as `account`, by default with the daemon's rights.
    """
    command = ssh_command(
        name,
        destination,
        has_config=(settings / SSH_CONFIG.name).exists(),
        settings=settings,
        connect_timeout_seconds=CONNECT_SECONDS,  # the daemon's is short, and it tries again
    )
    account = account or account_for_trials()
    began_seconds = time.monotonic()
    try:
        # TRUST: with the daemon's rights, not root's, for the other end is not trusted.
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=LONGEST_REPLY_BYTES,
            cwd="/",
            env=CHILD_ENVIRONMENT,
            start_new_session=True,
            user=account.user,
            group=account.group,
            extra_groups=account.extra_groups,
        )
    except OSError as error:
        why = f"{SSH}: {error.strerror or error}"
        raise Failure(f"cannot connect to {name}: {_explained(why, name)}") from error
    errors = asyncio.ensure_future(_errors(process))
    try:
        async with asyncio.timeout(TRIAL_SECONDS):
            return await _talk(process, began_seconds)
    except (TimeoutError, MalformedMessage, OSError, EOFError, ValueError) as error:
        process_ended = isinstance(error, EOFError | OSError) and not isinstance(error, TimeoutError)
        why = await _why(process, errors) if process_ended else _in_words(error)
        raise Failure(f"cannot connect to {name}: {_explained(why, name)}") from None
    finally:
        with suppress(ProcessLookupError, PermissionError):
            process.kill()
        errors.cancel()
        await process.wait()


def account_for_trials() -> Account:
    """Return the daemon's account, with a group of its own; raises `Failure` for users without the key."""
    try:
        daemon = pwd.getpwnam(DAEMON_USER)
    except KeyError:
        raise Failure(f"there is no user {DAEMON_USER}; run `sudo hkswitch doctor`", Exit.CONFIG) from None
    if os.geteuid() == daemon.pw_uid:
        return Account()
    if os.geteuid() != 0:
        raise Failure("cannot use the key of the daemon: permission denied; use sudo", Exit.DENIED)
    # TRUST: a compromised daemon could make a process of its user and group run its own code, and here that
    # would be outside its sandbox. The kernel demands that both are the same (ptrace(2)).
    group_id = pwd.getpwnam(NOBODY).pw_gid
    return Account(daemon.pw_uid, group_id, os.getgrouplist(DAEMON_USER, daemon.pw_gid))


async def _talk(process: asyncio.subprocess.Process, began_seconds: float) -> TrialResult:
    """Ask for a sign of life and for the groups; raises EOFError at the end of the output."""
    told = _Told()
    hello = await _message(process, Hello, told)
    connected_seconds = time.monotonic() - began_seconds
    clock_seconds = hello.unix_seconds - int(time.time()) if hello.unix_seconds else None
    asked_seconds = time.monotonic()
    if hello.protocol not in SPOKEN:
        why = f"hkswitch {printable(hello.version)} there and {__version__} here are too different"
        raise Failure(f"{why}; upgrade the older one", Exit.CONFIG)
    await _send(process, Ping(1), hello)
    await _message(process, Pong, told)
    round_trip_ms = (time.monotonic() - asked_seconds) * 1000
    await _send(process, Observe(1), hello)
    await _message(process, Complete, told)
    version, missing = printable(hello.version), missing_in(hello.protocol)
    return TrialResult(
        *(version, missing, connected_seconds, round_trip_ms, told.groups, told.config_problem),
        frozenset(told.not_restarted),
        clock_seconds,
    )


_Kind = type[Hello] | type[Pong] | type[Complete]


async def _message(process: asyncio.subprocess.Process, kind: _Kind, told: _Told) -> "Hello":
    """Return the next message of a kind, and note what others before it tell."""
    assert process.stdout is not None  # noqa: S101 -- a pipe
    for _ in range(MOST_MESSAGES):
        line = await process.stdout.readline()
        if not line.endswith(b"\n"):
            raise EOFError
        try:
            reply = parse_reply(line)
        except ValueError as error:  # also a word that no helper says; a login shell may say something else
            raise MalformedMessage(line.decode(errors="replace").strip()) from error
        match reply:
            case GroupUpdate() if reply.token:
                group = printable(reply.group)
                told.groups[group] = reply.token
                if len(told.groups) > MOST_ACCESSORIES:
                    raise MalformedMessage("more groups than a configuration can have")
                if reply.traits is not None and Action.RESTART not in reply.actions:
                    told.not_restarted.add(group)
            case ConfigUpdate(problem):
                told.config_problem = printable(problem)
            case found if isinstance(found, kind):
                return found  # type: ignore[return-value]
    raise MalformedMessage(f"more than {MOST_MESSAGES} messages")


async def _send(process: asyncio.subprocess.Process, message: DaemonMessage, to: Hello) -> None:
    assert process.stdin is not None  # noqa: S101 -- a pipe
    process.stdin.write(encode_for(message, to.protocol))
    await process.stdin.drain()


async def _errors(process: asyncio.subprocess.Process) -> list[str]:
    """Return the lines on standard error, at its end or at the limit."""
    assert process.stderr is not None  # noqa: S101 -- a pipe
    found = b""
    while len(found) < MOST_ERROR_BYTES and (data := await process.stderr.read(4096)):
        found += data
    # TRUST: the other host writes here, too; escape sequences must not reach root's terminal.
    return [printable(line.strip()) for line in found.decode(errors="replace").splitlines() if line.strip()]


async def _why(process: asyncio.subprocess.Process, errors: "asyncio.Future[list[str]]") -> str:
    """Return why the connection ended."""
    lines: list[str] = []
    with suppress(TimeoutError):
        async with asyncio.timeout(_END_SECONDS):
            lines = await errors
    if found := ssh_reasons.telling_line(lines):
        return found
    with suppress(TimeoutError):
        async with asyncio.timeout(_END_SECONDS):
            return f"ssh exited with status {await process.wait()} and printed nothing"
    return "the connection was closed"


def _in_words(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer of the helper within {TRIAL_SECONDS} s"
    return f"it sent what no helper sends: {printable(str(error), LONGEST_SHOWN)}"


def _explained(why: str, name: str) -> str:
    hint = ssh_reasons.hint(why, name)
    return f"{why}; {hint}" if hint else why
