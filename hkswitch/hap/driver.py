"""HAP-python's driver on our event loop, with our server, state file and mDNS manners."""

import asyncio
import io
import json
import logging
import pathlib
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final
from uuid import UUID

from pyhap.accessory import Accessory, Bridge
from pyhap.accessory_driver import AccessoryDriver
from pyhap.characteristic import Characteristic
from pyhap.const import CLIENT_PROP_PERMS, STANDALONE_AID
from zeroconf import ServiceInfo

from hkswitch.hap import state_file
from hkswitch.hap.announcement import announcement
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
from hkswitch.network.endpoint import Endpoint

PAIRINGS: Final = ("paired_clients", "client_properties", "uuid_to_bytes")
"""What HAP-python's state knows of controllers."""

MOST_PAIRINGS: Final = 128
KEY_BYTES: Final = 32
PERMISSIONS: Final = frozenset({b"\x00", b"\x01"})
"""Of a user, and of an admin."""

NOWHERE: Final = "0.0.0.0"  # noqa: S104 -- HAP-python wants an address, and looks for one if it gets none

_log = logging.getLogger(__name__)

SlowWrite = Callable[[bool, Session], Awaitable[bool]]


class Driver(AccessoryDriver):
    """Holds the bridge's state, and brings it online and offline."""

    def __init__(self, *, port: int, state_folder: pathlib.Path, setup: Setup, stored: Stored | None) -> None:
        """Does no I/O yet; without `stored` it makes new keys."""
        super().__init__(
            loop=asyncio.get_running_loop(), address=NOWHERE, port=port, pincode=setup.code.encode()
        )
        self.state.setup_id = setup.id  # random at each start otherwise
        self.http_server = Server(port, self)
        self.advertise = False  # `presence` does
        self.presence = Presence()
        self._endpoint: Endpoint | None = None
        """Where it is, unless it could not go there, or not all of the way."""
        self.pair_setup: PairSetup[Session] = PairSetup()
        failed = 0 if stored is None else stored.failed_attempts
        self.attempts = PairingAttempts(failed, self, lambda: self.loop.call_soon(self._tell))
        self._state_folder = state_folder
        self.setup = setup
        self._stored = stored
        self.database = Database(self.state, stored)
        self.writer = StateWriter(
            state_folder, self.database, lambda: self.stored, self.async_update_advertisement, self.loop
        )
        self._slow_writes: Mapping[Characteristic, SlowWrite] = {}
        self._tell_of_changes: Callable[[], None] | None = None

    # State

    def add_accessory(self, accessory: Bridge) -> None:
        """Take the bridge's accessory, and its state from the file; HAP-python makes keys if one is gone.

        Raises:
            StateDamaged: If the keys are no keys.
            StateUnwritable: If new ones cannot be written.
        """
        self.accessory = accessory
        accessory.aid = STANDALONE_AID
        if self._stored is not None:
            self._load(self._stored)
        self.database.open(accessory)
        # A folder that cannot be written is found now, and not when somebody pairs.
        if self._stored is None:
            self.persist()
        else:
            self.async_persist()

    def _load(self, stored: Stored) -> None:
        try:
            self.encoder.load_into(io.StringIO(json.dumps(stored.accessory)), self.state)
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            why = "its keys or pairings are not what hkswitch writes"
            raise state_file.StateDamaged(self._state_folder / state_file.FILE_NAME, why) from error

    @property
    def stored(self) -> Stored:
        """The state as it is written."""
        accessory = io.StringIO()
        self.encoder.persist(accessory, self.state)
        ours = json.loads(accessory.getvalue())
        del ours["accessory_states"]  # settings of cameras
        others = {} if self._stored is None else self._stored.others
        return Stored(self.setup, ours, self.attempts.failed, others, self.database.record)

    def persist(self) -> None:
        """Write keys, pairings and iids; raises `StateUnwritable`. HAP-python does no fsync."""
        self.writer.write()

    def async_persist(self) -> None:
        """Write now, and not in a thread of HAP-python's that an older state may overtake.

        A failure is logged, and no reason to stop serving.
        """
        self.writer.write_or_wait()

    def stop_writing(self) -> None:
        """Do not try again what could not be written."""
        self.writer.stop()

    # Accessories

    def serve(self, accessories: Mapping[int, Accessory]) -> None:
        """Serve these, and tell controllers to read them anew if there is something new.

        An iid is on disk before it is served: raises `StateUnwritable` if one cannot be written, and then all
        is as it was.
        """
        before = self.database.want(accessories)
        if not self.database.serve_wanted() and not self.writer.is_waiting:
            return
        try:
            self.persist()
        except state_file.StateUnwritable:
            if self.database.must_be_written:
                self.database.go_back(before)
                raise
            self.database.serve_written()
            self.writer.log_trouble()
        self.async_update_advertisement()

    # Pairings

    def pair(self, client_username_bytes: bytes, client_public: bytes, client_permissions: bytes) -> None:
        """Add a pairing, or change the permissions of one; raises `PairingRefused` and then changes nothing.

        HAP-python checks no key and no rights, and answers before it is written.
        """
        try:
            client = controller_of(client_username_bytes)
        except ValueError as error:
            raise PairingRefused(ERROR_UNKNOWN, str(error)) from error
        if len(client_public) != KEY_BYTES or client_permissions not in PERMISSIONS:
            raise PairingRefused(ERROR_UNKNOWN, "a key or permissions of another form")
        known = self.state.paired_clients
        if known.get(client, client_public) != client_public:
            raise PairingRefused(ERROR_UNKNOWN, "another key for an ID that is paired")
        if client not in known and len(known) >= MOST_PAIRINGS:
            raise PairingRefused(ERROR_MAX_PEERS, f"there are {MOST_PAIRINGS} pairings already")
        try:
            with self._kept_unless_written():
                self._remember(client, client_username_bytes, client_public, client_permissions)
        except state_file.StateUnwritable as failure:
            _log.error("not paired: %s", failure)
            raise PairingRefused(ERROR_UNKNOWN, "the pairing could not be written") from failure
        _log.info("paired with controller %s", str(client).upper())

    def _remember(self, client: UUID, identity: bytes, public_key: bytes, permissions: bytes) -> None:
        """As HAP-python does, which takes no ID that is no UUID."""
        self.state.uuid_to_bytes[client] = identity
        self.state.paired_clients[client] = public_key
        self.state.client_properties[client] = {CLIENT_PROP_PERMS: permissions[0]}
        if not any(map(self.state.is_admin, self.state.paired_clients)):
            raise PairingRefused(ERROR_UNKNOWN, "nobody would be an admin any more")

    def unpair(self, client_uuid: UUID | None) -> None:
        """Remove a pairing, or all; raises `StateUnwritable`, and then everything is as it was.

        HAP-python answers before it is written, and keeps the connections.
        """
        with self._kept_unless_written():
            for client in [client_uuid] if client_uuid else list(self.state.paired_clients):
                if client in self.state.paired_clients:  # the last admin takes the others along
                    self.state.remove_paired_client(client)
            paired = self.state.paired_clients.keys()
            self.state.uuid_to_bytes = {u: raw for u, raw in self.state.uuid_to_bytes.items() if u in paired}
        _log.info(
            "unpaired %s", "all controllers" if not paired else f"controller {str(client_uuid).upper()}"
        )

    @contextmanager
    def _kept_unless_written(self) -> Iterator[None]:
        kept = {name: dict(getattr(self.state, name)) for name in PAIRINGS}
        try:
            yield
            self.persist()
        except BaseException:
            for name, pairings in kept.items():
                setattr(self.state, name, pairings)
            raise
        self._revoke_sessions()
        self.loop.call_soon(self._pairings_changed)  # after the answer, for which the controller waits

    def _revoke_sessions(self) -> None:
        """Trust no session of who was removed, also if its ID is paired again before it is closed."""
        for session, connection in self.http_server.connections.items():
            if session.controller not in self.state.paired_clients:
                session.controller = None
                connection.events.close()

    def tell_of_changes(self, tell: Callable[[], None]) -> None:
        """Call `tell` when pairings change, or who may pair, and when writing begins to fail or succeeds."""
        self._tell_of_changes = tell
        self.writer.tell(tell)

    def _tell(self) -> None:
        if self._tell_of_changes is not None:
            self._tell_of_changes()

    def _pairings_changed(self) -> None:
        """Cut off who is not paired any more, and say whether anybody is."""
        for connection in list(self.http_server.connections.values()):
            if connection.is_revoked:
                connection.close()
        self.async_update_advertisement()
        self._tell()

    # Characteristics

    def find(self, aid: int, iid: int) -> Characteristic | None:
        """The characteristic, None where there is no such; HAP-python raises."""
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
        """Have all connections but the writer's hear of a change; HAP-python's events are late."""
        path = data["aid"], data["iid"]
        for session, connection in self.http_server.connections.items():
            if session is not sender_client_addr:
                connection.events.changed(path)

    def slow_write(self, characteristic: Characteristic) -> SlowWrite | None:
        """How to write a characteristic whose outcome takes time."""
        return self._slow_writes.get(characteristic)

    def write_slowly(self, writes: Mapping[Characteristic, SlowWrite]) -> None:
        """Have writes to these characteristics, and no others, answered with what their functions return."""
        self._slow_writes = writes

    # Life

    async def start(self, endpoint: Endpoint) -> None:
        """Serve and announce there; takes both back if one of them fails. HAP-python's would make a loop."""
        try:
            self.aio_stop_event = asyncio.Event()
            await self.move(endpoint)
            await self.http_server.async_start(self.loop)
        except BaseException:
            self.http_server.async_stop()
            await self.leave()
            raise

    async def move(self, endpoint: Endpoint) -> None:
        """Serve and announce there instead; raises `OSError`, and can be called again then.

        If there can be no socket to listen with, it is where it was.
        """
        if endpoint != self._endpoint:
            await self.http_server.listen(endpoint)
            self._endpoint = None
            self.state.addresses = [address.partition("%")[0] for address in endpoint.addresses]
            await self.presence.move(endpoint, self._announcement)
            self._endpoint = endpoint

    async def leave(self) -> None:
        """Serve and announce nowhere, until it moves."""
        self._endpoint = None
        self.http_server.leave()
        await self.presence.leave()

    async def async_stop(self) -> None:
        """Say goodbye on mDNS and wait until it is said: HAP-python does not, and phones keep the bridge."""
        await self.presence.leave(for_good=True)
        await super().async_stop()

    def _announcement(self) -> ServiceInfo:
        return announcement(self.accessory.display_name, self.state)

    def async_update_advertisement(self) -> None:
        """Advertise what is true now, if anything is; HAP-python may do it when the goodbye has been said."""
        self.presence.announce(self._announcement())
