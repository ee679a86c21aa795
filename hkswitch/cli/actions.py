"""`hkswitch start`, `stop` and `restart`: ask the daemon, or the root helper while the service is stopped.

The helper only knows the service's groups, so a bridge with another state folder needs its daemon.
"""

import os
import re
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from hkswitch.cli import other_host
from hkswitch.cli.entry import in_event_loop
from hkswitch.cli.layout import say
from hkswitch.cli.options import examples, state_option
from hkswitch.control import START_SERVICE, client, is_of_service, socket_of
from hkswitch.model import config_file
from hkswitch.model.environment import CHILD_ENVIRONMENT
from hkswitch.model.errors import ConfigError, ConfigUnreadable, Exit, Failure
from hkswitch.model.printable import printable, printable_lines
from hkswitch.model.unit_state import Action, GroupState, LoadState, UnitHealth, UnitState
from hkswitch.protocol.control import ControlRequest, Operation
from hkswitch.protocol.report import GroupReport, is_contained, unknown_group

if TYPE_CHECKING:
    from hkswitch.model.group import Group

LAST_LINES: Final = 5
"""Lines of a failed unit's journal to show."""
LONGEST_JOURNAL_BYTES: Final = 64 * 1024
JOURNAL_WITHIN_SECONDS: Final = 5
MOST_JOURNALS: Final = 5
"""A group can have many units, and one reason is often enough."""

STILL_RUNNING: Final = "hkswitch: interrupted; the daemon continues, and `hkswitch status` shows the result"

DAEMON_BACK_WITHIN_SECONDS: Final = 15
"""Time for a daemon that disconnected during a request to restart."""

REFUSED_WITHIN_SECONDS: Final = 1.0
"""With --no-wait and without a daemon: the time in which a helper can refuse an action."""

_ASK_AGAIN_SECONDS: Final = 0.5


def _command(action: Action, summary: str) -> click.Command:
    @click.command(
        str(action),
        help=(
            f"{summary}.\n\n"
            "Sends the request to the daemon. While the service is stopped, root can still use this command."
        ),
        epilog=examples(
            f"sudo hkswitch {action} fileserver", f"sudo hkswitch {action} --no-wait fileserver web"
        ),
    )
    @click.argument("groups", nargs=-1, required=True, metavar="GROUP...")
    @state_option
    @click.option("--no-wait", is_flag=True, help="Do not wait for the result")
    def act_on(groups: tuple[str, ...], state_folder: Path, *, no_wait: bool) -> None:
        sys.exit(act(action, groups, state_folder, wait=not no_wait))

    return act_on


start = _command(Action.START, "Start groups")
stop = _command(Action.STOP, "Stop groups")
restart = _command(Action.RESTART, "Restart running groups")


def act(action: Action, groups: Sequence[str], state_folder: Path, *, wait: bool) -> Exit:
    """Do an action on groups in parallel, and print the failures; returns the first one's exit code."""
    group_ids, path = tuple(dict.fromkeys(groups)), socket_of(state_folder)
    with _spinner(f"{action} {' '.join(groups)}") if wait else nullcontext():
        try:
            codes = _through_daemon(action, group_ids, path, wait=wait)
        except KeyboardInterrupt:
            _print_error(STILL_RUNNING)
            raise
        except client.NoDaemon as failure:
            # TRUST: the helper knows the service's groups, and a demo may have groups with the same names.
            if not is_of_service(path):
                raise
            codes = _as_root(action, group_ids, failure, wait=wait)
    return next((code for code in codes if code is not Exit.OK), Exit.OK)


def _through_daemon(action: Action, group_ids: Iterable[str], path: Path, *, wait: bool) -> list[Exit]:
    with ExitStack() as connections:
        asked = {
            group_id: connections.enter_context(
                client.PendingRequest(path, ControlRequest(Operation.ACT, action=action, group=group_id))
            )
            for group_id in group_ids
        }
        return [_finish(action, group_id, asked[group_id], path, wait=wait) for group_id in asked]


