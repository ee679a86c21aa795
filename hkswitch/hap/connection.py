"""One connection: plain and encrypted HTTP, resource limits, and writes that do not block other connections.

It uses the server only through `ConnectionManager`, and leaves the content of requests to the handler.
"""

import asyncio
from collections.abc import Hashable, Sequence
from http import HTTPStatus
from typing import Any, Final, Protocol

import h11
from pyhap.accessory_driver import AccessoryDriver
from pyhap.hap_crypto import HAPCrypto
from pyhap.hap_event import create_hap_event
from pyhap.hap_handler import HAPResponse
from pyhap.hap_protocol import HAPServerProtocol

from hkswitch.hap import debug_log, events, sessions
from hkswitch.hap.characteristics import TimedWrites
from hkswitch.hap.events import Change, Events, Path
from hkswitch.hap.handler import LONGEST_LOGGED_REASON, RequestHandler
from hkswitch.hap.sessions import RequestScheduler, Session
from hkswitch.model.printable import printable_line
from hkswitch.network.endpoint import Endpoint

MOST_AT_ONCE_BYTES: Final = 4 * 1024
"""The most to read in one turn of the loop; asyncio would read 256 KiB, which may contain 14,000 frames."""

LARGEST_HELD_BYTES: Final = 64 * 1024
"""The limit on requests that arrive while an earlier one waits for its response."""

LARGEST_UNSENT_BYTES: Final = 256 * 1024
"""Pending output for a controller that does not read: more than the largest response and many events."""

CONTINUE: Final = h11.InformationalResponse(status_code=100, headers=[], reason="Continue")
"""Asks a client that waits for permission to send its body (RFC 9110, 10.1.1)."""

ANSWERABLE: Final = frozenset({h11.IDLE, h11.SEND_RESPONSE})
"""The states of our side that allow a response to begin."""


class FrameCipher(HAPCrypto):
    """The encryption of one connection, in frames of up to 1024 bytes (HAP specification, 6.5.2)."""

    MIN_BLOCK_LENGTH = HAPCrypto.MIN_BLOCK_LENGTH - 2
    """HAP-python would never decrypt a last frame of one byte or none."""

    @property
    def has_part_of_a_frame(self) -> bool:
        """Whether the buffer holds an incomplete frame."""
        return bool(self._crypt_in_buffer)


class ConnectionManager(Protocol):
    """The part of the server that its connections use."""

    connections: dict[Any, Any]
    scheduler: RequestScheduler

    def add_unauthenticated(self, connection: "HapConnection") -> None:
        """Add an unauthenticated connection; this may close another one."""

    def is_unauthenticated(self, connection: "HapConnection") -> bool:
        """Return whether a connection has not authenticated."""

    def add_authenticated(self, connection: "HapConnection") -> None:
        """Register a connection as authenticated; this may close another connection of a controller."""

    def remove_connection(self, connection: "HapConnection") -> None:
        """Remove a closed connection."""

    def log_warning(self, address: str, what: str) -> None:
        """Log what an address did, at most once a minute."""

    def trim_memory_soon(self) -> None:
        """Return the memory of a connection to the kernel once it is closed."""


