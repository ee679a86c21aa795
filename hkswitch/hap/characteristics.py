"""PUT /characteristics: each item gets a status of its own, and slow ones run side by side.

HAP-python answers a write before anybody knows what came of it, answers one unknown AID or IID with an error
for all, lets read-only characteristics be written and does expired timed writes (HAP specification, 6.7).
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

from pyhap.characteristic import Characteristic
from pyhap.const import HAP_SERVER_STATUS as STATUS

from hkswitch.hap.events import Path
from hkswitch.hap.session import Session

MOST_ITEMS: Final = 600
"""Items of a request: several for each accessory that a bridge may have."""


Write = Callable[[], Awaitable[int]]
"""Writes a value; the HAP status that came of it."""


class Malformed(ValueError):
    """The request's body is not what the specification says."""


class Subscriptions(Protocol):
    """What is needed of the connection."""

    def subscribe(self, path: Path, *, wanted: bool) -> None:
        """Begin or end to send events of an AID and IID."""


class Characteristics(Protocol):
    """What is needed of the driver."""

    def find(self, aid: int, iid: int) -> Characteristic | None:
        """The characteristic, None where there is no such."""

    def slow_write(self, characteristic: Characteristic) -> Callable[[bool, Session], Awaitable[bool]] | None:
        """How to write a characteristic whose outcome takes time, None for all others."""


@dataclass(frozen=True, slots=True)
class Item:
    """One characteristic of a request: a value to write, a subscription to change, or both."""

    aid: int
    iid: int
    value: Any = None
    events: Any = None
    """True or false, which some controllers write as 1 or 0; None leaves the subscription as it is."""

    @classmethod
    def parse(cls, body: object) -> "Item":
        """The item in a JSON object; raises `Malformed`, also at true, which Python takes for 1."""
        match body:
            case {"aid": int(aid), "iid": int(iid), **rest} if bool not in {type(aid), type(iid)}:
                return cls(aid, iid, rest.get("value"), rest.get("ev"))
        raise Malformed("each characteristic needs 'aid' and 'iid'")


def parse_items(body: object) -> tuple[Item, ...]:
    """The items of a request; raises `Malformed`."""
    match body:
        case {"characteristics": list(items)} if len(items) <= MOST_ITEMS:
            return tuple(Item.parse(item) for item in items)
    raise Malformed(f"'characteristics' must be a list of at most {MOST_ITEMS}")


async def write_all(
    items: tuple[Item, ...], writer: Session, characteristics: Characteristics, subscriptions: Subscriptions
) -> list[int]:
    """Do all items side by side; a HAP status for each, in their order.

    Of several values for a characteristic whose outcome takes time, the last one is written.
    """
    begun = [_begin(item, writer, characteristics, subscriptions) for item in items]
    last = {(item.aid, item.iid): write for item, write in zip(items, begun, strict=True) if callable(write)}
    outcomes = dict(zip(last, await _together([write() for write in last.values()]), strict=True))
    return [
        outcomes[item.aid, item.iid] if callable(status) else status
        for item, status in zip(items, begun, strict=True)
    ]


async def _together(writes: list[Awaitable[int]]) -> list[int]:
    if len(writes) == 1:  # a task is not needed for a tap
        return [await writes[0]]
    return list(await asyncio.gather(*writes))


def response_body(items: tuple[Item, ...], statuses: list[int]) -> dict[str, Any] | None:
    """None if all is well; otherwise a status for every item, or iOS gives up on the whole room."""
    if all(status == STATUS.SUCCESS for status in statuses):
        return None
    pairs = zip(items, statuses, strict=True)
    return {"characteristics": [{"aid": i.aid, "iid": i.iid, "status": status} for i, status in pairs]}


def _begin(
    item: Item, writer: Session, characteristics: Characteristics, subscriptions: Subscriptions
) -> int | Write:
    """Do an item, or say how the rest of it is done."""
    characteristic = characteristics.find(item.aid, item.iid)
    if characteristic is None:
        return int(STATUS.RESOURCE_DOES_NOT_EXIST)
    if item.value is None and item.events is None:
        return int(STATUS.INVALID_VALUE_IN_REQUEST)
    permissions = characteristic.properties["Permissions"]
    if item.events is not None:
        if "ev" not in permissions:
            return int(STATUS.NOTIFICATION_NOT_SUPPORTED)
        if not isinstance(item.events, int) or item.events not in {0, 1}:
            return int(STATUS.INVALID_VALUE_IN_REQUEST)
        subscriptions.subscribe((item.aid, item.iid), wanted=bool(item.events))
    if item.value is None:
        return int(STATUS.SUCCESS)
    if "pw" not in permissions:
        return int(STATUS.READ_ONLY_CHARACTERISTIC)
    return _begin_value(item.value, writer, characteristic, characteristics)


def _begin_value(
    value: object, writer: Session, characteristic: Characteristic, characteristics: Characteristics
) -> int | Write:
    slow_write = characteristics.slow_write(characteristic)
    if slow_write is None:
        try:
            characteristic.client_update_value(value, writer)
        except (ValueError, TypeError):
            return int(STATUS.INVALID_VALUE_IN_REQUEST)
        return int(STATUS.SUCCESS)
    if not isinstance(value, int) or value not in {0, 1}:  # iOS writes true and false as numbers too
        return int(STATUS.INVALID_VALUE_IN_REQUEST)

    async def write() -> int:
        ok = await slow_write(bool(value), writer)
        return int(STATUS.SUCCESS if ok else STATUS.SERVICE_COMMUNICATION_FAILURE)

    return write
