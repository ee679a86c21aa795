"""The JSON-lines messages between the daemon and the helper, parsed strictly. Pure: no I/O.

One message a line. The daemon sends `Request`s. The helper says `Hello` once, then answers each request with
`Refused`, or with `Accepted` and later `Finished`; and each `Ping` with a `Pong`.
Unknown or missing keys, wrong types, duplicate keys and anything else that is not exactly a message is
`Malformed`: neither side guesses what the other meant.
"""

import json
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from hkswitch.core.model import Action, JobResult, UnitResult

LONGEST_REQUEST_BYTES: Final = 4096
"""A request needs 100 bytes; the helper ends at a line that is longer than this."""

LONGEST_REPLY_BYTES: Final = 256 * 1024
"""The reply about a group of 128 units with the longest names and details stays under this."""

LONGEST_NAME: Final = 256
"""Characters in a group's id, a unit's name or a word of systemd's."""

LONGEST_DETAIL: Final = 500
"""Characters in a reason or a detail."""

LARGEST_ID: Final = 2**53
"""Numbers up to here survive every JSON implementation."""


@dataclass(frozen=True, slots=True)
class Request:
    """The daemon asks the helper for `action` on `group`: never a unit, never a command."""

    id: int
    action: Action
    group: str


@dataclass(frozen=True, slots=True)
class Ping:
    """The daemon asks whether the helper still answers."""

    id: int


@dataclass(frozen=True, slots=True)
class Pong:
    """It does."""

    id: int


@dataclass(frozen=True, slots=True)
class Hello:
    """The helper runs, and this is its version."""

    version: str


@dataclass(frozen=True, slots=True)
class Accepted:
    """The request is allowed, and its jobs are being queued."""

    id: int


@dataclass(frozen=True, slots=True)
class Finished:
    """All jobs of the request ended. `superseded`: a newer request for the same group replaced them."""

    id: int
    units: tuple[UnitResult, ...]
    superseded: bool = False


@dataclass(frozen=True, slots=True)
class Refused:
    """Nothing was done, or, after `Accepted`, nobody knows what. `id` is None where none could be read."""

    id: int | None
    reason: str


Reply = Hello | Accepted | Finished | Refused | Pong


class Malformed(ValueError):
    """A line that is no message; `id` is the request's where that much could be read."""

    def __init__(self, reason: str, request_id: int | None = None) -> None:
        super().__init__(reason)
        self.request_id = request_id


def encode(message: Request | Ping | Reply) -> bytes:
    """A message as one line."""
    return json.dumps(_body(message), separators=(",", ":")).encode() + b"\n"


def parse_request(line: bytes) -> Request | Ping:
    """The request in a line; raises `Malformed`."""
    body = _object(line)
    if "ping" in body:
        _keys(body, {"ping"})
        return Ping(_number(body, "ping"))
    request_id = _id_or_none(body)
    try:
        _keys(body, {"id", "action", "group"})
        return Request(_id(body), _action(body), _text(body, "group"))
    except Malformed as error:
        raise Malformed(str(error), request_id) from None


def parse_reply(line: bytes) -> Reply:
    """The helper's message in a line; raises `Malformed`."""
    body = _object(line)
    match body.get("type"):
        case "hello":
            _keys(body, {"type", "version"})
            return Hello(_text(body, "version"))
        case "pong":
            _keys(body, {"type", "id"})
            return Pong(_id(body))
        case "accepted":
            _keys(body, {"type", "id"})
            return Accepted(_id(body))
        case "finished":
            _keys(body, {"type", "id", "units", "superseded"})
            return Finished(_id(body), _unit_results(body), _boolean(body, "superseded"))
        case "refused":
            _keys(body, {"type", "id", "reason"})
            request_id = None if body["id"] is None else _id(body)
            return Refused(request_id, _text(body, "reason", longest=LONGEST_DETAIL))
        case _:
            raise Malformed("no known type")


def _body(message: Request | Ping | Reply) -> dict[str, Any]:
    match message:
        case Request(request_id, action, group):
            return {"id": request_id, "action": action.value, "group": group}
        case Ping(request_id):
            return {"ping": request_id}
        case Pong(request_id):
            return {"type": "pong", "id": request_id}
        case Hello(version):
            return {"type": "hello", "version": version}
        case Accepted(request_id):
            return {"type": "accepted", "id": request_id}
        case Finished(request_id, units, superseded):
            results = [
                {"unit": r.unit, "job": r.job.value, "detail": r.detail[:LONGEST_DETAIL]} for r in units
            ]
            return {"type": "finished", "id": request_id, "units": results, "superseded": superseded}
        case Refused(maybe_id, reason):
            return {"type": "refused", "id": maybe_id, "reason": reason[:LONGEST_DETAIL]}


def _object(line: bytes) -> dict[str, Any]:
    try:
        body = json.loads(line.decode(), object_pairs_hook=_no_duplicates, parse_constant=_no_constant)
    except Malformed:
        raise
    except (ValueError, RecursionError):
        raise Malformed("not a line of JSON") from None
    if not isinstance(body, dict):
        raise Malformed("not a JSON object")
    return body


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    body = dict(pairs)
    if len(body) != len(pairs):
        raise Malformed("a key stands twice")
    return body


def _no_constant(name: str) -> NoReturn:
    raise Malformed(f"{name} is not JSON")


def _keys(body: dict[str, Any], wanted: set[str]) -> None:
    if missing := wanted - body.keys():
        raise Malformed(f"{min(missing)!r} is missing")
    if len(body) != len(wanted):
        raise Malformed("a key too many")


def _id_or_none(body: dict[str, Any]) -> int | None:
    try:
        return _id(body)
    except Malformed:
        return None


def _id(body: dict[str, Any]) -> int:
    return _number(body, "id")


def _number(body: dict[str, Any], key: str) -> int:
    match body.get(key):
        case int(number) if 1 <= number <= LARGEST_ID and not isinstance(number, bool):
            return number
        case _:
            raise Malformed(f"{key!r} must be a number from 1 to {LARGEST_ID}")


def _text(body: dict[str, Any], key: str, longest: int = LONGEST_NAME) -> str:
    match body.get(key):
        case str(text) if len(text) <= longest:
            return text
        case _:
            raise Malformed(f"{key!r} must be text of at most {longest} characters")


def _boolean(body: dict[str, Any], key: str) -> bool:
    match body.get(key):
        case bool(value):
            return value
        case _:
            raise Malformed(f"{key!r} must be true or false")


def _action(body: dict[str, Any]) -> Action:
    try:
        return Action(body["action"])
    except ValueError:
        raise Malformed(f"'action' must be one of {', '.join(Action)}") from None


def _unit_results(body: dict[str, Any]) -> tuple[UnitResult, ...]:
    if not isinstance(body["units"], list):
        raise Malformed("'units' must be a list")
    return tuple(_unit_result(item) for item in body["units"])


def _unit_result(item: object) -> UnitResult:
    if not isinstance(item, dict):
        raise Malformed("each of 'units' must be an object")
    _keys(item, {"unit", "job", "detail"})
    job = _text(item, "job")
    return UnitResult(_text(item, "unit"), JobResult(job), _text(item, "detail", LONGEST_DETAIL))
