"""Runs the latches of groups with `alert`: shows, logs and keeps their troubles, and has a command run.

Decides nothing: model/trouble.py does. Knows no HomeKit.
"""

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Collection
from typing import Final, Protocol

from hkswitch.backend import Host
from hkswitch.daemon.event_timers import EventTimers
from hkswitch.daemon.kept_alerts import KeptAlerts, KeptRules, plain
from hkswitch.model.config import Config
from hkswitch.model.group import Group
from hkswitch.model.restart_rule_events import Armed, GaveUp
from hkswitch.model.switch_events import GroupChanged, Observed, RequestFailed
from hkswitch.model.told_group import still_told
from hkswitch.model.trouble import (
    WELL_SECONDS,
    AwaitCheck,
    AwaitWell,
    CheckOverdue,
    Closed,
    Judged,
    Latch,
    Opened,
    PastTrouble,
    StayedWell,
    Trouble,
    TroubleDecision,
    TroubleEvent,
)
from hkswitch.model.unit_state import Action

MOST_KEPT_ELSEWHERE: Final = 16
"""Members of another host's group whose judged runs are kept: what a host says must not fill the file."""

WRITE_RUNS_SECONDS: Final = 1.0
"""How long judged runs may wait to be written: a user's script may stop a unit again and again."""

_log = logging.getLogger(__name__)


class AlertDisplay(Protocol):
    """The display of the latches."""

    def show_alert(self, group_id: str, *, detected: bool) -> None:
        """Show whether a group is in trouble, and tell every connection if that is news."""


class AlertsFile(Protocol):
    """The file of all that is kept over restarts."""

    def read(self) -> KeptAlerts:
        """Return what was kept; nothing if it is damaged."""

    def keep(self, value: KeptAlerts) -> None:
        """Keep this from now on."""

    def close(self) -> None:
        """Write no more."""


