"""Runs the switches: brings events to model/switch.py, carries decisions out. Knows no HomeKit, no helper."""

import asyncio
import logging
import time
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from typing import Final, Protocol

from hkswitch.backend import Host
from hkswitch.daemon.requests import Request, Write
from hkswitch.model import switch_events
from hkswitch.model.errors import Exit, Failure
from hkswitch.model.group import Group
from hkswitch.model.switch import Switch
from hkswitch.model.switch_events import (
    KNOWN_WITHIN_SECONDS,
    STABLE_AFTER_SECONDS,
    WRITE_TIMEOUT_SECONDS,
    Decision,
    Event,
    Observed,
    Tile,
)
from hkswitch.model.unit_state import Action, ActionResult, GroupState
from hkswitch.protocol.report import GroupReport

PASSING: Final = (GroupState.STARTING, GroupState.STOPPING)
"""States that systemd has a line for itself, and that another one follows."""

REMOVED: Final = "the group was removed from the configuration"

_log = logging.getLogger(__name__)


@dataclass(eq=False)
class UnknownGroup(Failure):
    """There is no such group."""

    group_id: str
    known: tuple[str, ...]
    exit_code = Exit.USAGE

    def __str__(self) -> str:
        return f"there is no group {self.group_id!r}; there are {', '.join(self.known)}"


@dataclass(eq=False)
class Replaced(Failure):
    """A newer request for the group came before the end of this one."""

    group_id: str

    def __str__(self) -> str:
        return f"a newer request for {self.group_id} replaced this one"