class HapConnection(HAPServerProtocol):
    """A connection from a controller or an unauthenticated device."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, server: ConnectionManager, driver: AccessoryDriver
    ) -> None:
        self._active_at_seconds: float = 0.0
        self.heard_at_seconds = loop.time()
        """The time when data last arrived: sending proves nothing, as events also go to dead peers."""
        super().__init__(loop, server.connections, driver)
        self.session = Session("?")
        self.events = Events(self, events.PACE)
        self.timed_writes = TimedWrites(loop.time)
        self._server = server
        self._deadline = self._deadline_in(sessions.AUTHENTICATION_SECONDS)
        self._may_pair_seconds = sessions.PAIR_SETUP_SECONDS
        self._requests = 0
        self._is_waiting = False
        self._target = b""
        """Of the request that the next response is for; a write is answered later."""

    # Life cycle

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start unauthenticated."""
        super().connection_made(transport)
        # HAP-python keys it by the peer's address and port, which two connections may share.
        peer: tuple[str, int] | None = self.peername
        del self.connections[peer]
        self.session.address = "?" if peer is None else peer[0]
        self.peername: Any = self.session
        self.connections[self.session] = self
        self.handler = RequestHandler(self)
        self._transport.max_size = MOST_AT_ONCE_BYTES  # an attribute of asyncio's transport
        if peer is None:
            self.abort()  # the peer has already disconnected
        else:
            debug_log.note(self.session, "connected")
            self._server.add_unauthenticated(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Release everything, including what HAP-python does not know about."""
        debug_log.note(self.session, "disconnected")
        self._deadline.cancel()
        self.events.close()
        self._server.remove_connection(self)
        self.accessory_driver.pair_setup.end(self.session)
        super().connection_lost(exc)

    @property
    def is_revoked(self) -> bool:
        """Whether its controller authenticated and has since been unpaired."""
        return self.handler.is_encrypted and not self.handler.is_authenticated

    @property
    def last_activity(self) -> float:
        """The loop's time when data was last sent or received."""
        return self._active_at_seconds

    @last_activity.setter
    def last_activity(self, _: float | None) -> None:
        """Ignore HAP-python's wall-clock time: a clock change could make connections look idle."""
        self._active_at_seconds = self.loop.time()

    def check_idle(self, now: float) -> None:  # noqa: ARG002 -- wall-clock time
        """Close an idle connection, by the monotonic clock; HAP-python uses the wall clock."""
        super().check_idle(self.loop.time())

    def is_at(self, endpoint: Endpoint) -> bool:
        """Return whether its own address belongs to this endpoint."""
        own_address: str = self.transport.get_extra_info("sockname")[0]
        return own_address.partition("%")[0] in {address.partition("%")[0] for address in endpoint.addresses}

    def extend_deadline_to_pair(self) -> None:
        """Extend the deadline, because a user may have to type the code.

        Only once: otherwise a device could block pairing forever.
        """
        if self._may_pair_seconds:
            self._deadline.cancel()
            self._deadline = self._deadline_in(self._may_pair_seconds)
            self._may_pair_seconds = 0.0

    def close(self) -> None:
        """Close; HAP-python's write_eof() raises if the peer has reset the connection."""
        try:
            super().close()
        except OSError:
            self.transport.abort()

    def abort(self) -> None:
        """Close without waiting for the peer to read."""
        if self.connections.get(self.peername) is self:
            del self.connections[self.peername]
        self.transport.abort()

    def log_warning(self, what: str) -> None:
        """Log what the peer did, at most once a minute for each address."""
        self._server.log_warning(self.session.address, what)

    def _deadline_in(self, seconds: float) -> asyncio.TimerHandle:
        loop: asyncio.AbstractEventLoop = self.loop
        return loop.call_later(seconds, self._too_late, seconds)

    def _too_late(self, allowed_seconds: float) -> None:
        self.log_warning(f"did not authenticate within {allowed_seconds:.0f} s")
        self.abort()

    # Requests

    @property
    def is_busy(self) -> bool:
        """Whether a request has arrived, even in part, and its response has not been sent."""
        return self.response is not None or self.request is not None or self._has_more

    @property
    def _has_more(self) -> bool:
        """Whether another request has arrived, even in part, after the current one."""
        if self.conn.trailing_data[0]:
            return True
        return self.hap_crypto is not None and self.hap_crypto.has_part_of_a_frame

    def data_received(self, data: bytes) -> None:
        """Process data.

        Also send the pending events if it was an empty frame: HAP-python only acts on requests.
        """
        self.heard_at_seconds = self.loop.time()
        before = self._requests
        super().data_received(data)
        if self.transport.is_closing():
            return
        if (
            self._requests == before
            and not self._is_waiting
            and not self._server.scheduler.take_turn(self._owner)
        ):
            self._wait_for_turn()  # thousands of frames may contain no request
        if not self.is_busy:
            self.events.send_pending()

    def _process_events(self) -> None:
        """Process a request if it is this controller's turn; HAP-python processes all that have arrived."""
        if self._is_waiting or self.transport.is_closing():
            return
        # After a response there is mostly nothing to process, which needs no turn.
        if not self._has_more or self._server.scheduler.take_turn(self._owner):
            super()._process_events()
        else:
            self._wait_for_turn()

    def _process_one_event(self) -> bool:
        """Process one event, but leave further requests in the buffer until their turn, and enforce limits.

        HAP-python accepts any number of requests, each up to 1 MiB, from any device. Here a request that is
        too large is rejected before its body arrives, and so is one over the limit for unauthenticated
        connections.
        """
        if self._is_waiting or self.transport.is_closing():
            return False
        before = self.request
        more = super()._process_one_event()
        is_done = before is not None and self.request is None and self.response is None
        if is_done and self.conn.trailing_data[0] and not self.transport.is_closing():
            self._wait_for_turn()  # thousands may arrive at once, on each of many connections
        if self.request is None or self.request is before:
            return bool(more)
        self._requests += 1
        headers, is_unauthenticated = dict(self.request.headers), self._server.is_unauthenticated(self)
        refused = sessions.refusal(
            self.request.target, headers, self._requests, is_unauthenticated=is_unauthenticated
        )
        if refused is None:
            if self.conn.they_are_waiting_for_100_continue:  # HAP-python never answers this
                self.write(self.conn.send(CONTINUE))
            return bool(more)
        self._refuse(refused)
        return False

    @property
    def _owner(self) -> Hashable:
        """The controller, or else the address, whose connections share its turns."""
        return self.session.controller or self.session.address

    def _wait_for_turn(self) -> None:
        self._is_waiting = True
        self.transport.pause_reading()
        self._server.scheduler.enqueue(self._owner, self.resume)

    def resume(self) -> None:
        """Process the next request."""
        self._is_waiting = False
        if not self.transport.is_closing():
            self.transport.resume_reading()
            super()._process_events()

    def _refuse(self, status: HTTPStatus, what: str = "request", why: str = "") -> None:
        """Respond without a body and close: whatever follows must not be read."""
        self.log_warning(f"{what} rejected with {status.value} ({why or status.phrase})")
        response = HAPResponse()
        response.status_code, response.reason = status.value, status.phrase
        response.headers.append(("Connection", "close"))
        self.send_response(response)
        self.close()

    def send_response(self, response: HAPResponse) -> None:
        """Send a response, and then the pending events unless another request has arrived.

        HAP-python sends a response without a body with chunked encoding, which can stall iOS, and never
        responds to HEAD.
        """
        debug_log.response(self.session, self._target, response.status_code, response.body)
        if self.request is not None and self.request.method == b"HEAD":
            length, response.body = len(response.body), b""  # the length without the body (RFC 9110, 9.3.2)
            response.headers.append(("Content-Length", str(length)))
        elif not response.body and response.status_code != HTTPStatus.NO_CONTENT:
            response.headers.append(("Content-Length", "0"))
        super().send_response(response)
        if self.conn.our_state is not h11.MUST_CLOSE and not self._has_more:
            self.events.send_pending()

    def _process_response(self, response: HAPResponse) -> None:
        self._target = b"" if self.request is None else self.request.target
        response.pairing_changed = False  # the driver does this, without HAP-python's thread
        super()._process_response(response)
        if response.shared_key:
            self.hap_crypto: Any = FrameCipher(response.shared_key)
            self._begin_session()

    def _begin_session(self) -> None:
        """Register the connection as authenticated; from here on, everything is encrypted."""
        # TRUST: any device on the path could append plaintext to the proof; HAP-python would accept it.
        if self.conn.trailing_data[0]:
            self.log_warning("sent unencrypted data after its proof")
            self.abort()
            return
        self._deadline.cancel()
        debug_log.note(self.session, f"authenticated, from {self.session.address}")
        self._server.add_authenticated(self)

    def _hold_data(self, size: int) -> bool:
        if self.response is None or self._held_bytes + size <= LARGEST_HELD_BYTES:
            return bool(super()._hold_data(size))
        self.log_warning("sent too much data while a request was pending")
        self.close()  # HAP-python closes it at 1 MiB, and logs that each time
        return False

    def _handle_invalid_conn_state(self, message: Exception | str) -> bool:
        """Respond to malformed HTTP, and close; HAP-python closes without a response or a log line."""
        words, _, _ = str(message).partition(": bytearray(")  # the rest is the line as the device sent it
        why = printable_line(words, LONGEST_LOGGED_REASON)
        if not isinstance(message, h11.RemoteProtocolError) or self.conn.our_state not in ANSWERABLE:
            self.log_warning(f"closing its connection: {why}")
            return bool(super()._handle_invalid_conn_state(message))
        self._refuse(HTTPStatus(message.error_status_hint), "malformed HTTP", why)
        return False

    def write(self, data: bytes) -> None:
        """Send, but disconnect a controller that does not read its responses.

        HAP-python buffers without limit.
        """
        if self.transport.is_closing():
            return
        super().write(data)
        if self.transport.get_write_buffer_size() > LARGEST_UNSENT_BYTES:
            self.log_warning("does not read its responses, closing its connection")
            self.abort()
            self._server.trim_memory_soon()

    # Events

    def value_of(self, path: Path) -> Any:  # noqa: ANN401 -- a characteristic's
        """Return the current value, or None if the characteristic is gone."""
        characteristic = self.accessory_driver.find(*path)
        return None if characteristic is None else characteristic.value

    def send_changes(self, changes: Sequence[Change]) -> None:
        """Send one message; HAP-python would wait half a second for more changes."""
        debug_log.event(self.session, changes)
        told = [{"aid": aid, "iid": iid, "value": value} for (aid, iid), value in changes]
        self.write(create_hap_event(told))
