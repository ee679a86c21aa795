"""The connection to the bus, on a private one."""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from hkswitch.model.errors import BusUnavailable
from hkswitch.systemd.connection import BusConnection, bus_itself
from hkswitch.systemd.interface import UNIT_INTERFACE
from hkswitch.systemd.signals import Signals
from tests.support.fake_systemd import PATH, FakeSystemd
from tests.support.fixtures import VARIABLE, bus_address, fake, systemd_on_bus
from tests.support.waiting import eventually

__all__ = ["bus_address", "fake", "systemd_on_bus"]


def descriptors() -> set[str]:
    """Those of this process."""
    return {file.name for file in Path("/proc/self/fd").iterdir()}


@pytest.fixture
def silent_bus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """A bus that lets everybody connect, and does nothing more."""
    path = str(tmp_path / "bus")
    monkeypatch.setenv(VARIABLE, f"unix:path={path}")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen()
        yield listening


def nothing(_: object) -> None:
    pass


@pytest.mark.parametrize(
    "ask",
    [
        lambda connection: connection.properties(f"{PATH}/unit/a", UNIT_INTERFACE),
        lambda connection: connection.property(PATH, UNIT_INTERFACE, "Environment"),
        lambda connection: Signals(connection, ":1.0").receive(UNIT_INTERFACE, "JobRemoved", nothing),
    ],
    ids=["properties", "a property", "signals"],
)
async def test_what_is_asked_on_a_connection_that_broke_unnoticed_says_that_there_is_no_bus(
    fake: FakeSystemd, ask: Callable[[BusConnection], Awaitable[object]]
) -> None:
    connection = BusConnection()
    connection.bus.close()
    with pytest.raises(BusUnavailable):
        await ask(connection)
    assert connection.lost.is_set()
    connection.close()


@pytest.mark.parametrize("given_up", [False, True], ids=["calls wait", "some were given up"])
@pytest.mark.parametrize("is_gone", [False, True], ids=["a bus that hangs", "a bus that went away"])
async def test_what_is_closed_while_it_connects_leaves_no_error_and_no_descriptor(
    silent_bus: socket.socket, is_gone: bool, given_up: bool
) -> None:
    loop, errors = asyncio.get_running_loop(), list[str]()
    loop.set_exception_handler(lambda _, context: errors.append(str(context)))
    before = descriptors()
    connection = BusConnection()
    bus = bus_itself(connection.bus)
    calls = [asyncio.create_task(connection.call(bus.get_name_owner("x.y"))) for _ in range(9)]
    await asyncio.sleep(0)
    for call in calls[::2] if given_up else ():
        call.cancel()
    if is_gone:
        silent_bus.close()
    connection.close()
    ends = await asyncio.gather(*calls, return_exceptions=True)
    assert not [end for end in ends if not isinstance(end, BaseException)]
    await eventually(lambda: descriptors() <= before)
    loop.set_exception_handler(None)
    assert not errors


async def test_a_file_that_another_thread_closes_meanwhile_keeps_nobody_from_the_bus(
    fake: FakeSystemd, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = Path.iterdir
    gone = Path("/proc/self/fd/1000000")
    monkeypatch.setattr(Path, "iterdir", lambda folder: iter([gone, *listed(folder)]))
    connection = BusConnection()
    assert (
        await connection.property(PATH, f"{UNIT_INTERFACE.rpartition('.')[0]}.Manager", "Environment")
        is not None
    )
    connection.close()
