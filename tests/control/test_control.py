"""The control socket: who may do what, and that no client harms another or the daemon."""

import asyncio
import json
import os
import socket
from asyncio.constants import ACCEPT_RETRY_DELAY
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from hkswitch.control import client, server, socket_of
from hkswitch.control.client import NoAnswer, NoDaemon, PendingRequest, Unreachable
from hkswitch.control.pairings import reply_to
from hkswitch.control.peer_credentials import Peer
from hkswitch.control.server import (
    MOST_CLIENTS,
    MOST_OF_A_USER,
    MOST_UNPRIVILEGED,
    is_privileged,
    served,
)
from hkswitch.daemon import logs
from hkswitch.model.errors import Exit, Failure
from hkswitch.model.unit_state import Action
from hkswitch.protocol.alert_report import AlertReport
from hkswitch.protocol.control import (
    LONGEST_CONTROL_REPLY_BYTES,
    LONGEST_CONTROL_REQUEST_BYTES,
    Controllers,
    ControlReply,
    ControlRequest,
    ErrorReply,
    LastAlerts,
    Operation,
    Progress,
    SetupInfo,
    Status,
    encode_control_reply,
    encode_control_request,
    parse_control_reply,
)
from hkswitch.protocol.report import GroupReport, PairedController, Report
from tests.support.descriptors import no_descriptors
from tests.support.pairings import ADMIN, USER, Broken, NotedPairings, folder_for_all_users
from tests.support.waiting import eventually

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

NOBODY = 65534
GROUP_ID = 61_234
PAIRED = (PairedController(ADMIN, admin=True, connections=1), PairedController(USER, admin=False))
ALERTS = (AlertReport("web", "Web", "httpd.service failed", 5), AlertReport("nas", "", "failed", 1, 2))
LOOK = encode_control_request(ControlRequest(Operation.CONTROLLERS))

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@pytest.fixture
def path() -> Iterator[Path]:
    with folder_for_all_users() as folder:
        yield folder / "control.sock"


@contextmanager
def as_user(user_id: int, group_id: int = NOBODY, groups: tuple[int, ...] = ()) -> Iterator[None]:
    """Connect as another user: the kernel notes who a process is when it connects."""
    before = os.getgroups()
    os.setgroups(groups)
    os.setegid(group_id)
    os.seteuid(user_id)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(before)


@asynccontextmanager
async def connected(path: Path) -> AsyncIterator[Connection]:
    client = socket.socket(socket.AF_UNIX)
    client.connect(str(path))  # at once: the backlog has room, and the user may change after it
    reader, writer = await asyncio.open_unix_connection(sock=client, limit=LONGEST_CONTROL_REPLY_BYTES)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def is_closed(reader: asyncio.StreamReader) -> bool:
    """Whether the daemon closed within a moment; a reset is an end too."""
    with suppress(ConnectionError):
        assert await asyncio.wait_for(reader.read(), 5) == b""
    return True


async def said(connection: Connection, line: bytes) -> ControlReply:
    reader, writer = connection
    writer.write(line)
    return parse_control_reply(await asyncio.wait_for(reader.readline(), 5))


async def ask(path: Path, question: ControlRequest) -> ControlReply:
    """The command line's end blocks, so it asks from a thread."""
    return await asyncio.to_thread(client.ask, path, question)


async def act(path: Path, action: Action, group_id: str, *, wait: bool) -> str:
    """What the command line notes of an action."""
    return await end(path, ControlRequest(Operation.ACT, action=action, group=group_id), wait=wait)


async def end(path: Path, question: ControlRequest, *, wait: bool = True) -> str:
    def do() -> str:
        with PendingRequest(path, question) as asked:
            return asked.end(wait=wait)

    return await asyncio.to_thread(do)


async def answered(path: Path, question: ControlRequest) -> ControlReply:
    """Any answer but a failure."""

    def do() -> ControlReply:
        with PendingRequest(path, question) as asked:
            return asked.reply(5)

    return await asyncio.to_thread(do)


# Who may


