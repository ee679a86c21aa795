"""One switch: what a group's events mean for HomeKit and for the helper. Pure: events in, decisions out.

A switch shows its group's state, except while a request runs. A tap (`Written`) sends a request; until the
tap is answered, On stays what it was, since a start that fails at once never happened for anybody. From the
answer to the end of the request, On is what was asked for, whatever the units pass through. Then the units
decide again. What a controller was told by an answer and what it sees later are reconciled by `Show`.

What is not known is never shown on: a group that waits for its check keeps its value for a moment if that is
off, and is unavailable otherwise.

A group with a restart switch has a second On, which is on while a restart runs.
"""

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from hkswitch.model.group import Group
from hkswitch.model.switch_events import (
    Answer,
    Available,
    AwaitKnown,
    AwaitSteady,
    Changed,
    Decision,
    Event,
    Observed,
    Regrouped,
    RequestAccepted,
    RequestFailed,
    RequestFinished,
    Send,
    Show,
    Steady,
    StillUnknown,
    Tile,
    Waited,
    Written,
)
from hkswitch.model.unit_state import Action, GroupState, ProbeResult, UnitState
from hkswitch.model.waiting import Waiting


@dataclass(frozen=True, slots=True)
class Running:
    """The newest request. `on` is what the group's tile will be, `writes` are those not yet answered."""

    id: int
    action: Action
    on: bool
    writes: Waiting[int]
    token: str
    """What the group meant when it was sent."""
    accepted: bool = False
    told: bool = False
    """Whether some write was answered with success before the end."""

    @property
    def tile(self) -> Tile:
        """Which tile was tapped."""
        return Tile.RESTART if self.action is Action.RESTART else Tile.GROUP


Step = tuple["Switch", tuple[Decision, ...]]


