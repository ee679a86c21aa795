"""What can get worse without a clock: processes, calls over the bus, lines to helpers, wake-ups, imports."""

import asyncio
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest
import pytest_asyncio
from dbus_fast import Message

from hkswitch.backend.helper_host import HelperHost
from hkswitch.backend.helper_session import SILENCE_SECONDS as HELPER_SILENCE_SECONDS
from hkswitch.backend.helper_session import HelperSession, Terms, local_terms
from hkswitch.backend.helper_transport import SudoTransport
from hkswitch.backend.ssh_transport import SILENCE_SECONDS, SshTransport
from hkswitch.daemon.bridge import Bridge
from hkswitch.daemon.switchboard import Switchboard
from hkswitch.model.elsewhere import Elsewhere, RemoteHost
from hkswitch.model.group import Group
from hkswitch.model.switch_events import Observed, RequestOrigin, Tile
from hkswitch.model.unit_state import Action, ActionResult, Sample
from hkswitch.protocol.helper import HELPER_PROTOCOL
from tests.conftest import child_processes
from tests.support import host_with_helper
from tests.support.command import HKSWITCH
from tests.support.controller import Controller
from tests.support.fake_systemd import SYSTEMD, UNIT, FakeSystemd, Unit
from tests.support.fixtures import bus_address, fake, systemd_on_bus
from tests.support.helper import HelperProgram
from tests.support.host_with_helper import ignore
from tests.support.inprocess import ADMIN, MOST_TURNS, Fed, InProcess, Records
from tests.support.ports import LOOPBACK, free_port
from tests.world.loop import VirtualLoop

__all__ = ["bus_address", "fake", "systemd_on_bus"]

MANY = 20
GROUPS = (
    Group("web", "Web", ("httpd.service",), actions=frozenset(Action), restart=True),
    Group("files", "Files", ("smb.service", "nmb.service", "netatalk.service"), actions=frozenset(Action)),
    *(Group(f"s{n}", f"Switch {n}", (f"s{n}.service",)) for n in range(MANY)),
)
UNITS = tuple(unit for group in GROUPS for unit in group.units)
SWITCHES = tuple(group.name for group in GROUPS[2:])
CONFIG = "groups:\n" + "".join(
    f"  {group.id}: {{units: [{', '.join(group.units)}], actions: [{', '.join(sorted(group.actions))}]}}\n"
    for group in GROUPS
)
SERVICE = f"{SYSTEMD}.Service"

Outcome = TypeVar("Outcome")


@dataclass(frozen=True)
class Recorder:
    """What a host tells, for the switchboard."""

    switchboard: Switchboard

    def observed(self, group_id: str, observed: Observed) -> None:
        self.switchboard.observed(group_id, observed)

    def sampled(self, group_id: str, sample: Sample) -> None:
        raise AssertionError((group_id, sample))

    def noticed(self) -> None:
        self.switchboard.noticed()


@dataclass(frozen=True)
class Served:
    """A paired controller; a bridge on loopback, a real helper process, and the fake systemd behind both."""

    controller: Controller
    host: HelperHost


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def module_served(
    systemd_on_bus: FakeSystemd, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Served]:
    folder = tmp_path_factory.mktemp("costs")
    config_file = folder / "config.yaml"
    config_file.write_text(CONFIG)
    systemd_on_bus.reset(*map(Unit, UNITS))
    port = free_port()
    host = HelperHost(GROUPS, SudoTransport(HelperProgram(config_file).command("serve")))
    bridge = Bridge("Test Bridge", GROUPS, folder / "state", port)
    switchboard = Switchboard(GROUPS, host, bridge)
    await host.open(Recorder(switchboard))
    await bridge.start(switchboard, LOOPBACK)
    controller = await Controller.pair(LOOPBACK.addresses[0], port, bridge.setup.code)
    yield Served(controller, host)
    await controller.close()
    await bridge.stop()
    await switchboard.close()
    await host.close()


@pytest.fixture
def served(module_served: Served, fake: FakeSystemd) -> Served:
    """The same, with every unit there and no call made yet."""
    fake.reset(*map(Unit, UNITS))
    return module_served


@pytest.fixture
def controller(served: Served) -> Controller:
    return served.controller