@pytest.mark.parametrize(
    ("peer", "group_id", "may"),
    [
        (Peer(0, 0), GROUP_ID, True),
        (Peer(0, 0), None, True),
        (Peer(990, 990), None, True),  # the daemon's own user
        (Peer(1000, GROUP_ID), GROUP_ID, True),
        (Peer(1000, 1000, frozenset({27, GROUP_ID})), GROUP_ID, True),
        (Peer(1000, 1000), GROUP_ID, False),
        (Peer(1000, 1000, frozenset({27, 100})), GROUP_ID, False),
        (Peer(1000, 1000, frozenset({27})), None, False),
        (Peer(1000, 0, frozenset({0})), GROUP_ID, False),  # root's group is not root
        (Peer(1000, 0, frozenset({0})), None, False),
        (Peer(GROUP_ID, 990), GROUP_ID, False),  # a user's number is not a group's
    ],
    ids=str,
)
def test_who_may_change_anything(peer: Peer, group_id: int | None, may: bool) -> None:
    assert is_privileged(peer, 990, group_id) is may


@pytest.mark.parametrize(
    ("state_folder", "path"),
    [
        ("/var/lib/hkswitch", "/run/hkswitch/control.sock"),
        ("/var/lib/hkswitch/", "/run/hkswitch/control.sock"),
        ("/var/lib/hkswitch/demo", "/var/lib/hkswitch/demo/control.sock"),
        ("/home/x/.local/state/hkswitch-demo", "/home/x/.local/state/hkswitch-demo/control.sock"),
        (".", "control.sock"),
    ],
)
def test_a_state_folder_of_its_own_has_a_socket_of_its_own(state_folder: str, path: str) -> None:
    assert socket_of(Path(state_folder)) == Path(path)


# What is answered


@pytest.mark.parametrize(
    ("question", "expected", "done"),
    [
        (ControlRequest(Operation.CONTROLLERS), Controllers(PAIRED), []),
        (ControlRequest(Operation.SETUP), NotedPairings(PAIRED).setup_info(), []),
        (ControlRequest(Operation.UNPAIR, USER), Progress.DONE, [USER]),
        (ControlRequest(Operation.UNPAIR), Progress.DONE, [None]),
        (ControlRequest(Operation.RESET_ATTEMPTS), Progress.DONE, ["reset"]),
    ],
    ids=str,
)
async def test_each_question_has_its_answer(
    path: Path, question: ControlRequest, expected: object, done: list[str | None]
) -> None:
    pairings = NotedPairings(PAIRED)
    assert reply_to(question, pairings) == expected
    assert pairings.done == done
    pairings = NotedPairings(PAIRED)
    async with served(path, pairings):
        assert await ask(path, question) == expected
    assert pairings.done == done


@pytest.mark.parametrize(
    "question", [ControlRequest(Operation.UNPAIR, USER), ControlRequest(Operation.RESET_ATTEMPTS)], ids=str
)
async def test_a_failure_comes_back_with_its_exit_code(path: Path, question: ControlRequest) -> None:
    pairings = NotedPairings(PAIRED, error=Broken())
    assert reply_to(question, pairings) == ErrorReply(Exit.CANNOT_WRITE, str(Broken()))
    async with served(path, pairings):
        with pytest.raises(Failure, match=r"cannot write /ä; : No space left on device") as caught:
            await ask(path, question)
    assert caught.value.exit_code is Exit.CANNOT_WRITE


@pytest.mark.parametrize("note", ["", "changes to bridge.port take effect after a restart", "ä\x1b[2J"])
async def test_a_reload_comes_back_with_what_is_noted(path: Path, note: str) -> None:
    daemon = NotedPairings(note=note)
    async with served(path, daemon):
        assert await end(path, ControlRequest(Operation.RELOAD)) == note.replace("\x1b", "?")
    assert daemon.done == ["reload"]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (Broken(), "not reloaded: cannot write /ä; : No space left on device"),
        (
            Failure("a.yaml:1:1: no\na.yaml:2:1: no", Exit.CONFIG),
            "not reloaded: a.yaml:1:1: no; a.yaml:2:1: no",
        ),
    ],
    ids=["cannot write", "mistakes"],
)
async def test_a_reload_that_fails_comes_back_with_its_exit_code_and_reason(
    path: Path, error: Failure, reason: str
) -> None:
    async with served(path, NotedPairings(error=error)):
        with pytest.raises(Failure) as caught:
            await end(path, ControlRequest(Operation.RELOAD))
    assert (caught.value.exit_code, str(caught.value)) == (error.exit_code, reason)


