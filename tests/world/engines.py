"""The container engines of a simulated machine: their units, and the connections to them.

It must not know what hkswitch asks them, but for what helpers must never do.
"""

import asyncio
from collections.abc import Callable
from contextvars import Context
from typing import Final

from hkswitch.containers.connection import LONGEST_LINE_BYTES
from hkswitch.containers.members import Member, unavailable
from hkswitch.model.group import Engine
from hkswitch.model.unit_state import UnitHealth, UnitState
from tests.world.engine import RememberedEngine
from tests.world.engine_stream import StreamEnd, Streams, connection
from tests.world.history import History
from tests.world.random_source import SLOW_SECONDS, RandomSource
from tests.world.systemd import SimulatedSystemd

LAG_SECONDS: Final = {Engine.DOCKER: (0.0, 0.005), Engine.PODMAN: (0.05, 0.5)}
"""How long after a change its event is sent."""

STEP_SECONDS: Final = 0.05
STARTS_WITHIN_STEPS: Final = 40
"""The most steps that a connection waits for an engine to start."""

SAW_SECONDS: Final = SLOW_SECONDS + 0.001
"""The answer of systemd that a unit is active is so old, at most, when it is read."""


class MachineEngines:
    """All engines; none if `chance` is None, and then nothing is drawn."""

    def __init__(
        self,
        systemd: SimulatedSystemd,
        history: History,
        chance: RandomSource | None,
        note: Callable[[str], None],
    ) -> None:
        self.wrongs: list[str] = []
        """What helpers did that they must not do."""
        self._systemd = systemd
        self._history = history
        self._chance = chance
        self._note = note
        self.of: dict[Engine, RememberedEngine] = {}
        if chance is not None:
            self.of = {each: RememberedEngine(each, chance.seconds(*LAG_SECONDS[each])) for each in Engine}
        for engine in self.of.values():
            engine.units_are({unit: systemd.truth(unit) for unit in engine.engine.units})

    @property
    def members(self) -> list[str]:
        """The containers and projects that groups may have."""
        return [name for engine in self.of.values() for name in engine.members]

    def engine_of(self, member: str) -> RememberedEngine:
        """The engine that has a member of a group."""
        return self.of[Engine(member.partition("/")[0].removesuffix("-compose"))]

    def truth(self, member: str) -> UnitState:
        """What a member is, if its engine can be asked."""
        engine = self.engine_of(member)
        return engine.state(member) if engine.can_be_asked else unavailable("off")

    def unit_touched(self, unit: str) -> None:
        """A unit may have changed."""
        for engine in self.of.values():
            if unit in engine.units:
                engine.units_are(engine.units | {unit: self._systemd.truth(unit)})

    def begin(self) -> None:
        """Start all engines, as a machine that boots does."""
        for engine in self.of:
            self._systemd.start(engine.unit)

    def repair(self) -> None:
        """Have no engine hang, or answer wrongly."""
        for engine in self.of.values():
            engine.go_on()

    def heal(self) -> None:
        """Have all engines run, with all containers of the scene in order."""
        for engine in self.of.values():
            self._systemd.start(engine.engine.unit)
            engine.repair()
            engine.trouble()

    def can_start(self, member: str) -> bool:
        """Whether each start of a member is a success, as it is now."""
        engine = self.engine_of(member)
        containers = engine.of(Member.of(member))
        specs = [engine.specs.get(each.name) for each in containers]
        is_healthy = bool(specs) and all(spec is not None and spec.is_healthy for spec in specs)
        return engine.can_be_asked and is_healthy and all(each.status != "paused" for each in containers)

    def by_command(self, verb: str, member: str) -> None:
        """Have another client do something to all containers of a member."""
        engine = self.engine_of(member)
        for container in engine.of(Member.of(member)):
            engine.by_command(verb, container)

    # For helpers

    async def connect(self, engine: Engine, saw_since_seconds: float) -> tuple[StreamEnd, Streams]:
        """The helper's end of a new connection; systemd starts an engine that is off."""
        assert self._chance is not None
        self._check_units(engine, saw_since_seconds)
        await asyncio.sleep(self._chance.delay_seconds())
        await self._activate(self.of[engine])
        near, (far, streams) = connection(LONGEST_LINE_BYTES, self._chance.delay_seconds)
        far.cut_at = self._chance.cut_at
        loop, context = asyncio.get_running_loop(), Context()
        loop.create_task(self.of[engine].accept(far, streams), context=context)
        return near

    async def _activate(self, engine: RememberedEngine) -> None:
        """Start the engine, if its socket listens: podman's ends where Docker's does not."""
        if not engine.is_on and engine.can_be_started:
            self._note(f"systemd starts {engine.process_unit} for a connection")
            Context().run(self._systemd.start, engine.process_unit)
        for _ in range(STARTS_WITHIN_STEPS):
            if engine.is_on:
                return
            await asyncio.sleep(STEP_SECONDS)
        raise ConnectionRefusedError(111, "Connection refused")

    def _check_units(self, engine: Engine, since_seconds: float) -> None:
        """Only who just saw that the units let the engine be asked may connect."""
        now_seconds = asyncio.get_running_loop().time()
        from_seconds = min(since_seconds, now_seconds) - SAW_SECONDS
        seen = {unit: [*self._history.was(unit, from_seconds, now_seconds)] for unit in engine.units}
        is_up = any(was.state.health is UnitHealth.UP for was in seen[engine.unit])
        may_stay = any(was.state.health is not UnitHealth.STOPPING for was in seen[engine.units[-1]])
        if not (is_up and may_stay):
            units = ", ".join(f"{unit} is {state}" for unit, state in self.of[engine].units.items())
            self.wrongs.append(f"a helper connected to {engine}, and {units}")
