"""The command line's end of the control socket. It blocks: one question needs no event loop.

It asks the daemon's user and nobody else, and waits for nothing without end.
"""

import errno
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from hkswitch.control import ANSWER_WITHIN_SECONDS, LONGEST_PATH_BYTES, PRIVILEGED_NAME, is_of_service
from hkswitch.control.peer_credentials import peer_of
from hkswitch.model.errors import Exit, Failure
from hkswitch.protocol.control import (
    LONGEST_ANSWER_BYTES,
    Answer,
    Ask,
    AskFailed,
    Controllers,
    Failed,
    Noted,
    Question,
    SetupIs,
    Status,
    Word,
    encode_question,
    parse_answer,
)
from hkswitch.protocol.json_lines import Malformed
from hkswitch.protocol.report import Report


@dataclass(eq=False)
class NoDaemon(Failure):
    """Nobody listens at the socket."""

    path: Path

    def __str__(self) -> str:
        start = "start hkswitch.service" if is_of_service(self.path) else "start the one that has this folder"
        return f"no hkswitch listens on {self.path}: {start}"


@dataclass(eq=False)
class Unreachable(Failure):
    """This user may not come near the socket."""

    path: Path
    exit_code = Exit.DENIED

    def __str__(self) -> str:
        return f"this user may not reach {self.path}: use sudo"


@dataclass(eq=False)
class NoAnswer(Failure):
    """The daemon accepted the connection, but did not reply."""

    path: Path
    why: str

    def __str__(self) -> str:
        see = "; see `systemctl status hkswitch`" if is_of_service(self.path) else ""
        return f"hkswitch gave no answer on {self.path}: {self.why}{see}"


class Disconnected(NoAnswer):
    """The daemon went away before it replied."""


class TooSlow(NoAnswer):
    """The daemon did not reply in time."""


@dataclass(eq=False)
class Stranger(Failure):
    """A user who is not the daemon's has put a socket there."""

    path: Path
    user_id: int
    exit_code = Exit.DENIED

    def __str__(self) -> str:
        name = "hkswitch.service" if is_of_service(self.path) else "the hkswitch that has this folder"
        return (
            f"cannot trust {self.path}: user {self.user_id} listens there, and not the daemon's user; "
            f"remove it, and restart {name}"
        )


@dataclass(eq=False)
class NotDoneYet(Failure):
    """An action takes longer than anybody waits for."""

    def __str__(self) -> str:
        hours = LONGEST_WAIT_SECONDS / 3600
        return f"not done after {hours:.0f} hours, and it goes on: `hkswitch status` shows what comes of it"


@dataclass(eq=False)
class InvalidReply(Failure):
    """The daemon's reply cannot be understood."""

    path: Path
    why: str

    def __str__(self) -> str:
        return f"invalid reply from the daemon on {self.path} ({self.why}): are both the same version?"


LONGEST_WAIT_SECONDS: Final = 2 * 3600
"""A command may take an hour, and so may the one that it waits for. Units have timeouts of their own."""

ASK_AGAIN_SECONDS: Final = 10
"""While an action takes long, the daemon must still answer another question."""

MOST_WORDS: Final = 10
"""Answers to one action: it was begun, perhaps again, and it has ended."""

CONNECT_AGAIN_SECONDS: Final = 0.05

_CHUNK_BYTES: Final = 1024 * 1024

_OTHER_TYPE: Final = "unexpected type"

_SHORTEST_SECONDS: Final = 0.001
"""0 would mean not to wait at all, and say so in another error."""

_ANSWERS: Final = {
    Ask.STATUS: Status,
    Ask.CONTROLLERS: Controllers,
    Ask.SETUP: SetupIs,
    Ask.UNPAIR: Word,
    Ask.RESET_ATTEMPTS: Word,
}


