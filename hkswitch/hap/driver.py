"""HAP-python's driver on our event loop, with our server, state file and mDNS manners."""

import asyncio
import hashlib
import io
import json
import logging
import pathlib
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final
from uuid import UUID

from pyhap.accessory import Accessory
from pyhap.accessory_driver import AccessoryDriver, AccessoryMDNSServiceInfo
from pyhap.characteristic import Characteristic
from pyhap.const import STANDALONE_AID

from hkswitch.hap import state_file
from hkswitch.hap.advertiser import Advertiser
from hkswitch.hap.characteristics import Writer
from hkswitch.hap.connection import Connection, Server
from hkswitch.hap.limits import PairSetup
from hkswitch.hap.setup_code import Setup
from hkswitch.hap.sockets import hear_only
from hkswitch.hap.state_file import Stored
from hkswitch.network.endpoint import Place

PAIRINGS: Final = ("paired_clients", "client_properties", "uuid_to_bytes")
"""What HAP-python's state knows of controllers."""

MOST_PAIRINGS: Final = 128
KEY_BYTES: Final = 32
WRITE_AGAIN_SECONDS: Final = 60.0
"""After a failure, which may be over when the disk has room again."""

NOWHERE: Final = "0.0.0.0"  # noqa: S104 -- HAP-python wants an address, and looks for one if it gets none

_log = logging.getLogger(__name__)

SlowWrite = Callable[[bool, Writer], Awaitable[bool]]


