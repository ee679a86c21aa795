"""The daemon's end of the control socket. It waits for no client, and gives none much of the loop's time."""

import asyncio
import grp
import logging
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from hkswitch.control import ANSWER_WITHIN_SECONDS, LONGEST_PATH_BYTES, PRIVILEGED_NAME
from hkswitch.control.pairings import Pairings, answer
from hkswitch.control.peer_credentials import Peer, peer_of
from hkswitch.model.errors import Exit, Failure
from hkswitch.model.printable import one_line
from hkswitch.model.unit_state import Action, ActionResult
from hkswitch.protocol.control import (
    ANYBODY_MAY,
    LONGEST_ASK_BYTES,
    Answer,
    Ask,
    Failed,
    Noted,
    Question,
    Status,
    Word,
    encode_answer,
    parse_question,
)
from hkswitch.protocol.json_lines import Malformed
from hkswitch.protocol.report import Report

GROUP: Final = "hkswitch"
"""Its members may do what root may."""

MOST_CLIENTS: Final = 32
"""Of root, and of all others together."""

MOST_OF_A_USER: Final = 16
"""So that one member of the group cannot take the place of the others."""

MOST_STRANGERS: Final = 24
"""Clients that may only look; the other places are kept for those who may do more."""

LINE_WITHIN_SECONDS: Final = 10

REST_SECONDS: Final = 0.01
"""Before every answer but a connection's first: no client may keep the daemon busy."""

CHANGES_EVERY_SECONDS: Final = 0.2
"""What changes within this time is one change, for whoever watches."""

QUIET_SECONDS: Final = 60
"""A user who is refused again sooner than this gets no other line in the log."""


_log = logging.getLogger(__name__)


@dataclass(eq=False)
class CannotControl(Failure):
    """The daemon's end cannot be made."""

    path: Path
    why: str
    exit_code = Exit.CANNOT_WRITE

    def __str__(self) -> str:
        return f"cannot listen on {self.path} for `hkswitch pair` and `hkswitch unpair`: {self.why}"


class Switches(Protocol):
    """The switches that a daemon serves."""

    def report(self) -> Report:
        """How everything is."""

    async def act(self, action: Action, group_id: str, by: str, begun: Callable[[], None]) -> ActionResult:
        """Do an action; returns what came of it. Raises `Failure`."""

    async def reload(self) -> str:
        """Apply the config as it is now; returns what is worth telling about it. Raises `Failure`."""

    def changes(self) -> AbstractContextManager[asyncio.Event]:
        """Meanwhile, an event that is set at each change."""


class Daemon(Pairings, Switches, Protocol):
    """All that can be asked."""


def may_change(peer: Peer, own_user_id: int, group_id: int | None) -> bool:
    """Whether a peer has the right to everything. `group_id`: the group hkswitch, None if there is none."""
    return peer.user_id in {0, own_user_id} or group_id in {peer.group_id, *peer.groups}


@asynccontextmanager
async def served(path: Path, daemon: Daemon) -> AsyncIterator[None]:
    """Answer clients until the end of the block; raises `CannotControl`. Needs the state folder's lock."""
    group_id = _group_id()
    clients = Clients(daemon, os.geteuid(), group_id)
    try:
        async with (
            _accepting(path, clients, _open_to_all),
            _accepting(path.with_name(PRIVILEGED_NAME), clients, lambda new: _open_to_group(new, group_id)),
        ):
            yield
    finally:
        await clients.close()


@asynccontextmanager
async def _accepting(path: Path, clients: "Clients", open_up: Callable[[Path], None]) -> AsyncIterator[None]:
    listening = _listen(path, open_up)
    ours = _identity(path)
    # asyncio tries to accept as many at once as the backlog has. Without file descriptors left, each attempt
    # makes a timer for another, and those of a hundred attempts would soon take all of the processor.
    server = await asyncio.start_unix_server(clients.come, sock=listening, limit=LONGEST_ASK_BYTES, backlog=1)
    listening.listen()
    try:
        yield
    finally:
        _remove(path, ours)
        server.close()


class _Gone(Exception):
    """A client went away, or was too slow; nobody has to know."""