def calls(fake: FakeSystemd) -> Counter[tuple[str, ...]]:
    """The methods of systemd that were called, and with what units; and reads of properties."""
    called = Counter(tuple(word for word in call if word not in {"replace", "fail"}) for call in fake.calls)
    return called + Counter(("read", *read) for read in fake.reads)


def starting(method: str, units: Sequence[str]) -> Counter[tuple[str, ...]]:
    """What a start of units that do no more than that costs: five calls each, and one for all."""
    run, kind = ("read", UNIT, "InvocationID"), ("read", SERVICE, "Type")
    steps = (("RefUnit",), run, (method,), kind, ("UnrefUnit",))
    each = Counter((word, unit, *rest) for unit in units for word, *rest in steps)
    return each + Counter([("ListUnitsByNames", *units)])


# A tap


@pytest.mark.parametrize("group", GROUPS[:2], ids=lambda group: group.id)
async def test_a_start_is_five_calls_for_each_unit_and_one_for_all_and_a_stop_is_one(
    controller: Controller, fake: FakeSystemd, group: Group
) -> None:
    assert await controller.write(group.name, on=True) == 0
    assert calls(fake) == starting("StartUnit", group.units)
    fake.calls.clear()
    fake.reads.clear()
    assert await controller.write(group.name, on=False) == 0
    assert calls(fake) == Counter(("StopUnit", unit) for unit in group.units)
    assert sum(unit.refs for unit in fake.units.values()) == 0


@pytest.mark.parametrize("group", GROUPS[:2], ids=lambda group: group.id)
async def test_a_restart_costs_what_a_start_does_and_a_small_read_of_each_unit(
    served: Served, fake: FakeSystemd, group: Group
) -> None:
    for unit in group.units:
        fake.units[unit].active = "active"
    result = await served.host.request(Action.RESTART, group.id, ignore, RequestOrigin.CONTROLLER)
    assert result == ActionResult()
    reads = {("read", unit, UNIT, "InvocationID") for unit in group.units}
    assert set(calls(fake)) <= {*starting("TryRestartUnit", group.units), *reads}


async def test_a_start_of_what_is_up_already_is_four_calls(controller: Controller, fake: FakeSystemd) -> None:
    fake.change("httpd.service", "active", "running")
    await controller.until_on_is("Web", on=True)
    assert await controller.write("Web", on=True) == 0
    asked = starting("StartUnit", ["httpd.service"])
    del asked["read", "httpd.service", SERVICE, "Type"]
    assert calls(fake) == asked


async def test_a_tap_starts_no_process(controller: Controller) -> None:
    before = child_processes()
    assert await controller.write("Web", on=True) == 0
    assert await controller.write("Web", on=False) == 0
    assert child_processes() == before


async def test_many_taps_in_one_request_cost_what_each_of_them_does(
    controller: Controller, fake: FakeSystemd
) -> None:
    assert set((await controller.write_all(dict.fromkeys(SWITCHES, True))).values()) == {0}
    each = (starting("StartUnit", [unit]) for unit in UNITS[-MANY:])
    assert calls(fake) == sum(each, Counter[tuple[str, ...]]())


# A tap on another host, and that host when idle


NAS = RemoteHost("nas", "nas.lan")
REMOTE_GROUP = Group("there", "There", (), elsewhere=Elsewhere(NAS, "web"))
SYSTEM_CALLS = ("read", "write")
SELECTOR_CALLS = ("select", "register", "unregister", "modify")


@pytest_asyncio.fixture(loop_scope="module")
async def remote(fake: FakeSystemd, tmp_path: Path) -> AsyncIterator[HelperHost]:
    """Another host, whose helper is reached through pipes like those of ssh."""
    fake.reset(*map(Unit, UNITS))
    config_file = tmp_path / "config.yaml"
    config_file.write_text(CONFIG)
    command = HelperProgram(config_file).command("serve", "--for", "here")
    host = HelperHost((REMOTE_GROUP,), SshTransport(NAS, lambda *_: command), NAS)
    await host.open(host_with_helper.Recorder({REMOTE_GROUP.id: REMOTE_GROUP}))
    yield host
    await host.close()


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Callable[[], Counter[str]]:
    """Begins to count this process's system calls by their names, and the lines that go to and fro."""

    def is_about_a_request(line: bytes) -> bool:
        return line.startswith(b"{") and b'"ping"' not in line and b'"pong"' not in line

    def begin() -> Counter[str]:
        counts = Counter[str]()

        def count(owner: object, name: str) -> None:
            called = getattr(owner, name)

            def counting(*given: Any) -> Any:  # noqa: ANN401 -- they are of all types
                counts[name] += 1
                result = called(*given)
                for data in (result, *given):
                    lines = data.splitlines() if isinstance(data, bytes) else []
                    counts[f"lines {name}"] += sum(map(is_about_a_request, lines))
                return result

            monkeypatch.setattr(owner, name, counting)

        for name in SYSTEM_CALLS:
            count(os, name)
        for name in SELECTOR_CALLS:
            count(getattr(asyncio.get_running_loop(), "_selector"), name)  # noqa: B009 -- asyncio's own
        return counts

    return begin


