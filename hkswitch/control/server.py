"""The daemon's end of the control socket. No client can block it, or use much of the event loop's time."""

import asyncio
import grp
import logging
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final, Protocol

from hkswitch.control import LONGEST_PATH_BYTES, PRIVILEGED_NAME, REPLY_WITHIN_SECONDS
from hkswitch.control.pairings import Pairings, reply_to
from hkswitch.control.peer_credentials import Peer, peer_of
from hkswitch.model.errors import Exit, Failure
from hkswitch.model.printable import one_line
from hkswitch.model.unit_state import Action, ActionResult
from hkswitch.protocol.alert_report import AlertReport
from hkswitch.protocol.control import (
    LONGEST_CONTROL_REQUEST_BYTES,
    UNPRIVILEGED_OPERATIONS,
    ControlReply,
    ControlRequest,
    DoneWithNote,
    ErrorReply,
    LastAlerts,
    Operation,
    Progress,
    Status,
    encode_control_reply,
    parse_control_request,
)
from hkswitch.protocol.json_lines import MalformedMessage
from hkswitch.protocol.report import Report

GROUP: Final = "hkswitch"
"""The group whose members may send the same requests as root."""

MOST_CLIENTS: Final = 32
"""The most connections of root, and of all other users together."""

MOST_OF_A_USER: Final = 16
"""Keeps one member of the group from locking out the others."""

MOST_UNPRIVILEGED: Final = 24
"""The most connections of unprivileged users; the rest is reserved for privileged ones."""

REQUEST_WITHIN_SECONDS: Final = 10

PAUSE_SECONDS: Final = 0.01
"""The pause before every reply except a connection's first: no client can keep the daemon busy."""

CHANGES_EVERY_SECONDS: Final = 0.2
"""A client that watches gets one report for all changes within this time."""

QUIET_SECONDS: Final = 60
"""The interval between log lines about denials for the same user."""


_log = logging.getLogger(__name__)


class Switches(Protocol):
    """The switches of a daemon."""

    def report(self) -> Report:
        """Return the state of the bridge and of all groups."""

    def last_alerts(self) -> tuple[AlertReport, ...]:
        """Return the last alerts, newest first."""

    async def act(self, action: Action, group_id: str, by: str, begun: Callable[[], None]) -> ActionResult:
        """Do an action, and return its result; raises `Failure`."""

    async def reload(self) -> str:
        """Apply the config on disk, and return a note for the user; raises `Failure`."""

    def changes(self) -> AbstractContextManager[asyncio.Event]:
        """Provide an event that is set at each change."""


class Daemon(Pairings, Switches, Protocol):
    """All operations of the control socket."""


def is_privileged(peer: Peer, own_user_id: int, group_id: int | None) -> bool:
    """Whether a peer is privileged. `group_id`: of the group hkswitch, None if there is none."""
    return peer.user_id in {0, own_user_id} or group_id in {peer.group_id, *peer.groups}


@asynccontextmanager
async def served(path: Path, daemon: Daemon) -> AsyncIterator[None]:
    """Serve clients until the end of the block; raises `Failure`. Needs the state folder's lock."""
    group_id = _group_id()
    clients = Clients(daemon, os.geteuid(), group_id)
    try:
        async with (
            _accepting(path, clients, _allow_all),
            _accepting(path.with_name(PRIVILEGED_NAME), clients, lambda new: _allow_group(new, group_id)),
        ):
            yield
    finally:
        await clients.close()


@asynccontextmanager
async def _accepting(path: Path, clients: "Clients", set_mode: Callable[[Path], None]) -> AsyncIterator[None]:
    listening = _listen(path, set_mode)
    ours = _identity(path)
    # asyncio tries to accept `backlog` connections at once. Without free file descriptors, each attempt
    # starts a timer for the next one, and with a backlog of a hundred, these would soon use all CPU time.
    server = await asyncio.start_unix_server(
        clients.accept, sock=listening, limit=LONGEST_CONTROL_REQUEST_BYTES, backlog=1
    )
    listening.listen()
    try:
        yield
    finally:
        _remove(path, ours)
        server.close()


class _Gone(Exception):
    """A client disconnected, or was too slow; neither is worth a line in the log."""


