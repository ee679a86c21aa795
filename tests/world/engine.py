"""A simulated container engine of which all is known that its containers ever were, in a simulated machine.

Its unit says whether it runs. What happens is the world's: this draws nothing.
"""

import asyncio
import math
from asyncio import StreamReader, StreamWriter
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any, Final, cast

from hkswitch.containers.answers import STOP_SECONDS, Container
from hkswitch.containers.members import Member
from hkswitch.model.group import Engine
from hkswitch.model.unit_state import ActiveState, LoadState, UnitHealth, UnitState
from tests.support.simulated_containers import CutOff, EngineRefusal, SimulatedContainer
from tests.support.simulated_engine import SimulatedEngine
from tests.world.container_scene import CONTAINERS, ContainerSpec
from tests.world.engine_stream import StreamEnd
from tests.world.history import History, Was

ACT_SECONDS: Final = 0.03
HEALS_SECONDS: Final = 0.6
"""From the start of a container to the end of its first health check."""

LOOKED_WITHIN_SECONDS: Final = 30.0
"""Longer than a helper waits for the end of another act before its own."""

_PROJECT: Final = "com.docker.compose.project"


class RememberedEngine(SimulatedEngine):
    """One engine of a machine."""

    def __init__(self, engine: Engine, lag_seconds: float) -> None:
        """Runs once its unit does."""
        super().__init__(engine, event_lag_seconds=lag_seconds, act_seconds=ACT_SECONDS)
        self.history = History()
        self.specs = {spec.name: spec for spec in CONTAINERS if spec.engine is engine}
        self.heals = True
        """Whether health checks of containers that start pass."""
        self.troubled_at_seconds = 0.0
        """When anything happened last by which members may be unknown for a while."""
        self.disturb: Callable[[str], None] = lambda _: None
        """Is told the members that the engine itself changes."""
        self._ends: list[StreamEnd] = []
        self.is_on = False
        """Whether its process runs."""
        self._answers = asyncio.Event()
        self._answers.set()
        self._held: list[bytes] = []
        self._starts: Counter[str] = Counter()
        self._names: defaultdict[str, dict[str, float]] = defaultdict(dict)
        """Until when a container was one of each member, by its ID."""
        for spec in self.specs.values():
            self.create(spec)
        projects = dict.fromkeys(spec.project for spec in self.specs.values() if spec.project)
        self.members = [f"{engine}/{name}" for name in (*self.specs, "missing")]
        self.members += [f"{engine}-compose/{project}" for project in (*projects, "missing")]
        for name in self.members:
            self.history.begin(name, self.state(name))

    # The truth

    def state(self, name: str) -> UnitState:
        """What a member is, if the engine can be asked."""
        member = Member.of(name)
        return member.state([_described(each) for each in self.of(member)])

    def of(self, member: Member) -> list[SimulatedContainer]:
        """The containers of a member."""
        if member.is_project:
            return [each for each in self.containers.values() if each.labels.get(_PROJECT) == member.name]
        return [each for each in self.containers.values() if each.name == member.name]

    def names_of(self, container_id: str) -> Iterable[str]:
        """The members of which a container is, or was when a helper can have looked."""
        after_seconds = asyncio.get_running_loop().time() - LOOKED_WITHIN_SECONDS
        return [
            name for name, until_seconds in self._names[container_id].items() if until_seconds > after_seconds
        ]

    @property
    def is_moving(self) -> bool:
        """Whether a container is in a state of which no event tells."""
        return any(each.status == "stopping" for each in self.containers.values())

    # What the world does

    def create(self, spec: ContainerSpec, status: str = "created", name: str = "") -> SimulatedContainer:
        """Create a container of the scene."""
        number = f"{self._made + 1:x}{'d' if self.is_podman else 'c'}"
        return self.add(name or spec.name, status, id=number.rjust(8, "0").ljust(64, "0"), **spec.options)

    def recreate(self, container: SimulatedContainer) -> SimulatedContainer:
        """As compose does it, with the options that the scene has for it."""
        name = container.name
        spec = self.specs.get(name)
        if spec is None:
            return container
        new = self.create(spec, name=f"{container.id[:12]}_{name}")
        self.tell("create", new)
        self.remove(container)
        self.rename(new, name)
        with suppress(EngineRefusal):
            self.begin(new)
        return new

    def has(self, name: str) -> bool:
        """Whether a container has this name."""
        return any(each.name == name for each in self.containers.values())

    def by_command(self, verb: str, container: SimulatedContainer) -> None:
        """Have another client start, stop, restart or kill a container, whatever comes of it."""
        if verb == "kill":
            if container.is_alive:
                self.kill(container)
            return

        async def carry_out() -> None:
            with suppress(EngineRefusal):
                if verb != "start":
                    await self.stop(container)
                if verb != "stop":
                    await self.start(container)

        self._spawn(carry_out())

    def create_missing(self) -> None:
        """Create the containers of the scene that there are not."""
        for spec in self.specs.values():
            if not self.has(spec.name):
                self.tell("create", self.create(spec))

    def repair(self) -> None:
        """Have every container, none of them paused, and each of them healthy."""
        self.heals = True
        self.go_on()
        for container in [*self.containers.values()]:
            if container.name not in self.specs:
                self.remove(container)
            elif container.status == "paused":
                self.unpause(container)
            elif container.status == "running" and container.health:
                self.set_health(container, "healthy")
        self.create_missing()

    # Connections and faults

    async def accept(self, end: StreamEnd, streams: tuple[StreamReader, StreamWriter]) -> None:
        """Serve a connection."""
        self._ends.append(end)
        try:
            await self.serve(*streams)
        finally:
            self._ends.remove(end)

    def hang_up(self) -> None:
        """Break off all connections."""
        for end in [*self._ends]:
            end.close()

    def units_are(self, units: Mapping[str, UnitState]) -> None:
        """Its units are in these states now."""
        before = self.units
        self.unit, self.service = units[self.engine.unit], units[self.process_unit]
        if before == self.units:
            return
        self.trouble()
        was, service = before[self.process_unit], self.units[self.process_unit]
        if service.active is ActiveState.ACTIVE and not self.is_on:
            self.is_on = True
            self._come_up()
        elif service.active is ActiveState.DEACTIVATING and was.is_running:
            self._stop_all(with_events=True)
        elif service.active not in {ActiveState.ACTIVE, ActiveState.DEACTIVATING} and self.is_on:
            self.is_on = False
            self.die()
            self._stop_all(with_events=False)

    @property
    def process_unit(self) -> str:
        """The unit of its process."""
        return self.engine.units[-1]

    @property
    def can_be_asked(self) -> bool:
        """Whether its units let it be asked."""
        process = self.units[self.process_unit]
        can_be_on = self.is_on or process.load is LoadState.LOADED
        is_up = self.units[self.engine.unit].health is UnitHealth.UP
        return is_up and can_be_on and process.health is not UnitHealth.STOPPING

    @property
    def can_be_started(self) -> bool:
        """Whether systemd starts it for a connection: Docker's socket always listens."""
        has_socket = not self.is_podman or self.unit.is_running
        return has_socket and self.units[self.process_unit].load is LoadState.LOADED

    def trouble(self) -> None:
        """Something happens that may make members unknown."""
        self.troubled_at_seconds = asyncio.get_running_loop().time()
        for member in self.members:
            self.disturb(member)

    def die(self) -> None:
        """Its process is killed: what it was asked is not done."""
        self.hang_up()
        for task in sorted(self._tasks, key=lambda task: getattr(task, "number", 0)):
            task.cancel()
        for container in self.containers.values():
            if container.status == "stopping":
                container.status = "running"

    def hang(self) -> None:
        """Answer nothing, and send no events, until `go_on`."""
        self._answers.clear()

    def go_on(self) -> None:
        """Have no fault any more: do and send what was to be done and sent meanwhile."""
        if any(fault.cut_at_bytes is not None for fault in self.faults):
            self.hang_up()  # these would still be broken off
        self.faults = []
        self._answers.set()
        held, self._held = self._held, []
        for line in held:
            self.tell_line(line)

    async def _answer(self, method: str, target: str, reader: StreamReader, writer: StreamWriter) -> None:
        await self._answers.wait()
        await super()._answer(method, target, reader, writer)

    def tell_line(self, line: bytes) -> None:
        if not self._answers.is_set():
            self._held.append(line)
            return
        for writer, send in [*self.listeners.items()]:
            try:
                send(line)
            except CutOff:
                cast("StreamWriter", writer).close()

    # What is remembered

    def add(self, name: str, status: str = "running", **options: Any) -> SimulatedContainer:  # noqa: ANN401
        container = super().add(name, status, **options)
        self._remember()
        return container

    def tell(self, action: str, container: SimulatedContainer, **attributes: str) -> None:
        super().tell(action, container, **attributes)
        self._remember()
        asyncio.get_running_loop().call_soon(self._remember)  # some change just after they told it

    def begin(self, container: SimulatedContainer) -> None:
        if container.id not in self.containers:
            raise EngineRefusal(404, "no such container")
        super().begin(container)

    def remove(self, container: SimulatedContainer) -> None:
        super().remove(container)
        container.status = "exited"  # a stop that goes on finds nothing to end

    def rename(self, container: SimulatedContainer, name: str) -> None:
        until_seconds = asyncio.get_running_loop().time()
        self._names[container.id][f"{self.engine}/{container.name}"] = until_seconds
        super().rename(container, name)

    async def start(self, container: SimulatedContainer) -> int:
        try:
            return await super().start(container)
        finally:
            self._remember()

    async def stop(self, container: SimulatedContainer) -> int:
        try:
            return await super().stop(container)
        finally:
            self._remember()

    def _run(self, container: SimulatedContainer) -> None:
        super()._run(container)
        for name in self._names[container.id]:
            self._starts[name] += 1
        if container.health:
            began_seconds = container.began_at_seconds
            asyncio.get_running_loop().call_later(HEALS_SECONDS, self._heal, container, began_seconds)

    def _heal(self, container: SimulatedContainer, began_seconds: float) -> None:
        if container.status == "running" and container.began_at_seconds == began_seconds:
            self.set_health(container, "healthy" if self.heals else "unhealthy")

    def _remember(self) -> None:
        for container in self.containers.values():
            self._names[container.id][f"{self.engine}/{container.name}"] = math.inf
            if project := container.labels.get(_PROJECT):
                self._names[container.id][f"{self.engine}-compose/{project}"] = math.inf
        now_seconds = asyncio.get_running_loop().time()
        for name in self.history:
            last, state, starts = self.history.last(name), self.state(name), self._starts[name]
            if (last.state, last.starts) != (state, starts):
                self.history.add(name, Was(now_seconds, state, starts))

    # What the engine's own start and end do

    def _come_up(self) -> None:
        for container in [] if self.is_podman else [*self.containers.values()]:
            ran = container.policy == "unless-stopped" and not container.is_stopped_by_hand
            if ran or container.policy == "always":
                self.begin(container)

    def _stop_all(self, *, with_events: bool) -> None:
        if self.is_podman:
            return
        for container in [*self.containers.values()]:
            if container.is_alive or container.status == "restarting":
                self._cancel_timer(container)
                container.status, container.exit_status = "exited", 0 if with_events else 137
                if with_events:
                    self.tell("die", container)
        self._remember()


def _described(container: SimulatedContainer) -> Container:
    """As the engine describes it."""
    return Container(
        container.id,
        container.name,
        container.status,
        container.health,
        container.exit_status,
        container.restarts,
        container.policy != "no",
        STOP_SECONDS if container.stop_seconds is None else container.stop_seconds,
    )
