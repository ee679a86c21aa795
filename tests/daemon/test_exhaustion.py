"""Without descriptors, memory or processes: nothing ends the daemon, and nothing is left undone for ever."""

import asyncio
import errno
import os
import resource
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hkswitch.backend import child_process
from hkswitch.backend.helper_session import HelperGone, HelperSession
from hkswitch.backend.helper_transport import SudoTransport
from hkswitch.control import server
from hkswitch.daemon.bridge import Bridge, CannotServe
from hkswitch.daemon.notify import Notifier
from hkswitch.network.addresses import NetworkChanges
from hkswitch.network.endpoint import Endpoint
from tests.support.inprocess import EchoingWrites
from tests.support.ports import free_port
from tests.support.waiting import eventually

HERE, THERE = (Endpoint((address,), frozenset({1})) for address in ("127.0.0.1", "127.0.0.2"))
MOST_NEEDED = 12
"""Descriptors for a start: at the last of these numbers it works."""


@contextmanager
def descriptors_left(number: int) -> Iterator[None]:
    """Let so many be opened meanwhile."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    held = [os.open("/dev/null", os.O_RDONLY)]
    while held[-1] < held[0] + 64:  # fill the gaps
        held.append(os.dup(held[0]))
    top = held[-1]
    for descriptor in held:
        os.close(descriptor)
    open_now = {int(name) for name in os.listdir("/proc/self/fd")}  # noqa: PTH208 -- names are enough
    free = [number for number in range(top + 64) if number not in open_now]
    resource.setrlimit(resource.RLIMIT_NOFILE, (free[number], hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def go(bridge: Bridge, place: Endpoint) -> None:
    await (bridge.start(EchoingWrites(bridge), place) if place is HERE else bridge.move(place))


def readers(bridge: Bridge) -> int:
    """The mDNS sockets that it hears with."""
    advertiser = bridge._driver.presence.advertiser
    return 0 if advertiser is None else len(advertiser.zeroconf.engine.readers)


# zeroconf forgets its first socket when it cannot make the second.
@pytest.mark.filterwarnings("ignore:.*5353.*:pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("left", range(MOST_NEEDED + 1))
async def test_with_few_descriptors_a_start_and_a_move_work_or_can_be_tried_again(
    tmp_path: Path, left: int
) -> None:
    bridge = Bridge("Test", (), tmp_path, free_port())
    try:
        for place in (HERE, THERE):
            done = False
            with descriptors_left(left):
                try:
                    await go(bridge, place)
                    done = True
                except CannotServe:
                    assert left < MOST_NEEDED
            if not done:
                await go(bridge, place)
            assert readers(bridge) == 2
            assert bridge._driver.presence.advertiser.zeroconf.engine.senders
    finally:
        await bridge.stop()


async def test_a_sign_of_life_that_fails_is_not_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.setblocking(False)
        notifier = Notifier({"NOTIFY_SOCKET": systemd.getsockname(), "WATCHDOG_USEC": "20000"})
        tell, failing = notifier.tell, [True, True]

        def tell_with_little_memory(**states: str) -> None:
            if failing and failing.pop():
                raise MemoryError
            tell(**states)

        monkeypatch.setattr(notifier, "tell", tell_with_little_memory)
        async with notifier.alive(), asyncio.timeout(5):
            assert await asyncio.get_running_loop().sock_recv(systemd, 64) == b"WATCHDOG=1"
    assert caplog.messages == ["cannot notify systemd's watchdog: MemoryError()"] * 2


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.EMFILE, "Too many open files"),
        BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
    ],
    ids=["descriptors", "processes", "memory"],
)
async def test_a_helper_that_cannot_be_started_is_gone_and_may_be_started_later(
    monkeypatch: pytest.MonkeyPatch, error: OSError
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(child_process, "spawn", fails)
    session = HelperSession(lambda _: None, lambda _: None)
    with pytest.raises(HelperGone, match=str(error.strerror)):
        await SudoTransport(["true"]).open(session)


@pytest.mark.parametrize("number", [errno.ENOBUFS, errno.ENOMEM])
async def test_news_of_the_network_that_the_kernel_had_no_room_for_are_news(number: int) -> None:
    errors = [OSError(number, os.strerror(number)), BlockingIOError()]

    class Full(socket.socket):
        def recvfrom(self, *_: object) -> tuple[bytes, tuple[int, int]]:
            raise errors.pop(0)

    with Full() as news:
        changes = NetworkChanges(news)
        changes.drain()
        async with asyncio.timeout(5):
            await changes.wait()


async def test_a_client_that_cannot_be_told_apart_is_closed_and_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(_: socket.socket) -> None:
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    monkeypatch.setattr(server, "peer_of", fails)
    path = tmp_path / "control.sock"
    async with server.served(path, None):  # type: ignore[arg-type] # nobody gets to ask it anything
        reader, writer = await asyncio.open_unix_connection(path)
        async with asyncio.timeout(5):
            assert await reader.read() == b""
        writer.close()
    await eventually(
        lambda: caplog.messages == ["cannot identify a client of the control socket: Cannot allocate memory"]
    )
