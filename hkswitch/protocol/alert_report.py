"""The last alerts of all groups: `hkswitch alerts --json`. Pure: no I/O.

Keys keep their names and meanings as report.py says, and all text is printable.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from hkswitch.model.printable import LONGEST_PRINTED, printable_line
from hkswitch.protocol.json_fields import objects, words
from hkswitch.protocol.json_lines import MalformedMessage, number
from hkswitch.protocol.report import required

if TYPE_CHECKING:  # the command line reads alerts, and opens none
    from hkswitch.model.trouble import PastTrouble

MOST_ALERTS: Final = 100


class AlertReport(NamedTuple):
    """A trouble of a group, for which its sensor opened; `ended_unix_seconds` is None while it lasts.

    `name` is empty if the group was removed since.
    """

    group: str
    name: str
    reason: str
    began_unix_seconds: int
    ended_unix_seconds: int | None = None


def reports_of(troubles: "Sequence[PastTrouble]", names: Mapping[str, str]) -> tuple[AlertReport, ...]:
    """Return the reports of troubles, which are sorted from the oldest, newest first."""
    return tuple(
        AlertReport(
            trouble.group_id,
            names.get(trouble.group_id, ""),
            trouble.reason,
            trouble.began_unix_seconds,
            trouble.ended_unix_seconds,
        )
        for trouble in reversed(troubles)
    )


def alert_objects(alerts: Iterable[AlertReport]) -> list[dict[str, Any]]:
    """Return the JSON objects of alerts."""
    return [{**each._asdict(), "reason": printable_line(each.reason)} for each in alerts]


def alerts_of(body: dict[str, Any]) -> tuple[AlertReport, ...]:
    """Return the alerts in a JSON object; raises `MalformedMessage`."""
    found = objects(body, "alerts")
    if len(found) > MOST_ALERTS:
        raise MalformedMessage(f"more than {MOST_ALERTS} alerts")
    return tuple(map(_alert, found))


def _alert(item: dict[str, Any]) -> AlertReport:
    required(item, {*AlertReport._fields})
    lasts = item["ended_unix_seconds"] is None
    return AlertReport(
        group=words(item, "group"),
        name=words(item, "name"),
        reason=words(item, "reason", LONGEST_PRINTED),
        began_unix_seconds=number(item, "began_unix_seconds", 0),
        ended_unix_seconds=None if lasts else number(item, "ended_unix_seconds", 0),
    )
