"""The JSON-lines messages between the daemon and the helper, parsed strictly. Pure: no I/O.

One message a line. The daemon sends `Request`s. The helper says `Hello` once, then answers each request with
`Refused`, or with `Accepted` and later `Finished`; and each `Ping` with a `Pong`. After `Observe` it says
`Observed` of every group that has a probe, and again when a probe says something else.
Unknown or missing keys, wrong types, duplicate keys and anything else that is not exactly a message is
`Malformed`: neither side guesses what the other meant.
"""

import json
from typing import Any, Final, NamedTuple

from hkswitch.model.unit_state import Action, JobResult, UnitResult, Verdict
from hkswitch.protocol.json_lines import Malformed, boolean, keys, number, objects, parse_object, text

LONGEST_REQUEST_BYTES: Final = 4096
"""A request needs 100 bytes; the helper ends at a line that is longer than this."""

LONGEST_REPLY_BYTES: Final = 256 * 1024
"""The reply about a group of 128 units with the longest names and details stays under this."""

LONGEST_DETAIL: Final = 500
"""Characters in a reason or a detail."""


class Request(NamedTuple):
    """The daemon asks the helper for `action` on `group`: never a unit, never a command."""

    id: int
    action: Action
    group: str


class Ping(NamedTuple):
    """The daemon asks whether the helper still answers."""

    id: int


class Observe(NamedTuple):
    """The daemon asks for what the probes of all groups say, now and after each change."""


class Observed(NamedTuple):
    """What the probe of a group says now. `reason` is why, in a few words."""

    group: str
    verdict: Verdict
    reason: str


class Pong(NamedTuple):
    """It does."""

    id: int


class Hello(NamedTuple):
    """The helper runs, and this is its version."""

    version: str


class Accepted(NamedTuple):
    """The request is allowed, and its jobs are being queued."""

    id: int


class Finished(NamedTuple):
    """All jobs of the request ended. `superseded`: a newer request for the same group replaced them."""

    id: int
    units: tuple[UnitResult, ...]
    superseded: bool = False


class Refused(NamedTuple):
    """Nothing was done, or, after `Accepted`, nobody knows what. `id` is None where none could be read."""

    id: int | None
    reason: str


Ask = Request | Ping | Observe
Reply = Hello | Accepted | Finished | Refused | Pong | Observed


def encode(message: Ask | Reply) -> bytes:
    """A message as one line."""
    return json.dumps(_body(message), separators=(",", ":")).encode() + b"\n"


def parse_request(line: bytes) -> Ask:
    """The request in a line; raises `Malformed`."""
    body = parse_object(line)
    if "ping" in body:
        keys(body, {"ping"})
        return Ping(number(body, "ping"))
    if "observe" in body:
        keys(body, {"observe"})
        if boolean(body, "observe"):
            return Observe()
        raise Malformed("'observe' must be true")
    request_id = _id_or_none(body)
    try:
        keys(body, {"id", "action", "group"})
        return Request(_id(body), _action(body), text(body, "group"))
    except Malformed as error:
        raise Malformed(str(error), request_id) from None


def parse_reply(line: bytes) -> Reply:
    """The helper's message in a line; raises `Malformed`."""
    body = parse_object(line)
    match body.get("type"):
        case "hello":
            keys(body, {"type", "version"})
            return Hello(text(body, "version"))
        case "pong":
            keys(body, {"type", "id"})
            return Pong(_id(body))
        case "observed":
            keys(body, {"type", "group", "verdict", "reason"})
            return Observed(text(body, "group"), _verdict(body), text(body, "reason", LONGEST_DETAIL))
        case "accepted":
            keys(body, {"type", "id"})
            return Accepted(_id(body))
        case "finished":
            keys(body, {"type", "id", "units", "superseded"})
            return Finished(
                _id(body),
                tuple(_unit_result(item) for item in objects(body, "units")),
                boolean(body, "superseded"),
            )
        case "refused":
            keys(body, {"type", "id", "reason"})
            request_id = None if body["id"] is None else _id(body)
            return Refused(request_id, text(body, "reason", longest=LONGEST_DETAIL))
        case _:
            raise Malformed("no known type")


def _body(message: Ask | Reply) -> dict[str, Any]:
    match message:
        case Request(request_id, action, group):
            return {"id": request_id, "action": action.value, "group": group}
        case Ping(request_id):
            return {"ping": request_id}
        case Observe():
            return {"observe": True}
        case Observed(group, verdict, reason):
            said = {"verdict": verdict.value, "reason": reason[:LONGEST_DETAIL]}
            return {"type": "observed", "group": group, **said}
        case Pong(request_id):
            return {"type": "pong", "id": request_id}
        case Hello(version):
            return {"type": "hello", "version": version}
        case Accepted(request_id):
            return {"type": "accepted", "id": request_id}
        case Finished(request_id, units, superseded):
            results = [
                {"unit": r.unit, "job": r.job.value, "detail": r.detail[:LONGEST_DETAIL], "job_id": r.job_id}
                for r in units
            ]
            return {"type": "finished", "id": request_id, "units": results, "superseded": superseded}
        case Refused(maybe_id, reason):
            return {"type": "refused", "id": maybe_id, "reason": reason[:LONGEST_DETAIL]}


def _id_or_none(body: dict[str, Any]) -> int | None:
    try:
        return _id(body)
    except Malformed:
        return None


def _id(body: dict[str, Any]) -> int:
    return number(body, "id")


def _action(body: dict[str, Any]) -> Action:
    try:
        return Action(body["action"])
    except ValueError:
        raise Malformed(f"'action' must be one of {', '.join(Action)}") from None


def _verdict(body: dict[str, Any]) -> Verdict:
    try:
        return Verdict(body["verdict"])
    except ValueError:
        raise Malformed(f"'verdict' must be one of {', '.join(Verdict)}") from None


def _unit_result(item: dict[str, Any]) -> UnitResult:
    keys(item, {"unit", "job", "detail", "job_id"})
    job, job_id = JobResult(text(item, "job")), number(item, "job_id", smallest=0)
    return UnitResult(text(item, "unit"), job, text(item, "detail", LONGEST_DETAIL), job_id)
