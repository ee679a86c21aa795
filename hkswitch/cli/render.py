"""Reports as tables for a terminal."""

import pwd
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from hkswitch.cli.group_table import GroupRow, group_lines, has_container
from hkswitch.cli.host_table import host_lines
from hkswitch.cli.layout import NARROWEST_COLUMNS, duration, wrapped
from hkswitch.cli.styled import StyledOutput, StyledText, StyledTexts, styled
from hkswitch.control import START_SERVICE, STATE_FOLDER
from hkswitch.control.words import command, locked
from hkswitch.model.unit_state import GroupState, UnitHealth
from hkswitch.protocol.report import BridgeReport, GroupReport, LastAction, Outcome, Report

if TYPE_CHECKING:
    from rich.console import Console

    from hkswitch.cli.rich_console import FittedConsole

STATE_STYLES: Final = {
    GroupState.ON: "green",
    GroupState.STARTING: "yellow",
    GroupState.STOPPING: "yellow",
    GroupState.PARTIAL: "yellow",
    GroupState.OFF: "dim",
    GroupState.FAILED: "red",
    GroupState.MISSING: "red",
    None: "red",
}

TROUBLE_STYLE: Final = "red"
RULE_STYLE: Final = "yellow"

DAEMON_ENDED: Final = (
    "The daemon is not running; reconnecting. This is its last report, which may be outdated."
)

NO_HELPER: Final = "the helper is not running"

_CONTROLLER_CHARACTERS: Final = 8
"""Characters of a controller's ID to show: enough to tell the controllers of a home apart."""


def rendered(
    report: Report,
    now_unix_seconds: float,
    columns: int,
    state_folder: Path = STATE_FOLDER,
    *,
    daemon_ended: bool = False,
) -> StyledTexts:
    """Return lines about the bridge, the hosts, the groups, why states are unknown, and troubles and rules.

    The lines break between words to fit in `columns`; only a longer word leaves a longer line.
    `daemon_ended`: whether the daemon has exited since this report. `state_folder`: for suggested commands.
    """
    rows = [_row(group, now_unix_seconds) for group in sorted(report.groups, key=_place)]
    if daemon_ended:
        lines = [styled(DAEMON_ENDED, "yellow"), styled()]
    elif report.bridge is None:
        lines = _lines_without_bridge(report)
    else:
        lines = _bridge_lines(report.bridge, now_unix_seconds, state_folder)
    shown = (
        *(_fit(line, columns) for line in lines),
        *_hosts(report, now_unix_seconds, columns),
        *group_lines(rows, columns),
        *(_fit(line, columns) for line in _below(report, now_unix_seconds)),
    )
    return StyledTexts(shown)


def _fit(line: StyledText, columns: int) -> StyledText:
    return StyledText(tuple(("\n".join(wrapped(text, columns)), style) for text, style in line.parts))


def _hosts(report: Report, now_unix_seconds: float, columns: int) -> Iterator[StyledText]:
    """Yield the lines about other hosts; without the daemon, which connects to them, there are none."""
    if report.bridge is None or not report.hosts:
        return
    yield from host_lines(report.hosts, {group.host for group in report.groups}, now_unix_seconds, columns)
    for host in report.hosts:
        if host.problem:
            yield _fit(styled(f"host {host.name}: {host.problem}", TROUBLE_STYLE), columns)
    yield styled()


def _place(group: GroupReport) -> str:
    """Return the place of a group, by which they are sorted: this machine's come first."""
    return group.host


def _row(group: GroupReport, now_unix_seconds: float) -> GroupRow:
    return GroupRow(
        group.id,
        group.name,
        _state(group, now_unix_seconds),
        STATE_STYLES[group.state],
        tuple(f"{unit} {state}" for unit, state in group.units.items()),
        _last(group.last_action, now_unix_seconds),
        group.host,
    )


def _below(report: Report, now_unix_seconds: float) -> list[StyledText]:
    """Return the lines below the groups."""
    lines = [*_reasons(report), *_troubles(report, now_unix_seconds)]
    return [styled(), *lines] if lines else []


def _troubles(report: Report, now_unix_seconds: float) -> Iterator[StyledText]:
    """Yield the alerts that last, and what rules say; a group can have both."""
    for group in report.groups:
        if group.trouble:
            lasts = _ago(group.trouble_since_unix_seconds, now_unix_seconds)
            yield styled(f"{group.id}: alert for {lasts}: {group.trouble}", TROUBLE_STYLE)
        if group.rule:
            yield styled(f"{group.id}: restart rule: {group.rule}", RULE_STYLE)


def _reasons(report: Report) -> list[StyledText]:
    """Return each reason once, with its groups; lines above have the long reason of a helper or a host."""
    helper = report.bridge.helper if report.bridge else ""
    away = {host.name for host in report.hosts if host.problem and not host.connected_since_unix_seconds}
    unknown: dict[str, list[str]] = {}
    for group in report.groups:
        why = group.why
        if helper and why.startswith(NO_HELPER):
            why = f"{NO_HELPER}, see above"
        elif report.bridge is not None and why and group.host in away:
            why = f"the host {group.host} is not connected, see above"
        if why:
            unknown.setdefault(why, []).append(group.id)
    return [styled(f"{', '.join(ids)}: {why}", STATE_STYLES[None]) for why, ids in unknown.items()]


def show_report(report: Report, terminal: "Console | StyledOutput", state_folder: Path) -> None:
    _print(_at_present(report, terminal, state_folder), terminal)


