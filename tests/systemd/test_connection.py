"""The connection to the bus, on a private one."""

from collections.abc import Awaitable, Callable

import pytest

from hkswitch.model.errors import BusUnavailable
from hkswitch.systemd.connection import Connection
from hkswitch.systemd.signals import UNIT, Signals
from tests.support.fake_systemd import PATH, FakeSystemd
from tests.support.fixtures import bus_address, fake, systemd_on_bus

__all__ = ["bus_address", "fake", "systemd_on_bus"]


def nothing(_: object) -> None:
    pass


@pytest.mark.parametrize(
    "ask",
    [
        lambda connection: connection.properties(f"{PATH}/unit/a", UNIT),
        lambda connection: connection.property(PATH, UNIT, "Environment"),
        lambda connection: Signals(connection, ":1.0").receive(UNIT, "JobRemoved", nothing),
    ],
    ids=["properties", "a property", "signals"],
)
async def test_what_is_asked_on_a_connection_that_broke_unnoticed_says_that_there_is_no_bus(
    fake: FakeSystemd, ask: Callable[[Connection], Awaitable[object]]
) -> None:
    connection = Connection()
    connection.bus.close()
    with pytest.raises(BusUnavailable):
        await ask(connection)
    assert connection.lost.is_set()
    connection.close()