class Clients:
    """The connected clients: a task for each, and none that outlives `close`."""

    def __init__(self, daemon: Daemon, own_user_id: int, group_id: int | None) -> None:
        self._daemon = daemon
        self._own_user_id = own_user_id
        self._group_id = group_id
        self._peers: dict[asyncio.Task[None], Peer] = {}
        self._refused_at_seconds: dict[int, float] = {}
        self._closed = False

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve another client, if there is room."""
        # TRUST: the kernel identifies the peer; that identity authorizes all requests of this client.
        try:
            peer = peer_of(writer.get_extra_info("socket"))
        except OSError as error:  # such as out of memory; asyncio would leave the connection open forever
            _log.error("cannot identify a client of the control socket: %s", error.strerror)
            writer.transport.abort()
            return
        if self._closed or self._is_full(peer):
            writer.transport.abort()
            return
        privileged = self._is_privileged(peer)
        task = asyncio.create_task(self._serve(reader, writer, peer, privileged=privileged))
        self._peers[task] = peer
        task.add_done_callback(self._peers.pop)

    async def close(self) -> None:
        """Disconnect all clients."""
        self._closed = True
        tasks = tuple(self._peers)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _is_privileged(self, peer: Peer) -> bool:
        return is_privileged(peer, self._own_user_id, self._group_id)

    def _is_full(self, peer: Peer) -> bool:
        """Whether there is no room for another client of this user. Root's are counted separately."""
        peers = list(self._peers.values())
        of_same_user = sum(other.user_id == peer.user_id for other in peers)
        if peer.user_id == 0:
            return of_same_user >= MOST_CLIENTS
        others = [other for other in peers if other.user_id != 0]
        if not self._is_privileged(peer):
            return sum(not self._is_privileged(other) for other in others) >= MOST_UNPRIVILEGED
        most = MOST_CLIENTS if peer.user_id == self._own_user_id else MOST_OF_A_USER
        return len(others) >= MOST_CLIENTS or of_same_user >= most

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, peer: Peer, *, privileged: bool
    ) -> None:
        writer.transport.set_write_buffer_limits(0)  # so that drain() waits until everything is sent
        try:
            pause_seconds = 0.0
            with suppress(_Gone):
                while (request := await _next_request(reader, writer)) is not None:
                    await asyncio.sleep(pause_seconds)
                    if not privileged and request.operation not in UNPRIVILEGED_OPERATIONS:
                        await _send(writer, self._deny(request, peer))
                    elif request.operation is Operation.WATCH:
                        await _send_changes(self._daemon, reader, writer)
                        return
                    elif request.operation is Operation.ACT:
                        await _act(self._daemon, request, peer, writer)
                    elif request.operation is Operation.RELOAD:
                        await _reload(self._daemon, writer)
                    elif request.operation is Operation.STATUS:
                        await _send(writer, Status(self._daemon.report()))
                    elif request.operation is Operation.ALERTS:
                        await _send(writer, LastAlerts(self._daemon.last_alerts()))
                    else:
                        await _send(writer, reply_to(request, self._daemon))
                    pause_seconds = PAUSE_SECONDS
        finally:
            writer.transport.abort()

    def _deny(self, request: ControlRequest, peer: Peer) -> ErrorReply:
        now_seconds = asyncio.get_running_loop().time()
        if now_seconds - self._refused_at_seconds.get(peer.user_id, -QUIET_SECONDS) >= QUIET_SECONDS:
            self._refused_at_seconds[peer.user_id] = now_seconds
            _log.warning("user %d: denied: %s", peer.user_id, request.operation.value)
        return ErrorReply(
            Exit.DENIED,
            f"permission denied: only root and members of the group {GROUP} may do this; use sudo",
        )


