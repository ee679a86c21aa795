"""Joins what Homebridge's folder knows about a bridge and its switches, for a take-over. Pure: no I/O.

The folder is only read, by the caller. Names and ids of groups come from the importer's result.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Final, NamedTuple

from hkswitch.homebridge import bridges, jsonc
from hkswitch.homebridge.bridge_identity import BridgeIdentity, read_identity
from hkswitch.homebridge.bridges import HomebridgeBridge
from hkswitch.homebridge.cached_accessories import PLUGIN, Cached, read_cached
from hkswitch.homebridge.damage import Damaged, shown
from hkswitch.homebridge.identifiers import SWITCH, Identifiers, Known, read_identifiers, uuid_of
from hkswitch.homebridge.imported import Left, Origin
from hkswitch.homebridge.switches import PLATFORMS
from hkswitch.model.errors import Exit, Failure

_ON: Final = "49.25"
_MOST_NAMED: Final = 5

ReadFile = Callable[[str], bytes | None]
"""A function that returns a file of Homebridge's folder by its relative path; None if there is none."""


class TakenSwitch(NamedTuple):
    """A switch, and the accessory that it becomes: `identity` is a group's id, or that of a tile of it.

    `was_on`: Homebridge last turned it on, by the commands that it has now.
    """

    identity: str
    configured_name: str
    aid: int
    name: str
    manufacturer: str
    model: str
    serial_number: str
    was_on: bool = False


class TakeOver(NamedTuple):
    """Everything that phones know about a bridge."""

    bridge: HomebridgeBridge
    identity: BridgeIdentity
    switches: tuple[TakenSwitch, ...]
    iids: Mapping[int, Mapping[str, int]]
    """The iids of all accessories that the bridge has, and of those that it had, by aid."""
    first_free_aid: int
    notes: tuple[str, ...]


def take_over(
    config: bytes,
    config_file: str,
    origins: Mapping[str, Origin],
    read: ReadFile,
    left: tuple[Left, ...] = (),
) -> TakeOver:
    """Return everything about the bridge of a config's switches; raises `Failure`.

    `left`: the switches that could not be imported. If phones know one of them, it would lose its room.
    """
    contents = jsonc.read(config, config_file)
    bridge = bridges.bridge_of_switches(contents, PLATFORMS, config_file)
    mac = bridge.username.replace(":", "")
    identity_file, ids_file = f"persist/AccessoryInfo.{mac}.json", f"persist/IdentifierCache.{mac}.json"
    identity = read_identity(_needed(read, identity_file, bridge), identity_file, bridge.username)
    if not any(client.is_admin for client in identity.clients):
        remedy = "import without --take-over, and pair with `sudo hkswitch pair`"
        raise _refused(f"no admin is paired with {bridge.username}; {remedy}")
    ids = read_identifiers(_needed(read, ids_file, bridge), ids_file)
    cached_file = f"accessories/cachedAccessories{f'.{mac}' if bridge.is_child else ''}"
    cached_bytes = read(cached_file)
    cached = read_cached(cached_bytes, cached_file) if cached_bytes is not None else {}
    blocks = bridges.switches_by_name(contents, PLATFORMS)
    foreign = [*_foreign(ids, cached, blocks)]
    if foreign and (names := _named(foreign, cached, contents, bridge)):
        raise _refused(
            f"{bridge.username} also has accessories of other plugins ({names}), "
            "which hkswitch cannot serve; move the other plugins to child bridges in Homebridge first, "
            "where phones must pair again, or import without --take-over"
        )
    _check_left(origins, left, ids, blocks)
    switches = tuple(_switches(origins, ids, ids_file, cached, blocks))
    if not switches:
        raise _refused(f"{ids_file} has none of its switches")
    iids = {1: ids.bridge.iids} | {known.aid: known.iids for known in ids.accessories.values()}
    notes = tuple(_notes(origins, switches, ids, blocks))
    return TakeOver(bridge, identity, switches, iids, ids.first_free_aid, notes)


def _refused(why: str) -> Failure:
    return Failure(f"cannot take over the bridge: {why}", Exit.CONFIG)


def _needed(read: ReadFile, file: str, bridge: HomebridgeBridge) -> bytes:
    contents = read(file)
    if contents is None:
        raise _refused(f"{file} does not exist; is it the folder of the bridge {bridge.username}?")
    return contents


