"""Reads the aids and iids that a bridge assigned: IdentifierCache.MAC.json of HAP-NodeJS. Pure: no I/O.

A key there is an accessory's UUID, then perhaps a service, a subtype and a characteristic, separated by bars.
"""

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from hkswitch.homebridge.damage import Damaged, read_json, shown, whole

MOST_KEYS: Final = 20_000
"""A full bridge of switches has 2,000."""

MOST_IIDS: Final = 1000
"""Of one accessory."""

HapType = str
"""The type of a service, like `49`, or of a characteristic of it, like `49.25`, in HomeKit's short form."""

FIRST_IID: Final = 2
BRIDGE_SERVICES_FROM: Final = 2_000_000_000
"""Homebridge adds this to the iids of its own services, but not to those of their characteristics."""

INFORMATION, SWITCH, PROTOCOL = "3E", "49", "A2"
NO_TYPE: Final = "0"
"""Stands for whatever this program never serves, in the place of a service: no type has this number."""

_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_APPLE: Final = re.compile(r"0{0,7}([0-9A-F]{1,8})-0000-1000-8000-0026BB765291")
_NEXT_AID, _NEXT_IID = "|nextAID", "nextIID"


class Known(NamedTuple):
    """An accessory as controllers know it: the iids that it has, and at the beginning those that it had."""

    aid: int
    iids: Mapping[HapType, int]


class Identifiers(NamedTuple):
    """All ids of a bridge. Aids below `first_free_aid` were assigned."""

    bridge: Known
    accessories: Mapping[str, Known]
    """The accessories by UUID."""
    first_free_aid: int


def uuid_of(text: str) -> str:
    """Return the UUID that HAP-NodeJS makes of a text: digits of its SHA-1, with version and variant set."""
    # Half of a surrogate pair becomes a replacement character, as in JavaScript.
    encoded = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()
    digits = iter(hashlib.sha1(encoded, usedforsecurity=False).hexdigest())
    return "".join(_digit(place, digits) for place in "xxxxxxxx-xxxx-4xxx-yxxx-xxxxxxxxxxxx")


def _digit(place: str, digits: Iterator[str]) -> str:
    if place == "x":
        return next(digits)
    return f"{int(next(digits), 16) & 3 | 8:x}" if place == "y" else place


BRIDGE_UUID: Final = uuid_of("HomeBridge")


def read_identifiers(data: bytes, file: str) -> Identifiers:
    """Return the ids in a file; raises `Damaged`."""
    match read_json(data, file):
        case {"cache": dict(cache)} if len(cache) <= MOST_KEYS:
            pass
        case _:
            raise Damaged(file, "it has no ids")
    numbers = {key: whole(value, 1, file, shown(key)) for key, value in cache.items()}
    aids = {key: aid for key, aid in numbers.items() if "|" not in key}
    if len({1, *aids.values()}) <= len(aids):
        raise Damaged(file, "two accessories have the same aid")
    if not all(map(_UUID.fullmatch, aids)):
        raise Damaged(file, "an accessory has no UUID")
    free = max([numbers.get(_NEXT_AID, FIRST_IID), *(aid + 1 for aid in aids.values())])
    parts = _parts(numbers)
    known = {uuid: Known(aid, _iids(parts[uuid], file, SWITCH)) for uuid, aid in aids.items()}
    if not parts[BRIDGE_UUID]:
        raise Damaged(file, "it has no ids of the bridge itself")
    return Identifiers(Known(1, _iids(parts[BRIDGE_UUID], file, PROTOCOL)), known, free)


def _parts(numbers: Mapping[str, int]) -> defaultdict[str, dict[str, int]]:
    """Return the keys with a bar by their UUIDs."""
    parts: defaultdict[str, dict[str, int]] = defaultdict(dict)
    for key, number in numbers.items():
        uuid, bar, rest = key.partition("|")
        if bar and uuid:
            parts[uuid][rest] = number
    return parts


def _iids(parts: Mapping[str, int], file: str, main: HapType) -> dict[HapType, int]:
    """Return the iids of an accessory, with the service `main` at the end.

    Every iid that the accessory had, or may have had, is in it, so that it never gets another meaning.
    """
    found = {rest: iid for rest, iid in parts.items() if rest != _NEXT_IID}
    free = max([parts.get(_NEXT_IID, FIRST_IID), *(iid + 1 for iid in found.values())])
    if free > MOST_IIDS or min(found.values(), default=FIRST_IID) < FIRST_IID:
        raise Damaged(file, "an accessory has invalid iids")
    if len(set(found.values())) < len(found):
        raise Damaged(file, "one iid stands for two characteristics")
    typed = {_hap_type(rest): iid for rest, iid in found.items()} | {INFORMATION: 1}
    now = {of: iid for of, iid in typed.items() if of and of.partition(".")[0] in {INFORMATION, main}}
    retired = {*range(FIRST_IID, free), 1} - {*now.values()}
    ordered = sorted(now, key=lambda of: of.partition(".")[0] == main)
    moved = {PROTOCOL: BRIDGE_SERVICES_FROM} if main == PROTOCOL else {}
    return {f"{NO_TYPE}.{iid:X}": iid for iid in sorted(retired)} | {
        of: now[of] + moved.get(of, 0) for of in ordered
    }


def _hap_type(rest: str) -> HapType | None:
    """Return the type of a service or characteristic of Apple's; None for all others, and with a subtype."""
    types = [match[1] for match in map(_APPLE.fullmatch, rest.split("|")) if match]
    return ".".join(types) if len(types) == rest.count("|") + 1 <= 2 else None
