"""What is remembered of groups beside their states: since when, and what was asked of them last, by whom."""

import time
from collections.abc import Collection
from dataclasses import dataclass, replace

from hkswitch.model.switch import Switch
from hkswitch.model.unit_state import Action
from hkswitch.protocol.report import GroupReport, LastAction, Outcome


@dataclass(frozen=True, slots=True)
class _Asked:
    """A request, its number and when it began."""

    number: int
    action: LastAction
    began_seconds: float


class History:
    """Of all groups, for as long as the daemon runs."""

    def __init__(self) -> None:
        self._since_unix_seconds: dict[str, int] = {}
        self._asked: dict[str, _Asked] = {}

    def keep(self, group_ids: Collection[str]) -> None:
        """Forget all other groups."""
        for remembered in (self._since_unix_seconds, self._asked):
            for group_id in remembered.keys() - group_ids:
                del remembered[group_id]

    def changed(self, group_id: str) -> None:
        """The group's state is another one from now on."""
        self._since_unix_seconds[group_id] = int(time.time())

    def asked(self, group_id: str, number: int, action: Action, by: str) -> None:
        """A request was sent."""
        self._asked[group_id] = _Asked(number, LastAction(action, by, int(time.time())), time.monotonic())

    def ended(self, group_id: str, number: int, failure: str | None) -> None:
        """A request has ended; of one that a newer one replaced, nothing is remembered."""
        asked = self._asked.get(group_id)
        if asked is None or asked.number != number:
            return
        outcome = Outcome.DONE if failure is None else Outcome.FAILED
        took_ms = round((time.monotonic() - asked.began_seconds) * 1000)
        ended = asked.action._replace(outcome=outcome, failure=failure or "", duration_ms=took_ms)
        self._asked[group_id] = replace(asked, action=ended)

    def newest(self, group_id: str) -> int:
        """The number of the newest request, 0 for none."""
        asked = self._asked.get(group_id)
        return 0 if asked is None else asked.number

    def report(self, switch: Switch) -> GroupReport:
        """How a group is."""
        group, asked = switch.group, self._asked.get(switch.group.id)
        known = switch.units or {}
        return GroupReport(
            id=group.id,
            name=group.name,
            state=switch.state,
            since_unix_seconds=self._since_unix_seconds.get(group.id, 0),
            units={unit: known[unit] for unit in group.units if unit in known},
            last_action=None if asked is None else asked.action,
            commands=group.commands is not None,
        )