async def test_a_client_may_ask_several_times(path: Path) -> None:
    async with served(path, NotedPairings(PAIRED)), connected(path) as client:
        client[1].write(LOOK[:5])
        assert await said(client, LOOK[5:]) == Controllers(PAIRED)
        assert await said(client, LOOK + LOOK) == Controllers(PAIRED)
        assert await said(client, b"") == Controllers(PAIRED)


# Other users


@pytest.fixture
def group(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_group_id", lambda: GROUP_ID)


RIGHTS = [
    ControlRequest(Operation.SETUP),
    ControlRequest(Operation.UNPAIR, USER),
    ControlRequest(Operation.UNPAIR),
    ControlRequest(Operation.RESET_ATTEMPTS),
    ControlRequest(Operation.RELOAD),
]


@needs_root
@pytest.mark.parametrize("group_id", [None, GROUP_ID])
async def test_a_stranger_may_look_and_no_more(
    path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, group_id: int | None
) -> None:
    monkeypatch.setattr(server, "_group_id", lambda: group_id)
    pairings = NotedPairings(PAIRED, alerts=ALERTS)
    async with served(path, pairings):
        with as_user(NOBODY):
            assert await ask(path, ControlRequest(Operation.CONTROLLERS)) == Controllers(PAIRED)
            assert await ask(path, ControlRequest(Operation.ALERTS)) == LastAlerts(ALERTS)
            for question in RIGHTS:
                with pytest.raises(Failure) as caught:
                    await end(path, question)
                assert caught.value.exit_code is Exit.DENIED
                assert str(caught.value) == (
                    "permission denied: only root and members of the group hkswitch may do this; use sudo"
                )
    assert pairings.done == []
    # One line, however often it is tried: nobody fills the log with it.
    assert caplog.messages == ["user 65534: denied: setup"]


@needs_root
@pytest.mark.parametrize(
    ("user_id", "group_id", "groups"),
    [
        (NOBODY, GROUP_ID, ()),
        (NOBODY, NOBODY, (4, GROUP_ID)),
        (NOBODY, NOBODY, (*range(20_000, 20_255), GROUP_ID)),
        (0, NOBODY, ()),
    ],
    ids=["primary", "supplementary", "the last of 256", "root"],
)
async def test_members_of_the_group_and_root_may_do_all(
    path: Path, group: None, user_id: int, group_id: int, groups: tuple[int, ...]
) -> None:
    async with served(path, NotedPairings(PAIRED)):
        with as_user(user_id, group_id, groups):
            for question in RIGHTS:
                assert isinstance(await answered(path, question), SetupInfo | Progress)


@needs_root
async def test_more_groups_than_can_be_read_give_no_right(path: Path, group: None) -> None:
    async with served(path, NotedPairings()):
        with (
            as_user(NOBODY, NOBODY, (*range(20_000, 20_300), GROUP_ID)),
            pytest.raises(Failure, match="permission denied"),
        ):
            await ask(path, ControlRequest(Operation.SETUP))
        with as_user(NOBODY, GROUP_ID, tuple(range(20_000, 20_300))):
            await ask(path, ControlRequest(Operation.SETUP))


@needs_root
async def test_who_asks_is_who_connected(path: Path) -> None:
    async with served(path, NotedPairings()), AsyncExitStack() as stack:
        with as_user(NOBODY):
            client = await stack.enter_async_context(connected(path))
        assert os.geteuid() == 0
        refused = await said(client, encode_control_request(ControlRequest(Operation.SETUP)))
        assert isinstance(refused, ErrorReply)
        assert refused.exit_code is Exit.DENIED


@needs_root
async def test_a_folder_that_is_closed_keeps_others_away(path: Path) -> None:
    async with served(path, NotedPairings()):
        path.parent.chmod(0o700)
        with as_user(NOBODY), pytest.raises(Unreachable, match="use sudo") as caught:
            await ask(path, ControlRequest(Operation.CONTROLLERS))
    assert caught.value.exit_code is Exit.DENIED


# The socket


async def test_one_socket_is_for_everybody_and_both_go_with_the_daemon(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "_group_id", lambda: None)
    umask = os.umask(0o077)
    try:
        async with served(path, NotedPairings()):
            modes = {item.name: item.stat().st_mode & 0o777 for item in path.parent.iterdir()}
            assert modes == {"control.sock": 0o666, "admin.sock": 0o600}
    finally:
        os.umask(umask)
    assert list(path.parent.iterdir()) == []


def leave_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
        dead.listen()


@pytest.mark.parametrize("name", ["control.sock", "control.new"])
@pytest.mark.parametrize("leave", [leave_socket, Path.touch], ids=["socket", "file"])
async def test_what_a_dead_daemon_left_is_replaced(
    path: Path, name: str, leave: Callable[[Path], None]
) -> None:
    leave(path.with_name(name))
    async with served(path, NotedPairings(PAIRED)):
        assert await ask(path, ControlRequest(Operation.CONTROLLERS)) == Controllers(PAIRED)
    assert list(path.parent.iterdir()) == []


async def test_the_socket_of_a_newer_daemon_stays(path: Path) -> None:
    async with AsyncExitStack() as newer:
        async with served(path, NotedPairings()):
            await newer.enter_async_context(served(path, NotedPairings(PAIRED)))
        assert await ask(path, ControlRequest(Operation.CONTROLLERS)) == Controllers(PAIRED)


async def test_a_socket_that_somebody_removed_is_no_trouble(path: Path) -> None:
    async with served(path, NotedPairings()):
        path.unlink()


@pytest.mark.parametrize(
    ("place", "why"),
    [
        ("none/control.sock", "No such file or directory"),
        ("file/control.sock", "Not a directory"),
        ("folder", "Is a directory"),
        (f"{'x' * 100}/control.sock", "the path of a unix socket has at most 107 bytes"),
    ],
)
async def test_where_no_socket_can_be_made_one_sentence_says_so(path: Path, place: str, why: str) -> None:
    wanted = path.parent / place
    (path.parent / "file").touch()
    (path.parent / "folder").mkdir()
    with pytest.raises(Failure) as caught:
        async with served(wanted, NotedPairings()):
            pass
    assert caught.value.exit_code is Exit.CANNOT_WRITE
    assert str(caught.value) == f"cannot listen on {wanted} for `hkswitch pair` and `hkswitch unpair`: {why}"
    assert sorted(item.name for item in path.parent.iterdir()) == ["file", "folder"]


async def test_the_longest_path_is_served(path: Path) -> None:
    folder = path.parent / ("x" * (107 - len(str(path)) - 1))
    folder.mkdir()
    longest = folder / "control.sock"
    assert len(str(longest)) == 107
    async with served(longest, NotedPairings(PAIRED)):
        assert await ask(longest, ControlRequest(Operation.CONTROLLERS)) == Controllers(PAIRED)


# Clients that do harm


@pytest.mark.parametrize(
    "line",
    [
        b"\n",
        b"garbage\n",
        b"GET / HTTP/1.1\r\n",
        b"\xff\xfe\n",
        b"\0" * 100 + b"\n",
        b"{}\n",
        b'{"ask":"run","command":"id"}\n',
        b"[" * (LONGEST_CONTROL_REQUEST_BYTES - 1) + b"\n",
        LOOK.rstrip() + b" " * LONGEST_CONTROL_REQUEST_BYTES + b"\n",
        b"x" * (LONGEST_CONTROL_REQUEST_BYTES * 5),
    ],
    ids=lambda line: str(line)[:30],
)
async def test_garbage_is_said_to_be_garbage_and_ends_the_connection(path: Path, line: bytes) -> None:
    async with served(path, NotedPairings(PAIRED)):
        async with connected(path) as client:
            refused = await said(client, line)
            assert isinstance(refused, ErrorReply)
            assert refused.exit_code is Exit.USAGE
            assert refused.reason.startswith("malformed request (")
            assert await is_closed(client[0])
        assert await ask(path, ControlRequest(Operation.CONTROLLERS)) == Controllers(PAIRED)


@pytest.mark.parametrize("beginning", [b"", LOOK[:10], LOOK + b"{"])
async def test_a_client_that_hangs_is_closed_and_holds_up_nobody(
    path: Path, monkeypatch: pytest.MonkeyPatch, beginning: bytes
) -> None:
    monkeypatch.setattr(server, "REQUEST_WITHIN_SECONDS", 0.2)
    async with served(path, NotedPairings(PAIRED)), connected(path) as (reader, writer):
        writer.write(beginning)
        assert await ask(path, ControlRequest(Operation.CONTROLLERS)) == Controllers(PAIRED)
        await asyncio.wait_for(reader.read(), 5)


async def test_a_client_that_never_reads_is_closed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "REPLY_WITHIN_SECONDS", 0.2)
    monkeypatch.setattr(server, "PAUSE_SECONDS", 0)
    pairings = NotedPairings(PAIRED * 2000)
    async with served(path, pairings), connected(path) as (reader, writer):
        reader._transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(LOOK * 100)
        await eventually(lambda: len(clients_of(path)) == 0)
        pairings.paired = PAIRED
        assert await ask(path, ControlRequest(Operation.CONTROLLERS)) == Controllers(PAIRED)


