"""The JSON-lines messages between the daemon and the command line, on the control socket. Pure: no I/O.

One message per line, and one reply per request: the expected one, or `ErrorReply`.
A request has exactly its keys; in a reply, the client ignores the unknown keys of a newer daemon (report.py).
All text in a reply is printable, so the daemon's user cannot send escape sequences to root's terminal.
"""

import json
import re
from enum import StrEnum
from typing import Any, Final, NamedTuple

from hkswitch.model.errors import Exit
from hkswitch.model.printable import printable_line
from hkswitch.model.unit_state import Action
from hkswitch.protocol.alert_report import MOST_ALERTS, AlertReport, alert_objects, alerts_of
from hkswitch.protocol.json_fields import boolean, words
from hkswitch.protocol.json_lines import MalformedMessage, keys, number, parse_object, text
from hkswitch.protocol.report import (
    PairedController,
    Report,
    as_object,
    controller_object,
    controllers,
    from_object,
    required,
)

LONGEST_CONTROL_REQUEST_BYTES: Final = 4096
LONGEST_CONTROL_REPLY_BYTES: Final = 32 * 1024 * 1024
"""The report of 149 groups of 128 units fits, whatever texts a hostile host chose for them."""

LONGEST_CONTROL_TEXT: Final = 2000
"""Characters."""


_CODE: Final = re.compile(r"[0-9]{3}-[0-9]{2}-[0-9]{3}")
_PAYLOAD: Final = re.compile(r"X-HM://[0-9A-Z]{13}")
_DEVICE_ID: Final = re.compile(r"([0-9A-F]{2}:){5}[0-9A-F]{2}")


class Operation(StrEnum):
    """The operations of the control socket, by their names on the wire."""

    STATUS = "status"
    WATCH = "watch"
    """A `Status` at once, and again after each change."""
    ALERTS = "alerts"
    ACT = "act"
    CONTROLLERS = "controllers"
    SETUP = "setup"
    UNPAIR = "unpair"
    RESET_ATTEMPTS = "reset-attempts"
    RELOAD = "reload"
    """Apply the config on disk, and reply with the result."""


UNPRIVILEGED_OPERATIONS: Final = frozenset(
    {Operation.STATUS, Operation.WATCH, Operation.ALERTS, Operation.CONTROLLERS}
)
"""Allowed for any local user; all other operations show the setup code or change something."""


class ControlRequest(NamedTuple):
    """A request. `controller`: the ID of the one to unpair, None for all. Only `ACT` uses the last two."""

    operation: Operation
    controller: str | None = None
    action: Action = Action.START
    group: str = ""


class Controllers(NamedTuple):
    """The paired controllers."""

    controllers: tuple[PairedController, ...]


MOST_FAILED_ATTEMPTS: Final = 100
"""Wrong setup codes; after so many, the HAP specification (5.6.2) requires that pairing is refused."""


class SetupInfo(NamedTuple):
    """The data that a phone needs to pair. `pairing_refused`: too many attempts failed."""

    code: str
    payload: str
    device_id: str
    paired: bool
    failed_attempts: int
    pairing_refused: bool


class Status(NamedTuple):
    """The state of the bridge and of all groups."""

    report: Report


class LastAlerts(NamedTuple):
    """The last alerts of all groups, newest first; only the first `MOST_ALERTS` are sent."""

    alerts: tuple[AlertReport, ...]


class Progress(StrEnum):
    """The progress of an action."""

    BEGUN = "begun"
    """The action was accepted; `DONE` or `ErrorReply` follows at its end."""
    DONE = "done"


class DoneWithNote(NamedTuple):
    """Success, with a note for the user."""

    note: str


class ErrorReply(NamedTuple):
    """Failure, and its reason."""

    exit_code: Exit
    reason: str


ControlReply = Status | LastAlerts | Controllers | SetupInfo | Progress | DoneWithNote | ErrorReply


def encode_control_request(request: ControlRequest) -> bytes:
    """Return a request as one line."""
    body: dict[str, Any] = {"ask": request.operation.value}
    if request.operation is Operation.UNPAIR:
        body["controller"] = request.controller
    if request.operation is Operation.ACT:
        body |= {"action": request.action.value, "group": request.group}
    return _line(body)


