"""The control socket, both its ends: the daemon answers there what the command line asks about pairings.

Who asks is what the kernel says, never what the line says. What can be asked is the closed list of
core/control.py. The daemon's end must not wait for any client, nor let one have much of the loop's time.
"""

import asyncio
import grp
import logging
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from hkswitch.core.control import (
    ANYBODY_MAY,
    LONGEST_ANSWER_BYTES,
    LONGEST_ASK_BYTES,
    Answer,
    Ask,
    AskFailed,
    Controllers,
    Done,
    Failed,
    PairedController,
    Question,
    SetupIs,
    encode_answer,
    encode_question,
    parse_answer,
    parse_question,
)
from hkswitch.core.errors import Exit, Failure
from hkswitch.core.lines import Malformed
from hkswitch.peers import Peer, peer_of

STATE_FOLDER: Final = Path("/var/lib/hkswitch")
RUNTIME_FOLDER: Final = Path("/run/hkswitch")
SOCKET_NAME: Final = "control.sock"
GROUP: Final = "hkswitch"
"""Its members may do what root may."""

MOST_CLIENTS: Final = 32
MOST_STRANGERS: Final = 24
"""Clients that may only look; the other places are kept for those who may do more."""

LINE_WITHIN_SECONDS: Final = 10
ANSWER_WITHIN_SECONDS: Final = 10
"""Also for an answer to leave: a client may not read it."""

REST_SECONDS: Final = 0.01
"""Before every answer: no client may keep the daemon busy."""

QUIET_SECONDS: Final = 60
"""A user who is refused again sooner than this gets no other line in the log."""

LONGEST_PATH_BYTES: Final = 107
"""What Linux has room for in a unix socket's address."""

_log = logging.getLogger(__name__)


@dataclass(eq=False)
class CannotControl(Failure):
    """The daemon's end cannot be made."""

    path: Path
    why: str
    exit_code = Exit.CANNOT_WRITE

    def __str__(self) -> str:
        return f"cannot listen on {self.path} for `hkswitch pair` and `hkswitch unpair`: {self.why}"


@dataclass(eq=False)
class NoDaemon(Failure):
    """Nobody listens at the socket."""

    path: Path

    def __str__(self) -> str:
        return f"no hkswitch listens on {self.path}: start hkswitch.service"


@dataclass(eq=False)
class Unreachable(Failure):
    """This user may not come near the socket."""

    path: Path
    exit_code = Exit.DENIED

    def __str__(self) -> str:
        return f"this user may not reach {self.path}: use sudo"


@dataclass(eq=False)
class NoAnswer(Failure):
    """Somebody listens, but there was no answer, or none that can be understood."""

    path: Path
    why: str

    def __str__(self) -> str:
        return f"hkswitch gave no answer on {self.path}: {self.why}; see `systemctl status hkswitch`"


class Pairings(Protocol):
    """The pairings of a bridge: of one that serves, or of one on disk. Every method raises `Failure`."""

    def setup_is(self) -> SetupIs:
        """What is needed to pair."""

    def controllers(self) -> tuple[PairedController, ...]:
        """Who is paired."""

    def unpair(self, controller_id: str | None) -> None:
        """Remove a controller, or all (None)."""

    def reset_attempts(self) -> None:
        """Forget the failed attempts to pair."""


def socket_of(state_folder: Path) -> Path:
    """Where the daemon of a state folder listens: one with a folder of its own is apart from the service."""
    folder = RUNTIME_FOLDER if state_folder == STATE_FOLDER else state_folder
    return folder / SOCKET_NAME


def do(question: Question, pairings: Pairings) -> Answer:
    """Do what is asked; raises `Failure`."""
    match question.ask:
        case Ask.CONTROLLERS:
            return Controllers(pairings.controllers())
        case Ask.SETUP:
            return pairings.setup_is()
        case Ask.UNPAIR:
            pairings.unpair(question.controller)
        case Ask.RESET_ATTEMPTS:
            pairings.reset_attempts()
    return Done()


def answer(question: Question, pairings: Pairings) -> Answer:
    """Do what is asked, and what to say about it."""
    try:
        return do(question, pairings)
    except Failure as failure:
        return Failed(failure.exit_code, str(failure))


# The daemon's end


def may_change(peer: Peer, own_user_id: int, group_id: int | None) -> bool:
    """Whether a peer has the right to everything. `group_id`: the group hkswitch, None if there is none."""
    return peer.user_id in {0, own_user_id} or group_id in {peer.group_id, *peer.groups}