def _foreign(ids: Identifiers, cached: Mapping[str, Cached], blocks: Mapping[str, object]) -> Iterator[str]:
    """Yield the UUIDs of the accessories that are no switches of the config, and were none of the plugin."""
    switches = {*map(uuid_of, blocks)}
    for uuid in ids.accessories:
        if uuid not in switches and (uuid not in cached or cached[uuid].plugin != PLUGIN):
            yield uuid


def _check_left(
    origins: Mapping[str, Origin], left: tuple[Left, ...], ids: Identifiers, blocks: Mapping[str, object]
) -> None:
    """Raise `Failure` if phones know a switch that was not imported."""
    names = {origin.switch for origin in origins.values()}
    lost = [name for name in blocks if name not in names and uuid_of(name) in ids.accessories]
    if not lost:
        return
    reasons = {each.name: str(each) for each in left}
    more = f"; and {len(lost) - _MOST_NAMED} more" if len(lost) > _MOST_NAMED else ""
    raise _refused(
        "it would lose switches that were not imported, with their rooms and automations "
        f"({'; '.join(reasons.get(name, shown(name)) for name in lost[:_MOST_NAMED])}{more}); "
        "correct their commands in a copy of config.json and import that, or remove them from it"
    )


def _named(foreign: list[str], cached: Mapping[str, Cached], config: object, bridge: HomebridgeBridge) -> str:
    """Name foreign accessories by the cache or the config; empty if neither has any: then they are gone."""
    others = [f"{shown(cached[uuid].name)} of {cached[uuid].plugin}" for uuid in foreign if uuid in cached]
    if len(others) < len(foreign):
        others += bridges.others_on(config, bridge, PLATFORMS)
    more = len(others) - _MOST_NAMED
    return ", ".join(others[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def _switches(
    origins: Mapping[str, Origin],
    ids: Identifiers,
    ids_file: str,
    cached: Mapping[str, Cached],
    blocks: Mapping[str, Mapping[str, object]],
) -> Iterator[TakenSwitch]:
    last = {origin.switch: identity for identity, origin in origins.items()}
    for identity, origin in origins.items():
        uuid = uuid_of(origin.switch)
        known = ids.accessories.get(uuid)
        if known is None or last[origin.switch] != identity:  # the plugin uses the later of two
            continue
        if _was_light(known, blocks.get(origin.switch, {})):
            continue
        if _ON not in known.iids:
            raise Damaged(ids_file, f"{shown(origin.switch)} has no switch")
        texts = bridges.usual_accessory_texts(blocks.get(origin.switch, {}))
        name, was_on = origin.switch, False
        if uuid in cached:
            name, texts = cached[uuid].name, {**texts, **cached[uuid].texts}
            was_on = _was_on(cached[uuid], blocks.get(origin.switch, {}))
        taken = _taken(identity, origin, known, name[: bridges.MOST_TEXT], texts)
        yield taken._replace(was_on=was_on)


def _was_light(known: Known, block: Mapping[str, object]) -> bool:
    """Whether the accessory is a dimmable light. A switch cannot have its ids, which stay out of use."""
    return bool(block.get("dim_cmd")) and SWITCH not in known.iids


def _was_on(cached: Cached, block: Mapping[str, object]) -> bool:
    """Whether the plugin remembers the switch as on, and with the same commands as in the config."""
    return cached.plugin == PLUGIN and cached.commands_while_on == (block.get("on_cmd"), block.get("off_cmd"))


def _taken(identity: str, origin: Origin, known: Known, name: str, texts: Mapping[str, str]) -> TakenSwitch:
    texts = {key: text[: bridges.MOST_TEXT] for key, text in texts.items()}
    return TakenSwitch(
        identity, origin.name, known.aid, name, texts["manufacturer"], texts["model"], texts["serial"]
    )


def _notes(
    origins: Mapping[str, Origin],
    switches: tuple[TakenSwitch, ...],
    ids: Identifiers,
    blocks: Mapping[str, Mapping[str, object]],
) -> Iterator[str]:
    taken = {switch.identity for switch in switches}
    for identity, origin in origins.items():
        if identity not in taken:
            known, block = ids.accessories.get(uuid_of(origin.switch)), blocks.get(origin.switch, {})
            is_light = known is not None and _was_light(known, block)
            why = "its dim_cmd made it a light" if is_light else "Homebridge has not served it yet"
            yield f"{shown(origin.switch)} is new in the Home app: {why}"
