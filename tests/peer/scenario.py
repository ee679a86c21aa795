"""A scenario: steps on connections to a bridge, as values for the tables.

A name like `web.On` stands for the AID and IID that a bridge assigned: in a target as `<web.On>`, in JSON as
an item's `at`.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from tests.peer import tlv
from tests.peer.identity import Identity
from tests.peer.peers import ADMIN, STRANGER, BridgeKind, CharacteristicId
from tests.peer.raw_controller import JSON_TYPE, TLV_TYPE, request
from tests.peer.tlv import Kind, Part

Ids = Mapping[str, CharacteristicId]
Change = Callable[[list[Part]], bytes]
"""Encodes the parts of a message, maybe with a change; `tlv.encode` changes nothing."""

_NAME: Final = re.compile(r"<([A-Za-z]+\.[A-Za-z]+)>")


@dataclass(frozen=True)
class Request:
    """One HTTP request to render later: JSON unless its body is bytes. `raw` replaces all of it."""

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
        body = self.body if isinstance(self.body, bytes) else json.dumps(with_ids(self.body, ids)).encode()
        return request(self.method, target, body, kind=self.kind, headers=self.headers)


def _dotted(path: CharacteristicId) -> str:
    return f"{path[0]}.{path[1]}"


def with_ids(body: object, ids: Ids) -> object:
    """Replace names in JSON by AIDs and IIDs."""
    if isinstance(body, Mapping):
        rest = {key: with_ids(value, ids) for key, value in body.items() if key != "at"}
        if "at" not in body:
            return rest
        aid, iid = ids[body["at"]]
        return {"aid": aid, "iid": iid, **rest}
    if isinstance(body, list | tuple):
        return [with_ids(item, ids) for item in body]
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
class Send:
    """Send requests at once, and wait for a response to each."""

    requests: tuple[Request, ...]
    on: str = "a"
    frames: Iterable[int] = ()
    pieces: Iterable[int] = ()
    meanwhile: tuple[tuple[str, bool], ...] = ()
    """Switches to change without a controller after the requests were sent."""


@dataclass(frozen=True)
class SendBytes:
    """Send bytes unchanged, encrypted or not, and wait for one response, if any."""

    make: Callable[[Any], bytes]
    """Makes the bytes; its argument is the connection's `FrameCipher`."""
    on: str = "a"
    half_close: bool = False


@dataclass(frozen=True)
class ExternalChange:
    """Change a switch without a controller."""

    switch: str
    is_on: bool = True


@dataclass(frozen=True)
class AwaitEvents:
    """Wait until the events on a connection have had these values."""

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
    """None stands for the correct one."""


@dataclass(frozen=True)
class Verify:
    """A message of pair-verify: M1 or M3."""

    message: str
    change: Change = tlv.encode
    inner: Change = tlv.encode
    on: str = "a"
    behind: bytes = b""
    """Sent directly behind it, unencrypted."""


Step = Send | SendBytes | ExternalChange | AwaitEvents | Setup | Verify


@dataclass(frozen=True)
class Scenario:
    """Steps on connections of these controllers; None stands for an unauthenticated connection."""

    name: str
    steps: tuple[Step, ...]
    bridge_kind: BridgeKind = BridgeKind.PAIRED
    who: Mapping[str, Identity | None] = field(default_factory=lambda: {"a": ADMIN})
    identity: Identity = STRANGER
    """The controller that pairs and verifies in the steps."""
    pairings_change: bool = False

    @property
    def connections(self) -> list[str]:
        """The connections of all steps, sorted by name."""
        return sorted({step.on for step in self.steps if not isinstance(step, ExternalChange)})

    @property
    def is_timed(self) -> bool:
        """Whether a step takes time by design; in other scenarios, only a busy machine does."""
        return any(isinstance(step, AwaitEvents) for step in self.steps) or "slow." in repr(self.steps)


def send(*requests: Request, on: str = "a") -> Send:
    return Send(requests, on)


# Changes of a message's parts


def without(kind: Kind) -> Change:
    return lambda parts: tlv.encode([part for part in parts if part[0] != kind])


def doubled(kind: Kind) -> Change:
    """Repeat the part directly behind itself."""
    return lambda parts: b"".join(tlv.encode([part]) * (1 + (part[0] == kind)) for part in parts)


def repeated_at_the_end(kind: Kind) -> Change:
    return lambda parts: tlv.encode([*parts, next(part for part in parts if part[0] == kind)])


def having(kind: Kind, value: bytes) -> Change:
    """Set the value of the part, or add it."""

    def change(parts: list[Part]) -> bytes:
        if all(part[0] != kind for part in parts):
            return tlv.encode([*parts, (kind, value)])
        return tlv.encode([(k, value if k == kind else v) for k, v in parts])

    return change


def flipped(kind: Kind) -> Change:
    """Flip the last bit of the part."""
    return lambda parts: tlv.encode([(k, v[:-1] + bytes([v[-1] ^ 1]) if k == kind else v) for k, v in parts])


def reversed_parts(parts: list[Part]) -> bytes:
    return tlv.encode(parts[::-1])


def cut_off(parts: list[Part]) -> bytes:
    return tlv.encode(parts)[:-1]


def nothing(parts: list[Part]) -> bytes:
    return b""


def followed_by(more: bytes) -> Change:
    return lambda parts: tlv.encode(parts) + more