def lines_that_fit(line: bytes) -> int:
    """How many lines a unix socket takes from somebody whose peer does not read."""
    sender, receiver = socket.socketpair()
    sender.setblocking(False)
    taken_bytes = 0
    with sender, receiver, suppress(BlockingIOError):
        while True:
            taken_bytes += sender.send(line)
    return taken_bytes // len(line)


async def test_a_client_that_reads_late_gets_all_before_it_is_closed(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "PAUSE_SECONDS", 0)
    pairings = NotedPairings(PAIRED * 40)
    count = lines_that_fit(encode_control_reply(Controllers(pairings.paired))) + 3
    async with served(path, pairings), connected(path) as (reader, writer):
        reader._transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(LOOK * count + b"garbage\n")
        for _ in range(20):  # what is too much for the socket is waiting by now
            await ask(path, ControlRequest(Operation.CONTROLLERS))
        reader._transport.resume_reading()  # type: ignore[attr-defined]
        lines = (await asyncio.wait_for(reader.read(), 5)).splitlines()
    assert [type(parse_control_reply(line)) for line in lines] == [Controllers] * count + [ErrorReply]


async def test_a_flood_of_questions_leaves_the_loop_time_for_others(path: Path) -> None:
    async with served(path, NotedPairings(PAIRED)), AsyncExitStack() as stack:
        floods = [await stack.enter_async_context(connected(path)) for _ in range(MOST_CLIENTS - 2)]
        for _, writer in floods:
            writer.write(LOOK * 2000)
        loop = asyncio.get_running_loop()
        for _ in range(20):
            begun_seconds = loop.time()
            assert await ask(path, ControlRequest(Operation.CONTROLLERS)) == Controllers(PAIRED)
            assert loop.time() - begun_seconds < 0.5


