"""GET /characteristics: each ID gets a value or a status of its own (HAP specification, 6.7.4).

HAP-python leaves out what it does not know, and answers one malformed ID with an error for all.
"""

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, Final, Protocol
from urllib.parse import parse_qs

from pyhap.characteristic import Characteristic
from pyhap.const import HAP_SERVER_STATUS as STATUS

from hkswitch.hap.characteristics import Malformed

Path = tuple[int, int]
"""AID and IID."""

_ID: Final = r"[0-9]{1,19}\.[0-9]{1,19}"
_IDS: Final = re.compile(rf"{_ID}(?:,{_ID})*")


class Characteristics(Protocol):
    """What is needed of the driver."""

    def find(self, aid: int, iid: int) -> Characteristic | None:
        """The characteristic, None where there is no such."""


@lru_cache(maxsize=16)  # a phone asks for the same ones again and again
def parse_ids(query: str) -> tuple[Path, ...]:
    """The AIDs and IIDs of a query like `id=1.9,2.9`; raises `Malformed`."""
    ids = parse_qs(query, max_num_fields=8).get("id", [])
    if len(ids) != 1:
        raise Malformed("one 'id' is needed")
    if not _IDS.fullmatch(ids[0]):
        raise Malformed("an 'id' is two numbers with a dot between them")
    pairs = (path.partition(".") for path in ids[0].split(","))
    return tuple((int(aid), int(iid)) for aid, _, iid in pairs)


def read_all(paths: Iterable[Path], characteristics: Characteristics) -> tuple[dict[str, Any], bool]:
    """The body of the response, and whether all went well; if not, every item has a status."""
    items = [_read(aid, iid, characteristics) for aid, iid in paths]
    ok = not any("status" in item for item in items)
    if not ok:
        for item in items:
            item.setdefault("status", int(STATUS.SUCCESS))
    return {"characteristics": items}, ok


def _read(aid: int, iid: int, characteristics: Characteristics) -> dict[str, Any]:
    """Its value, or else the status that says why it has none."""
    characteristic = characteristics.find(aid, iid)
    if characteristic is None:
        status = STATUS.RESOURCE_DOES_NOT_EXIST
    elif "pr" not in characteristic.properties["Permissions"]:
        status = STATUS.WRITE_ONLY_CHARACTERISTIC
    elif not characteristic.broker.available:
        status = STATUS.SERVICE_COMMUNICATION_FAILURE
    else:
        return {"aid": aid, "iid": iid, "value": characteristic.get_value()}
    return {"aid": aid, "iid": iid, "status": int(status)}
