"""The bridge and its accessories, one a group. Shows what it is told and passes on what is written."""

import logging
import os
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Final, Protocol

from pyhap import const
from pyhap.accessory import Accessory
from pyhap.accessory import Bridge as BridgeAccessory
from zeroconf import Error as ZeroconfError

from hkswitch import __version__
from hkswitch.core.errors import Failure
from hkswitch.core.events import Tile
from hkswitch.core.model import AccessoryType, Group
from hkswitch.homekit import statefile
from hkswitch.homekit.hardening import Driver
from hkswitch.homekit.pairing import Setup
from hkswitch.homekit.writes import Writer

SERVICES: Final = {
    AccessoryType.SWITCH: ("Switch", const.CATEGORY_SWITCH),
    AccessoryType.OUTLET: ("Outlet", const.CATEGORY_OUTLET),
    AccessoryType.LIGHT: ("Lightbulb", const.CATEGORY_LIGHTBULB),
    AccessoryType.FAN: ("Fan", const.CATEGORY_FAN),
}

_log = logging.getLogger(__name__)


class Taps(Protocol):
    """Who is told what controllers write."""

    def write(self, group_id: str, tile: Tile, writer: Writer, *, on: bool) -> Awaitable[bool]:
        """Bring the group to what was written; returns whether that may be called a success."""


class CannotServe(Failure):
    """The bridge cannot go online; `str()` says why."""


class Bridge:
    """A HomeKit bridge with a switch for each group. Make it inside the event loop."""

    def __init__(
        self, name: str, groups: Iterable[Group], state_folder: Path, addresses: tuple[str, ...], port: int
    ) -> None:
        """Reads the state file, or makes a new identity; raises `Failure`."""
        self._address = ", ".join(addresses)
        self._port = port
        self._serving = False
        state_file = state_folder / statefile.FILE_NAME
        stored = statefile.read(state_file)
        self.setup = Setup.new() if stored is None else stored.setup
        self._driver = Driver(addresses=addresses, port=port, state_file=state_file, setup=self.setup)
        self._bridge = _QuietBridge(self._driver, name)
        self._bridge.set_info_service(__version__, "hkswitch", "Bridge", self._driver.state.mac)
        self._tiles: dict[tuple[str, Tile], TileAccessory] = {}
        self._place(groups)
        self._driver.add_accessory(self._bridge)
        if stored is None:
            _log.info("made a new identity in %s", state_file)

    @property
    def paired(self) -> bool:
        """Whether any controller is paired."""
        return bool(self._driver.state.paired)

    @property
    def config_version(self) -> int:
        """The number (c#) that tells controllers to read the accessories anew when it grows."""
        return int(self._driver.state.config_version)

    async def start(self, taps: Taps) -> None:
        """Go online; raises `CannotServe`."""
        self._take_writes(taps)
        try:
            await self._driver.async_start()
            self._serving = True
        except (OSError, ZeroconfError) as error:
            number = error.errno if isinstance(error, OSError) else None
            why = os.strerror(number) if number else str(error)  # asyncio's own text is longer
            raise CannotServe(f"cannot serve HomeKit on {self._address}, port {self._port}: {why}") from error

    def regroup(self, groups: Iterable[Group], taps: Taps) -> None:
        """Have accessories for these groups; those that stay are not touched. Tells the controllers."""
        self._place(groups)
        self._take_writes(taps)
        self._driver.accessories_changed()

    async def stop(self) -> None:
        """Go offline with a goodbye, if it went online."""
        if self._serving:
            self._serving = False
            await self._driver.async_stop()

    def _place(self, groups: Iterable[Group]) -> None:
        """Have an accessory for each tile; those of groups that stay the same stay too."""
        before, self._tiles = self._tiles, {}
        for group in groups:
            for tile in tiles_of(group):
                self._tiles[group.id, tile] = self._placed(group, tile, before.get((group.id, tile)))
        # iOS forgets the rooms of accessories that were not there when the bridge came online.
        ordered = sorted(self._tiles.values(), key=lambda accessory: accessory.aid)
        self._bridge.accessories = {accessory.aid: accessory for accessory in ordered}

    def _placed(self, group: Group, tile: Tile, before: "TileAccessory | None") -> "TileAccessory":
        if before is not None and (before.group.name, before.group.type) == (group.name, group.type):
            return before
        accessory = TileAccessory(self._driver, group, tile)
        if before is not None:
            accessory.is_available = before.is_available
            accessory.show(None, on=before.on.value)
        return accessory

    def _take_writes(self, taps: Taps) -> None:
        writes = {accessory.on: _writes_of(*key, taps) for key, accessory in self._tiles.items()}
        self._driver.write_slowly(writes)

    def show(self, group_id: str, tile: Tile, writer: Writer | None, *, on: bool) -> None:
        """Store On and send it as an event to every subscribed controller but `writer`."""
        self._tiles[group_id, tile].show(writer, on=on)

    def set_available(self, group_id: str, *, available: bool) -> None:
        """Whether reads of the group's tiles have a value to give."""
        for tile in Tile:
            if (accessory := self._tiles.get((group_id, tile))) is not None:
                accessory.is_available = available


class TileAccessory(Accessory):
    """The accessory of one tile: a group's own, or its restart switch."""

    def __init__(self, driver: Driver, group: Group, tile: Tile) -> None:
        """Not available until it is told otherwise."""
        self.group = group
        restart = tile is Tile.RESTART
        service_name, self.category = SERVICES[AccessoryType.SWITCH if restart else group.type]
        name, aid = (group.restart_name, group.restart_aid) if restart else (group.name, group.aid)
        super().__init__(driver, name, aid=aid)
        serial_number = f"{group.id}:restart" if restart else group.id
        self.set_info_service(__version__, "hkswitch", "Service group", serial_number)
        service = self.add_preload_service(service_name)
        self.on = service.get_characteristic("On")
        self._followers = [char for char in service.characteristics if char.display_name == "OutletInUse"]
        self.is_available = False

    @property
    def available(self) -> bool:
        """HAP-python asks this before each read."""
        return self.is_available

    def show(self, writer: Writer | None, *, on: bool) -> None:
        """Store On and send it, even if it is no news: somebody may believe otherwise."""
        self.on.value = on
        self.on.notify(writer)
        for follower in self._followers:
            follower.set_value(on)


class _QuietBridge(BridgeAccessory):
    """The bridge's own accessory."""

    def setup_message(self) -> None:
        """Say nothing: HAP-python prints the setup code, which would stay in the journal for everybody."""


def tiles_of(group: Group) -> tuple[Tile, ...]:
    """The tiles that a group has in the Home app."""
    return (Tile.GROUP, Tile.RESTART) if group.restart else (Tile.GROUP,)


def _writes_of(group_id: str, tile: Tile, taps: Taps) -> Callable[[bool, Writer], Awaitable[bool]]:
    def write(on: bool, writer: Writer) -> Awaitable[bool]:  # noqa: FBT001 -- a characteristic's value
        return taps.write(group_id, tile, writer, on=on)

    return write
