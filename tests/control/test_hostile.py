"""Both ends of the control socket against each other: who crowds it, and who only pretends to be a daemon."""

import asyncio
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from hkswitch.control import PRIVILEGED_NAME, client, server
from hkswitch.control.client import Disconnected, NoAnswer, PendingRequest, TooSlow
from hkswitch.control.server import served
from hkswitch.hap.state_file import with_rights
from hkswitch.model.errors import Exit, Failure
from hkswitch.model.unit_state import Action
from hkswitch.protocol.control import (
    Controllers,
    ControlReply,
    ControlRequest,
    Operation,
    Progress,
    Status,
    encode_control_reply,
)
from hkswitch.protocol.report import PairedController, Report
from tests.support.pairings import ADMIN, NotedPairings, folder_for_all_users
from tests.support.waiting import wait_until

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

NOBODY = 65534
GROUP_ID = 61_234
PAIRED = (PairedController(ADMIN, admin=True, connections=1),)
START = ControlRequest(Operation.ACT, action=Action.START, group="web")
STATUS = encode_control_reply(Status(Report(None, ())))
BEGUN, DONE = encode_control_reply(Progress.BEGUN), encode_control_reply(Progress.DONE)


@pytest.fixture
def path() -> Iterator[Path]:
    with folder_for_all_users() as folder:
        yield folder / "control.sock"


@contextmanager
def as_user(user_id: int, group_id: int = NOBODY, groups: tuple[int, ...] = ()) -> Iterator[None]:
    """Connect or listen as another user: the kernel notes who a process is at that moment."""
    with with_rights(user_id, group_id, groups):
        yield


async def ask(path: Path, question: ControlRequest) -> ControlReply:
    """The command line's end blocks, so it asks from a thread."""
    return await asyncio.to_thread(client.ask, path, question)


# A place that others cannot take


FLOOD = """
import os, socket, sys
os.setgroups([]); os.setgid(1234); os.setuid(1234)
waiting = []
while True:
    one = socket.socket(socket.AF_UNIX)
    one.setblocking(False)
    try:
        one.connect(sys.argv[1])
        waiting.append(one)
    except OSError:
        one.close()
    if len(waiting) > 300:
        waiting.pop(0).close()
"""


@contextmanager
def flooded(path: Path) -> Iterator[None]:
    """Another user has three processes that do nothing but connect; wait until the queue is full."""
    floods = [subprocess.Popen([sys.executable, "-I", "-c", FLOOD, str(path)]) for _ in range(3)]
    try:
        deadline_seconds = time.monotonic() + 20
        while True:
            with socket.socket(socket.AF_UNIX) as one, suppress(BlockingIOError):
                one.setblocking(False)
                one.connect(str(path))
                assert time.monotonic() < deadline_seconds, "the queue never was full"
                continue
            break
        yield
    finally:
        for flood in floods:
            flood.kill()
            flood.wait()


@contextmanager
def crowded(path: Path) -> Iterator[int]:
    """As many wait to be accepted as the kernel lets wait."""
    with ExitStack() as stack:
        count = 0
        while True:
            waiting = stack.enter_context(socket.socket(socket.AF_UNIX))
            waiting.setblocking(False)
            try:
                waiting.connect(str(path))
            except (BlockingIOError, PermissionError):
                break
            count += 1
        yield count


@needs_root
@pytest.mark.parametrize(
    ("user_id", "group_id", "groups", "mode"),
    [
        (0, 0, (), 0o660),
        (NOBODY, GROUP_ID, (), 0o660),
        (NOBODY, NOBODY, (4, GROUP_ID), 0o660),
        (0, 0, (), 0o600),
    ],
    ids=["root", "primary", "supplementary", "root without the group"],
)
async def test_who_may_change_anything_is_served_while_another_user_fills_the_queue(
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    user_id: int,
    group_id: int,
    groups: tuple[int, ...],
    mode: int,
) -> None:
    monkeypatch.setattr(server, "_group_id", lambda: GROUP_ID if mode == 0o660 else None)
    async with served(path, NotedPairings(PAIRED)):
        assert path.with_name(PRIVILEGED_NAME).stat().st_mode & 0o777 == mode

        def flood_and_ask() -> None:
            with flooded(path), as_user(user_id, group_id, groups):
                for _ in range(20):
                    assert client.ask(path, ControlRequest(Operation.CONTROLLERS)) == Controllers(PAIRED)

        await asyncio.to_thread(flood_and_ask)
        with as_user(NOBODY):  # behind all that waited, and so they are gone when this is answered
            await asyncio.to_thread(wait_until, lambda: answers(path))