@pytest.mark.parametrize("action", [Action.START, Action.STOP])
async def test_a_tap_on_another_host_is_one_line_there_and_two_to_four_back(
    remote: HelperHost, counted: Callable[[], Counter[str]], action: Action
) -> None:
    counts = counted()
    result = await remote.request(action, REMOTE_GROUP.id, ignore, RequestOrigin.CONTROLLER)
    assert result == ActionResult()
    assert counts["lines write"] == 1
    assert 2 <= counts["lines read"] <= 4
    # A ping may have come between. A read is followed by a pause of both outputs.
    assert counts["write"] <= 2
    assert counts["read"] <= 5
    assert counts["register"] <= counts["unregister"] <= 2 * counts["read"]
    assert not counts["modify"]


class Quiet:
    """The transport to a helper in memory, which answers pings and reports the groups of this test, all off.

    It keeps the requests, and leaves their answers to the test.
    """

    def __init__(self, terms: Terms, groups: Sequence[Group] = ()) -> None:
        self.terms = terms
        self.lines = 0
        self.requests: list[int] = []
        """Their numbers."""
        self._groups = groups

    async def open(self, session: HelperSession) -> "Quiet":
        self.session = session
        session.begin(self.take)
        self.say({"type": "hello", "version": "1", "protocol": HELPER_PROTOCOL})
        return self

    async def close(self) -> None:
        pass

    def pause_seconds(self, why_gone: str, attempt: int) -> float:
        raise AssertionError((why_gone, attempt))

    def explain(self, why_gone: str) -> str:
        return why_gone

    hint = explain

    def take(self, line: bytes) -> None:
        self.lines += 1
        match json.loads(line):
            case {"ping": number}:
                asyncio.get_running_loop().call_soon(self.say, {"type": "pong", "id": number})
            case {"observe": _}:
                told: list[Mapping[str, object]] = [
                    {
                        "type": "group",
                        "epoch": 1,
                        "group": group.id,
                        "token": group.token,
                        "units": group.units,
                    }
                    for group in self._groups
                ]
                told += [states(unit, "inactive", "dead") for group in self._groups for unit in group.units]
                told.append({"type": "complete", "epoch": 1})
                asyncio.get_running_loop().call_soon(self.say, *told)
            case {"id": number}:
                self.requests.append(number)

    def say(self, *messages: Mapping[str, object]) -> None:
        """Send lines that arrive together."""
        self.session.receive(b"".join(json.dumps(message).encode() + b"\n" for message in messages))


def states(unit: str, active: str, sub: str) -> dict[str, object]:
    row = [unit, "loaded", active, sub]
    return {"type": "states", "epoch": 1, "units": [row], "probes": []}


def succeeded(request: int) -> dict[str, object]:
    return {"type": "finished", "id": request, "units": [], "superseded": False}


class CountingLoop(VirtualLoop):
    """A loop that counts its turns, how often it waits, and the tasks and timers that are made."""

    def __init__(self) -> None:
        super().__init__()
        self.counts = Counter[str]()
        self.set_task_factory(self._made)

    def _pass(self, seconds: float | None) -> None:
        self.counts["waits" if seconds else "turns"] += 1
        super()._pass(seconds)

    def call_at(self, *given: Any, **more: Any) -> asyncio.TimerHandle:  # type: ignore[override] # noqa: ANN401
        self.counts["timers"] += 1
        return super().call_at(*given, **more)

    def _made(self, loop: asyncio.AbstractEventLoop, coroutine: Any, **more: Any) -> "asyncio.Task[Any]":  # noqa: ANN401
        self.counts["tasks"] += 1
        return asyncio.Task(coroutine, loop=loop, **more)


