"""Real container engines on a host: their containers, as their own programs show them, and their own events.

Nothing here uses hkswitch, so that tests compare it with the engines themselves.
"""

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Collection, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote

from tests.host.machine import Host, eventually, eventually_async
from tests.support.controller import Controller
from tests.support.waiting import PATIENCE_SECONDS

ENGINES: Final = ("docker", "podman")
BOOT_OPTIONS: Final = (
    # the host's root is an overlay, which cannot be a lower layer of another one
    "--tmpfs=/var/lib/docker",
    "--tmpfs=/var/lib/containers",
    "--system-call-filter=@keyring bpf",
)
"""What systemd-nspawn needs for containers in a host."""

IMAGE: Final = "server"
SERVES: Final = "trap 'exit 0' TERM; sleep infinity & wait"
IGNORES_TERM: Final = "trap '' TERM; while :; do sleep 0.2; done"
CRASHES: Final = "sleep 0.1; exit 3"

NO_RESPONSE: Final = -70402
"""The status of a read whose switch shows "No Response"."""

_MAKE_IMAGE: Final = """
command=$1
mkdir -p /run/image/bin
cp /bin/busybox /run/image/bin/
for program in sh sleep test touch true; do ln -sf busybox /run/image/bin/$program; done
for engine in docker podman; do
    tar -C /run/image -c bin | "$engine" import --change "CMD $command" - server
done
"""
_LIMITS: Final = "[containers]\npids_limit = 0\n"
_REQUEST: Final = re.compile(r"Calling (GET|POST|HEAD|DELETE) |\"(GET|POST|HEAD|DELETE) /")
_SOCKETS: Final = {"docker": "/run/docker.sock", "podman": "/run/podman/podman.sock"}
_SOCKET_UNITS: Final = {"docker": "docker.socket", "podman": "podman.socket"}


def prepare(host: Host) -> None:
    """Start both engines, and give each an image that needs no registry."""
    host.write("/etc/containers/containers.conf.d/host.conf", _LIMITS)  # the host has no process limit
    host.write("/etc/docker/daemon.json", '{"debug": true}')  # logs requests, as Podman does by default
    host.run("systemctl", "start", "docker.service", "podman.socket")
    host.run("sh", "-ec", _MAKE_IMAGE, "sh", json.dumps(["sh", "-c", SERVES]))


@dataclass(frozen=True, slots=True)
class Engine:
    """An engine, used through its own program."""

    host: Host
    name: str

    @property
    def unit(self) -> str:
        """The unit that is active while the engine can be asked."""
        return "docker.service" if self.name == "docker" else self.socket_unit

    @property
    def service(self) -> str:
        """The engine's daemon."""
        return f"{self.name}.service"

    @property
    def socket_unit(self) -> str:
        """The unit of the engine's socket."""
        return _SOCKET_UNITS[self.name]

    @property
    def socket(self) -> str:
        """The path of the socket in the host."""
        return _SOCKETS[self.name]

    @property
    def socket_from_outside(self) -> str:
        """The path of the socket on the test machine."""
        return f"/proc/{self.host.leader}/root{self.socket}"

    def cli(self, *argv: str, check: bool = True) -> str:
        """Run the engine's program."""
        return self.host.run(self.name, *argv, check=check).stdout.strip()

    def create(self, name: str, *options: str, script: str = "", verb: str = "create") -> str:
        """Create a container that serves, or runs a script of sh; return its ID."""
        own = (*("--network=none", "--stop-timeout=1"), *options)
        return self.cli(verb, f"--name={name}", *own, IMAGE, *(("sh", "-c", script) if script else ()))

    def run(self, name: str, *options: str, script: str = "") -> str:
        """Create a container, and start it."""
        return self.create(name, "--detach", *options, script=script, verb="run")

    def inspected(self, name: str) -> dict[str, Any] | None:
        """Return what the engine's program shows of a container; None if it does not exist."""
        done = self.host.run(self.name, "container", "inspect", name, check=False)
        found = json.loads(done.stdout or "[]")
        return dict(found[0]) if done.returncode == 0 and found else None

    def status(self, name: str) -> str:
        """Return the status of a container, in one word of Docker's, or "missing"."""
        found = self.inspected(name)
        word = "missing" if found is None else str(found["State"]["Status"])
        return {"stopped": "exited", "configured": "created"}.get(word, word)

    def crash(self, name: str) -> None:
        """Kill the first process of a container without the engine."""
        found = self.inspected(name)
        assert found is not None
        self.host.run("kill", "-KILL", str(found["State"]["Pid"]))
        eventually(lambda: self.process(name) != found["State"]["Pid"])

    def process(self, name: str) -> int:
        """Return the PID of a container's first process in the host, 0 if there is none."""
        found = self.inspected(name)
        return 0 if found is None else int(found["State"]["Pid"])

    def requests(self, since_seconds: float) -> list[str]:
        """Return the requests that the engine's daemon has logged since a time."""
        lines = self.host.journalctl(f"--unit={self.service}", f"--since=@{since_seconds:.6f}").splitlines()
        return [line for line in lines if _REQUEST.search(line)]

    def is_answering(self) -> bool:
        """Return whether the engine answers, if it is up; this never starts it."""
        is_up = self.host.show(self.unit, "ActiveState") == "active"
        return is_up and self.host.run(self.name, "ps", "--quiet", check=False).returncode == 0

    def forget_starts(self) -> None:
        """Reset the start limits of the engine's units."""
        self.host.run("systemctl", "reset-failed", self.service, self.socket_unit, check=False)

    def revive(self) -> None:
        """Start the engine after whatever happened to it."""
        self.forget_starts()
        self.host.run("systemctl", "start", self.unit)
        eventually(self.is_answering)

    @contextmanager
    def emptied(self) -> Iterator[None]:
        """Remove all containers in the end."""
        try:
            yield
        finally:
            ids = self.cli("ps", "--all", "--quiet", "--no-trunc").split()
            if ids:
                self.cli("rm", "--force", "--volumes", *ids)