async def _next_request(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> ControlRequest | None:
    """Return the next request; None after a malformed one, to which this function replies."""
    try:
        async with _time_limit(REQUEST_WITHIN_SECONDS):
            line = await reader.readuntil()
        return parse_control_request(line)
    except asyncio.LimitOverrunError:
        why = f"more than {LONGEST_CONTROL_REQUEST_BYTES} bytes"
    except MalformedMessage as error:
        why = str(error)
    await _send(
        writer,
        ErrorReply(Exit.USAGE, f"malformed request ({why}): are hkswitch and the daemon the same version?"),
    )
    return None


async def _act(switches: Switches, request: ControlRequest, peer: Peer, writer: asyncio.StreamWriter) -> None:
    def begun() -> None:
        writer.write(encode_control_reply(Progress.BEGUN))

    try:
        result = await switches.act(request.action, request.group, f"user {peer.user_id}", begun)
    except Failure as failure:
        await _send(writer, ErrorReply(failure.exit_code, str(failure)))
        return
    if result.failure is None:
        await _send(writer, DoneWithNote(result.note) if result.note else Progress.DONE)
    else:
        what = f"{request.action} {request.group} failed: {result.failure}"
        await _send(writer, ErrorReply(Exit.UNAVAILABLE, what))


async def _reload(switches: Switches, writer: asyncio.StreamWriter) -> None:
    try:
        note = await switches.reload()
    except Failure as failure:
        reason = one_line(str(failure))
        await _send(writer, ErrorReply(failure.exit_code, f"not reloaded: {reason}"))
        return
    await _send(writer, DoneWithNote(note) if note else Progress.DONE)


async def _send_changes(
    switches: Switches, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Send a report after each change, until the client sends anything or disconnects."""
    with switches.changes() as changed:
        sending = asyncio.ensure_future(_send_reports(switches, changed, writer))
        ends: list[asyncio.Future[Any]] = [asyncio.ensure_future(reader.read(1)), sending]
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for end in ends:
                end.cancel()
            await asyncio.gather(*ends, return_exceptions=True)


async def _send_reports(switches: Switches, changed: asyncio.Event, writer: asyncio.StreamWriter) -> None:
    while True:
        changed.clear()
        await _send(writer, Status(switches.report()))
        await asyncio.sleep(CHANGES_EVERY_SECONDS)
        await changed.wait()


async def _send(writer: asyncio.StreamWriter, reply: ControlReply) -> None:
    async with _time_limit(REPLY_WITHIN_SECONDS):
        writer.write(encode_control_reply(reply))
        await writer.drain()


@asynccontextmanager
async def _time_limit(seconds: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(seconds):
            yield
    except (OSError, asyncio.IncompleteReadError):
        raise _Gone from None


def _allow_all(new: Path) -> None:
    new.chmod(0o666)  # any local user may read; other operations are checked for each request


def _allow_group(new: Path, group_id: int | None) -> None:
    # TRUST: unprivileged users cannot connect here. The kernel's queue is short, and a user who fills the
    # queue of the other socket does not block this one.
    new.chmod(0o600)
    if group_id is not None:
        with suppress(PermissionError):  # this user is not in the group: members use the other socket
            if new.stat().st_gid != group_id:  # already right for the service, which may not chown
                os.chown(new, -1, group_id)
            new.chmod(0o660)


def _listen(path: Path, set_mode: Callable[[Path], None]) -> socket.socket:
    """Return a listening socket whose mode `set_mode` sets; it appears at `path` when it is ready."""
    if len(os.fsencode(path)) > LONGEST_PATH_BYTES:
        raise _cannot_listen(path, f"the path of a unix socket has at most {LONGEST_PATH_BYTES} bytes")
    listening, new = socket.socket(socket.AF_UNIX), path.with_suffix(".new")
    try:
        new.unlink(missing_ok=True)  # left by a daemon that was killed at this point
        listening.bind(str(new))
        set_mode(new)
        listening.listen()
        new.rename(path)
    except OSError as error:
        listening.close()
        with suppress(OSError):
            new.unlink()
        raise _cannot_listen(path, error.strerror or str(error)) from error
    return listening


def _cannot_listen(path: Path, why: str) -> Failure:
    what = f"cannot listen on {path} for `hkswitch pair` and `hkswitch unpair`"
    return Failure(f"{what}: {why}", Exit.CANNOT_WRITE)


def _remove(path: Path, ours: tuple[int, int] | None) -> None:
    if _identity(path) == ours is not None:
        path.unlink(missing_ok=True)


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.lstat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _group_id() -> int | None:
    try:
        return grp.getgrnam(GROUP).gr_gid
    except KeyError:
        return None
