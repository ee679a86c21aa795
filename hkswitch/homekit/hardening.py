"""What HAP-python 5.0.0 lacks: every override of its internals, each with its reason.

tests/homekit/test_contract.py fails if an upgrade changes what is overridden here.
"""

import asyncio
import logging
import pathlib
import socket
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from http import HTTPStatus
from math import inf
from typing import Any, Final
from uuid import UUID

from pyhap.accessory_driver import AccessoryDriver
from pyhap.characteristic import Characteristic
from pyhap.const import HAP_SERVER_STATUS as STATUS
from pyhap.const import STANDALONE_AID
from pyhap.hap_handler import HAPResponse, HAPServerHandler
from pyhap.hap_protocol import HAPServerProtocol
from pyhap.hap_server import HAPServer
from pyhap.util import from_hap_json, to_hap_json

from hkswitch.homekit import statefile
from hkswitch.homekit.pairing import Setup
from hkswitch.homekit.writes import Item, Malformed, Writer, parse_items, response_body, write_all

IP_MULTICAST_ALL: Final = 49  # ip(7); the socket module has no name for it
EVENT_INTERVAL_SECONDS: Final = 1.0
"""Events of a characteristic come at most this often, as the HAP specification (6.8) means it."""

PAIRINGS: Final = ("paired_clients", "client_properties", "uuid_to_bytes")
"""What HAP-python's state knows of controllers."""

_log = logging.getLogger(__name__)

Path = tuple[int, int]
"""AID and IID."""

SlowWrite = Callable[[bool, Writer], Awaitable[bool]]


class Driver(AccessoryDriver):
    """HAP-python's driver on our event loop, with our server, state file and mDNS manners."""

    def __init__(
        self, *, addresses: tuple[str, ...], port: int, state_file: pathlib.Path, setup: Setup
    ) -> None:
        """Does no I/O yet."""
        super().__init__(
            loop=asyncio.get_running_loop(),
            address=addresses[0],
            listen_address=list(addresses),
            advertised_address=list(addresses),
            interface_choice=list(addresses),  # the default announces on every interface
            port=port,
            persist_file=str(state_file),
            pincode=setup.code.encode(),
        )
        self.state.setup_id = setup.id  # random at each start otherwise
        self.http_server = _Server((list(addresses), port), self)
        self._setup = setup
        self._slow_writes: Mapping[Characteristic, SlowWrite] = {}

    # State

    def load(self) -> None:
        """Read keys and pairings; raises `StateDamaged`."""
        statefile.load_into(pathlib.Path(self.persist_file), self.state)

    def persist(self) -> None:
        """Write keys and pairings; with fsync, as a pairing that is lost is lost for the phone too."""
        statefile.save(pathlib.Path(self.persist_file), self.state, self._setup)

    def pair(self, client_username_bytes: bytes, client_public: bytes, client_permissions: bytes) -> bool:
        """Add a pairing; False if it cannot be written, and then everything is as it was."""
        try:
            with self._kept_unless_written():
                return bool(super().pair(client_username_bytes, client_public, client_permissions))
        except statefile.StateUnwritable as failure:
            _log.error("not paired: %s", failure)
            return False

    def unpair(self, client_uuid: UUID) -> None:
        """Remove a pairing; raises `StateUnwritable`, and then everything is as it was."""
        with self._kept_unless_written():
            super().unpair(client_uuid)

    @contextmanager
    def _kept_unless_written(self) -> Iterator[None]:
        kept = {name: dict(getattr(self.state, name)) for name in PAIRINGS}
        try:
            yield
        except statefile.StateUnwritable:
            for name, pairings in kept.items():
                setattr(self.state, name, pairings)
            raise

    def async_persist(self) -> None:
        """Write before the answer goes out, and not in some thread that an older state may overtake."""
        self.persist()

    # Writes

    def find(self, aid: int, iid: int) -> Characteristic | None:
        """The characteristic, None where there is no such; HAP-python raises."""
        accessory = self.accessory if aid == STANDALONE_AID else self.accessory.accessories.get(aid)
        found = None if accessory is None else accessory.iid_manager.get_obj(iid)
        return found if isinstance(found, Characteristic) else None

    def subscribe(self, writer: Writer, aid: int, iid: int, *, wanted: bool) -> None:
        """Begin or end to send events to a connection."""
        self.async_subscribe_client_topic(writer, f"{aid}.{iid}", wanted)

    def slow_write(self, characteristic: Characteristic) -> SlowWrite | None:
        """How to write a characteristic whose outcome takes time."""
        return self._slow_writes.get(characteristic)

    def write_slowly(self, writes: Mapping[Characteristic, SlowWrite]) -> None:
        """Have writes to these characteristics, and no others, answered with what their functions return."""
        self._slow_writes = writes

    def accessories_changed(self) -> None:
        """Tell controllers to read /accessories anew; a new name counts, though the hash does not show it."""
        if not self.state.set_accessories_hash(self.accessories_hash):
            self.state.increment_config_version()
        try:
            self.persist()
        except statefile.StateUnwritable as failure:
            _log.error("%s", failure)  # no reason to stop serving: the next start counts it anew
        self.async_update_advertisement()

    def timed_write_is_valid(self, writer: Writer, request: dict[str, Any]) -> bool:
        """Whether a timed write was prepared and is in time; HAP-python does it anyway."""
        if "pid" not in request:
            return True
        expires_at_seconds = self.prepared_writes.get(writer, {}).pop(request["pid"], None)
        return expires_at_seconds is not None and time.time() <= expires_at_seconds

    def value_of(self, event: dict[str, Any]) -> dict[str, Any]:
        """An event with the value of this moment: a queued one may be older than what came after it."""
        characteristic = self.find(event["aid"], event["iid"])
        return event if characteristic is None else {**event, "value": characteristic.value}

    # Life

    async def async_start(self) -> None:
        """Serve and announce; takes both back if one of them fails."""
        try:
            await super().async_start()
        except BaseException:
            await self._stop_what_started()
            raise
        self._stay_on_our_interfaces()

    async def async_stop(self) -> None:
        """Say goodbye on mDNS and wait until it is said: HAP-python does not, and phones keep the bridge."""
        goodbye = await self.advertiser.async_unregister_service(self.mdns_service_info)
        await goodbye
        await super().async_stop()

    async def _stop_what_started(self) -> None:
        if self.http_server.server is not None:
            self.http_server.async_stop()
        if self.advertiser is not None:
            await self.advertiser.async_close()

    def _stay_on_our_interfaces(self) -> None:
        """Do not answer queries that came in by other interfaces: the reader is bound to all of them."""
        for reader in self.advertiser.zeroconf.engine.readers:
            with suppress(OSError):  # IPv6 has no such option
                reader.sock.setsockopt(socket.IPPROTO_IP, IP_MULTICAST_ALL, 0)


