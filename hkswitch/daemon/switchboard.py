"""Runs the switches: brings events to model/switch.py, carries decisions out. Knows no HomeKit and no bus."""

import asyncio
import logging
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from typing import Final, Protocol

from hkswitch.backend import Host
from hkswitch.daemon.history import History
from hkswitch.model import switch_events
from hkswitch.model.errors import Exit, Failure
from hkswitch.model.group import Group
from hkswitch.model.switch import Switch
from hkswitch.model.switch_events import ANSWER_WITHIN_SECONDS, STEADY_AFTER_SECONDS, Decision, Event, Tile
from hkswitch.model.unit_state import Action, GroupState, UnitState, Verdict
from hkswitch.protocol.report import GroupReport

PASSING: Final = (GroupState.STARTING, GroupState.STOPPING)
"""States that systemd has a line for itself, and that another one follows."""

_log = logging.getLogger(__name__)


@dataclass(eq=False)
class UnknownGroup(Failure):
    """There is no such group."""

    group_id: str
    exit_code = Exit.USAGE

    def __str__(self) -> str:
        return f"there is no group {self.group_id!r}: `hkswitch status` lists them"


@dataclass(eq=False)
class Replaced(Failure):
    """A newer request for the group came before the end of this one."""

    group_id: str

    def __str__(self) -> str:
        return f"a newer request for {self.group_id} replaced this one"


class Display(Protocol):
    """Where switches are shown."""

    def show(self, group_id: str, tile: Tile, writer: Hashable | None, *, on: bool) -> None:
        """Store On of a tile and tell everybody but `writer`."""

    def set_available(self, group_id: str, *, available: bool) -> None:
        """Whether there is a value to read."""


