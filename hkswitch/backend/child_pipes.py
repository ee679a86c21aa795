"""A child process that carries a helper's lines: sudo, or ssh. Does not run as root.

It knows neither: what its standard error means, and which command is run, is for its transport to say.
"""

import asyncio
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Final

from hkswitch.backend.child_process import Child, spawn
from hkswitch.backend.helper_session import HelperGone, HelperSession
from hkswitch.backend.paced_input import Pace, PacedInput

END_WITHIN_SECONDS: Final = 1


async def start(command: Sequence[str], pipes: "ChildPipes") -> "ChildPipes":
    """Start the child, an argv; raises `HelperGone`."""
    with _as_gone(command[0]):
        child = spawn(command, own_group=pipes.has_children)
    return await adopt(child, pipes)


async def adopt(child: Child, pipes: "ChildPipes") -> "ChildPipes":
    """Carry the lines of a child that has been started; raises `HelperGone`."""
    try:
        with _as_gone(str(child.pid)):
            await pipes.connect(child)
    except BaseException:
        await pipes.close()
        raise
    return pipes


@contextmanager
def _as_gone(program: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise HelperGone(f"{program}: {error.strerror}") from None
    except MemoryError:
        raise HelperGone(f"{program}: out of memory") from None


class ChildPipes:
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
        self._is_reading = True
        self._is_late = False
        """Whether what was read and not yet processed has had its time since the end."""
        self._stdin: asyncio.WriteTransport | None = None
        self._transports: dict[int, asyncio.ReadTransport] = {}
        self._exited = asyncio.Event()
        self._outputs = {1, 2}
        self._ending: list[asyncio.TimerHandle] = []

    async def connect(self, child: Child) -> None:
        """Carry the lines of `child`, until `close`, which must also follow an error."""
        loop = asyncio.get_running_loop()
        self._child = child
        self._watch_exit(os.pidfd_open(child.pid))
        self._stdin, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, child.stdin)
        self._session.begin(self._stdin.write)
        for fd, pipe in ((1, child.stdout), (2, child.stderr)):
            await loop.connect_read_pipe(partial(_ChildOutput, self, fd), pipe)

    def _watch_exit(self, descriptor: int) -> None:
        """Learn of the exit from a descriptor of the process, pidfd_open(2), even if it is after `close`."""
        loop = asyncio.get_running_loop()

        def exited() -> None:
            loop.remove_reader(descriptor)
            os.close(descriptor)
            self._child.poll()
            self._exited.set()
            if not self._outputs:
                self._end()
            elif self._input is not None:  # while reading pauses, the end of the pipes is not seen
                self._end_later()

        loop.add_reader(descriptor, exited)

    async def close(self) -> None:
        """Close the child's input, which makes it exit, and release the pipes."""
        if self._input is not None:
            self._input.stop()
        if self._stdin is not None:
            self._stdin.close()
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(END_WITHIN_SECONDS):
                    await self._exited.wait()
        finally:
            self._release()

    def _release(self) -> None:
        with suppress(PermissionError):  # sudo, which may not be killed, ends with its pipe or with us
            self._child.kill()
        for pipe, transport in (
            (self._child.stdin, self._stdin),
            (self._child.stdout, self._transports.get(1)),
            (self._child.stderr, self._transports.get(2)),
        ):
            assert pipe is not None  # noqa: S101 -- all are pipes
            (transport or pipe).close()
        for timer in self._ending:
            timer.cancel()
        if self.has_children:
            with suppress(ProcessLookupError):  # all have ended
                os.killpg(self._child.pid, signal.SIGKILL)

    def output_connected(self, fd: int, transport: asyncio.ReadTransport) -> None:
        """Note the transport of an output."""
        self._transports[fd] = transport
        if not self._is_reading:
            transport.pause_reading()

    def output_received(self, fd: int, data: bytes) -> None:
        """Take what the child has written."""
        if self._input is None:
            self._take(fd, data)
        else:
            self._input.feed(fd, data)

    def output_ended(self, fd: int) -> None:
        """Note that nothing more will come from an output."""
        # The reason may still be on its way on standard error, but that may also stay open forever.
        self._outputs.discard(fd)
        if not self._outputs and self._exited.is_set():
            self._end()
        elif not self._outputs or fd == 1:
            self._end_later()

    def _take(self, fd: int, data: bytes) -> None:
        if fd == 1:
            self._session.receive(data)
        else:
            self._session.receive_stderr(data)

    def _set_reading(self, *, on: bool) -> None:
        self._is_reading = on
        for fd in self._outputs & self._transports.keys():
            transport = self._transports[fd]
            if transport.is_closing():
                continue
            if on:
                transport.resume_reading()
            else:
                transport.pause_reading()

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
        self._session.end(reason or _how_it_ended(self._child.returncode))


class _ChildOutput(asyncio.Protocol):
    """One of the two outputs of a child."""

    def __init__(self, pipes: ChildPipes, fd: int) -> None:
        self._pipes = pipes
        self._fd = fd

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.ReadTransport)  # noqa: S101 -- asyncio's types are too wide
        self._pipes.output_connected(self._fd, transport)

    def data_received(self, data: bytes) -> None:
        self._pipes.output_received(self._fd, data)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 -- asyncio's signature
        self._pipes.output_ended(self._fd)


def _how_it_ended(code: int | None) -> str:
    """Describe the end of a process that printed nothing; None if it has not ended."""
    if not code:
        return "it gave no reason"
    if code == -signal.SIGTERM:
        code = 128 + signal.SIGTERM  # as if the helper had caught it: it was still starting
    if code < 0:
        return f"it was killed by signal {-code}"
    return f"it exited with status {code} and printed nothing"
