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

SCOPES: Final = {Engine.DOCKER: "docker", Engine.PODMAN: "libpod"}
"""The first words of the units in which engines put containers, if systemd makes their cgroups."""

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
        self._units: dict[str, UnitState] = {}
        """The engine's units, as far as they have been seen."""
        self._due: set[str] = set()
        self._looks: dict[str, asyncio.Task[None]] = {}
        self._why_off: str | None = None
        """Why the engine is off, empty if it is on, None if that is not known."""
        self._task: asyncio.Task[None] | None = None

    @property
    def is_settled(self) -> bool:
        """Whether the state of each member has been told, or why it is not known."""
        return self._members.keys() <= self._states.keys()

    def watch(self, names: Collection[str]) -> tuple[str, ...]:
        """Watch this engine's members among these, and no others; return the units to watch for that."""
        members = {each.full_name: each for each in map(Member.of, names) if each.engine is self.engine}
        if members.keys() != self._members.keys():
            self._members = members
            self._states = {name: state for name, state in self._states.items() if name in members}
            self._begin()
        return self.engine.units if members else ()

    def scopes(self, name: str) -> dict[str, str]:
        """Return the units that the containers of a member have while they run, by the containers' IDs."""
        return {each: f"{SCOPES[self.engine]}-{each}.scope" for each in self._restarts.get(name, ())}

    def units_seen(self, units: Mapping[str, UnitState]) -> None:
        """Follow the engine while its units let it be asked."""
        self._units |= {unit: units[unit] for unit in self.engine.units if unit in units}
        if self._units.keys() >= {*self.engine.units}:
            self._follow_unless(why_off(self.engine, self._units))

    def lost(self) -> None:
        """Forget all states until the engine's units have been seen again."""
        self._states.clear()
        self._units.clear()
        self._restarts.clear()  # of what restarted meanwhile, nothing says whether it still does
        self._follow_unless(None)

    async def catch_up(self, names: Iterable[str]) -> None:
        """Tell the states of members after an action on them: podman tells of that half a second later."""
        names = [name for name in names if name in self._members]
        if self._task is not None and names:
            self._look_at(names)
            await asyncio.wait([self._looks[name] for name in names], timeout=AGAIN_SECONDS)

    def _follow_unless(self, why_off: str | None) -> None:
        if why_off != self._why_off:
            self._why_off = why_off
            self._begin()

    def _begin(self) -> None:
        if self._task is not None:
            self._task.cancel()
            self._task = None
        self._end_looks()
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
                except EngineUnavailable as why:
                    self._end_looks()
                    self._lose(self._members, why)
                await asyncio.sleep(AGAIN_SECONDS)
        finally:
            settling.cancel()

    async def _follow_events(self) -> None:
        """Look at all members, and again after each event, until the stream of events ends."""
        connection = self._engines.connections[self.engine]
        async with connection.asking("GET", EVENTS, LOOK_SECONDS) as (status, lines):
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
            if name not in self._looks:
                self._looks[name] = self._spawn(self._look_while_due(name))

    def _end_looks(self) -> None:
        """Cancel them now, since the task that follows the events ends later: none may tell an old state."""
        for look in self._looks.values():
            look.cancel()
        self._looks.clear()

    async def _look_while_due(self, name: str) -> None:
        while name in self._due:
            await asyncio.sleep(TOGETHER_SECONDS)
            self._due.discard(name)
            before = self._restarts.get(name, {})
            state, containers = await self._engines.look(self._members[name])
            # Docker counts a restart before it waits for it, and podman restarts too fast for any state.
            counts = {each.id: each.restarts - (each.status == "restarting") for each in containers}
            self._restarts[name] = counts
            if any(count > before.get(each, count) for each, count in counts.items()):
                state = RESTARTING
            self._tell({name: state})
            if state is RESTARTING or state.load is LoadState.UNAVAILABLE:
                self._due.add(name)
                await asyncio.sleep(AGAIN_SECONDS)
        del self._looks[name]

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
