"""The accessories of groups' switches. Knows no writes: the bridge passes them on."""

from collections.abc import Hashable
from dataclasses import replace
from typing import Final

from pyhap import const
from pyhap.characteristic import Characteristic

from hkswitch.daemon.identities import identity_of, own_firmware_revision
from hkswitch.hap.database import Retyped
from hkswitch.hap.driver import Driver
from hkswitch.model.group import AccessoryType, Group
from hkswitch.model.switch_events import Tile

SERVICES: Final = {
    AccessoryType.SWITCH: ("Switch", const.CATEGORY_SWITCH),
    AccessoryType.OUTLET: ("Outlet", const.CATEGORY_OUTLET),
    AccessoryType.LIGHT: ("Lightbulb", const.CATEGORY_LIGHTBULB),
    AccessoryType.FAN: ("Fan", const.CATEGORY_FAN),
}

TYPES: Final = {
    "49": AccessoryType.SWITCH,
    "47": AccessoryType.OUTLET,
    "43": AccessoryType.LIGHT,
    "40": AccessoryType.FAN,
}
"""The accessory types, by the HAP service types in the state file."""


class TileAccessory(Retyped):
    """The accessory of one tile: a group's own switch, or its restart switch."""

    former: "TileAccessory | None" = None
    """The same tile with the group's former type."""

    def __init__(self, driver: Driver, group: Group, tile: Tile) -> None:
        """Start as unavailable, until `set_available`."""
        self.group = group
        restart = tile is Tile.RESTART
        service_name, self.category = SERVICES[AccessoryType.SWITCH if restart else group.type]
        known = identity_of(group, tile, driver.taken_over)
        super().__init__(driver, known.name, aid=known.aid, iid_manager=driver.database.iids_of(known.aid))
        self.set_info_service(own_firmware_revision(), known.manufacturer, known.model, known.serial_number)
        service = self.add_preload_service(service_name, ["Name"] if known.is_taken_over else None)
        if known.is_taken_over:
            service.configure_char("Name", value=known.name)
        self.on = service.get_characteristic("On")
        self._followers = [char for char in service.characteristics if char.display_name == "OutletInUse"]
        self.is_available = False

    @property
    def available(self) -> bool:
        """Whether reads return a value; HAP-python asks before each read."""
        return self.is_available

    @property
    def ons(self) -> tuple[Characteristic, ...]:
        """The characteristics that controllers may write."""
        return (self.on,) if self.former is None else (self.on, *self.former.ons)

    def set_available(self, available: bool) -> None:  # noqa: FBT001 -- a setter
        """Set whether reads return a value."""
        self.is_available = available
        if self.former is not None:
            self.former.set_available(available)

    def show(self, writer: Hashable | None, *, on: bool) -> None:
        """Store On and send it, even if it did not change: a controller may show something else."""
        self.on.value = on
        self.on.notify(writer)
        for follower in self._followers:
            follower.set_value(on)
        if self.former is not None:
            self.former.show(writer, on=on)


def tiles_of(group: Group) -> tuple[Tile, ...]:
    """Return the tiles that a group has in the Home app."""
    return (Tile.GROUP, Tile.RESTART) if group.restart else (Tile.GROUP,)


def tile_for(group: Group, tile: Tile, before: TileAccessory | None, driver: Driver) -> TileAccessory:
    """Return the accessory of a tile: the one from before if the group did not change."""
    if before is not None and (before.group.name, before.group.type) == (group.name, group.type):
        return before
    accessory = TileAccessory(driver, group, tile)
    written = TYPES.get(driver.database.written_type(accessory.aid) or "", group.type)
    if tile is Tile.GROUP and written is not group.type:
        accessory.former = TileAccessory(driver, replace(group, type=written), tile)
    if before is not None:
        accessory.set_available(before.is_available)
        accessory.show(None, on=before.on.value)
    return accessory
