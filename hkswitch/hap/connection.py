"""One connection: HTTP in the clear and encrypted, limits on what it takes up, writes that block nobody else.

Knows the server only as its keeper, and leaves what a request asks for to the handler.
"""

import asyncio
from collections.abc import Hashable, Sequence
from http import HTTPStatus
from typing import Any, Final, Protocol

import h11
from pyhap.accessory_driver import AccessoryDriver
from pyhap.hap_event import create_hap_event
from pyhap.hap_handler import HAPResponse
from pyhap.hap_protocol import HAPServerProtocol

from hkswitch.hap import debug_log, events, limits
from hkswitch.hap.events import Change, Events, Path
from hkswitch.hap.frames import Frames
from hkswitch.hap.handler import Requests
from hkswitch.hap.memory import FreeMemory
from hkswitch.hap.refusals import LONGEST_REASON
from hkswitch.hap.session import Session
from hkswitch.hap.timed_writes import TimedWrites
from hkswitch.hap.turns import Turns
from hkswitch.model.printable import printable_line
from hkswitch.network.endpoint import Endpoint

MOST_AT_ONCE_BYTES: Final = 4 * 1024
"""Taken from a connection in a turn of the loop; asyncio takes 256 KiB, which may be 14,000 frames."""

LARGEST_HELD_BYTES: Final = 64 * 1024
"""Requests that come behind one whose response takes time."""

LARGEST_UNSENT_BYTES: Final = 256 * 1024
"""What waits for a controller that does not read: more than the largest answer, and many events."""

CONTINUE: Final = h11.InformationalResponse(status_code=100, headers=[], reason="Continue")
"""Has a client that asks first send its body (RFC 9110, 10.1.1)."""

ANSWERABLE: Final = frozenset({h11.IDLE, h11.SEND_RESPONSE})
"""The states of our side in which a response can begin."""


class Keeper(Protocol):
    """What is needed of the server that looks after its connections."""

    connections: dict[Any, Any]
    turns: Turns
    free_memory: FreeMemory

    def admit(self, connection: "Connection") -> None:
        """Take in a stranger, maybe at the cost of another."""

    def is_stranger(self, connection: "Connection") -> bool:
        """Whether a connection has not proved who it is."""

    def trust(self, connection: "Connection") -> None:
        """It has authenticated, maybe at the cost of another session."""

    def forget(self, connection: "Connection") -> None:
        """It is gone."""

    def complain(self, address: str, what: str) -> None:
        """Log what an address did, once a minute at most."""