def answers(path: Path) -> bool:
    with suppress(Failure):
        return client.ask(path, ControlRequest(Operation.CONTROLLERS)) == Controllers(PAIRED)
    return False


@needs_root
@pytest.mark.parametrize("group_id", [None, GROUP_ID])
async def test_another_user_cannot_wait_at_the_socket_of_those_who_may(
    path: Path, monkeypatch: pytest.MonkeyPatch, group_id: int | None
) -> None:
    monkeypatch.setattr(server, "_group_id", lambda: group_id)
    async with served(path, NotedPairings(PAIRED)):
        privileged = path.with_name(PRIVILEGED_NAME)
        with as_user(NOBODY, 0, (0,)), crowded(privileged) as count:
            assert count == 0
        with as_user(NOBODY):
            assert await ask(path, ControlRequest(Operation.CONTROLLERS)) == Controllers(PAIRED)


@needs_root
async def test_without_the_right_to_give_the_socket_away_it_is_for_its_user_alone(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "_group_id", lambda: GROUP_ID)
    path.parent.chmod(0o777)
    with as_user(NOBODY):
        async with served(path, NotedPairings(PAIRED)):
            assert path.with_name(PRIVILEGED_NAME).stat().st_mode & 0o777 == 0o600
            assert await ask(path, ControlRequest(Operation.CONTROLLERS)) == Controllers(PAIRED)


async def test_a_queue_that_is_full_is_waited_for_as_long_as_an_answer(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "REPLY_WITHIN_SECONDS", 0.3)
    with listening(path) as _, crowded(path) as count:
        assert count > 0
        begun_seconds = time.monotonic()
        with pytest.raises(TooSlow):
            await ask(path, ControlRequest(Operation.STATUS))
        assert time.monotonic() - begun_seconds < 5


@contextmanager
def listening(path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        path.chmod(0o666)
        listener.listen(1)
        yield listener


# One that only pretends to be the daemon


@contextmanager
def pretending(path: Path, *acts: Callable[[socket.socket], None]) -> Iterator[list[bytes]]:
    """What listens and does one act with each connection, the last one with all others; what it was asked."""
    asked: list[bytes] = []
    over = threading.Event()

    def serve(listener: socket.socket) -> None:
        count = 0
        with suppress(OSError), ExitStack() as kept:
            while not over.is_set():
                connection = kept.enter_context(listener.accept()[0])
                connection.settimeout(5)
                asked.append(connection.recv(4096))
                act = acts[min(count, len(acts) - 1)]
                count += 1
                threading.Thread(target=_quietly, args=(act, connection), daemon=True).start()

    with listening(path) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        try:
            yield asked
        finally:
            over.set()
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            thread.join(10)


def _quietly(act: Callable[[socket.socket], None], connection: socket.socket) -> None:
    with suppress(OSError):
        act(connection)


def sends(*parts: bytes) -> Callable[[socket.socket], None]:
    """Says this and hangs up."""

    def act(connection: socket.socket) -> None:
        for part in parts:
            connection.sendall(part)
        connection.shutdown(socket.SHUT_RDWR)

    return act


def says(*parts: bytes) -> Callable[[socket.socket], None]:
    """Says this and no more."""

    def act(connection: socket.socket) -> None:
        for part in parts:
            connection.sendall(part)

    return act


def trickle(connection: socket.socket) -> None:
    while True:
        connection.sendall(b" ")
        time.sleep(0.01)


def flood(connection: socket.socket) -> None:
    while True:
        connection.sendall(BEGUN * 100)


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "REPLY_WITHIN_SECONDS", 0.5)
    monkeypatch.setattr(client, "CHECK_EVERY_SECONDS", 0.1)
    monkeypatch.setattr(client, "LONGEST_WAIT_SECONDS", 1.0)


