"""A bridge without sockets: tests feed its connections, and check the answers and what remains."""

import asyncio
import logging
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import h11
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hkswitch.daemon.bridge import Bridge
from hkswitch.daemon.requests import Write
from hkswitch.hap import state_file
from hkswitch.hap.connection import HapConnection
from hkswitch.hap.driver import PAIRINGS, Driver
from hkswitch.hap.log_limiter import RateLimitedLog
from hkswitch.hap.server import Server
from hkswitch.model.group import Group
from hkswitch.model.switch_events import Tile
from tests.hap.conftest import GROUPS
from tests.support.raw_client import Said

ADMIN = UUID("11111111-2222-4333-8444-555555555555")
USER = UUID("aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee")
ADMIN_KEY = Ed25519PrivateKey.from_private_bytes(b"a" * 32)
MOST_TURNS = 50
"""Turns of the event loop within which a write must be answered."""


class Wire(asyncio.Transport):
    """The transport of one connection, which keeps the written data."""

    def __init__(self, connection: HapConnection, peer: tuple[str, int]) -> None:
        super().__init__({"peername": peer})
        self.written = b""
        self.paused = False
        self._connection = connection
        self._closing = False

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Ignore the limits: there is no buffer."""

    def get_write_buffer_size(self) -> int:
        return 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self._closing, "written to a connection that is closed"
        self.written += data

    def writelines(self, list_of_data: Iterable[Any]) -> None:
        self.write(b"".join(list_of_data))

    def write_eof(self) -> None:
        """Do nothing: `close` ends the connection."""

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            asyncio.get_running_loop().call_soon(self._connection.connection_lost, None)

    abort = close

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False


@dataclass(frozen=True, slots=True)
class Answer:
    """A response."""

    status: int
    kind: bytes
    body: bytes

    @property
    def tlv(self) -> dict[int, bytes]:
        """The body's parts by their types."""
        return Said(self.status, self.body).tlv


