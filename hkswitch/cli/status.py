"""`hkswitch status`: the states of the groups, from the daemon.

If it is not running, they come from systemd, and root also asks the container engines.
Imports neither click nor rich, which take longer than all the rest: docs/benchmarks.md, "Three shortcuts".
"""

import gc
import json
import os
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from hkswitch.cli.entry import in_event_loop
from hkswitch.cli.layout import say
from hkswitch.control import STATE_FOLDER, client, is_of_service, socket_of
from hkswitch.model.config_file import CONFIG_TIMEOUT_SECONDS, read_within
from hkswitch.model.config_file import DEFAULT as DEFAULT_CONFIG
from hkswitch.model.errors import Exit, Failure
from hkswitch.model.unit_state import GroupState, UnitState
from hkswitch.protocol.host_report import HostReport
from hkswitch.protocol.report import GroupReport, Report, as_object, unknown_group

if TYPE_CHECKING:
    from hkswitch.model.group import Engine, Group
    from hkswitch.systemd.units import Systemd

ASK_DAEMON_AGAIN_SECONDS: Final = 1.0
"""The interval between attempts to reconnect to a daemon that has exited; a restart takes a few seconds."""

ONLY_DAEMON: Final = "only the daemon connects to other hosts"
NOT_ASKED: Final = "the daemon is not running"


class WatchedReport(NamedTuple):
    """The last report for `status --watch`, and whether the daemon has exited since."""

    report: Report
    daemon_ended: bool = False


def plain(arguments: Sequence[str]) -> Callable[[], Exit] | None:
    """Return what `status` does with these arguments, or None if they need click.

    They do not if all are names of groups or --json.
    """
    groups = tuple(each for each in arguments if each != "--json")
    if any(each.startswith("-") for each in groups):
        return None
    as_json = len(groups) < len(arguments)
    return partial(show, groups, DEFAULT_CONFIG, STATE_FOLDER, as_json=as_json)


def show(group_ids: Collection[str], config_file: Path, state_folder: Path, *, as_json: bool) -> Exit:
    """Print a report on these groups, or on all if none is named; return the exit code."""
    groups = tuple(dict.fromkeys(group_ids))
    everything = from_daemon(state_folder) or _without_daemon(config_file)
    report = select_groups(everything, groups)
    if as_json:
        _print_json(report_as_json(report))
    else:
        from hkswitch.cli import render  # noqa: PLC0415 -- JSON does not wait for the table
        from hkswitch.cli.health import problems  # noqa: PLC0415
        from hkswitch.cli.styled import StyledOutput  # noqa: PLC0415

        terminal = StyledOutput(sys.stdout)
        render.show_report(report, terminal, state_folder)
        if state_folder == STATE_FOLDER:
            render.show_problems(problems(report), terminal)
    return exit_code(report, groups)


