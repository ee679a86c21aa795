"""What firewalld lets in, by what firewall-cmd prints of the zones of the bridge's interfaces."""

from collections.abc import Iterable, Mapping
from typing import Final

from hkswitch.doctor.finding import WITH_SUDO, Finding, Point, ok, unknown, wrong
from hkswitch.doctor.packets import Packet, ports_of
from hkswitch.doctor.programs import NotInstalled, Ran, run

PROGRAM: Final = "firewall-cmd"


async def firewalld(packets: tuple[Packet, ...]) -> Finding | None:
    """What it does with these packets, None if it does not run."""
    try:
        state = await run(PROGRAM, "--state")
    except NotInstalled:
        return None
    if state.code != 0:
        return None
    for interface in dict.fromkeys(packet.interface for packet in packets):
        asked, zone, listed = await _zone_of(interface)
        if asked.code != 0 or listed.code != 0:
            complaint = (listed if listed.code else asked).complaint
            return unknown(Point.FIREWALL, f"firewalld: {complaint}", WITH_SUDO)
        names = _settings(listed.output).get("services", "").split()
        services = {name: (await run(PROGRAM, f"--info-service={name}")).output for name in names}
        ours = [packet for packet in packets if packet.interface == interface]
        if (finding := zone_lets_in(zone, listed.output, services, ours)) is not None:
            return finding
    return ok(Point.FIREWALL, f"firewalld lets in {ports_of(packets)}")


def zone_lets_in(
    zone: str, text: str, services: Mapping[str, str], packets: Iterable[Packet]
) -> Finding | None:
    """What a zone keeps out, None if nothing.

    `text` is what `--list-all` prints of the zone, `services` what `--info-service` does of its services.
    """
    settings = _settings(text)
    if settings.get("target") == "ACCEPT":
        return None
    described = (text, *services.values())
    opened = {port for each in described for port in _settings(each).get("ports", "").split()}
    closed = ports_of(packet for packet in packets if not any(_covers(port, packet) for port in opened))
    if not closed:
        return None
    if "accept" in text.partition("rich rules:")[2]:
        return unknown(Point.FIREWALL, f"rich rules of firewalld's zone {zone} may let in {closed}")
    options = " ".join(f"--add-port={port}" for port in closed.split(" and "))
    command = f"`sudo firewall-cmd --permanent --zone={zone} {options} && sudo firewall-cmd --reload`"
    return wrong(Point.FIREWALL, f"firewalld's zone {zone} keeps out {closed}", command)


async def _zone_of(interface: str) -> tuple[Ran, str, Ran]:
    """What was said of an interface's zone, its name, and what is in it; the default one if it has none."""
    asked = await run(PROGRAM, f"--get-zone-of-interface={interface}") if interface else Ran(1, "")
    if asked.code != 0:
        asked = await run(PROGRAM, "--get-default-zone")
    zone = asked.output.strip()
    return asked, zone, await run(PROGRAM, f"--zone={zone}", "--list-all")


def _settings(text: str) -> dict[str, str]:
    """What firewall-cmd prints, a setting a line."""
    pairs = (line.strip().partition(":") for line in text.split("\n") if line.startswith("  "))
    return {name: value.strip() for name, _, value in pairs}


def _covers(port: str, packet: Packet) -> bool:
    """Whether `51826/tcp` or `1025-65535/tcp` is a packet's."""
    numbers, _, protocol = port.partition("/")
    first, _, last = numbers.partition("-")
    if protocol != packet.protocol or not (first + last).isdecimal():
        return False
    return int(first) <= packet.port <= int(last or first)
