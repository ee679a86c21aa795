"""What a conversation is: steps on connections to a bridge, as values that the tables are made of.

A name like `web.On` stands for the AID and IID that a bridge gave: in a target as `<web.On>`, in JSON as an
item's `at`.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from tests.peer import tlv
from tests.peer.identity import Identity
from tests.peer.peers import ADMIN, STRANGER, CharacteristicId, Place
from tests.peer.raw import JSON_TYPE, TLV_TYPE, request
from tests.peer.tlv import Kind, Part

Ids = Mapping[str, CharacteristicId]
Change = Callable[[list[Part]], bytes]
"""Makes a body of a message's parts; `whole` changes nothing."""

_NAME: Final = re.compile(r"<([A-Za-z]+\.[A-Za-z]+)>")


@dataclass(frozen=True)
class Request:
    """One HTTP request, not rendered yet: JSON unless its body is bytes. `raw` is sent instead."""

    method: str = "GET"
    target: str = "/characteristics?id=<web.On>"
    body: object = None
    headers: tuple[str, ...] = ()
    kind: str = JSON_TYPE
    raw: bytes | None = None

    def render(self, ids: Ids) -> bytes:
        if self.raw is not None:
            return _NAME.sub(lambda found: _dotted(ids[found[1]]), self.raw.decode("latin-1")).encode(
                "latin-1"
            )
        target = _NAME.sub(lambda found: _dotted(ids[found[1]]), self.target)
        if self.body is None:
            return request(self.method, target, headers=self.headers)
        body = self.body if isinstance(self.body, bytes) else json.dumps(placed(self.body, ids)).encode()
        return request(self.method, target, body, kind=self.kind, headers=self.headers)


def _dotted(path: CharacteristicId) -> str:
    return f"{path[0]}.{path[1]}"


def placed(body: object, ids: Ids) -> object:
    """JSON with AIDs and IIDs in the place of names."""
    if isinstance(body, Mapping):
        rest = {key: placed(value, ids) for key, value in body.items() if key != "at"}
        if "at" not in body:
            return rest
        aid, iid = ids[body["at"]]
        return {"aid": aid, "iid": iid, **rest}
    if isinstance(body, list | tuple):
        return [placed(item, ids) for item in body]
    return body


def item(at: str, **values: object) -> dict[str, Any]:
    """An item of PUT /characteristics."""
    return {"at": at, **values}


def put(*items: object, **others: object) -> Request:
    """PUT /characteristics."""
    return Request("PUT", "/characteristics", {"characteristics": list(items), **others})


def read(*names: str) -> Request:
    """GET /characteristics."""
    return Request("GET", "/characteristics?id=" + ",".join(f"<{name}>" for name in names))


def post(path: str, body: bytes) -> Request:
    """A message of pairing."""
    return Request("POST", path, body, kind=TLV_TYPE)


# Steps


@dataclass(frozen=True)
class Say:
    """Send requests at once, and hear an answer to each."""

    requests: tuple[Request, ...]
    on: str = "a"
    frames: Iterable[int] = ()
    pieces: Iterable[int] = ()
    meanwhile: tuple[tuple[str, bool], ...] = ()
    """Switches that change from outside after the requests were sent."""


@dataclass(frozen=True)
class Bytes:
    """Send bytes as they are, encrypted or not, and hear one answer to them if there is any."""

    make: Callable[[Any], bytes]
    """Is given the connection's frames."""
    on: str = "a"
    half_close: bool = False


@dataclass(frozen=True)
class Outside:
    """A switch changes from outside."""

    switch: str
    is_on: bool = True


@dataclass(frozen=True)
class Hear:
    """Wait until the events on a connection have told these values."""

    values: Mapping[str, bool]
    on: str = "a"


@dataclass(frozen=True)
class Setup:
    """A message of pair-setup: M1, M3 or M5. `inner` changes what is encrypted in M5."""

    message: str
    change: Change = tlv.encode
    inner: Change = tlv.encode
    on: str = "a"
    code: str | None = None
    """None is the right one."""


@dataclass(frozen=True)
class Verify:
    """A message of pair-verify: M1 or M3."""

    message: str
    change: Change = tlv.encode
    inner: Change = tlv.encode
    on: str = "a"
    behind: bytes = b""
    """Sent right behind it in the clear."""


Step = Say | Bytes | Outside | Hear | Setup | Verify


@dataclass(frozen=True)
class Conversation:
    """Steps on connections of these controllers; None is one that proves nothing."""

    name: str
    steps: tuple[Step, ...]
    place: Place = Place.HOME
    who: Mapping[str, Identity | None] = field(default_factory=lambda: {"a": ADMIN})
    identity: Identity = STRANGER
    """Who pairs and verifies in it."""
    pairings_change: bool = False

    @property
    def connections(self) -> list[str]:
        """Those that are used, in the order of their names."""
        return sorted({step.on for step in self.steps if not isinstance(step, Outside)})

    @property
    def is_timed(self) -> bool:
        """Whether something in it takes time by itself: in all others that is the machine's doing."""
        return any(isinstance(step, Hear) for step in self.steps) or "slow." in repr(self.steps)


def say(*requests: Request, on: str = "a") -> Say:
    return Say(requests, on)


# Changes of a message's parts


def without(kind: Kind) -> Change:
    return lambda parts: tlv.encode([part for part in parts if part[0] != kind])


def doubled(kind: Kind) -> Change:
    """The part twice in a row, as two parts."""
    return lambda parts: b"".join(tlv.encode([part]) * (1 + (part[0] == kind)) for part in parts)


def repeated_at_the_end(kind: Kind) -> Change:
    return lambda parts: tlv.encode([*parts, next(part for part in parts if part[0] == kind)])


def having(kind: Kind, value: bytes) -> Change:
    """The part with another value, or added."""

    def change(parts: list[Part]) -> bytes:
        if all(part[0] != kind for part in parts):
            return tlv.encode([*parts, (kind, value)])
        return tlv.encode([(k, value if k == kind else v) for k, v in parts])

    return change


def flipped(kind: Kind) -> Change:
    """The part with its last bit flipped."""
    return lambda parts: tlv.encode([(k, v[:-1] + bytes([v[-1] ^ 1]) if k == kind else v) for k, v in parts])


def reversed_parts(parts: list[Part]) -> bytes:
    return tlv.encode(parts[::-1])


def cut_off(parts: list[Part]) -> bytes:
    return tlv.encode(parts)[:-1]


def nothing(parts: list[Part]) -> bytes:
    return b""


def followed_by(more: bytes) -> Change:
    return lambda parts: tlv.encode(parts) + more