@dataclass(frozen=True, slots=True)
class Switch:
    """A group's switch at one moment. `step` makes the next one."""

    group: Group
    units: Mapping[str, UnitState] | None = None
    verdict: ProbeResult | None = None
    why: str = ""
    """What the host said of the probe, or of why it knows nothing."""
    state: GroupState | None = None
    """The group's state, None while it is not known. Computed once for each thing that is observed."""
    available: bool = False
    """Whether reads are answered with a value."""
    running: Running | None = None
    older: Waiting[Running] = field(default_factory=Waiting)
    """Requests that a newer one replaced before it was known whether they were handed over."""
    shown: bool = False
    """On, as every controller that looked last knows it."""
    doubted: bool = False
    """Some controller may believe otherwise: it was told a success that a newer request undid."""
    shaky: int = 0
    """Not 0: the group failed and is not trusted to stay up; the number of the newest `AwaitSteady`."""
    waiting: int = 0
    """The number of the newest `AwaitKnown`."""
    is_awaited: bool = False
    """Whether it was made while no request ran, and has not come back: one that ends makes no other then."""

    @property
    def is_known(self) -> bool:
        """Whether there is a truth to show."""
        return self.state not in {None, GroupState.MISSING}

    @property
    def is_asked(self) -> bool:
        """Whether the host is still finding out: a unit was not told yet, or the probe has not answered."""
        return self.state is None and self.units is not None and self.verdict is None

    def step(self, event: Event) -> Step:
        """The switch after an event, and what is to be done about it, in this order."""
        match event:
            case Observed(units, verdict, why):
                state = None if units is None else self.group.state(units, verdict)
                return self._observed(replace(self, units=units, verdict=verdict, why=why, state=state))
            case Regrouped(group):
                return self._regrouped(group)
            case StillUnknown(number):
                late = replace(self, is_awaited=False)
                return late._still_unknown() if number == self.waiting else (self, ())
            case Steady(number):
                return self._steadied() if number == self.shaky else (self, ())
            case Written(write, on, tile):
                return self._written(write, tile, on=on)
            case Waited(write):
                return self._waited(write)
            case RequestAccepted(request):
                return self._accepted(request)
            case RequestFinished(request, failure):
                return self._finished(request, failure)

    def _regrouped(self, group: Group) -> Step:
        """The config says something else of the group. What was known stays if root would do the same."""
        gets_restart = group.restart and not self.group.restart
        after = replace(self, group=group)
        decisions: tuple[Decision, ...] = ()
        if group.token != self.group.token:
            after, decisions = self._observed(replace(after, units={}, verdict=None, why="", state=None))
        if gets_restart:
            decisions = (*decisions, Available(after.available), after._show_restart())
        return after, decisions

    def _observed(self, after: "Switch") -> Step:
        if self.available and self.is_asked and after.is_asked:
            return after, ()  # it is waited for already, and no longer for this
        after, told = after._with_availability()
        if after.state is self.state and not told:
            return after, ()
        after, waits = after._watched_for_crashes()
        is_passing = after.state is None and after.available  # it is being asked
        # A crash loop is told once, not at every turn.
        is_news = not is_passing and not (self.shaky and after.shaky) and after.state is not self.state
        changes = (Changed(after.state),) if is_news else ()
        after, shows = after._settled()
        return after, (*changes, *told, *waits, *shows)

    def _with_availability(self) -> Step:
        """Whether reads have a value now: not of what is not known, but give it a moment if it is off."""
        if self.is_known is self.available:
            return replace(self, is_awaited=False), ()
        if self.is_known:
            # Who read an error has forgotten the value.
            after = replace(self, available=True, doubted=True, is_awaited=False)
            shows = (after._show_restart(),) if self.group.restart else ()
            return after, (Available(available=True), *shows)
        if self.is_asked and (self.running is not None or not self.shown):
            if self.is_awaited:
                return self, ()
            after = replace(self, waiting=self.waiting + 1, is_awaited=self.running is None)
            return after, (AwaitKnown(after.waiting),)
        return replace(self, available=False, doubted=True, is_awaited=False), (Available(available=False),)

    def _still_unknown(self) -> Step:
        if self.is_known or not self.available or self.running is not None:
            return self, ()
        return replace(self, available=False, doubted=True), (Changed(self.state), Available(available=False))

    def _show_restart(self) -> Show:
        running = self.running
        on = running is not None and running.tile is Tile.RESTART and running.told
        return Show(on=on, tile=Tile.RESTART)

    def _steadied(self) -> Step:
        after, shows = replace(self, shaky=0)._settled()
        return after, (Changed(GroupState.ON), *shows)

    def _watched_for_crashes(self) -> Step:
        """Do not trust a group that failed until it was on for a while, or off on purpose."""
        if self.running is not None:
            return self, ()  # its end decides
        if self.state is GroupState.FAILED:
            return replace(self, shaky=self.shaky + 1), ()
        if self.state is GroupState.OFF or not self.shaky:
            return replace(self, shaky=0), ()
        after = replace(self, shaky=self.shaky + 1)
        return after, (AwaitSteady(after.shaky),) if self.state is GroupState.ON else ()

    def _written(self, write: int, tile: Tile, *, on: bool) -> Step:
        if tile is Tile.GROUP:
            return self._tapped(write, Action.START if on else Action.STOP, on=on)
        if not on:  # a restart switch turns itself off; there is nothing to take back
            return self, (Answer(write, ok=True),)
        return self._tapped(write, Action.RESTART, on=self.running.on if self.running else self.shown)

    def _tapped(self, write: int, action: Action, *, on: bool) -> Step:
        running = self.running
        if running is not None and (running.action, running.token) == (action, self.group.token):
            # The same tap twice: one request serves both.
            return replace(self, running=replace(running, writes=running.writes.added(write))), ()
        after, decisions = self._superseded(action)
        request = Running(write, action, on, Waiting.of(write), self.group.token)
        return replace(after, running=request, shaky=0), (*decisions, Send(write, action))

    def _superseded(self, action: Action) -> Step:
        """A newer tap replaces the request that runs: no failure, but not what will be seen.

        One that wants the same does so after a reload that changed the group: nobody knows what came of both.
        """
        if self.running is None:
            return self, ()
        over = (Show(on=False, tile=Tile.RESTART),) if self.running.tile is Tile.RESTART else ()
        wants_the_same = self.running.action is action
        if self.running.accepted or wants_the_same:
            return replace(self, doubted=True), (*_answers(self.running, ok=not wants_the_same), *over)
        return replace(self, doubted=True, older=self.older.added(self.running)), over

    def _accepted(self, request: int) -> Step:
        running = self.running
        if running is not None and running.id == request:
            return replace(self, running=replace(running, accepted=True)), ()
        return self._older_known(request, ok=True)

    def _older_known(self, request: int, *, ok: bool) -> Step:
        """It is known now whether a request that was replaced had been handed over."""
        index = self.older.find(request, _id)
        if index is None:
            return self, ()
        known, after = self.older[index], replace(self, older=self.older.without(index))
        answers = _answers(known, ok=ok)
        if not ok:
            return after, answers
        # These were told a success that is over already.
        over = (Show(on=False, tile=Tile.RESTART),) if known.tile is Tile.RESTART else ()
        after, shows = replace(after, doubted=True)._settled()
        return after, (*answers, *over, *shows)

    def _waited(self, write: int) -> Step:
        running = self.running
        # A request has the number of its first write, and all its writes come before the next request.
        place = bisect_right(self.older, write, key=_id) - 1
        if place >= 0 and (old := self.older[place]).writes.find(write, int) is not None:
            # It is handed over to nobody yet, and must not be called a success.
            return self._older_known(old.id, ok=False)
        index = None if running is None else running.writes.find(write, int)
        if running is None or index is None:
            return self, ()
        others = running.writes.without(index)
        if not running.accepted:
            return replace(self, running=replace(running, writes=others)), (Answer(write, ok=False),)
        after, shows = replace(self, running=replace(running, writes=others, told=True))._told(running, write)
        return after, (Answer(write, ok=True), *shows)

    def _finished(self, request: int, failure: str | None) -> Step:
        running = self.running
        if running is None or running.id != request:
            return self._older_known(request, ok=failure is None)  # a newer request decides
        after, told = replace(self, running=None)._with_availability()
        after, waits = after._watched_for_crashes()
        is_new = running.action is not Action.STOP and (running.told or not self.shown)
        if failure is not None and is_new and after.state is GroupState.ON:  # a crash loop, up at this moment
            after = replace(after, shaky=after.shaky + 1)
            waits = (AwaitSteady(after.shaky),)
        decisions: list[Decision] = [*_answers(running, ok=failure is None), *told, *waits]
        if failure is not None:
            decisions.insert(0, RequestFailed(running.action, failure))
        elif running.writes and after.is_known:
            after, shows = after._told(running, running.writes[0])
            decisions += shows
        elif running.writes:
            after = replace(after, doubted=True)  # the writer believes in its success
        if running.tile is Tile.RESTART and (running.told or failure is None):
            decisions.append(Show(on=False, tile=Tile.RESTART))
        after, shows = after._settled()
        return after, (*decisions, *shows)

    def _told(self, running: Running, write: int) -> Step:
        """Show what a write was just told."""
        if running.tile is Tile.RESTART:
            return self, (Show(on=True, writer=write, tile=Tile.RESTART),)
        return self._show(on=running.on, writer=write)

    def _settled(self) -> Step:
        """Show the units' truth, unless a request runs or there is no truth."""
        if self.running is not None or self.state is None or not self.is_known:
            return self, ()
        return self._show(on=self.state.on and not self.shaky)

    def _show(self, *, on: bool, writer: int | None = None) -> Step:
        if on is self.shown and not self.doubted:
            return self, ()
        return replace(self, shown=on, doubted=False), (Show(on, writer),)


def _id(running: Running) -> int:
    return running.id


def _answers(running: Running, *, ok: bool) -> tuple[Answer, ...]:
    return tuple(Answer(write, ok) for write in running.writes)
