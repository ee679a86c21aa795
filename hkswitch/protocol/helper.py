"""The JSON-lines messages between the daemon and the helper. Pure: no I/O.

One message a line. The helper says `Hello` once. It answers each `Request` with `Refused`, or with `Accepted`
and later `Finished`, and each `Ping` with a `Pong`. After `Observe` it tells of every group of its config
(`GroupTold`) and of the states of their units and probes (`StatesTold`), marks the end (`Complete`), and then
tells each change. All of it is one order: the states that a request led to come before its `Finished`.

Requests are parsed strictly, since root reads them: unknown or missing keys, wrong types and duplicate keys
are `Malformed`. In replies, keys and messages that only a newer helper knows are passed over.
"""

import json
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from hkswitch.model.unit_state import (
    Action,
    ProbeResult,
    UnitResult,
    UnitState,
)
from hkswitch.protocol.json_lines import (
    Malformed,
    keys,
    number,
    parse_object,
    text,
)

PROTOCOL: Final = 2
"""Grows when an older daemon would misunderstand a newer helper, or the other way round."""

LONGEST_REQUEST_BYTES: Final = 4096
"""A request needs 150 bytes; the helper ends at a line that is longer than this."""

LONGEST_REPLY_BYTES: Final = 1024 * 1024
"""The reply about a group of 128 units with the longest names and details stays under this, in any script:
JSON has twelve bytes for a character beyond the first 65,536."""

LONGEST_DETAIL: Final = 500
"""Characters in a reason or a detail."""

LONGEST_TOKEN: Final = 64

MOST_STATES: Final = 64
"""Of units, or of probes, in one `StatesTold`: the line stays far under the longest."""

CONFIRM_MS: Final = 200
"""How long the helper watches a unit after its job, for a phone that waits."""

CONFIRM_AT_LENGTH_MS: Final = 1000
"""The same for a person at a terminal."""

CONFIG_CHANGED: Final = "the configuration has changed; run `systemctl reload hkswitch`"


# What the daemon says


class Request(NamedTuple):
    """The daemon asks for `action` on `group`: never on a unit, and never for a command.

    `token` is what the helper gave the group, so that nothing happens by another config than the one the
    daemon serves. A start has succeeded when the units are still up `confirm_ms` after their jobs.
    """

    id: int
    action: Action
    group: str
    token: str
    confirm_ms: int = CONFIRM_MS


class Ping(NamedTuple):
    """The daemon asks whether the helper still answers."""

    id: int


class Observe(NamedTuple):
    """The daemon asks for all states, now and after each change. `epoch` comes back with each of them."""

    epoch: int


# What the helper says


class Hello(NamedTuple):
    """The helper runs, and this is its version."""

    version: str
    protocol: int = PROTOCOL


class Pong(NamedTuple):
    """It does."""

    id: int


class Accepted(NamedTuple):
    """The request is allowed, and is being done from now on."""

    id: int


class Finished(NamedTuple):
    """All jobs of the request ended. `superseded`: a newer request for the same group replaced them."""

    id: int
    units: tuple[UnitResult, ...]
    superseded: bool = False


class Refused(NamedTuple):
    """Nothing was done, or, after `Accepted`, it is not known what. `id` is None if none could be read."""

    id: int | None
    reason: str


class GroupTold(NamedTuple):
    """A group of the helper's config. `token` stands for what root acts on; empty: there is no such group."""

    epoch: int
    group: str
    token: str
    units: tuple[str, ...] = ()


class ProbeTold(NamedTuple):
    """What a group's status or check says; `verdict` is None while it has not answered."""

    verdict: ProbeResult | None
    reason: str = ""


class StatesTold(NamedTuple):
    """The states of some units, and of the probes of some groups, all at the same moment."""

    epoch: int
    units: Mapping[str, UnitState]
    probes: Mapping[str, ProbeTold]


class Complete(NamedTuple):
    """Everything was told once."""

    epoch: int


class Lost(NamedTuple):
    """The helper cannot talk to systemd: no unit's state is known until all are told again."""

    epoch: int
    reason: str


class ConfigTold(NamedTuple):
    """Why the helper does not believe the config file as it is now; empty if it does."""

    problem: str


Ask = Request | Ping | Observe
Told = GroupTold | StatesTold | Complete | Lost
Reply = Hello | Pong | Accepted | Finished | Refused | Told | ConfigTold


def encode(message: Ask | Reply) -> bytes:
    """A message as one line."""
    return json.dumps(_body(message), separators=(",", ":")).encode() + b"\n"


# Requests: root reads them


def parse_request(line: bytes) -> Ask:
    """The request in a line; raises `Malformed`."""
    body = parse_object(line)
    if "ping" in body:
        keys(body, {"ping"})
        return Ping(number(body, "ping"))
    if "observe" in body:
        keys(body, {"observe"})
        return Observe(number(body, "observe"))
    request_id = _id_or_none(body)
    try:
        keys(body, {"id", "action", "group", "token", "confirm_ms"})
        return Request(
            _id(body), _action(body), text(body, "group"), text(body, "token", LONGEST_TOKEN), _confirm(body)
        )
    except Malformed as error:
        raise Malformed(str(error), request_id) from None


def _confirm(body: dict[str, Any]) -> int:
    confirm_ms = number(body, "confirm_ms")
    if confirm_ms not in {CONFIRM_MS, CONFIRM_AT_LENGTH_MS}:
        raise Malformed(f"'confirm_ms' must be {CONFIRM_MS} or {CONFIRM_AT_LENGTH_MS}")
    return confirm_ms


def _body(message: Ask | Reply) -> dict[str, Any]:
    match message:
        case Request(request_id, action, group, token, confirm_ms):
            asked = {"id": request_id, "action": action.value, "group": group}
            return {**asked, "token": token, "confirm_ms": confirm_ms}
        case Ping(request_id):
            return {"ping": request_id}
        case Observe(epoch):
            return {"observe": epoch}
        case Hello(version, protocol):
            return {"type": "hello", "version": version, "protocol": protocol}
        case Pong(request_id):
            return {"type": "pong", "id": request_id}
        case Accepted(request_id):
            return {"type": "accepted", "id": request_id}
        case Finished(request_id, units, superseded):
            results = [{"unit": r.unit, "job": r.job.value, "detail": _short(r.detail)} for r in units]
            return {"type": "finished", "id": request_id, "units": results, "superseded": superseded}
        case Refused(maybe_id, reason):
            return {"type": "refused", "id": maybe_id, "reason": _short(reason)}
        case ConfigTold(problem):
            return {"type": "config", "problem": _short(problem)}
        case _:
            return _told_body(message)


def _told_body(message: Told) -> dict[str, Any]:
    match message:
        case GroupTold(epoch, group, token, units):
            return {"type": "group", "epoch": epoch, "group": group, "token": token, "units": units}
        case StatesTold(epoch, units, probes):
            rows = [[name, state.load.value, state.active.value, state.sub] for name, state in units.items()]
            said = [[group, probe.verdict, _short(probe.reason)] for group, probe in probes.items()]
            return {"type": "states", "epoch": epoch, "units": rows, "probes": said}
        case Complete(epoch):
            return {"type": "complete", "epoch": epoch}
        case Lost(epoch, reason):
            return {"type": "lost", "epoch": epoch, "reason": _short(reason)}


def _short(reason: str) -> str:
    return reason[:LONGEST_DETAIL]


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
