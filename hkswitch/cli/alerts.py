"""`hkswitch alerts`: the last alerts, from the daemon."""

import json
import time
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Final

import click

from hkswitch.cli.layout import duration, say
from hkswitch.cli.options import examples, json_option, state_option
from hkswitch.control import client, socket_of
from hkswitch.protocol.alert_report import AlertReport, alert_objects
from hkswitch.protocol.control import ControlRequest, LastAlerts, Operation
from hkswitch.protocol.report import REPORT_VERSION, unknown_group

NONE_YET: Final = "No alerts so far. Only groups with `alert` in the configuration have any."


@click.command(epilog=examples("hkswitch alerts", "hkswitch alerts web"))
@click.argument("groups", nargs=-1, metavar="[GROUP]...")
@state_option
@json_option
def alerts(groups: tuple[str, ...], state_folder: Path, *, as_json: bool) -> None:
    """Show the last alerts of groups.

    A group with `alert` in the configuration alerts once for each trouble; the newest is first. The daemon
    keeps the last hundred, also over restarts.
    """
    found = of_groups(dict.fromkeys(groups), state_folder)
    if as_json:
        click.echo(json.dumps({"version": REPORT_VERSION, "alerts": alert_objects(found)}, indent=2))
    else:
        say("\n".join(lines_of(found)) or (f"No alerts for {', '.join(groups)}." if groups else NONE_YET))


def of_groups(groups: Collection[str], state_folder: Path) -> tuple[AlertReport, ...]:
    """Return the alerts of these groups, or all if none is named, newest first.

    Raises `Failure` if the daemon cannot be asked, or if a group has neither an alert nor a switch.
    """
    path = socket_of(state_folder)
    reply = client.ask(path, ControlRequest(Operation.ALERTS))
    assert isinstance(reply, LastAlerts)  # noqa: S101 -- ask has checked it
    if not groups:
        return reply.alerts
    if unseen := [each for each in groups if each not in {alert.group for alert in reply.alerts}]:
        known = [group.id for group in client.ask_report(path).groups]
        for group_id in unseen:
            if group_id not in known:
                raise unknown_group(group_id, known)
    return tuple(alert for alert in reply.alerts if alert.group in groups)


def lines_of(found: Sequence[AlertReport]) -> Iterator[str]:
    """Yield a line for each alert, with its local time."""
    longest = max((len(alert.group) for alert in found), default=0)
    for alert in found:
        yield (
            f"{_minute(alert.began_unix_seconds)}  {alert.group:{longest}}  {alert.reason}  ({_end(alert)})"
        )


def _end(alert: AlertReport) -> str:
    if alert.ended_unix_seconds is None:
        return "open"
    return f"ended after {duration(alert.ended_unix_seconds - alert.began_unix_seconds)}"


def _minute(unix_seconds: int) -> str:
    try:
        return time.strftime("%Y-%m-%d %H:%M", time.localtime(unix_seconds))
    except (OverflowError, ValueError, OSError):
        return "unknown time"  # in no calendar of this machine, such as 2040 on some 32-bit ones
