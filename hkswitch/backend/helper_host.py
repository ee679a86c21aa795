"""A host reached through its helper: its groups' states, and requests for them. Does not run as root.

The helper is the only source of states; the daemon uses no bus. While a helper is being replaced, the reports
of the last one stay valid for a moment; those of a helper that does not answer are dropped at once.
"""

import asyncio
from collections.abc import Callable, Collection, Mapping
from itertools import count
from typing import Final, NoReturn

from hkswitch.backend import Observer
from hkswitch.backend.aftermath import Aftermath
from hkswitch.backend.helper_client import HelperClient, Transport
from hkswitch.backend.helper_session import End, HelperGone, HelperSession, RequestRefused
from hkswitch.backend.host_log import HostLog
from hkswitch.backend.host_status import report_of
from hkswitch.backend.interrupted_request import InterruptedRequest
from hkswitch.backend.known_groups import KnownGroups, id_there
from hkswitch.backend.reported_state import ReportedState, changed_groups, missing_groups, rejected_config
from hkswitch.backend.request_turns import RequestTurns
from hkswitch.backend.retained_results import RetainedResults
from hkswitch.backend.wakeups import Wakeups
from hkswitch.model.elsewhere import RemoteHost
from hkswitch.model.group import Group
from hkswitch.model.printable import one_line
from hkswitch.model.switch_events import Observed, RequestOrigin
from hkswitch.model.told_group import is_untold
from hkswitch.model.unit_state import Action, ActionResult, GroupState, ProbeResult, UnitState, result_of
from hkswitch.protocol.helper import (
    CONFIRM_AT_LENGTH_MS,
    CONFIRM_MS,
    Alert,
    Complete,
    GroupUpdate,
    Lost,
    ProbeUpdate,
    Request,
    SamplesUpdate,
    StatesUpdate,
    Update,
)
from hkswitch.protocol.host_report import HostReport

TOLD_WITHIN_SECONDS: Final = 5
"""How long the reports of a helper stay valid after its end, until the next one reports."""

HEARD_WITHIN_SECONDS: Final = 10
"""After its last line, they are not valid any longer: a cut may have come long before the end of ssh."""

TAP_WAITS_SECONDS: Final = 0.9
"""For a helper that is being replaced: a phone gets its response after a second."""


