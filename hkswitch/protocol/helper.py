"""The JSON-lines messages between the daemon and the helper. Pure: no I/O.

One message per line. The helper sends `Hello` once. It answers each `Request` with `Refused`, or with
`Accepted` and later `Finished`, and each `Ping` with a `Pong`. After `Observe` it reports every group of its
config (`GroupUpdate`) and the states of their units and probes (`StatesUpdate`), marks the end (`Complete`),
and then reports each change, and the resources of groups that `Observe` names (`SamplesUpdate`). Messages
keep their order: the states that a request led to precede its `Finished`. The helper answers an `Alert` as it
answers a request.

Requests are parsed strictly, since root reads them: unknown or missing keys, wrong types and duplicate keys
are `MalformedMessage`. In replies, unknown keys and messages of a newer helper are ignored.
"""

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from hkswitch.model.elsewhere import Trait
from hkswitch.model.group import MOST_ACCESSORIES, TIMEOUT_SECONDS
from hkswitch.model.unit_state import (
    Action,
    GroupState,
    ProbeResult,
    UnitFailure,
    UnitResult,
    UnitState,
    Usage,
)
from hkswitch.protocol.json_lines import MalformedMessage, keys, number, parse_object, text

HELPER_PROTOCOL: Final = 3
"""The version; increase it when an older daemon would misunderstand a newer helper, or vice versa."""

LONGEST_REQUEST_BYTES: Final = 16 * 1024
"""A request needs 150 bytes, and `Observe` up to 10,000; the helper exits if a line is longer than this."""

LONGEST_REPLY_BYTES: Final = 1024 * 1024
"""Enough for a group of 128 units with the longest names and details, in any script: JSON takes twelve bytes
for a character beyond U+FFFF."""

LONGEST_DETAIL: Final = 500
"""Characters in a reason or a detail."""

LONGEST_TOKEN: Final = 64

ALERT_STATES: Final = frozenset({*GroupState, "unknown"})

MOST_STATES: Final = 64
"""Units, or probes, in one `StatesUpdate`, which keeps the line far below the limit."""

CONFIRM_MS: Final = 200
"""How long the helper watches a unit after its job, while a phone waits."""

CONFIRM_AT_LENGTH_MS: Final = 1000
"""The same while a user at a terminal waits."""

CONFIG_CHANGED: Final = "the configuration has changed; run `sudo hkswitch reload`"

SOCKET_IS_SET: Final = (
    "`helper: socket` is set: the user hkswitch cannot use sudo; run `sudo systemctl restart hkswitch`"
)
"""No reload ends this: only a new daemon uses the socket."""


# From the daemon


class Request(NamedTuple):
    """A request for `action` on `group`: it can name neither a unit nor a command.

    `token` stands for the group in the daemon's config: the helper denies the request if its own config
    differs. A start has succeeded when the units are still up `confirm_ms` after their jobs. `by_rule`: no
    user and no controller wants this, but the group's `restart_when`; it is for the audit log only.
    """

    id: int
    action: Action
    group: str
    token: str
    confirm_ms: int = CONFIRM_MS
    by_rule: bool = False


class Alert(NamedTuple):
    """A request to run the config's `alert_command`, because `group` is in trouble."""

    id: int
    group: str
    token: str
    state: str
    """The group's state in a word."""
    reason: str


class Ping(NamedTuple):
    """A check that the helper is alive."""

    id: int


class Observe(NamedTuple):
    """A request for all states, now and after each change. Each report repeats the `epoch`.

    `sampled` are the groups whose resources to report, too.
    """

    epoch: int
    sampled: tuple[str, ...] = ()


# From the helper


class Hello(NamedTuple):
    """The first message of a helper: it is ready, and has this version and this time."""

    version: str
    protocol: int = HELPER_PROTOCOL
    unix_seconds: int = 0
    """By its clock; 0 of an older helper."""


class Pong(NamedTuple):
    """The answer to `Ping`."""

    id: int


class Accepted(NamedTuple):
    """A request that is allowed, and that the helper begins to carry out."""

    id: int


class Finished(NamedTuple):
    """A request whose jobs have all ended. `superseded`: a newer request for the same group replaced them."""

    id: int
    units: tuple[UnitResult, ...]
    superseded: bool = False


class Refused(NamedTuple):
    """A request that was not carried out or, after `Accepted`, one whose result is unknown.

    `id` is None if the line had no valid one.
    """

    id: int | None
    reason: str


class GroupUpdate(NamedTuple):
    """A group of the helper's config. `token` stands for its contents; empty: there is no such group.

    The rest is for a daemon that does not have this config. `traits` is None from a helper that does not know
    them.
    """

    epoch: int
    group: str
    token: str
    units: tuple[str, ...] = ()
    actions: tuple[Action, ...] = ()
    traits: tuple[Trait, ...] | None = None
    timeout_seconds: int = TIMEOUT_SECONDS


class ProbeUpdate(NamedTuple):
    """The result of a group's status or check; `verdict` is None until it has one."""

    verdict: ProbeResult | None
    reason: str = ""


class StatesUpdate(NamedTuple):
    """The states of some units, and of the probes of some groups, all at the same moment.

    `failures` are of members; the one of a timer may be that of the service which it starts. None: it has
    not failed any longer.
    """

    epoch: int
    units: Mapping[str, UnitState]
    probes: Mapping[str, ProbeUpdate]
    failures: Mapping[str, UnitFailure | None] = MappingProxyType({})


class SamplesUpdate(NamedTuple):
    """The resources of the groups' members at one moment of the helper's monotonic clock.

    A member that does not run, or has nothing to measure, is missing. A compose project has a row for each
    container.
    """

    epoch: int
    at_seconds: float
    usages: tuple[Usage, ...]


