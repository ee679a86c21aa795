"""How phones know each accessory: its aid, type and texts, its own or those that were taken over.

Pure: no I/O. Knows the state's record of what was taken over, but neither accessories nor their iids.
"""

import re
from dataclasses import replace
from typing import Final, NamedTuple

from hkswitch import __version__
from hkswitch.hap.announcement import serial_number
from hkswitch.hap.taken_over import TakenAccessory, TakenOver
from hkswitch.model.group import AccessoryType, Group, aid_of
from hkswitch.model.switch_events import Tile

MANUFACTURER: Final = "hkswitch"
MODEL: Final = "Service group"


class AccessoryIdentity(NamedTuple):
    """The aid and the texts of an accessory."""

    aid: int
    name: str
    manufacturer: str
    model: str
    serial_number: str
    is_taken_over: bool = False
    """Whether its Switch has a Name of its own, as in Homebridge."""


def firmware_revision(version: str) -> str:
    """Return a version as HomeKit allows it, `x.y.z`: no candidate's mark, and no number of commits."""
    return re.sub(r"[^0-9.].*", "", version)


def own_firmware_revision() -> str:
    """Return the version of this program, as HomeKit allows it."""
    return firmware_revision(__version__)


def identity_of(group: Group, tile: Tile, taken_over: TakenOver | None) -> AccessoryIdentity:
    """Return the identity of a tile."""
    key, name = _key(group, tile), group.restart_name if tile is Tile.RESTART else group.name
    if (taken := _taken(key, taken_over)) is not None:
        texts = taken.texts._replace(name=taken.name(name))
        return AccessoryIdentity(taken.aid, *texts, is_taken_over=True)
    return _own_identity(key, name, taken_over)


def sensor_identity_of(group: Group, taken_over: TakenOver | None) -> AccessoryIdentity:
    """Return the identity of a group's sensor, which no other bridge had."""
    return _own_identity(f"{group.id}:alert", group.alert_name, taken_over)


def _own_identity(key: str, name: str, taken_over: TakenOver | None) -> AccessoryIdentity:
    aid = aid_of(key, 0 if taken_over is None else taken_over.first_free_aid)
    return AccessoryIdentity(aid, name, MANUFACTURER, MODEL, serial_number(key, aid))


def as_served(group: Group, taken_over: TakenOver | None) -> Group:
    """Return the group as phones see it: one that was taken over stays a switch."""
    if _taken(group.id, taken_over) is None:
        return group
    return replace(group, type=AccessoryType.SWITCH)


def stays_switch(group_ids: tuple[str, ...]) -> str:
    """Return a note about groups whose type has no effect; empty without any."""
    if not group_ids:
        return ""
    verb, pronoun = ("stays a switch", "it was") if len(group_ids) == 1 else ("stay switches", "they were")
    return f"{', '.join(group_ids)}: {verb}, because {pronoun} taken over from Homebridge"


def _key(group: Group, tile: Tile) -> str:
    return f"{group.id}:restart" if tile is Tile.RESTART else group.id


def _taken(key: str, taken_over: TakenOver | None) -> TakenAccessory | None:
    return None if taken_over is None else taken_over.accessories.get(key)
