"""`hkswitch start`, `stop` and `restart`: asks the daemon, or root's helper where the service does not run.

Without the daemon of another state folder nothing is done: the helper has the groups of the service alone.
"""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hkswitch.backend import NOT_IN_ACTIONS
from hkswitch.backend.sudo_reasons import HELPER
from hkswitch.control import client, is_of_service, socket_of
from hkswitch.model.environment import ENVIRONMENT
from hkswitch.model.errors import Exit, Failure
from hkswitch.model.printable import printable, printable_lines
from hkswitch.model.unit_state import Action, GroupState, UnitHealth
from hkswitch.protocol.control import ControlRequest, Operation, Status
from hkswitch.protocol.report import GroupReport

LAST_LINES: Final = 5
"""Of a failed unit's journal."""
LONGEST_JOURNAL_BYTES: Final = 64 * 1024
JOURNAL_WITHIN_SECONDS: Final = 5
MOST_JOURNALS: Final = 5
"""A group can have many units, and one reason is often enough."""

BACK_WITHIN_SECONDS: Final = 15
"""For a daemon that went away while it was asked."""

_LOOK_AGAIN_SECONDS: Final = 0.5
_NOT_BEGUN: Final = ("denied: ", NOT_IN_ACTIONS)
"""In why something failed: no unit's journal tells more."""


@dataclass(eq=False)
class NoHelper(Failure):
    """The helper cannot be started."""

    why: str

    def __str__(self) -> str:
        return f"cannot start {HELPER[0]}: {self.why}; is hkswitch installed?"


def act(word: str, groups: Sequence[str], state_folder: Path, *, wait: bool) -> Exit:
    """Do an action on groups, side by side, and say what failed; returns the first such exit code."""
    action, group_ids, path = Action(word), tuple(dict.fromkeys(groups)), socket_of(state_folder)
    with _spinner(f"{word} {' '.join(groups)}") if wait else nullcontext():
        try:
            codes = _by_the_daemon(action, group_ids, path, wait=wait)
        except client.NoDaemon as failure:
            # TRUST: the helper knows the service's groups. A demo's may be called the same, and be no units.
            if not is_of_service(path):
                raise
            codes = _as_root(action, group_ids, failure)
    return next((code for code in codes if code is not Exit.OK), Exit.OK)


def _by_the_daemon(action: Action, group_ids: Iterable[str], path: Path, *, wait: bool) -> list[Exit]:
    with ExitStack() as connections:
        asked = {
            group_id: connections.enter_context(
                client.PendingRequest(path, ControlRequest(Operation.ACT, action=action, group=group_id))
            )
            for group_id in group_ids
        }
        return [_end(action, group_id, asked[group_id], path, wait=wait) for group_id in asked]


def _end(action: Action, group_id: str, asked: client.PendingRequest, path: Path, *, wait: bool) -> Exit:
    try:
        if note := asked.end(wait=wait):
            _say(f"{group_id}: {note}")
    except client.Disconnected as failure:
        # The group may have hkswitch's own service: the next daemon knows what came of it.
        if not _has_come_true(action, group_id, path):
            _say(f"hkswitch: {failure}")
            return failure.exit_code
    except Failure as failure:
        _say(f"hkswitch: {failure}")
        if failure.exit_code is Exit.UNAVAILABLE and not any(why in str(failure) for why in _NOT_BEGUN):
            _say_why(path, group_id)
        return failure.exit_code
    return Exit.OK


def _has_come_true(action: Action, group_id: str, path: Path) -> bool:
    """Whether a daemon that comes back in time says that the group is as it was wanted."""
    wanted = GroupState.OFF if action is Action.STOP else GroupState.ON
    deadline_seconds = time.monotonic() + BACK_WITHIN_SECONDS
    while time.monotonic() < deadline_seconds:
        with suppress(Failure):  # it is not there yet
            said = client.ask(path, ControlRequest(Operation.STATUS))
            if isinstance(said, Status) and any(
                group.id == group_id and group.state is wanted for group in said.report.groups
            ):
                return True
        time.sleep(_LOOK_AGAIN_SECONDS)
    return False


def _as_root(action: Action, group_ids: Iterable[str], failure: client.NoDaemon) -> list[Exit]:
    if os.geteuid() != 0:
        _say(f"hkswitch: {failure}, or use sudo")
        return [failure.exit_code]
    try:
        helpers = [_start(action, group_id) for group_id in group_ids]
    except OSError as error:
        raise NoHelper(error.strerror or str(error)) from error
    codes = [helper.wait() for helper in helpers]
    return [Exit(code) if code in set(Exit) else Exit.UNAVAILABLE for code in codes]  # or it was killed


def _start(action: Action, group_id: str) -> "subprocess.Popen[bytes]":
    # TRUST: it is root's, and gets nothing of root's environment.
    return subprocess.Popen((HELPER[0], action, group_id), env=ENVIRONMENT)


def _say_why(path: Path, group_id: str) -> None:
    """The last lines of what failed, as far as this user may read the journal."""
    try:
        report = client.ask(path, ControlRequest(Operation.STATUS))
    except Failure:
        return  # the daemon went away meanwhile; the failure itself has been printed
    assert isinstance(report, Status)  # noqa: S101 -- client.ask checked
    for group in report.report.groups:
        if group.id == group_id:
            for unit in failed_units(group)[:MOST_JOURNALS]:
                _say("\n".join([f"The last lines of {unit}:", *(f"  {line}" for line in _last_lines(unit))]))


def failed_units(group: GroupReport) -> tuple[str, ...]:
    """The units whose journals tell why an action failed; empty if no unit of the group has failed."""
    if group.commands:
        return (f"hkswitch-command-{group.id}.service",)
    return tuple(unit for unit, state in group.units.items() if state.meaning is UnitHealth.FAILED)


def _last_lines(unit: str) -> list[str]:
    options = ("--quiet", "--no-pager", "--output=cat", f"--lines={LAST_LINES}", f"--unit={unit}")
    null = subprocess.DEVNULL
    try:
        journal = subprocess.Popen(
            ("journalctl", *options), stdin=null, stdout=subprocess.PIPE, stderr=null, env=ENVIRONMENT
        )
    except OSError:
        return []
    with journal:
        # TRUST: what a unit logs may be without end.
        ending = threading.Timer(JOURNAL_WITHIN_SECONDS, journal.kill)
        ending.start()
        try:
            said = journal.stdout.read(LONGEST_JOURNAL_BYTES) if journal.stdout else b""
        finally:
            ending.cancel()
            journal.kill()
    return [printable(line) for line in said.decode(errors="replace").splitlines()[-LAST_LINES:]]


def _spinner(what: str) -> AbstractContextManager[object]:
    """On a terminal, something that moves."""
    if not sys.stderr.isatty():
        return nullcontext()
    from rich.console import Console  # noqa: PLC0415 -- a script does not wait for it

    return Console(stderr=True, highlight=False).status(f"{what} ...")


def _say(text: str) -> None:
    # TRUST: the daemon and the journal say what others wrote; root's terminal obeys none of it.
    sys.stderr.write(f"{printable_lines(text)}\n")
