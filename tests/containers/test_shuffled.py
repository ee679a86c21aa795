"""Whatever happens to containers, engines and the bus, the last states are true once it is quiet."""

import asyncio
import math
import random
from typing import Any

import pytest

from hkswitch.model.group import Engine
from hkswitch.model.unit_state import Action, UnitState
from tests.containers.both_engines import OF_EACH, OFF, STOPPING, BothEngines, Told, in_virtual_time
from tests.support.simulated_containers import ACTIVE, SimulatedContainer
from tests.support.simulated_engine import EngineFault

NAMES = ("web", "db", "immich-app-1", "other")
HEALTHS = ("healthy", "unhealthy", "starting")


class Shuffle:
    """A machine to which something happens, at random."""

    def __init__(self, engine: Engine, seed: int) -> None:
        self.chance = random.Random(seed)
        self.both = BothEngines(event_lag_seconds=self.chance.choice([0, 0.01, 0.45]))
        self.simulated = self.both.by_engine[engine]
        self.members = [f"{engine}/web", f"{engine}/db", f"{engine}-compose/immich"]
        self.told = Told(self.both, engine)
        self.acts: list[asyncio.Task[list[str]]] = []
        self._add("web")
        self._add("immich-app-1")

    def happen(self) -> None:
        """Let one thing happen, if it can."""
        often = [self._change_a_container] * 8 + [self._act] * 3
        others = [self._fail, self._heal, self._switch_unit, self._lose_bus, self._watch, self._kill_engine]
        self.chance.choice(often + others)()

    async def quieten(self) -> None:
        """End all that goes on by itself."""
        self._heal()
        self.simulated.unit = ACTIVE
        self.both.bus_problem = ""
        self.told.following.watch(self.members)
        self.told.see_unit()
        await asyncio.gather(*self.acts)
        for container in self.simulated.containers.values():
            container.ends_after_seconds = math.inf
        await asyncio.sleep(100)  # of waits for restarts

    def _change_a_container(self) -> None:
        if self.simulated.unit is not ACTIVE and not self.simulated.is_podman:
            return  # Docker's have ended with it
        found = [*self.simulated.containers.values()]
        free = [*{*NAMES} - {each.name for each in found}]
        if not found or (free and self.chance.random() < 0.2):
            self.simulated.tell("create", self._add(self.chance.choice(sorted(free))))
            return
        container = self.chance.choice(found)
        match self.chance.randrange(6):
            case 0 if free:
                self.simulated.rename(container, self.chance.choice(sorted(free)))
            case 1:
                self.simulated.remove(container)
            case 2:
                self.simulated.recreate(container)
            case _:
                self._change_state(container)

    def _change_state(self, container: SimulatedContainer) -> None:
        simulated = self.simulated
        match container.status, self.chance.randrange(4):
            case "running", 0:
                simulated.end(container, self.chance.choice([0, 3]))
            case "running", 1:
                simulated.kill(container)
            case "running", 2:
                simulated.pause(container)
            case "running", _ if container.health:
                simulated.set_health(container, self.chance.choice(HEALTHS))
            case "paused", _:
                simulated.unpause(container)
            case (("exited" | "created"), _):
                simulated.begin(container)

    def _add(self, name: str) -> SimulatedContainer:
        options: dict[str, Any] = {
            "policy": self.chance.choice(["no", "always", "on-failure"]),
            "health": self.chance.choice(["", "healthy"]),
            "ignores_term": self.chance.random() < 0.3,
            "ends_after_seconds": self.chance.choice([math.inf, math.inf, 0.05, 1.5]),
            "exits_with": self.chance.choice([0, 1]),
        }
        if name.startswith("immich"):
            return self.simulated.add_service("immich", "app", "running", name=name, **options)
        return self.simulated.add(name, "running", **options)

    def _act(self) -> None:
        action, member = self.chance.choice(list(Action)), self.chance.choice(self.members)
        self.acts.append(asyncio.ensure_future(self.both.act(action, member)))

    def _fail(self) -> None:
        at = self.chance.choice(["events", "containers/json", "/json$", "POST", ""])
        hows: list[dict[str, Any]]
        hows = [{"status": 500}, {"cut_at_bytes": 60}, {"delay_seconds": 2}, {"delay_seconds": math.inf}]
        how = self.chance.choice(hows)
        self.simulated.faults = [EngineFault(at, **how)]

    def _heal(self) -> None:
        self.simulated.faults = []

    def _switch_unit(self) -> None:
        unit: UnitState = self.chance.choice([ACTIVE, OFF, STOPPING])
        if unit is not ACTIVE:
            self.simulated.stop_engine(unit)
        self.told.see_unit(unit)

    def _kill_engine(self) -> None:
        self.simulated.stop_engine(self.simulated.unit)

    def _lose_bus(self) -> None:
        if self.both.bus_problem:
            self.both.bus_problem = ""
            self.told.see_unit()
        else:
            self.both.bus_problem = "the bus is gone"
            self.told.following.lost()

    def _watch(self) -> None:
        self.told.following.watch(self.chance.sample(self.members, self.chance.randrange(4)))


@pytest.mark.parametrize("part", range(2))
@OF_EACH
@in_virtual_time
async def test_after_whatever_has_happened_the_last_states_are_true(
    engine: Engine, part: int, long: bool
) -> None:
    for seed in range(part, 600 if long else 16, 2):
        shuffle = Shuffle(engine, seed)
        shuffle.told.following.watch(shuffle.members)
        shuffle.told.see_unit()
        for _ in range(60):
            shuffle.happen()
            await asyncio.sleep(shuffle.chance.choice([0, 0.001, 0.02, 0.3, 2]))
        await shuffle.quieten()
        true = {name: await shuffle.both.state(name) for name in shuffle.members}
        assert shuffle.told.last == true, f"seed {seed}"
        await shuffle.told.end()
        shuffle.simulated.halt()
        shuffle.both.has_only_asked_active_engines()
