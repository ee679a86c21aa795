"""The state machine of a group's switch: events in, decisions out. Pure: no I/O.

A switch shows its group's state, except while a request is pending. A tap (`Written`) sends a request.
Until the tap is answered, On keeps its value, so that no controller sees a start that fails at once.
From the answer to the end of the request, On is the requested value, whatever states the units pass
through. After that, On follows the units again, and `Show` corrects controllers whose answer turned out to
be wrong.

An unknown state is never shown as on: while a group waits for its check, it stays off for a moment if it
was off, and is unavailable otherwise.

A group with a restart switch has a second On, which is on while a restart is pending.
"""

from bisect import bisect_right
from collections.abc import Mapping
from typing import NamedTuple

from hkswitch.model.group import Group
from hkswitch.model.persistent_queue import PersistentQueue
from hkswitch.model.switch_events import (
    Answer,
    Available,
    AwaitKnown,
    AwaitStable,
    Changed,
    Decision,
    Event,
    GroupChanged,
    Observed,
    RequestAccepted,
    RequestFailed,
    RequestFinished,
    Send,
    Show,
    StayedUnknown,
    StayedUp,
    Tile,
    WriteTimedOut,
    Written,
)
from hkswitch.model.unit_state import Action, GroupState, ProbeResult, UnitState


class ActiveRequest(NamedTuple):
    """The newest request. `on` is the requested value of the group's tile; `writes` are still unanswered."""

    id: int
    action: Action
    on: bool
    writes: PersistentQueue[int]
    token: str
    """The group's token when the request was sent."""
    accepted: bool = False
    acknowledged: bool = False
    """Whether a write was answered with success before the request ended."""

    @property
    def tile(self) -> Tile:
        """The tile that was tapped."""
        return Tile.RESTART if self.action is Action.RESTART else Tile.GROUP


Step = tuple["Switch", tuple[Decision, ...]]


