"""The file with all that alerts and rules keep over restarts: troubles, judged runs, and the rules' states.

Its contents are about this machine, so they are no part of a backup. This module decides nothing.
"""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from hkswitch.daemon.kept_file import KeptFile, KeptFormat, group_id_in, parsed_json
from hkswitch.model.printable import one_line
from hkswitch.model.trouble import MOST_RUNS, Judged, JudgedRun, PastTrouble
from hkswitch.protocol.helper import LONGEST_DETAIL
from hkswitch.protocol.json_lines import LARGEST_ID, LONGEST_NAME

ALERTS_FILE_NAME: Final = "alerts.json"
LARGEST_ALERTS_BYTES: Final = 2 * 1024 * 1024
"""Enough for the judged runs of 4,000 containers, whose names and runs are the longest, or for those that are
kept of 74 groups of hosts that lie."""

MOST_TROUBLES: Final = 100
"""Troubles to keep, without those that last; more than 74 of these are impossible."""

KeptRules = Mapping[str, Mapping[str, Any]]
"""The state of each group's rule, as a JSON object that only the rules know."""


class KeptAlerts(NamedTuple):
    """Everything that is kept."""

    troubles: tuple[PastTrouble, ...] = ()
    """The last troubles, oldest first, with those that last."""
    judged: Mapping[str, Judged] = MappingProxyType({})
    """The judged runs, by group."""
    rules: KeptRules = MappingProxyType({})

    def open_of(self, group_id: str) -> PastTrouble | None:
        """Return the trouble that a group is in."""
        open_ones = (each for each in self.troubles if each.ended_unix_seconds is None)
        return next((each for each in open_ones if each.group_id == group_id), None)

    def opened(self, group_id: str, reason: str, now_unix_seconds: int) -> "KeptAlerts":
        """Return this with one more trouble, whose reason is `plain`.

        Of many troubles, those that ended long ago are forgotten.
        """
        troubles = [*self.troubles, PastTrouble(group_id, reason, now_unix_seconds)]
        ended = [each for each in troubles if each.ended_unix_seconds is not None]
        oldest = {id(each) for each in ended[: max(0, len(troubles) - MOST_TROUBLES)]}
        return self._replace(troubles=tuple(each for each in troubles if id(each) not in oldest))

    def closed(self, group_id: str, now_unix_seconds: int) -> "KeptAlerts":
        """Return this after the end of a group's trouble."""
        is_over = self.open_of(group_id)
        return self._replace(
            troubles=tuple(
                # The clock may have been set back meanwhile.
                each._replace(ended_unix_seconds=max(now_unix_seconds, each.began_unix_seconds))
                if each is is_over
                else each
                for each in self.troubles
            )
        )


def plain(reason: str) -> str:
    """Return a reason as the file, root's helper and a terminal take it."""
    shown = one_line(reason)[:LONGEST_DETAIL]
    return "".join(char if char.isprintable() else "?" for char in shown)


def alerts_file(folder: Path) -> KeptFile[KeptAlerts]:
    """Return the file in a state folder."""
    return KeptFile(folder / ALERTS_FILE_NAME, _FORMAT)


def parse_alerts(contents: bytes) -> KeptAlerts:
    """Return the contents of the file; raises `ValueError`."""
    # TRUST: root prints the ids and reasons when the daemon reports what its user wrote.
    match parsed_json(contents, LARGEST_ALERTS_BYTES):
        case {"version": 1, "troubles": list(rows), "judged": dict(judged), "rules": dict(rules)}:
            troubles = tuple(map(_trouble, rows))
            open_ones = [each.group_id for each in troubles if each.ended_unix_seconds is None]
            if len(set(open_ones)) < len(open_ones):
                raise ValueError("two troubles of a group at once")
            if not all(isinstance(each, dict) for each in rules.values()):
                raise ValueError("invalid rules")
            by_group = {group_id_in(group_id): _judged(runs) for group_id, runs in judged.items()}
            return KeptAlerts(troubles, by_group, {group_id_in(each): rules[each] for each in rules})
    raise ValueError("unexpected contents")


def _trouble(row: object) -> PastTrouble:
    match row:
        case [str(group_id), str(reason), int(began), int() | None as ended] if (
            reason.isprintable() and len(reason) <= LONGEST_DETAIL
        ):
            return PastTrouble(
                group_id_in(group_id), reason, _time(began), None if ended is None else _time(ended)
            )
    raise ValueError("invalid trouble")


def _time(found: int) -> int:
    # A bool is an int in Python.
    if isinstance(found, bool) or not 0 <= found <= LARGEST_ID:
        raise ValueError("invalid time")
    return found


def _judged(found: object) -> Judged:
    if not isinstance(found, dict):
        raise ValueError("invalid judged runs")
    return {str(member): tuple(map(_run, _short_list(runs))) for member, runs in found.items()}


def _short_list(found: object) -> list[object]:
    if not isinstance(found, list) or len(found) > MOST_RUNS:
        raise ValueError("invalid runs")
    return found


def _run(row: object) -> JudgedRun:
    match row:
        case [str(run), bool(is_requested)] if len(run) <= LONGEST_NAME:
            return JudgedRun(run, is_requested)
    raise ValueError("invalid run")


def _body(kept: KeptAlerts) -> object:
    judged = {each: dict(runs) for each, runs in kept.judged.items() if runs}
    return {"version": 1, "troubles": kept.troubles, "judged": judged, "rules": dict(kept.rules)}


_FORMAT: Final = KeptFormat(
    LARGEST_ALERTS_BYTES,
    parse_alerts,
    _body,
    empty=KeptAlerts(),
    if_damaged="all sensors are closed, and the last alerts are forgotten",
)