def clients_of(path: Path) -> list[str]:
    """The daemon's ends of the connections to a socket, as the kernel lists them."""
    rows = (line.split() for line in Path("/proc/net/unix").read_text().splitlines())
    established = "03"
    # A daemon's end carries the path that it was bound with.
    return [row[6] for row in rows if len(row) == 8 and row[5] == established and row[7] == bound_path(path)]


def has_clients(path: Path, count: int) -> bool:
    return len(clients_of(path)) == count


def bound_path(path: Path) -> str:
    return str(path.with_suffix(".new"))


async def test_no_more_clients_than_there_is_room_for(path: Path) -> None:
    async with served(path, NotedPairings(PAIRED)), AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(connected(path)) for _ in range(MOST_CLIENTS + 8)]
        await eventually(lambda: len(clients_of(path)) == MOST_CLIENTS)
        for reader, _ in clients[MOST_CLIENTS:]:
            assert await is_closed(reader)
        with pytest.raises(NoAnswer):
            await ask(path, ControlRequest(Operation.CONTROLLERS))
        for client in clients[:MOST_CLIENTS]:
            assert await said(client, LOOK) == Controllers(PAIRED)
        clients[0][1].close()
        await eventually(lambda: len(clients_of(path)) == MOST_CLIENTS - 1)
        assert await ask(path, ControlRequest(Operation.CONTROLLERS)) == Controllers(PAIRED)


