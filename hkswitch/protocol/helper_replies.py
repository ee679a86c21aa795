"""What the daemon reads of the helper's lines. Pure: no I/O, and nothing that root imports.

A helper may be of another version, and may be on another host: keys and messages that are not known are
passed over, and everything else is checked like any input.
"""

from typing import Any, TypeVar

from hkswitch.model.unit_state import ActiveState, JobResult, LoadState, ProbeResult, UnitResult, UnitState
from hkswitch.protocol.helper import (
    LONGEST_DETAIL,
    LONGEST_TOKEN,
    Accepted,
    Complete,
    ConfigTold,
    Finished,
    GroupTold,
    Hello,
    Lost,
    Pong,
    ProbeTold,
    Refused,
    Reply,
    StatesTold,
    Told,
)
from hkswitch.protocol.json_lines import (
    LONGEST_NAME,
    Malformed,
    boolean,
    number,
    objects,
    parse_object,
    strings,
    text,
)

_State = TypeVar("_State", UnitState, ProbeTold)


def parse_reply(line: bytes) -> Reply | None:
    """The helper's message in a line, None for one of a type that is not known; raises `Malformed`."""
    body = parse_object(line)
    kind = text(body, "type") if "type" in body else ""
    match kind:
        case "":
            raise Malformed("no type")
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
            return ConfigTold(text(body, "problem", LONGEST_DETAIL))
        case "group" | "states" | "complete" | "lost":
            return _parse_told(kind, number(body, "epoch"), body)
    return None


def _parse_told(kind: str, epoch: int, body: dict[str, Any]) -> Told:
    match kind:
        case "group":
            token = text(body, "token", LONGEST_TOKEN)
            return GroupTold(epoch, text(body, "group"), token, strings(body, "units"))
        case "states":
            units = [_unit_state(row) for row in _rows(body, "units", 4)]
            probes = [_probe(row) for row in _rows(body, "probes", 3)]
            return StatesTold(epoch, _once("unit", units), _once("group", probes))
        case "complete":
            return Complete(epoch)
        case _:
            return Lost(epoch, text(body, "reason", LONGEST_DETAIL))


def _rows(body: dict[str, Any], key: str, length: int) -> list[list[Any]]:
    match body.get(key):
        case list(rows) if all(isinstance(row, list) and len(row) == length for row in rows):
            return rows
    raise Malformed(f"{key!r} must be a list of lists of {length}")


def _once(what: str, told: list[tuple[str, _State]]) -> dict[str, _State]:
    if len(found := dict(told)) != len(told):
        raise Malformed(f"a {what} stands twice")
    return found


def _unit_state(row: list[Any]) -> tuple[str, UnitState]:
    match row:
        case [str(unit), str(load), str(active), str(sub)] if max(map(len, row)) <= LONGEST_NAME:
            return unit, UnitState(LoadState(load), ActiveState(active), sub)
    raise Malformed("a unit's state must be four words")


def _probe(row: list[Any]) -> tuple[str, ProbeTold]:
    match row:
        case [str(group), None | str() as verdict, str(reason)] if len(group) <= LONGEST_NAME:
            if len(reason) <= LONGEST_DETAIL:
                return group, ProbeTold(None if verdict is None else _verdict(verdict), reason)
    raise Malformed("what a probe says must be a group, a verdict and a reason")


def _verdict(word: str) -> ProbeResult:
    try:
        return ProbeResult(word)
    except ValueError:
        raise Malformed(f"a verdict must be one of {', '.join(ProbeResult)}") from None


def _unit_result(item: dict[str, Any]) -> UnitResult:
    return UnitResult(text(item, "unit"), JobResult(text(item, "job")), text(item, "detail", LONGEST_DETAIL))
