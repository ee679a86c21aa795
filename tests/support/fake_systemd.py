"""A fake systemd: the same D-Bus interface on a private bus, with units that a test controls."""

import asyncio
import math
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from dbus_fast import Message, MessageType, Variant
from dbus_fast.aio import MessageBus

SYSTEMD = "org.freedesktop.systemd1"
PATH = "/org/freedesktop/systemd1"
PROPERTIES = "org.freedesktop.DBus.Properties"
PEER = "org.freedesktop.DBus.Peer"
UNIT = f"{SYSTEMD}.Unit"


@contextmanager
def private_bus() -> Iterator[str]:
    """Run a private dbus-daemon; yields its address."""
    command = ["dbus-daemon", "--session", "--nofork", "--nopidfile", "--print-address=1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as daemon:
        assert daemon.stdout is not None
        try:
            yield daemon.stdout.readline().strip()
        finally:
            daemon.terminate()


@dataclass
class Unit:
    """A unit. `job_result` is the result of its next jobs; the jobs of a `held` one stay until `release`."""

    name: str
    load: str = "loaded"
    active: str = "inactive"
    sub: str = "dead"
    job_result: str = "done"
    held: bool = False
    job: str | None = None
    is_stopping: bool = False
    """Whether a stop job of somebody else waits for its turn."""
    kind: str = "notify"
    """The Type of the service: with this one, a start job is done only once the service is up."""
    result: str = "success"
    status: int = 0
    condition: bool = True
    starts: int = 0
    refs: int = 0
    """The number of references to it."""
    main_pid: int = 0
    cgroup: str = ""
    cpu_ns: int = 2**64 - 1
    began_seconds: float = 0
    """When it left the state inactive."""
    main_began_seconds: float = 0
    triggers: tuple[str, ...] = ()
    """The units that it starts, as a timer."""

    @property
    def path(self) -> str:
        escaped = "".join(c if c.isalnum() else f"_{ord(c):02x}" for c in self.name)
        return f"{PATH}/unit/{escaped}"


@dataclass(frozen=True)
class Outcome:
    """The end of a command: the Result of its service, and an exit code or a signal number.

    A command with infinite `seconds` runs until `end_commands`.
    """

    result: str = "success"
    status: int = 0
    seconds: float = 0


@dataclass(frozen=True)
class _Patient:
    """A socket that waits while it is full, which dbus-fast would take for the end of the bus."""

    socket: socket.socket

    def send(self, data: memoryview) -> int:
        try:
            return self.socket.send(data)
        except BlockingIOError:
            return 0


@dataclass
class FakeSystemd:
    """The fake on a bus; it uses a different D-Bus library than the code under test."""

    bus: MessageBus
    address: str
    units: dict[str, Unit] = field(default_factory=dict)
    commands: Callable[[list[str]], Outcome] = lambda _: Outcome()
    """Returns the outcome of a command, by its argv."""
    ran: list[list[str]] = field(default_factory=list)
    transient: dict[str, dict[str, Any]] = field(default_factory=dict)
    """The properties of the newest transient unit of each name, created for a command."""
    _running: set[str] = field(default_factory=set)
    calls: list[tuple[str, ...]] = field(default_factory=list)
    """The calls of the manager's methods, with their arguments."""
    reads: list[tuple[str, ...]] = field(default_factory=list)
    """The reads of units' properties: unit and property."""
    on_read: Callable[[Unit, str], None] = lambda *_: None
    """Called before a property of a unit is read."""
    asked_by: str = ""
    """The bus name of the latest caller."""
    jobs: int = 0
    """The number of the latest job."""
    bad_names: set[str] = field(default_factory=set)
    """Invalid unit names; systemd rejects a whole list that contains one."""
    holds_list: Callable[[list[str]], bool] = lambda _: False
    """Whether the answer to a list of these units waits for `release_lists`."""
    held_lists: list[Message] = field(default_factory=list)
    holds_services: bool = False
    """Whether reads of services' properties wait for `release_services`."""
    held_reads: list[Message] = field(default_factory=list)
    held_commands: list[tuple[Unit, str, Outcome]] = field(default_factory=list)
    failing: set[str] = field(default_factory=set)
    """Methods whose next call fails, as when memory runs out."""
    unheard: set[str] = field(default_factory=set)
    """Methods whose next call takes effect but gets no answer."""

    @classmethod
    async def on(cls, address: str) -> "FakeSystemd":
        """Serve on the bus at `address`."""
        fake = cls(await MessageBus(bus_address=address).connect(), address)
        writer: Any = fake.bus._writer
        writer.sock = _Patient(writer.sock)
        fake.bus.add_message_handler(fake._answer)
        await fake.bus.request_name(SYSTEMD)
        return fake

    def reset(self, *units: Unit) -> None:
        """Replace the units, and clear the calls."""
        self.units = {unit.name: unit for unit in units}
        self.commands = lambda _: Outcome()
        self.ran.clear()
        self.transient.clear()
        self.calls.clear()
        self.bad_names = set()
        self.failing, self.unheard = set(), set()
        self.reads.clear()
        self.on_read = lambda *_: None
        self.holds_list = lambda _: False
        self.held_lists.clear()
        self.holds_services = False
        self.held_reads.clear()
        self.held_commands.clear()
        self._running.clear()

    def _answer(self, message: Message) -> Message | bool | None:
        if message.member == "Get" and message.body == [f"{SYSTEMD}.Manager", "Environment"]:
            return Message.new_method_return(message, "v", [Variant("as", ["LANG=en", "FOREIGN=1"])])
        if message.member == "StartTransientUnit":
            return self._begin(message)
        if message.interface == PROPERTIES and str(message.path).startswith(f"{PATH}/unit/"):
            return self._properties(message)
        if message.message_type is not MessageType.METHOD_CALL or message.interface != f"{SYSTEMD}.Manager":
            return None  # dbus-fast answers Peer.Ping itself
        self.asked_by = str(message.sender)
        self.calls.append((str(message.member), *_flat(message.body)))
        if message.member in self.failing:
            self.failing.discard(message.member)
            return Message.new_error(message, "org.freedesktop.DBus.Error.NoMemory", "out of memory")
        answer = self._do(message)
        if message.member in self.unheard:
            self.unheard.discard(message.member)
            return Message.new_signal(PATH, "org.example.Nothing", "Happened")
        return answer

    def _do(self, message: Message) -> Message | bool:
        """Execute a method of the manager."""
        match message.member, message.body:
            case "Subscribe", []:
                return Message.new_method_return(message)
            case "RefUnit" | "UnrefUnit", [name]:
                return self._hold(message, name, 1 if message.member == "RefUnit" else -1)
            case "ListUnitsByNames", [names]:
                return self._hold_list(message) if self.holds_list(names) else self._list(message, names)
            case ("StartUnit", [name, "replace"]) | ("TryRestartUnit", [name, "fail"]):
                return self._queue(message, name, "active", "running")
            case "StopUnit", [name, "replace"]:
                return self._queue(message, name, "inactive", "dead")
        return Message.new_error(message, "org.freedesktop.DBus.Error.UnknownMethod", "no such method")

    def _queue(self, message: Message, name: str, active: str, sub: str) -> Message:
        """Create a job for a unit; it replaces a running one."""
        unit = self.units.get(name)
        if unit is None:
            return Message.new_error(message, f"{SYSTEMD}.NoSuchUnit", f"Unit {name} not found.")
        if unit.is_stopping and message.body[1] == "fail":
            text = f"Transaction for {name}/restart is destructive."
            return Message.new_error(message, f"{SYSTEMD}.TransactionIsDestructive", text)
        if unit.job is not None:
            self._end(unit, unit.job, "canceled")
        self.jobs += 1
        unit.job = f"{PATH}/job/{self.jobs}"
        if not unit.held:
            asyncio.get_running_loop().call_soon(self._finish, unit, unit.job, active, sub)
        return Message.new_method_return(message, "o", [unit.job])

    def _hold_list(self, message: Message) -> bool:
        """Queue the answer for later; returns True, by which dbus-fast knows that it is handled."""
        self.held_lists.append(message)
        return True

    def _list(self, message: Message, names: list[str]) -> Message:
        if self.bad_names & {*names}:
            return Message.new_error(message, "org.freedesktop.DBus.Error.InvalidArgs", "Invalid argument")
        return Message.new_method_return(message, "a(ssssssouso)", [[self._row(name) for name in names]])

    def _hold(self, message: Message, name: str, holders: int) -> Message:
        if (unit := self.units.get(name)) is None:
            return Message.new_error(message, f"{SYSTEMD}.NoSuchUnit", f"Unit {name} not found.")
        unit.refs += holders
        return Message.new_method_return(message)

    def _properties(self, message: Message) -> Message | bool:
        if self.holds_services and message.body[0] != UNIT:
            self.held_reads.append(message)
            return True
        unit = next((unit for unit in self.units.values() if unit.path == message.path), Unit("none"))
        self.reads.append((unit.name, *message.body))
        self.on_read(unit, message.body[-1])
        found = unit_properties(unit) if message.body[0] == UNIT else service_properties(unit)
        if message.member == "GetAll":
            return Message.new_method_return(message, "a{sv}", [found])
        return Message.new_method_return(message, "v", [found[message.body[1]]])

    def _begin(self, message: Message) -> Message:
        """Run a command in a unit of this name, unless the unit exists."""
        name, mode, properties, aux = message.body
        assert (mode, aux) == ("fail", [])
        if name in self._running:
            return Message.new_error(message, f"{SYSTEMD}.UnitExists", f"Unit {name} was already loaded.")
        self.transient[name] = {key: variant.value for key, variant in properties}
        [[_, argv, _]] = self.transient[name]["ExecStartEx"]
        self.ran.append(argv)
        self._running.add(name)
        self.jobs += 1
        job = f"{PATH}/job/{self.jobs}"
        outcome = self.commands(argv)
        if outcome.seconds == math.inf:
            self.held_commands.append((Unit(name), job, outcome))
            return Message.new_method_return(message, "o", [job])
        asyncio.get_running_loop().call_later(outcome.seconds, self._end_command, Unit(name), job, outcome)
        return Message.new_method_return(message, "o", [job])

    def _end_command(self, unit: Unit, job: str, outcome: Outcome) -> None:
        self._running.discard(unit.name)
        result, status = Variant("s", outcome.result), Variant("i", outcome.status)
        properties = {"Result": result, "ExecMainStatus": status}
        body = [f"{SYSTEMD}.Service", properties, []]
        self.bus.send(Message.new_signal(unit.path, PROPERTIES, "PropertiesChanged", "sa{sv}as", body))
        self._end(unit, job, "done" if outcome.result == "success" else "failed")

    async def heard(self) -> None:
        """Return when the latest caller has received everything sent so far."""
        ping = Message(destination=self.asked_by, path="/", interface=PEER, member="Ping")
        await self.bus.call(ping)

    def end_commands(self) -> None:
        """End the commands that are running now."""
        held, self.held_commands = self.held_commands, []
        for unit, job, outcome in held:
            self._end_command(unit, job, outcome)

    def release_lists(self, but: Callable[[list[str]], bool] = lambda _: False) -> None:
        """Answer the pending list calls, and later ones at once, except those for which `but` is true."""
        self.holds_list = but
        held, self.held_lists = self.held_lists, []
        for message in held:
            if but(message.body[0]):
                self.held_lists.append(message)
            else:
                self.bus.send(self._list(message, message.body[0]))

    def release_services(self) -> None:
        """Answer the pending reads of services' properties, and later ones at once."""
        self.holds_services = False
        held, self.held_reads = self.held_reads, []
        for message in held:
            answer = self._properties(message)
            assert isinstance(answer, Message)
            self.bus.send(answer)

    def release(self, name: str, *, active: str, sub: str) -> None:
        """Finish the job of a held unit."""
        unit = self.units[name]
        assert unit.job is not None
        self._finish(unit, unit.job, active, sub)

    def change(self, name: str, active: str, sub: str) -> None:
        """Change a unit's state and send the signal that systemd sends."""
        unit = self.units[name]
        unit.active, unit.sub = active, sub
        self._tell(unit)

    def reload(self) -> None:
        """Send the signal that systemd sends after daemon-reload."""
        self.bus.send(Message.new_signal(PATH, f"{SYSTEMD}.Manager", "Reloading", "b", [False]))

    def forget(self, name: str) -> None:
        """Send the signal that systemd sends when it unloads a unit."""
        path = Unit(name).path
        self.bus.send(Message.new_signal(PATH, f"{SYSTEMD}.Manager", "UnitRemoved", "so", [name, path]))

    async def leave(self) -> None:
        """Release the bus name, as systemd does briefly when it re-executes itself."""
        await self.bus.release_name(SYSTEMD)

    async def come_back(self) -> None:
        """Acquire the bus name again."""
        await self.bus.request_name(SYSTEMD)

    def _row(self, name: str) -> list[Any]:
        unit = self.units.get(name, Unit(name, load="not-found"))
        job = (0, "", "/") if unit.job is None else (_number_of(unit.job), "start", unit.job)
        return [unit.name, "", unit.load, unit.active, unit.sub, "", unit.path, *job]

    def _finish(self, unit: Unit, job: str, active: str, sub: str) -> None:
        if unit.job != job:
            return
        if not unit.condition and active == "active":
            pass  # its job is done, and it was not started
        elif unit.job_result == "done":
            if active == "active" and not (unit.active == "active" and sub == unit.sub):
                unit.starts += 1
            self.change(unit.name, active, sub)
        else:
            self.change(unit.name, "failed", "failed")
        self._end(unit, job, unit.job_result)

    def _end(self, unit: Unit, job: str, result: str) -> None:
        body = [_number_of(job), job, unit.name, result]
        self.bus.send(Message.new_signal(PATH, f"{SYSTEMD}.Manager", "JobRemoved", "uoss", body))
        unit.job = None
        self._tell(unit)

    def _tell(self, unit: Unit) -> None:
        self.bus.send(properties_changed(unit.path, unit.active, unit.sub, job=unit.job, starts=unit.starts))


def unit_properties(unit: Unit) -> dict[str, Variant]:
    """Return the properties of a unit."""
    return {
        "Id": Variant("s", unit.name),
        "LoadState": Variant("s", unit.load),
        "ActiveState": Variant("s", unit.active),
        "SubState": Variant("s", unit.sub),
        "InvocationID": Variant("ay", _invocation(unit.starts)),
        "Triggers": Variant("as", [*unit.triggers]),
        "ConditionResult": Variant("b", unit.condition and unit.starts > 0),
        "Conditions": Variant(
            "a(sbbsi)", [["ConditionPathExists", False, False, "/x", 1 if unit.condition else -1]]
        ),
        "Asserts": Variant("a(sbbsi)", []),
        "InactiveExitTimestampMonotonic": Variant("t", _microseconds(unit.began_seconds)),
    }


def service_properties(unit: Unit) -> dict[str, Variant]:
    """Return the properties of its service; by default, a failed one exited with status 1."""
    result, status = unit.result, unit.status
    if unit.active == "failed" and result == "success":
        result, status = "exit-code", 1
    return {
        "Type": Variant("s", unit.kind),
        "MainPID": Variant("u", unit.main_pid),
        "Result": Variant("s", result),
        "ExecMainCode": Variant("i", 1),
        "ExecMainStatus": Variant("i", status),
        "ExecMainStartTimestampMonotonic": Variant("t", _microseconds(unit.main_began_seconds)),
        "ControlGroup": Variant("s", unit.cgroup),
        "CPUUsageNSec": Variant("t", unit.cpu_ns),
    }


def _microseconds(seconds: float) -> int:
    return round(seconds * 1_000_000)


def _invocation(starts: int) -> bytes:
    return starts.to_bytes(16, "big") if starts else b""


def properties_changed(  # noqa: PLR0917
    path: str, active: str, sub: str, interface: str = UNIT, job: str | None = None, starts: int = 0
) -> Message:
    """Return the PropertiesChanged signal of a unit."""
    has_job = [0, "/"] if job is None else [_number_of(job), job]
    properties = {
        "ActiveState": Variant("s", active),
        "SubState": Variant("s", sub),
        "Job": Variant("(uo)", has_job),
        "InvocationID": Variant("ay", _invocation(starts)),
    }
    body = [interface, properties, []]
    return Message.new_signal(path, PROPERTIES, "PropertiesChanged", "sa{sv}as", body)


def _number_of(job: str) -> int:
    return int(job.rpartition("/")[2])


def _flat(body: list[Any]) -> list[str]:
    return [text for value in body for text in (value if isinstance(value, list) else [value])]