@needs_root
async def test_strangers_cannot_take_the_places_of_those_who_may(path: Path) -> None:
    async with served(path, NotedPairings(PAIRED)), AsyncExitStack() as stack:
        with as_user(NOBODY):
            for _ in range(MOST_CLIENTS + 8):
                await stack.enter_async_context(connected(path))
        await eventually(lambda: len(clients_of(path)) == MOST_UNPRIVILEGED)
        await ask(path, ControlRequest(Operation.RESET_ATTEMPTS))


@needs_root
async def test_one_member_of_the_group_takes_the_place_of_no_other_and_none_takes_roots(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "is_privileged", lambda *_: True)
    async with served(path, NotedPairings(PAIRED)), AsyncExitStack() as stack:
        for users in range(1, 4):
            with as_user(NOBODY - users):
                for _ in range(MOST_CLIENTS + 8):
                    await stack.enter_async_context(connected(path))
            most = min(users * MOST_OF_A_USER, MOST_CLIENTS)
            await eventually(partial(has_clients, path, most))
        for _ in range(MOST_CLIENTS):
            reader, writer = await stack.enter_async_context(connected(path))
            assert await said((reader, writer), LOOK) == Controllers(PAIRED)


async def test_a_bug_ends_one_connection_and_no_more(path: Path) -> None:
    pairings = NotedPairings(PAIRED, error=RuntimeError("a bug"))
    async with served(path, pairings):
        with pytest.raises(NoAnswer, match="it closed the connection"):
            await ask(path, ControlRequest(Operation.UNPAIR))
        assert await ask(path, ControlRequest(Operation.CONTROLLERS)) == Controllers(PAIRED)


async def test_the_end_lets_go_of_all_clients(path: Path) -> None:
    before = asyncio.all_tasks()
    async with asyncio.timeout(5), AsyncExitStack() as stack:
        async with served(path, NotedPairings(PAIRED)):
            clients = [await stack.enter_async_context(connected(path)) for _ in range(3)]
            assert await said(clients[0], LOOK) == Controllers(PAIRED)
            clients[1][1].write(LOOK[:4])
        assert asyncio.all_tasks() == before
        for reader, _ in clients:
            assert await is_closed(reader)


