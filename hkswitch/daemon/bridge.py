"""The HomeKit bridge with the accessories of all groups. Shows states and forwards writes."""

import errno
import logging
import os
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol
from uuid import UUID

from pyhap import const
from pyhap.accessory import Accessory
from pyhap.accessory import Bridge as BridgeAccessory
from zeroconf import Error as ZeroconfError

from hkswitch.daemon.identities import MANUFACTURER, as_served, own_firmware_revision, stays_switch
from hkswitch.daemon.requests import Write
from hkswitch.daemon.sensors import SensorAccessory, sensor_for
from hkswitch.daemon.tiles import TileAccessory, tile_for, tiles_of
from hkswitch.hap import state_file
from hkswitch.hap.announcement import MODEL, PROTOCOL_VERSION
from hkswitch.hap.characteristics import Respond, SlowWrite
from hkswitch.hap.driver import Driver
from hkswitch.hap.sessions import Session
from hkswitch.hap.setup_code import Setup, unknown_controller
from hkswitch.hap.sockets import CannotBind
from hkswitch.hap.taken_over import Texts
from hkswitch.model.errors import Failure
from hkswitch.model.group import Group
from hkswitch.model.switch_events import Tile
from hkswitch.network.endpoint import Endpoint
from hkswitch.network.mdns_port import MdnsPortTaken, taken_by
from hkswitch.protocol.control import SetupInfo
from hkswitch.protocol.report import PairedController

_log = logging.getLogger(__name__)


class WriteHandler(Protocol):
    """The receiver of controllers' writes."""

    def write(self, write: Write, tile: Tile, *, on: bool) -> None:
        """Begin to bring the group to the written state, and answer the write in time."""


@dataclass(eq=False)
class CannotServe(Failure):
    """A bridge that cannot go online at `endpoint`. `in_use`: another program uses the port there.

    `remedy` is the fix in that case, which is different for the service and the demo.
    """

    endpoint: Endpoint
    port: int
    why: str
    in_use: bool
    remedy: str = ""

    def __str__(self) -> str:
        what = f"cannot serve HomeKit on {self.endpoint}, port {self.port}: {self.why}"
        return f"{what}; {self.remedy}" if self.in_use and self.remedy else what


class CannotAnnounce(CannotServe):
    """A bridge that phones could not find: another program keeps the port of mDNS for itself."""

    def __str__(self) -> str:
        return f"cannot announce the bridge on {self.endpoint}: {self.why}; {self.remedy}"


