"""Runs other programs with a time limit and a size limit on their output.

They run as the user who runs the doctor, and inherit nothing from that user's environment. If that is root,
none runs as the daemon's user, whose other processes could stop, trace and read it.
"""

import asyncio
import shutil
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from hkswitch.model import environment
from hkswitch.model.errors import Failure

PROGRAM_TIMEOUT_SECONDS: Final = 10
KILL_TIMEOUT_SECONDS: Final = 1

LONGEST_OUTPUT_BYTES: Final = 4 * 1024 * 1024
"""The limit for each stream; a program that prints more is killed."""


@dataclass(frozen=True, slots=True)
class Completed:
    """A program that has exited: its exit code and output."""

    code: int
    output: str
    errors: str = ""

    @property
    def last_line(self) -> str:
        """The last line, from standard error if there is one: usually the error message."""
        lines = f"{self.output}\n{self.errors}".split("\n")
        return next(
            (line.strip() for line in reversed(lines) if line.strip()), f"exited with status {self.code}"
        )


class CannotRun(Failure):
    """A program that did not start, or did not exit in time."""


class NotInstalled(CannotRun):
    """A program that is not installed."""


def path_of(program: str) -> str | None:
    """Return the path of a program; None if it is not installed."""
    return shutil.which(program, path=environment.SEARCH_PATH)


async def run(program: str, *arguments: str) -> Completed:
    """Run a program to its end; raises `CannotRun`.

    Its standard input is a pipe that is closed at once: the helper reads only from a pipe.
    """
    path = path_of(program)
    if path is None:
        raise NotInstalled(f"{program} is not installed")
    loop = asyncio.get_running_loop()
    try:
        # In a session of its own it has no terminal on which it could prompt.
        transport, collected = await loop.subprocess_exec(
            _Collector, path, *arguments, cwd="/", env=environment.CHILD_ENVIRONMENT, start_new_session=True
        )
    except OSError as error:
        raise CannotRun(f"cannot run {program}: {error.strerror or error}") from error
    try:
        if (stdin := transport.get_pipe_transport(0)) is not None:
            stdin.close()
        async with asyncio.timeout(PROGRAM_TIMEOUT_SECONDS):
            await collected.ended.wait()
        if collected.is_too_much:
            raise CannotRun(f"{program} printed more than {LONGEST_OUTPUT_BYTES} bytes")
        return Completed(transport.get_returncode() or 0, collected.text(1), collected.text(2))
    except TimeoutError:
        raise CannotRun(f"{program} did not exit within {PROGRAM_TIMEOUT_SECONDS} s") from None
    finally:
        await _end(transport, collected)


class _Collector(asyncio.SubprocessProtocol):
    """The output of a program, complete when every process that holds its pipes has exited."""

    def __init__(self) -> None:
        self._output: dict[int, bytearray] = {1: bytearray(), 2: bytearray()}
        self.exited = asyncio.Event()
        self.ended = asyncio.Event()
        self.is_too_much = False

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        self.is_too_much |= len(self._output[fd]) + len(data) > LONGEST_OUTPUT_BYTES
        if self.is_too_much:
            self.ended.set()
        else:
            self._output[fd] += data

    def process_exited(self) -> None:
        self.exited.set()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 -- asyncio's signature
        self.ended.set()

    def text(self, fd: int) -> str:
        """Return the output on a descriptor."""
        return self._output[fd].decode(errors="replace")


async def _end(transport: asyncio.SubprocessTransport, collected: _Collector) -> None:
    """Kill a program that is still running; sudo, which runs as root, exits when its pipes close."""
    with suppress(PermissionError):
        transport.close()
    with suppress(TimeoutError):
        async with asyncio.timeout(KILL_TIMEOUT_SECONDS):
            await collected.exited.wait()