def _finish(action: Action, group_id: str, asked: client.PendingRequest, path: Path, *, wait: bool) -> Exit:
    try:
        if note := asked.end(wait=wait):
            _print_error(f"{group_id}: {note}")
    except client.Disconnected as failure:
        # The group may contain hkswitch.service itself: the next daemon knows the outcome.
        if not _is_as_wanted(action, group_id, path):
            _print_error(f"hkswitch: {failure}")
            return failure.exit_code
    except Failure as failure:
        from hkswitch.backend import NOT_IN_ACTIONS  # noqa: PLC0415 -- only a failure needs it

        _print_error(f"hkswitch: {failure}")
        if NOT_IN_ACTIONS in str(failure) and is_of_service(path):
            _print_how_to_allow(action, group_id)
        if failure.exit_code is Exit.UNAVAILABLE and not _is_denied(str(failure)):
            _print_reasons(path, group_id, str(failure), asked.sent_at_unix_seconds)
        return failure.exit_code
    return Exit.OK


def _is_denied(failure: str) -> bool:
    """Whether the action never began: no unit's journal explains that."""
    from hkswitch.backend import NOT_IN_ACTIONS  # noqa: PLC0415 -- as above

    return NOT_IN_ACTIONS in failure or re.search(r"(?<!permission )denied: ", failure) is not None


def _is_as_wanted(action: Action, group_id: str, path: Path) -> bool:
    """Whether the daemon comes back in time and reports the state that the action should lead to."""
    wanted = GroupState.OFF if action is Action.STOP else GroupState.ON
    deadline_seconds = time.monotonic() + DAEMON_BACK_WITHIN_SECONDS
    while time.monotonic() < deadline_seconds:
        with suppress(Failure):  # it is not back yet
            groups = client.ask_report(path).groups
            for group in groups:
                if group.id == group_id and (group.state is wanted or group.assumed):
                    # An assumed state is the last that is known, not the one that this action led to.
                    # A container that is up may be about to end: the helper restarts it in two steps.
                    has_container = any(map(is_contained, group.units))
                    return not (group.assumed or (has_container and action is Action.RESTART))
        time.sleep(_ASK_AGAIN_SECONDS)
    return False


def _as_root(action: Action, group_ids: Iterable[str], failure: client.NoDaemon, *, wait: bool) -> list[Exit]:
    if os.geteuid() != 0:
        _print_error(f"hkswitch: {failure}, or use sudo")
        return [failure.exit_code]
    known = _configured_groups()
    helpers = {
        group_id: _start_helper(action, group_id, wait=wait)
        for group_id in group_ids
        if known is None or (group_id in known and known[group_id].elsewhere is None)
    }
    deadline_seconds = None if wait else time.monotonic() + REFUSED_WITHIN_SECONDS
    codes = {
        each: _end_of(helpers[each], deadline_seconds) if each in helpers else _not_here(each, known or {})
        for each in group_ids
    }
    failed = [member for group in (known or {}).values() if codes.get(group.id) for member in group.members]
    _print_hints_for(member for member in failed if not is_contained(member))
    if contained := [member for member in failed if is_contained(member)]:
        _print_remedies(_states_of(contained))
    for each in helpers:
        _print_how_to_allow(action, each)
    return [*codes.values()]


def _configured_groups() -> "dict[str, Group] | None":
    """Return the groups by id; None if the configuration cannot be read: the helper says why."""
    try:
        return {group.id: group for group in config_file.read(config_file.DEFAULT).groups}
    except (ConfigError, ConfigUnreadable):
        return None