def counting(main: Callable[[CountingLoop], Coroutine[Any, Any, Outcome]]) -> Outcome:
    """Run a coroutine on a loop that counts."""
    with asyncio.Runner(loop_factory=CountingLoop) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, CountingLoop)
        return runner.run(main(loop))


@pytest.mark.parametrize(
    ("terms", "host", "seconds"),
    [(local_terms(), None, HELPER_SILENCE_SECONDS), (SshTransport(NAS).terms, NAS, SILENCE_SECONDS)],
    ids=["this one", "another one"],
)
def test_an_idle_minute_of_a_host_is_a_line_at_each_interval_and_as_many_wake_ups(
    terms: Terms, host: RemoteHost | None, seconds: int
) -> None:
    async def idle(loop: CountingLoop) -> tuple[int, int, int]:
        group = GROUPS[0] if host is None else REMOTE_GROUP
        transport = Quiet(terms, () if host else (group,))
        helper = HelperHost((group,), transport, host)
        await helper.open(host_with_helper.Recorder({group.id: group}))
        await asyncio.sleep(30.5)  # of the start, nothing is left
        transport.lines = 0
        loop.counts.clear()
        await asyncio.sleep(60)
        counts = loop.counts
        await helper.close()
        return transport.lines, counts["waits"], counts["tasks"]

    lines, waits, tasks = counting(idle)
    assert lines == 60 / seconds
    assert waits <= lines + 1
    assert not tasks


# The daemon's own part of a tap, a read and an event: everything but sockets and the helper


@dataclass(frozen=True)
class Tapped:
    """A bridge without sockets, whose helper is the test, and the connection of a controller."""

    loop: CountingLoop
    helper: Quiet
    phone: Fed
    records: Records

    @classmethod
    @asynccontextmanager
    async def served(
        cls, loop: CountingLoop, folder: Path, groups: Sequence[Group]
    ) -> "AsyncIterator[Tapped]":
        own = await InProcess.made(folder, paired=True, groups=groups)
        helper = Quiet(local_terms(), groups)
        host = HelperHost(groups, helper)
        switchboard = Switchboard(groups, host, own.bridge)
        own.bridge._take_writes(switchboard)
        await host.open(Recorder(switchboard))
        phone = own.connect(ADMIN)
        try:
            with own.recorded():
                loop.counts.clear()
                yield cls(loop, helper, phone, own.records)
        finally:
            phone.wire.close()
            await switchboard.close()
            await host.close()

    def ask(self, method: str, target: str, items: Sequence[Mapping[str, object]] = ()) -> None:
        """Send a request."""
        body = json.dumps({"characteristics": items}).encode() if items else b""
        head = f"{method} {target} HTTP/1.1\r\nHost: bridge\r\nContent-Length: {len(body)}\r\n\r\n"
        self.phone.wire.written = b""
        self.phone.connection.data_received(head.encode() + body)

    async def turns_until(self, condition: Callable[[], object]) -> int:
        """Wait; return how many turns of the loop it took."""
        for turns in range(MOST_TURNS):
            if condition():
                return turns
            await asyncio.sleep(0)
        raise AssertionError("it does not happen")

    def on_of(self, group: Group) -> tuple[int, int]:
        """Return the AID and IID of a group's On."""
        tile = self.phone.own.bridge._tiles[group.id, Tile.GROUP]
        return tile.aid, tile.iid_manager.get_iid(tile.on)

    def write(self, groups: Sequence[Group], **what: object) -> None:
        """Send a request to write to On of these groups."""
        paths = map(self.on_of, groups)
        self.ask("PUT", "/characteristics", [{"aid": aid, "iid": iid, **what} for aid, iid in paths])

    def has_answered(self) -> bool:
        return bool(self.phone.wire.written)


@pytest.mark.parametrize("taps", [1, MANY])
def test_the_daemons_part_of_a_tap_is_three_turns_one_task_and_one_timer_and_two_lines_of_the_log(
    tmp_path: Path, taps: int
) -> None:
    async def tap(loop: CountingLoop) -> None:
        groups = GROUPS[2 : 2 + taps]
        async with Tapped.served(loop, tmp_path, groups) as tapped:
            tapped.write(groups, value=True)
            assert await tapped.turns_until(lambda: tapped.helper.requests) == 1
            requests = tapped.helper.requests
            assert len(requests) == taps
            tapped.helper.say(*({"type": "accepted", "id": number} for number in requests))
            tapped.helper.say(
                *(states(group.units[0], "active", "running") for group in groups), *map(succeeded, requests)
            )
            assert await tapped.turns_until(tapped.has_answered) == 2
            assert [answer.status for answer in tapped.phone.answers()] == [204]
            assert tapped.loop.counts["tasks"] == tapped.loop.counts["timers"] == taps
            assert len(tapped.records.seen) == 2 * taps  # requested, and on

    counting(tap)