@asynccontextmanager
async def served(path: Path, pairings: Pairings) -> AsyncIterator[None]:
    """Answer clients until the end of the block; raises `CannotControl`. Needs the state folder's lock."""
    listening = _listen(path)
    ours = _identity(path)
    clients = _Clients(pairings, os.geteuid(), _group_id())
    server = await asyncio.start_unix_server(clients.come, sock=listening, limit=LONGEST_ASK_BYTES)
    try:
        yield
    finally:
        _remove(path, ours)
        server.close()
        await clients.close()


class _Gone(Exception):
    """A client went away, or was too slow; nobody has to know."""


class _Clients:
    """Those who are connected. A task for each, and none that outlives `close`."""

    def __init__(self, pairings: Pairings, own_user_id: int, group_id: int | None) -> None:
        self._pairings = pairings
        self._own_user_id = own_user_id
        self._group_id = group_id
        self._strangers: dict[asyncio.Task[None], bool] = {}
        self._refused_at_seconds: dict[int, float] = {}
        self._closed = False

    def come(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve another client, if there is room."""
        # TRUST: who it is comes from the kernel, and decides about all that this client will ask.
        peer = peer_of(writer.get_extra_info("socket"))
        stranger = not may_change(peer, self._own_user_id, self._group_id)
        if self._closed or self._is_full(stranger=stranger):
            writer.transport.abort()
            return
        task = asyncio.create_task(self._serve(reader, writer, peer, stranger=stranger))
        self._strangers[task] = stranger
        task.add_done_callback(self._strangers.pop)

    async def close(self) -> None:
        """Let go of all clients."""
        self._closed = True
        tasks = tuple(self._strangers)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _is_full(self, *, stranger: bool) -> bool:
        strangers = sum(self._strangers.values())
        return len(self._strangers) >= MOST_CLIENTS or (stranger and strangers >= MOST_STRANGERS)

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, peer: Peer, *, stranger: bool
    ) -> None:
        writer.transport.set_write_buffer_limits(0)  # so that drain() waits until all is out
        try:
            with suppress(_Gone):
                while (question := await _question(reader, writer)) is not None:
                    await asyncio.sleep(REST_SECONDS)
                    denied = stranger and question.ask not in ANYBODY_MAY
                    said = self._deny(question, peer) if denied else answer(question, self._pairings)
                    await _send(writer, said)
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


def _listen(path: Path) -> socket.socket:
    """A socket that everybody may connect to who may enter its folder; it is there whole or not at all."""
    if len(os.fsencode(path)) > LONGEST_PATH_BYTES:
        raise CannotControl(path, f"a unix socket's path has at most {LONGEST_PATH_BYTES} bytes")
    listening, new = socket.socket(socket.AF_UNIX), path.with_suffix(".new")
    try:
        new.unlink(missing_ok=True)  # of a daemon that was killed just here
        listening.bind(str(new))
        new.chmod(0o666)  # a look is for everybody; the rest is decided for each question
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


# The command line's end

_ANSWERS: Final = {
    Ask.CONTROLLERS: Controllers,
    Ask.SETUP: SetupIs,
    Ask.UNPAIR: Done,
    Ask.RESET_ATTEMPTS: Done,
}


async def ask(path: Path, question: Question) -> Answer:
    """What the daemon at `path` answers.

    Raises:
        AskFailed: If it answers that it did not do it.
        NoDaemon: If nobody listens there.
        Failure: If nothing that can be understood came back.
    """
    try:
        async with asyncio.timeout(ANSWER_WITHIN_SECONDS):
            said = parse_answer(await _exchange(path, encode_question(question)))
    except TimeoutError:
        raise NoAnswer(path, f"nothing came within {ANSWER_WITHIN_SECONDS} s") from None
    except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError):
        raise NoDaemon(path) from None
    except PermissionError:
        raise Unreachable(path) from None
    except (asyncio.IncompleteReadError, ConnectionError):
        raise NoAnswer(path, "it closed the connection") from None
    except OSError as error:
        raise NoAnswer(path, error.strerror or str(error)) from error
    except (Malformed, asyncio.LimitOverrunError) as error:
        raise NoAnswer(path, f"it sent garbage ({error})") from None
    if isinstance(said, Failed):
        raise AskFailed(said)
    if not isinstance(said, _ANSWERS[question.ask]):
        raise NoAnswer(path, "it answered something else")
    return said


async def _exchange(path: Path, line: bytes) -> bytes:
    if len(os.fsencode(path)) > LONGEST_PATH_BYTES:
        raise NoDaemon(path)  # none could
    reader, writer = await asyncio.open_unix_connection(path, limit=LONGEST_ANSWER_BYTES)
    try:
        writer.write(line)
        return await reader.readuntil()
    finally:
        writer.transport.abort()
