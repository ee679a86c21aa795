"""Parses the helper's messages, for the daemon. Pure: no I/O. Root does not import it.

A helper may have another version, on another host: unknown keys and messages are ignored, and everything
else is checked like any untrusted input.
"""

from typing import Any, Final, TypeVar

from hkswitch.model.elsewhere import Trait
from hkswitch.model.unit_state import (
    Action,
    ActiveState,
    JobResult,
    LoadState,
    ProbeResult,
    UnitFailure,
    UnitResult,
    UnitState,
    Usage,
)
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
    SamplesUpdate,
    StatesUpdate,
    Update,
)
from hkswitch.protocol.json_fields import boolean, objects, strings
from hkswitch.protocol.json_lines import (
    LARGEST_ID,
    LONGEST_NAME,
    MalformedMessage,
    number,
    parse_object,
    text,
)

_State = TypeVar("_State", UnitState, ProbeUpdate, UnitFailure | None)

LARGEST_AMOUNT: Final = 2**63
"""Of CPU time in nanoseconds, and of memory in bytes."""


def parse_reply(line: bytes) -> Reply | None:
    """Return the helper's message in a line, None for one of an unknown type; raises `MalformedMessage`."""
    body = parse_object(line)
    kind = text(body, "type") if "type" in body else ""
    match kind:
        case "":
            raise MalformedMessage("'type' is missing")
        case "hello":
            protocol = number(body, "protocol") if "protocol" in body else 1
            now = number(body, "unix_seconds", 0) if "unix_seconds" in body else 0
            return Hello(text(body, "version"), protocol, now)
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
        case "group" | "states" | "samples" | "complete" | "lost":
            return _parse_update(kind, number(body, "epoch"), body)
    return None


def _parse_update(kind: str, epoch: int, body: dict[str, Any]) -> Update:
    match kind:
        case "group":
            return _group(epoch, body)
        case "states":
            units = [_unit_state(row) for row in _rows(body, "units", 4)]
            probes = [_probe(row) for row in _rows(body, "probes", 3)]
            failures = [_failure(row) for row in _rows(body, "failures", 4)] if "failures" in body else []
            return StatesUpdate(epoch, _once("unit", units), _once("group", probes), _once("unit", failures))
        case "samples":
            usages = tuple(_usage(row) for row in _rows(body, "usages", 5))
            return SamplesUpdate(epoch, _seconds(body.get("at_seconds")), usages)
        case "complete":
            return Complete(epoch)
        case _:
            return Lost(epoch, text(body, "reason", LONGEST_DETAIL))


def _group(epoch: int, body: dict[str, Any]) -> GroupUpdate:
    """Return a group; a newer helper may know more actions and traits, which do not matter here."""
    update = GroupUpdate(
        epoch, text(body, "group"), text(body, "token", LONGEST_TOKEN), strings(body, "units")
    )
    if body.get("traits") is None:
        return update
    actions, traits = {*strings(body, "actions")}, {*strings(body, "traits")}
    return update._replace(
        actions=tuple(action for action in Action if action in actions),
        traits=tuple(trait for trait in Trait if trait in traits),
        timeout_seconds=number(body, "timeout_seconds"),
    )


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


def _failure(row: list[Any]) -> tuple[str, UnitFailure | None]:
    match row:
        case [str(unit), str(run), bool(is_requested), str(reason)] if len(reason) <= LONGEST_DETAIL:
            if max(len(unit), len(run)) <= LONGEST_NAME:
                return unit, UnitFailure(run, is_requested, reason) if run else None
    raise MalformedMessage("a failure must be a unit, a run, whether it was requested, and a reason")


def _usage(row: list[Any]) -> Usage:
    match row:
        case [str(member), str(run), since, cpu, memory] if max(len(member), len(run)) <= LONGEST_NAME:
            return Usage(member, run, _seconds(since), _amount(cpu), _amount(memory))
    raise MalformedMessage("a usage must be a member, a run, its start, and two amounts")


def _seconds(found: object) -> float:
    # A constant that is no JSON, such as NaN, does not get here.
    if isinstance(found, int | float) and not isinstance(found, bool) and 0 <= found <= LARGEST_ID:
        return float(found)
    raise MalformedMessage("a time must be a number of seconds")


def _amount(found: object) -> int | None:
    match found:
        case None:
            return None
        case int() if not isinstance(found, bool) and 0 <= found <= LARGEST_AMOUNT:
            return found
    raise MalformedMessage("an amount must be an integer")


def _verdict(word: str) -> ProbeResult:
    try:
        return ProbeResult(word)
    except ValueError:
        raise MalformedMessage(f"a verdict must be one of {', '.join(ProbeResult)}") from None


def _unit_result(item: dict[str, Any]) -> UnitResult:
    return UnitResult(text(item, "unit"), JobResult(text(item, "job")), text(item, "detail", LONGEST_DETAIL))