class Bridge:
    """A HomeKit bridge with a switch for each group. Create it inside the event loop."""

    def __init__(self, name: str, groups: Iterable[Group], state_folder: Path, port: int) -> None:
        """Read the state file, or create a new identity; raises `Failure`."""
        self._port = port
        self._serving = False
        stored = state_file.read(state_folder)
        if stored is not None:
            stored.warn_of_unknown_keys()
        self.setup = Setup.new() if stored is None else stored.setup
        self._driver = Driver(port=port, state_folder=state_folder, setup=self.setup, stored=stored)
        iids = self._driver.database.iids_of(const.STANDALONE_AID)
        self._taken_over = self._driver.taken_over
        self._bridge = BridgeAccessory(self._driver, name, iid_manager=iids)
        device_id = self._driver.state.mac if stored is None else stored.device_id
        self._bridge.set_info_service(own_firmware_revision(), MANUFACTURER, MODEL, device_id)
        if self._taken_over is not None:
            _set_texts(self._bridge, self._taken_over.bridge)
        protocol = self._bridge.get_service("HAPProtocolInformation")
        protocol.configure_char("Version", value=PROTOCOL_VERSION)
        self._tiles: dict[tuple[str, Tile], TileAccessory] = {}
        self._sensors: dict[str, SensorAccessory] = {}
        """The sensors of groups with `alert`."""
        self.type_note = ""
        """A note about groups that do not get the type that the config gives them; empty if all do."""
        self._set_accessories(groups)
        if self.type_note:
            _log.warning("%s", self.type_note)
        self._bridge.accessories = self._accessories
        self._driver.add_accessory(self._bridge)
        if stored is None:
            _log.info("created a new identity in %s", state_folder)

    @property
    def paired(self) -> bool:
        """Whether any controller is paired."""
        return bool(self._driver.state.paired)

    @property
    def pairing_refused(self) -> bool:
        """Whether pairing is locked after too many wrong setup codes, and no controller is paired."""
        return not self.paired and self._driver.attempts.is_locked

    @property
    def config_version(self) -> int:
        """The number (c#) that makes controllers read the accessories again when it grows."""
        return int(self._driver.state.config_version)

    @property
    def storage_problem(self) -> str:
        """The reason why the state cannot be written, and the consequences; empty if it can be written."""
        return self._driver.writer.trouble

    @property
    def identity_conflict(self) -> str:
        """A second bridge with the same identity, and the remedy; empty if none is known."""
        return "" if self._driver.twins is None else self._driver.twins.found

    @property
    def left_out(self) -> frozenset[str]:
        """The groups that controllers do not see until the state can be written."""
        served = self._bridge.accessories
        own = (each for (_, tile), each in self._tiles.items() if tile is Tile.GROUP)
        return frozenset(each.group.id for each in own if each.aid not in served)

    async def start(self, write_handler: WriteHandler, endpoint: Endpoint) -> None:
        """Go online at `endpoint`; raises `CannotServe`."""
        self._take_writes(write_handler)
        with self._cannot_serve(endpoint):
            await self._driver.start(endpoint)
        self._serving = True

    async def move(self, endpoint: Endpoint) -> None:
        """Go online at `endpoint` instead; after `CannotServe`, the caller must call `move` or `leave`."""
        with self._cannot_serve(endpoint):
            await self._driver.move(endpoint)

    async def leave(self) -> None:
        """Go offline with a goodbye, until the next `move`."""
        with suppress(OSError, ZeroconfError):  # everything is closed; only the goodbye may be missing
            await self._driver.leave()

    @contextmanager
    def _cannot_serve(self, endpoint: Endpoint) -> Iterator[None]:
        try:
            yield
        except MdnsPortTaken as error:
            why, remedy = taken_by()
            raise CannotAnnounce(endpoint, self._port, why, in_use=False, remedy=remedy) from error
        except (OSError, ZeroconfError) as error:
            number = error.errno if isinstance(error, OSError) else None
            why = os.strerror(number) if number else str(error)  # asyncio's own text is longer
            where = (
                replace(endpoint, addresses=error.addresses) if isinstance(error, CannotBind) else endpoint
            )
            raise CannotServe(where, self._port, why, in_use=number == errno.EADDRINUSE) from error

    def regroup(self, groups: Iterable[Group], write_handler: WriteHandler) -> None:
        """Serve accessories for these groups, and notify controllers; unchanged ones are not touched.

        Raises `StateUnwritable` if they cannot be served, and then changes nothing.
        """
        before = self._tiles, self._sensors
        self._set_accessories(groups)
        try:
            self._driver.serve(self._accessories)
        except state_file.StateUnwritable:
            self._tiles, self._sensors = before
            raise
        self._take_writes(write_handler)

    async def stop(self) -> None:
        """Go offline with a goodbye, if it went online."""
        self._driver.stop_writing()
        if self._serving:
            self._serving = False
            await self._driver.async_stop()

    def tell_of_changes(self, tell: Callable[[], None]) -> None:
        """Call `tell` when pairings or the pairing lock change, and when writing fails or works again."""
        self._driver.tell_of_changes(tell)

    # Operations of the control socket

    def setup_info(self) -> SetupInfo:
        """Return the data that a phone needs to pair."""
        return self._driver.stored.setup_info

    def controllers(self) -> tuple[PairedController, ...]:
        """Return the paired controllers, and the number of connections of each."""
        connections = Counter(session.controller_id for session in self._driver.http_server.connections)
        return tuple(c._replace(connections=connections[c.id]) for c in self._driver.stored.controllers)

    def unpair(self, controller_id: str | None) -> None:
        """Remove one pairing, or all (None); raises `Failure`."""
        if controller_id is None:
            self._driver.unpair(None)
        elif controller_id in (ids := [controller.id for controller in self.controllers()]):
            self._driver.unpair(UUID(controller_id))
        else:
            raise unknown_controller(controller_id, ids)

    def reset_attempts(self) -> None:
        """Unlock pairing after too many wrong setup codes; raises `StateUnwritable`."""
        self._driver.attempts.forget()

    def _set_accessories(self, groups: Iterable[Group]) -> None:
        """Create the accessories of all groups; those of unchanged groups stay."""
        tiles, self._tiles = self._tiles, {}
        sensors, self._sensors = self._sensors, {}
        wanted = tuple(groups)
        served = [as_served(group, self._taken_over) for group in wanted]
        for group in served:
            for tile in tiles_of(group):
                key = group.id, tile
                self._tiles[key] = tile_for(group, tile, tiles.get(key), self._driver)
            if group.alert is not None:
                self._sensors[group.id] = sensor_for(group, group.alert, sensors.get(group.id), self._driver)
        changed = (one for one, other in zip(wanted, served, strict=True) if one.type is not other.type)
        self.type_note = stays_switch(tuple(group.id for group in changed))

    @property
    def _accessories(self) -> dict[int, Accessory]:
        """All accessories by aid; iOS forgets the rooms of those that appear after the bridge is online."""
        ordered = sorted([*self._tiles.values(), *self._sensors.values()], key=lambda each: each.aid)
        return {accessory.aid: accessory for accessory in ordered}

    def _take_writes(self, write_handler: WriteHandler) -> None:
        writes = {
            on: self._writes_of(*key, write_handler) for key, tile in self._tiles.items() for on in tile.ons
        }
        self._driver.write_slowly(writes)

    def _writes_of(self, group_id: str, tile: Tile, write_handler: WriteHandler) -> SlowWrite:
        def begin(on: bool, writer: Session, respond: Respond) -> None:  # noqa: FBT001 -- a characteristic's value
            write = Write(group_id, writer.controller_id, writer, respond=respond)
            write_handler.write(write, tile, on=on)

        return begin

    def show(self, group_id: str, tile: Tile, writer: Hashable | None, *, on: bool) -> None:
        """Store On and send it as an event to every subscribed connection except `writer`."""
        if (accessory := self._tiles.get((group_id, tile))) is not None:  # a group may have no restart switch
            accessory.show(writer, on=on)

    def show_alert(self, group_id: str, *, detected: bool) -> None:
        """Store the value of a group's sensor, and send it as an event if it changed."""
        if (sensor := self._sensors.get(group_id)) is not None:
            sensor.show(detected=detected)

    def set_available(self, group_id: str, *, available: bool) -> None:
        """Set whether reads of the group's tiles return a value; those of its sensor always do."""
        for tile in Tile:
            if (accessory := self._tiles.get((group_id, tile))) is not None:
                accessory.set_available(available)


def _set_texts(accessory: BridgeAccessory, texts: Texts) -> None:
    information = accessory.get_service("AccessoryInformation")
    information.configure_char("Name", value=texts.name)
    accessory.set_info_service(own_firmware_revision(), texts.manufacturer, texts.model, texts.serial_number)
