"""GET and PUT /characteristics, and the timed writes of PUT /prepare (HAP specification, 6.7).

Each item of a request gets its own value or status, and slow writes run concurrently. HAP-python answers a
write before its outcome is known, fails all items for one unknown AID or IID, allows writes to read-only
characteristics, executes expired timed writes, and times them by the wall clock. When reading, it
omits unknown items, fails all items for one malformed ID, and ignores all parameters but the IDs.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, Final, Protocol
from urllib.parse import parse_qs

from pyhap.characteristic import Characteristic
from pyhap.const import HAP_SERVER_STATUS as STATUS

from hkswitch.hap.events import Path
from hkswitch.hap.sessions import Session

MOST_CHARACTERISTICS: Final = 600
"""The most items in a request: several for each accessory that a bridge may have."""


Respond = Callable[[bool], None]
"""Takes, once, whether a slow write has succeeded."""

Write = Callable[[Respond], None]
"""A function that begins a slow write."""

SlowWrite = Callable[[bool, Session, Respond], None]
"""A function that begins to write a value for a controller."""

METADATA: Final = ("format", "unit", "minValue", "maxValue", "minStep", "maxLen", "valid-values")
"""The keys that `meta=1` adds, as in /accessories."""

_CHARACTERISTIC_ID: Final = r"[0-9]{1,20}\.[0-9]{1,20}"
_CHARACTERISTIC_IDS: Final = re.compile(rf"{_CHARACTERISTIC_ID}(?:,{_CHARACTERISTIC_ID})*")

MOST_PREPARED_WRITES: Final = 16
LONGEST_TIMED_WRITE_SECONDS: Final = 30.0
LARGEST_WRITE_ID: Final = 2**64 - 1


class MalformedRequest(ValueError):
    """A query or body that violates the specification."""


class Subscriptions(Protocol):
    """The part of a connection that writes use."""

    def subscribe(self, path: Path, *, wanted: bool) -> None:
        """Start or stop sending events of an AID and IID."""


class Characteristics(Protocol):
    """The part of the driver that reads and writes use."""

    def find(self, aid: int, iid: int) -> Characteristic | None:
        """Return the characteristic, or None if it does not exist."""

    def slow_write(self, characteristic: Characteristic) -> SlowWrite | None:
        """Return the function that writes a slow characteristic, None for all others."""


@dataclass(frozen=True, slots=True)
class Item:
    """One item of a write request: a value to write, a subscription to change, or both."""

    aid: int
    iid: int
    value: Any = None
    events: Any = None
    """True or false, which some controllers write as 1 or 0; None leaves the subscription unchanged."""

    @classmethod
    def parse(cls, body: object) -> "Item":
        """Parse a JSON object.

        Raises `MalformedRequest`, even if an ID is a bool, which is an int in Python.
        """
        match body:
            case {"aid": int(aid), "iid": int(iid), **rest} if bool not in {type(aid), type(iid)}:
                return cls(aid, iid, rest.get("value"), rest.get("ev"))
        raise MalformedRequest("each characteristic needs 'aid' and 'iid'")


def parse_items(body: object) -> tuple[Item, ...]:
    """Parse the items of a write request; raises `MalformedRequest`."""
    match body:
        case {"characteristics": list(items)} if len(items) <= MOST_CHARACTERISTICS:
            return tuple(Item.parse(item) for item in items)
    raise MalformedRequest(f"'characteristics' must be a list of at most {MOST_CHARACTERISTICS}")


def write_all(
    items: tuple[Item, ...],
    writer: Session,
    characteristics: Characteristics,
    subscriptions: Subscriptions,
    respond: Callable[[list[int]], None],
) -> None:
    """Apply all items, and call `respond` once, with a HAP status for each, in their order.

    Slow writes run concurrently. A slow characteristic that gets several values is written once, with the
    last of them.
    """
    begun = [_begin(item, writer, characteristics, subscriptions) for item in items]
    slow = {(item.aid, item.iid): write for item, write in zip(items, begun, strict=True) if callable(write)}
    outcomes: dict[Path, int] = {}

    def written(path: Path, ok: bool) -> None:  # noqa: FBT001 -- a result
        outcomes[path] = int(STATUS.SUCCESS if ok else STATUS.SERVICE_COMMUNICATION_FAILURE)
        if len(outcomes) == len(slow):
            both = zip(items, begun, strict=True)
            respond([outcomes[item.aid, item.iid] if callable(each) else each for item, each in both])

    for path, write in slow.items():
        write(partial(written, path))
    if not slow:
        respond([each for each in begun if not callable(each)])


def response_body(items: tuple[Item, ...], statuses: list[int]) -> dict[str, Any] | None:
    """Return None if all succeeded, otherwise a status for every item.

    If one is missing, iOS shows an error for the whole room.
    """
    if all(status == STATUS.SUCCESS for status in statuses):
        return None
    pairs = zip(items, statuses, strict=True)
    return {"characteristics": [{"aid": i.aid, "iid": i.iid, "status": status} for i, status in pairs]}


def _begin(
    item: Item, writer: Session, characteristics: Characteristics, subscriptions: Subscriptions
) -> int | Write:
    """Apply an item and return its status, or return the write that is still pending."""
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
    if not isinstance(value, int) or value not in {0, 1}:  # iOS also writes true and false as numbers
        return int(STATUS.INVALID_VALUE_IN_REQUEST)

    return lambda respond: slow_write(bool(value), writer, respond)


@dataclass(frozen=True, slots=True)
class Query:
    """A read request: the characteristics, and the fields to include besides their values."""

    paths: tuple[Path, ...]
    keys: tuple[str, ...] = ()
    """Extra keys of each characteristic, as in /accessories."""

    events: bool = False
    """Whether to include the subscription state of each characteristic (`ev`)."""


@lru_cache(maxsize=16)  # a phone repeats the same few queries
def parse_query(query: str) -> Query:
    """Parse the query of a URL, like `id=1.9,2.9&meta=1`; raises `MalformedRequest`."""
    fields = parse_qs(query, max_num_fields=8)
    ids = fields.get("id", [])
    if len(ids) != 1:
        raise MalformedRequest("exactly one 'id' is required")
    if not _CHARACTERISTIC_IDS.fullmatch(ids[0]):
        raise MalformedRequest("an 'id' must be two numbers separated by a dot")
    pairs = [path.partition(".") for path in ids[0].split(",")]
    if len(pairs) > MOST_CHARACTERISTICS:
        raise MalformedRequest(f"at most {MOST_CHARACTERISTICS} characteristics can be read at once")
    wanted = {name for name, values in fields.items() if values in (["1"], ["true"])}
    keys = (*(METADATA if "meta" in wanted else ()), *(key for key in ("perms", "type") if key in wanted))
    return Query(tuple((int(aid), int(iid)) for aid, _, iid in pairs), keys, "ev" in wanted)


def read_all(
    query: Query, characteristics: Characteristics, is_subscribed: Callable[[Path], bool]
) -> tuple[dict[str, Any], bool]:
    """Return the body of the response, and whether all reads succeeded; if not, every item has a status."""
    items = [_read(path, query, characteristics, is_subscribed) for path in query.paths]
    ok = not any("status" in item for item in items)
    if not ok:
        for item in items:
            item.setdefault("status", int(STATUS.SUCCESS))
    return {"characteristics": items}, ok


def values_of(accessories: dict[str, Any]) -> Iterator[tuple[Path, Any]]:
    """Yield the values of the characteristics that support events in a response to GET /accessories."""
    for accessory in accessories["accessories"]:
        for service in accessory["services"]:
            for found in service["characteristics"]:
                if "ev" in found["perms"] and "value" in found:
                    yield (accessory["aid"], found["iid"]), found["value"]


def _read(
    path: Path, query: Query, characteristics: Characteristics, is_subscribed: Callable[[Path], bool]
) -> dict[str, Any]:
    """Return an item with its value, or with a status that explains why it has none."""
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


class TimedWrites:
    """The timed writes of one connection: the prepared write IDs and their expiry times."""

    def __init__(self, now_seconds: Callable[[], float]) -> None:
        """`now_seconds` must be monotonic."""
        self._now_seconds = now_seconds
        self._until_seconds: dict[int, float] = {}

    def __len__(self) -> int:
        return len(self._until_seconds)

    def prepare(self, body: object) -> bool:
        """Prepare a write, and return whether the request is valid.

        At the limit, it replaces the write that expires first.
        """
        match body:
            case {"ttl": int() | float() as ttl_ms, "pid": int(pid)} if _is_number(pid) and _is_time(ttl_ms):
                pass
            case _:
                return False
        now = self._now_seconds()
        self._until_seconds = {other: until for other, until in self._until_seconds.items() if until > now}
        if pid not in self._until_seconds and len(self._until_seconds) >= MOST_PREPARED_WRITES:
            del self._until_seconds[min(self._until_seconds, key=lambda pid: self._until_seconds[pid])]
        self._until_seconds[pid] = now + min(ttl_ms / 1000, LONGEST_TIMED_WRITE_SECONDS)
        return True

    def may_write(self, request: dict[str, Any]) -> bool:
        """Return whether a write is untimed, or was prepared and has not expired.

        Each write ID is valid once.
        """
        if "pid" not in request:
            return True
        pid = request["pid"]
        if not isinstance(pid, int) or not _is_number(pid):
            return False
        return self._now_seconds() < self._until_seconds.pop(pid, -1.0)


def _is_number(pid: int) -> bool:
    return not isinstance(pid, bool) and 0 <= pid <= LARGEST_WRITE_ID


def _is_time(ttl_ms: float) -> bool:
    return not isinstance(ttl_ms, bool) and ttl_ms >= 0