class Asked:
    """A question that the daemon at `path` was asked; raises `NoDaemon`, or another `Failure`."""

    def __init__(self, path: Path, question: Question) -> None:
        """Connects, and sends the question."""
        self._path = path
        self._received = bytearray()
        self._asked_at_seconds = time.monotonic()
        if len(os.fsencode(path)) > LONGEST_PATH_BYTES:
            raise NoDaemon(path)  # none could
        deadline_seconds = self._asked_at_seconds + ANSWER_WITHIN_SECONDS
        with self._explained(ANSWER_WITHIN_SECONDS):
            self._socket = _connected(path, deadline_seconds)
        try:
            with self._explained(ANSWER_WITHIN_SECONDS):
                self._socket.settimeout(_left(deadline_seconds))
                self._socket.sendall(encode_question(question))
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def answer(self, within_seconds: float | None) -> Answer:
        """The next answer; None is for one that may begin at any time, and then must come as a whole.

        Raises:
            AskFailed: If it is that it was not done.
            TooSlow: If it did not come in time.
            Failure: If nothing that can be understood came back.
        """
        with self._explained(ANSWER_WITHIN_SECONDS if within_seconds is None else within_seconds):
            said = parse_answer(self._line(within_seconds))
        if isinstance(said, Failed):
            raise AskFailed(said)
        return said

    def end(self, *, wait: bool = True, within_seconds: float | None = None) -> str:
        """Wait until an action was done, or only until it was handed over; raises what `answer` raises.

        It may take as long as an action can, while the daemon answers other questions. Returns what is worth
        telling about it, nothing for most.
        """
        longest_seconds = LONGEST_WAIT_SECONDS if within_seconds is None else within_seconds
        deadline_seconds = self._asked_at_seconds + longest_seconds
        for _ in range(MOST_WORDS):
            match self._word(deadline_seconds, longest_seconds):
                case Word.DONE:
                    return ""
                case Noted(note):
                    return note
                case Word.BEGUN:
                    if not wait:
                        return ""
                case _:
                    break
        raise InvalidReply(self._path, _OTHER_TYPE)

    def _word(self, deadline_seconds: float, longest_seconds: float) -> Answer:
        """The next answer, while the daemon lives."""
        while (left_seconds := _left(deadline_seconds)) > ASK_AGAIN_SECONDS:
            with suppress(TooSlow):
                return self.answer(ASK_AGAIN_SECONDS)
            with suppress(Disconnected, NoDaemon):  # it may have no place left; its end would be ours too
                ask(self._path, Question(Ask.STATUS))
        try:
            return self.answer(left_seconds)
        except TooSlow:
            if longest_seconds == LONGEST_WAIT_SECONDS:
                raise NotDoneYet from None
            raise NoAnswer(self._path, f"nothing came within {longest_seconds:g} s") from None

    def _line(self, within_seconds: float | None) -> bytes:
        deadline_seconds = None if within_seconds is None else time.monotonic() + within_seconds
        while not (line := self._received.partition(b"\n"))[1]:
            if len(self._received) > LONGEST_ANSWER_BYTES:
                raise Malformed("an endless line")
            if deadline_seconds is None and self._received:
                deadline_seconds = time.monotonic() + ANSWER_WITHIN_SECONDS
            self._socket.settimeout(None if deadline_seconds is None else _left(deadline_seconds))
            received = self._socket.recv(_CHUNK_BYTES)
            if not received:
                raise ConnectionResetError
            self._received += received
        self._received = line[2]
        return bytes(line[0])

    @contextmanager
    def _explained(self, within_seconds: float) -> Iterator[None]:
        """What can be wrong with a connection, as a `Failure`."""
        try:
            yield
        except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError):
            raise NoDaemon(self._path) from None
        except PermissionError:
            raise Unreachable(self._path) from None
        except TimeoutError:
            raise TooSlow(self._path, f"nothing came within {within_seconds} s") from None
        except ConnectionError:
            raise Disconnected(self._path, "it closed the connection") from None
        except OSError as error:
            raise NoAnswer(self._path, error.strerror or str(error)) from error
        except Malformed as error:
            raise InvalidReply(self._path, str(error)) from None


def _connected(path: Path, deadline_seconds: float) -> socket.socket:
    """A connection to the daemon at `path`, by the socket for this user; raises `OSError` or `Stranger`."""
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
            except BlockingIOError:  # so many are waiting there that the kernel takes no other
                if time.monotonic() >= deadline_seconds:
                    raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT)) from None
                time.sleep(CONNECT_AGAIN_SECONDS)
            else:
                break
        # TRUST: root acts on what comes back, so it must come from the daemon. The kernel knows who listens.
        listener = peer_of(connection).user_id
        if listener not in {0, os.geteuid(), path.parent.stat().st_uid}:
            raise Stranger(path, listener)
    except BaseException:
        connection.close()
        raise
    return connection


def _left(deadline_seconds: float) -> float:
    return max(_SHORTEST_SECONDS, deadline_seconds - time.monotonic())


def ask(path: Path, question: Question) -> Answer:
    """What the daemon at `path` answers; raises what `Asked` and its `answer` raise."""
    with Asked(path, question) as asked:
        said = asked.answer(ANSWER_WITHIN_SECONDS)
    if not isinstance(said, _ANSWERS[question.ask]) or said is Word.BEGUN:
        raise InvalidReply(path, _OTHER_TYPE)
    return said


def watch(path: Path) -> Iterator[Report]:
    """How everything is, now and after each change, until the daemon ends; raises what `ask` raises."""
    with Asked(path, Question(Ask.WATCH)) as asked:
        within_seconds: float | None = ANSWER_WITHIN_SECONDS
        while True:
            said = asked.answer(within_seconds)
            if not isinstance(said, Status):
                raise InvalidReply(path, _OTHER_TYPE)
            yield said.report
            within_seconds = None  # the next one comes with the next change
