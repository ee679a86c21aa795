"""One switch: what a group's events mean for HomeKit and for the helper. Pure: events in, decisions out.

A switch shows its group's state, except while a request runs. A tap (`Written`) sends a request; until the
tap is answered, On stays what it was, since a start that fails at once never happened for anybody. From the
answer to the end of the request, On is what was asked for, whatever the units pass through. Then the units
decide again. What a controller was told by an answer and what it sees later are reconciled by `Show`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from hkswitch.core.model import Action, Group, GroupState, UnitResult, UnitState, group_state

ANSWER_WITHIN_SECONDS: Final = 1.0
"""A write is answered by then. iOS gives up at about 10 s and waits for nothing else meanwhile."""


# Events


@dataclass(frozen=True, slots=True)
class Seen:
    """The host told the states of some of the group's units."""

    units: Mapping[str, UnitState]


@dataclass(frozen=True, slots=True)
class Lost:
    """The host does not know the units' states any more."""


@dataclass(frozen=True, slots=True)
class Written:
    """A controller wrote On. `write` is a number that was never used before."""

    write: int
    on: bool


@dataclass(frozen=True, slots=True)
class Waited:
    """`ANSWER_WITHIN_SECONDS` passed since the write."""

    write: int


@dataclass(frozen=True, slots=True)
class Finished:
    """The request ended, and every unit state that it led to was `Seen` before.

    `failure` is None for success, else what failed.
    """

    request: int
    failure: str | None = None


Event = Seen | Lost | Written | Waited | Finished


# Decisions


@dataclass(frozen=True, slots=True)
class Send:
    """Send this request to the host; its end comes back as `Finished`."""

    request: int
    action: Action


@dataclass(frozen=True, slots=True)
class Answer:
    """Answer the write; not ok is -70402 and leaves the controller's value as it was."""

    write: int
    ok: bool


@dataclass(frozen=True, slots=True)
class Show:
    """Store On and send it as an event to every controller but the one that wrote `writer`."""

    on: bool
    writer: int | None = None


@dataclass(frozen=True, slots=True)
class Available:
    """Whether reads are answered with a value or with -70402."""

    available: bool


@dataclass(frozen=True, slots=True)
class Changed:
    """The group's state changed; None is not known. For the log and for people."""

    state: GroupState | None


@dataclass(frozen=True, slots=True)
class Failed:
    """A request failed. For the log."""

    action: Action
    failure: str


Decision = Send | Answer | Show | Available | Changed | Failed


@dataclass(frozen=True, slots=True)
class Running:
    """The newest request, and the writes that still wait for their answers."""

    id: int
    on: bool
    writes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Switch:
    """A group's switch at one moment. `step` makes the next one."""

    group: Group
    units: Mapping[str, UnitState] | None = None
    running: Running | None = None
    shown: bool = False
    """On, as every controller that looked last knows it."""
    doubted: bool = False
    """Some controller may believe otherwise: it was told a success that a newer request undid."""

    @property
    def state(self) -> GroupState | None:
        """The group's state, None while it is not known."""
        if self.units is None or not self.units.keys() >= set(self.group.units):
            return None
        return group_state([self.units[unit] for unit in self.group.units])

    @property
    def available(self) -> bool:
        """Whether there is a truth to show."""
        return self.state not in {None, GroupState.MISSING}

    def step(self, event: Event) -> tuple["Switch", tuple[Decision, ...]]:
        """The switch after an event, and what is to be done about it, in this order."""
        match event:
            case Seen(units):
                return self._observed({**(self.units or {}), **units})
            case Lost():
                return self._observed(None)
            case Written(write, on):
                return self._written(write, on=on)
            case Waited(write):
                return self._waited(write)
            case Finished(request, failure):
                return self._finished(request, failure)

    def _observed(self, units: Mapping[str, UnitState] | None) -> tuple["Switch", tuple[Decision, ...]]:
        after = replace(self, units=units)
        told: list[Decision] = []
        if after.state is not self.state:
            told.append(Changed(after.state))
        if after.available is not self.available:
            told.append(Available(after.available))
            after = replace(after, doubted=True)  # who read an error meanwhile has forgotten the value
        after, shows = after._settled()
        return after, (*told, *shows)

    def _written(self, write: int, *, on: bool) -> tuple["Switch", tuple[Decision, ...]]:
        running = self.running
        if running is not None and running.on is on:
            # The same tap twice: one request serves both.
            return replace(self, running=replace(running, writes=(*running.writes, write))), ()
        # The older request was handed over and is now replaced: no failure, but not what will be seen.
        answers = tuple(Answer(older, ok=True) for older in running.writes) if running else ()
        after = replace(
            self, running=Running(write, on, (write,)), doubted=self.doubted or running is not None
        )
        return after, (*answers, Send(write, Action.START if on else Action.STOP))

    def _waited(self, write: int) -> tuple["Switch", tuple[Decision, ...]]:
        running = self.running
        if running is None or write not in running.writes:
            return self, ()
        others = tuple(other for other in running.writes if other != write)
        after = replace(self, running=replace(running, writes=others))
        after, shows = after._show(on=running.on, writer=write)
        return after, (Answer(write, ok=True), *shows)

    def _finished(self, request: int, failure: str | None) -> tuple["Switch", tuple[Decision, ...]]:
        running = self.running
        if running is None or running.id != request:
            return self, ()  # a newer request decides
        after = replace(self, running=None)
        answers: list[Decision] = [Answer(write, ok=failure is None) for write in running.writes]
        if failure is not None:
            answers.insert(0, Failed(Action.START if running.on else Action.STOP, failure))
        elif running.writes:
            after, shows = after._show(on=running.on, writer=running.writes[0])
            answers += shows
        after, shows = after._settled()
        return after, (*answers, *shows)

    def _settled(self) -> tuple["Switch", tuple[Decision, ...]]:
        """Show the units' truth, unless a request runs or there is no truth."""
        if self.running is not None or self.state is None or not self.available:
            return self, ()
        return self._show(on=self.state.on)

    def _show(self, *, on: bool, writer: int | None = None) -> tuple["Switch", tuple[Decision, ...]]:
        if on is self.shown and not self.doubted:
            return self, ()
        return replace(self, shown=on, doubted=False), (Show(on, writer),)


def failure_of(results: tuple[UnitResult, ...]) -> str | None:
    """The failed ones of a request's job results as one line, or None if all succeeded."""
    failed = [str(result) for result in results if not result.job.success]
    return ", ".join(failed) or None
