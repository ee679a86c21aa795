"""PUT /characteristics: each item gets a status of its own, and slow ones run side by side.

HAP-python answers a write before anybody knows what came of it, answers one unknown AID or IID with an error
for all, lets read-only characteristics be written and does expired timed writes (HAP specification, 6.7).
"""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Any, Final, Protocol

from pyhap.characteristic import Characteristic
from pyhap.const import HAP_SERVER_STATUS as STATUS

MOST_ITEMS: Final = 600
"""Items of a request: several for each accessory that a bridge may have."""

Writer = Hashable
"""Who wrote: the address of a controller's connection."""


class Malformed(ValueError):
    """The request's body is not what the specification says."""


class Characteristics(Protocol):
    """What is needed of the driver."""

    def find(self, aid: int, iid: int) -> Characteristic | None:
        """The characteristic, None where there is no such."""

    def subscribe(self, writer: Writer, aid: int, iid: int, *, wanted: bool) -> None:
        """Begin or end to send events."""

    def slow_write(self, characteristic: Characteristic) -> Callable[[bool, Writer], Awaitable[bool]] | None:
        """How to write a characteristic whose outcome takes time, None for all others."""


@dataclass(frozen=True, slots=True)
class Item:
    """One characteristic of a request: a value to write, a subscription to change, or both."""

    aid: int
    iid: int
    value: Any = None
    events: bool | None = None

    @classmethod
    def parse(cls, body: object) -> "Item":
        """The item in a JSON object; raises `Malformed`."""
        match body:
            case {"aid": int(aid), "iid": int(iid), **rest}:
                events = rest.get("ev")
                if events is not None and not isinstance(events, bool):
                    raise Malformed("'ev' must be true or false")
                return cls(aid, iid, rest.get("value"), events)
        raise Malformed("each characteristic needs 'aid' and 'iid'")


def parse_items(body: object) -> tuple[Item, ...]:
    """The items of a request; raises `Malformed`."""
    match body:
        case {"characteristics": list(items)} if len(items) <= MOST_ITEMS:
            return tuple(Item.parse(item) for item in items)
    raise Malformed(f"'characteristics' must be a list of at most {MOST_ITEMS}")


async def write_all(items: tuple[Item, ...], writer: Writer, characteristics: Characteristics) -> list[int]:
    """Do all items side by side; a HAP status for each, in their order."""
    if len(items) == 1:
        return [await _write(items[0], writer, characteristics)]
    return list(await asyncio.gather(*(_write(item, writer, characteristics) for item in items)))


def response_body(items: tuple[Item, ...], statuses: list[int]) -> dict[str, Any] | None:
    """None if all is well; otherwise a status for every item, or iOS gives up on the whole room."""
    if all(status == STATUS.SUCCESS for status in statuses):
        return None
    pairs = zip(items, statuses, strict=True)
    return {"characteristics": [{"aid": i.aid, "iid": i.iid, "status": status} for i, status in pairs]}


async def _write(item: Item, writer: Writer, characteristics: Characteristics) -> int:
    characteristic = characteristics.find(item.aid, item.iid)
    if characteristic is None:
        return int(STATUS.RESOURCE_DOES_NOT_EXIST)
    permissions = characteristic.properties["Permissions"]
    if item.events is not None:
        if "ev" not in permissions:
            return int(STATUS.NOTIFICATION_NOT_SUPPORTED)
        characteristics.subscribe(writer, item.aid, item.iid, wanted=item.events)
    if item.value is None:
        return int(STATUS.SUCCESS)
    if "pw" not in permissions:
        return int(STATUS.READ_ONLY_CHARACTERISTIC)
    return await _write_value(item.value, writer, characteristic, characteristics)


async def _write_value(
    value: object, writer: Writer, characteristic: Characteristic, characteristics: Characteristics
) -> int:
    slow_write = characteristics.slow_write(characteristic)
    if slow_write is None:
        try:
            characteristic.client_update_value(value, writer)
        except (ValueError, TypeError):
            return int(STATUS.INVALID_VALUE_IN_REQUEST)
        return int(STATUS.SUCCESS)
    if not isinstance(value, int) or value not in {0, 1}:  # iOS writes true and false as numbers too
        return int(STATUS.INVALID_VALUE_IN_REQUEST)
    ok = await slow_write(bool(value), writer)
    return int(STATUS.SUCCESS if ok else STATUS.SERVICE_COMMUNICATION_FAILURE)