class Driver(AccessoryDriver):
    """Holds the bridge's state, and brings it online and offline."""

    def __init__(self, *, port: int, state_folder: pathlib.Path, setup: Setup, stored: Stored | None) -> None:
        """Does no I/O yet; without `stored` it makes new keys."""
        super().__init__(
            loop=asyncio.get_running_loop(), address=NOWHERE, port=port, pincode=setup.code.encode()
        )
        self.state.setup_id = setup.id  # random at each start otherwise
        self.http_server = Server(port, self)
        self.advertiser: Any = None
        self.mdns_service_info: Any = None
        self.pair_setup: PairSetup[Connection] = PairSetup()
        self.failed_attempts = 0 if stored is None else stored.failed_attempts
        self._state_folder = state_folder
        self.setup = setup
        self._stored = stored
        self._written_version = self._version
        self._writing_again: asyncio.TimerHandle | None = None
        self._slow_writes: Mapping[Characteristic, SlowWrite] = {}
        self._tell_of_pairings: Callable[[], None] | None = None

    # State

    def add_accessory(self, accessory: Accessory) -> None:
        """Take the bridge's accessory, and its state from the file; HAP-python makes keys if one is gone.

        Raises:
            StateDamaged: If the keys are no keys.
            StateUnwritable: If new ones cannot be written.
        """
        self.accessory = accessory
        accessory.aid = STANDALONE_AID
        if self._stored is not None:
            self._load(self._stored)
        # A folder that cannot be written is found now, and not when somebody pairs.
        if self._stored is None:
            self.persist()
        else:
            self._written_version = self._version
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
        others = {} if self._stored is None else self._stored.others
        return Stored(self.setup, json.loads(accessory.getvalue()), self.failed_attempts, others)

    def persist(self) -> None:
        """Write keys and pairings; with fsync, as a pairing that is lost is lost for the phone too."""
        state_file.write(self._state_folder, self.stored)
        self._written_version = self._version

    def async_persist(self) -> None:
        """Write now, and not in some thread that an older state may overtake.

        A failure is logged, and writing is tried again every minute. Until then, controllers are not told of
        other accessories: a c# that was not written would stand for others yet after the next start.
        """
        try:
            self.persist()
        except state_file.StateUnwritable as failure:
            _log.error("%s", failure)  # no reason to stop serving
            self._write_later()

    def _write_later(self) -> None:
        self._version = self._written_version
        if self._writing_again is None:
            self._writing_again = self.loop.call_later(WRITE_AGAIN_SECONDS, self._write_again)

    def _write_again(self) -> None:
        self._writing_again = None
        self.state.set_accessories_hash(self.accessories_hash)
        try:
            self.persist()
        except state_file.StateUnwritable:
            self._write_later()
        else:
            self.async_update_advertisement()

    def stop_writing(self) -> None:
        """Do not try again what could not be written."""
        if self._writing_again is not None:
            self._writing_again.cancel()

    @property
    def _version(self) -> tuple[int, str | None]:
        """The config version (c#), and the accessories that it stands for."""
        return self.state.config_version, self.state.accessories_hash

    @_version.setter
    def _version(self, version: tuple[int, str | None]) -> None:
        self.state.config_version, self.state.accessories_hash = version

    # Pairings

    def pair(self, client_username_bytes: bytes, client_public: bytes, client_permissions: bytes) -> bool:
        """Add a pairing; False if it cannot be, and then all is as it was; ValueError if it is none."""
        client_id = client_username_bytes.decode("ascii").upper()
        if str(UUID(client_id)).upper() != client_id or len(client_public) != KEY_BYTES:
            raise ValueError("an ID or a key of another form")
        if client_permissions not in {b"\x00", b"\x01"}:
            raise ValueError("unknown permissions")
        if self.state.paired_clients.get(UUID(client_id), client_public) != client_public:
            raise ValueError("another key for an ID that is paired")
        if len(self.state.paired_clients) >= MOST_PAIRINGS:
            _log.error("not paired: there are %d pairings already", MOST_PAIRINGS)
            return False
        try:
            with self._kept_unless_written():
                self.state.add_paired_client(client_username_bytes, client_public, client_permissions)
                if not any(map(self.state.is_admin, self.state.paired_clients)):
                    raise ValueError("nobody would be an admin any more")
        except state_file.StateUnwritable as failure:
            _log.error("not paired: %s", failure)
            return False
        _log.info("paired with controller %s", client_id)
        return True

    def unpair(self, client_uuid: UUID | None) -> None:
        """Remove a pairing, or all; raises `StateUnwritable`, and then everything is as it was."""
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
        self.loop.call_soon(self._pairings_changed)  # after the answer, for which the controller waits

    def tell_of_pairings(self, tell: Callable[[], None]) -> None:
        """Call `tell` whenever a controller was paired or removed."""
        self._tell_of_pairings = tell

    def _pairings_changed(self) -> None:
        """Cut off who is not paired any more, and say whether anybody is."""
        for connection in list(self.http_server.connections.values()):
            requests = connection.handler
            if requests.is_encrypted and not requests.is_trusted:
                connection.close()
        self.async_update_advertisement()
        if self._tell_of_pairings is not None:
            self._tell_of_pairings()

    def count_failed_attempt(self) -> int:
        """One more wrong setup code; how many there were in all, over restarts."""
        self.failed_attempts += 1
        self.async_persist()
        return self.failed_attempts

    def reset_attempts(self) -> None:
        """Let controllers pair again; raises `StateUnwritable`."""
        before, self.failed_attempts = self.failed_attempts, 0
        try:
            self.persist()
        except state_file.StateUnwritable:
            self.failed_attempts = before
            raise

    # Characteristics

    def find(self, aid: int, iid: int) -> Characteristic | None:
        """The characteristic, None where there is no such; HAP-python raises."""
        bridge = self.accessory
        accessory = bridge if aid == STANDALONE_AID else bridge.accessories.get(aid)
        found = None if accessory is None else accessory.iid_manager.get_obj(iid)
        return found if isinstance(found, Characteristic) else None

    def subscribe(self, writer: Writer, aid: int, iid: int, *, wanted: bool) -> None:
        """Begin or end to send events to a connection, if it is still there."""
        if writer in self.http_server.connections:
            self.async_subscribe_client_topic(writer, f"{aid}.{iid}", wanted)

    def slow_write(self, characteristic: Characteristic) -> SlowWrite | None:
        """How to write a characteristic whose outcome takes time."""
        return self._slow_writes.get(characteristic)

    def write_slowly(self, writes: Mapping[Characteristic, SlowWrite]) -> None:
        """Have writes to these characteristics, and no others, answered with what their functions return."""
        self._slow_writes = writes

    @property
    def accessories_hash(self) -> str:
        """What c# grows by when it changes; with the names, which HAP-python takes for mere values."""
        names = sorted((aid, each.display_name) for aid, each in self.accessory.accessories.items())
        return hashlib.sha512(f"{super().accessories_hash}{names}".encode()).hexdigest()

    def accessories_changed(self) -> None:
        """Tell controllers to read /accessories anew, if there is something new."""
        if self.state.set_accessories_hash(self.accessories_hash):
            self.async_persist()
            self.async_update_advertisement()

    def timed_write_is_valid(self, writer: Writer, request: dict[str, Any]) -> bool:
        """Whether a timed write was prepared and is in time; HAP-python does it anyway."""
        if "pid" not in request:
            return True
        match request["pid"]:
            case int(pid) if not isinstance(pid, bool):
                expires_at_seconds = self.prepared_writes.get(writer, {}).pop(pid, None)
                return expires_at_seconds is not None and self.loop.time() <= expires_at_seconds
        return False

    def value_of(self, event: dict[str, Any]) -> dict[str, Any]:
        """An event with the value of this moment: a queued one may be older than what came after it."""
        characteristic = self.find(event["aid"], event["iid"])
        return event if characteristic is None else {**event, "value": characteristic.value}

    # Life

    async def start(self, place: Place) -> None:
        """Serve and announce there; takes both back if one of them fails."""
        try:
            await self._be_at(place)
            await self.async_start()
        except BaseException:
            await self._stop_what_started()
            raise

    async def move(self, place: Place) -> None:
        """Serve and announce there instead; raises `OSError`, and can be called again then."""
        await self.advertiser.be_silent()
        self.advertiser.zeroconf.registry.async_remove(self.mdns_service_info)
        await self._be_at(place)
        self.mdns_service_info = AccessoryMDNSServiceInfo(self.accessory, self.state, self.zeroconf_server)
        await self.advertiser.async_register_service(self.mdns_service_info, cooperating_responders=True)
        self.advertiser.announce(self.mdns_service_info)

    async def _be_at(self, place: Place) -> None:
        """Have the sockets there, before there is a service to answer for."""
        await self.http_server.listen(place)
        addresses = list(place.addresses)
        self.state.addresses = [address.partition("%")[0] for address in addresses]
        if self.advertiser is None:
            self.advertiser = Advertiser(addresses)
        else:
            await self.advertiser.async_update_interfaces(addresses)
        await self.advertiser.zeroconf.async_wait_for_start()
        for reader in self.advertiser.zeroconf.engine.readers:
            hear_only(reader.sock, place.interfaces)

    async def async_stop(self) -> None:
        """Say goodbye on mDNS and wait until it is said: HAP-python does not, and phones keep the bridge."""
        await self.advertiser.be_silent()
        goodbye = await self.advertiser.async_unregister_service(self.mdns_service_info)
        await goodbye
        await super().async_stop()

    async def _stop_what_started(self) -> None:
        self.http_server.async_stop()
        if self.advertiser is not None:
            closing, self.advertiser = self.advertiser, None  # one that is closed cannot be started again
            await closing.async_close()

    def async_update_advertisement(self) -> None:
        """Advertise what is true now; HAP-python may still do it when the goodbye has been said."""
        if self.mdns_service_info is None:
            return  # there is nothing advertised yet
        self.mdns_service_info = AccessoryMDNSServiceInfo(self.accessory, self.state, self.zeroconf_server)
        self.advertiser.announce(self.mdns_service_info)