class _Server(HAPServer):
    """Makes our connections instead of HAP-python's."""

    async def async_start(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        host, port = self._addr_port
        self.server = await loop.create_server(
            lambda: _Connection(loop, self.connections, self.accessory_handler), host, port
        )
        self.async_cleanup_connections()


class _Connection(HAPServerProtocol):
    """One controller's connection, which can wait for a write without blocking the others."""

    def __init__(self, *arguments: Any) -> None:  # noqa: ANN401 -- HAP-python's
        super().__init__(*arguments)
        self._told_at_seconds: dict[Path, float] = {}
        self._held_back: dict[Path, dict[str, Any]] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.handler = _Requests(self.accessory_driver, self.peername)

    def _process_one_event(self) -> bool:
        """Leave the next request where it is while the answer to this one is awaited."""
        return False if self.response is not None else super()._process_one_event()

    def _handle_response_ready(self, task: asyncio.Task[bytes]) -> None:
        if task.cancelled():
            return  # the daemon ends
        super()._handle_response_ready(task)
        if not self.transport.is_closing():
            self._process_events()

    def _send_events(self) -> None:
        """Send at most one event a second for each characteristic; HAP-python would send two."""
        now_seconds = self.loop.time()
        for path in list(self._event_queue):
            wait_seconds = self._told_at_seconds.get(path, -inf) + EVENT_INTERVAL_SECONDS - now_seconds
            if wait_seconds > 0:
                self._hold_back(path, wait_seconds)
            else:
                self._told_at_seconds[path] = now_seconds
        super()._send_events()

    def _hold_back(self, path: Path, wait_seconds: float) -> None:
        event = self._event_queue.pop(path)
        if path not in self._held_back:
            self.loop.call_later(wait_seconds, self._send_held_back, path)
        self._held_back[path] = event

    def _send_held_back(self, path: Path) -> None:
        event = self._held_back.pop(path)
        if not self.transport.is_closing():
            self.queue_event(event, immediate=True)

    def _event_queue_with_active_subscriptions(self) -> list[dict[str, Any]]:
        """Send the values of this moment: a queued one may be older than what came after it."""
        events = super()._event_queue_with_active_subscriptions()
        return [self.accessory_driver.value_of(event) for event in events]

    def close(self) -> None:
        """Close; write_eof() on a connection that the other side has reset raises."""
        with suppress(OSError):
            super().close()


class _Requests(HAPServerHandler):
    """The requests of one connection."""

    def handle_set_characteristics(self) -> None:
        """Answer when the outcome is known, and meanwhile let other connections go on."""
        if not self.is_encrypted:
            self.send_response_with_status(HTTPStatus.UNAUTHORIZED, STATUS.INSUFFICIENT_PRIVILEGES)
            return
        try:
            request = from_hap_json(self.request_body)
            items = parse_items(request)
        except (Malformed, ValueError):
            self.send_response_with_status(HTTPStatus.BAD_REQUEST, STATUS.INVALID_VALUE_IN_REQUEST)
            return
        self.response.task = asyncio.ensure_future(self._write(self.response, request, items))

    async def _write(self, response: HAPResponse, request: dict[str, Any], items: tuple[Item, ...]) -> bytes:
        driver, writer = self.accessory_handler, self.client_address
        if driver.timed_write_is_valid(writer, request):
            statuses = await write_all(items, writer, driver)
        else:
            statuses = [int(STATUS.INVALID_VALUE_IN_REQUEST)] * len(items)
        body = response_body(items, statuses)
        status = HTTPStatus.NO_CONTENT if body is None else HTTPStatus.MULTI_STATUS
        response.status_code, response.reason = status.value, status.phrase
        if body is None:
            return b""
        response.headers.append(("Content-Type", self.JSON_RESPONSE_TYPE))
        return bytes(to_hap_json(body))
