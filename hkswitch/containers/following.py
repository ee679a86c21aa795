"""Keeps the states of one engine's members up to date, from its events. Runs as root.

An event only says that a member has to be looked at again: engines send different ones, in different orders.
"""

import asyncio
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping
from typing import Final

from hkswitch.containers.answers import Change, EngineUnavailable, parse_event
from hkswitch.containers.connection import OK, why_off
from hkswitch.containers.engines import LOOK_SECONDS, Engines
from hkswitch.containers.members import Member, unavailable
from hkswitch.model.group import Engine
from hkswitch.model.unit_state import ActiveState, UnitState

EVENTS: Final = "/events?filters=%7B%22type%22%3A%5B%22container%22%5D%7D"

TOGETHER_SECONDS: Final = 0.02
"""Events come in bursts, which one look serves."""

AGAIN_SECONDS: Final = 1
"""Before the next attempt after a failure, and before a container that was restarted may count as up."""

Told = Callable[[Mapping[str, UnitState]], None]
Spawn = Callable[[Coroutine[None, None, None]], "asyncio.Task[None]"]


class Following:
    """The members of one engine that are watched, and their states."""

    def __init__(self, engine: Engine, engines: Engines, told: Told, spawn: Spawn) -> None:
        """`told` receives states that changed, and `spawn` runs a coroutine beside the others."""
        self.engine = engine
        self._engines = engines
        self._told = told
        self._spawn = spawn
        self._members: dict[str, Member] = {}
        self._states: dict[str, UnitState] = {}
        self._restarts: dict[str, dict[str, int]] = {}
        """How often each container of a member had been restarted at the last look."""
        self._due: set[str] = set()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        """The looks by their members, and the stream of events by no name."""
        self._unit: UnitState | None = None

    @property
    def is_settled(self) -> bool:
        """Whether the state of each member has been told, or why it is not known."""
        return self._members.keys() <= self._states.keys()

    def watch(self, names: Collection[str]) -> tuple[str, ...]:
        """Watch this engine's members among these, and no others; return the unit to watch for that."""
        members = {each.full_name: each for each in map(Member.of, names) if each.engine is self.engine}
        if members.keys() != self._members.keys():
            self._members = members
            self._states = {name: state for name, state in self._states.items() if name in members}
            self._begin()
        return (self.engine.unit,) if members else ()

    def units_seen(self, units: Mapping[str, UnitState]) -> None:
        """Follow the engine while its unit is active."""
        if units.get(self.engine.unit, self._unit) != self._unit:
            self._unit = units[self.engine.unit]
            self._begin()

    def lost(self) -> None:
        """Forget all states until the engine's unit has been seen again."""
        self._unit = None
        self._begin()

    def _begin(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        self._tasks.clear()
        if self._unit is None:
            self._states.clear()
        elif why := why_off(self.engine, self._unit):
            self._lose(self._members, why)
        elif self._members:
            self._tasks[""] = self._spawn(self._follow())

    async def _follow(self) -> None:
        settling = asyncio.get_running_loop().call_later(AGAIN_SECONDS, self._settle)
        try:
            while True:
                try:
                    await self._follow_events()
                except EngineUnavailable as why:
                    self._lose(self._members, why)
                await asyncio.sleep(AGAIN_SECONDS)
        finally:
            settling.cancel()

    async def _follow_events(self) -> None:
        """Look at all members, and again after each event, until the stream of events ends."""
        connection = self._engines.connections[self.engine]
        async with connection.within(LOOK_SECONDS) as limit, connection.asking("GET", EVENTS) as answer:
            limit.reschedule(None)
            status, lines = answer
            if status != OK:
                raise EngineUnavailable(f"{self.engine} sends no events")
            self._look_at(self._members)
            while True:
                if change := parse_event(await lines.readuntil(b"\n")):
                    self._look_at(self._concerned_by(change))

    def _concerned_by(self, change: Change) -> Iterable[str]:
        for name, member in self._members.items():
            if member.is_concerned_by(change) or change.id in self._restarts.get(name, ()):
                yield name  # by its ID: the container had another name before

    def _look_at(self, names: Iterable[str]) -> None:
        for name in names:
            self._due.add(name)
            if name not in self._tasks:
                self._tasks[name] = self._spawn(self._look_while_due(name, self._members[name]))

    async def _look_while_due(self, name: str, member: Member) -> None:
        while name in self._due:
            await asyncio.sleep(TOGETHER_SECONDS)
            self._due.discard(name)
            before = self._restarts.get(name, {})
            try:
                containers = await self._engines.look(member)
            except EngineUnavailable as why:
                state, is_lasting = unavailable(why), False
            else:
                self._restarts[name] = {each.id: each.restarts for each in containers}
                # Podman restarts a container so fast that no state shows it.
                is_lasting = all(each.restarts <= before.get(each.id, each.restarts) for each in containers)
                state = member.state(containers)
                if not is_lasting:
                    state = state._replace(active=ActiveState.FAILING, sub="restarting")
            self._tell({name: state})
            if not is_lasting:
                self._due.add(name)
                await asyncio.sleep(AGAIN_SECONDS)
        del self._tasks[name]

    def _settle(self) -> None:
        """Give up on late answers: the first report of all states waits for them."""
        self._lose(self._members.keys() - self._states.keys(), f"{self.engine} has not answered yet")

    def _lose(self, names: Iterable[str], why: object) -> None:
        self._tell(dict.fromkeys(names, unavailable(why)))

    def _tell(self, states: Mapping[str, UnitState]) -> None:
        news = {name: state for name, state in states.items() if self._states.get(name) != state}
        self._states |= news
        if news:
            self._told(news)