class Clients:
    """Those who are connected. A task for each, and none that outlives `close`."""

    def __init__(self, daemon: Daemon, own_user_id: int, group_id: int | None) -> None:
        self._daemon = daemon
        self._own_user_id = own_user_id
        self._group_id = group_id
        self._peers: dict[asyncio.Task[None], Peer] = {}
        self._refused_at_seconds: dict[int, float] = {}
        self._closed = False

    def come(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve another client, if there is room."""
        # TRUST: who it is comes from the kernel, and decides about all that this client will ask.
        try:
            peer = peer_of(writer.get_extra_info("socket"))
        except OSError as error:  # no memory, for one; asyncio would leave the connection open for ever
            _log.error("cannot tell who connected to the control socket: %s", error.strerror)
            writer.transport.abort()
            return
        if self._closed or self._is_full(peer):
            writer.transport.abort()
            return
        stranger = self._is_stranger(peer)
        task = asyncio.create_task(self._serve(reader, writer, peer, stranger=stranger))
        self._peers[task] = peer
        task.add_done_callback(self._peers.pop)

    async def close(self) -> None:
        """Let go of all clients."""
        self._closed = True
        tasks = tuple(self._peers)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _is_stranger(self, peer: Peer) -> bool:
        return not may_change(peer, self._own_user_id, self._group_id)

    def _is_full(self, peer: Peer) -> bool:
        """Whether there is no room for one more of this user. Root and others have room of their own."""
        peers = list(self._peers.values())
        alike = sum(other.user_id == peer.user_id for other in peers)
        if peer.user_id == 0:
            return alike >= MOST_CLIENTS
        others = [other for other in peers if other.user_id != 0]
        if self._is_stranger(peer):
            return sum(map(self._is_stranger, others)) >= MOST_STRANGERS
        most = MOST_CLIENTS if peer.user_id == self._own_user_id else MOST_OF_A_USER
        return len(others) >= MOST_CLIENTS or alike >= most

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, peer: Peer, *, stranger: bool
    ) -> None:
        writer.transport.set_write_buffer_limits(0)  # so that drain() waits until all is out
        try:
            rest_seconds = 0.0
            with suppress(_Gone):
                while (question := await _question(reader, writer)) is not None:
                    await asyncio.sleep(rest_seconds)
                    if stranger and question.ask not in ANYBODY_MAY:
                        await _send(writer, self._deny(question, peer))
                    elif question.ask is Ask.WATCH:
                        await _show_changes(self._daemon, reader, writer)
                        return
                    elif question.ask is Ask.ACT:
                        await _act(self._daemon, question, peer, writer)
                    elif question.ask is Ask.RELOAD:
                        await _reload(self._daemon, writer)
                    elif question.ask is Ask.STATUS:
                        await _send(writer, Status(self._daemon.report()))
                    else:
                        await _send(writer, answer(question, self._daemon))
                    rest_seconds = REST_SECONDS
        finally:
            writer.transport.abort()

    def _deny(self, question: Question, peer: Peer) -> Failed:
        now_seconds = asyncio.get_running_loop().time()
        if now_seconds - self._refused_at_seconds.get(peer.user_id, -QUIET_SECONDS) >= QUIET_SECONDS:
            self._refused_at_seconds[peer.user_id] = now_seconds
            _log.warning("user %d asked for %s, and may not", peer.user_id, question.ask.value)
        return Failed(
            Exit.DENIED,
            f"user {peer.user_id} may not do this, only root and members of the group {GROUP}: use sudo",
        )


async def _question(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Question | None:
    """The next one; None after garbage, which is answered here."""
    try:
        async with _patience(LINE_WITHIN_SECONDS):
            line = await reader.readuntil()
        return parse_question(line)
    except asyncio.LimitOverrunError:
        why = f"a line of more than {LONGEST_ASK_BYTES} bytes"
    except Malformed as error:
        why = str(error)
    await _send(writer, Failed(Exit.USAGE, f"this is no question ({why}): use the same version of hkswitch"))
    return None


async def _act(switches: Switches, question: Question, peer: Peer, writer: asyncio.StreamWriter) -> None:
    def begun() -> None:
        writer.write(encode_answer(Word.BEGUN))

    try:
        result = await switches.act(question.action, question.group, f"user {peer.user_id}", begun)
    except Failure as failure:
        await _send(writer, Failed(failure.exit_code, str(failure)))
        return
    if result.failure is None:
        await _send(writer, Noted(result.note) if result.note else Word.DONE)
    else:
        what = f"{question.action} {question.group} failed: {result.failure}"
        await _send(writer, Failed(Exit.UNAVAILABLE, what))


async def _reload(switches: Switches, writer: asyncio.StreamWriter) -> None:
    try:
        note = await switches.reload()
    except Failure as failure:
        reason = one_line(str(failure))
        await _send(writer, Failed(failure.exit_code, f"not reloaded: {reason}"))
        return
    await _send(writer, Noted(note) if note else Word.DONE)


async def _show_changes(
    switches: Switches, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Say how everything is after each change, until the client says anything or goes."""
    with switches.changes() as changed:
        going_on = asyncio.ensure_future(_go_on(switches, changed, writer))
        ends: list[asyncio.Future[Any]] = [asyncio.ensure_future(reader.read(1)), going_on]
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for end in ends:
                end.cancel()
            await asyncio.gather(*ends, return_exceptions=True)


async def _go_on(switches: Switches, changed: asyncio.Event, writer: asyncio.StreamWriter) -> None:
    while True:
        changed.clear()
        await _send(writer, Status(switches.report()))
        await asyncio.sleep(CHANGES_EVERY_SECONDS)
        await changed.wait()


async def _send(writer: asyncio.StreamWriter, said: Answer) -> None:
    async with _patience(ANSWER_WITHIN_SECONDS):
        writer.write(encode_answer(said))
        await writer.drain()


@asynccontextmanager
async def _patience(seconds: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(seconds):
            yield
    except (OSError, asyncio.IncompleteReadError):
        raise _Gone from None


def _open_to_all(new: Path) -> None:
    new.chmod(0o666)  # a look is for everybody; the rest is decided for each question


def _open_to_group(new: Path, group_id: int | None) -> None:
    # TRUST: nobody else can wait here to be accepted. The kernel's queue is short, and who fills that of the
    # other socket keeps nobody away from this one.
    new.chmod(0o600)
    if group_id is not None:
        with suppress(PermissionError):  # this user is not in the group: its members use the other socket
            if new.stat().st_gid != group_id:  # the service has it as its own, and may not call chown
                os.chown(new, -1, group_id)
            new.chmod(0o660)


def _listen(path: Path, open_up: Callable[[Path], None]) -> socket.socket:
    """A socket that those may connect to whom `open_up` lets; it is there whole or not at all."""
    if len(os.fsencode(path)) > LONGEST_PATH_BYTES:
        raise CannotControl(path, f"a unix socket's path has at most {LONGEST_PATH_BYTES} bytes")
    listening, new = socket.socket(socket.AF_UNIX), path.with_suffix(".new")
    try:
        new.unlink(missing_ok=True)  # of a daemon that was killed just here
        listening.bind(str(new))
        open_up(new)
        listening.listen()
        new.rename(path)
    except OSError as error:
        listening.close()
        with suppress(OSError):
            new.unlink()
        raise CannotControl(path, error.strerror or str(error)) from error
    return listening


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
