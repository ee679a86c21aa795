"""A container engine in memory, as Docker or Podman: the HTTP API of `simulated_containers`, and its faults.

`serve` answers one connection on a pair of asyncio's streams, of a real socket or of `memory_streams`. Time
is the loop's only. Its answers were seen on Docker 20.10 and 26.1, and on podman 4.3 and 5.4.
"""

import asyncio
import json
import math
import re
from asyncio import StreamReader, StreamWriter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from hkswitch.containers.connection import LONGEST_LINE_BYTES
from hkswitch.model.group import Engine
from hkswitch.model.unit_state import UnitState
from tests.support.memory_streams import memory_connection
from tests.support.simulated_containers import (
    ACTIVE,
    CutOff,
    EngineRefusal,
    SimulatedContainer,
    SimulatedContainers,
)

_REASONS: Final = {200: "OK", 204: "No Content", 304: "Not Modified", 400: "Bad Request"}
_REASONS_OF_ERRORS: Final = {404: "Not Found", 409: "Conflict", 500: "Internal Server Error"}


@dataclass(frozen=True, slots=True)
class EngineFault:
    """What goes wrong with requests: `at` is searched in the likes of `POST /containers/web/stop`."""

    at: str
    delay_seconds: float = 0
    """Before the answer, which never comes after `math.inf`."""
    cut_at_bytes: int | None = None
    """Of the answer, after which the connection is closed."""
    answer: bytes | None = None
    """Instead of the right one, with its head."""
    then: bytes = b""
    """Repeated after `answer`, without an end."""
    status: int = 0
    """Of an error, instead of doing anything."""