class Switchboard:
    """All switches, between a host and a display."""

    def __init__(self, groups: Iterable[Group], host: Host, display: Display) -> None:
        """Nothing runs until the host or the display tells something."""
        self._switches: dict[str, Switch] = {}
        self._groups_of: dict[str, list[str]] = {}
        self._host = host
        self._display = display
        self._numbers = count(1)
        self._answers: dict[int, asyncio.Future[bool]] = {}
        self._writers: dict[int, Hashable] = {}
        self._requests: set[asyncio.Task[None]] = set()
        self._ends: dict[int, asyncio.Future[str | None]] = {}
        self._begun: dict[int, list[Callable[[], None]]] = {}
        self._history = History()
        self._by: dict[int, str] = {}
        self._watchers: set[asyncio.Event] = set()
        self.regroup(groups)

    def regroup(self, groups: Iterable[Group]) -> None:
        """Have switches for these groups; those that stay keep what they know."""
        before, self._switches, self._groups_of = self._switches, {}, {}
        for group in groups:
            self._switches[group.id] = before.get(group.id, Switch(group))
            self._step(group.id, switch_events.Regrouped(group))
            for unit in group.units:
                self._groups_of.setdefault(unit, []).append(group.id)
        self._history.keep(self._switches.keys())

    def seen(self, units: Mapping[str, UnitState]) -> None:
        """Take over states from the host."""
        concerned = dict.fromkeys(group_id for unit in units for group_id in self._groups_of.get(unit, ()))
        for group_id in concerned:
            own = self._switches[group_id].group.units
            self._step(group_id, switch_events.Seen({unit: units[unit] for unit in own if unit in units}))

    def probed(self, group_id: str, verdict: Verdict | None) -> None:
        """Take over what the probe of a group said; None while it is asked."""
        self._step(group_id, switch_events.Probed(verdict))

    def lost(self) -> None:
        """Take over that the host knows no states any more."""
        for group_id in list(self._switches):
            self._step(group_id, switch_events.Lost())

    def report(self) -> tuple[GroupReport, ...]:
        """How all groups are."""
        return tuple(self._history.report(switch) for switch in self._switches.values())

    @contextmanager
    def changes(self) -> Iterator[asyncio.Event]:
        """An event that is set whenever a report would be another one."""
        changed = asyncio.Event()
        self._watchers.add(changed)
        try:
            yield changed
        finally:
            self._watchers.discard(changed)

    async def act(self, action: Action, group_id: str, by: str, begun: Callable[[], None]) -> str | None:
        """Somebody at a terminal wants this; returns what failed once it has ended, None for success.

        `begun` is called when it was handed over to those who do it. Raises `UnknownGroup` or `Replaced`.
        """
        if group_id not in self._switches:
            raise UnknownGroup(group_id)
        tile = Tile.RESTART if action is Action.RESTART else Tile.GROUP
        with self._writing(group_id, by) as number:
            self._step(group_id, switch_events.Written(number, action is not Action.STOP, tile))
            request = self._history.newest(group_id)  # this one, or one that runs and does the same
            running = self._switches[group_id].running
            if running is not None and running.accepted:
                begun()
            else:
                self._begun.setdefault(request, []).append(begun)
            failure = await asyncio.shield(self._ends[request])
            if request != self._history.newest(group_id):
                raise Replaced(group_id)
            return failure

    async def write(self, group_id: str, tile: Tile, writer: Hashable, *, on: bool, by: str = "") -> bool:
        """A controller wrote On; returns whether that was a success, within `ANSWER_WITHIN_SECONDS`."""
        answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        with self._writing(group_id, by) as number:
            self._answers[number] = answer
            self._writers[number] = writer
            try:
                self._step(group_id, switch_events.Written(number, on, tile))
                return await answer
            finally:
                del self._answers[number], self._writers[number]

    @contextmanager
    def _writing(self, group_id: str, by: str) -> Iterator[int]:
        """The number of a write by somebody, and meanwhile the end of its time."""
        number = next(self._numbers)
        self._by[number] = by
        waited = switch_events.Waited(number)
        waiting = asyncio.get_running_loop().call_later(ANSWER_WITHIN_SECONDS, self._step, group_id, waited)
        try:
            yield number
        finally:
            waiting.cancel()
            del self._by[number]

    async def close(self) -> None:
        """Forget the requests that run, which the host ends; their writes are answered with an error."""
        for write in list(self._answers):
            self._answer(write, ok=False)
        for task in self._requests:
            task.cancel()
        for end in self._ends.values():
            end.cancel()
        await asyncio.gather(*self._requests, return_exceptions=True)

    def _step(self, group_id: str, event: Event) -> None:
        switch = self._switches.get(group_id)
        if switch is None:
            return  # its group was removed meanwhile
        self._switches[group_id], decisions = switch.step(event)
        for watcher in self._watchers:
            watcher.set()
        for decision in decisions:
            self._carry_out(group_id, decision)

    def _carry_out(self, group_id: str, decision: Decision) -> None:
        match decision:
            case switch_events.Send(request, action):
                self._history.asked(group_id, request, action, self._by.get(request, ""))
                self._ends[request] = asyncio.get_running_loop().create_future()
                task = asyncio.create_task(self._request(group_id, request, action))
                self._requests.add(task)
                task.add_done_callback(self._requests.discard)
            case switch_events.Answer(write, ok):
                self._answer(write, ok=ok)
            case switch_events.Show(on, writer, tile):
                wrote = None if writer is None else self._writers.get(writer)
                self._display.show(group_id, tile, wrote, on=on)
            case switch_events.Available(available):
                self._display.set_available(group_id, available=available)
            case switch_events.AwaitSteady(number):
                steady = switch_events.Steady(number)
                asyncio.get_running_loop().call_later(STEADY_AFTER_SECONDS, self._step, group_id, steady)
            case switch_events.Changed(state):
                self._history.changed(group_id)
                level = logging.DEBUG if state in PASSING else logging.INFO
                _log.log(level, "%s: %s", group_id, "not known" if state is None else state)
            case switch_events.Failed(action, failure):
                _log.error("%s: %s failed: %s", group_id, action, failure)

    def _answer(self, write: int, *, ok: bool) -> None:
        answer = self._answers.get(write)
        if answer is not None and not answer.done():  # the controller may have gone meanwhile
            answer.set_result(ok)

    async def _request(self, group_id: str, request: int, action: Action) -> None:
        def accepted() -> None:
            self._step(group_id, switch_events.Accepted(request))
            for begun in self._begun.pop(request, ()):
                begun()

        try:
            failure = await self._host.request(action, group_id, accepted)
        except Exception as error:  # noqa: BLE001 -- a defect of ours must not leave the switch waiting for ever
            _log.exception("%s: %s", group_id, action)
            failure = f"internal error: {error!r}"
        self._begun.pop(request, None)
        self._history.ended(group_id, request, failure)
        self._ends.pop(request).set_result(failure)
        self._step(group_id, switch_events.Finished(request, failure))
