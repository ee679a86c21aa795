"""Listening sockets that move from one endpoint to another, without accepting connections in between."""

import asyncio
import errno
from asyncio import selector_events
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from hkswitch.hap.sockets import ListeningSockets
from hkswitch.network.endpoint import Endpoint
from tests.support.descriptors import no_descriptors
from tests.support.ports import free_port
from tests.support.waiting import PATIENCE_SECONDS

ONE, TWO, THREE, BOTH = (
    Endpoint(addresses, frozenset({1}))
    for addresses in (("127.0.0.1",), ("127.0.0.2",), ("127.0.0.3",), ("127.0.0.1", "127.0.0.2"))
)
NOT_HERE = Endpoint(("127.0.0.1", "192.0.2.1"), frozenset({1}))


class Taken(asyncio.Protocol):
    """Says that it was taken."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(b"taken")
        transport.close()


class House:
    """The listening sockets, and the addresses that accept connections."""

    def __init__(self) -> None:
        self.port = free_port()
        self.listening = ListeningSockets(asyncio.get_running_loop(), self.port, Taken)

    async def is_open(self, address: str) -> bool:
        try:
            reader, writer = await asyncio.open_connection(address, self.port)
        except ConnectionRefusedError:
            return False
        try:
            return await asyncio.wait_for(reader.read(), PATIENCE_SECONDS) == b"taken"
        except ConnectionResetError:
            return False
        finally:
            writer.transport.abort()

    async def where(self) -> list[str]:
        return [ip for ip in ("127.0.0.1", "127.0.0.2", "127.0.0.3") if await self.is_open(ip)]


@pytest_asyncio.fixture
async def house() -> AsyncIterator[House]:
    made = House()
    yield made
    made.listening.close()


@pytest.mark.parametrize("before", [None, ONE, TWO, BOTH], ids=str)
@pytest.mark.parametrize("after", [ONE, THREE, BOTH], ids=str)
async def test_after_a_move_it_listens_there_and_nowhere_else(
    house: House, before: Endpoint | None, after: Endpoint
) -> None:
    if before is not None:
        await house.listening.move(before)
    await house.listening.move(after)
    assert await house.where() == [*after.addresses]
    house.listening.close()
    assert await house.where() == []
    await house.listening.move(after)
    assert await house.where() == [*after.addresses]


@pytest.mark.parametrize("before", [None, TWO, BOTH], ids=str)
async def test_after_a_move_that_fails_it_listens_where_it_did(house: House, before: Endpoint | None) -> None:
    if before is not None:
        await house.listening.move(before)
    with pytest.raises(OSError, match="assign") as caught:
        await house.listening.move(NOT_HERE)
    assert caught.value.errno == errno.EADDRNOTAVAIL
    assert await house.where() == [*(before.addresses if before is not None else ())]


async def test_a_move_without_a_descriptor_can_be_tried_again(house: House) -> None:
    await house.listening.move(ONE)
    with no_descriptors(), pytest.raises(OSError, match="Too many open files"):
        await house.listening.move(BOTH)
    assert await house.where() == ["127.0.0.1"]
    await house.listening.move(BOTH)
    assert await house.where() == ["127.0.0.1", "127.0.0.2"]


# asyncio drops such a socket, and Python closes it then.
@pytest.mark.filterwarnings("ignore:Exception ignored .* <socket:pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(("leaves", "is_taken"), [(True, False), (False, True)], ids=["leaves", "stays"])
async def test_who_was_accepted_in_the_moment_in_which_it_leaves_is_not_let_in(
    house: House, monkeypatch: pytest.MonkeyPatch, *, leaves: bool, is_taken: bool
) -> None:
    loop_of_sockets = selector_events.BaseSelectorEventLoop
    accept = loop_of_sockets._accept_connection2  # type: ignore[attr-defined] # asyncio's own

    async def accept_late(*arguments: Any, **options: Any) -> None:  # noqa: ANN401 -- any function's
        if leaves:
            house.listening.close()
        await accept(*arguments, **options)

    await house.listening.move(ONE)
    monkeypatch.setattr(loop_of_sockets, "_accept_connection2", accept_late)
    assert await house.is_open("127.0.0.1") == is_taken
