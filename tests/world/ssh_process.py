"""Simulated ssh processes: the children of a daemon that carry its lines to the helpers of other hosts.

They stand in for `/usr/bin/ssh`, as asyncio's transport of a child. They must not know what the lines mean.
"""

import asyncio
from collections.abc import Callable
from contextvars import copy_context
from functools import partial
from typing import Any, Final, Protocol

from tests.world.messages import NOBODY
from tests.world.processes import Process, current

FAILED: Final = 255
KILLED: Final = -9
LOCAL_SECONDS: Final = 0.001
"""What it takes until the daemon notices what its child does."""


class Carriage(Protocol):
    """The way to a helper on the host, if one was started there."""

    def write(self, data: bytes) -> None:
        """Send bytes to the helper."""

    def hang_up(self) -> None:
        """The process here is gone, or has closed its end."""


class Destination(Protocol):
    """A host, as far as ssh connects to it."""

    async def connect(self, ssh: "SshProcess", within_seconds: float) -> Carriage | str:
        """Take a connection; or return the line that ssh prints before it fails."""

    def is_heard(self, since_seconds: float) -> bool:
        """Whether anything came from the host since then, such as the answer to a question of ssh."""


class Stdin(asyncio.WriteTransport):
    """The standard input of the process, for the daemon."""

    def __init__(self, process: "SshProcess") -> None:
        super().__init__()
        self._process = process
        self._is_closed = False

    def write(self, data: Any) -> None:  # noqa: ANN401 -- any buffer
        if not self._is_closed:
            self._process.written(bytes(data))

    def close(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            self._process.input_ended()


class Output(asyncio.ReadTransport):
    """The standard output or error of the process, for the daemon, which may not read for a while."""

    def __init__(self, take: Callable[[bytes | None], None]) -> None:
        super().__init__()
        self._take = take
        self._is_paused = self._is_over = False
        self._unread: list[bytes | None] = []

    def put(self, data: bytes | None) -> None:
        """The process writes something; None is the end."""
        self._unread.append(data)
        asyncio.get_running_loop().call_soon(self._feed, context=NOBODY)

    def pause_reading(self) -> None:
        self._is_paused = True

    def resume_reading(self) -> None:
        self._is_paused = False
        asyncio.get_running_loop().call_soon(self._feed, context=NOBODY)

    def drop(self) -> None:
        """Nobody reads it any more."""
        self._is_over = True
        self._unread.clear()

    def is_closing(self) -> bool:
        return self._is_over

    def _feed(self) -> None:
        while self._unread and not self._is_paused:
            data = self._unread.pop(0)
            self._is_over = self._is_over or data is None
            self._take(data)


NO_PROCESS: Final = 2**30
"""The process ID of each simulated process: the kernel has none that is as large."""


class SshProcess(asyncio.SubprocessTransport):
    """One process, from its start to its end."""

    def __init__(self, protocol: asyncio.SubprocessProtocol, options: dict[str, str]) -> None:
        super().__init__()
        self._protocol = protocol
        self._options = options
        self._daemon = current()
        self._caller = copy_context()
        self._process = Process("ssh")
        self._carriage: Carriage | None = None
        self._unsent: list[bytes] = []
        self._code: int | None = None
        self._is_input_over = False
        self.stdin = Stdin(self)
        self._outputs = {fd: Output(partial(self._came, fd)) for fd in (1, 2)}

    def get_pid(self) -> int:
        return NO_PROCESS

    def start(self, host: Destination) -> None:
        """Execute it."""
        self._process.spawn(self._live(host))

    @property
    def has_ended(self) -> bool:
        return self._code is not None

    @property
    def leftovers(self) -> list[str]:
        """What of it has not ended."""
        return [*([] if self.has_ended else ["an ssh process"]), *self._process.leftovers]

    async def _live(self, host: Destination) -> None:
        found = await host.connect(self, float(self._options["ConnectTimeout"]))
        if self.has_ended:
            if not isinstance(found, str):
                found.hang_up()
            return
        if isinstance(found, str):
            self.fail(found)
            return
        self._carriage = found
        for data in self._unsent:
            found.write(data)
        if self._is_input_over:
            self.input_ended()
        await self._ask_again_and_again(host)

    async def _ask_again_and_again(self, host: Destination) -> None:
        """As ServerAliveInterval has it."""
        interval_seconds = float(self._options["ServerAliveInterval"])
        most, unanswered = int(self._options["ServerAliveCountMax"]), 0
        while not self.has_ended:
            asked_seconds = asyncio.get_running_loop().time()
            await asyncio.sleep(interval_seconds)
            unanswered = 0 if host.is_heard(asked_seconds) else unanswered + 1
            if unanswered >= most:
                self.fail("Timeout, server not responding.")

    # For the host, and for the network

    def begin(self, write: Callable[[bytes], None]) -> None:
        """A helper has been started; what is written to it takes its `Carriage`."""

    def receive(self, data: bytes) -> None:
        """The helper's output has arrived."""
        if not self.has_ended:
            self._outputs[1].put(data)

    def fail(self, line: str) -> None:
        """Print a line, and end."""
        if not self.has_ended:
            self._outputs[2].put(f"{line}\r\n".encode())
            self.end(FAILED)

    def end(self, code: int = 0) -> None:
        """End: the helper has ended, or the connection is broken."""
        if self.has_ended:
            return
        self._code = code
        if self._carriage is not None:
            self._carriage.hang_up()
        for output in self._outputs.values():
            output.put(None)
        later = asyncio.get_running_loop().call_later
        later(LOCAL_SECONDS, self._call, self._protocol.process_exited, context=NOBODY)
        self._process.wipe_out()

    def orphan(self) -> None:
        """The daemon was killed."""
        for output in self._outputs.values():
            output.drop()
        self.end()

    # For the daemon

    def written(self, data: bytes) -> None:
        if self._carriage is None:
            self._unsent.append(data)
        elif not self.has_ended:
            self._carriage.write(data)

    def input_ended(self) -> None:
        """End soon: the helper there ends with its input, and without one there is nothing to wait for."""
        self._is_input_over = True
        if self._carriage is not None:
            self._carriage.hang_up()
        elif not self.has_ended:
            self.end()

    def get_pipe_transport(self, fd: int) -> asyncio.BaseTransport | None:
        return self.stdin if fd == 0 else self._outputs[fd]

    def get_returncode(self) -> int | None:
        return self._code

    def close(self) -> None:
        """Kill it, if it has not ended."""
        self.end(KILLED)
        for output in self._outputs.values():
            output.drop()

    def _came(self, fd: int, data: bytes | None) -> None:
        if data is None:
            self._call(self._protocol.pipe_connection_lost, fd, None)
        else:
            self._call(self._protocol.pipe_data_received, fd, data)

    def _call(self, call: Callable[..., None], *values: object) -> None:
        if self._daemon is None or not self._daemon.is_dead:
            self._caller.run(call, *values)
