"""GET /characteristics: each ID gets a value or a status of its own (HAP specification, 6.7.4).

HAP-python leaves out what it does not know, answers one malformed ID with an error for all, and knows no
other parameter than the IDs.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, Protocol
from urllib.parse import parse_qs

from pyhap.characteristic import Characteristic
from pyhap.const import HAP_SERVER_STATUS as STATUS

from hkswitch.hap.characteristics import MOST_ITEMS, Malformed
from hkswitch.hap.events import Path

METADATA: Final = ("format", "unit", "minValue", "maxValue", "minStep", "maxLen", "valid-values")
"""What `meta=1` asks for, as /accessories has it."""

_ID: Final = r"[0-9]{1,20}\.[0-9]{1,20}"
_IDS: Final = re.compile(rf"{_ID}(?:,{_ID})*")


class Characteristics(Protocol):
    """What is needed of the driver."""

    def find(self, aid: int, iid: int) -> Characteristic | None:
        """The characteristic, None where there is no such."""


@dataclass(frozen=True, slots=True)
class Query:
    """What is asked: characteristics, and what to tell of each beside its value."""

    paths: tuple[Path, ...]
    keys: tuple[str, ...] = ()
    """Of what /accessories says of a characteristic."""

    events: bool = False
    """Whether to tell if the connection has subscribed."""


@lru_cache(maxsize=16)  # a phone asks for the same ones again and again
def parse_query(query: str) -> Query:
    """The query of a URL, like `id=1.9,2.9&meta=1`; raises `Malformed`."""
    fields = parse_qs(query, max_num_fields=8)
    ids = fields.get("id", [])
    if len(ids) != 1:
        raise Malformed("one 'id' is needed")
    if not _IDS.fullmatch(ids[0]):
        raise Malformed("an 'id' is two numbers with a dot between them")
    pairs = [path.partition(".") for path in ids[0].split(",")]
    if len(pairs) > MOST_ITEMS:
        raise Malformed(f"at most {MOST_ITEMS} characteristics are read at once")
    wanted = {name for name, values in fields.items() if values in (["1"], ["true"])}
    keys = (*(METADATA if "meta" in wanted else ()), *(key for key in ("perms", "type") if key in wanted))
    return Query(tuple((int(aid), int(iid)) for aid, _, iid in pairs), keys, "ev" in wanted)


def read_all(
    query: Query, characteristics: Characteristics, is_subscribed: Callable[[Path], bool]
) -> tuple[dict[str, Any], bool]:
    """The body of the response, and whether all went well; if not, every item has a status."""
    items = [_read(path, query, characteristics, is_subscribed) for path in query.paths]
    ok = not any("status" in item for item in items)
    if not ok:
        for item in items:
            item.setdefault("status", int(STATUS.SUCCESS))
    return {"characteristics": items}, ok


def values_of(accessories: dict[str, Any]) -> Iterator[tuple[Path, Any]]:
    """The values that a response to GET /accessories tells, of characteristics that may have events."""
    for accessory in accessories["accessories"]:
        for service in accessory["services"]:
            for found in service["characteristics"]:
                if "ev" in found["perms"] and "value" in found:
                    yield (accessory["aid"], found["iid"]), found["value"]


def _read(
    path: Path, query: Query, characteristics: Characteristics, is_subscribed: Callable[[Path], bool]
) -> dict[str, Any]:
    """Its value, or else the status that says why it has none."""
    aid, iid = path
    characteristic = characteristics.find(aid, iid)
    if characteristic is None:
        status = STATUS.RESOURCE_DOES_NOT_EXIST
    elif "pr" not in characteristic.properties["Permissions"]:
        status = STATUS.WRITE_ONLY_CHARACTERISTIC
    elif not characteristic.broker.available:
        status = STATUS.SERVICE_COMMUNICATION_FAILURE
    else:
        item = {"aid": aid, "iid": iid, "value": characteristic.get_value()}
        if query.keys:
            known = characteristic.to_HAP(include_value=False)
            item |= {key: known[key] for key in query.keys if key in known}
        return item | {"ev": is_subscribed(path)} if query.events else item
    return {"aid": aid, "iid": iid, "status": int(status)}