class Connection(HAPServerProtocol):
    """One controller's connection, which can wait for a write without blocking the others."""

    def __init__(self, loop: asyncio.AbstractEventLoop, server: Keeper, driver: AccessoryDriver) -> None:
        self._active_at_seconds: float = 0.0
        self.heard_at_seconds = loop.time()
        """When something was last received: events are sent to the dead too."""
        super().__init__(loop, server.connections, driver)
        self.session = Session("?")
        self.events = Events(self, events.PACE)
        self.timed_writes = TimedWrites(loop.time)
        self._server = server
        self._deadline = loop.call_later(limits.STRANGER_SECONDS, self._too_late)
        self._may_pair_seconds = limits.PAIR_SETUP_SECONDS
        self._requests = 0
        self._is_resting = False

    # Life

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin as a stranger."""
        super().connection_made(transport)
        # HAP-python knows it by the peer's address and port, and two connections may have the same ones.
        peer: tuple[str, int] | None = self.peername
        del self.connections[peer]
        self.session.address = "?" if peer is None else peer[0]
        self.peername: Any = self.session
        self.connections[self.session] = self
        self.handler = Requests(self)
        self._transport.max_size = MOST_AT_ONCE_BYTES  # asyncio's own name
        if peer is None:
            self.cut()  # it went before we looked
        else:
            debug_log.note(self.session, "connected")
            self._server.admit(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Give back what it had, also what HAP-python does not know of."""
        debug_log.note(self.session, "disconnected")
        self._deadline.cancel()
        self.events.close()
        self._server.forget(self)
        self.accessory_driver.pair_setup.end(self.session)
        super().connection_lost(exc)

    @property
    def is_revoked(self) -> bool:
        """Whether the controller has proved who it is, and is not paired any more."""
        return self.handler.is_encrypted and not self.handler.is_trusted

    @property
    def last_activity(self) -> float:
        """When something was last sent or received, in the loop's time."""
        return self._active_at_seconds

    @last_activity.setter
    def last_activity(self, _: float | None) -> None:
        """Leave out HAP-python's time: the clock can be set, and all connections would be idle for months."""
        self._active_at_seconds = self.loop.time()

    def check_idle(self, now: float) -> None:  # noqa: ARG002 -- it is by that clock
        """Close it if it was idle for long, by a clock that cannot be set; HAP-python's can."""
        super().check_idle(self.loop.time())

    def is_at(self, place: Endpoint) -> bool:
        """Whether it came to one of these addresses."""
        own_address: str = self.transport.get_extra_info("sockname")[0]
        return own_address.partition("%")[0] in {address.partition("%")[0] for address in place.addresses}

    def give_time_to_pair(self) -> None:
        """A person may have to type now; only once, or it would hold up others for ever."""
        if self._may_pair_seconds:
            self._deadline.cancel()
            self._deadline = self.loop.call_later(self._may_pair_seconds, self._too_late)
            self._may_pair_seconds = 0.0

    def close(self) -> None:
        """Close; HAP-python's write_eof() raises if the other side has reset the connection."""
        try:
            super().close()
        except OSError:
            self.transport.abort()

    def cut(self) -> None:
        """Close without waiting for the other side to read."""
        if self.connections.get(self.peername) is self:
            del self.connections[self.peername]
        self.transport.abort()

    def complain(self, what: str) -> None:
        """Log what it did, once a minute for each address."""
        self._server.complain(self.session.address, what)

    def _too_late(self) -> None:
        self.complain("it did not say in time who it is")
        self.cut()

    # Requests

    @property
    def is_busy(self) -> bool:
        """Whether a request, or a part of one, has come, and its response has not been sent."""
        return self.response is not None or self.request is not None or self._has_more

    @property
    def _has_more(self) -> bool:
        """Whether another request, or a part of one, has come behind the one that is answered."""
        if self.conn.trailing_data[0]:
            return True
        return self.hap_crypto is not None and self.hap_crypto.has_part_of_a_frame

    def data_received(self, data: bytes) -> None:
        """Take it, and tell what waited for it if it was an empty frame; HAP-python goes by requests only."""
        self.heard_at_seconds = self.loop.time()
        before = self._requests
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._requests == before and not self._is_resting and not self._server.turns.take(self._owner):
            self._rest()  # thousands of frames may have no request in them
        if not self.is_busy:
            self.events.all_answered()

    def _process_events(self) -> None:
        """Do a request if it is this controller's turn; HAP-python does all that a connection has."""
        if self._is_resting or self.transport.is_closing():
            return
        if self._server.turns.take(self._owner):
            super()._process_events()
        else:
            self._rest()

    def _process_one_event(self) -> bool:
        """Leave the next request where it is until its turn, and refuse what is too much.

        HAP-python takes any number of requests, and of each the first MiB, from anyone: here one that is too
        large is refused before its body has come, and so is one too many of a stranger.
        """
        if self._is_resting or self.transport.is_closing():
            return False
        before = self.request
        more = super()._process_one_event()
        is_done = before is not None and self.request is None and self.response is None
        if is_done and self.conn.trailing_data[0] and not self.transport.is_closing():
            self._rest()  # thousands may have come at once, on each of many connections
        if self.request is None or self.request is before:
            return bool(more)
        self._requests += 1
        headers, is_stranger = dict(self.request.headers), self._server.is_stranger(self)
        refused = limits.refusal(self.request.target, headers, self._requests, is_stranger=is_stranger)
        if refused is None:
            if self.conn.they_are_waiting_for_100_continue:  # HAP-python lets them wait
                self.write(self.conn.send(CONTINUE))
            return bool(more)
        self._refuse(refused)
        return False

    @property
    def _owner(self) -> Hashable:
        """Who shares the turns of this connection."""
        return self.session.controller or self.session.address

    def _rest(self) -> None:
        self._is_resting = True
        self.transport.pause_reading()
        self._server.turns.wait(self._owner, self)

    def go_on(self) -> None:
        """Do the next request."""
        self._is_resting = False
        if not self.transport.is_closing():
            self.transport.resume_reading()
            super()._process_events()

    def _refuse(self, status: HTTPStatus, what: str = "a request", why: str = "") -> None:
        """Answer without a body, and close: what comes behind is not to be read."""
        self.complain(f"{what} is answered with {status.value} ({why or status.phrase})")
        response = HAPResponse()
        response.status_code, response.reason = status.value, status.phrase
        response.headers.append(("Connection", "close"))
        self.send_response(response)
        self.close()

    def send_response(self, response: HAPResponse) -> None:
        """Send it whole, and then the events that waited for it and for all that came behind it.

        HAP-python sends a response without a body in chunks, at which iOS can stall, and none to HEAD.
        """
        target = b"" if self.request is None else self.request.target
        debug_log.response(self.session, target, response.status_code, response.body)
        if self.request is not None and self.request.method == b"HEAD":
            length, response.body = len(response.body), b""  # told, and not sent (RFC 9110, 9.3.2)
            response.headers.append(("Content-Length", str(length)))
        elif not response.body and response.status_code != HTTPStatus.NO_CONTENT:
            response.headers.append(("Content-Length", "0"))
        super().send_response(response)
        if self.conn.our_state is not h11.MUST_CLOSE and not self._has_more:
            self.events.all_answered()

    def _process_response(self, response: HAPResponse) -> None:
        response.pairing_changed = False  # the driver sees to it, without HAP-python's thread
        super()._process_response(response)
        if response.shared_key:
            self.hap_crypto: Any = Frames(response.shared_key)
            self._trust()

    def _trust(self) -> None:
        """It proved who it is, and from here on everything is encrypted."""
        # TRUST: what came behind the proof in the clear may be anybody's; HAP-python takes it for its own.
        if self.conn.trailing_data[0]:
            self.complain("it sent something in the clear behind its proof")
            self.cut()
            return
        self._deadline.cancel()
        debug_log.note(self.session, f"authenticated, from {self.session.address}")
        self._server.trust(self)

    def _hold_data(self, size: int) -> bool:
        if self.response is None or self._held_bytes + size <= LARGEST_HELD_BYTES:
            return bool(super()._hold_data(size))
        self.complain("it sends more and more while its write is under way")
        self.close()  # HAP-python does at a MiB, and would log it each time
        return False

    def _handle_invalid_conn_state(self, message: Exception | str) -> bool:
        """Answer malformed HTTP, and close; HAP-python closes without an answer, and does not say so."""
        words, _, _ = str(message).partition(": bytearray(")  # the line itself is whatever was sent
        why = printable_line(words, LONGEST_REASON)
        if not isinstance(message, h11.RemoteProtocolError) or self.conn.our_state not in ANSWERABLE:
            self.complain(f"its connection is closed: {why}")
            return bool(super()._handle_invalid_conn_state(message))
        self._refuse(HTTPStatus(message.error_status_hint), "malformed HTTP", why)
        return False

    def write(self, data: bytes) -> None:
        """Send; a controller that does not read what it asked for is cut off, as HAP-python does not."""
        if self.transport.is_closing():
            return
        super().write(data)
        if self.transport.get_write_buffer_size() > LARGEST_UNSENT_BYTES:
            self.complain("it does not read what is sent to it")
            self.cut()
            self._server.free_memory.give_back_soon()

    # Events

    def value_of(self, path: Path) -> Any:  # noqa: ANN401 -- a characteristic's
        """The value of this moment, None for a characteristic that is gone."""
        characteristic = self.accessory_driver.find(*path)
        return None if characteristic is None else characteristic.value

    def send_changes(self, changes: Sequence[Change]) -> None:
        """Send one message; HAP-python would wait for half a second in case more changes."""
        debug_log.event(self.session, changes)
        told = [{"aid": aid, "iid": iid, "value": value} for (aid, iid), value in changes]
        self.write(create_hap_event(told))
