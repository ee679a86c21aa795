"""Runs the switches: passes events to model/switch.py, and carries out its decisions. Knows no HomeKit."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Final, NamedTuple, Protocol

from hkswitch.backend import NOT_IN_ACTIONS, Host
from hkswitch.daemon import debug_log
from hkswitch.daemon.event_timers import EventTimers
from hkswitch.daemon.requests import ActionRequest, Write
from hkswitch.daemon.state_lines import StateLines
from hkswitch.model import switch_events
from hkswitch.model.errors import Failure
from hkswitch.model.group import Group
from hkswitch.model.printable import printable
from hkswitch.model.switch import Switch
from hkswitch.model.switch_events import (
    KNOWN_WITHIN_SECONDS,
    STABLE_AFTER_SECONDS,
    WRITE_TIMEOUT_SECONDS,
    Decision,
    Event,
    Observed,
    RequestOrigin,
    Tile,
)
from hkswitch.model.told_group import still_told
from hkswitch.model.trouble import Trouble
from hkswitch.model.unit_state import Action, ActionResult, GroupState
from hkswitch.protocol.report import GroupReport, unknown_group

BY_RULE: Final = "rule"
"""The caller of a rule's restart, in reports and in the log."""

NOTHING_RESTARTED: Final = "nothing was running, so nothing was restarted"
GROUP_REMOVED: Final = "the group was removed from the configuration"

CONTROLLER_CHARACTERS: Final = 8
"""Characters of a controller's ID in the log: enough to tell the controllers of a home apart."""

_log = logging.getLogger(__name__)
_states_log = logging.getLogger(f"{__name__}.states")


WentWrong = Callable[[str, Action, str], None]
"""Called with a group, an action and the reason, when the host tried the action and it failed."""


class GroupNote(NamedTuple):
    """What a report says about a group besides its switch: its trouble, and how far its rule is."""

    trouble: Trouble | None = None
    rule: str = ""


NoteOf = Callable[[str], GroupNote]
"""Returns the note about a group, by its id."""


class Display(Protocol):
    """The display of the switches."""

    def show(self, group_id: str, tile: Tile, writer: Hashable | None, *, on: bool) -> None:
        """Store On of a tile and tell every connection except `writer`."""

    def set_available(self, group_id: str, *, available: bool) -> None:
        """Set whether there is a value to read."""


