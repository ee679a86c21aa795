"""Parses the helper's messages, for the daemon. Pure: no I/O. Root does not import it.

A helper may have another version, on another host: unknown keys and messages are ignored, and everything
else is checked like any untrusted input.
"""

from typing import Any, TypeVar

from hkswitch.model.unit_state import ActiveState, JobResult, LoadState, ProbeResult, UnitResult, UnitState
from hkswitch.protocol.helper import (
    LONGEST_DETAIL,
    LONGEST_TOKEN,
    Accepted,
    Complete,
    ConfigUpdate,
    Finished,
    GroupUpdate,
    Hello,
    Lost,
    Pong,
    ProbeUpdate,
    Refused,
    Reply,
    StatesUpdate,
    Update,
)
from hkswitch.protocol.json_fields import boolean, objects, strings
from hkswitch.protocol.json_lines import LONGEST_NAME, MalformedMessage, number, parse_object, text

_State = TypeVar("_State", UnitState, ProbeUpdate)


def parse_reply(line: bytes) -> Reply | None:
    """Return the helper's message in a line, None for one of an unknown type; raises `MalformedMessage`."""
    body = parse_object(line)
    kind = text(body, "type") if "type" in body else ""
    match kind:
        case "":
            raise MalformedMessage("'type' is missing")
        case "hello":
            return Hello(text(body, "version"), number(body, "protocol") if "protocol" in body else 1)
        case "pong":
            return Pong(number(body, "id"))
        case "accepted":
            return Accepted(number(body, "id"))
        case "finished":
            results = tuple(_unit_result(item) for item in objects(body, "units"))
            return Finished(number(body, "id"), results, boolean(body, "superseded"))
        case "refused":
            request_id = None if body.get("id", "") is None else number(body, "id")
            return Refused(request_id, text(body, "reason", LONGEST_DETAIL))
        case "config":
            return ConfigUpdate(text(body, "problem", LONGEST_DETAIL))
        case "group" | "states" | "complete" | "lost":
            return _parse_update(kind, number(body, "epoch"), body)
    return None


def _parse_update(kind: str, epoch: int, body: dict[str, Any]) -> Update:
    match kind:
        case "group":
            token = text(body, "token", LONGEST_TOKEN)
            return GroupUpdate(epoch, text(body, "group"), token, strings(body, "units"))
        case "states":
            units = [_unit_state(row) for row in _rows(body, "units", 4)]
            probes = [_probe(row) for row in _rows(body, "probes", 3)]
            return StatesUpdate(epoch, _once("unit", units), _once("group", probes))
        case "complete":
            return Complete(epoch)
        case _:
            return Lost(epoch, text(body, "reason", LONGEST_DETAIL))


def _rows(body: dict[str, Any], key: str, length: int) -> list[list[Any]]:
    match body.get(key):
        case list(rows) if all(isinstance(row, list) and len(row) == length for row in rows):
            return rows
    raise MalformedMessage(f"{key!r} must be a list of lists of {length}")


def _once(what: str, rows: list[tuple[str, _State]]) -> dict[str, _State]:
    if len(found := dict(rows)) != len(rows):
        raise MalformedMessage(f"duplicate {what}")
    return found


def _unit_state(row: list[Any]) -> tuple[str, UnitState]:
    match row:
        case [str(unit), str(load), str(active), str(sub)] if max(map(len, row)) <= LONGEST_NAME:
            return unit, UnitState(LoadState(load), ActiveState(active), sub)
    raise MalformedMessage("a unit's state must be four words")


def _probe(row: list[Any]) -> tuple[str, ProbeUpdate]:
    match row:
        case [str(group), None | str() as verdict, str(reason)] if len(group) <= LONGEST_NAME:
            if len(reason) <= LONGEST_DETAIL:
                return group, ProbeUpdate(None if verdict is None else _verdict(verdict), reason)
    raise MalformedMessage("a probe's result must be a group, a verdict and a reason")


def _verdict(word: str) -> ProbeResult:
    try:
        return ProbeResult(word)
    except ValueError:
        raise MalformedMessage(f"a verdict must be one of {', '.join(ProbeResult)}") from None


def _unit_result(item: dict[str, Any]) -> UnitResult:
    return UnitResult(text(item, "unit"), JobResult(text(item, "job")), text(item, "detail", LONGEST_DETAIL))
