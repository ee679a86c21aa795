"""What a bridge took over from another program: the aids and texts of accessories that phones already know.

It stands in the state file, so phones find the same accessories after an update or a change of the config. An
accessory is known by its identity: the text from which the daemon derives an aid if nothing was taken over.
This module knows no groups. Pure: no I/O.
"""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from hkswitch.hap.iids import MOST_RECORDED_ACCESSORIES
from hkswitch.protocol.json_lines import LARGEST_ID

MOST_TEXT: Final = 256
"""Characters in a text: HomeKit's limit for a string with a limit of its own."""

MOST_IDENTITY: Final = 128


class Texts(NamedTuple):
    """The texts of an accessory's information service that stay as they were."""

    name: str
    manufacturer: str
    model: str
    serial_number: str


class TakenAccessory(NamedTuple):
    """An accessory that was taken over.

    `configured_name` is the name that the config gave it then: another name there is a new one for phones.
    """

    aid: int
    texts: Texts
    configured_name: str

    def name(self, configured: str) -> str:
        """Return the name to serve: the old one, until the config names the accessory differently."""
        return self.texts.name if configured == self.configured_name else configured


class TakenOver(NamedTuple):
    """Everything that was taken over; aids below `first_free_aid` were, or had been, another accessory's."""

    first_free_aid: int
    bridge: Texts
    accessories: Mapping[str, TakenAccessory]
    """The accessories by identity."""


def encode_taken_over(taken_over: TakenOver) -> dict[str, Any]:
    """Convert it for JSON."""
    accessories = {
        identity: {"aid": each.aid, "configured_name": each.configured_name, **each.texts._asdict()}
        for identity, each in taken_over.accessories.items()
    }
    return {
        "first_free_aid": taken_over.first_free_aid,
        "bridge": taken_over.bridge._asdict(),
        "accessories": accessories,
    }


def parse_taken_over(body: object) -> TakenOver:
    """Parse it from untrusted JSON; raises `ValueError`."""
    match body:
        case {"first_free_aid": int(free), "bridge": dict(bridge), "accessories": dict(accessories)} if (
            type(free) is int and 2 <= free <= LARGEST_ID and len(accessories) <= MOST_RECORDED_ACCESSORIES
        ):
            found = {_identity(key): _accessory(value, free) for key, value in accessories.items()}
        case _:
            raise ValueError("not an object with an aid, a bridge and accessories")
    if len({each.aid for each in found.values()}) < len(found):
        raise ValueError("one aid for two accessories")
    return TakenOver(free, _texts(bridge), found)


def _identity(text: str) -> str:
    if not 0 < len(text) <= MOST_IDENTITY:
        raise ValueError("invalid identity")
    return text


def _accessory(body: object, free: int) -> TakenAccessory:
    match body:
        case {"aid": int(aid), "configured_name": str(name)} if type(aid) is int and 1 < aid < free:
            return TakenAccessory(aid, _texts(body), _text(name))
    raise ValueError("invalid accessory")


def _texts(body: object) -> Texts:
    match body:
        case {
            "name": str(name),
            "manufacturer": str(manufacturer),
            "model": str(model),
            "serial_number": str(serial_number),
        }:
            return Texts(_text(name), _text(manufacturer), _text(model), _text(serial_number))
    raise ValueError("a text is missing")


def _text(text: str) -> str:
    if len(text) > MOST_TEXT or not _is_unicode(text):
        raise ValueError("invalid text")
    return text


def _is_unicode(text: str) -> bool:
    """Return whether the text can be sent: JSON can contain half of a surrogate pair."""
    return not any("\ud800" <= char <= "\udfff" for char in text)