def parse_control_request(line: bytes) -> ControlRequest:
    """Return the request in a line; raises `MalformedMessage`."""
    body = parse_object(line)
    word = text(body, "ask")
    if word not in set(Operation):
        raise MalformedMessage(f"'ask' must be one of {', '.join(Operation)}")
    operation = Operation(word)
    if operation is Operation.ACT:
        keys(body, {"ask", "action", "group"})
        return ControlRequest(operation, action=_action(body), group=text(body, "group"))
    if operation is not Operation.UNPAIR:
        keys(body, {"ask"})
        return ControlRequest(operation)
    keys(body, {"ask", "controller"})
    return ControlRequest(operation, None if body["controller"] is None else text(body, "controller"))


def encode_control_reply(reply: ControlReply) -> bytes:
    """Return a reply as one line."""
    match reply:
        case Status(report):
            return _line({"type": "status", "report": as_object(report)})
        case LastAlerts(alerts):
            return _line({"type": "alerts", "alerts": alert_objects(alerts[:MOST_ALERTS])})
        case Controllers(controllers):
            items = [controller_object(each) for each in controllers]
            return _line({"type": "controllers", "controllers": items})
        case SetupInfo():
            return _line({"type": "setup", **{name: getattr(reply, name) for name in SetupInfo._fields}})
        case Progress():
            return _line({"type": reply.value})
        case DoneWithNote(note):
            return _line({"type": "noted", "note": printable_line(note, LONGEST_CONTROL_TEXT)})
        case ErrorReply(exit_code, reason):
            said = printable_line(reason, LONGEST_CONTROL_TEXT)
            return _line({"type": "failed", "exit_code": exit_code.value, "reason": said})


def parse_control_reply(line: bytes) -> ControlReply:
    """Return the reply in a line; raises `MalformedMessage`."""
    body = parse_object(line)
    match body.get("type"):
        case "status":
            required(body, {"type", "report"})
            return Status(from_object(_object(body, "report")))
        case "alerts":
            required(body, {"type", "alerts"})
            return LastAlerts(alerts_of(body))
        case "controllers":
            required(body, {"type", "controllers"})
            return Controllers(controllers(body))
        case "setup":
            required(body, {"type", *SetupInfo._fields})
            return _setup(body)
        case Progress.BEGUN | Progress.DONE as word:
            return Progress(word)
        case "noted":
            return DoneWithNote(words(body, "note", LONGEST_CONTROL_TEXT))
        case "failed":
            required(body, {"type", "exit_code", "reason"})
            return ErrorReply(_exit_code(body), words(body, "reason", LONGEST_CONTROL_TEXT))
        case _:
            raise MalformedMessage("unknown type")


def _line(body: dict[str, Any]) -> bytes:
    return json.dumps(body, separators=(",", ":")).encode() + b"\n"


def _object(body: dict[str, Any], key: str) -> dict[str, Any]:
    match body.get(key):
        case dict(found):
            return found
    raise MalformedMessage(f"{key!r} must be an object")


def _action(body: dict[str, Any]) -> Action:
    try:
        return Action(text(body, "action"))
    except ValueError:
        raise MalformedMessage(f"'action' must be one of {', '.join(Action)}") from None


def _setup(body: dict[str, Any]) -> SetupInfo:
    return SetupInfo(
        code=_of_format(body, "code", _CODE),
        payload=_of_format(body, "payload", _PAYLOAD),
        device_id=_of_format(body, "device_id", _DEVICE_ID),
        paired=boolean(body, "paired"),
        failed_attempts=number(body, "failed_attempts", 0),
        pairing_refused=boolean(body, "pairing_refused"),
    )


def _of_format(body: dict[str, Any], key: str, pattern: re.Pattern[str]) -> str:
    found = text(body, key)
    if not pattern.fullmatch(found):
        raise MalformedMessage(f"{key!r} has an invalid format")
    return found


def _exit_code(body: dict[str, Any]) -> Exit:
    """Return the exit code of a failure; the most general one for a code that only a newer daemon knows."""
    code = number(body, "exit_code")
    return Exit(code) if code in set(Exit) else Exit.UNAVAILABLE
