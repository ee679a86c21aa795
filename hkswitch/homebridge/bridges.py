"""Finds the bridge that has the cmdSwitch2 switches of a Homebridge config. Pure: no I/O.

That is the main bridge, or the child bridge that the platform's block names.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from hkswitch.homebridge.damage import is_text
from hkswitch.homebridge.switches import WITHOUT_ACCESSORIES
from hkswitch.homebridge.wording import quoted
from hkswitch.model.errors import Exit, Failure

DEFAULT_USERNAME: Final = "CC:22:3D:E3:CE:30"
MOST_TEXT: Final = 64
LEAST_TEXT: Final = 2
"""HAP-NodeJS ignores a shorter model or serial number, and cuts off longer texts."""

_USERNAME: Final = re.compile(r"([0-9A-F]{2}:){5}[0-9A-F]{2}")
_LARGEST_PORT: Final = 65535


class HomebridgeBridge(NamedTuple):
    """A bridge of a Homebridge config. `port` is 0 if Homebridge chooses it."""

    username: str
    port: int
    is_child: bool
    manufacturer: str
    model: str
    serial_number: str


def bridge_of_switches(config: object, platforms: frozenset[str], file: str) -> HomebridgeBridge:
    """Return the bridge of the platforms with these names, in lower case. Raises `Failure`."""
    blocks = [block for block in _blocks(config, "platforms") if _kind(block).casefold() in platforms]
    found = {bridge.username: bridge for bridge in (_bridge_of(block, config, file) for block in blocks)}
    if len(found) != 1:
        names = ", ".join(found) or "no bridge"
        why = f"its cmdSwitch2 switches are on {names}, and only one bridge can be taken over"
        raise Failure(f"{file}: {why}; remove the other blocks from a copy of the file", Exit.CONFIG)
    return next(iter(found.values()))


def starts(config: object, username: str) -> bool:
    """Return whether Homebridge with this config starts the bridge `username`."""
    blocks = [*_blocks(config, "platforms"), *_blocks(config, "accessories")]
    children = {_username(child) for block in blocks if (child := _child(block))}
    return username in {_username(_main(config)), *children}


def others_on(config: object, bridge: HomebridgeBridge, platforms: frozenset[str]) -> tuple[str, ...]:
    """Return the names of other platforms and accessories that the config puts on a bridge."""
    return tuple(dict.fromkeys(_others(config, bridge, platforms)))


def _others(config: object, bridge: HomebridgeBridge, platforms: frozenset[str]) -> Iterator[str]:
    for kind in ("platforms", "accessories"):
        for block in _blocks(config, kind):
            child = _username(_child(block)) if _child(block) else ""
            if child != (bridge.username if bridge.is_child else "") or not _kind(block):
                continue
            if kind == "accessories" or _kind(block).casefold() not in platforms | WITHOUT_ACCESSORIES:
                name = block.get("name")
                yield f"{_kind(block)} {quoted(name)}" if isinstance(name, str) else _kind(block)


def switches_by_name(config: object, platforms: frozenset[str]) -> dict[str, Mapping[str, Any]]:
    """Return the blocks of all switches by name; of two with one name, the plugin uses the later one."""
    found: dict[str, Mapping[str, Any]] = {}
    for block in _blocks(config, "platforms"):
        switches = block.get("switches") if _kind(block).casefold() in platforms else None
        items = [*switches.values()] if isinstance(switches, dict) else switches
        for item in items if isinstance(items, list) else ():
            if isinstance(item, dict) and isinstance(item.get("name"), str):
                found[item["name"]] = item
    return found


def usual_accessory_texts(switch: Mapping[str, Any]) -> dict[str, str]:
    """Return `manufacturer`, `model` and `serial` of a switch in the config, as the plugin sets them."""
    usual = {
        "manufacturer": "Default-Manufacturer",
        "model": "Default-Model",
        "serial": "Default-SerialNumber",
    }
    return {key: _text(switch.get(key), default, key) for key, default in usual.items()}


def _bridge_of(block: Mapping[str, Any], config: object, file: str) -> HomebridgeBridge:
    main, child = _main(config), _child(block)
    own = child or main
    username = _username(own)
    if not _USERNAME.fullmatch(username):
        raise Failure(f"{file}: {quoted(username)} is not a bridge's username", Exit.CONFIG)
    return HomebridgeBridge(
        username,
        _port(own.get("port")),
        bool(child),
        _text(own.get("manufacturer") or main.get("manufacturer"), "homebridge.io", "manufacturer"),
        _text(own.get("model") or main.get("model"), "homebridge", "model"),
        _text(own.get("serialNumber"), username, "serial"),
    )


def _text(value: object, default: str, key: str) -> str:
    """Return a text as HAP-NodeJS accepts it."""
    text = str(value) if isinstance(value, str | int) and not isinstance(value, bool) and value else default
    if not is_text(text) or (key != "manufacturer" and len(text) < LEAST_TEXT):
        return default
    return text[:MOST_TEXT]


def _main(config: object) -> Mapping[str, Any]:
    bridge = config.get("bridge") if isinstance(config, dict) else None
    return bridge if isinstance(bridge, dict) else {}


def _child(block: Mapping[str, Any]) -> Mapping[str, Any]:
    child = block.get("_bridge")
    return child if isinstance(child, dict) else {}


def _username(bridge: Mapping[str, Any]) -> str:
    return str(bridge.get("username") or DEFAULT_USERNAME).upper()


def _port(value: object) -> int:
    return value if type(value) is int and 0 < value <= _LARGEST_PORT else 0


def _kind(block: Mapping[str, Any]) -> str:
    kind = block.get("platform", block.get("accessory"))
    return kind if isinstance(kind, str) else ""


def _blocks(config: object, kind: str) -> Iterator[Mapping[str, Any]]:
    """Yield the platforms or accessories of a config, which may itself be a platform, as READMEs show it."""
    if not isinstance(config, dict):
        return
    if kind == "platforms" and "platform" in config:
        yield config
    blocks = config.get(kind)
    for block in blocks if isinstance(blocks, list) else ():
        if isinstance(block, dict):
            yield block