@dataclass(frozen=True, slots=True)
class EngineEvent:
    """An event of an engine: when it happened by the engine's clock, and when it was received."""

    action: str
    name: str
    at_seconds: float
    received_seconds: float


@dataclass(slots=True)
class EngineEvents:
    """The events of an engine, received like hkswitch does but separately."""

    seen: list[EngineEvent] = field(default_factory=list)

    async def first(self, since_seconds: float, actions: Collection[str]) -> EngineEvent:
        """Return the first of these events since a time, once it was received."""

        def found() -> EngineEvent | None:
            happened = (each for each in self.seen if each.at_seconds >= since_seconds)
            return next((each for each in happened if each.action in actions), None)

        return await eventually_async(found)


@asynccontextmanager
async def engine_events(engine: Engine) -> AsyncIterator[EngineEvents]:
    """Subscribe to the events of an engine."""
    reader, writer = await asyncio.open_unix_connection(engine.socket_from_outside)
    filters = quote(json.dumps({"type": ["container"]}))
    writer.write(f"GET /events?filters={filters} HTTP/1.0\r\n\r\n".encode())
    while (await reader.readline()).strip():
        pass
    events = EngineEvents()
    reading = asyncio.ensure_future(_read(reader, events))
    try:
        yield events
    finally:
        reading.cancel()
        with suppress(asyncio.CancelledError):
            await reading
        writer.close()


async def _read(reader: asyncio.StreamReader, events: EngineEvents) -> None:
    while line := await reader.readline():
        event = json.loads(line)
        name = event["Actor"]["Attributes"].get("name", "")
        events.seen.append(EngineEvent(event["Action"], name, event["timeNano"] / 1e9, time.time()))


@dataclass(slots=True)
class Told:
    """The events that a phone was sent for its switches, with the times of their receipt."""

    controller: Controller
    events: list[tuple[float, str, bool]] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Record from now on."""
        self.controller.pairing.dispatcher_connect(self._record)

    def _record(self, changes: Mapping[tuple[int, int], Mapping[str, Any]]) -> None:
        names = {switch.on: name for name, switch in self.controller.switches.items()}
        for path, change in changes.items():
            if "value" in change and path in names:
                self.events.append((time.time(), names[path], bool(change["value"])))

    def of(self, name: str) -> list[tuple[float, bool]]:
        """Return when a switch's events were received, and their values."""
        return [(at_seconds, on) for at_seconds, switch, on in self.events if switch == name]


def group_report(host: Host, group_id: str) -> dict[str, Any]:
    """Return a group of `hkswitch status --json`."""
    printed = host.run("hkswitch", "status", group_id, "--json", check=False).stdout
    [group] = json.loads(printed)["groups"]
    return dict(group)


def members(host: Host, group_id: str) -> dict[str, str]:
    """Return the members of a group, each with its load, active and sub state, as hkswitch reports them."""
    units = group_report(host, group_id)["units"]
    return {unit["unit"]: f"{unit['load']}/{unit['active']}/{unit['sub']}" for unit in units}


async def until_member(host: Host, group_id: str, member: str, state: str) -> None:
    """Wait until a member's load, active and sub state begin with this."""
    await eventually_async(lambda: members(host, group_id).get(member, "").startswith(state))


async def until_read(controller: Controller, name: str, value: bool | int) -> None:
    """Wait until a read of a switch returns this: On, or a status."""
    deadline_seconds = time.monotonic() + PATIENCE_SECONDS
    while repr(read := await controller.read(name)) != repr(value):
        assert time.monotonic() < deadline_seconds, f"{name} is still {read}"
        await asyncio.sleep(0.05)