class Stopping(Failure):
    """The daemon is about to end."""

    def __str__(self) -> str:
        return "hkswitch is stopping"


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
        self._host = host
        self._display = display
        self._numbers = count(1)
        self._switches: dict[str, Switch] = {}
        self._since_unix_seconds: dict[str, int] = {}
        self._writes: dict[int, Write] = {}
        self._newest: dict[str, Request] = {}
        """The newest request of each group, whether it runs or has ended."""
        self._awaited: dict[tuple[str, type[Event]], asyncio.TimerHandle] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._watchers: set[asyncio.Event] = set()
        self._is_closed = False
        self.regroup(groups)

    def regroup(self, groups: Iterable[Group]) -> None:
        """Have switches for these groups; those that stay keep what they know, others end what they have."""
        before, self._switches = self._switches, {}
        for group in groups:
            self._switches[group.id] = before.get(group.id, Switch(group))
            self._step(group.id, switch_events.GroupChanged(group))
        for group_id in before.keys() - self._switches.keys():
            self._remove(group_id)
        self.noticed()

    def observed(self, group_id: str, observed: Observed) -> None:
        """Take over all that the host knows of a group."""
        self._step(group_id, observed)

    def noticed(self) -> None:
        """A report would be another one."""
        for watcher in self._watchers:
            watcher.set()

    def report(self) -> tuple[GroupReport, ...]:
        """How all groups are."""
        return tuple(map(self._report, self._switches.values()))

    @contextmanager
    def changes(self) -> Iterator[asyncio.Event]:
        """An event that is set whenever a report would be another one."""
        changed = asyncio.Event()
        self._watchers.add(changed)
        try:
            yield changed
        finally:
            self._watchers.discard(changed)

    async def act(self, action: Action, group_id: str, by: str, begun: Callable[[], None]) -> ActionResult:
        """A person at a terminal wants this; returns what came of it once it has ended.

        `begun` is called when it was handed over to those who do it. Raises `UnknownGroup` or `Replaced`.
        """
        if self._is_closed:
            raise Stopping
        if group_id not in self._switches:
            raise UnknownGroup(group_id, tuple(self._switches))
        tile = Tile.RESTART if action is Action.RESTART else Tile.GROUP
        with self._writing(Write(group_id, by, at_length=True)) as number:
            self._step(group_id, switch_events.Written(number, action is not Action.STOP, tile))
            request = self._newest[group_id]  # this one, or one that runs and does the same
            request.when_begun(begun)
            result = await asyncio.shield(request.ended)
            if request.is_replaced:
                raise Replaced(group_id)
            return result

    async def write(self, group_id: str, tile: Tile, writer: Hashable, *, on: bool, by: str = "") -> bool:
        """A controller wrote On; returns whether that was a success, within `WRITE_TIMEOUT_SECONDS`."""
        if self._is_closed or group_id not in self._switches:
            return False
        write = Write(group_id, by, writer)
        with self._writing(write) as number:
            self._step(group_id, switch_events.Written(number, on, tile))
            return await write.answer

    @contextmanager
    def _writing(self, write: Write) -> Iterator[int]:
        """The number of a write, and meanwhile the end of its time."""
        number = next(self._numbers)
        self._writes[number] = write
        waiting = self._later(WRITE_TIMEOUT_SECONDS, write.group_id, switch_events.WriteTimedOut(number))
        try:
            yield number
        finally:
            waiting.cancel()
            del self._writes[number]

    async def close(self) -> None:
        """Forget the requests that run, which the host ends; their writes are answered with an error."""
        self._is_closed = True
        for write in self._writes.values():
            write.settle(ok=False)
        for timer in self._awaited.values():
            timer.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _remove(self, group_id: str) -> None:
        """End what is under way for a group that is gone; a request that was begun goes on for nobody."""
        for write in self._writes.values():
            if write.group_id == group_id:
                write.settle(ok=False)
        self._since_unix_seconds.pop(group_id, None)
        if (request := self._newest.pop(group_id, None)) is not None:
            request.end(ActionResult(REMOVED))
            if not request.is_begun and request.task is not None:
                request.task.cancel()  # what is said not to be done must not be done when the group is back

    def _step(self, group_id: str, event: Event) -> None:
        switch = self._switches.get(group_id)
        if switch is None:
            return  # its group was removed meanwhile
        self._switches[group_id], decisions = switch.step(event)
        self.noticed()
        for decision in decisions:
            self._carry_out(group_id, decision)

    def _await(self, seconds: float, group_id: str, event: Event) -> None:
        """Bring the switch this event; a newer one of the same kind makes it one that counts no more."""
        kind = group_id, type(event)
        if (older := self._awaited.pop(kind, None)) is not None:
            older.cancel()
        self._awaited[kind] = self._later(seconds, group_id, event)

    def _later(self, seconds: float, group_id: str, event: Event) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(seconds, self._step, group_id, event)

    def _carry_out(self, group_id: str, decision: Decision) -> None:
        match decision:
            case switch_events.Send(number, action):
                self._send(group_id, number, action)
            case switch_events.Answer(number, ok):
                if (write := self._writes.get(number)) is not None:
                    write.settle(ok=ok)
            case switch_events.Show(on, number, tile):
                wrote = None if number is None else self._writes.get(number)
                self._display.show(group_id, tile, None if wrote is None else wrote.writer, on=on)
            case switch_events.Available(available):
                self._display.set_available(group_id, available=available)
            case switch_events.AwaitKnown(number):
                self._await(KNOWN_WITHIN_SECONDS, group_id, switch_events.StayedUnknown(number))
            case switch_events.AwaitStable(number):
                self._await(STABLE_AFTER_SECONDS, group_id, switch_events.StayedUp(number))
            case switch_events.Changed(state):
                self._changed(group_id, state)
            case switch_events.RequestFailed(action, failure):
                _log.error("%s: %s failed: %s", group_id, action, failure)

    def _changed(self, group_id: str, state: GroupState | None) -> None:
        self._since_unix_seconds[group_id] = int(time.time())
        level = logging.DEBUG if state in PASSING else logging.INFO
        why = self._switches[group_id].why
        _log.log(level, "%s: %s", group_id, state or (f"unknown: {why}" if why else "unknown"))

    def _send(self, group_id: str, number: int, action: Action) -> None:
        write = self._writes.get(number)
        by, at_length = ("", False) if write is None else (write.by, write.at_length)
        if (older := self._newest.get(group_id)) is not None:
            older.is_replaced = not older.ended.done()
        request = self._newest[group_id] = Request(number, group_id, action, by, at_length)
        task = request.task = asyncio.create_task(self._run(request))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: request.ended.cancel())  # of use where `close` was the end

    async def _run(self, request: Request) -> None:
        """Have the host do a request, and bring the switch what came of it."""
        group_id, action = request.group_id, request.action

        def accepted() -> None:
            self._step(group_id, switch_events.RequestAccepted(request.id))
            request.begin()

        try:
            result = await self._host.request(action, group_id, accepted, at_length=request.at_length)
        except Exception as error:  # noqa: BLE001 -- a defect of ours must not leave the switch waiting for ever
            _log.exception("%s: %s", group_id, action)
            result = ActionResult(f"internal error: {error!r}")
        request.end(result)
        self._step(group_id, switch_events.RequestFinished(request.id, result.failure))

    def _report(self, switch: Switch) -> GroupReport:
        group, known = switch.group, switch.units or {}
        request = self._newest.get(group.id)
        return GroupReport(
            id=group.id,
            name=group.name,
            state=switch.state,
            since_unix_seconds=self._since_unix_seconds.get(group.id, 0),
            units={unit: known[unit] for unit in group.units if unit in known},
            last_action=None if request is None else request.last_action,
            commands=group.commands is not None,
            why=switch.why if switch.state is None else "",
        )