class Records(logging.Handler):
    """A handler that keeps log records."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.seen.append(record)


class EchoingWrites:
    """A write handler like the switchboard."""

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge

    def write(self, write: Write, tile: Tile, *, on: bool) -> None:
        assert write.by in {str(ADMIN).upper(), str(USER).upper()}
        assert write.by, "there is no writer"

        def written() -> None:
            self._bridge.show(write.group_id, tile, write.writer, on=on)
            write.settle(ok=write.group_id != "broken")

        asyncio.get_running_loop().call_soon(written)


@dataclass
class InProcess:
    """An offline bridge, and everything logged since its creation."""

    bridge: Bridge
    state_folder: Path
    records: Records = field(default_factory=Records)
    ports: int = 0

    @classmethod
    async def made(cls, state_folder: Path, *, paired: bool, groups: Iterable[Group] = GROUPS) -> "InProcess":
        """Create one that is unpaired, or paired with an admin and a user."""
        own = cls(Bridge("Test Bridge", groups, state_folder, 51827), state_folder)
        own.bridge._take_writes(EchoingWrites(own.bridge))
        own.driver.aio_stop_event = asyncio.Event()  # as after a start
        if paired:
            own._pair(ADMIN, ADMIN_KEY.public_key().public_bytes_raw(), b"\1")
            own._pair(USER, b"k" * 32, b"\0")
        return own

    def _pair(self, client: UUID, key: bytes, permissions: bytes) -> None:
        self.driver.pair(str(client).upper().encode(), key, permissions)

    @contextmanager
    def recorded(self) -> Iterator[None]:
        """Record log lines within the block, at the levels of logs.py."""
        every, ours, noisy = map(logging.getLogger, (None, "hkswitch", "pyhap.hap_handler"))
        every.addHandler(self.records)
        ours.addHandler(self.records)
        ours.setLevel(logging.INFO)
        ours.propagate = False  # pytest would keep all of it
        noisy.setLevel(logging.CRITICAL)
        yield
        noisy.setLevel(logging.NOTSET)
        ours.propagate = True
        ours.setLevel(logging.NOTSET)
        ours.removeHandler(self.records)
        every.removeHandler(self.records)

    @property
    def driver(self) -> Driver:
        return self.bridge._driver

    @property
    def pairings(self) -> dict[str, dict[Any, Any]]:
        """Everything that the state has about controllers."""
        return {name: dict(getattr(self.driver.state, name)) for name in PAIRINGS}

    def connect(self, trusted: UUID | None = None) -> "Fed":
        """Open a connection, unauthenticated or of a controller after pair-verify."""
        self.ports += 1
        connection = HapConnection(asyncio.get_running_loop(), self.driver.http_server, self.driver)
        wire = Wire(connection, ("192.0.2.1", self.ports))
        connection.connection_made(wire)
        if trusted is not None:
            requests = cast("Any", connection.handler)
            requests.is_encrypted, requests.client_uuid = True, trusted
            connection._deadline.cancel()
            self.driver.http_server.remove_connection(connection)
        return Fed(self, connection, wire)

    def forgive(self) -> None:
        """Reset failed attempts, log records and limits, so that inputs are independent of one another."""
        self.driver.attempts.failed = 0
        reset_rate_limits(self.driver.http_server)
        self.records.seen.clear()

    def has_logged_little(self) -> None:
        """Check the log: at most one warning, no error, and no line that could pass for another."""
        for record in self.records.seen:
            assert record.exc_info is None, record
            assert record.levelno < logging.ERROR, record.getMessage()
            assert record.getMessage().isprintable(), record.getMessage()
            assert len(record.getMessage()) < 500
        assert sum(record.levelno >= logging.WARNING for record in self.records.seen) <= 1

    def holds_nothing(self) -> None:
        """Check that nothing remains of lost connections."""
        server = self.driver.http_server
        assert (len(server._unauthenticated), len(server.connections)) == (0, 0)
        assert self.driver.pair_setup.holder is None

    def restore(self, pairings: dict[str, dict[Any, Any]]) -> None:
        """Restore these pairings, and remove all others."""
        if self.pairings != pairings:
            for name, known in pairings.items():
                setattr(self.driver.state, name, dict(known))
            self.driver.persist()

    def has_kept(self, pairings: dict[str, dict[Any, Any]]) -> None:
        """Check that the state is unchanged, in memory and on disk."""
        assert self.pairings == pairings
        self.has_written_its_state()

    def has_written_its_state(self) -> None:
        stored = state_file.read(self.state_folder)
        assert stored is not None
        assert stored.accessory == self.driver.stored.accessory


@dataclass
class Fed:
    """One connection."""

    own: InProcess
    connection: HapConnection
    wire: Wire

    async def feed(self, sent: bytes, cuts: Iterable[int] = ()) -> None:
        """Feed data in pieces; a piece waits while a write is pending."""
        ends = [*sorted({cut % (len(sent) + 1) for cut in cuts}), len(sent)]
        begin = 0
        for end in ends:
            await self.answered()
            if self.wire.is_closing():
                return
            if begin < end:
                self.connection.data_received(sent[begin:end])
                await self._had_its_turn()
            begin = end

    async def _had_its_turn(self) -> None:
        """Wait until the last request is being processed; others of its controller may come first."""
        for _ in range(MOST_TURNS):
            if not self.wire.paused or self.wire.is_closing() or self.connection.response is not None:
                return
            await asyncio.sleep(0)
        raise AssertionError("it never has its turn")

    async def answered(self) -> None:
        """Wait until no response is pending and no request waits for its turn."""
        for _ in range(MOST_TURNS):
            is_busy = self.connection.response is not None or self.wire.paused
            if not is_busy or self.wire.is_closing():
                return
            await asyncio.sleep(0)
        raise AssertionError("a write is never answered")

    async def lost(self) -> None:
        """Disconnect, and wait until pending work has ended."""
        self.wire.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.gather(*others, return_exceptions=True)
        await asyncio.sleep(0)
        assert self.connection._deadline.cancelled()

    def answers(self) -> list[Answer]:
        """Return the responses; fails if they are not HTTP."""
        found, rest = [], self.wire.written
        while rest:
            answer, rest = _first(rest)
            found.append(answer)
        return found


def _first(received: bytes) -> tuple[Answer, bytes]:
    """Return a response and the data after it; a response to HEAD has no body."""
    try:
        answer, rest = _parsed(received, "GET")
    except (h11.ProtocolError, EOFError):
        return _parsed(received, "HEAD")
    is_of_head = answer.body and b"HTTP/1.1 ".startswith(answer.body[:9])
    return _parsed(received, "HEAD") if is_of_head else (answer, rest)


def _parsed(received: bytes, method: str) -> tuple[Answer, bytes]:
    parser = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 22)
    parser.send(h11.Request(method=method, target="/", headers=[("Host", "bridge")]))
    parser.send(h11.EndOfMessage())
    parser.receive_data(received)
    head: h11.Response | None = None
    body = b""
    while True:
        match parser.next_event():
            case h11.Response() as head:
                pass
            case h11.Data(data=data):
                body += data
            case h11.EndOfMessage():
                assert head is not None
                kind = dict(head.headers).get(b"content-type", b"")
                return Answer(head.status_code, kind, body), parser.trailing_data[0]
            case other:
                raise EOFError(other)


def is_removal(sent: bytes, client: UUID) -> bool:
    """Return whether any of the requests may remove this pairing."""
    return client.hex.encode() in re.sub(rb"[^0-9a-f]", b"", sent.lower())


def reset_rate_limits(server: Server) -> None:
    """Reset the limits, so that the next line about an address is logged."""
    server._limited_log.close()
    server._limited_log = RateLimitedLog(logging.getLogger(Server.__module__))
