"""HAP-python's driver on our event loop, with our own server, state file and mDNS."""

import asyncio
import io
import json
import logging
import pathlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final
from uuid import UUID

from pyhap.accessory import Accessory, Bridge
from pyhap.accessory_driver import AccessoryDriver
from pyhap.characteristic import Characteristic
from pyhap.const import CLIENT_PROP_PERMS, STANDALONE_AID
from zeroconf import ServiceInfo

from hkswitch.hap import state_file, twin
from hkswitch.hap.announcement import announcement
from hkswitch.hap.characteristics import SlowWrite
from hkswitch.hap.database import Database
from hkswitch.hap.pairing_rules import (
    ERROR_MAX_PEERS,
    ERROR_UNKNOWN,
    PairingAttempts,
    PairingRefused,
    PairSetup,
)
from hkswitch.hap.presence import Presence
from hkswitch.hap.server import Server
from hkswitch.hap.sessions import Session, controller_of
from hkswitch.hap.setup_code import Setup
from hkswitch.hap.state_file import Stored
from hkswitch.hap.state_writer import StateWriter
from hkswitch.hap.twin import TwinWatch
from hkswitch.network.endpoint import Endpoint

PAIRINGS: Final = ("paired_clients", "client_properties", "uuid_to_bytes")
"""The attributes of HAP-python's state that describe controllers."""

MOST_PAIRINGS: Final = 128
KEY_BYTES: Final = 32
PERMISSIONS: Final = frozenset({b"\x00", b"\x01"})
"""A user's and an admin's."""

NOWHERE: Final = "0.0.0.0"  # noqa: S104 -- without an address, HAP-python would look for one

_log = logging.getLogger(__name__)


