"""A child process and its pipes, on the event loop. Does not run as root.

asyncio's own can only carry a process that it has started itself, and passes on what it reads a turn later.
"""

import asyncio
import os
from collections.abc import Sequence
from contextlib import suppress
from functools import partial

from hkswitch.backend.spawning import Child, spawn


async def execute(
    command: Sequence[str], protocol: asyncio.SubprocessProtocol, *, own_group: bool = False
) -> None:
    """Start a program, an argv, and carry its pipes; raises `OSError` or `MemoryError`."""
    await adopt(spawn(command, own_group=own_group), protocol)


async def adopt(child: Child, protocol: asyncio.SubprocessProtocol) -> None:
    """Carry the pipes of a process that has been started; raises `OSError` or `MemoryError`."""
    transport = ChildTransport(child, protocol)
    try:
        await transport.connect()
    except BaseException:
        transport.protocol = asyncio.SubprocessProtocol()  # ignores the end of what it was never connected to
        with suppress(PermissionError):  # it ends with its pipes
            transport.close()
        raise


class ChildTransport(asyncio.SubprocessTransport):
    """The pipes of a process, and its end, for a protocol."""

    def __init__(self, child: Child, protocol: asyncio.SubprocessProtocol) -> None:
        """Does nothing yet: `connect` does."""
        super().__init__()
        self._child = child
        self.protocol = protocol
        self._input: asyncio.WriteTransport | None = None
        self._outputs: dict[int, asyncio.ReadTransport] = {}

    async def connect(self) -> None:
        """Connect the pipes, and then the protocol; raises `OSError`."""
        loop, child = asyncio.get_running_loop(), self._child
        self._watch_exit(os.pidfd_open(child.pid))
        self._input, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, child.stdin)
        for fd, pipe in ((1, child.stdout), (2, child.stderr)):
            self._outputs[fd], _ = await loop.connect_read_pipe(partial(_Output, self, fd), pipe)
        self.protocol.connection_made(self)
        for output in self._outputs.values():
            output.resume_reading()

    def _watch_exit(self, descriptor: int) -> None:
        """Wait for the exit with a descriptor of the process (pidfd_open(2)), even if it is after `close`."""
        loop = asyncio.get_running_loop()

        def exited() -> None:
            loop.remove_reader(descriptor)
            os.close(descriptor)
            self._child.poll()
            self.protocol.process_exited()

        loop.add_reader(descriptor, exited)

    def get_pid(self) -> int:
        return self._child.pid

    def get_returncode(self) -> int | None:
        return self._child.returncode

    def get_pipe_transport(self, fd: int) -> asyncio.BaseTransport | None:
        return self._outputs.get(fd) if fd else self._input

    def close(self) -> None:
        """Close the pipes, and kill the process; raises `PermissionError` if it may not be killed."""
        child = self._child
        for fd, pipe in enumerate((child.stdin, child.stdout, child.stderr)):
            if (transport := self.get_pipe_transport(fd)) is not None:
                transport.close()
            elif pipe is not None:
                pipe.close()
        child.kill()


class _Output(asyncio.Protocol):
    """One of the two outputs of a process; reads nothing before all pipes are connected."""

    def __init__(self, child: ChildTransport, fd: int) -> None:
        self._child = child
        self._fd = fd

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.ReadTransport)  # noqa: S101 -- asyncio's types are too wide
        transport.pause_reading()

    def data_received(self, data: bytes) -> None:
        self._child.protocol.pipe_data_received(self._fd, data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._child.protocol.pipe_connection_lost(self._fd, exc)