def started(path: Path) -> str:
    with PendingRequest(path, START) as asked:
        return asked.end()


@pytest.mark.parametrize(
    ("acts", "error"),
    [
        ((says(),), TooSlow),
        ((says(BEGUN), says(BEGUN)), Failure),
        ((says(BEGUN), says()), TooSlow),
        ((trickle,), NoAnswer),
        ((flood,), Failure),
        ((says(BEGUN), says(STATUS)), Failure),
        ((trickle, says(STATUS)), Failure),
        ((says(b"x" * 5000),), TooSlow),
        ((sends(BEGUN),), Disconnected),
        ((says(STATUS),), Failure),
        ((says(BEGUN), sends(b"")), Failure),
    ],
    ids=[
        "silent",
        "begun, and nothing else",
        "silent once begun",
        "a byte at a time",
        "begun without end",
        "never done, and alive",
        "a byte at a time, and alive",
        "half a line",
        "hangs up",
        "answers another question",
        "never done, and without room",
    ],
)
async def test_no_pretended_daemon_keeps_a_start_waiting(
    path: Path, hurried: None, acts: tuple[Callable[[socket.socket], None], ...], error: type[Failure]
) -> None:
    with pretending(path, *acts):
        begun_seconds = time.monotonic()
        with pytest.raises(error):
            await asyncio.to_thread(started, path)
        assert time.monotonic() - begun_seconds < 5


async def test_a_start_that_takes_long_is_waited_for_while_the_daemon_lives(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "CHECK_EVERY_SECONDS", 0.05)
    daemon = NotedPairings()
    async with served(path, daemon):
        waiting = asyncio.create_task(asyncio.to_thread(started, path))
        await asyncio.sleep(0.5)  # several times the time after which it asks again
        assert not waiting.done()
        daemon.ended.set()
        assert await waiting == ""


@pytest.mark.parametrize("part", [STATUS[:20], b""])
async def test_who_watches_waits_for_the_next_report_and_not_for_half_of_one(
    path: Path, hurried: None, part: bytes
) -> None:
    with pretending(path, says(STATUS, part)):
        reports = client.watch(path)
        assert await asyncio.to_thread(next, reports) == Report(None, ())
        following = asyncio.create_task(asyncio.to_thread(next, reports, None))
        if part:
            with pytest.raises(TooSlow):
                await following
        else:
            await asyncio.sleep(1)
            assert not following.done()
    with suppress(Failure):
        await following


@needs_root
@pytest.mark.parametrize("name", ["control.sock", PRIVILEGED_NAME])
@pytest.mark.parametrize(
    ("listener", "owner", "asker", "trusted"),
    [
        (NOBODY, 0, 0, False),
        (NOBODY, 1234, 0, False),
        (NOBODY, 0, 1234, False),
        (NOBODY, NOBODY, 0, True),
        (0, NOBODY, 0, True),
        (0, 0, NOBODY, True),
        (NOBODY, 0, NOBODY, True),
    ],
    ids=str,
)
async def test_only_roots_the_askers_or_the_folders_owners_daemon_is_asked(
    path: Path, *, name: str, listener: int, owner: int, asker: int, trusted: bool
) -> None:
    path.parent.chmod(0o777)
    with as_user(listener):
        waiting = pretending(path.with_name(name), says(encode_control_reply(Controllers(PAIRED))))
        asked = waiting.__enter__()
    try:
        os.chown(path.parent, owner, owner)
        with as_user(asker):
            if trusted:
                assert await ask(path, ControlRequest(Operation.CONTROLLERS)) == Controllers(PAIRED)
            else:
                with pytest.raises(Failure, match=f"user {listener} listens there") as caught:
                    await ask(path, ControlRequest(Operation.CONTROLLERS))
                assert caught.value.exit_code is Exit.DENIED
        assert bool(b"".join(asked)) is trusted
    finally:
        waiting.__exit__(None, None, None)
