"""`hkswitch status`: how everything is, from the daemon, or from systemd where the service does not run.

Knows no rich: who wants JSON does not wait for it.
"""

import json
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from hkswitch.control import client, is_of_service, socket_of
from hkswitch.model.config_file import READ_WITHIN_SECONDS, read_within
from hkswitch.model.errors import Exit
from hkswitch.model.unit_state import GroupState
from hkswitch.protocol.control import ControlRequest, Operation, Status
from hkswitch.protocol.report import GroupReport, Report, as_object, unknown_group

RECONNECT_SECONDS: Final = 1.0
"""Between two attempts to reach a daemon that went away; a restart takes a few seconds."""


class Seen(NamedTuple):
    """What `status --watch` shows: a report, and whether the daemon has gone away since."""

    report: Report
    away: bool = False


def from_daemon(state_folder: Path) -> Report | None:
    """How everything is, or None if the service cannot be asked; raises `Failure`.

    The configuration that systemd could be asked about instead is the service's, not that of another daemon.
    """
    path = socket_of(state_folder)
    try:
        said = client.ask(path, ControlRequest(Operation.STATUS))
    except (client.NoDaemon, client.Unreachable):
        if not is_of_service(path):
            raise
        return None
    assert isinstance(said, Status)  # noqa: S101 -- client.ask checked
    return said.report


async def from_systemd(config_file: Path) -> Report:
    """How the units are, without a daemon; raises `Failure`."""
    from hkswitch.systemd.units import Systemd  # noqa: PLC0415 -- sdbus takes a while to be imported

    config = await read_within(config_file, READ_WITHIN_SECONDS)
    with await Systemd.connect() as systemd:
        states = await systemd.states(unit for group in config.groups for unit in group.units)
    groups = (
        GroupReport(
            id=group.id,
            name=group.name,
            state=group.state(states, None),
            since_unix_seconds=0,
            units={unit: states[unit] for unit in group.units},
            commands=group.commands is not None,
        )
        for group in config.groups
    )
    return Report(None, tuple(groups))


def chosen(report: Report, group_ids: Collection[str]) -> Report:
    """The report on these groups, on all if none is named; raises `Failure`."""
    known = [group.id for group in report.groups]
    for group_id in group_ids:
        if group_id not in known:
            raise unknown_group(group_id, known)
    return _present(report, group_ids)


def exit_code(report: Report, group_ids: Collection[str]) -> Exit:
    """What `status` of one group ends with: whether it is on, as `serviceswitch status` says it."""
    if len(group_ids) != 1:
        return Exit.OK
    state = report.groups[0].state
    if state is None:
        return Exit.UNAVAILABLE
    return Exit.OK if state is GroupState.ON else Exit.NOT_ON


def as_json(report: Report, indent: int | None = 2) -> str:
    """For programs."""
    return json.dumps(as_object(report), indent=indent)


def watch(state_folder: Path, group_ids: Collection[str]) -> Iterator[Seen]:
    """How everything is, now and after each change, without end, whatever becomes of the daemon.

    Raises `Failure` if no daemon can be asked at the beginning, or if a later one cannot be understood.
    """
    reports = client.watch(socket_of(state_folder))
    last = chosen(next(reports), group_ids)
    yield Seen(last)
    away = False
    while True:
        try:
            for report in reports:
                last, away = _present(report, group_ids), False
                yield Seen(last)
        except (client.NoDaemon, client.NoAnswer, client.Unreachable):
            if not away:
                away = True
                yield Seen(last, away)
        time.sleep(RECONNECT_SECONDS)
        reports = client.watch(socket_of(state_folder))


def _present(report: Report, group_ids: Collection[str]) -> Report:
    """The report on these groups, on all if none is named, as far as they exist: a reload may remove one."""
    known = {group.id: group for group in report.groups}
    return report._replace(
        groups=tuple(known[group_id] for group_id in group_ids or known if group_id in known)
    )


def without_daemon(report: Report) -> Report:
    """What remains true of a report when the daemon has gone away: which groups there are."""
    groups = (GroupReport(each.id, each.name, None, 0, {}, commands=each.commands) for each in report.groups)
    return Report(None, tuple(groups))
