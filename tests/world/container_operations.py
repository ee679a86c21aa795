"""What others do to the containers of a world, and what its engines do: operations and faults of a seed."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from tests.support.simulated_containers import SimulatedContainer
from tests.support.simulated_engine import EngineFault
from tests.world.engine import RememberedEngine
from tests.world.random_source import RandomSource
from tests.world.world import World

NOT_HTTP: Final = (
    b"",
    b"HTTP/1.0 200 OK\r\n\r\n{",
    b"garbage",
    b"HTTP/1.0 200 OK\r\n\r\n[3]",
    b"\xff" * 70_000,
)
NO_EVENTS: Final = (b"garbage\n", b"{}\n", b'{"Actor": {"ID": "1"}}\n', b"[" * 5_000 + b"\n", b"x" * 200_000)
LATE_SECONDS: Final = (0.2, 1.0, 3.0, 4.9, 5.1, 12.0)
TROUBLE_SECONDS: Final = (0.05, 0.5, 2.0, 6.0, 12.0)

Operation = Callable[[], None]


@dataclass(eq=False)
class ContainerOperations:
    """All of them; each is immediate, and a fault of an engine ends by itself."""

    world: World

    def kinds(self) -> list[tuple[int, Operation]]:
        """What happens to containers, with its weights."""
        return [
            (8, self._by_command),
            (5, self._crash),
            (3, self._pause),
            (3, self._remove),
            (4, self._recreate),
            (2, self._rename),
            (3, self._change_health),
            (2, self._change_project),
        ]

    def faults(self) -> list[tuple[int, Operation]]:
        """What engines do, with its weights."""
        return [
            (4, self._hang_up),
            (4, self._kill),
            (3, self._bounce),
            (4, self._hang),
            (3, self._answer_late),
            (3, self._answer_wrongly),
            (2, self._send_no_event),
            (2, self._break_off),
        ]

    @property
    def _chance(self) -> RandomSource:
        return self.world.chance

    def _engine(self) -> RememberedEngine:
        return self._chance.one_of(list(self.world.machine.engines.of.values()))

    def _some(
        self, *, which: Callable[[SimulatedContainer], bool] = lambda _: True
    ) -> tuple[RememberedEngine, SimulatedContainer] | None:
        """A container, mostly one that the config names."""
        engine = self._engine()
        named = {name for group in self.world.served for name in group.contained}
        found = [each for each in engine.containers.values() if which(each)]
        wanted = [each for each in found if not named.isdisjoint(engine.names_of(each.id))]
        if not found or not engine.is_on:
            return None
        return engine, self._chance.one_of(wanted or found)

    def _note(self, engine: RememberedEngine, container: SimulatedContainer, done: str) -> None:
        self.world.note(f"{engine.engine}: {container.name} {done}")
        self._disturb(engine, container)

    def _disturb(self, engine: RememberedEngine, container: SimulatedContainer) -> None:
        for name in engine.names_of(container.id):
            self.world.machine.disturb(name)

    # Containers

    def _by_command(self) -> None:
        """As `docker start`, `docker stop` and `docker kill` do it."""
        if (found := self._some()) is None:
            return
        engine, container = found
        kind = self._chance.one_of(("start", "stop", "restart", "kill"))
        self._note(engine, container, f"is told to {kind}")
        engine.by_command(kind, container)

    def _crash(self) -> None:
        if (found := self._some(which=lambda each: each.status == "running")) is not None:
            engine, container = found
            status = self._chance.one_of((0, 1, 3))
            self._note(engine, container, f"exits with {status}")
            engine.end(container, status)

    def _pause(self) -> None:
        if (found := self._some(which=lambda each: each.status in {"running", "paused"})) is None:
            return
        engine, container = found
        pauses = container.status == "running"
        self._note(engine, container, "is paused" if pauses else "goes on")
        (engine.pause if pauses else engine.unpause)(container)
        if pauses:

            def go_on() -> None:
                if container.status == "paused" and container.id in engine.containers:
                    self._note(engine, container, "goes on")
                    engine.unpause(container)

            asyncio.get_running_loop().call_later(self._chance.seconds(0, 12), go_on)

    def _remove(self) -> None:
        if (found := self._some()) is None:
            return
        engine, container = found
        self._note(engine, container, "is removed")
        engine.remove(container)

        def run_again() -> None:
            spec = engine.specs.get(container.name)
            if spec is not None and engine.is_on and not engine.has(container.name):
                self.world.note(f"{engine.engine}: {container.name} is run anew")
                new = engine.create(spec)
                self._disturb(engine, new)
                engine.tell("create", new)
                engine.by_command("start", new)

        asyncio.get_running_loop().call_later(self._chance.seconds(0, 12), run_again)

    def _recreate(self) -> None:
        if (found := self._some()) is not None:
            engine, container = found
            self._note(engine, container, "is created anew")
            self._disturb(engine, engine.recreate(container))

    def _rename(self) -> None:
        """Give a container another name, and perhaps another one its name."""
        if (found := self._some()) is None:
            return
        engine, container = found
        before, now = container.name, self._chance.one_of(("other", *engine.specs))
        if engine.has(now):
            return
        self._note(engine, container, f"is renamed to {now}")
        engine.rename(container, now)
        self._disturb(engine, container)

        def back() -> None:
            if container.id in engine.containers and not engine.has(before):
                self._note(engine, container, f"is renamed to {before}")
                engine.rename(container, before)
                self._disturb(engine, container)

        asyncio.get_running_loop().call_later(self._chance.seconds(0, 6), back)

    def _change_health(self) -> None:
        engine = self._engine()
        engine.heals = not self._chance.of_one_in(3)
        for container in [*engine.containers.values()]:
            if container.health and container.status == "running":
                health = "healthy" if engine.heals else "unhealthy"
                self._note(engine, container, f"is {health}")
                engine.set_health(container, health)

    def _change_project(self) -> None:
        """As `docker compose up`, `down`, `stop` and `start` do it."""
        engine = self._engine()
        if not engine.is_on:
            return
        kind = self._chance.one_of(("up", "up", "down", "stop", "start"))
        self.world.note(f"{engine.engine} compose {kind}")
        if kind == "up":
            engine.create_missing()
        for container in [*engine.containers.values()]:
            spec = engine.specs.get(container.name)
            if spec is None or not spec.project:
                continue
            self._disturb(engine, container)
            if kind == "down":
                engine.remove(container)
            else:
                engine.by_command("stop" if kind == "stop" else "start", container)

    # Engines

    def _hang_up(self) -> None:
        """Cut all connections, and lose the events until the next one."""
        engine = self._engine()
        self.world.note(f"{engine.engine} closes all connections")
        engine.trouble()
        engine.hang_up()

    def _kill(self) -> None:
        engine = self._engine()
        self.world.note(f"{engine.engine} is killed")
        engine.trouble()
        self.world.machine.systemd.crash(engine.process_unit, signal=9)

    def _bounce(self) -> None:
        """Stop an engine by systemctl, and start it again some time later."""
        unit, machine = self._engine().engine.unit, self.world.machine
        machine.by_systemctl(machine.systemd.stop, unit)
        seconds = self._chance.one_of(TROUBLE_SECONDS) * self._chance.seconds(0.5, 1)
        asyncio.get_running_loop().call_later(seconds, machine.by_systemctl, machine.systemd.start, unit)

    def _hang(self) -> None:
        if (engine := self._free_engine()) is not None:
            engine.hang()
            self._begin(engine, "does not answer")

    def _answer_late(self) -> None:
        if (engine := self._free_engine()) is not None:
            seconds = self._chance.one_of(LATE_SECONDS)
            engine.faults = [EngineFault(self._chance.one_of(("", "GET")), delay_seconds=seconds)]
            self._begin(engine, f"answers {seconds} s late")

    def _answer_wrongly(self) -> None:
        if (engine := self._free_engine()) is not None:
            at = self._chance.one_of(("", "json", "events", "POST", "/json?", "start$"))
            if self._chance.of_one_in(2):
                engine.faults = [EngineFault(at, answer=self._chance.one_of(NOT_HTTP))]
            else:
                engine.faults = [EngineFault(at, status=500)]
            self._begin(engine, f"answers {at or 'everything'} wrongly")

    def _break_off(self) -> None:
        if (engine := self._free_engine()) is not None:
            engine.faults = [EngineFault("", cut_at_bytes=self._chance.stream.randrange(120))]
            self._begin(engine, "breaks off its answers")

    def _send_no_event(self) -> None:
        """Send something else."""
        engine = self._engine()
        self.world.note(f"{engine.engine} sends what is no event")
        engine.trouble()
        engine.tell_line(self._chance.one_of(NO_EVENTS))

    def _free_engine(self) -> RememberedEngine | None:
        engine = self._engine()
        return None if self.world.outages.has(engine.engine) else engine

    def _begin(self, engine: RememberedEngine, what: str) -> None:
        def end() -> None:
            self.world.note(f"{engine.engine} works again")
            engine.go_on()

        self.world.note(f"{engine.engine} {what}")
        engine.trouble()
        seconds = self._chance.one_of(TROUBLE_SECONDS) * self._chance.seconds(0.5, 1)
        self.world.outages.begin(engine.engine, seconds, end)
