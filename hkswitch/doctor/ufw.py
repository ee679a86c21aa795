"""What ufw lets in, by `ufw status verbose`. It lets in mDNS by itself (/etc/ufw/before.rules)."""

import re
from typing import Final

from hkswitch.doctor.finding import Finding, Point, ok, unknown, wrong
from hkswitch.doctor.packets import Packet, ports_of
from hkswitch.doctor.programs import NotInstalled, Ran, run

_PORTS: Final = re.compile(r"([\d:,]+)(?:/(tcp|udp))?")
_BESIDE: Final = re.compile(r"( \([^)]*\)| on \S+)+$")
_COLUMNS: Final = re.compile(r" {2,}")


async def ufw(packets: tuple[Packet, ...]) -> Finding | None:
    """What it does with these packets, None if it does not run or tells nothing."""
    try:
        return status_lets_in(await run("ufw", "status", "verbose"), packets)
    except NotInstalled:
        return None


def status_lets_in(ran: Ran, packets: tuple[Packet, ...]) -> Finding | None:
    """The same, by what it said."""
    if ran.code != 0 or "Status: active" not in ran.output:
        return None
    if "Default: allow (incoming)" in ran.output:
        return ok(Point.FIREWALL, "ufw lets in what it does not know")
    allowed = _allowed(ran.output)
    packet = next(packet for packet in packets if packet.protocol == "tcp")
    if any(_covers(to, packet) for to in allowed):
        return ok(Point.FIREWALL, f"ufw lets in {ports_of(packets)}")
    if not all(_PORTS.fullmatch(to) for to in allowed):
        return unknown(Point.FIREWALL, "ufw has rules without ports", f"look whether they let in {packet}")
    return wrong(Point.FIREWALL, f"ufw keeps out {packet}", f"`sudo ufw allow {packet}`")


def _allowed(status: str) -> list[str]:
    """What is let in: `51826/tcp`, `Samba`, `Anywhere`."""
    rows = (_COLUMNS.split(line) for line in status.split("\n"))
    actions = ("ALLOW", "ALLOW IN", "LIMIT", "LIMIT IN")
    return [_BESIDE.sub("", row[0]) for row in rows if len(row) > 2 and row[1] in actions]


def _covers(to: str, packet: Packet) -> bool:
    found = _PORTS.fullmatch(to)
    if found is None or found[2] not in {None, packet.protocol}:
        return False
    ranges = (part.partition(":") for part in found[1].split(","))
    return any(int(first) <= packet.port <= int(last or first) for first, _, last in ranges if first)