class Complete(NamedTuple):
    """The end of the first reports: everything has been reported once."""

    epoch: int


class Lost(NamedTuple):
    """The loss of the connection to systemd: all states are unknown until they are reported again."""

    epoch: int
    reason: str


class ConfigUpdate(NamedTuple):
    """The reason why the helper rejects the config file on disk; empty if it accepts it."""

    problem: str


_COMPACT: Final = json.JSONEncoder(separators=(",", ":"))
"""Made once: `json.dumps` would make one for each message."""

DaemonMessage = Request | Alert | Ping | Observe
Update = GroupUpdate | StatesUpdate | SamplesUpdate | Complete | Lost
Reply = Hello | Pong | Accepted | Finished | Refused | Update | ConfigUpdate


def encode_message(message: DaemonMessage | Reply) -> bytes:
    """Return a message as one line."""
    return _COMPACT.encode(_body(message)).encode() + b"\n"


# Requests, which root parses


def parse_request(line: bytes) -> DaemonMessage:
    """Return the message of the daemon in a line; raises `MalformedMessage`."""
    body = parse_object(line)
    if "ping" in body:
        keys(body, {"ping"})
        return Ping(number(body, "ping"))
    if "observe" in body:
        keys(body, {"observe", "sampled"})
        return Observe(number(body, "observe"), _sampled(body))
    request_id = _id_or_none(body)
    try:
        return _alert(body) if "reason" in body else _request(body)
    except MalformedMessage as error:
        raise MalformedMessage(str(error), request_id) from None


def _request(body: dict[str, Any]) -> Request:
    keys(body, {"id", "action", "group", "token", "confirm_ms", "by_rule"})
    if not isinstance(by_rule := body["by_rule"], bool):
        raise MalformedMessage("'by_rule' must be true or false")
    token = text(body, "token", LONGEST_TOKEN)
    return Request(_id(body), _action(body), text(body, "group"), token, _confirm(body), by_rule)


def _alert(body: dict[str, Any]) -> Alert:
    keys(body, {"id", "group", "token", "state", "reason"})
    if (state := text(body, "state")) not in ALERT_STATES:
        raise MalformedMessage("'state' must be the state of a group")
    # TRUST: it becomes a variable of a command's environment.
    if not (reason := text(body, "reason", LONGEST_DETAIL)).isprintable():
        raise MalformedMessage("'reason' must be printable")
    return Alert(_id(body), text(body, "group"), text(body, "token", LONGEST_TOKEN), state, reason)


def _sampled(body: dict[str, Any]) -> tuple[str, ...]:
    match body["sampled"]:
        case [*groups] if len(groups) <= MOST_ACCESSORIES and all(isinstance(group, str) for group in groups):
            return tuple(groups)
    raise MalformedMessage(f"'sampled' must be a list of at most {MOST_ACCESSORIES} groups")


def _confirm(body: dict[str, Any]) -> int:
    confirm_ms = number(body, "confirm_ms")
    if confirm_ms not in {CONFIRM_MS, CONFIRM_AT_LENGTH_MS}:
        raise MalformedMessage(f"'confirm_ms' must be {CONFIRM_MS} or {CONFIRM_AT_LENGTH_MS}")
    return confirm_ms


def _body(message: DaemonMessage | Reply) -> dict[str, Any]:
    match message:
        case Request() | Alert():
            return message._asdict()
        case Ping(request_id):
            return {"ping": request_id}
        case Observe(epoch, sampled):
            return {"observe": epoch, "sampled": sampled}
        case Hello(version, protocol, now):
            return {"type": "hello", "version": version, "protocol": protocol, "unix_seconds": now}
        case Pong(request_id):
            return {"type": "pong", "id": request_id}
        case Accepted(request_id):
            return {"type": "accepted", "id": request_id}
        case Finished(request_id, units, superseded):
            results = [{"unit": r.unit, "job": r.job.value, "detail": _short(r.detail)} for r in units]
            return {"type": "finished", "id": request_id, "units": results, "superseded": superseded}
        case Refused(maybe_id, reason):
            return {"type": "refused", "id": maybe_id, "reason": _short(reason)}
        case ConfigUpdate(problem):
            return {"type": "config", "problem": _short(problem)}
        case _:
            return _update_body(message)


def _update_body(message: Update) -> dict[str, Any]:
    match message:
        case GroupUpdate():
            return {"type": "group", **message._asdict()}
        case StatesUpdate(epoch, units, probes, failures):
            rows = [[name, state.load.value, state.active.value, state.sub] for name, state in units.items()]
            said = [[group, probe.verdict, _short(probe.reason)] for group, probe in probes.items()]
            failed = [[name, *_failure(failure)] for name, failure in failures.items()]
            return {"type": "states", "epoch": epoch, "units": rows, "probes": said, "failures": failed}
        case SamplesUpdate(epoch, at_seconds, usages):
            return {"type": "samples", "epoch": epoch, "at_seconds": at_seconds, "usages": usages}
        case Complete(epoch):
            return {"type": "complete", "epoch": epoch}
        case Lost(epoch, reason):
            return {"type": "lost", "epoch": epoch, "reason": _short(reason)}


def _failure(failure: UnitFailure | None) -> tuple[str, bool, str]:
    return ("", False, "") if failure is None else failure._replace(reason=_short(failure.reason))


def _short(reason: str) -> str:
    return reason[:LONGEST_DETAIL]


def _id_or_none(body: dict[str, Any]) -> int | None:
    try:
        return _id(body)
    except MalformedMessage:
        return None


def _id(body: dict[str, Any]) -> int:
    return number(body, "id")


def _action(body: dict[str, Any]) -> Action:
    try:
        return Action(body["action"])
    except ValueError:
        raise MalformedMessage(f"'action' must be one of {', '.join(Action)}") from None