class SimulatedEngine(SimulatedContainers):
    """One engine. Tests do to its containers what users do, and see what it was asked."""

    def __init__(self, engine: Engine, *, event_lag_seconds: float = 0, act_seconds: float = 0.01) -> None:
        super().__init__(engine, event_lag_seconds=event_lag_seconds, act_seconds=act_seconds)
        self.unit = ACTIVE
        """The state of the unit that has to be active for a connection."""
        self.service = ACTIVE
        """The state of Podman's service, which its socket's unit starts and stops."""
        self.connects: list[UnitState] = []
        """That state at each connection: systemd starts an engine for one that finds it off."""
        self.requests: list[str] = []
        """With names for IDs: `POST /containers/web/stop`."""
        self.refuses = False
        """Whether its socket takes no connection."""
        self.faults: list[EngineFault] = []
        self.on_request: Callable[[str], None] = lambda _: None
        """Called before anything is done for a request."""
        self._writers: set[StreamWriter] = set()
        self._tasks: set[asyncio.Task[Any]] = set()

    @property
    def acts(self) -> list[str]:
        """The starts and stops that were asked for: `stop web`."""
        posts = (request.split("/") for request in self.requests if request.startswith("POST"))
        return [f"{verb} {name}" for *_, name, verb in posts]

    @property
    def connections(self) -> int:
        return len(self._writers)

    @property
    def units(self) -> dict[str, UnitState]:
        """The states of the engine's units."""
        return dict.fromkeys(self.engine.units, self.service) | {self.engine.unit: self.unit}

    def stop_engine(self, unit: UnitState) -> None:
        """End all connections, and the containers of Docker; the unit is in this state."""
        self.unit = unit
        for writer in [*self._writers]:
            writer.close()
        for container in [] if self.is_podman else self.containers.values():
            self._cancel_timer(container)
            if container.status not in {"created", "exited"}:
                container.status, container.exit_status = "exited", 137

    # Connections

    async def connect(self) -> tuple[StreamReader, StreamWriter]:
        """Connect in memory; raises `ConnectionRefusedError`."""
        self.connects.append(self.unit)
        if self.refuses:
            raise ConnectionRefusedError(111, "Connection refused")
        (reader, writer), server = memory_connection(LONGEST_LINE_BYTES)
        self._spawn(self._serve(*server))
        return reader, writer

    async def serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        """Answer the request on a connection."""
        self.connects.append(self.unit)
        await self._serve(reader, writer)

    async def _serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        self._writers.add(writer)
        try:
            method, target, _ = (await reader.readuntil(b"\r\n\r\n")).decode().split(" ", 2)
            await self._answer(method, target, reader, writer)
        except (EOFError, OSError, CutOff):
            pass  # the other end has closed the connection, or a fault has
        finally:
            self._writers.discard(writer)
            self.listeners.pop(writer, None)
            writer.close()

    async def _answer(self, method: str, target: str, reader: StreamReader, writer: StreamWriter) -> None:
        url = urlsplit(target)
        request = f"{method} {self._with_name(url.path)}"
        self.requests.append(request)
        self.on_request(request)
        fault = next((each for each in self.faults if re.search(each.at, request)), EngineFault(""))
        if fault.delay_seconds == math.inf:
            await reader.read()
            return
        await asyncio.sleep(fault.delay_seconds)
        send = _limited(writer.write, fault.cut_at_bytes)
        if fault.answer is not None:
            send(fault.answer)
            while fault.then and not writer.is_closing():
                send(fault.then)
                await writer.drain()
                await asyncio.sleep(0)  # drain() lets nothing else run while there is room
            return
        try:
            if fault.status:
                raise EngineRefusal(fault.status, "something broke")
            if (method, url.path) == ("GET", "/events"):
                self._filters(url.query, {"type"})
                send(_head(200))
                self.listeners[writer] = send
                await reader.read()
                return
            status, body = await self._do(method, url.path, url.query)
        except EngineRefusal as denied:
            status, body = denied.status, self._error(denied)
        send(_head(status) + body)
        await writer.drain()

    def _error(self, denied: EngineRefusal) -> bytes:
        text = str(denied)
        found = (
            {"cause": text.rpartition(": ")[2], "message": text, "response": denied.status}
            if self.is_podman
            else {"message": text}
        )
        return (json.dumps(found).encode() if text else b"Not Found") + b"\n"

    # The API

    async def _do(self, method: str, path: str, query: str) -> tuple[int, bytes]:
        match method, path.split("/")[1:]:
            case "GET", ["containers", "json"]:
                wanted = self._filters(query, {"name", "label"})
                found = [each for each in self.containers.values() if self._is_listed(each, wanted)]
                return 200, json.dumps([*map(self._row, found)]).encode() + b"\n"
            case "GET", ["containers", reference, "json"]:
                return 200, json.dumps(self._inspected(self._found(reference))).encode() + b"\n"
            case "GET", ["v4.0.0", "libpod", "containers", reference, "json"] if self.is_podman:
                state = {"Status": "exited", "StoppedByUser": self._found(reference).is_stopped_by_hand}
                return 200, json.dumps({"State": state}).encode() + b"\n"
            case "POST", ["containers", reference, ("start" | "stop") as verb]:
                container = self._found(reference)
                act = self.start(container) if verb == "start" else self.stop(container)
                return await asyncio.shield(self._spawn(self.act(container, act))), b""
        raise EngineRefusal(404, "" if self.is_podman else "page not found")

    def _filters(self, query: str, known: set[str]) -> dict[str, list[str]]:
        try:
            wanted: dict[str, list[str]] = json.loads(parse_qs(query).get("filters", ["{}"])[0])
        except ValueError:
            raise EngineRefusal(500 if self.is_podman else 400, "invalid filter") from None
        if unknown := wanted.keys() - known:
            raise EngineRefusal(500 if self.is_podman else 400, f"invalid filter '{min(unknown)}'")
        assert "containers" not in query
        return wanted

    def _is_listed(self, container: SimulatedContainer, wanted: dict[str, list[str]]) -> bool:
        names, labels = wanted.get("name", []), wanted.get("label", [])
        return (not names or any(self._has_name(container, each) for each in names)) and all(
            container.labels.get(key) == value if equals else key in container.labels
            for key, equals, value in (label.partition("=") for label in labels)
        )

    def _has_name(self, container: SimulatedContainer, pattern: str) -> bool:
        if self.is_podman:
            return re.search(pattern.replace("/", ""), container.name) is not None
        return any(
            re.search(pattern, name) or re.search(pattern, f"/{name}")
            for name in (container.name, *container.aliases)
        )

    def _row(self, container: SimulatedContainer) -> dict[str, Any]:
        names = [f"/{name}" for name in (*container.aliases, container.name)]
        about = {"Id": container.id, "Names": names, "Image": "server", "Labels": container.labels}
        return about | {"State": container.status, "Status": container.status.capitalize()}

    def _inspected(self, container: SimulatedContainer) -> dict[str, Any]:
        is_running = container.status in {"running", "paused", "restarting"}
        state = {
            "Status": container.status,
            "Running": is_running,
            "ExitCode": container.exit_status,
            "Error": "",
            "OOMKilled": container.is_out_of_memory,
            "StartedAt": f"second {container.began_at_seconds}",
        }
        if container.health:
            state["Health"] = {"Status": container.health, "FailingStreak": 0, "Log": None}
        config: dict[str, Any] = {"Image": "server", "Labels": container.labels}
        if self.is_podman or container.stop_seconds is not None:
            config["StopTimeout"] = 10 if container.stop_seconds is None else container.stop_seconds
        policy = {"Name": container.policy, "MaximumRetryCount": container.most_restarts}
        network = f"container:{container.network_of}" if container.network_of else "bridge"
        host_config: dict[str, Any] = {"RestartPolicy": policy, "AutoRemove": container.is_removed_at_end}
        host_config["NetworkMode"] = network
        about = {"Id": container.id, "Name": f"/{container.name}", "RestartCount": container.restarts}
        return about | {"State": state, "Config": config, "HostConfig": host_config}

    def _found(self, reference: str) -> SimulatedContainer:
        """Return the container of a name, an ID or the beginning of an ID, in this order."""
        everything = self.containers.values()
        named = [each for each in everything if each.name == reference]
        alike = [each for each in everything if each.id.startswith(reference)]
        if found := named or alike:
            return found[0]
        text = f'no container with name or ID "{reference}" found: no such container'
        raise EngineRefusal(404, text if self.is_podman else f"No such container: {reference}")

    def _with_name(self, path: str) -> str:
        return re.sub(r"[0-9a-f]{64}", lambda found: name_of(self.containers.get(found[0]), found[0]), path)

    def _spawn(self, coroutine: Any) -> asyncio.Task[Any]:  # noqa: ANN401 -- of anything
        task: asyncio.Task[Any] = asyncio.ensure_future(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def name_of(container: SimulatedContainer | None, otherwise: str) -> str:
    return otherwise if container is None else container.name


def _head(status: int) -> bytes:
    """Return the head of an answer, which has no length: its end is that of the connection."""
    reason = (_REASONS | _REASONS_OF_ERRORS)[status]
    return f"HTTP/1.0 {status} {reason}\r\nContent-Type: application/json\r\n\r\n".encode()


def _limited(write: Callable[[bytes], None], most_bytes: int | None) -> Callable[[bytes], None]:
    """Return a `write` that stops after so many bytes, and raises `CutOff`."""
    if most_bytes is None:
        return write
    left = most_bytes

    def send(data: bytes) -> None:
        nonlocal left
        write(data[:left])
        left -= len(data)
        if left <= 0:
            raise CutOff

    return send