class Alerts:
    """All latches, between a host and a display."""

    def __init__(self, config: Config, host: Host, display: AlertDisplay, file: AlertsFile) -> None:
        """Show what was kept, before the first report of the host."""
        self._host = host
        self._display = display
        self._file = file
        self._kept = file.read()
        self._latches: dict[str, Latch] = {}
        self._timers = EventTimers[TroubleEvent](self._step)
        self._writing: asyncio.TimerHandle | None = None
        """The timer until judged runs are written."""
        self._commands: set[asyncio.Task[None]] = set()
        self._turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        """Of each group's commands: the helper runs one at a time, and the last one may still run."""
        self._tell: Callable[[], None] = lambda: None
        self._is_closed = False
        self.regroup(config)

    def regroup(self, config: Config) -> None:
        """Replace the groups: latches of remaining groups stay, and troubles of the others end.

        A group whose sensor is removed and added again starts without trouble.
        """
        self._has_command = bool(config.alert_command)
        before, self._latches = self._latches, {}
        wanted = [group for group in config.groups if group.alert is not None]
        for group in wanted:
            self._latches[group.id] = before.get(group.id) or self._latch_of(group)
            self._display.show_alert(group.id, detected=self._latches[group.id].is_open)
            self._step(group.id, GroupChanged(still_told(group, self._latches[group.id].group)))
        for group_id in before.keys() - self._latches.keys():
            self._timers.stop_group(group_id)
        self._forget_all_but(
            {group.id for group in wanted}, {each.id for each in config.groups if each.restart_when}
        )
        self._write()

    def _latch_of(self, group: Group) -> Latch:
        """Return the latch of a group as it was kept."""
        is_open = self._kept.open_of(group.id) is not None
        return Latch(group, is_open=is_open, judged=self._kept.judged.get(group.id, {}))

    def _forget_all_but(self, with_alert: Collection[str], with_rule: Collection[str]) -> None:
        for trouble in self._kept.troubles:
            if trouble.ended_unix_seconds is None and trouble.group_id not in with_alert:
                self._kept = self._kept.closed(trouble.group_id, int(time.time()))
        rules = {group_id: rule for group_id, rule in self._kept.rules.items() if group_id in with_rule}
        self._kept = self._kept._replace(rules=rules)

    def tell_of_changes(self, tell: Callable[[], None]) -> None:
        """Call `tell` when a trouble begins or ends."""
        self._tell = tell

    # Events

    def observed(self, group_id: str, observed: Observed) -> None:
        """Handle the state of a group that the host reports."""
        self._step(group_id, observed)

    def request_failed(self, group_id: str, action: Action, failure: str) -> None:
        """Handle the end of a request that went wrong, whoever made it."""
        self._step(group_id, RequestFailed(action, failure))

    def rule_decided(self, group_id: str, decision: GaveUp | Armed) -> None:
        """Note that the group's rule has given up, or acts again.

        Only the trouble is kept: after a restart of the daemon, and after a reload that adds the sensor, the
        owner of a rule that had given up must tell this once more, with an empty `excess`.
        """
        self._step(group_id, decision)

    # Reports

    def trouble_of(self, group_id: str) -> Trouble | None:
        """Return the trouble that a group is in, None if there is none."""
        found = self._kept.open_of(group_id)
        return None if found is None else Trouble(found.reason, found.began_unix_seconds)

    def last(self) -> tuple[PastTrouble, ...]:
        """Return the last troubles, oldest first, with those that last."""
        return self._kept.troubles

    @property
    def kept_rules(self) -> KeptRules:
        """The states of the groups' rules, as JSON objects; those of groups without a rule are dropped."""
        return self._kept.rules

    @kept_rules.setter
    def kept_rules(self, rules: KeptRules) -> None:
        self._kept = self._kept._replace(rules={**rules})
        self._write()

    async def close(self) -> None:
        """Write what is not yet written, and end the commands that still run."""
        self._is_closed = True
        self._timers.stop()
        self._write()
        self._file.close()
        for command in self._commands:
            command.cancel()
        await asyncio.gather(*self._commands, return_exceptions=True)

    # Decisions

    def _step(self, group_id: str, event: TroubleEvent) -> None:
        latch = self._latches.get(group_id)
        if latch is None or self._is_closed:
            return  # it has no sensor
        after, decisions = latch.step(event)
        self._latches[group_id] = after
        for decision in decisions:
            self._carry_out(after, decision)
        if after.judged != latch.judged and not after.is_open:
            # While a group is in trouble, no further failure matters: a crash loop writes nothing.
            self._write_soon()

    def _carry_out(self, latch: Latch, decision: TroubleDecision) -> None:
        group_id = latch.group.id
        match decision:
            case Opened(reason):
                self._opened(latch, reason)
            case Closed():
                self._kept = self._kept.closed(group_id, int(time.time()))
                self._show(group_id, detected=False)
                _log.info("%s: alert ended", group_id)
            case AwaitWell(number):
                self._timers.start(WELL_SECONDS, group_id, StayedWell(number))
            case AwaitCheck(number):
                self._timers.start(latch.group.timeout_seconds, group_id, CheckOverdue(number))

    def _opened(self, latch: Latch, reason: str) -> None:
        group_id, reason = latch.group.id, plain(reason)
        self._kept = self._kept.opened(group_id, reason, int(time.time()))
        self._show(group_id, detected=True)
        _log.warning("%s: alert: %s", group_id, reason)
        if self._has_command:
            command = asyncio.create_task(self._run_command(group_id, latch.state or "unknown", reason))
            self._commands.add(command)
            command.add_done_callback(self._commands.discard)

    def _show(self, group_id: str, *, detected: bool) -> None:
        """Keep a verdict, and then show it: a new daemon must not show another one."""
        self._write()
        self._display.show_alert(group_id, detected=detected)
        self._tell()

    async def _run_command(self, group_id: str, state: str, reason: str) -> None:
        try:
            async with self._turns[group_id]:
                failure = (await self._host.alert(group_id, state, reason)).failure
        except Exception as error:  # noqa: BLE001 -- a bug there must not hide this
            failure = f"internal error: {error!r}"
        if failure is not None:
            _log.error("%s: alert_command failed: %s", group_id, failure)

    # The file

    def _write_soon(self) -> None:
        if self._writing is None:
            self._writing = asyncio.get_running_loop().call_later(WRITE_RUNS_SECONDS, self._write)

    def _write(self) -> None:
        if self._writing is not None:
            self._writing.cancel()
            self._writing = None
        judged = {group_id: _kept_of(latch) for group_id, latch in self._latches.items() if latch.judged}
        self._kept = self._kept._replace(judged=judged)
        self._file.keep(self._kept)


def _kept_of(latch: Latch) -> Judged:
    """Return the judged runs to keep of a group; the newest of another host's."""
    if latch.group.elsewhere is None:
        return latch.judged
    return dict([*latch.judged.items()][-MOST_KEPT_ELSEWHERE:])
