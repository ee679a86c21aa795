"""Reads the accessories of a bridge's plugins: cachedAccessories of Homebridge. Pure: no I/O.

It is empty after a start without the plugin, while the bridge still remembers all ids.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

from hkswitch.homebridge.damage import Damaged, is_text, read_json

MOST_ACCESSORIES: Final = 2000

PLUGIN: Final = "homebridge-cmdswitch2"

_INFORMATION: Final = "0000003E-0000-1000-8000-0026BB765291"
_TEXTS: Final = {
    "00000020-0000-1000-8000-0026BB765291": "manufacturer",
    "00000021-0000-1000-8000-0026BB765291": "model",
    "00000030-0000-1000-8000-0026BB765291": "serial",
}


class Cached(NamedTuple):
    """An accessory; `texts` has its `manufacturer`, `model` and `serial` where they are known.

    `commands_while_on`: the on_cmd and off_cmd of a switch whose last command that succeeded turned it on.
    """

    plugin: str
    name: str
    texts: Mapping[str, str]
    commands_while_on: tuple[str, str] | None = None


def read_cached(data: bytes, file: str) -> dict[str, Cached]:
    """Return the accessories by UUID; raises `Damaged`."""
    found = read_json(data, file)
    if not isinstance(found, list) or len(found) > MOST_ACCESSORIES:
        raise Damaged(file, "it has no list of accessories")
    return dict(_accessory(each, file) for each in found)


def _accessory(body: object, file: str) -> tuple[str, Cached]:
    match body:
        case {"plugin": str(plugin), "UUID": str(uuid), "displayName": str(name), **rest} if is_text(name):
            return uuid, Cached(
                plugin, name, _texts(rest.get("services")), _commands_while_on(rest.get("context"))
            )
    raise Damaged(file, "an accessory has no plugin, UUID or name")


def _commands_while_on(context: object) -> tuple[str, str] | None:
    """Read the plugin's own memory, which it changes only after a command has succeeded."""
    match context:
        case {"state": True, "on_cmd": str(on), "off_cmd": str(off)}:
            return on, off
    return None


def _texts(services: object) -> dict[str, str]:
    """Return the texts of the accessory information; those that are no texts are left out."""
    found: dict[str, str] = {}
    for service in services if isinstance(services, list) else ():
        match service:
            case {"UUID": str(uuid), "characteristics": list(characteristics)} if uuid == _INFORMATION:
                for each in characteristics:
                    match each:
                        case {"UUID": str(kind), "value": str(value)} if kind in _TEXTS and is_text(value):
                            found[_TEXTS[kind]] = value
    return found