def _not_here(group_id: str, known: "Mapping[str, Group]") -> Exit:
    """Print why the helper of this machine cannot act on a group; returns the exit code."""
    group = known.get(group_id)
    if group is None:
        failure = unknown_group(group_id, known)
    else:
        why = f"it is {group.elsewhere}, which only the daemon can reach; {START_SERVICE}"
        failure = Failure(f"cannot act on {group_id}: {why}", Exit.UNAVAILABLE)
    _print_error(f"hkswitch: {failure}")
    return failure.exit_code


def _start_helper(action: Action, group_id: str, *, wait: bool) -> "subprocess.Popen[bytes]":
    from hkswitch.backend.sudo_reasons import HELPER  # noqa: PLC0415 -- the daemon usually runs

    argv = (HELPER[0], action, group_id)
    # TRUST: it runs as root, and inherits nothing from the user's environment.
    # With --no-wait, it goes on when this terminal is closed.
    try:
        return subprocess.Popen(argv, env=CHILD_ENVIRONMENT, start_new_session=not wait)
    except OSError as error:
        why = error.strerror or error
        raise Failure(f"cannot start {HELPER[0]}: {why}; is hkswitch installed?") from error


def _end_of(helper: "subprocess.Popen[bytes]", deadline_seconds: float | None) -> Exit:
    """Wait for a helper, at most until then; any failure has the exit code that it has through the daemon."""
    try:
        code = helper.wait(None if deadline_seconds is None else max(0, deadline_seconds - time.monotonic()))
    except subprocess.TimeoutExpired:
        helper.returncode = 0  # it was not refused; Python need not wait for its end either
        return Exit.OK
    return Exit.OK if code == 0 else Exit.UNAVAILABLE


def _print_reasons(path: Path, group_id: str, failure: str, since_unix_seconds: float) -> None:
    """Print the last lines of the units that failed since then, or how to see them; and misspelt units."""
    try:
        groups = client.ask_report(path).groups
    except Failure:
        return  # the daemon has exited in the meantime; the failure itself has been printed
    for group in groups:
        if group.id == group_id and group.host:
            _print_error(f"hkswitch: {other_host.reason_there(group)}")
        elif group.id == group_id:
            whose = f"the commands of {group_id}" if group.commands else ""
            for unit in failed_units(group, failure)[:MOST_JOURNALS]:
                _print_error(_how_to_unpause(unit, group) or _journal(unit, since_unix_seconds, whose))
            missing = (unit for unit, state in group.units.items() if state.load is LoadState.NOT_FOUND)
            _print_hints_for(unit for unit in missing if not is_contained(unit))
            _print_remedies(group.units)


def _print_hints_for(units: Iterable[str]) -> None:
    """Print what was probably meant by those of these units that do not exist."""
    if suspected := tuple(units):
        from hkswitch.unit_names import systemctl  # noqa: PLC0415 -- only a failure needs it

        for unit, hint in systemctl.hints(systemctl.missing(suspected)).items():
            _print_error(f"hkswitch: {unit} does not exist; {hint}")


def _states_of(contained: Iterable[str]) -> Mapping[str, UnitState]:
    """Return the states of containers and projects, as root sees them."""
    from hkswitch.doctor.containers import seen_by_root  # noqa: PLC0415 -- only a failure needs it

    return in_event_loop(seen_by_root(contained)).states


def _print_remedies(states: Mapping[str, UnitState]) -> None:
    """Print what to do about containers that cannot be used; each thing once."""
    from hkswitch.unit_names.contained import contained_among, problem_of  # noqa: PLC0415 -- few groups have one

    contained = contained_among(states)
    for problem in dict.fromkeys(problem_of(each, states[each.full_name]) for each in contained):
        if problem is not None:
            _print_error(f"hkswitch: {'; '.join(problem)}")


def _how_to_unpause(member: str, group: GroupReport) -> str:
    """Return the remedy for a paused container, whose log explains nothing; empty for others."""
    if not is_contained(member):
        return ""
    from hkswitch.unit_names.contained import contained_of, how_to_unpause  # noqa: PLC0415 -- as above

    contained = contained_of(member)
    how = how_to_unpause(contained, group.units[member]) if contained else ""
    return f"hkswitch: {how}" if how else ""


