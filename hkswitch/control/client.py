"""The command line's end of the control socket. It blocks: one request needs no event loop.

It trusts only a socket of root, the daemon's user or its own user, and every wait has a limit.
"""

import errno
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, Self

from hkswitch.control import (
    LONGEST_PATH_BYTES,
    PRIVILEGED_NAME,
    REPLY_WITHIN_SECONDS,
    START_SERVICE,
    is_of_service,
)
from hkswitch.control.peer_credentials import peer_of
from hkswitch.model.errors import Exit, Failure
from hkswitch.protocol.control import (
    LONGEST_CONTROL_REPLY_BYTES,
    Controllers,
    ControlReply,
    ControlRequest,
    DoneWithNote,
    ErrorReply,
    LastAlerts,
    Operation,
    Progress,
    SetupInfo,
    Status,
    encode_control_request,
    parse_control_reply,
)
from hkswitch.protocol.json_lines import MalformedMessage
from hkswitch.protocol.report import Report


class NoDaemon(Failure):
    """No daemon listens on the socket."""

    def __init__(self, path: Path) -> None:
        start = START_SERVICE if is_of_service(path) else "start the daemon for this folder"
        super().__init__(f"no daemon is listening on {path}; {start}")


class Unreachable(Failure):
    """This user may not connect to the socket."""

    exit_code = Exit.DENIED

    def __init__(self, path: Path) -> None:
        super().__init__(f"permission denied on {path}; use sudo")


class NoAnswer(Failure):
    """The daemon accepted the connection, but did not reply."""

    def __init__(self, path: Path, why: str) -> None:
        see = "; see `systemctl status hkswitch`" if is_of_service(path) else ""
        super().__init__(f"no reply from the daemon on {path}: {why}{see}")


class Disconnected(NoAnswer):
    """The daemon closed the connection before it replied."""


class TooSlow(NoAnswer):
    """The daemon did not reply in time."""


def untrusted(path: Path, user_id: int) -> Failure:
    """Return the failure for a socket of a user who is not the daemon's."""
    name = "hkswitch.service" if is_of_service(path) else "the daemon for this folder"
    return Failure(
        f"cannot trust {path}: user {user_id} listens there, not the daemon's user; "
        f"remove it, and restart {name}",
        Exit.DENIED,
    )


def _invalid_reply(path: Path, why: str) -> Failure:
    return Failure(f"invalid reply from the daemon on {path} ({why}): are both the same version?")


LONGEST_WAIT_SECONDS: Final = 2 * 3600
"""A command may take an hour, and so may the one before it. Units have their own timeouts."""

CHECK_EVERY_SECONDS: Final = 10
"""During a long action, the client checks this often that the daemon still answers another request."""

MOST_REPLIES: Final = 10
"""The most replies to one action: that it has begun, perhaps more than once, and that it is done."""

RECONNECT_AFTER_SECONDS: Final = 0.05

_RECEIVE_BYTES: Final = 1024 * 1024

_OTHER_TYPE: Final = "unexpected type"

_NOT_DONE_YET: Final = (
    f"still running after {LONGEST_WAIT_SECONDS // 3600} hours; see `hkswitch status` for the result"
)

_SHORTEST_SECONDS: Final = 0.001
"""0 would make the socket non-blocking, which raises other errors."""

_REPLY_TYPES: Final = {
    Operation.STATUS: Status,
    Operation.ALERTS: LastAlerts,
    Operation.CONTROLLERS: Controllers,
    Operation.SETUP: SetupInfo,
    Operation.UNPAIR: Progress,
    Operation.RESET_ATTEMPTS: Progress,
}


