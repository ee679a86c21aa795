"""The command line's end of the control socket."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hkswitch.control import ANSWER_WITHIN_SECONDS, LONGEST_PATH_BYTES
from hkswitch.core.control import (
    LONGEST_ANSWER_BYTES,
    Answer,
    Ask,
    AskFailed,
    Begun,
    Controllers,
    Done,
    Failed,
    Question,
    SetupIs,
    Status,
    encode_question,
    parse_answer,
)
from hkswitch.core.errors import Exit, Failure
from hkswitch.core.lines import Malformed
from hkswitch.core.model import Action
from hkswitch.core.report import Report


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


_ANSWERS: Final = {
    Ask.STATUS: Status,
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
    async with _answers(path, question) as answers:
        try:
            async with asyncio.timeout(ANSWER_WITHIN_SECONDS):
                said = await anext(answers)
        except TimeoutError:
            raise NoAnswer(path, f"nothing came within {ANSWER_WITHIN_SECONDS} s") from None
    if not isinstance(said, _ANSWERS[question.ask]):
        raise NoAnswer(path, "it answered something else")
    return said


async def act(path: Path, action: Action, group_id: str, *, wait: bool) -> None:
    """Have the daemon at `path` do an action, and wait for its end, or only until it was handed over.

    Raises what `ask` raises.
    """
    async with _answers(path, Question(Ask.ACT, action=action, group=group_id)) as answers:
        async for said in answers:
            if isinstance(said, Done) or (isinstance(said, Begun) and not wait):
                return
            if not isinstance(said, Begun):
                raise NoAnswer(path, "it answered something else")


async def watch(path: Path) -> AsyncIterator[Report]:
    """How everything is, now and after each change; raises what `ask` raises."""
    async with _answers(path, Question(Ask.WATCH)) as answers:
        async for said in answers:
            if not isinstance(said, Status):
                raise NoAnswer(path, "it answered something else")
            yield said.report


@asynccontextmanager
async def _answers(path: Path, question: Question) -> AsyncIterator[AsyncIterator[Answer]]:
    """All answers to a question, and what is wrong with them as a `Failure`."""
    try:
        async with _connected(path) as (reader, writer):
            writer.write(encode_question(question))
            yield _parsed(reader)
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


async def _parsed(reader: asyncio.StreamReader) -> AsyncIterator[Answer]:
    while True:
        said = parse_answer(await reader.readuntil())
        if isinstance(said, Failed):
            raise AskFailed(said)
        yield said


@asynccontextmanager
async def _connected(path: Path) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    if len(os.fsencode(path)) > LONGEST_PATH_BYTES:
        raise NoDaemon(path)  # none could
    reader, writer = await asyncio.open_unix_connection(path, limit=LONGEST_ANSWER_BYTES)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()