def _print_how_to_allow(action: Action, group_id: str) -> None:
    """Print how a group with members would allow an action that is not in its actions in the config."""
    try:
        groups = config_file.read(config_file.DEFAULT).groups
    except (ConfigError, ConfigUnreadable):
        return
    for group in groups:
        if group.id == group_id and (place := group.elsewhere) is not None:
            _print_error(f"hkswitch: {other_host.allow_there(action, place.host.name, place.group)}")
        elif group.id == group_id and group.members and action not in group.actions:
            actions = ", ".join(each for each in Action if each in {*group.actions, action})
            how = f"run `sudo hkswitch edit`, and set `actions: [{actions}]` in group {group_id}"
            _print_error(f"hkswitch: to allow {action}, {how}")


def failed_units(group: GroupReport, failure: str) -> tuple[str, ...]:
    """Return the members whose logs explain a failed action: failed ones that the failure names.

    Of a container, the failure alone tells: one that ended with an error is only inactive.
    """
    if group.commands:
        return (f"hkswitch-command-{group.id}[.:]*",)  # a detached command has a colon and a number
    named = set(failure.split())
    of_interest = (
        name
        for name, state in group.units.items()
        if state.health is UnitHealth.FAILED
        or (is_contained(name) and state.health is not UnitHealth.MISSING)
    )
    return tuple(name for name in of_interest if name in named)


def _journal(unit: str, since_unix_seconds: float, whose: str = "") -> str:
    """Return the last lines of a unit's journal; if there are none for this user, the command for root.

    `whose`: words for a unit that is a pattern. The engines keep the logs of containers.
    """
    if is_contained(unit):
        from hkswitch.unit_names.contained import contained_of, log_command  # noqa: PLC0415 -- as above

        if contained := contained_of(unit):
            return f"`{log_command(contained)}` shows the log of {unit}"
    if lines := _last_lines(unit, since_unix_seconds):
        return "\n".join([f"Last lines of {whose or unit}:", *(f"  {line}" for line in lines)])
    return f"`sudo journalctl -u {shlex.quote(unit)}` shows the log of {whose or unit}"


def _last_lines(unit: str, since_unix_seconds: float) -> list[str]:
    # An earlier run may have failed for another reason.
    options = (f"--lines={LAST_LINES}", f"--unit={unit}", f"--since=@{since_unix_seconds:.6f}")
    null = subprocess.DEVNULL
    try:
        journal = subprocess.Popen(
            ("journalctl", "--quiet", "--no-pager", "--output=cat", *options),
            stdin=null,
            stdout=subprocess.PIPE,
            stderr=null,
            env=CHILD_ENVIRONMENT,
        )
    except OSError:
        return []
    with journal:
        # TRUST: a unit may log forever.
        ending = threading.Timer(JOURNAL_WITHIN_SECONDS, journal.kill)
        ending.start()
        try:
            read = journal.stdout.read(LONGEST_JOURNAL_BYTES) if journal.stdout else b""
        finally:
            ending.cancel()
            journal.kill()
    return [printable(line) for line in read.decode(errors="replace").splitlines()[-LAST_LINES:]]


def _spinner(what: str) -> AbstractContextManager[object]:
    """Show a spinner while the program waits, if standard error is a terminal."""
    if not sys.stderr.isatty():
        return nullcontext()
    from hkswitch.cli.rich_console import FittedConsole  # noqa: PLC0415 -- scripts do not wait for rich

    terminal = FittedConsole(stderr=True)
    is_utf = terminal.encoding.startswith("utf")
    return terminal.status(f"{what} ...", spinner="dots" if is_utf else "line")


def _print_error(text: str) -> None:
    # TRUST: the text may quote other users, whose escape sequences must not reach root's terminal.
    say(printable_lines(text), err=True)