class Switchboard:
    """All switches, between a host and a display."""

    def __init__(
        self, groups: Iterable[Group], host: Host, display: Display, went_wrong: WentWrong = lambda *_: None
    ) -> None:
        """Do nothing until the first event from the host or the display."""
        self._host = host
        self._display = display
        self._went_wrong = went_wrong
        self._numbers = count(1)
        self._switches: dict[str, Switch] = {}
        self._since_unix_seconds: dict[str, int] = {}
        self._writes: dict[int, Write] = {}
        self._newest: dict[str, ActionRequest] = {}
        """The newest request of each group, running or ended."""
        self._awaited = EventTimers[Event](self._step)
        self._tasks: set[asyncio.Task[None]] = set()
        self._watchers: set[asyncio.Event] = set()
        self._state_lines = StateLines(_states_log)
        self._is_closed = False
        self.regroup(groups)

    def regroup(self, groups: Iterable[Group]) -> None:
        """Replace the groups: switches of remaining groups keep their state, and the others end."""
        before, self._switches = self._switches, {}
        for group in groups:
            switch = self._switches[group.id] = before.get(group.id, Switch(group))
            self._step(group.id, switch_events.GroupChanged(still_told(group, switch.group)))
        for group_id in before.keys() - self._switches.keys():
            self._remove(group_id)
        self.noticed()

    @property
    def groups(self) -> tuple[Group, ...]:
        """The groups; those of other hosts as far as they have told."""
        return tuple(switch.group for switch in self._switches.values())

    def observed(self, group_id: str, observed: Observed) -> None:
        """Handle the state of a group that the host reports."""
        if _log.isEnabledFor(logging.DEBUG):
            _log.debug("%s: reported: %s", group_id, debug_log.described(observed))
        self._step(group_id, observed)

    def noticed(self) -> None:
        """Tell the watchers that the report has changed."""
        for watcher in self._watchers:
            watcher.set()

    def is_on(self, group_id: str) -> bool:
        """Return whether a group is on, and no request for it is pending."""
        switch = self._switches.get(group_id)
        return switch is not None and switch.pending is None and switch.state is GroupState.ON

    def restart_by_rule(self, group_id: str) -> Awaitable[ActionResult]:
        """Restart what runs of a group because its rule wants it; as `act`."""
        return self.act(Action.RESTART, group_id, BY_RULE, origin=RequestOrigin.RULE)

    def report(self, note_of: NoteOf = lambda _: GroupNote()) -> tuple[GroupReport, ...]:
        """Return the state of all groups, with notes about them."""
        return tuple(self._report(switch, note_of(group_id)) for group_id, switch in self._switches.items())

    @contextmanager
    def changes(self) -> Iterator[asyncio.Event]:
        """Provide an event that is set whenever the report changes."""
        changed = asyncio.Event()
        self._watchers.add(changed)
        try:
            yield changed
        finally:
            self._watchers.discard(changed)

    async def act(
        self,
        action: Action,
        group_id: str,
        by: str,
        begun: Callable[[], None] = lambda: None,
        origin: RequestOrigin = RequestOrigin.USER,
    ) -> ActionResult:
        """Run an action for a user at a terminal, or for a rule; return its result. Raises `Failure`.

        `begun` is called when the host has accepted the action.
        """
        if self._is_closed:
            raise Failure("hkswitch is stopping")
        if group_id not in self._switches:
            raise unknown_group(group_id, self._switches)
        group = self._switches[group_id].group
        if group.momentary and action not in group.actions:  # a controller's write would be a success
            return ActionResult(f"{action} {NOT_IN_ACTIONS}")
        tile = Tile.RESTART if action is Action.RESTART else Tile.GROUP
        number = self._register(Write(group_id, by, origin=origin))
        try:
            _log.debug("%s: write %d: %s by %s", group_id, number, action, by)
            self._step(group_id, switch_events.Written(number, action is not Action.STOP, tile))
            request = self._newest[group_id]  # this one, or a running one for the same action
            request.when_begun(begun)
            result = await asyncio.shield(request.ended)
            if request.is_replaced:
                raise Failure(f"a newer request for {group_id} replaced this one")
            return result
        finally:
            self._settle(number, ok=False)  # no controller waits for it

    def write(self, write: Write, tile: Tile, *, on: bool) -> None:
        """Act on a controller's write of On, and answer it within `WRITE_TIMEOUT_SECONDS`."""
        group_id, by = write.group_id, write.by
        if self._is_closed or group_id not in self._switches:
            write.settle(ok=False)
            return
        number = self._register(write)
        _log.debug("%s: write %d: %s %s by %.4s…", group_id, number, tile.value, "on" if on else "off", by)
        self._step(group_id, switch_events.Written(number, on, tile))

    def _register(self, write: Write) -> int:
        """Register a write with its time limit, and return its number."""
        number = next(self._numbers)
        self._writes[number] = write
        timed_out = switch_events.WriteTimedOut(number)
        loop = asyncio.get_running_loop()
        write.timer = loop.call_later(WRITE_TIMEOUT_SECONDS, self._step, write.group_id, timed_out)
        return number

    def _settle(self, number: int, *, ok: bool) -> None:
        """Answer a write that is not answered yet; `Show` may still need its writer in this turn."""
        if (write := self._writes.get(number)) is not None:
            write.settle(ok=ok)
            asyncio.get_running_loop().call_soon(self._writes.pop, number, None)

    async def close(self) -> None:
        """Drop the running requests, which the host will end; their writes fail."""
        self._is_closed = True
        for number in self._writes:
            self._settle(number, ok=False)
        self._awaited.stop()
        self._state_lines.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _remove(self, group_id: str) -> None:
        """End the requests of a group that was removed; one that has begun continues without a result."""
        for number, write in self._writes.items():
            if write.group_id == group_id:
                self._settle(number, ok=False)
        self._since_unix_seconds.pop(group_id, None)
        self._state_lines.forget(group_id)
        if (request := self._newest.pop(group_id, None)) is not None:
            request.end(ActionResult(GROUP_REMOVED))
            if not request.is_begun and request.task is not None:
                request.task.cancel()  # a failed request must not be carried out when the group comes back

    def _step(self, group_id: str, event: Event) -> None:
        switch = self._switches.get(group_id)
        if switch is None:
            return  # its group was removed in the meantime
        self._switches[group_id], decisions = switch.step(event)
        self.noticed()
        for decision in decisions:
            self._debug(group_id, decision)
            self._carry_out(group_id, decision)

    def _carry_out(self, group_id: str, decision: Decision) -> None:
        match decision:
            case switch_events.Send(number, action):
                self._send(group_id, number, action)
            case switch_events.Answer(number, ok):
                self._settle(number, ok=ok)
            case switch_events.Show(on, number, tile):
                wrote = None if number is None else self._writes.get(number)
                self._display.show(group_id, tile, None if wrote is None else wrote.writer, on=on)
            case switch_events.Available(available):
                self._display.set_available(group_id, available=available)
            case switch_events.AwaitKnown(number):
                self._awaited.start(KNOWN_WITHIN_SECONDS, group_id, switch_events.StayedUnknown(number))
            case switch_events.AwaitStable(number):
                self._awaited.start(STABLE_AFTER_SECONDS, group_id, switch_events.StayedUp(number))
            case switch_events.Changed(state):
                self._changed(group_id, state)
            case switch_events.RequestFailed(action, failure):
                _log.error("%s: %s failed: %s", group_id, action, failure)

    def _debug(self, group_id: str, decision: Decision) -> None:
        if _log.isEnabledFor(logging.DEBUG) and (text := debug_log.decided(decision)):
            _log.debug("%s: %s", group_id, text)

    def _changed(self, group_id: str, state: GroupState | None) -> None:
        self._since_unix_seconds[group_id] = int(time.time())
        # Another state follows these, and systemd logs them itself.
        is_passing = state in {GroupState.STARTING, GroupState.STOPPING}
        level = logging.DEBUG if is_passing else logging.INFO
        why = self._switches[group_id].explanation
        text = state or "unknown"
        self._state_lines.write(level, group_id, f"{text}: {why}" if why else text)

    def _send(self, group_id: str, number: int, action: Action) -> None:
        write = self._writes.get(number)
        by, origin = ("", RequestOrigin.CONTROLLER) if write is None else (write.by, write.origin)
        _log.info("%s: %s requested%s", group_id, action, f" by {_shortened(by)}" if by else "")
        if (older := self._newest.get(group_id)) is not None:
            runs_too = older.action is action and self._switches[group_id].group.runs_each_time
            older.is_replaced = not older.ended.done() and not runs_too
        request = self._newest[group_id] = ActionRequest(number, group_id, action, by, origin)
        task = request.task = asyncio.create_task(self._run(request))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: request.ended.cancel())  # for a request that `close` ended

    async def _run(self, request: ActionRequest) -> None:
        """Have the host carry out a request, and pass the result to the switch."""
        group_id, action = request.group_id, request.action

        was_idle = self._is_idle(group_id)

        def accepted() -> None:
            self._step(group_id, switch_events.RequestAccepted(request.id))
            request.begin()

        try:
            result = await self._host.request(action, group_id, accepted, request.origin)
        except Exception as error:  # noqa: BLE001 -- a bug must not leave the switch waiting forever
            _log.exception("%s: %s", group_id, action)
            result = ActionResult(f"internal error: {error!r}")
        _log.debug("%s: request %d: %s", group_id, request.id, result.failure or "done")
        if action is Action.RESTART and result.failure is None and was_idle and self._is_idle(group_id):
            result = result._replace(note=NOTHING_RESTARTED)
        is_wanted = not request.is_replaced and not request.ended.done()  # it is if the group was removed
        request.end(result)
        self._step(group_id, switch_events.RequestFinished(request.id, result.failure))
        if result.failure is not None and result.went_wrong and is_wanted:
            self._went_wrong(group_id, action, result.failure)

    def _is_idle(self, group_id: str) -> bool:
        switch = self._switches.get(group_id)
        return switch is not None and switch.is_idle

    def _report(self, switch: Switch, note: GroupNote) -> GroupReport:
        group, known = switch.group, switch.units or {}
        request = self._newest.get(group.id)
        return GroupReport(
            id=group.id,
            name=group.name,
            state=switch.state,
            since_unix_seconds=self._since_unix_seconds.get(group.id, 0),
            units={unit: known[unit] for unit in group.members if unit in known},
            last_action=None if request is None else request.last_action,
            commands=group.commands is not None,
            why=switch.explanation,
            assumed=group.assume_state,
            momentary=group.momentary,
            trouble="" if note.trouble is None else note.trouble.reason,
            trouble_since_unix_seconds=0 if note.trouble is None else note.trouble.since_unix_seconds,
            rule=note.rule,
            host="" if group.elsewhere is None else group.elsewhere.host.name,
            group="" if group.elsewhere is None else group.elsewhere.group,
        )


def _shortened(by: str) -> str:
    """Return a user as it is, and the beginning of a controller's ID, as the status shows them."""
    if by == "user 0":
        return "root"
    return by if by.startswith("user ") else printable(by, CONTROLLER_CHARACTERS)
