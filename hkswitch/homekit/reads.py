"""GET /characteristics: each ID gets a value or a status of its own (HAP specification, 6.7.4).

HAP-python leaves out what it does not know, and answers one malformed ID with an error for all.
"""

from collections.abc import Iterable
from typing import Any, Protocol
from urllib.parse import parse_qs

from pyhap.characteristic import Characteristic
from pyhap.const import HAP_SERVER_STATUS as STATUS

from hkswitch.homekit.writes import Malformed

Path = tuple[int, int]
"""AID and IID."""


class Characteristics(Protocol):
    """What is needed of the driver."""

    def find(self, aid: int, iid: int) -> Characteristic | None:
        """The characteristic, None where there is no such."""

    def is_available(self, aid: int) -> bool:
        """Whether an accessory that exists has values to give."""


def parse_ids(query: str) -> tuple[Path, ...]:
    """The AIDs and IIDs of a query like `id=1.9,2.9`; raises `Malformed`."""
    ids = parse_qs(query, max_num_fields=8).get("id", [])
    if len(ids) != 1:
        raise Malformed("one 'id' is needed")
    return tuple(_path(text) for text in ids[0].split(","))


def read_all(paths: Iterable[Path], characteristics: Characteristics) -> tuple[dict[str, Any], bool]:
    """The body of the response, and whether all went well; if not, every item has a status."""
    items = [_read(aid, iid, characteristics) for aid, iid in paths]
    ok = all(item["status"] == STATUS.SUCCESS for item in items)
    if ok:
        for item in items:
            del item["status"]
    return {"characteristics": items}, ok


def _path(text: str) -> Path:
    aid, dot, iid = text.partition(".")
    if not (dot and all(part.isascii() and part.isdigit() and len(part) < 20 for part in (aid, iid))):
        raise Malformed("an 'id' is two numbers with a dot between them")
    return int(aid), int(iid)


def _read(aid: int, iid: int, characteristics: Characteristics) -> dict[str, Any]:
    item = {"aid": aid, "iid": iid}
    characteristic = characteristics.find(aid, iid)
    if characteristic is None:
        return item | {"status": int(STATUS.RESOURCE_DOES_NOT_EXIST)}
    if "pr" not in characteristic.properties["Permissions"]:
        return item | {"status": int(STATUS.WRITE_ONLY_CHARACTERISTIC)}
    if not characteristics.is_available(aid):
        return item | {"status": int(STATUS.SERVICE_COMMUNICATION_FAILURE)}
    return item | {"status": int(STATUS.SUCCESS), "value": characteristic.get_value()}