def _at_present(
    report: Report, terminal: "Console | StyledOutput", state_folder: Path, *, daemon_ended: bool = False
) -> StyledTexts:
    columns = max(terminal.width, NARROWEST_COLUMNS)
    return rendered(report, time.time(), columns, state_folder, daemon_ended=daemon_ended)


def _print(report: StyledTexts, terminal: "Console | StyledOutput", end: str = "\n") -> None:
    """Print a report. A terminal folds a word that is longer than a line; rich would cut it."""
    if isinstance(terminal, StyledOutput):
        terminal.print(report)
        return
    terminal.print(report, end=end, overflow="ignore", no_wrap=True, crop=False)


def show_problems(problems: Sequence[str], terminal: "Console | StyledOutput") -> None:
    """Print the problems below a report; nothing if there are none."""
    if problems:
        columns = max(terminal.width, NARROWEST_COLUMNS)
        lines = [_fit(styled(f"- {problem}"), columns) for problem in problems]
        _print(StyledTexts((styled(), styled("Problems:", "bold red"), *lines)), terminal)


def _lines_without_bridge(report: Report) -> list[StyledText]:
    has_containers = any(has_container(group.units) for group in report.groups)
    whose = "systemd and the container engines" if has_containers else "systemd"
    what = f"The daemon is not running; {START_SERVICE}. These states come from {whose}."
    return [styled(what, "yellow"), styled()]


def _bridge_lines(bridge: BridgeReport, now_unix_seconds: float, state_folder: Path) -> list[StyledText]:
    running = _ago(bridge.running_since_unix_seconds, now_unix_seconds)
    lines = [styled(f"{bridge.name}: running for {running}, {_where(bridge)}", "bold")]
    if bridge.addresses and bridge.network:
        lines.append(styled(f"network: {bridge.network}", "yellow"))
    connected = [each for each in bridge.controllers if each.connections]
    paired = f"{len(bridge.controllers)} paired, {len(connected)} connected"
    if connected:
        paired += f": {', '.join(each.id[:_CONTROLLER_CHARACTERS] for each in connected)}"
    if bridge.pairing_refused:
        lines.append(styled(f"controllers: none paired; {locked(state_folder)}", "red"))
    else:
        none = f"none paired; run {command(state_folder, 'pair')}"
        lines.append(styled(f"controllers: {paired if bridge.controllers else none}"))
    if bridge.helper:
        lines.append(
            styled(f"helper: unavailable ({bridge.helper}); switches do not respond until it is back", "red")
        )
    if bridge.config:
        lines.append(styled(f"configuration: not applied ({bridge.config})", "red"))
    if bridge.storage:
        lines.append(styled(f"state: not written ({bridge.storage})", "red"))
    if bridge.identity:
        lines.append(styled(f"identity: {bridge.identity}", "red"))
    return [*lines, styled()]


def _where(bridge: BridgeReport) -> str:
    if bridge.addresses:
        return f"on {', '.join(bridge.addresses)}, port {bridge.port}"
    return bridge.network or "no network yet"  # a daemon of an older version sends no reason


def _state(group: GroupReport, now_unix_seconds: float) -> str:
    match group.state:
        case None:
            return "unknown"
        case GroupState.PARTIAL:
            up = sum(unit.health is UnitHealth.UP for unit in group.units.values())
            # Of a paused container, or of a project some of whose containers run, its own line says more.
            return f"partial {up}/{len(group.units)}" if up else "partial"
        case GroupState.STARTING | GroupState.STOPPING if group.since_unix_seconds:
            return f"{group.state} {_ago(group.since_unix_seconds, now_unix_seconds)}"
        case state:
            notes = [note for note in ("assumed", "momentary") if getattr(group, note)]
            return ", ".join([state, *notes])


def _last(last: LastAction | None, now_unix_seconds: float) -> str:
    if last is None:
        return ""
    ago = _ago(last.at_unix_seconds, now_unix_seconds)
    by = _requester(last.by)
    begun = f"{last.action or 'unknown action'} {ago} ago" + (f" by {by}" if by else "")
    match last.outcome:
        case Outcome.RUNNING:
            return f"{begun}, still running"
        case Outcome.DONE:
            return f"{begun}, took {last.duration_ms / 1000:.1f} s"
        case Outcome.FAILED:
            return f"{begun}, failed: {last.failure}"
        case Outcome.UNKNOWN:
            return f"{begun}, outcome unknown"


def _requester(by: str) -> str:
    """Return a user with its name, if it has one here, or the beginning of a controller's ID."""
    if not by.startswith("user "):
        return by[:_CONTROLLER_CHARACTERS]
    try:
        return f"user {pwd.getpwuid(int(by.removeprefix('user '))).pw_name}"
    except (KeyError, ValueError, OverflowError):
        return by


def _ago(unix_seconds: float, now_unix_seconds: float) -> str:
    return duration(now_unix_seconds - unix_seconds)


def show_reports(
    reports: Iterable[tuple[Report, bool]], terminal: "FittedConsole", state_folder: Path
) -> None:
    """Show each report in place of the previous one; below it if the output cannot do that.

    Each comes with a flag: whether the daemon has exited since.
    """
    if not terminal.can_redraw:
        for report, daemon_ended in reports:
            _print(_at_present(report, terminal, state_folder, daemon_ended=daemon_ended), terminal, "\n\n")
        return
    from rich.live import Live  # noqa: PLC0415 -- only this needs it

    with Live(console=terminal, auto_refresh=False, screen=True) as live:
        for report, daemon_ended in reports:
            live.update(_at_present(report, terminal, state_folder, daemon_ended=daemon_ended), refresh=True)
