"""A child process that carries a helper's lines: sudo, or ssh. Does not run as root.

It knows neither: what its standard error means, and which command is run, is for its transport to say.
"""

import asyncio
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Final

from hkswitch.backend import child_process
from hkswitch.backend.helper_session import HelperGone, HelperSession
from hkswitch.backend.paced_input import Pace, PacedInput
from hkswitch.backend.spawning import Child

END_WITHIN_SECONDS: Final = 1


async def start(command: Sequence[str], pipes: "ChildPipes") -> "ChildPipes":
    """Start the child, an argv; raises `HelperGone`."""
    with _as_gone(command[0]):
        await child_process.execute(command, pipes, own_group=pipes.has_children)
    return pipes


async def adopt(child: Child, pipes: "ChildPipes") -> "ChildPipes":
    """Carry the lines of a child that has been started; raises `HelperGone`."""
    with _as_gone("the helper's process"):
        await child_process.adopt(child, pipes)
    return pipes


@contextmanager
def _as_gone(program: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise HelperGone(f"{program}: {error.strerror}") from None
    except MemoryError:
        raise HelperGone(f"{program}: out of memory") from None


class ChildPipes(asyncio.SubprocessProtocol):
    """The standard input, output and error of a helper, or of the program that leads to it."""

    def __init__(
        self,
        session: HelperSession,
        telling_line: Callable[[Sequence[str]], str],
        pace: Pace | None = None,
        *,
        has_children: bool = False,
    ) -> None:
        """`telling_line` picks the reason for the end from the lines of standard error.

        `pace` limits how much is read, from a program that is not trusted; None is no limit. `has_children`:
        the program may leave others of this user behind if it is killed.
        """
        self.has_children = has_children
        self._session = session
        self._telling_line = telling_line
        self._input = None if pace is None else PacedInput(self._take, self._set_reading, pace)
        self._is_late = False
        """Whether what was read and not yet processed has had its time since the end."""
        self._exited = asyncio.Event()
        self._outputs = {1, 2}
        self._ending: list[asyncio.TimerHandle] = []

    async def close(self) -> None:
        if self._input is not None:
            self._input.stop()
        self._stdin.close()
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(END_WITHIN_SECONDS):
                    await self._exited.wait()
        finally:
            with suppress(PermissionError):  # sudo, which may not be killed, ends with its pipe or with us
                self._transport.close()
            for timer in self._ending:
                timer.cancel()
            if self.has_children:
                with suppress(ProcessLookupError):  # all have ended
                    os.killpg(self._transport.get_pid(), signal.SIGKILL)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.SubprocessTransport)  # noqa: S101 -- asyncio's types are too wide
        stdin = transport.get_pipe_transport(0)
        assert isinstance(stdin, asyncio.WriteTransport)  # noqa: S101
        self._transport, self._stdin = transport, stdin
        self._session.begin(stdin.write)

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        if self._input is None:
            self._take(fd, data)
        else:
            self._input.feed(fd, data)

    def _take(self, fd: int, data: bytes) -> None:
        if fd == 1:
            self._session.receive(data)
        else:
            self._session.receive_stderr(data)

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:  # noqa: ARG002 -- asyncio's signature
        # The reason may still be on its way on standard error, but that may also stay open forever.
        self._outputs.discard(fd)
        if not self._outputs and self._exited.is_set():
            self._end()
        elif not self._outputs or fd == 1:
            self._end_later()

    def process_exited(self) -> None:
        self._exited.set()
        if not self._outputs:
            self._end()
        elif self._input is not None:  # while reading pauses, the end of the pipes is not seen
            self._end_later()

    def _set_reading(self, *, on: bool) -> None:
        for fd in self._outputs:
            pipe = self._transport.get_pipe_transport(fd)
            assert isinstance(pipe, asyncio.ReadTransport)  # noqa: S101 -- asyncio's types are too wide
            if pipe.is_closing():
                continue
            if on:
                pipe.resume_reading()
            else:
                pipe.pause_reading()

    def _end_later(self) -> None:
        if not self._session.ended.done():
            self._ending.append(asyncio.get_running_loop().call_later(END_WITHIN_SECONDS, self._end))

    def _end(self) -> None:
        if self._input is not None and not self._input.is_empty and not self._is_late:
            self._is_late = True  # a flood that is still to be processed must not pass for a connection
            self._input.when_empty(self._end)
            self._end_later()
            return
        reason = self._telling_line(self._session.stderr.lines)
        self._session.end(reason or _how_it_ended(self._transport.get_returncode()))


def _how_it_ended(code: int | None) -> str:
    """Describe the end of a process that printed nothing; None if it has not ended."""
    if not code:
        return "it gave no reason"
    if code == -signal.SIGTERM:
        code = 128 + signal.SIGTERM  # as if the helper had caught it: it was still starting
    if code < 0:
        return f"it was killed by signal {-code}"
    return f"it exited with status {code} and printed nothing"
