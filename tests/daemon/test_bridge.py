"""A bridge that cannot go online now, and can later."""

import asyncio
import socket
from asyncio.constants import ACCEPT_RETRY_DELAY
from pathlib import Path
from typing import Any

import pytest

from hkswitch.daemon import logs
from hkswitch.daemon.bridge import Bridge, CannotServe
from hkswitch.network.endpoint import Endpoint
from tests.support.descriptors import no_descriptors
from tests.support.inprocess import EchoingWrites
from tests.support.ports import free_port
from tests.support.waiting import eventually

HERE, THERE = (Endpoint((address,), frozenset({1})) for address in ("127.0.0.1", "127.0.0.2"))


async def is_served(place: Endpoint, port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection(place.addresses[0], port)
    except ConnectionRefusedError:
        return False
    writer.transport.abort()
    return True


async def test_without_a_file_descriptor_a_bridge_cannot_serve_and_may_try_again(tmp_path: Path) -> None:
    port = free_port()
    bridge = Bridge("Test", (), tmp_path, port)
    try:
        for _ in range(2):
            with no_descriptors(), pytest.raises(CannotServe) as caught:
                await bridge.start(EchoingWrites(bridge), HERE)
            assert not caught.value.in_use
        await bridge.start(EchoingWrites(bridge), HERE)
        assert await is_served(HERE, port)
        for _ in range(2):
            with no_descriptors(), pytest.raises(CannotServe):
                await bridge.move(THERE)
        await bridge.move(THERE)
        assert (await is_served(HERE, port), await is_served(THERE, port)) == (False, True)
    finally:
        await bridge.stop()


async def test_without_a_file_descriptor_phones_wait_and_the_processor_is_idle(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    port, failed, said_once = free_port(), [0], logs.of_loop()
    loop = asyncio.get_running_loop()

    def count(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        failed[0] += 1
        said_once(loop, context)

    loop.set_exception_handler(count)
    bridge = Bridge("Test", (), tmp_path, port)
    try:
        await bridge.start(EchoingWrites(bridge), HERE)
        caplog.clear()
        sockets = [socket.socket() for _ in range(3)]
        with no_descriptors():
            for waiting in sockets:
                waiting.connect((HERE.addresses[0], port))
            begun_seconds = loop.time()
            await eventually(lambda: failed[0] >= 3)
        rounds = (loop.time() - begun_seconds) / ACCEPT_RETRY_DELAY + 1
        assert failed[0] <= 2 * rounds
        assert caplog.messages == ["cannot accept connections: Too many open files"]
        for waiting in sockets:
            reader, writer = await asyncio.open_connection(sock=waiting)
            writer.write(b"GET /moon HTTP/1.1\r\nHost: bridge\r\n\r\n")
            assert (await asyncio.wait_for(reader.readline(), 5)).startswith(b"HTTP/1.1 404")
            writer.transport.abort()
    finally:
        await bridge.stop()