def _print_json(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _without_daemon(config_file: Path) -> Report:
    try:
        return in_event_loop(from_systemd(config_file))
    except Failure:
        say("hkswitch: the daemon is not running, and systemd cannot be asked instead:", err=True)
        raise


def show_each(group_ids: Collection[str], state_folder: Path, *, as_json: bool) -> None:
    """Print a report on these groups now and after each change, forever."""
    gc.enable()  # this runs for a long time: see __main__.py
    reports = watch_reports(state_folder, tuple(dict.fromkeys(group_ids)))
    if as_json:
        for report, daemon_ended in reports:
            _print_json(report_as_json(without_daemon(report) if daemon_ended else report, indent=None))
    else:
        from hkswitch.cli import render  # noqa: PLC0415
        from hkswitch.cli.rich_console import FittedConsole  # noqa: PLC0415

        render.show_reports(reports, FittedConsole(), state_folder)


def from_daemon(state_folder: Path) -> Report | None:
    """Return the daemon's report, or None if the service's daemon cannot be asked. Raises `Failure`.

    Another daemon has no such fallback: systemd can only be asked about the service's configuration.
    """
    path = socket_of(state_folder)
    try:
        return client.ask_report(path)
    except (client.NoDaemon, client.Unreachable):
        if not is_of_service(path):
            raise
        return None


async def from_systemd(config_file: Path) -> Report:
    """Return a report on the groups without asking a daemon. Raises `Failure`."""
    from hkswitch.systemd.units import Systemd  # noqa: PLC0415 -- sdbus is slow to import

    config = await read_within(config_file, CONFIG_TIMEOUT_SECONDS)
    with await Systemd.connect() as systemd:
        states = await _states(systemd, config.local_groups)
    groups = tuple(_group_report(group, states) for group in config.groups)
    hosts = (HostReport(host.name, host.ssh, problem=NOT_ASKED) for host in config.hosts)
    return Report(None, groups, tuple(hosts))


def _group_report(group: "Group", states: Mapping[str, UnitState]) -> GroupReport:
    if (place := group.elsewhere) is not None:
        unknown = GroupReport(group.id, group.name, None, 0, {}, why=ONLY_DAEMON)
        return unknown._replace(host=place.host.name, group=place.group)
    return GroupReport(
        id=group.id,
        name=group.name,
        state=group.state(states, None),
        since_unix_seconds=0,
        units={member: states[member] for member in group.members if member in states},
        commands=group.commands is not None,
        why="" if states.keys() >= {*group.contained} else _only_root(group.engine),
        assumed=group.assume_state,
        momentary=group.momentary,
    )


def _only_root(engine: "Engine") -> str:
    return f"only root can ask {engine.capitalize()}; use sudo"


async def _states(systemd: "Systemd", groups: "Collection[Group]") -> Mapping[str, UnitState]:
    """Return the states of all members, without those of containers unless root asks."""
    states = await systemd.states(unit for group in groups for unit in group.units)
    contained = dict.fromkeys(each for group in groups for each in group.contained)
    if not contained or os.geteuid() != 0:
        return states
    from hkswitch.containers.engines import Engines  # noqa: PLC0415 -- few groups have containers

    return {**states, **await Engines(systemd.states).states(contained)}


def select_groups(report: Report, group_ids: Collection[str]) -> Report:
    """Return the report on these groups, or on all if none is named. Raises `Failure`."""
    known = [group.id for group in report.groups]
    for group_id in group_ids:
        if group_id not in known:
            raise unknown_group(group_id, known)
    return _present(report, group_ids)


def exit_code(report: Report, group_ids: Collection[str]) -> Exit:
    """Return the exit code: for one group, whether it is on, like `serviceswitch status`."""
    if len(group_ids) != 1:
        return Exit.OK
    state = report.groups[0].state
    if state is None:
        return Exit.UNAVAILABLE
    return Exit.OK if state is GroupState.ON else Exit.NOT_ON


def report_as_json(report: Report, indent: int | None = 2) -> str:
    return json.dumps(as_object(report), indent=indent)


def watch_reports(state_folder: Path, group_ids: Collection[str]) -> Iterator[WatchedReport]:
    """Yield a report now and after each change, forever, even if the daemon exits or restarts.

    Raises `Failure` if the daemon is not running at the start, or if a later reply is invalid.
    """
    reports = client.watch(socket_of(state_folder))
    last = select_groups(next(reports), group_ids)
    yield WatchedReport(last)
    daemon_ended = False
    while True:
        try:
            for report in reports:
                last, daemon_ended = _present(report, group_ids), False
                yield WatchedReport(last)
        except (client.NoDaemon, client.NoAnswer, client.Unreachable):
            if not daemon_ended:
                daemon_ended = True
                yield WatchedReport(last, daemon_ended)
        time.sleep(ASK_DAEMON_AGAIN_SECONDS)
        reports = client.watch(socket_of(state_folder))


def _present(report: Report, group_ids: Collection[str]) -> Report:
    """Return the report on those of these groups that still exist, and their hosts: a reload may remove one.

    If none is named, on all groups and all hosts.
    """
    if not group_ids:
        return report
    known = {group.id: group for group in report.groups}
    groups = tuple(known[group_id] for group_id in group_ids if group_id in known)
    used = {group.host for group in groups}
    return report._replace(groups=groups, hosts=tuple(host for host in report.hosts if host.name in used))


def without_daemon(report: Report) -> Report:
    """Reduce a report to the facts that stay true after the daemon has exited: which groups exist."""
    groups = (
        GroupReport(each.id, each.name, None, 0, {}, commands=each.commands, host=each.host, group=each.group)
        for each in report.groups
    )
    hosts = (HostReport(host.name, host.ssh, problem=NOT_ASKED) for host in report.hosts)
    return Report(None, tuple(groups), tuple(hosts))
