"""The other hosts of a report as a table, or one below the other if the terminal is too narrow."""

from collections.abc import Collection, Iterator, Sequence
from typing import Final

from hkswitch.cli.group_table import GAP_CELLS
from hkswitch.cli.layout import cells, duration, wrapped
from hkswitch.cli.styled import StyledText, styled, styled_within
from hkswitch.protocol.host_report import HostReport

HOST_HEADINGS: Final = ("host", "destination", "connection", "round trip", "version")
CONNECTION_COLUMN: Final = HOST_HEADINGS.index("connection")

AWAY: Final = "not connected"
NOT_USED: Final = "not used: no group is on it"
_STYLES: Final = {AWAY: "red", NOT_USED: "dim"}


def host_lines(
    hosts: Sequence[HostReport], used: Collection[str], now_unix_seconds: float, columns: int
) -> Iterator[StyledText]:
    """Yield the lines for a terminal of this width; none without hosts. `used`: hosts that have groups."""
    rows = [_texts(host, used, now_unix_seconds) for host in hosts]
    if not rows:
        return
    widths = [max(map(cells, column)) for column in zip(HOST_HEADINGS, *rows, strict=True)]
    if sum(widths) + GAP_CELLS * (len(widths) - 1) > columns:
        for row in rows:
            yield from _below(row, columns)
        return
    yield styled(_line(HOST_HEADINGS, widths), "bold")
    start = sum(widths[:CONNECTION_COLUMN]) + GAP_CELLS * CONNECTION_COLUMN
    for row in rows:
        yield styled_within(_line(row, widths), _style(row), start, start + len(row[CONNECTION_COLUMN]))


def _texts(host: HostReport, used: Collection[str], now_unix_seconds: float) -> tuple[str, ...]:
    if host.name not in used:
        connection = NOT_USED
    elif not host.connected_since_unix_seconds:
        connection = AWAY
    else:
        connection = f"connected for {duration(now_unix_seconds - host.connected_since_unix_seconds)}"
    round_trip = "" if host.round_trip_ms is None else f"{host.round_trip_ms:.1f} ms"
    return host.name, host.ssh, connection, round_trip, host.version


def _style(row: Sequence[str]) -> str:
    return _STYLES.get(row[CONNECTION_COLUMN], "green")


def _line(texts: Sequence[str], widths: Sequence[int]) -> str:
    padded = (text + " " * (width - cells(text)) for text, width in zip(texts, widths, strict=True))
    return (" " * GAP_CELLS).join(padded).rstrip()


def _below(row: Sequence[str], columns: int) -> Iterator[StyledText]:
    name, destination, connection, round_trip, version = row
    yield styled(f"host {name}", "bold")
    facts = ((destination, ""), (connection, _style(row)), (round_trip, ""), (version, ""))
    for text, style in facts:
        if text:
            yield from (styled(line, style) for line in wrapped(f"  {text}", columns))