class Switch(NamedTuple):
    """A group's switch at one moment; `step` returns the next one."""

    group: Group
    units: Mapping[str, UnitState] | None = None
    probe_result: ProbeResult | None = None
    why: str = ""
    """The host's reason for the probe's result, or for an unknown state."""
    state: GroupState | None = None
    """The group's state, None while it is unknown. Computed once for each observation."""
    available: bool = False
    """Whether reads return a value."""
    pending: ActiveRequest | None = None
    superseded: PersistentQueue[ActiveRequest] = PersistentQueue()
    """Requests that a newer one replaced before the host accepted or rejected them."""
    shown: bool = False
    """The value of On that controllers were sent last."""
    doubted: bool = False
    """Whether a controller may have another value, such as after a success that a newer request undid."""
    unstable: int = 0
    """The number of the newest `AwaitStable`, if the group failed and may fail again; otherwise 0."""
    waiting: int = 0
    """The number of the newest `AwaitKnown`."""
    is_awaited: bool = False
    """Whether that timer runs and began without a pending request; the end of one does not restart it."""

    @property
    def is_known(self) -> bool:
        """Whether there is a state to show."""
        return self.state not in {None, GroupState.MISSING}

    @property
    def explanation(self) -> str:
        """Why the state is unknown, or why the check fails; empty if the units explain the state."""
        if self.state is None:
            return self.why
        is_failing = self.state is GroupState.PARTIAL and self.probe_result is ProbeResult.OFF
        if is_failing and self.why and self.group.state(self.units or {}, ProbeResult.ON) is GroupState.ON:
            return f"the check fails: {self.why}"
        return ""

    @property
    def is_idle(self) -> bool:
        """Whether nothing of the group runs, so that a restart does nothing."""
        if self.group.commands is not None:
            return self.state is GroupState.OFF
        return self.state is not None and not any(unit.is_running for unit in (self.units or {}).values())

    @property
    def is_asked(self) -> bool:
        """Whether the host is still determining it: a unit's state or the probe's result is missing."""
        return self.state is None and self.units is not None and self.probe_result is None

    def step(self, event: Event) -> Step:
        """Return the switch after an event, and the decisions to carry out, in order."""
        match event:
            case Observed(units, probe_result, why, _, told):
                group = told or self.group
                state = None if units is None else group.state(units, probe_result)
                return self._observed(
                    self._replace(group=group, units=units, probe_result=probe_result, why=why, state=state)
                )
            case GroupChanged(group):
                return self._group_changed(group)
            case StayedUnknown(number):
                late = self._replace(is_awaited=False)
                return late._stayed_unknown() if number == self.waiting else (self, ())
            case StayedUp(number):
                return self._stayed_up() if number == self.unstable else (self, ())
            case Written(write, on, tile):
                return self._written(write, tile, on=on)
            case WriteTimedOut(write):
                return self._write_timed_out(write)
            case RequestAccepted(request):
                return self._accepted(request)
            case RequestFinished(request, failure):
                return self._finished(request, failure)

    def _group_changed(self, group: Group) -> Step:
        """Apply a new config of the group; the known state stays if the config means the same to root."""
        gets_restart = group.restart and not self.group.restart
        after = self._replace(group=group)
        decisions: tuple[Decision, ...] = ()
        if group.token != self.group.token:
            after, decisions = self._observed(after._replace(units={}, probe_result=None, why="", state=None))
        if gets_restart:
            decisions = (*decisions, Available(after.available), after._show_restart())
        return after, decisions

    def _observed(self, after: "Switch") -> Step:
        if self.available and self.is_asked and after.is_asked:
            return after, ()  # the timer is already running, and this does not restart it
        after, told = after._with_availability()
        if after.state is self.state and not told:
            return after, ()
        after, waits = after._watched_for_crashes()
        is_passing = after.state is None and after.available  # the host has yet to determine it
        # A crash loop is reported once, not with each crash.
        is_news = not is_passing and not (self.unstable and after.unstable) and after.state is not self.state
        changes = (Changed(after.state),) if is_news else ()
        after, shows = after._show_state()
        return after, (*changes, *told, *waits, *shows)

    def _with_availability(self) -> Step:
        """Decide whether reads return a value: not in an unknown state, except for a moment while off."""
        if self.is_known is self.available:
            return self._replace(is_awaited=False) if self.is_awaited else self, ()
        if self.is_known:
            # A controller that read an error has dropped the value.
            after = self._replace(available=True, doubted=True, is_awaited=False)
            shows = (after._show_restart(),) if self.group.restart else ()
            return after, (Available(available=True), *shows)
        if self.is_asked and (self.pending is not None or not self.shown):
            if self.is_awaited:
                return self, ()
            after = self._replace(waiting=self.waiting + 1, is_awaited=self.pending is None)
            return after, (AwaitKnown(after.waiting),)
        return self._replace(available=False, doubted=True, is_awaited=False), (Available(available=False),)

    def _stayed_unknown(self) -> Step:
        if self.is_known or not self.available or self.pending is not None:
            return self, ()
        return self._replace(available=False, doubted=True), (Changed(self.state), Available(available=False))

    def _show_restart(self) -> Show:
        pending = self.pending
        on = pending is not None and pending.tile is Tile.RESTART and pending.acknowledged
        return Show(on=on, tile=Tile.RESTART)

    def _stayed_up(self) -> Step:
        after, shows = self._replace(unstable=0)._show_state()
        return after, (Changed(GroupState.ON), *shows)

    def _watched_for_crashes(self) -> Step:
        """After a failure, do not show the group as on until it has stayed up, or was stopped on purpose."""
        if self.pending is not None:
            return self, ()  # decided when the request ends
        if self.state is GroupState.FAILED:
            return self._replace(unstable=self.unstable + 1), ()
        if self.state is GroupState.OFF or not self.unstable:
            return self._replace(unstable=0), ()
        after = self._replace(unstable=self.unstable + 1)
        return after, (AwaitStable(after.unstable),) if self.state is GroupState.ON else ()

    def _written(self, write: int, tile: Tile, *, on: bool) -> Step:
        action = Action.START if on else Action.STOP
        turns_itself_back = tile is Tile.RESTART and not on
        if turns_itself_back or (self.group.momentary and action not in self.group.actions):
            return self, (Answer(write, ok=True),)  # what has begun cannot be undone
        if tile is Tile.GROUP:
            return self._tapped(write, action, on=on)
        return self._tapped(write, Action.RESTART, on=self.pending.on if self.pending else self.shown)

    def _tapped(self, write: int, action: Action, *, on: bool) -> Step:
        pending = self.pending
        is_same = pending is not None and (pending.action, pending.token) == (action, self.group.token)
        if pending is not None and is_same and not self.group.runs_each_time:
            # The same tap again: one request serves both.
            return self._replace(pending=pending._replace(writes=pending.writes.added(write))), ()
        after, decisions = self._superseded(action)
        request = ActiveRequest(write, action, on, PersistentQueue.of(write), self.group.token)
        return after._replace(pending=request, unstable=0), (*decisions, Send(write, action))

    def _superseded(self, action: Action) -> Step:
        """Replace the pending request with a newer one, which is not a failure.

        A request for the same action replaces it only after a reload changed the group; then its outcome is
        unknown, and its writes fail.
        """
        if self.pending is None:
            return self, ()
        over = (Show(on=False, tile=Tile.RESTART),) if self.pending.tile is Tile.RESTART else ()
        wants_the_same = self.pending.action is action and not self.group.runs_each_time
        if self.pending.accepted or wants_the_same:
            return self._replace(doubted=True), (*_answers(self.pending, ok=not wants_the_same), *over)
        return self._replace(doubted=True, superseded=self.superseded.added(self.pending)), over

    def _accepted(self, request: int) -> Step:
        pending = self.pending
        if pending is not None and pending.id == request:
            return self._replace(pending=pending._replace(accepted=True)), ()
        return self._superseded_known(request, ok=True)

    def _superseded_known(self, request: int, *, ok: bool) -> Step:
        """Answer a superseded request, now that it is known whether the host accepted it."""
        index = self.superseded.find(request, _id)
        if index is None:
            return self, ()
        known, after = self.superseded[index], self._replace(superseded=self.superseded.without(index))
        answers = _answers(known, ok=ok)
        if not ok:
            return after, answers
        # The answer was a success, but a newer request has already replaced it.
        over = (Show(on=False, tile=Tile.RESTART),) if known.tile is Tile.RESTART else ()
        after, shows = after._replace(doubted=True)._show_state()
        return after, (*answers, *over, *shows)

    def _write_timed_out(self, write: int) -> Step:
        pending = self.pending
        # A request has the number of its first write, and all its writes come before the next request.
        position = bisect_right(self.superseded, write, key=_id) - 1
        if position >= 0 and (old := self.superseded[position]).writes.find(write, int) is not None:
            # The host has not accepted it yet, so the answer cannot be a success.
            return self._superseded_known(old.id, ok=False)
        index = None if pending is None else pending.writes.find(write, int)
        if pending is None or index is None:
            return self, ()
        others = pending.writes.without(index)
        if not pending.accepted:
            return self._replace(pending=pending._replace(writes=others)), (Answer(write, ok=False),)
        after, shows = self._replace(pending=pending._replace(writes=others, acknowledged=True))._show_answer(
            pending, write
        )
        return after, (Answer(write, ok=True), *shows)

    def _finished(self, request: int, failure: str | None) -> Step:
        pending = self.pending
        if pending is None or pending.id != request:
            return self._superseded_known(request, ok=failure is None)  # a newer request decides
        after, told = self._replace(pending=None)._with_availability()
        after, waits = after._watched_for_crashes()
        is_new = pending.action is not Action.STOP and (pending.acknowledged or not self.shown)
        if failure is not None and is_new and after.state is GroupState.ON:  # a crash loop, up for a moment
            after = after._replace(unstable=after.unstable + 1)
            waits = (AwaitStable(after.unstable),)
        decisions: list[Decision] = [*_answers(pending, ok=failure is None), *told, *waits]
        if failure is not None:
            decisions.insert(0, RequestFailed(pending.action, failure))
        elif pending.writes and after.is_known:
            after, shows = after._show_answer(pending, pending.writes[0])
            decisions += shows
        elif pending.writes:
            after = after._replace(doubted=True)  # the writer takes the success for the state
        if pending.tile is Tile.RESTART and (pending.acknowledged or failure is None):
            decisions.append(Show(on=False, tile=Tile.RESTART))
        after, shows = after._show_state()
        return after, (*decisions, *shows)

    def _show_answer(self, pending: ActiveRequest, write: int) -> Step:
        """Show the requested value, after a write was answered with success."""
        if pending.tile is Tile.RESTART:
            return self, (Show(on=True, writer=write, tile=Tile.RESTART),)
        return self._show(on=pending.on, writer=write)

    def _show_state(self) -> Step:
        """Show the state of the units, unless it is unknown or a request is pending."""
        if self.pending is not None or self.state is None or not self.is_known:
            return self, ()
        return self._show(on=self.state.on and not self.unstable)

    def _show(self, *, on: bool, writer: int | None = None) -> Step:
        if on is self.shown and not self.doubted:
            return self, ()
        return self._replace(shown=on, doubted=False), (Show(on, writer),)


def _id(pending: ActiveRequest) -> int:
    return pending.id


def _answers(pending: ActiveRequest, *, ok: bool) -> tuple[Answer, ...]:
    return tuple(Answer(write, ok) for write in pending.writes)
