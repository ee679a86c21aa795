"""Containers in memory, as Docker or Podman keeps them: what users do to them, and what happens by itself.

Time is the loop's only. What they do was seen on Docker 20.10 and 26.1, and on podman 4.3 and 5.4.
"""

import asyncio
import json
import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

from hkswitch.model.group import Engine
from hkswitch.model.unit_state import ActiveState, LoadState, UnitState

COMPOSE: Final = "com.docker.compose"
QUADLET: Final = "PODMAN_SYSTEMD_UNIT"
ACTIVE: Final = UnitState(LoadState.LOADED, ActiveState.ACTIVE, "running")

FIRST_BACK_OFF_SECONDS: Final = 0.1
"""Docker's, before the first restart; it doubles."""
PODMAN_RESTARTS_SECONDS: Final = 0.08
PODMAN_CLEANS_UP_SECONDS: Final = 0.05


class EngineRefusal(Exception):
    """An answer that is an error; without a message, it is not JSON."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class CutOff(Exception):
    """An answer that goes no further."""


@dataclass(eq=False)
class SimulatedContainer:
    """A container, and how its program behaves."""

    name: str
    id: str
    labels: dict[str, str] = field(default_factory=dict)
    policy: str = "no"
    """Of restarts: `no`, `always`, `unless-stopped` or `on-failure`."""
    most_restarts: int = 0
    """After failures; 0 is any number."""
    stop_seconds: int | None = None
    ignores_term: bool = False
    ends_after_seconds: float = math.inf
    exits_with: int = 0
    start_error: str = ""
    """Why it cannot be started."""
    network_of: str = ""
    """The ID of the container whose network it shares."""
    health: str = ""
    """Empty without a health check."""
    is_removed_at_end: bool = False
    aliases: tuple[str, ...] = ()
    """Names that other containers have for it."""
    status: str = "created"
    exit_status: int = 0
    restarts: int = 0
    is_stopped_by_hand: bool = False
    is_out_of_memory: bool = False
    began_at_seconds: float = 0
    timer: asyncio.TimerHandle | None = None

    @property
    def is_alive(self) -> bool:
        """Whether it has processes."""
        return self.status in {"running", "paused", "stopping"}

    def restarts_after(self, exit_status: int) -> bool:
        if self.is_stopped_by_hand or self.policy == "no":
            return False
        has_left = not self.most_restarts or self.restarts < self.most_restarts
        return self.policy != "on-failure" or bool(exit_status and has_left)


class SimulatedContainers:
    """The containers of an engine, and the events about them."""

    def __init__(self, engine: Engine, *, event_lag_seconds: float = 0, act_seconds: float = 0.01) -> None:
        self.engine = engine
        self.event_lag_seconds = event_lag_seconds
        """Podman polls: 0.23 to 0.49."""
        self.act_seconds = act_seconds
        """How long a start takes, and a stop of a program that obeys."""
        self.containers: dict[str, SimulatedContainer] = {}
        self.listeners: dict[object, Callable[[bytes], None]] = {}
        """Those who wait for events."""
        self.overlaps: list[str] = []
        """Containers that were started or stopped while that was being done already."""
        self._acting: set[str] = set()
        self._made = 0

    @property
    def is_podman(self) -> bool:
        return self.engine is Engine.PODMAN

    # What users do

    def add(self, name: str, status: str = "running", **options: Any) -> SimulatedContainer:  # noqa: ANN401
        """Create a container, which is in this state at once, without an event."""
        self._made += 1
        options.setdefault("id", f"{'e' if self.is_podman else 'd'}{self._made:03x}" + "ab" * 30)
        container = SimulatedContainer(name, **options)
        if status == "running":
            self._run(container)
        container.status = status
        self.containers[container.id] = container
        return container

    def add_service(
        self,
        project: str,
        service: str,
        status: str = "running",
        **options: Any,  # noqa: ANN401
    ) -> SimulatedContainer:
        """Create a container of a compose project."""
        labels = {f"{COMPOSE}.project": project, f"{COMPOSE}.service": service, f"{COMPOSE}.oneoff": "False"}
        labels |= options.pop("labels", {})
        return self.add(options.pop("name", f"{project}-{service}-1"), status, labels=labels, **options)

    def named(self, name: str) -> SimulatedContainer:
        [found] = [each for each in self.containers.values() if each.name == name]
        return found

    def begin(self, container: SimulatedContainer) -> None:
        """Start it, as `docker start` does."""
        container.restarts, container.is_stopped_by_hand = 0, False
        self._run(container)
        self._tell_begun(container)

    def end(self, container: SimulatedContainer, exit_status: int = 0) -> None:
        """Let its program exit."""
        lived_seconds = self._now() - container.began_at_seconds
        self._cancel_timer(container)
        container.exit_status = exit_status
        container.status = "stopped" if self.is_podman else "exited"
        self.tell("die", container, exitCode=str(exit_status))
        if container.restarts_after(exit_status):
            if not self.is_podman:
                container.status = "restarting"
                container.restarts += 1
            doubled = min(container.restarts - 1, 9) if lived_seconds < 10 else 0
            back_off_seconds = FIRST_BACK_OFF_SECONDS * 2**doubled
            after_seconds = PODMAN_RESTARTS_SECONDS if self.is_podman else back_off_seconds
            self._after(container, after_seconds, self._restart)
        elif container.is_removed_at_end:
            self.remove(container)
        elif self.is_podman:
            self._after(container, PODMAN_CLEANS_UP_SECONDS, self._clean_up)

    def kill(self, container: SimulatedContainer) -> None:
        container.is_stopped_by_hand = True
        self.tell("kill", container, signal="9")
        self.end(container, 137)

    def restart_by_hand(self, container: SimulatedContainer) -> None:
        """Restart it, as `docker restart` does."""
        container.is_stopped_by_hand = True
        if self.is_podman:
            self.tell("restart", container)
        for action in () if self.is_podman or not container.is_alive else ("kill", "stop"):
            self.tell(action, container)
        if container.is_alive:
            self.end(container)
        self.begin(container)
        if not self.is_podman:
            self.tell("restart", container)

    def pause(self, container: SimulatedContainer) -> None:
        container.status = "paused"
        self.tell("pause", container)

    def unpause(self, container: SimulatedContainer) -> None:
        container.status = "running"
        self.tell("unpause", container)

    def rename(self, container: SimulatedContainer, name: str) -> None:
        before, container.name = container.name, name
        self.tell("rename", container, **({} if self.is_podman else {"oldName": f"/{before}"}))

    def remove(self, container: SimulatedContainer) -> None:
        """Remove it by force."""
        self._cancel_timer(container)
        if container.is_alive:
            if not self.is_podman:
                self.tell("kill", container, signal="9")
            self.tell("die", container, exitCode="137")
        del self.containers[container.id]
        self.tell("remove" if self.is_podman else "destroy", container)

    def recreate(self, container: SimulatedContainer) -> SimulatedContainer:
        """Replace it, as `docker compose up --force-recreate` does."""
        name = container.name
        new = self.add(
            f"{container.id[:12]}_{name}", "created", labels=container.labels | {f"{COMPOSE}.replace": name}
        )
        self.tell("create", new)
        self.remove(container)
        self.rename(new, name)
        self.begin(new)
        return new

    def set_health(self, container: SimulatedContainer, health: str) -> None:
        """Have its health check end: each makes events, and not only a change."""
        for action in (
            ("exec", "exec_died")
            if self.is_podman
            else ("exec_create: /check", "exec_start: /check", "exec_die")
        ):
            self.tell(action, container)
        if self.is_podman:
            container.health = health
            self.tell("health_status", container, HealthStatus=health)
        elif container.health != health:
            container.health = health
            self.tell(f"health_status: {health}", container)

    def halt(self) -> None:
        """Let nothing more happen by itself."""
        for container in self.containers.values():
            self._cancel_timer(container)

    def tell(self, action: str, container: SimulatedContainer, **attributes: str) -> None:
        """Send an event to all who wait for events."""
        line = self.event(action, container, **attributes)
        if self.event_lag_seconds:
            asyncio.get_running_loop().call_later(self.event_lag_seconds, self.tell_line, line)
        else:
            self.tell_line(line)

    def event(self, action: str, container: SimulatedContainer, **attributes: str) -> bytes:
        """Return an event."""
        actor = {
            "ID": container.id,
            "Attributes": {**container.labels, "image": "server", "name": container.name, **attributes},
        }
        about = {
            "status": action,
            "id": container.id,
            "from": "server",
            "Type": "container",
            "Action": action,
            "Actor": actor,
        }
        now_seconds = self._now()
        times = {"scope": "local", "time": int(now_seconds), "timeNano": int(now_seconds * 10**9)}
        return json.dumps(about | times, separators=(",", ":")).encode() + b"\n"

    def tell_line(self, line: bytes) -> None:
        for send in [*self.listeners.values()]:
            with suppress(CutOff):
                send(line)

    # What the API does

    async def act(self, container: SimulatedContainer, act: Any) -> int:  # noqa: ANN401 -- a coroutine
        """Carry it out to its end, whether or not the one who asked waits."""
        if container.id in self._acting:
            self.overlaps.append(container.name)
        self._acting.add(container.id)
        try:
            status: int = await act
            return status
        finally:
            self._acting.discard(container.id)

    async def start(self, container: SimulatedContainer) -> int:
        if container.status == "paused" and not self.is_podman:
            raise EngineRefusal(409, "cannot start a paused container, try unpause instead")
        if container.status in {"running", "restarting"}:
            return 304
        if container.status in {"paused", "stopping"}:
            why = "must be in Created or Stopped state to be started: container state improper"
            raise EngineRefusal(500, f"unable to start container {container.id}: {why}")
        if container.network_of and not (owner := self.containers[container.network_of]).is_alive:
            if not self.is_podman:
                container.exit_status = 128
                raise EngineRefusal(409, f"cannot join network of a non running container: {owner.id}")
            self.begin(owner)
        await asyncio.sleep(self.act_seconds)
        if container.start_error:
            container.exit_status = 127
            raise EngineRefusal(500 if self.is_podman else 400, container.start_error)
        self.begin(container)
        return 204

    async def stop(self, container: SimulatedContainer) -> int:
        if container.status == "paused" and self.is_podman:
            raise EngineRefusal(
                500,
                f"container {container.id} is running or paused, refusing to clean up: state improper",
            )
        if container.status == "created" and self.is_podman:
            return 204
        is_looping = container.policy != "no" and container.timer is not None and not container.is_alive
        if not container.is_alive and (self.is_podman or not is_looping):
            return 304  # podman restarts it all the same
        container.is_stopped_by_hand = True
        if is_looping:
            self._cancel_timer(container)
            container.status = "exited"
            return 204
        container.status = "stopping" if self.is_podman else "running"
        if not self.is_podman:
            self.tell("kill", container, signal="15")
        own = 10 if container.stop_seconds is None else container.stop_seconds
        await asyncio.sleep(own if container.ignores_term else self.act_seconds)
        if container.is_alive:
            if not self.is_podman and container.ignores_term:
                self.tell("kill", container, signal="9")
            if not self.is_podman:
                self.tell("stop", container)
            self.end(container, 137 if container.ignores_term else 0)
            if self.is_podman and container.id in self.containers:
                self._clean_up(container)
        return 204

    # What happens by itself

    def _run(self, container: SimulatedContainer) -> None:
        self._cancel_timer(container)
        container.status, container.exit_status = "running", 0
        container.began_at_seconds = self._now()
        if container.health:
            container.health = "starting"
        if container.ends_after_seconds != math.inf:
            self._after(container, container.ends_after_seconds, lambda each: self.end(each, each.exits_with))

    def _tell_begun(self, container: SimulatedContainer) -> None:
        for action in ("init", "start") if self.is_podman else ("start",):
            self.tell(action, container)

    def _restart(self, container: SimulatedContainer) -> None:
        if self.is_podman:
            container.restarts += 1
            self.tell("restart", container)
        self._run(container)
        self._tell_begun(container)

    def _clean_up(self, container: SimulatedContainer) -> None:
        self._cancel_timer(container)
        container.status = "exited"
        self.tell("cleanup", container)

    def _after(
        self, container: SimulatedContainer, seconds: float, then: Callable[[SimulatedContainer], None]
    ) -> None:
        def fire() -> None:
            container.timer = None
            then(container)

        container.timer = asyncio.get_running_loop().call_later(seconds, fire)

    @staticmethod
    def _cancel_timer(container: SimulatedContainer) -> None:
        if container.timer is not None:
            container.timer.cancel()
            container.timer = None

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()
