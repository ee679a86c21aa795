"""Runs other programs to look at something: each for a limited time, and with words that can be read.

They run as who runs this, and get nothing of its environment. None runs as the daemon's user for root: such a
process is within reach of all others of that user, which could stop, trace and read it.
"""

import asyncio
import shutil
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from hkswitch.model import environment
from hkswitch.model.errors import Failure

WITHIN_SECONDS: Final = 10
KILLED_WITHIN_SECONDS: Final = 1

LONGEST_OUTPUT_BYTES: Final = 4 * 1024 * 1024
"""Of what a program says; what says more is ended."""


@dataclass(frozen=True, slots=True)
class Ran:
    """What a program said."""

    code: int
    output: str
    errors: str = ""

    @property
    def complaint(self) -> str:
        """Its last words about what is wrong."""
        lines = f"{self.output}\n{self.errors}".split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), f"it exited with {self.code}")


@dataclass(eq=False)
class CannotRun(Failure):
    """A program cannot be asked."""

    program: str
    why: str

    def __str__(self) -> str:
        return f"{self.program}: {self.why}"


class NotInstalled(CannotRun):
    """There is no such program."""


def path_of(program: str) -> str | None:
    """Where a program is, if it is anywhere."""
    return shutil.which(program, path=environment.SEARCH_PATH)


async def run(program: str, *arguments: str) -> Ran:
    """What a program says; raises `CannotRun`.

    Its input is a pipe that ends at once: the helper reads from nothing else.
    """
    path = path_of(program)
    if path is None:
        raise NotInstalled(program, "there is no such program")
    loop = asyncio.get_running_loop()
    try:
        # A session of its own: no terminal of ours, on which it could ask somebody.
        transport, listener = await loop.subprocess_exec(
            _Listener, path, *arguments, cwd="/", env=environment.ENVIRONMENT, start_new_session=True
        )
    except OSError as error:
        raise CannotRun(program, error.strerror or str(error)) from error
    try:
        if (stdin := transport.get_pipe_transport(0)) is not None:
            stdin.close()
        async with asyncio.timeout(WITHIN_SECONDS):
            await listener.ended.wait()
        if listener.said_too_much:
            raise CannotRun(program, f"it said more than {LONGEST_OUTPUT_BYTES} bytes")
        return Ran(transport.get_returncode() or 0, listener.text(1), listener.text(2))
    except TimeoutError:
        raise CannotRun(program, f"it gave no answer within {WITHIN_SECONDS} s") from None
    finally:
        await _end(transport, listener)


class _Listener(asyncio.SubprocessProtocol):
    """Hears all that a program says, until it and all who have its pipes have ended."""

    def __init__(self) -> None:
        self._said: dict[int, bytearray] = {1: bytearray(), 2: bytearray()}
        self.exited = asyncio.Event()
        self.ended = asyncio.Event()
        self.said_too_much = False

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        self.said_too_much |= len(self._said[fd]) + len(data) > LONGEST_OUTPUT_BYTES
        if self.said_too_much:
            self.ended.set()
        else:
            self._said[fd] += data

    def process_exited(self) -> None:
        self.exited.set()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 -- asyncio's signature
        self.ended.set()

    def text(self, fd: int) -> str:
        """What it said on a descriptor."""
        return self._said[fd].decode(errors="replace")


async def _end(transport: asyncio.SubprocessTransport, listener: _Listener) -> None:
    """Kill what has not ended; what may not be killed, as root's sudo, ends with its pipes."""
    with suppress(PermissionError):
        transport.close()
    with suppress(TimeoutError):
        async with asyncio.timeout(KILLED_WITHIN_SECONDS):
            await listener.exited.wait()