class Driver(AccessoryDriver):
    """The owner of the bridge's state, which starts, moves and stops its server and mDNS."""

    def __init__(self, *, port: int, state_folder: pathlib.Path, setup: Setup, stored: Stored | None) -> None:
        """Do no I/O yet; without `stored`, create new keys."""
        super().__init__(
            loop=asyncio.get_running_loop(), address=NOWHERE, port=port, pincode=setup.code.encode()
        )
        self.state.setup_id = setup.id  # HAP-python draws a new one at each start
        self.http_server = Server(port, self)
        self.advertise = False  # `presence` advertises
        self._endpoint: Endpoint | None = None
        """The endpoint that it serves and announces; None while offline, and after a failed move."""
        self.pair_setup: PairSetup[Session] = PairSetup()
        failed = 0 if stored is None else stored.failed_attempts
        self.attempts = PairingAttempts(failed, self, lambda: self.loop.call_soon(self._tell))
        self._state_folder = state_folder
        self.setup = setup
        self._stored = stored
        self.taken_over = stored.taken_over if stored is not None and stored.paired else None
        """What was taken over from another program; without a controller, no phone remembers it."""
        self._was_restored = stored is not None and stored.was_restored and stored.paired
        self.twins = None
        if stored is not None and (self.taken_over is not None or self._was_restored):
            stop = twin.STOP_HKSWITCH if self._was_restored else twin.STOP_HOMEBRIDGE
            self.twins = TwinWatch(stored.device_id, lambda: self.loop.call_soon(self._tell), stop)
        self.presence = Presence(self.twins)
        self.database = Database(self.state, stored)
        self.writer = StateWriter(
            state_folder, self.database, lambda: self.stored, self.async_update_advertisement, self.loop
        )
        self._slow_writes: Mapping[Characteristic, SlowWrite] = {}
        self._tell_of_changes: Callable[[], None] | None = None

    # State

    def add_accessory(self, accessory: Bridge) -> None:
        """Set the bridge's accessory and load the state; HAP-python would replace missing keys.

        Raises:
            StateDamaged: If the keys are invalid.
            StateUnwritable: If new keys cannot be written.
        """
        self.accessory = accessory
        accessory.aid = STANDALONE_AID
        if self._stored is not None:
            self._load(self._stored)
        self.database.open(accessory)
        # Detect a folder that cannot be written now, rather than when a controller pairs.
        if self._stored is None:
            self.persist()
        else:
            self.async_persist()

    def _load(self, stored: Stored) -> None:
        try:
            self.encoder.load_into(io.StringIO(json.dumps(stored.accessory)), self.state)
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            why = "its keys or pairings are invalid"
            raise state_file.StateDamaged(self._state_folder / state_file.FILE_NAME, why) from error

    @property
    def stored(self) -> Stored:
        """The state to write."""
        accessory = io.StringIO()
        self.encoder.persist(accessory, self.state)
        ours = json.loads(accessory.getvalue())
        del ours["accessory_states"]  # settings of cameras, which this bridge does not have
        others = {} if self._stored is None else self._stored.others
        record = self.database.record
        failed = self.attempts.failed
        return Stored(self.setup, ours, failed, others, record, self.taken_over, self._was_restored)

    def persist(self) -> None:
        """Write keys, pairings and iids; raises `StateUnwritable`. HAP-python does not fsync."""
        self.writer.write()

    def async_persist(self) -> None:
        """Write now; HAP-python's threads could write an older state last.

        A failure is logged, and the bridge keeps serving.
        """
        self.writer.write_or_wait()

    def stop_writing(self) -> None:
        """Stop retrying."""
        self.writer.stop()

    # Accessories

    def serve(self, accessories: Mapping[int, Accessory]) -> None:
        """Serve these accessories, and notify controllers if anything is new.

        New iids must be on disk before they are served. If that fails, raises `StateUnwritable` and changes
        nothing.
        """
        before = self.database.want(accessories)
        if not self.database.serve_wanted() and not self.writer.is_waiting:
            return
        try:
            self.persist()
        except state_file.StateUnwritable:
            if self.database.must_be_written:
                self.database.revert_to(before)
                raise
            self.database.serve_written()
            self.writer.log_trouble()
        self.async_update_advertisement()

    # Pairings

    def pair(self, client_username_bytes: bytes, client_public: bytes, client_permissions: bytes) -> None:
        """Add a pairing, or change the permissions of one; raises `PairingRefused` and then changes nothing.

        HAP-python checks neither key nor permissions, and responds before it writes.
        """
        try:
            client = controller_of(client_username_bytes)
        except ValueError as error:
            raise PairingRefused(ERROR_UNKNOWN, str(error)) from error
        if len(client_public) != KEY_BYTES or client_permissions not in PERMISSIONS:
            raise PairingRefused(ERROR_UNKNOWN, "invalid key or permissions")
        known = self.state.paired_clients
        if known.get(client, client_public) != client_public:
            raise PairingRefused(ERROR_UNKNOWN, "this ID is paired with another key")
        if client not in known and len(known) >= MOST_PAIRINGS:
            raise PairingRefused(ERROR_MAX_PEERS, f"the limit of {MOST_PAIRINGS} pairings is reached")
        try:
            with self._restored_unless_written():
                self._store_pairing(client, client_username_bytes, client_public, client_permissions)
        except state_file.StateUnwritable as failure:
            _log.error("pairing failed: %s", failure)
            raise PairingRefused(ERROR_UNKNOWN, "the pairing could not be written") from failure
        _log.info("paired with controller %s", str(client).upper())

    def _store_pairing(self, client: UUID, identity: bytes, public_key: bytes, permissions: bytes) -> None:
        """Store a pairing; HAP-python accepts only UUIDs as IDs."""
        self.state.uuid_to_bytes[client] = identity
        self.state.paired_clients[client] = public_key
        self.state.client_properties[client] = {CLIENT_PROP_PERMS: permissions[0]}
        if not any(map(self.state.is_admin, self.state.paired_clients)):
            raise PairingRefused(ERROR_UNKNOWN, "no admin would be left")

    def unpair(self, client_uuid: UUID | None) -> None:
        """Remove one pairing, or all (None); raises `StateUnwritable` and then changes nothing.

        HAP-python responds before it writes, and keeps the connections.
        """
        with self._restored_unless_written():
            for client in [client_uuid] if client_uuid else list(self.state.paired_clients):
                if client in self.state.paired_clients:  # removing the last admin removes all
                    self.state.remove_paired_client(client)
            paired = self.state.paired_clients.keys()
            self.state.uuid_to_bytes = {u: raw for u, raw in self.state.uuid_to_bytes.items() if u in paired}
        _log.info(
            "unpaired %s", "all controllers" if not paired else f"controller {str(client_uuid).upper()}"
        )

    @contextmanager
    def _restored_unless_written(self) -> Iterator[None]:
        kept = {name: dict(getattr(self.state, name)) for name in PAIRINGS}
        try:
            yield
            self.persist()
        except BaseException:
            for name, pairings in kept.items():
                setattr(self.state, name, pairings)
            raise
        self._revoke_sessions()
        self.loop.call_soon(self._pairings_changed)  # after the response, which the controller waits for

    def _revoke_sessions(self) -> None:
        """Revoke the sessions of removed controllers, or pairing the same ID again would revive them."""
        for session, connection in self.http_server.connections.items():
            if session.controller not in self.state.paired_clients:
                session.controller = None
                connection.events.close()

    def tell_of_changes(self, tell: Callable[[], None]) -> None:
        """Call `tell` when pairings or the pairing lock change, and when writing fails or works again."""
        self._tell_of_changes = tell
        self.writer.tell(tell)

    def _tell(self) -> None:
        if self._tell_of_changes is not None:
            self._tell_of_changes()

    def _pairings_changed(self) -> None:
        """Close the sessions of removed controllers, and advertise whether the bridge is paired."""
        for connection in list(self.http_server.connections.values()):
            if connection.is_revoked:
                connection.close()
        self.async_update_advertisement()
        self._tell()

    # Characteristics

    def find(self, aid: int, iid: int) -> Characteristic | None:
        """Return the characteristic, or None if it does not exist; HAP-python raises."""
        bridge = self.accessory
        accessory = bridge if aid == STANDALONE_AID else bridge.accessories.get(aid)
        found = None if accessory is None else accessory.iid_manager.get_obj(iid)
        return found if isinstance(found, Characteristic) else None

    def publish(
        self,
        data: dict[str, Any],
        sender_client_addr: Session | None = None,
        immediate: bool = False,  # noqa: ARG002, FBT001, FBT002 -- HAP-python's
    ) -> None:
        """Send a change to all connections but the writer's; HAP-python delays events."""
        path = data["aid"], data["iid"]
        for session, connection in self.http_server.connections.items():
            if session is not sender_client_addr:
                connection.events.changed(path)

    def slow_write(self, characteristic: Characteristic) -> SlowWrite | None:
        """Return the function that writes a slow characteristic, None for all others."""
        return self._slow_writes.get(characteristic)

    def write_slowly(self, writes: Mapping[Characteristic, SlowWrite]) -> None:
        """Set the slow characteristics, each with a function that begins to write it."""
        self._slow_writes = writes

    # Life cycle

    async def start(self, endpoint: Endpoint) -> None:
        """Serve on this endpoint and announce it, or neither if one fails; HAP-python would create a loop."""
        try:
            self.aio_stop_event = asyncio.Event()
            await self.move(endpoint)
            await self.http_server.async_start(self.loop)
            self.http_server.trim_memory_soon()  # 0.1 MiB of 23 with 3 switches, up to 0.6 with 100
        except BaseException:
            self.http_server.async_stop()
            await self.leave()
            raise

    async def move(self, endpoint: Endpoint) -> None:
        """Serve on this endpoint and announce it, instead of the last one.

        Raises `OSError`; the caller can retry. If a socket cannot listen, nothing changes.
        """
        if endpoint != self._endpoint:
            await self.http_server.listen(endpoint)
            self._endpoint = None
            self.state.addresses = [address.partition("%")[0] for address in endpoint.addresses]
            await self.presence.move(endpoint, self._announcement)
            self._endpoint = endpoint

    async def leave(self) -> None:
        """Stop serving and say goodbye on mDNS; `move` starts again."""
        self._endpoint = None
        self.http_server.leave()
        await self.presence.leave()

    async def async_stop(self) -> None:
        """Stop, and wait until the mDNS goodbye is sent; HAP-python does not, so phones keep the bridge."""
        await self.presence.leave(for_good=True)
        await super().async_stop()

    def _announcement(self) -> ServiceInfo:
        return announcement(self.accessory.display_name, self.state)

    def async_update_advertisement(self) -> None:
        """Announce the current state, but not after the goodbye, unlike HAP-python."""
        self.presence.announce(self._announcement())
