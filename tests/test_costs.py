"""What can get worse without a clock: processes, calls over the bus, lines to helpers, wake-ups, imports."""

import asyncio
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from dbus_fast import Message

from hkswitch.backend.helper_host import HelperHost
from hkswitch.backend.helper_session import HelperSession, Terms
from hkswitch.backend.helper_transport import SudoTransport
from hkswitch.backend.ssh_transport import SILENCE_SECONDS, SshTransport
from hkswitch.daemon.bridge import Bridge
from hkswitch.daemon.switchboard import Switchboard
from hkswitch.model.elsewhere import Elsewhere, RemoteHost
from hkswitch.model.group import Group
from hkswitch.model.switch_events import Observed, RequestOrigin
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
    """The transport to a helper in memory, which answers pings and reports nothing."""

    def __init__(self) -> None:
        self.lines = 0

    @property
    def terms(self) -> Terms:
        return SshTransport(NAS).terms

    async def open(self, session: HelperSession) -> "Quiet":
        self.session = session
        session.begin(self.take)
        self.say(type="hello", version="1", protocol=HELPER_PROTOCOL)
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
                asyncio.get_running_loop().call_soon(lambda: self.say(type="pong", id=number))
            case {"observe": epoch}:
                asyncio.get_running_loop().call_soon(lambda: self.say(type="complete", epoch=epoch))

    def say(self, **message: object) -> None:
        self.session.receive(json.dumps(message).encode() + b"\n")


class CountingLoop(VirtualLoop):
    """A loop that counts how often it waits."""

    waits = 0

    def _pass(self, seconds: float | None) -> None:
        self.waits += bool(seconds)
        super()._pass(seconds)


def test_an_idle_minute_of_another_host_is_fifteen_lines_and_as_many_wake_ups() -> None:
    async def idle() -> tuple[int, int]:
        loop, transport = asyncio.get_running_loop(), Quiet()
        assert isinstance(loop, CountingLoop)
        host = HelperHost((REMOTE_GROUP,), transport, NAS)
        await host.open(host_with_helper.Recorder({REMOTE_GROUP.id: REMOTE_GROUP}))
        await asyncio.sleep(30.5)  # of the start, nothing is left
        lines, waits = transport.lines, loop.waits
        await asyncio.sleep(60)
        lines, waits = transport.lines - lines, loop.waits - waits
        await host.close()
        return lines, waits

    with asyncio.Runner(loop_factory=CountingLoop) as runner:
        lines, waits = runner.run(idle())
    assert lines == 60 / SILENCE_SECONDS == 15
    assert waits <= lines + 1


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


DAEMON = """\
import asyncio, json, os, signal, sys
from pathlib import Path
from hkswitch.daemon import launch, service

config_file, folder, *command = sys.argv[1:]
launch.sudo_command = lambda: tuple(command)

class Looking(service._Service):
    def serving(self, config, place, bridge, trouble):
        maps = Path("/proc/self/maps").read_text()
        libraries = sorted({line.split("/")[-1] for line in maps.splitlines() if "/" in line})
        print(json.dumps({"modules": sorted(sys.modules), "libraries": libraries}), flush=True)

service._Service = Looking
launched = launch.launch(Path(config_file), Path(folder))
asyncio.run(service.run(Path(config_file), Path(folder), launched))
"""


@dataclass(frozen=True)
class Daemon:
    """A daemon that serves."""

    process: int
    modules: frozenset[str]
    libraries: frozenset[str]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def daemon(
    systemd_on_bus: FakeSystemd, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Daemon]:
    folder = tmp_path_factory.mktemp("daemon")
    config_file = folder / "config.yaml"
    bridge = f"bridge: {{address: 127.0.0.1, port: {free_port()}}}\n"
    config_file.write_text(bridge + "groups: {web: {units: [httpd]}}")
    command = HelperProgram(config_file).command("serve")
    arguments = ("-c", DAEMON, str(config_file), str(folder / "state"), *command)
    process = await asyncio.create_subprocess_exec(sys.executable, *arguments, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    process.stdout._limit = 1 << 20  # type: ignore[attr-defined] # many modules in one line
    said = json.loads(await asyncio.wait_for(process.stdout.readline(), 20))
    yield Daemon(process.pid, frozenset(said["modules"]), frozenset(said["libraries"]))
    process.terminate()
    assert await process.wait() == 0


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
    names = set(json.loads(done.stdout))
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
