"""Keeps the states of one engine's members up to date, from its events. Runs as root.

An event only says that a member has to be looked at again: engines send different ones, in different orders.
"""

import asyncio
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping
from typing import Final

from hkswitch.containers.answers import Change, EngineUnavailable, parse_event
from hkswitch.containers.connection import LOOK_SECONDS, OK, why_off
from hkswitch.containers.engines import Engines
from hkswitch.containers.members import RESTARTING, Member, unavailable
from hkswitch.model.group import Engine
from hkswitch.model.unit_state import LoadState, UnitState

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
        self._told_of: dict[str, float] = {}
        """When the look at each member began that was told last."""
        self._due: set[str] = set()
        self._looking: set[str] = set()
        self._why_off: str | None = None
        """Why the engine is off, empty if it is on, None if that is not known."""
        self._task: asyncio.Task[None] | None = None

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
        if (state := units.get(self.engine.unit)) is not None:
            self._follow_unless(why_off(self.engine, state))

    def lost(self) -> None:
        """Forget all states until the engine's unit has been seen again."""
        self._states.clear()
        self._restarts.clear()  # of what restarted meanwhile, nothing says whether it still does
        self._follow_unless(None)

    async def catch_up(self, names: Iterable[str]) -> None:
        """Tell the states of members after an action on them, of which the engine may tell later."""
        task, members = self._task, [self._members[name] for name in names if name in self._members]
        if task is None:
            return
        began_seconds = asyncio.get_running_loop().time()
        looks = await asyncio.gather(*map(self._engines.look, members))
        for member, (state, _) in zip(members, looks, strict=True):
            if task is self._task and state.load is not LoadState.UNAVAILABLE:
                self._tell_look(member.full_name, state, began_seconds)

    def _follow_unless(self, why_off: str | None) -> None:
        if why_off != self._why_off:
            self._why_off = why_off
            self._begin()

    def _begin(self) -> None:
        if self._task is not None:
            self._task.cancel()
            self._task = None
        if self._why_off:
            self._lose(self._members, self._why_off)
        elif self._why_off is not None and self._members:
            self._task = self._spawn(self._follow())

    async def _follow(self) -> None:
        settling = asyncio.get_running_loop().call_later(AGAIN_SECONDS, self._settle)
        try:
            while True:
                try:
                    await self._follow_events()
                except* EngineUnavailable as why:
                    self._lose(self._members, why.exceptions[0])
                await asyncio.sleep(AGAIN_SECONDS)
        finally:
            settling.cancel()

    async def _follow_events(self) -> None:
        """Look at all members, and again after each event, until the stream of events ends."""
        connection = self._engines.connections[self.engine]
        self._looking.clear()
        async with (
            asyncio.TaskGroup() as looks,
            connection.asking("GET", EVENTS, LOOK_SECONDS) as (status, lines),
        ):
            if status != OK:
                raise EngineUnavailable(f"{self.engine} sends no events")
            self._look_at(self._members, looks)
            while True:
                if change := parse_event(await lines.readuntil(b"\n")):
                    self._look_at(self._concerned_by(change), looks)

    def _concerned_by(self, change: Change) -> Iterable[str]:
        for name, member in self._members.items():
            if member.is_concerned_by(change) or change.id in self._restarts.get(name, ()):
                yield name  # by its ID: the container had another name before

    def _look_at(self, names: Iterable[str], looks: asyncio.TaskGroup) -> None:
        for name in names:
            self._due.add(name)
            if name not in self._looking:
                self._looking.add(name)
                looks.create_task(self._look_while_due(name))

    async def _look_while_due(self, name: str) -> None:
        while name in self._due:
            await asyncio.sleep(TOGETHER_SECONDS)
            self._due.discard(name)
            before, began_seconds = self._restarts.get(name, {}), asyncio.get_running_loop().time()
            state, containers = await self._engines.look(self._members[name])
            # Docker counts a restart before it waits for it, and podman restarts too fast for any state.
            counts = {each.id: each.restarts - (each.status == "restarting") for each in containers}
            self._restarts[name] = counts
            if any(count > before.get(each, count) for each, count in counts.items()):
                state = RESTARTING
            if not self._tell_look(name, state, began_seconds):
                self._due.add(name)  # the engine may have answered the later one before this one
            elif state is RESTARTING or state.load is LoadState.UNAVAILABLE:
                self._due.add(name)
                await asyncio.sleep(AGAIN_SECONDS)
        self._looking.discard(name)

    def _tell_look(self, name: str, state: UnitState, began_seconds: float) -> bool:
        """Tell what a look found, unless that of a later one has been told; return whether it was."""
        if began_seconds < self._told_of.get(name, began_seconds):
            return False
        self._told_of[name] = began_seconds
        self._tell({name: state})
        return True

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
