"""Another host in the report of `hkswitch status --json`. Pure: no I/O."""

from typing import Any, Final, NamedTuple

from hkswitch.model.printable import LONGEST_PRINTED, printable, printable_line
from hkswitch.protocol.json_fields import words
from hkswitch.protocol.json_lines import LARGEST_ID, LONGEST_NAME, MalformedMessage, number

MOST_HOSTS: Final = 149
"""Each has a group of its own, or it is not connected."""


class HostReport(NamedTuple):
    """A host that is reached by ssh. `round_trip_ms` is None until a ping was answered."""

    name: str
    ssh: str
    connected_since_unix_seconds: int = 0
    """0 while it is not connected."""
    round_trip_ms: float | None = None
    version: str = ""
    """Of hkswitch there; empty while it is not connected."""
    problem: str = ""
    """Why it is not connected, or what does not work there; empty if all is well."""


def host_object(host: HostReport) -> dict[str, Any]:
    """Return the JSON object of a host. What the host itself said is made printable."""
    return {
        **host._asdict(),
        "version": printable(host.version, LONGEST_NAME),
        "problem": printable_line(host.problem),
    }


def parse_host(item: dict[str, Any]) -> HostReport:
    """Return the host in a JSON object; raises `MalformedMessage`."""
    return HostReport(
        name=words(item, "name"),
        ssh=words(item, "ssh"),
        connected_since_unix_seconds=number(item, "connected_since_unix_seconds", 0),
        round_trip_ms=_milliseconds(item.get("round_trip_ms")),
        version=words(item, "version"),
        problem=words(item, "problem", LONGEST_PRINTED),
    )


def _milliseconds(found: object) -> float | None:
    if found is None:
        return None
    if isinstance(found, int | float) and not isinstance(found, bool) and 0 <= found <= LARGEST_ID:
        return float(found)
    raise MalformedMessage("'round_trip_ms' must be a number")