async def test_without_a_file_descriptor_clients_wait_and_the_log_has_one_line(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    said_once = logs.of_loop()
    failed: list[str] = []
    loop = asyncio.get_running_loop()

    def count(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        failed.append(context["message"])
        said_once(loop, context)

    loop.set_exception_handler(count)
    async with served(path, NotedPairings(PAIRED)), connected(path):
        sockets = [socket.socket(socket.AF_UNIX) for _ in range(3)]
        with no_descriptors():
            for waiting in sockets:
                waiting.connect(str(path))
            begun_seconds = loop.time()
            await eventually(lambda: len(failed) >= 3)
        rounds = (loop.time() - begun_seconds) / ACCEPT_RETRY_DELAY + 1
        assert len(failed) <= 2 * rounds
        assert caplog.messages == ["cannot accept connections: Too many open files"]
        for waiting in sockets:
            reader, writer = await asyncio.open_unix_connection(sock=waiting)
            assert await said((reader, writer), LOOK) == Controllers(PAIRED)
            writer.transport.abort()


# The command line's end


INVALID = "invalid reply from the daemon on {{}} ({}): are both the same version?"


async def test_nobody_listens(path: Path) -> None:
    leave_socket(path.with_name("dead.sock"))
    path.with_name("file").touch()
    for place in ("none.sock", "none/control.sock", "file/control.sock", "dead.sock", "x" * 200):
        with pytest.raises(NoDaemon):
            await ask(path.parent / place, ControlRequest(Operation.CONTROLLERS))


@asynccontextmanager
async def impostor(path: Path, act: Callable[[asyncio.StreamWriter], Awaitable[None]]) -> AsyncIterator[None]:
    """Something that listens, reads a line, and does something else than a daemon."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        with suppress(ConnectionError):
            await act(writer)
        writer.transport.abort()

    async with await asyncio.start_unix_server(serve, path):
        yield


@pytest.mark.parametrize(
    ("sent", "error", "sentence"),
    [
        (b"", NoAnswer, "no reply from the daemon on {}: it closed the connection"),
        (
            b'{"type":"controllers","contr',
            NoAnswer,
            "no reply from the daemon on {}: it closed the connection",
        ),
        (b"220 mail.example ESMTP\n", Failure, INVALID.format("not a line of JSON")),
        (
            b'{"type":"controllers","controllers":[{}]}\n',
            Failure,
            INVALID.format("'admin' is missing"),
        ),
        (b'{"type":"brand-new"}\n', Failure, INVALID.format("unknown type")),
        (b'{"type":"done"}\n', Failure, INVALID.format("unexpected type")),
        (b'{"type":"begun"}\n', Failure, INVALID.format("unexpected type")),
        (b'{"type":"noted","note":"x"}\n', Failure, INVALID.format("unexpected type")),
        (
            b'{"type":"noted"}\n',
            Failure,
            INVALID.format("'note' must be a string of at most 2000 characters"),
        ),
        (
            b'{"type":"noted","note":"\\u001b[2J"}\n',
            Failure,
            INVALID.format("'note' must be a printable string"),
        ),
        (b"x" * (LONGEST_CONTROL_REPLY_BYTES + 2), Failure, INVALID.format("the line is too long")),
    ],
)
async def test_what_is_no_answer_is_one_sentence(
    path: Path, sent: bytes, error: type[Failure], sentence: str
) -> None:
    async def send(writer: asyncio.StreamWriter) -> None:
        writer.transport.set_write_buffer_limits(0)
        writer.write(sent)
        await writer.drain()

    async with impostor(path, send):
        with pytest.raises(error) as caught:
            await ask(path, ControlRequest(Operation.CONTROLLERS))
    assert str(caught.value).startswith(sentence.replace("{}", str(path)))
    assert caught.value.exit_code is Exit.UNAVAILABLE


async def test_a_daemon_that_hangs_is_not_waited_for(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "REPLY_WITHIN_SECONDS", 0.2)
    over = asyncio.Event()

    async def hang(_: asyncio.StreamWriter) -> None:
        await over.wait()

    async with impostor(path, hang):
        with pytest.raises(NoAnswer, match=r"no answer within 0\.2 s"):
            await ask(path, ControlRequest(Operation.CONTROLLERS))
        with pytest.raises(NoAnswer, match=r"no answer within 0\.2 s"):
            await asyncio.to_thread(next, client.watch(path))
        over.set()


async def test_words_that_would_move_a_terminal_are_garbage(path: Path) -> None:
    async def send(writer: asyncio.StreamWriter) -> None:
        controller = {"id": "\x1b[2J", "admin": True, "connections": 0}
        writer.write(json.dumps({"type": "controllers", "controllers": [controller]}).encode() + b"\n")

    async with impostor(path, send):
        with pytest.raises(Failure, match="must be a printable string"):
            await ask(path, ControlRequest(Operation.CONTROLLERS))


# Switches


async def test_an_action_is_begun_and_then_done(path: Path) -> None:
    daemon = NotedPairings()
    async with served(path, daemon):
        acting = asyncio.create_task(act(path, Action.START, "web", wait=True))
        await eventually(lambda: daemon.acted == [(Action.START, "web", f"user {os.geteuid()}")])
        assert not acting.done()
        daemon.ended.set()
        assert await acting == ""


async def test_what_is_worth_telling_of_an_action_is_told(path: Path) -> None:
    daemon = NotedPairings(note="web.service exited with status 0 and is not running")
    daemon.ended.set()
    async with served(path, daemon):
        assert await act(path, Action.START, "web", wait=True) == daemon.note
        assert await act(path, Action.START, "web", wait=False) == ""


async def test_who_does_not_wait_leaves_when_it_is_begun(path: Path) -> None:
    daemon = NotedPairings()
    async with served(path, daemon):
        await act(path, Action.STOP, "web", wait=False)
        assert daemon.acted == [(Action.STOP, "web", f"user {os.geteuid()}")]


@pytest.mark.parametrize(
    ("daemon", "reason", "code"),
    [
        (NotedPairings(failure="httpd.service failed"), "start web failed: httpd.service failed", 69),
        (NotedPairings(error=Broken()), "cannot write /ä; : No space left on device", 73),
    ],
    ids=["failed", "refused"],
)
async def test_an_action_that_fails_says_why(
    path: Path, daemon: NotedPairings, reason: str, code: int
) -> None:
    daemon.ended = asyncio.Event()
    daemon.ended.set()
    async with served(path, daemon):
        with pytest.raises(Failure, match=reason) as caught:
            await act(path, Action.START, "web", wait=True)
    assert caught.value.exit_code == code


@needs_root
@pytest.mark.parametrize("word", ["start", "stop", "restart"])
async def test_a_stranger_may_watch_and_not_act(path: Path, word: str) -> None:
    daemon = NotedPairings()
    async with served(path, daemon):
        with as_user(NOBODY):
            assert await ask(path, ControlRequest(Operation.STATUS)) == Status(daemon.shown)
            with pytest.raises(Failure) as caught:
                await act(path, Action(word), "web", wait=True)
    assert caught.value.exit_code is Exit.DENIED
    assert daemon.acted == []


async def test_who_watches_is_told_at_once_and_after_each_change(path: Path) -> None:
    daemon = NotedPairings()
    async with served(path, daemon):
        reports = client.watch(path)
        assert await asyncio.to_thread(next, reports) == Report(None, ())
        daemon.shown = Report(None, (GroupReport("web", "Web", None, 0, {}),))
        assert daemon.changed is not None
        daemon.changed.set()
        assert await asyncio.wait_for(asyncio.to_thread(next, reports), 5) == daemon.shown
        reports.close()  # type: ignore[attr-defined] # it is a generator


async def test_who_watches_and_goes_leaves_nothing_behind(path: Path) -> None:
    daemon = NotedPairings()
    async with served(path, daemon):
        before = asyncio.all_tasks()
        async with connected(path) as (reader, writer):
            writer.write(encode_control_request(ControlRequest(Operation.WATCH)))
            await reader.readline()
        await eventually(lambda: asyncio.all_tasks() <= before)


async def test_who_watches_and_does_not_read_is_cut_off(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "REPLY_WITHIN_SECONDS", 0.2)
    monkeypatch.setattr(server, "CHANGES_EVERY_SECONDS", 0)
    groups = tuple(GroupReport(f"web-{n}", "x" * 60, None, 0, {}) for n in range(149))
    daemon = NotedPairings(shown=Report(None, groups))
    async with served(path, daemon), connected(path) as (reader, writer):
        writer.write(encode_control_request(ControlRequest(Operation.WATCH)))
        await reader.readline()

        async def change() -> bool:
            assert daemon.changed is not None
            daemon.changed.set()
            await asyncio.sleep(0)
            return writer.transport.is_closing() or reader.at_eof()

        async with asyncio.timeout(10):
            while len(asyncio.all_tasks()) > 1 and not await change():
                if not server_tasks():
                    break
        assert not server_tasks()


def server_tasks() -> set[str]:
    """What the daemon's end works on."""
    return {repr(task) for task in asyncio.all_tasks() if "Clients._serve" in repr(task)}
