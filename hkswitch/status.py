"""`hkswitch status`: how everything is, from the daemon, or from systemd while there is none."""

import json
import time
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from hkswitch import configfile
from hkswitch.control import client, socket_of
from hkswitch.core.control import Ask, Question, Status
from hkswitch.core.errors import Exit, Failure
from hkswitch.core.model import GroupState, Meaning
from hkswitch.core.report import BridgeReport, GroupReport, LastAction, Outcome, Report, as_object

STYLES: Final = {
    GroupState.ON: "green",
    GroupState.STARTING: "yellow",
    GroupState.STOPPING: "yellow",
    GroupState.PARTIAL: "yellow",
    GroupState.OFF: "dim",
    GroupState.FAILED: "red",
    GroupState.MISSING: "red",
    None: "red",
}

_CONTROLLER_CHARACTERS: Final = 8
"""Of a controller's ID: enough to tell a home's controllers apart."""


@dataclass(eq=False)
class UnknownGroup(Failure):
    """What was named is no group."""

    group_id: str
    known: tuple[str, ...]
    exit_code = Exit.USAGE

    def __str__(self) -> str:
        return f"there is no group {self.group_id!r}; there are {', '.join(self.known)}"


async def now(state_folder: Path, config_file: Path) -> Report:
    """How everything is; raises `Failure`."""
    try:
        said = await client.ask(socket_of(state_folder), Question(Ask.STATUS))
    except (client.NoDaemon, client.Unreachable):
        return await _from_systemd(config_file)
    assert isinstance(said, Status)  # noqa: S101 -- client.ask has looked
    return said.report


async def _from_systemd(config_file: Path) -> Report:
    from hkswitch.systemd import Systemd  # noqa: PLC0415 -- sdbus takes a while to be imported

    config = configfile.read(config_file)
    with await Systemd.connect() as systemd:
        states = await systemd.states(unit for group in config.groups for unit in group.units)
    groups = (
        GroupReport(
            id=group.id,
            name=group.name,
            state=group.state(states, None) if not group.check else None,
            since_unix_seconds=0,
            units={unit: states[unit] for unit in group.units},
        )
        for group in config.groups
    )
    return Report(None, tuple(groups))


def chosen(report: Report, group_ids: Collection[str]) -> Report:
    """The report on these groups, on all if none is named; raises `UnknownGroup`."""
    known = {group.id: group for group in report.groups}
    for group_id in group_ids:
        if group_id not in known:
            raise UnknownGroup(group_id, tuple(known))
    return replace(report, groups=tuple(known[group_id] for group_id in group_ids or known))


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


def page(report: Report, now_unix_seconds: float) -> RenderableType:
    """For people: a line or two about the bridge, and a table."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("group", "name", "state", "units", "last action"):
        table.add_column(heading, overflow="fold", no_wrap=heading in {"group", "state"})
    for group in report.groups:
        table.add_row(
            escape(group.id),
            escape(group.name),
            Text(_state(group, now_unix_seconds), STYLES[group.state]),
            escape("\n".join(f"{unit} {state}" for unit, state in group.units.items())),
            escape(_last(group.last_action, now_unix_seconds)),
        )
    return Group(*_bridge_lines(report.bridge, now_unix_seconds), table)


def show(report: Report, console: Console) -> None:
    """Print the page."""
    console.print(page(report, time.time()))


def _bridge_lines(bridge: BridgeReport | None, now_unix_seconds: float) -> list[Text]:
    if bridge is None:
        return [Text("The daemon does not run: this is what systemd says of the units.", "yellow"), Text()]
    running = _ago(bridge.running_since_unix_seconds, now_unix_seconds)
    where = f"on {', '.join(bridge.addresses)}, port {bridge.port}" if bridge.addresses else "no network yet"
    lines = [Text(f"{bridge.name}: running for {running}, {where}", "bold")]
    connected = [each for each in bridge.controllers if each.connections]
    paired = f"{len(bridge.controllers)} paired, {len(connected)} connected"
    if connected:
        paired += f": {', '.join(each.id[:_CONTROLLER_CHARACTERS] for each in connected)}"
    lines.append(Text(f"controllers: {paired if bridge.controllers else 'none paired, see `hkswitch pair`'}"))
    if bridge.helper:
        lines.append(Text(f"helper: not there ({bridge.helper}); switches fail until it is", "red"))
    return [*lines, Text()]


def _state(group: GroupReport, now_unix_seconds: float) -> str:
    match group.state:
        case None:
            return "unknown"
        case GroupState.PARTIAL:
            up = sum(unit.meaning is Meaning.UP for unit in group.units.values())
            return f"partial {up}/{len(group.units)}"
        case GroupState.STARTING | GroupState.STOPPING if group.since_unix_seconds:
            return f"{group.state} {_ago(group.since_unix_seconds, now_unix_seconds)}"
        case state:
            return state


def _last(last: LastAction | None, now_unix_seconds: float) -> str:
    if last is None:
        return ""
    ago = _ago(last.at_unix_seconds, now_unix_seconds)
    by = last.by if last.by.startswith("user ") else last.by[:_CONTROLLER_CHARACTERS]
    begun = f"{last.action} {ago} ago" + (f" by {by}" if by else "")
    match last.outcome:
        case Outcome.RUNNING:
            return f"{begun}, not done yet"
        case Outcome.DONE:
            return f"{begun}, took {last.duration_ms / 1000:.1f} s"
        case Outcome.FAILED:
            return f"{begun}, failed: {last.failure}"


def _ago(unix_seconds: float, now_unix_seconds: float) -> str:
    seconds = max(0, int(now_unix_seconds - unix_seconds))
    for unit, length_seconds in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length_seconds:
            return f"{seconds // length_seconds} {unit}"
    return f"{seconds} s"


async def watch(
    state_folder: Path, group_ids: Collection[str], console: Console, *, json_lines: bool
) -> None:
    """Show how everything is after each change, until interrupted; raises `Failure`."""
    reports = client.watch(socket_of(state_folder))
    if json_lines:
        async for report in reports:
            console.file.write(f"{as_json(chosen(report, group_ids), indent=None)}\n")
            console.file.flush()
        return
    from rich.live import Live  # noqa: PLC0415 -- only this needs it

    with Live(console=console, auto_refresh=False, screen=console.is_terminal) as live:
        async for report in reports:
            live.update(page(chosen(report, group_ids), time.time()), refresh=True)
