"""Parses the helper's messages, for the daemon. Pure: no I/O. Root does not import it.

A helper may have another version, on another host: unknown keys and messages are ignored, and everything
else is checked like any untrusted input. Free text becomes one printable line, and a name that is not
printable is refused, so that no part of the daemon has to wonder what a host may have written.
"""

from typing import Any, Final, TypeVar

from hkswitch.model.elsewhere import Trait
from hkswitch.model.printable import printable_line
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
_Items = TypeVar("_Items", list[list[Any]], list[dict[str, Any]], tuple[str, ...])

LARGEST_AMOUNT: Final = 2**63
"""Of CPU time in nanoseconds, and of memory in bytes."""

LONGEST_VERSION: Final = 64
LONGEST_SUB_STATE: Final = 200
"""Characters: systemd's are words, and those of containers may be advice."""

MOST_ROWS: Final = 256
"""Of one kind in a message: the helper sends at most `MOST_STATES` at once, or the results of 128 members."""


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
            return Hello(printable_line(text(body, "version"), LONGEST_VERSION), protocol, now)
        case "pong":
            return Pong(number(body, "id"))
        case "accepted":
            return Accepted(number(body, "id"))
        case "finished":
            results = tuple(_unit_result(item) for item in _few(objects(body, "units"), "units"))
            return Finished(number(body, "id"), results, boolean(body, "superseded"))
        case "refused":
            request_id = None if body.get("id", "") is None else number(body, "id")
            return Refused(request_id, _words(body, "reason"))
        case "config":
            return ConfigUpdate(_words(body, "problem"))
        case "group" | "states" | "samples" | "complete" | "lost":
            return _parse_update(kind, number(body, "epoch"), body)
    return None


def _parse_update(kind: str, epoch: int, body: dict[str, Any]) -> Update:
    match kind:
        case "group":
            return _group(epoch, body)
        case "states":
            units = [_unit_state(row) for row in _few(_rows(body, "units", 4), "units")]
            probes = [_probe(row) for row in _few(_rows(body, "probes", 3), "probes")]
            rows = _rows(body, "failures", 4) if "failures" in body else []
            failures = [_failure(row) for row in _few(rows, "failures")]
            return StatesUpdate(epoch, _once("unit", units), _once("group", probes), _once("unit", failures))
        case "samples":
            usages = tuple(_usage(row) for row in _rows(body, "usages", 5))
            return SamplesUpdate(epoch, _seconds(body.get("at_seconds")), usages)
        case "complete":
            return Complete(epoch)
        case _:
            return Lost(epoch, _words(body, "reason"))


def _group(epoch: int, body: dict[str, Any]) -> GroupUpdate:
    """Return a group; a newer helper may know more actions and traits, which do not matter here."""
    token = _name(text(body, "token", LONGEST_TOKEN))
    units = tuple(map(_name, _few(strings(body, "units"), "units")))
    update = GroupUpdate(epoch, _name(text(body, "group")), token, units)
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


def _few(items: _Items, key: str) -> _Items:
    """Return a list if it is not too long: no message may take long to process."""
    if len(items) > MOST_ROWS:
        raise MalformedMessage(f"more than {MOST_ROWS} {key}")
    return items


def _name(found: str) -> str:
    """Return a name of the host's: of a group, a member or a run, or a token."""
    # TRUST: units, containers and ids have ASCII names. Any other could be a terminal's escape sequence, or
    # look like another name.
    if found.isascii() and found.isprintable():
        return found
    raise MalformedMessage("a name must be printable ASCII text")


def _words(body: dict[str, Any], key: str) -> str:
    # TRUST: free text of another host, for the log, terminals and files.
    return printable_line(text(body, key, LONGEST_DETAIL))


def _once(what: str, rows: list[tuple[str, _State]]) -> dict[str, _State]:
    if len(found := dict(rows)) != len(rows):
        raise MalformedMessage(f"duplicate {what}")
    return found


def _unit_state(row: list[Any]) -> tuple[str, UnitState]:
    match row:
        case [str(unit), str(load), str(active), str(sub)] if max(map(len, row)) <= LONGEST_NAME:
            shown = printable_line(sub, LONGEST_SUB_STATE)
            return _name(unit), UnitState(LoadState(load), ActiveState(active), shown)
    raise MalformedMessage("a unit's state must be four words")


def _probe(row: list[Any]) -> tuple[str, ProbeUpdate]:
    match row:
        case [str(group), None | str() as verdict, str(reason)] if len(group) <= LONGEST_NAME:
            if len(reason) <= LONGEST_DETAIL:
                result = None if verdict is None else _verdict(verdict)
                return _name(group), ProbeUpdate(result, printable_line(reason))
    raise MalformedMessage("a probe's result must be a group, a verdict and a reason")


def _failure(row: list[Any]) -> tuple[str, UnitFailure | None]:
    match row:
        case [str(unit), str(run), bool(is_requested), str(reason)] if len(reason) <= LONGEST_DETAIL:
            if max(len(unit), len(run)) <= LONGEST_NAME:
                failure = UnitFailure(_name(run), is_requested, printable_line(reason)) if run else None
                return _name(unit), failure
    raise MalformedMessage("a failure must be a unit, a run, whether it was requested, and a reason")


def _usage(row: list[Any]) -> Usage:
    match row:
        case [str(member), str(run), since, cpu, memory] if max(len(member), len(run)) <= LONGEST_NAME:
            return Usage(_name(member), _name(run), _seconds(since), _amount(cpu), _amount(memory))
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
    # An action of commands has a result of its own, whose name is free text.
    unit = printable_line(text(item, "unit"), LONGEST_NAME)
    return UnitResult(unit, JobResult(text(item, "job")), _words(item, "detail"))