class PendingRequest:
    """A request that was sent to the daemon at `path`."""

    def __init__(self, path: Path, request: ControlRequest) -> None:
        """Connect, and send the request; raises `NoDaemon`, or another `Failure`."""
        self._path = path
        self._received = bytearray()
        self.sent_at_unix_seconds, self._sent_at_seconds = time.time(), time.monotonic()
        if len(os.fsencode(path)) > LONGEST_PATH_BYTES:
            raise NoDaemon(path)  # no daemon could listen there
        deadline_seconds = self._sent_at_seconds + REPLY_WITHIN_SECONDS
        with self._explained(REPLY_WITHIN_SECONDS):
            self._socket = _connected(path, deadline_seconds)
        try:
            with self._explained(REPLY_WITHIN_SECONDS):
                self._socket.settimeout(_left(deadline_seconds))
                self._socket.sendall(encode_control_request(request))
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def reply(self, within_seconds: float | None) -> ControlReply:
        """Return the next reply. With None, it may begin at any time, and then has the usual time limit.

        Raises:
            TooSlow: If it did not come in time.
            Failure: If it is an `ErrorReply` (with its exit code), or not a valid reply.
        """
        with self._explained(REPLY_WITHIN_SECONDS if within_seconds is None else within_seconds):
            said = parse_control_reply(self._line(within_seconds))
        if isinstance(said, ErrorReply):
            raise Failure(said.reason, said.exit_code)
        return said

    def end(self, *, wait: bool = True, within_seconds: float | None = None) -> str:
        """Wait until an action is done, or only until it has begun; raises the same errors as `reply`.

        It waits as long as an action can take, while the daemon answers other requests. Returns the note
        on the result, which is usually empty.
        """
        longest_seconds = LONGEST_WAIT_SECONDS if within_seconds is None else within_seconds
        deadline_seconds = self._sent_at_seconds + longest_seconds
        for _ in range(MOST_REPLIES):
            match self._next_reply(deadline_seconds, longest_seconds):
                case Progress.DONE:
                    return ""
                case DoneWithNote(note):
                    return note
                case Progress.BEGUN:
                    if not wait:
                        return ""
                case _:
                    break
        raise _invalid_reply(self._path, _OTHER_TYPE)

    def _next_reply(self, deadline_seconds: float, longest_seconds: float) -> ControlReply:
        """Return the next reply; waits only while the daemon answers other requests."""
        while (left_seconds := _left(deadline_seconds)) > CHECK_EVERY_SECONDS:
            with suppress(TooSlow):
                return self.reply(CHECK_EVERY_SECONDS)
            # The daemon may have no room for another client; if it has exited, `reply` fails, too.
            with suppress(Disconnected, NoDaemon):
                ask_report(self._path)
        try:
            return self.reply(left_seconds)
        except TooSlow:
            if longest_seconds == LONGEST_WAIT_SECONDS:
                raise Failure(_NOT_DONE_YET) from None
            raise NoAnswer(self._path, f"no answer within {longest_seconds:g} s") from None

    def _line(self, within_seconds: float | None) -> bytes:
        deadline_seconds = None if within_seconds is None else time.monotonic() + within_seconds
        while not (line := self._received.partition(b"\n"))[1]:
            if len(self._received) > LONGEST_CONTROL_REPLY_BYTES:
                raise MalformedMessage("the line is too long")
            if deadline_seconds is None and self._received:
                deadline_seconds = time.monotonic() + REPLY_WITHIN_SECONDS
            self._socket.settimeout(None if deadline_seconds is None else _left(deadline_seconds))
            received = self._socket.recv(_RECEIVE_BYTES)
            if not received:
                raise ConnectionResetError
            self._received += received
        self._received = line[2]
        return bytes(line[0])

    @contextmanager
    def _explained(self, within_seconds: float) -> Iterator[None]:
        """Turn the errors of a connection into a `Failure`."""
        try:
            yield
        except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError):
            raise NoDaemon(self._path) from None
        except PermissionError:
            raise Unreachable(self._path) from None
        except TimeoutError:
            raise TooSlow(self._path, f"no answer within {within_seconds:g} s") from None
        except ConnectionError:
            raise Disconnected(self._path, "it closed the connection") from None
        except OSError as error:
            raise NoAnswer(self._path, error.strerror or str(error)) from error
        except MalformedMessage as error:
            raise _invalid_reply(self._path, str(error)) from None


def _connected(path: Path, deadline_seconds: float) -> socket.socket:
    """Connect to the daemon at `path`, on the socket for this user; raises `OSError` or `Failure`."""
    privileged = path.with_name(PRIVILEGED_NAME)
    try:
        return _connected_to(privileged, deadline_seconds)
    except (FileNotFoundError, ConnectionRefusedError, PermissionError, NotADirectoryError):
        return _connected_to(path, deadline_seconds)


def _connected_to(path: Path, deadline_seconds: float) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    try:
        while True:
            connection.settimeout(_left(deadline_seconds))
            try:
                connection.connect(os.fspath(path))
            except BlockingIOError:  # the kernel's queue for this socket is full
                if time.monotonic() >= deadline_seconds:
                    raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT)) from None
                time.sleep(RECONNECT_AFTER_SECONDS)
            else:
                break
        # TRUST: root acts on the reply, so it must come from the daemon. The kernel tells which user listens.
        listener = peer_of(connection).user_id
        if listener not in {0, os.geteuid(), path.parent.stat().st_uid}:
            raise untrusted(path, listener)
    except BaseException:
        connection.close()
        raise
    return connection


def _left(deadline_seconds: float) -> float:
    return max(_SHORTEST_SECONDS, deadline_seconds - time.monotonic())


def ask(path: Path, request: ControlRequest) -> ControlReply:
    """Return the reply of the daemon at `path`; raises `Failure`."""
    with PendingRequest(path, request) as pending:
        said = pending.reply(REPLY_WITHIN_SECONDS)
    if not isinstance(said, _REPLY_TYPES[request.operation]) or said is Progress.BEGUN:
        raise _invalid_reply(path, _OTHER_TYPE)
    return said


def ask_report(path: Path) -> Report:
    """Ask the daemon at `path` for its report; raises `Failure` like `ask`."""
    reply = ask(path, ControlRequest(Operation.STATUS))
    assert isinstance(reply, Status)  # noqa: S101 -- ask has checked it
    return reply.report


def watch(path: Path) -> Iterator[Report]:
    """Yield a report now and after each change, until the daemon exits; raises `Failure`."""
    with PendingRequest(path, ControlRequest(Operation.WATCH)) as pending:
        within_seconds: float | None = REPLY_WITHIN_SECONDS
        while True:
            said = pending.reply(within_seconds)
            if not isinstance(said, Status):
                raise _invalid_reply(path, _OTHER_TYPE)
            yield said.report
            within_seconds = None  # the next one comes with the next change
