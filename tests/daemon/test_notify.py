"""What systemd is told, and when."""

import asyncio
import os
import socket
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from hkswitch.daemon import notify
from hkswitch.daemon.notify import Notifier
from tests.support.descriptors import no_descriptors

US = str(os.getpid())


@pytest.fixture(params=["path", "abstract"])
def name(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"@hkswitch-test-{tmp_path.name}" if request.param == "abstract" else str(tmp_path / "notify")


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[socket.socket]:
    """The other end, at the path `notify`."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.setblocking(False)
        yield systemd


@pytest.fixture
def environment(systemd: socket.socket) -> Mapping[str, str]:
    return {"NOTIFY_SOCKET": systemd.getsockname()}


def heard(systemd: socket.socket) -> list[bytes]:
    """All that has come by now."""
    messages = []
    try:
        while True:
            messages.append(systemd.recv(4096))
    except BlockingIOError:
        return messages


async def next_message(systemd: socket.socket) -> bytes:
    async with asyncio.timeout(5):
        return await asyncio.get_running_loop().sock_recv(systemd, 4096)


def test_systemd_is_told(name: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(f"\0{name[1:]}" if name.startswith("@") else name)
        systemd.settimeout(5)
        Notifier({"NOTIFY_SOCKET": name}).tell(READY="1", STATUS="3 groups")
        assert systemd.recv(4096) == b"READY=1\nSTATUS=3 groups"


def test_without_systemd_nothing_happens() -> None:
    Notifier({}).tell(READY="1")


def test_a_socket_that_is_gone_is_said_and_ends_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    gone = tmp_path / "gone"
    Notifier({"NOTIFY_SOCKET": str(gone)}).tell(READY="1")
    assert caplog.messages == [f"cannot notify systemd (NOTIFY_SOCKET={gone}): No such file or directory"]


def test_systemd_is_told_without_a_file_descriptor_left(
    systemd: socket.socket, environment: Mapping[str, str]
) -> None:
    notifier = Notifier(environment)
    with no_descriptors():
        notifier.tell(WATCHDOG="1")
        notifier.tell(STATUS="the last")
    assert heard(systemd) == [b"WATCHDOG=1", b"STATUS=the last"]


def test_another_socket_in_the_same_place_is_told(tmp_path: Path, environment: Mapping[str, str]) -> None:
    notifier = Notifier(environment)
    notifier.tell(STATUS="to the first")
    (tmp_path / "notify").unlink()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as newer:
        newer.bind(str(tmp_path / "notify"))
        newer.setblocking(False)
        notifier.tell(STATUS="to the next")
        assert heard(newer) == [b"STATUS=to the next"]


def test_a_notifier_that_is_gone_leaves_nothing_open(environment: Mapping[str, str]) -> None:
    before = os.listdir("/proc/self/fd")  # noqa: PTH208 -- names are enough
    notifier = Notifier(environment)
    assert len(os.listdir("/proc/self/fd")) == len(before) + 1  # noqa: PTH208
    del notifier
    assert os.listdir("/proc/self/fd") == before  # noqa: PTH208


@pytest.mark.parametrize("ours", [{"WATCHDOG_PID": US}, {}], ids=["named", "not named"])
async def test_the_watchdog_is_fed_at_half_its_time(
    systemd: socket.socket, environment: Mapping[str, str], ours: Mapping[str, str]
) -> None:
    async with Notifier({**environment, **ours, "WATCHDOG_USEC": "600000"}).alive():
        assert await next_message(systemd) == b"WATCHDOG=1"
        fed_seconds = time.monotonic()
        assert await next_message(systemd) == b"WATCHDOG=1"
        assert 0.25 < time.monotonic() - fed_seconds < 0.6


async def test_a_loop_that_hangs_feeds_no_watchdog(
    systemd: socket.socket, environment: Mapping[str, str]
) -> None:
    async with Notifier({**environment, "WATCHDOG_USEC": "20000"}).alive():
        await next_message(systemd)
        heard(systemd)
        time.sleep(0.2)  # noqa: ASYNC251 -- it hangs
        assert heard(systemd) == []
        assert await next_message(systemd) == b"WATCHDOG=1"


async def test_a_watchdog_for_which_there_is_no_memory_is_fed_when_there_is(
    systemd: socket.socket, environment: Mapping[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither for the message, nor for the line that says so, nor for a timer."""
    left = {"tell": 1, "warning": 1, "sleep": 2}
    tell, sleep = Notifier.tell, asyncio.sleep

    def fail(name: str) -> None:
        left[name] -= 1
        if left[name] >= 0:
            raise MemoryError

    def telling(notifier: Notifier, **states: str) -> None:
        fail("tell")
        tell(notifier, **states)

    async def sleeping(delay_seconds: float) -> None:
        if delay_seconds:
            fail("sleep")
        await sleep(delay_seconds)

    monkeypatch.setattr(Notifier, "tell", telling)
    monkeypatch.setattr(notify._log, "warning", lambda *_: fail("warning"))
    monkeypatch.setattr(asyncio, "sleep", sleeping)
    async with Notifier({**environment, "WATCHDOG_USEC": "20000"}).alive():
        assert [await next_message(systemd) for _ in range(3)] == [b"WATCHDOG=1"] * 3
    assert all(calls <= 0 for calls in left.values())  # each has failed as often as it was to


@pytest.mark.parametrize(
    "watchdog",
    [
        {},
        {"WATCHDOG_USEC": "20000", "WATCHDOG_PID": "1"},
        {"WATCHDOG_USEC": "20000", "WATCHDOG_PID": ""},
        {"WATCHDOG_USEC": "0"},
        {"WATCHDOG_USEC": "-20000"},
        {"WATCHDOG_USEC": "soon"},
        {"WATCHDOG_USEC": "²"},
    ],
    ids=["none", "of another process", "of no process", "no time", "less than no time", "a word", "no digit"],
)
async def test_a_watchdog_that_is_not_ours_is_not_fed(
    systemd: socket.socket, environment: Mapping[str, str], watchdog: Mapping[str, str]
) -> None:
    notifier = Notifier({**environment, **watchdog})
    async with notifier.alive():
        await asyncio.sleep(0)  # the first sign of life is sent at once
        notifier.tell(STATUS="the last")
        assert await next_message(systemd) == b"STATUS=the last"


async def test_the_watchdog_is_not_fed_after_the_end(
    systemd: socket.socket, environment: Mapping[str, str]
) -> None:
    async with Notifier({**environment, "WATCHDOG_USEC": "20000"}).alive():
        await next_message(systemd)
    heard(systemd)
    assert asyncio.all_tasks() == {asyncio.current_task()}
