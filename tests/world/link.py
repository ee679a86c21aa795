"""A connection between a client and a real server of the daemon, in memory and with the delays of a network.

It carries bytes in both directions, each in its order. It must not know what they mean.
"""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from tests.world.messages import Delay, Pipe
from tests.world.processes import Process


class Peer(NamedTuple):
    """The address of a controller; its hash is the same in every process, and so is the order in a set."""

    address: str
    port: int

    def __hash__(self) -> int:
        return self.port


class Server(Protocol):
    """The server's end of it, as asyncio has it."""

    def connection_made(self, transport: asyncio.Transport) -> None: ...
    def data_received(self, data: bytes) -> None: ...
    def eof_received(self) -> bool | None: ...
    def connection_lost(self, exc: Exception | None) -> None: ...


@dataclass(frozen=True)
class End:
    """The client's end."""

    peer: Peer | None
    heard: Callable[[bytes], None]
    cut: Callable[[], None]


class Link(asyncio.Transport):
    """One connection, as the server's transport; `send` and `hang_up` are the client's."""

    def __init__(
        self, process: Process, connection: Server, facts: dict[str, Any], end: End, delay: Delay
    ) -> None:
        super().__init__(facts)
        self.is_cut = False
        """Whether the client knows that it is over."""
        self._process = process
        self._connection = connection
        self._end = end
        self.closing: Callable[[], None] = lambda: None
        """Is called when the server ends the connection."""

        self._closing = self._paused = self._is_at_end = False
        self._held = b""
        self._down: Pipe[bytes | None] = Pipe(self._arrive_below, delay)
        self._up: Pipe[bytes | None] = Pipe(self._arrive_above, delay)
        connection.connection_made(self)

    # For the client

    def send(self, sent: bytes) -> None:
        """Have it arrive at the server, unless that is gone."""
        self._down.send(sent)

    def hang_up(self) -> None:
        """Close it: what the server sends is not read any more."""
        self.is_cut = True
        self._down.send(None)

    def break_off(self) -> None:
        """The server's process is gone: nothing that is on its way arrives."""
        self._closing = self.is_cut = True
        self._down.close()
        self._up.close()
        self._end.cut()

    def _arrive_above(self, sent: bytes | None) -> None:
        if sent is not None and not self.is_cut:
            self._end.heard(sent)
        elif sent is None and not self.is_cut:
            self.is_cut = True
            self._end.cut()

    # For the server

    def _arrive_below(self, sent: bytes | None) -> None:
        if sent is None:
            self._is_at_end = True
        else:
            self._held += sent
        self._feed()

    def _feed(self) -> None:
        if self._paused or self._closing or self._process.is_dead:
            return
        if self._held:
            held, self._held = self._held, b""
            self._process.context.run(self._connection.data_received, held)
        elif self._is_at_end:
            self._is_at_end = False
            self._process.context.run(self._hung_up)

    def _hung_up(self) -> None:
        if not self._connection.eof_received():
            self.close()

    def write(self, data: Any) -> None:  # noqa: ANN401 -- any buffer
        assert not self._closing, "written to a connection that is closed"
        self._up.send(bytes(data))

    def writelines(self, list_of_data: Iterable[Any]) -> None:
        self.write(b"".join(list_of_data))

    def write_eof(self) -> None:
        """It is sent by `close`."""

    def close(self) -> None:
        if not self._closing:
            self.closing()
            self._closing = True
            self._up.send(None)
            asyncio.get_running_loop().call_soon(self._connection.connection_lost, None)

    abort = close

    def is_closing(self) -> bool:
        return self._closing

    def pause_reading(self) -> None:
        self._paused = True

    def resume_reading(self) -> None:
        self._paused = False
        asyncio.get_running_loop().call_soon(self._feed)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """There is none."""

    def get_write_buffer_size(self) -> int:
        return 0