def test_a_read_of_many_switches_is_answered_at_once_and_without_a_task_or_a_line(tmp_path: Path) -> None:
    async def read(loop: CountingLoop) -> None:
        async with Tapped.served(loop, tmp_path, GROUPS) as tapped:
            ids = ",".join(f"{aid}.{iid}" for aid, iid in map(tapped.on_of, GROUPS))
            lines = tapped.helper.lines
            tapped.ask("GET", f"/characteristics?id={ids}")
            assert tapped.has_answered()
            assert tapped.helper.lines == lines
            assert not tapped.loop.counts
            assert not tapped.records.seen

    counting(read)


def test_a_change_from_outside_is_an_event_in_the_next_turn_and_one_line_of_the_log(tmp_path: Path) -> None:
    async def change(loop: CountingLoop) -> None:
        async with Tapped.served(loop, tmp_path, GROUPS) as tapped:
            tapped.write(GROUPS[:1], ev=True)
            await tapped.turns_until(tapped.has_answered)
            tapped.phone.wire.written = b""
            tapped.loop.counts.clear()
            tapped.helper.say(states("httpd.service", "active", "running"))
            assert await tapped.turns_until(tapped.has_answered) == 1
            assert tapped.phone.wire.written.startswith(b"EVENT/1.0 200 OK")
            assert tapped.loop.counts == {"turns": 1}
            assert [record.getMessage() for record in tapped.records.seen] == ["web: on"]

    counting(change)


# A read


async def test_a_read_calls_nothing_and_starts_nothing(controller: Controller, fake: FakeSystemd) -> None:
    before = child_processes()
    await controller.read("Web")
    await controller.read_all(SWITCHES)
    assert not calls(fake)
    assert child_processes() == before


# A unit that changes by itself


async def test_a_change_from_outside_calls_nothing(controller: Controller, fake: FakeSystemd) -> None:
    fake.change("httpd.service", "active", "running")
    await controller.until_on_is("Web", on=True)
    fake.change("httpd.service", "inactive", "dead")
    await controller.until_on_is("Web", on=False)
    assert not calls(fake)


# The daemon's process


FEW_SWITCHES, MANY_SWITCHES = 3, 100
DAEMON = """\
from hkswitch import openssl
openssl.leave_out()  # as in __main__.py
import asyncio, ctypes, json, sys
from pathlib import Path
from hkswitch.daemon import launch, service
from hkswitch.hap import server

PR_SET_THP_DISABLE = 41
ctypes.CDLL(None).prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0)  # huge pages would include what nothing uses
config_file, folder, *command = sys.argv[1:]
launch.sudo_command = lambda: tuple(command)
server.TRIM_AFTER_SECONDS = 0

class Looking(server.MemoryTrimmer):
    def _trim_now(self):
        super()._trim_now()
        maps = Path("/proc/self/maps").read_text()
        libraries = sorted({line.split("/")[-1] for line in maps.splitlines() if "/" in line})
        lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
        own_kib = next(int(line.split()[1]) for line in lines if line.startswith("Anonymous:"))
        said = {"modules": sorted(sys.modules), "libraries": libraries, "own_kib": own_kib}
        print(json.dumps(said), flush=True)

server.MemoryTrimmer = Looking
launched = launch.launch(Path(config_file), Path(folder))
asyncio.run(service.run(Path(config_file), Path(folder), launched))
"""


@dataclass(frozen=True)
class Daemon:
    """A daemon that serves, and has returned what only its start needed."""

    process: int
    modules: frozenset[str]
    libraries: frozenset[str]
    own_kib: int
    """The memory that belongs to this process alone, without pages of files."""