class HelperHost:
    """The groups of one machine, reached through its helper."""

    def __init__(
        self, groups: Collection[Group], transport: Transport, host: RemoteHost | None = None
    ) -> None:
        """Starts nothing yet: `open` does. Of `groups`, only those of `host` count; None is this machine."""
        self._host = host
        self._name = "" if host is None else host.name
        self._log = HostLog(self._name)
        self._client = HelperClient(transport, self._log)
        self._groups = KnownGroups(groups, host)
        self._observer: Observer | None = None
        self._session: HelperSession | None = None
        self._is_new = False
        self._epoch = 1
        self._reported: ReportedState | None = None
        self._incoming = ReportedState(self._groups)
        self._retained = RetainedResults(self._forget_probes)
        self._forget_timer: asyncio.TimerHandle | None = None
        self._config_problem = ""
        self._numbers = count(1)
        self._news = Wakeups()
        self._turns = RequestTurns(self._news, self._has_reported, TAP_WAITS_SECONDS)
        self._running: asyncio.Task[NoReturn] | None = None

    # For the daemon

    async def open(self, observer: Observer) -> None:
        """Start the helper, and wait for its reports, up to a limit."""
        self._observer = observer
        self._running = asyncio.create_task(self._client.keep_running(self))
        if self._name:
            self._show(self._groups)  # a reload may have put a host in the place of another one
        await self._news.until(self._all_reported, TOLD_WITHIN_SECONDS)

    async def watch(self, groups: Collection[Group]) -> None:
        """Serve these groups from now on. Reports about groups that did not change stay valid."""
        self._groups.regroup(groups)
        self._epoch += 1
        self._incoming = ReportedState(self._groups)
        self._show(self._groups)
        if self._session is not None:
            self._session.observe(self._epoch, self._groups.sampled)
            await self._news.until(self._all_reported, TOLD_WITHIN_SECONDS)

    def trouble(self) -> str:
        """Return why there is no helper, and the remedy; empty if there is one."""
        return self._client.trouble()

    async def check_config(self) -> str:
        """Return why root rejects the config on disk; a helper that has ended does not count."""
        is_known = self._session is not None and await self._session.ping()
        return self._config_problem if is_known else ""

    def remote_hosts(self) -> tuple[HostReport, ...]:
        """Return how this host is, if it is another one."""
        lost = "" if self._reported is None else self._reported.lost
        problem = lost or self.config_problem()
        return () if self._host is None else (report_of(self._host, self._client, problem),)

    def config_problem(self) -> str:
        """Return what is wrong with the config on disk, if it is not the one in force."""
        if self._config_problem or self._reported is None or self._reported is not self._incoming:
            return self._config_problem
        if self._name:
            return missing_groups(self._groups.untold(), self._name)
        return changed_groups([group.id for group in self._groups.groups if not self._means_the_same(group)])

    async def until_broken(self) -> NoReturn:
        """Wait until a task that `open` started fails because of a bug, and raise its exception."""
        assert self._running is not None  # noqa: S101 -- open() came first
        await self._running

    async def request(
        self, action: Action, group_id: str, accepted: Callable[[], None], origin: RequestOrigin
    ) -> ActionResult:
        """Have the helper perform an action, once; the resulting states are reported before this returns."""
        group = self._groups.with_id(group_id)
        there, token = (group_id, "") if group is None else (id_there(group), self._groups.token(group))
        confirm_ms = CONFIRM_AT_LENGTH_MS if origin is RequestOrigin.USER else CONFIRM_MS
        was_on = group is not None and self._state(group) is GroupState.ON
        number = next(self._numbers)
        try:
            if not (self._host and self._client.is_missing and self._reported is None):
                await self._turns.turn_of(number)
            if not token and (group := self._groups.with_id(group_id)) is not None:
                token = self._groups.token(group)  # its host may have told it only now
            request = Request(number, action, there, token, confirm_ms, origin is RequestOrigin.RULE)
            session = await self._client.session(within_seconds=0)
            finished = await session.request(request, accepted)
        except RequestRefused as refusal:
            return ActionResult(str(refusal))
        except HelperGone as gone:
            # Without a status, no later state tells whether the command succeeded.
            if gone.accepted and group is not None and not group.runs_each_time:
                return await self._outcome(action, group, str(gone), was_on=was_on)
            return ActionResult(str(gone))
        return ActionResult(superseded=True) if finished.superseded else result_of(finished.units)

    async def alert(self, group_id: str, state: str, reason: str) -> ActionResult:
        """Have the helper run the config's alert command."""
        token = self._groups.config_token(group_id)
        alert = Alert(next(self._numbers), group_id, token, state, reason)
        try:
            session = await self._client.session(within_seconds=TOLD_WITHIN_SECONDS)
            finished = await session.request(alert, lambda: None)
        except (RequestRefused, HelperGone) as failure:
            return ActionResult(str(failure))
        return result_of(finished.units)

    async def close(self) -> None:
        """End the helper."""
        self._retained.close()
        if self._forget_timer is not None:
            self._forget_timer.cancel()
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)

    # For `Hosts`

    def retry(self) -> None:
        """Connect at once, if there is no connection: something may have changed."""
        self._client.retry()

    def hurry(self) -> None:
        """Connect at once, if an attempt is due soon."""
        self._client.hurry()

    # From the helper (`HelperListener`)

    def started(self, session: HelperSession) -> None:
        """Begin with a new helper, which reports everything again."""
        self._session, self._is_new = session, True
        self._incoming = ReportedState(self._groups)
        session.observe(self._epoch, self._groups.sampled)
        self._notice()

    def reported(self, update: Update) -> None:
        """Apply a report; the first reports of a helper take effect when they are complete."""
        if isinstance(update, SamplesUpdate):
            self._take_samples(update)
        if isinstance(update, StatesUpdate):
            self._groups.learn_probes(update.probes)
            self._retained.answered(update.probes, is_believed=self._incoming is self._reported)
            self._log.probes(update.probes, self._incoming.probes)
            self._doubt_what_changes(update.units)
        if isinstance(update, GroupUpdate):
            self._groups.learn(update)
        concerned = self._incoming.take(update)
        if self._incoming is self._reported:
            self._show(concerned)
            if isinstance(update, GroupUpdate):
                self._notice()
        elif isinstance(update, Complete | Lost):
            self._believe(self._incoming)
        if isinstance(update, Complete | Lost):
            self._log.bus(self._incoming.lost)

    def _take_samples(self, update: SamplesUpdate) -> None:
        if self._reported is None or self._reported is not self._incoming:
            return
        for group_id, sample in self._groups.samples(self._reported, update):
            if self._observer is not None:
                self._observer.sampled(group_id, sample)

    def config_checked(self, problem: str) -> None:
        """Note whether root accepts the config on disk."""
        problem = rejected_config(one_line(problem), self._name)
        if problem == self._config_problem:
            return
        self._config_problem = problem
        self._log.config(problem)
        self._show(self._groups)
        self._notice()

    def gone(self, end: End) -> None:
        """Keep its reports for a moment longer, unless it is still running but does not answer."""
        self._session = None
        if end.was_silent or self._reported is None:
            self._forget()
        elif self._forget_timer is None:
            valid_seconds = min(TOLD_WITHIN_SECONDS, HEARD_WITHIN_SECONDS - end.silent_seconds)
            self._forget_timer = asyncio.get_running_loop().call_later(valid_seconds, self._forget)
        self._notice()

    def _believe(self, reported: ReportedState) -> None:
        before, self._reported = self._reported, reported
        if reported.is_complete:
            self._groups.keep(reported.groups)
        if self._forget_timer is not None:
            self._forget_timer.cancel()
            self._forget_timer = None
        retained = {} if before is None else reported.unanswered_of(before)
        if not self._is_new:  # results that this helper reported before and does not report again are void
            retained = {name: probe for name, probe in retained.items() if name in self._retained}
        self._is_new = False
        reported.probes |= retained
        self._retained.keep(retained, TOLD_WITHIN_SECONDS)
        self._show(self._groups)
        self._notice()

    def _doubt_what_changes(self, units: Mapping[str, UnitState]) -> None:
        """Drop the retained probe result of a group when one of its units changed."""
        if self._retained and self._reported is not None and self._reported is self._incoming:
            changed = {unit for unit, state in units.items() if self._reported.units.get(unit) != state}
            units_of = {group_id: group.units for group_id, group in self._reported.groups.items()}
            self._forget_probes(self._retained.drop(changed, units_of))

    def _forget_probes(self, group_ids: Collection[str]) -> None:
        """Drop the probe results of earlier helpers for these groups."""
        if self._reported is not None:
            self._reported.probes |= dict.fromkeys(group_ids, ProbeUpdate(None))
        self._show(group_ids)

    def _forget(self) -> None:
        if self._forget_timer is not None:
            self._forget_timer.cancel()
        self._reported = self._forget_timer = None
        self._show(self._groups)

    # State

    def _observed(self, group: Group) -> Observed:
        if self._reported is None:
            gone = HelperGone(self._client.why_gone or "it has not answered yet", self._name)
            return Observed(None, None, str(gone))
        if not self._means_the_same(group):
            if self._config_problem:
                return Observed(None, None, self._config_problem)
            if self._reported is not self._incoming and self._session is not None:
                return Observed({})  # the helper is about to report the new group
            if self._name and is_untold(group):
                return Observed(None, None, missing_groups((id_there(group),), self._name))
        observed = self._reported.observed(id_there(group), self._groups.token(group))
        return observed._replace(group=group) if self._name else observed

    def _means_the_same(self, group: Group) -> bool:
        """Tell whether the group is the same in root's config and in the daemon's."""
        return self._reported is not None and self._reported.has(id_there(group), self._groups.token(group))

    def _state(self, group: Group) -> GroupState | None:
        observed = self._observed(group)
        return None if observed.units is None else group.state(observed.units, observed.probe_result)

    def _show(self, ids_there: Collection[str]) -> None:
        """Tell the observer the state of these groups."""
        for there in tuple(ids_there):
            group = self._groups.get(there)
            if group is not None and self._observer is not None:
                self._observer.observed(group.id, self._observed(group))
        self._news.wake()

    def _notice(self) -> None:
        if self._observer is not None:
            self._observer.noticed()
        self._news.wake()

    def _has_reported(self) -> bool:
        """Tell whether a helper has reported everything; before that it may not be able to act."""
        session = self._session
        return session is not None and not session.ended.done() and self._reported is self._incoming

    def _all_reported(self) -> bool:
        """Tell whether no more reports are due: all have arrived, or there is no helper."""
        if self._session is None:
            return self._client.was_tried
        return self._reported is self._incoming and not any(map(self._is_unanswered, self._groups.groups))

    def _is_unanswered(self, group: Group) -> bool:
        observed = self._observed(group)
        if observed.units is None or observed.probe_result is not None or not group.probe:
            return False
        return group.state(observed.units, ProbeResult.ON) is GroupState.ON

    def _state_after(self, action: Action, group: Group) -> GroupState | None:
        """Return the state that this helper reports; None for what only an earlier one has reported.

        After a stop, failed units count as off.
        """
        observed = self._observed(group)
        if id_there(group) in self._retained or observed.units is None:
            return None
        state = self._state(group)
        is_left = (action, state) == (Action.STOP, GroupState.FAILED)
        return group.left_by_stop(observed.units) if is_left else state

    async def _outcome(self, action: Action, group: Group, why_gone: str, *, was_on: bool) -> ActionResult:
        """Return the outcome of a request whose helper ended: the next one reports the states it led to."""
        before = self._reported
        has_left_on = was_on and self._state(group) not in {GroupState.ON, None}
        request = InterruptedRequest(action, group, has_left_on)

        def has_reported() -> bool:
            return self._reported is not None and self._reported is not before

        def is_another() -> bool:
            current = self._groups.with_id(group.id)
            return current is None or current.token != group.token or not self._means_the_same(group)

        def state() -> GroupState | None:
            return self._state_after(action, group)

        aftermath = Aftermath(self._news, has_reported, state, is_another)
        return await aftermath.result(request, why_gone, TOLD_WITHIN_SECONDS)
