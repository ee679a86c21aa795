"""A host that is reached through its helper: what its groups are, and what is asked of them. Never root.

Nothing else tells states: there is no bus here. While a helper is replaced, what the last one told stays for
a moment; a helper that does not answer is believed no longer at once.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from itertools import count
from typing import Final, NoReturn

from hkswitch.backend import Observer
from hkswitch.backend.helper_client import HelperClient, Transport
from hkswitch.backend.helper_session import End, HelperGone, HelperSession, RequestRefused
from hkswitch.backend.kept_verdicts import KeptVerdicts
from hkswitch.backend.knowledge import Knowledge
from hkswitch.model.group import Group
from hkswitch.model.printable import one_line
from hkswitch.model.switch_events import Observed
from hkswitch.model.unit_state import Action, ActionResult, GroupState, ProbeResult, UnitState, result_of
from hkswitch.protocol.helper import (
    CONFIG_CHANGED,
    CONFIRM_AT_LENGTH_MS,
    CONFIRM_MS,
    Complete,
    GroupTold,
    Lost,
    ProbeTold,
    Request,
    StatesTold,
    Told,
)

TOLD_WITHIN_SECONDS: Final = 5
"""How long what a helper told is believed after its end, until the next one tells."""

TAP_WAITS_SECONDS: Final = 0.9
"""For a helper that is being replaced: a phone is answered after a second."""

SETTLED_WITHIN_SECONDS: Final = 100
"""For units that a helper left in transition; systemd itself gives them 90 s."""

STAYS_SECONDS: Final = 1
"""A start is a success if its group is still on after so long."""

STARTING_WITHIN_SECONDS: Final = 2
"""For jobs that a helper left waiting to be seen at work."""

_log = logging.getLogger(__name__)


class HelperHost:
    """The groups of one machine."""

    def __init__(self, groups: Collection[Group], transport: Transport) -> None:
        """Starts nothing yet: `open` does."""
        self._client = HelperClient(transport)
        self._groups = {group.id: group for group in groups}
        self._observer: Observer | None = None
        self._session: HelperSession | None = None
        self._is_new = False
        self._epoch = 1
        self._known: Knowledge | None = None
        self._next = Knowledge(self._groups)
        self._kept = KeptVerdicts(self._forget_verdicts)
        self._tokens = {group.id: group.token for group in groups}
        self._forgetting: asyncio.TimerHandle | None = None
        self._config_problem = ""
        self._bus_problem = ""
        self._numbers = count(1)
        self._waiting: list[int] = []
        """The requests that wait for a helper, the oldest one first."""
        self._news = asyncio.Event()
        self._running: asyncio.Task[NoReturn] | None = None

    # For the daemon

    async def open(self, observer: Observer) -> None:
        """Start the helper, and wait for what it tells, but not for ever."""
        self._observer = observer
        self._running = asyncio.create_task(self._client.keep_running(self))
        await self._until(self._all_told, TOLD_WITHIN_SECONDS)

    async def watch(self, groups: Collection[Group]) -> None:
        """Serve these groups from now on. What was told of those that mean the same stays."""
        self._groups = {group.id: group for group in groups}
        self._tokens = {group.id: group.token for group in groups}
        self._epoch += 1
        self._next = Knowledge(self._groups)
        self._show(self._groups)
        if self._session is not None:
            self._session.observe(self._epoch)
            await self._until(self._all_told, TOLD_WITHIN_SECONDS)

    def trouble(self) -> str:
        """Why there is no helper, if there is none, and what to do."""
        return self._client.trouble()

    async def check_config(self) -> str:
        """Why root does not believe the config on disk; what a helper said before it went counts no more."""
        is_known = self._session is not None and await self._session.ping()
        return self._config_problem if is_known else ""

    def config_problem(self) -> str:
        """What is wrong with the config on disk, if it is not the one in force."""
        if self._config_problem or self._known is None or self._known is not self._next:
            return self._config_problem
        stale = [group_id for group_id in self._groups if not self._means_the_same(group_id)]
        return f"{CONFIG_CHANGED} ({', '.join(stale)})" if stale else ""

    async def until_broken(self) -> NoReturn:
        """Wait for a defect in what `open` began."""
        assert self._running is not None  # noqa: S101 -- open() came first
        await self._running

    async def request(
        self, action: Action, group_id: str, accepted: Callable[[], None], *, at_length: bool
    ) -> ActionResult:
        """Have the helper do it, once; what it led to was told before this returns."""
        group = self._groups.get(group_id)
        token = self._tokens.get(group_id, "")
        confirm_ms = CONFIRM_AT_LENGTH_MS if at_length else CONFIRM_MS
        request = Request(next(self._numbers), action, group_id, token, confirm_ms)
        was_on = group is not None and self._state(group) is GroupState.ON
        try:
            await self._turn_of(request)
            session = await self._client.session(within_seconds=0)
            finished = await session.request(request, accepted)
        except RequestRefused as refusal:
            return ActionResult(str(refusal))
        except HelperGone as gone:
            if gone.accepted and group is not None:
                return await self._settled(action, group, str(gone), was_on=was_on)
            return ActionResult(str(gone))
        return ActionResult() if finished.superseded else result_of(finished.units)

    async def _turn_of(self, request: Request) -> None:
        """Wait for a helper that told everything, but not for ever, and let older requests be sent first."""

        def is_next() -> bool:
            return self._waiting[0] == request.id

        self._waiting.append(request.id)
        try:
            if not await self._until(lambda: self._has_told() and is_next(), TAP_WAITS_SECONDS):
                await self._until(is_next, TAP_WAITS_SECONDS)  # they came sooner, and give up now, too
        finally:
            self._waiting.remove(request.id)
            self._wake()

    async def close(self) -> None:
        """End the helper."""
        self._kept.close()
        if self._forgetting is not None:
            self._forgetting.cancel()
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)

    # What the helper says

    def began(self, session: HelperSession) -> None:
        """A helper is there: it tells everything anew."""
        self._session, self._is_new = session, True
        self._next = Knowledge(self._groups)
        session.observe(self._epoch)
        self._notice()

    def told(self, told: Told) -> None:
        """Take over what it told; of the first that it tells nothing counts before the end."""
        if isinstance(told, StatesTold):
            self._note_probes(told.probes)
            self._doubt_what_changes(told.units)
        concerned = self._next.take(told)
        if self._next is self._known:
            self._show(concerned)
            if isinstance(told, GroupTold):
                self._notice()
        elif isinstance(told, Complete | Lost):
            self._believe(self._next)
        if isinstance(told, Complete | Lost):
            self._note_bus(self._next.lost)

    def told_config(self, problem: str) -> None:
        """Take over whether root believes the config on disk."""
        problem = one_line(problem)
        if problem == self._config_problem:
            return
        self._config_problem = problem
        if problem:
            _log.error("the configuration on disk is not in force, and actions are refused: %s", problem)
        else:
            _log.info("the configuration on disk is valid again")
        self._show(self._groups)
        self._notice()

    def gone(self, end: End) -> None:
        """Believe what it told for a moment longer, unless it is there and does not answer."""
        self._session = None
        if end.was_silent or self._known is None:
            self._forget()
        elif self._forgetting is None:
            later = asyncio.get_running_loop().call_later
            self._forgetting = later(TOLD_WITHIN_SECONDS, self._forget)
        self._notice()

    def _note_bus(self, problem: str) -> None:
        """Log, once for all groups, that no state is known, and that all are known again."""
        if problem and not self._bus_problem:
            _log.error("%s; switches do not respond until that works", problem)
        elif self._bus_problem and not problem:
            _log.info("systemd can be reached again")
        self._bus_problem = problem

    def _note_probes(self, probes: Mapping[str, ProbeTold]) -> None:
        for group_id, probe in probes.items():
            if probe.verdict is not None or self._next is self._known:
                self._kept.answered(group_id)
            before = self._next.probes.get(group_id)
            was_so = before is not None and before.verdict is probe.verdict
            if probe.verdict is ProbeResult.UNAVAILABLE and not was_so:
                _log.warning("%s: unavailable: %s", group_id, probe.reason)

    def _believe(self, knowledge: Knowledge) -> None:
        before, self._known = self._known, knowledge
        if self._forgetting is not None:
            self._forgetting.cancel()
            self._forgetting = None
        kept = {} if before is None else knowledge.unanswered_of(before)
        if not self._is_new:  # what this helper itself has said before, it does not say any more
            kept = {name: probe for name, probe in kept.items() if name in self._kept}
        self._is_new = False
        knowledge.probes |= kept
        self._kept.keep(kept, TOLD_WITHIN_SECONDS)
        self._show(self._groups)
        self._notice()

    def _doubt_what_changes(self, units: Mapping[str, UnitState]) -> None:
        """What an older helper's probe said counts no more when a unit of its group is another now."""
        if self._kept and self._known is not None and self._known is self._next:
            changed = {unit for unit, state in units.items() if self._known.units.get(unit) != state}
            units_of = {group_id: told.units for group_id, told in self._known.groups.items()}
            self._forget_verdicts(self._kept.drop(changed, units_of))

    def _forget_verdicts(self, group_ids: Collection[str]) -> None:
        """What old helpers' probes said of these groups is not known any more."""
        if self._known is not None:
            self._known.probes |= dict.fromkeys(group_ids, ProbeTold(None))
        self._show(group_ids)

    def _forget(self) -> None:
        if self._forgetting is not None:
            self._forgetting.cancel()
        self._known = self._forgetting = None
        self._show(self._groups)

    # What is known

    def _observed(self, group: Group) -> Observed:
        if self._known is None:
            return Observed(None, None, str(HelperGone(self._client.why_gone or "it has not answered yet")))
        if not self._means_the_same(group.id):
            if self._config_problem:
                return Observed(None, None, self._config_problem)
            if self._known is not self._next and self._session is not None:
                return Observed({})  # the helper is about to tell what it is now
        return self._known.observed(group.id, self._tokens.get(group.id, ""))  # a reload may have removed it

    def _means_the_same(self, group_id: str) -> bool:
        """Whether root's config has this group as the daemon's has it."""
        return self._known is not None and self._known.has(group_id, self._tokens.get(group_id, ""))

    def _state(self, group: Group) -> GroupState | None:
        units, verdict, _ = self._observed(group)
        return None if units is None else group.state(units, verdict)

    def _show(self, group_ids: Collection[str]) -> None:
        """Tell the observer what is known of these groups."""
        for group_id in group_ids:
            group = self._groups.get(group_id)
            if group is not None and self._observer is not None:
                self._observer.observed(group_id, self._observed(group))
        self._wake()

    def _notice(self) -> None:
        if self._observer is not None:
            self._observer.noticed()
        self._wake()

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    async def _until(self, condition: Callable[[], bool], within_seconds: float) -> bool:
        """Wait until something is so, but no longer; returns whether it is."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within_seconds):
                while not condition():
                    await self._news.wait()
        return condition()

    def _has_told(self) -> bool:
        """Whether there is a helper that told everything: one that has not may not be able to do much yet."""
        session = self._session
        return session is not None and not session.ended.done() and self._known is self._next

    def _all_told(self) -> bool:
        """Whether no more will be told soon: of everything, or because there is no helper."""
        if self._session is None:
            return self._client.was_tried
        return self._known is self._next and not any(map(self._is_unanswered, self._groups.values()))

    def _is_unanswered(self, group: Group) -> bool:
        units, verdict, _ = self._observed(group)
        if units is None or verdict is not None or not group.probe:
            return False
        return group.state(units, ProbeResult.ON) is GroupState.ON

    async def _settled(self, action: Action, group: Group, why_gone: str, *, was_on: bool) -> ActionResult:
        """What came of a request whose helper went away: the next one tells the states that it led to."""
        wanted = {GroupState.OFF} if action is Action.STOP else {GroupState.ON}
        passing = {GroupState.STARTING, GroupState.STOPPING}
        before = self._known
        # That a group is on does not say that it was restarted, nor that nothing was known of it meanwhile.
        had_begun = was_on and self._state(group) not in {GroupState.ON, None}

        def is_told() -> bool:
            return self._known is not None and self._known is not before

        def state() -> GroupState | None:
            is_old = group.id in self._kept  # what a helper before said, and this one has not yet
            units, verdict, _ = self._observed(group)
            if is_old or units is None:
                return None
            told = group.state(units, verdict)
            return group.left_by_stop(units) if (action, told) == (Action.STOP, GroupState.FAILED) else told

        def has_moved() -> bool:
            return had_begun or state() in (passing if action is Action.RESTART else passing | wanted)

        def is_settled() -> bool:
            is_another = self._tokens.get(group.id) != group.token or not self._means_the_same(group.id)
            return is_another or state() not in {None, *passing}

        if await self._until(is_told, TOLD_WITHIN_SECONDS):
            moved = await self._until(has_moved, STARTING_WITHIN_SECONDS)
            await self._until(is_settled, SETTLED_WITHIN_SECONDS)
            if action is not Action.STOP and state() in wanted:  # a crash loop is on at every other moment
                await self._until(lambda: state() not in wanted, STAYS_SECONDS)
            if state() in wanted and (moved or action is not Action.RESTART):
                return ActionResult()
            if state() in wanted:
                return ActionResult(f"{why_gone}; it is not known whether {group.id} was restarted")
        return ActionResult(why_gone)