@asynccontextmanager
async def daemon_with(switches: int, folder: Path) -> AsyncIterator[Daemon]:
    folder.mkdir()
    config_file = folder / "config.yaml"
    groups = "".join(f"  s{n}: {{name: Switch {n}, units: [unit-{n}]}}\n" for n in range(switches))
    config_file.write_text(f"bridge: {{address: 127.0.0.1, port: {free_port()}}}\ngroups:\n{groups}")
    command = HelperProgram(config_file).command("serve")
    arguments = ("-c", DAEMON, str(config_file), str(folder / "state"), *command)
    process = await asyncio.create_subprocess_exec(sys.executable, *arguments, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    process.stdout._limit = 1 << 20  # type: ignore[attr-defined] # many modules in one line
    said = json.loads(await asyncio.wait_for(process.stdout.readline(), 20))
    yield Daemon(process.pid, frozenset(said["modules"]), frozenset(said["libraries"]), said["own_kib"])
    process.terminate()
    assert await process.wait() == 0


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def daemon(
    systemd_on_bus: FakeSystemd, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Daemon]:
    async with daemon_with(FEW_SWITCHES, tmp_path_factory.mktemp("daemon") / "few") as daemon:
        yield daemon


async def processes_on_the_bus(fake: FakeSystemd) -> set[int]:
    """Who has a connection to the bus."""

    async def ask(member: str, *body: str) -> Any:  # noqa: ANN401 -- D-Bus has all types
        bus = "org.freedesktop.DBus"
        asked = Message(bus, "/org/freedesktop/DBus", bus, member, signature="s" * len(body), body=list(body))
        answer = await fake.bus.call(asked)
        assert answer is not None
        return answer.body[0]

    names = [name for name in await ask("ListNames") if name.startswith(":")]
    return {await ask("GetConnectionUnixProcessID", name) for name in names}


async def test_the_daemon_has_no_bus_and_its_helper_has(daemon: Daemon, fake: FakeSystemd) -> None:
    found = await processes_on_the_bus(fake)
    assert daemon.process not in found
    children = Path(f"/proc/{daemon.process}/task/{daemon.process}/children").read_text()
    assert found & set(map(int, children.split()))


async def test_the_daemon_maps_no_libsystemd_and_imports_no_room_of_root(daemon: Daemon) -> None:
    assert any(library.startswith("libc.") for library in daemon.libraries)
    assert not [name for name in daemon.libraries if name.startswith(("libsystemd", "sd_bus", "libdbus"))]
    assert not {name for name in daemon.modules if name.partition(".")[0] in {"sdbus", "dbus_fast"}}
    ours = rooms(set(daemon.modules))
    assert {"backend", "daemon", "hap"} <= ours
    assert not ours & {"systemd", "serviceswitch", "cli", "doctor", "homebridge"}


async def test_the_daemon_has_21_to_24_mib_of_its_own_and_6_to_13_kib_more_for_each_switch(
    daemon: Daemon, tmp_path: Path
) -> None:
    """Runs differ by 0.01 MiB: with Python 3.11, 22.2 MiB and 10.6 KiB; with 3.13, 22.9 MiB and 9.2 KiB.

    The heap grows in steps, so a small change of the code can move both values by 0.3 MiB.
    """
    async with daemon_with(MANY_SWITCHES, tmp_path / "many") as loaded:
        each_kib = (loaded.own_kib - daemon.own_kib) / (MANY_SWITCHES - FEW_SWITCHES)
    assert 21 * 1024 <= daemon.own_kib <= 24 * 1024
    assert 6 <= each_kib <= 13


# Imports


STANDARD = frozenset(sys.stdlib_module_names)
WIDE = {"asyncio", "ssl", "unittest", "email", "http", "multiprocessing", "xml"}
"""Of the standard library, what takes long to import and what those that ask the daemon do without."""


def imported(*argv: str | Path) -> set[str]:
    """The packages, and the modules of ours, that a program has imported when it ends."""
    names = modules(*argv)
    assert "hkswitch" in names
    by_itself = modules("-c", "pass")  # a distribution's Python tries some of its own
    return {name if name.startswith("hkswitch.") else name.partition(".")[0] for name in names - by_itself}


def modules(*argv: str | Path) -> set[str]:
    command = (sys.executable, "-X", "importtime", *argv)
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
    lines = (line.split("|") for line in done.stderr.splitlines() if line.startswith("import time:"))
    return {columns[-1].strip() for columns in lines} - {"imported package"}


def foreign(names: set[str]) -> set[str]:
    """Those of others, without the ones that begin with an underscore."""
    return {name for name in names - STANDARD if not name.startswith(("_", "hkswitch"))} - AMBIENT


AMBIENT = {"org"}
"""What the library tries to import in the hope of another Python: `org.python.core`."""


def rooms(names: set[str]) -> set[str]:
    """The rooms of ours that were imported."""
    return {name.split(".")[1] for name in names if name.startswith("hkswitch.")}


STARTING = """\
import json, sys
from pathlib import Path
from hkswitch.cli import run
from hkswitch.daemon import launch

def spawn(command):
    print(json.dumps(sorted(sys.modules)))
    sys.exit()

launch.spawn = spawn
run.run(Path(sys.argv[1]), Path(sys.argv[2]))
"""


def test_the_daemon_starts_its_helper_before_it_imports_what_is_slow(tmp_path: Path) -> None:
    config_file = tmp_path / "config.yaml"
    config_file.write_text(CONFIG)
    command = (sys.executable, "-c", STARTING, config_file, tmp_path)
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)
    by_itself = modules("-c", "pass")  # a distribution's Python has a sitecustomize
    names = set(json.loads(done.stdout)) - by_itself
    assert foreign({name.partition(".")[0] for name in names}) - {"cython_runtime"} == {"yaml"}
    assert not names & {*WIDE, "logging"}
    assert rooms(names) == {"backend", "cli", "control", "daemon", "model", "protocol"}


