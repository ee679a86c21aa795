"""The command line's end of the control socket. It blocks: one question needs no event loop."""

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from hkswitch.control import ANSWER_WITHIN_SECONDS, LONGEST_PATH_BYTES
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
    """The daemon accepted the connection, but did not reply."""

    path: Path
    why: str

    def __str__(self) -> str:
        return f"hkswitch gave no answer on {self.path}: {self.why}; see `systemctl status hkswitch`"


class Disconnected(NoAnswer):
    """The daemon went away before it replied."""


@dataclass(eq=False)
class InvalidReply(Failure):
    """The daemon's reply cannot be understood."""

    path: Path
    why: str

    def __str__(self) -> str:
        return f"invalid reply from the daemon on {self.path} ({self.why}): are both the same version?"


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
        self._socket = socket.socket(socket.AF_UNIX)
        try:
            self._send(encode_question(question))
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def answer(self, within_seconds: float | None = None) -> Answer:
        """The next answer.

        Raises:
            AskFailed: If it is that it was not done.
            Failure: If nothing that can be understood came back in time.
        """
        with self._explained(within_seconds):
            said = parse_answer(self._line(within_seconds))
        if isinstance(said, Failed):
            raise AskFailed(said)
        return said

    def end(self, *, wait: bool = True, within_seconds: float | None = None) -> str:
        """Wait until an action was done, or only until it was handed over; raises what `answer` raises.

        Returns what is worth telling about it, nothing for most.
        """
        while True:
            match self.answer(within_seconds):
                case Word.DONE:
                    return ""
                case Noted(note):
                    return note
                case Word.BEGUN:
                    if not wait:
                        return ""
                case _:
                    raise InvalidReply(self._path, _OTHER_TYPE)

    def _send(self, line: bytes) -> None:
        if len(os.fsencode(self._path)) > LONGEST_PATH_BYTES:
            raise NoDaemon(self._path)  # none could
        self._socket.settimeout(ANSWER_WITHIN_SECONDS)
        with self._explained(ANSWER_WITHIN_SECONDS):
            self._socket.connect(os.fspath(self._path))
            self._socket.sendall(line)

    def _line(self, within_seconds: float | None) -> bytes:
        deadline_seconds = None if within_seconds is None else time.monotonic() + within_seconds
        while not (line := self._received.partition(b"\n"))[1]:
            if len(self._received) > LONGEST_ANSWER_BYTES:
                raise Malformed("an endless line")
            self._received += self._some(deadline_seconds)
        self._received = line[2]
        return bytes(line[0])

    def _some(self, deadline_seconds: float | None) -> bytes:
        if deadline_seconds is None:
            self._socket.settimeout(None)
        else:
            self._socket.settimeout(max(_SHORTEST_SECONDS, deadline_seconds - time.monotonic()))
        received = self._socket.recv(_CHUNK_BYTES)
        if not received:
            raise ConnectionResetError
        return received

    @contextmanager
    def _explained(self, within_seconds: float | None) -> Iterator[None]:
        """What can be wrong with a connection, as a `Failure`."""
        try:
            yield
        except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError):
            raise NoDaemon(self._path) from None
        except PermissionError:
            raise Unreachable(self._path) from None
        except TimeoutError:
            raise NoAnswer(self._path, f"nothing came within {within_seconds} s") from None
        except ConnectionError:
            raise Disconnected(self._path, "it closed the connection") from None
        except OSError as error:
            raise NoAnswer(self._path, error.strerror or str(error)) from error
        except Malformed as error:
            raise InvalidReply(self._path, str(error)) from None


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
