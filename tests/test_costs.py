"""What can get worse without a clock: processes, calls over the bus, lines to the helper, imports."""

import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from hkswitch.backend.helper_client import Helper
from hkswitch.backend.helper_transport import Process
from hkswitch.backend.local import LocalHost
from hkswitch.daemon.bridge import Bridge
from hkswitch.daemon.switchboard import Switchboard
from hkswitch.model.group import Group
from tests.conftest import child_processes
from tests.support.command import HKSWITCH
from tests.support.controller import Controller
from tests.support.fake_systemd import FakeSystemd, Unit
from tests.support.fixtures import bus_address, fake, systemd_on_bus
from tests.support.helper import HelperProgram
from tests.support.ports import LOOPBACK, free_port
from tests.support.waiting import eventually

__all__ = ["bus_address", "fake", "systemd_on_bus"]

MANY = 20
GROUPS = (
    Group("web", "Web", ("httpd.service",)),
    Group("files", "Files", ("smb.service", "nmb.service", "netatalk.service")),
    *(Group(f"s{n}", f"Switch {n}", (f"s{n}.service",)) for n in range(MANY)),
)
UNITS = tuple(unit for group in GROUPS for unit in group.units)
SWITCHES = tuple(group.name for group in GROUPS[2:])
CONFIG = "groups:\n" + "".join(f"  {group.id}: {{units: [{', '.join(group.units)}]}}\n" for group in GROUPS)
READ = "ListUnitsByNames"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(
    systemd_on_bus: FakeSystemd, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Controller]:
    """A paired controller; a bridge on loopback, a real helper process, and the fake systemd behind both."""
    folder = tmp_path_factory.mktemp("costs")
    config_file = folder / "config.yaml"
    config_file.write_text(CONFIG)
    systemd_on_bus.reset(*map(Unit, UNITS))
    port = free_port()
    helper = Helper(Process(HelperProgram(config_file).command("serve")))
    host = LocalHost(GROUPS, helper)
    bridge = Bridge("Test Bridge", GROUPS, folder / "state", port)
    switchboard = Switchboard(GROUPS, host, bridge)
    await host.open(switchboard)
    await eventually(lambda: helper.is_ready)
    await bridge.start(switchboard, LOOPBACK)
    controller = await Controller.pair(LOOPBACK.addresses[0], port, bridge.setup.code)
    yield controller
    await controller.close()
    await bridge.stop()
    await switchboard.close()
    await host.close()


@pytest.fixture
def controller(served: Controller, fake: FakeSystemd) -> Controller:
    """The same, with every unit there and no call made yet."""
    fake.reset(*map(Unit, UNITS))
    return served


def calls(fake: FakeSystemd) -> list[tuple[str, ...]]:
    """The methods of systemd that were called, and with what units."""
    return [tuple(word for word in call if word != "replace") for call in fake.calls]


# A tap


@pytest.mark.parametrize("group", GROUPS[:2], ids=lambda group: group.id)
async def test_a_tap_is_one_call_for_each_unit_and_at_most_one_read_of_these(
    controller: Controller, fake: FakeSystemd, group: Group
) -> None:
    read = (READ, *group.units)  # where signals told of the ends of the jobs in time, there is none
    started = [("StartUnit", unit) for unit in group.units]
    stopped = [("StopUnit", unit) for unit in group.units[::-1]]
    assert await controller.write(group.name, on=True) == 0
    assert calls(fake) in (started, [*started, read])
    fake.calls.clear()
    assert await controller.write(group.name, on=False) == 0
    assert calls(fake) in (stopped, [*stopped, read])


async def test_a_tap_starts_no_process(controller: Controller) -> None:
    before = child_processes()
    assert await controller.write("Web", on=True) == 0
    assert await controller.write("Web", on=False) == 0
    assert child_processes() == before


async def test_many_taps_in_one_request_read_no_unit_twice(controller: Controller, fake: FakeSystemd) -> None:
    assert set((await controller.write_all(dict.fromkeys(SWITCHES, True))).values()) == {0}
    read = [unit for method, *units in calls(fake) if method == READ for unit in units]
    assert len(read) == len(set(read))
    assert set(read) <= set(UNITS[-MANY:])


# A read


async def test_a_read_calls_nothing_and_starts_nothing(controller: Controller, fake: FakeSystemd) -> None:
    before = child_processes()
    await controller.read("Web")
    await controller.read_all(SWITCHES)
    assert calls(fake) == []
    assert child_processes() == before


# A unit that changes by itself


async def test_a_change_from_outside_calls_nothing(controller: Controller, fake: FakeSystemd) -> None:
    fake.change("httpd.service", "active", "running")
    await controller.until_on_is("Web", on=True)
    fake.change("httpd.service", "inactive", "dead")
    await controller.until_on_is("Web", on=False)
    assert calls(fake) == []


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


def test_the_helper_imports_yaml_and_sdbus_of_others_and_its_own_rooms() -> None:
    found = imported("-m", "hkswitch.serviceswitch", "--version")
    assert foreign(found) == {"yaml", "sdbus"}
    assert rooms(found) == {"model", "openssl", "protocol", "serviceswitch", "systemd"}


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


@pytest.mark.parametrize(
    ("options", "packages"),
    [(("--json",), {"click"}), ((), {"click", "rich"})],
    ids=["json", "table"],
)
def test_status_imports_what_it_shows_with_and_no_bus_and_no_homekit(
    demo: Path, options: tuple[str, ...], packages: set[str]
) -> None:
    found = imported(HKSWITCH, "status", "--state-dir", demo, *options)
    assert foreign(found) == packages
    assert not found & WIDE
    assert not rooms(found) & {
        "homekit",
        "systemd",
        "hosts",
        "serviceswitch",
        "doctor",
        "daemon",
        "switchboard",
    }