def test_the_helper_imports_yaml_and_sdbus_of_others_and_its_own_rooms() -> None:
    found = imported("-m", "hkswitch.serviceswitch", "--version")
    assert foreign(found) == {"yaml", "sdbus"}
    assert rooms(found) == {"containers", "model", "openssl", "protocol", "serviceswitch", "systemd"}


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The state folder of a daemon that can be asked."""
    folder = tmp_path_factory.mktemp("demo")
    options = ("--address", "127.0.0.1", "--port", str(free_port()), "--state-dir", folder)
    with subprocess.Popen((HKSWITCH, "demo", *options), stdout=subprocess.PIPE, text=True) as serving:
        assert serving.stdout is not None
        assert serving.stdout.readline()
        yield folder
        serving.terminate()


AS_OF_THE_SERVICE = """\
import sys
from pathlib import Path
from hkswitch import __main__, control
control.RUNTIME_FOLDER = Path(sys.argv.pop())
__main__.main()
"""
"""Runs the program with the daemon of a folder as that of the service."""

SLOW = {
    "argparse",
    "ast",
    "dataclasses",
    "datetime",
    "inspect",
    "logging",
    "shutil",
    "subprocess",
    "threading",
}
"""Also of the standard library, what a request to the daemon does without."""

OF_JSON = {
    *("__main__", "openssl", "cli", "cli.entry", "cli.layout", "cli.status"),
    *("control", "control.client", "control.peer_credentials"),
    *("model", "model.config_file", "model.errors", "model.installation", "model.printable"),
    *("model.unit_state", "protocol", "protocol.alert_report", "protocol.control", "protocol.credentials"),
    *("protocol.host_report", "protocol.json_fields", "protocol.json_lines", "protocol.report"),
}
OF_THE_TABLE = {
    *("cli.group_table", "cli.health", "cli.host_table", "cli.render", "cli.styled", "control.words"),
}


@pytest.mark.parametrize("options", [("--json",), (), ("web",)], ids=["json", "table", "group"])
def test_status_imports_neither_click_nor_rich_and_no_group(demo: Path, options: tuple[str, ...]) -> None:
    found = imported("-c", AS_OF_THE_SERVICE, "status", *options, demo)
    assert foreign(found) == set()
    assert not found & (WIDE | SLOW)
    ours = {name.removeprefix("hkswitch.") for name in found if name.startswith("hkswitch.")}
    assert ours == (OF_JSON if options == ("--json",) else OF_JSON | OF_THE_TABLE)


@pytest.mark.parametrize("command", ["status", "start"])
def test_options_need_click_but_no_group_no_bus_and_no_homekit(demo: Path, command: str) -> None:
    words = ("web",) if command == "start" else ()
    found = imported(HKSWITCH, command, "--state-dir", demo, *words)
    assert foreign(found) == {"click"}
    assert not found & WIDE
    assert "hkswitch.model.group" not in found
    assert rooms(found) == {"__main__", "cli", "control", "model", "openssl", "protocol"}
