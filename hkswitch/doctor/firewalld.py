"""Asks firewalld for the zones of the phones' packets, and what these allow.

A packet belongs to the zone of its source if there is one, or else to that of its interface. Of the rich
rules of a zone, only those that deny are read, as they come before the ports that the zone lists as open.
"""

import re
import shlex
from collections.abc import Iterator
from typing import Final, NamedTuple

from hkswitch.doctor.finding import Check, Finding, ok, skip, todo
from hkswitch.doctor.programs import Completed, NotInstalled, run
from hkswitch.doctor.traffic import IPV6, MDNS_PORT, Traffic, has_port, network_of, ports_in

NOT_RUNNING: Final = 252  # firewall-cmd(1)
RELOAD: Final = "`sudo firewall-cmd --reload`"


class Zone(NamedTuple):
    """A zone that is active: it is bound to interfaces or to sources."""

    name: str
    interfaces: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()


async def found(traffic: Traffic) -> Finding | None:
    """Ask firewalld; None if it is not running."""
    try:
        state = await run("firewall-cmd", "--state")
    except NotInstalled:
        return None
    if state.code == NOT_RUNNING:
        return None
    if state.code != 0:
        return _unanswered(state)
    if (await run("firewall-cmd", "--query-panic")).code == 0:
        advice = "run `sudo firewall-cmd --panic-off`"
        return todo(Check.FIREWALL, "firewalld is in panic mode, in which it drops all packets", advice)
    zones = zones_of((await run("firewall-cmd", "--get-active-zones")).output, traffic)
    if "" in zones:
        default = (await run("firewall-cmd", "--get-default-zone")).output.strip()
        zones = tuple(dict.fromkeys(zone or default for zone in zones))
    for zone in zones:
        listed = await run("firewall-cmd", f"--zone={zone}", "--list-all")
        if listed.code != 0:
            return _unanswered(listed)
        if (finding := judged(zone, listed.output, traffic)) is not None:
            return finding
    return ok(Check.FIREWALL, f"firewalld allows {traffic} in zone {' and '.join(zones)}")


def zones_of(active: str, traffic: Traffic) -> tuple[str, ...]:
    """Return the zones of the phones' packets, empty for the default zone.

    `active`: the output of `firewall-cmd --get-active-zones`.
    """
    zones = tuple(_active_zones(active))
    family = traffic.families[0]
    networks = [(zone, network) for zone in zones for network in map(network_of, zone.sources)]
    of_source = [zone.name for zone, network in networks if network and traffic.comes_from(network, family)]
    if of_source:
        return tuple(dict.fromkeys(of_source))
    of_interface = {interface: zone.name for zone in zones for interface in zone.interfaces}
    return tuple(dict.fromkeys(of_interface.get(each, "") for each in traffic.interfaces or ("",)))


def judged(zone: str, listed: str, traffic: Traffic) -> Finding | None:
    """Judge a zone by the output of `firewall-cmd --list-all`; None if it allows both ports.

    Raises ValueError for output that cannot be read.
    """
    settings = dict(re.findall(r"^ *([a-z-]+):(.*)$", listed, re.MULTILINE))
    if "target" not in settings:
        raise ValueError(f"cannot read the output of firewall-cmd about zone {zone}")
    for rule in re.findall(r"^\s*(rule .*)$", listed, re.MULTILINE):
        if denies(rule, traffic):
            options = f"--permanent --zone={zone} --remove-rich-rule={shlex.quote(rule)}"
            what = f"firewalld is active, and a rich rule of zone {zone} may deny {traffic}"
            advice = f"unless you want that, run `sudo firewall-cmd {options}` and {RELOAD}"
            return todo(Check.FIREWALL, what, advice)
    unlisted = [
        f"{port}/{protocol}" for protocol, port in traffic.ports if not _lists(settings, protocol, port)
    ]
    return missing(zone, unlisted) if unlisted and settings["target"].strip() != "ACCEPT" else None


def missing(zone: str, unlisted: list[str]) -> Finding:
    """Return the finding for a zone that does not list these ports as open."""
    options = " ".join(f"--add-port={port}" for port in unlisted)
    commands = f"`sudo firewall-cmd --permanent --zone={zone} {options}` and {RELOAD}"
    what = f"firewalld is active, and zone {zone} does not list {' and '.join(unlisted)} as open"
    return todo(Check.FIREWALL, what, f"unless another rule allows that, run {commands}")


def denies(rule: str, traffic: Traffic) -> bool:
    """Whether a rich rule may deny packets from phones: it names no other ports, and no other sources."""
    families = "|".join("ipv6" if family == IPV6 else "ipv4" for family in traffic.families)
    if not re.search(r"\s(drop|reject)(\s|$)", rule) or re.search(rf'\bfamily="(?!{families})', rule):
        return False
    if re.search(r'\bsource (mac|ipset)="|\b(protocol value|icmp-type name)="', rule):
        return False
    if (source := re.search(r'\bsource address="([^"]+)"', rule)) and not _is_of_phones(source[1], traffic):
        return False
    if port := re.search(r'\bport port="([^"]+)" protocol="([^"]+)"', rule):
        return any(
            port[2] == protocol and has_port(ports_in(port[1]), number) for protocol, number in traffic.ports
        )
    service = re.search(r'\bservice name="([^"]+)"', rule)
    return service is None or service[1] == "mdns"


def _is_of_phones(source: str, traffic: Traffic) -> bool:
    network = network_of(source)
    return network is not None and any(traffic.comes_from(network, family) for family in traffic.families)


def _active_zones(printed: str) -> Iterator[Zone]:
    """Yield the zones: each has a line of its own, and indented ones for what is bound to it."""
    for block in re.split(r"^(?=\S)", printed, flags=re.MULTILINE):
        name, *bound = block.split("\n")
        values = {
            key.strip(): tuple(value.split()) for key, _, value in (line.partition(":") for line in bound)
        }
        if name.strip():
            yield Zone(name.split()[0], values.get("interfaces", ()), values.get("sources", ()))


def _lists(settings: dict[str, str], protocol: str, port: int) -> bool:
    """Whether a zone lists a port as open: itself, in a range, or as the service mdns."""
    if port == MDNS_PORT and "mdns" in settings.get("services", "").split():
        return True
    ports = [each.removesuffix(f"/{protocol}") for each in settings.get("ports", "").split()]
    return has_port(ports_in(" ".join(ports)), port)


def _unanswered(completed: Completed) -> Finding:
    return skip(Check.FIREWALL, f"firewall-cmd failed: {completed.last_line}")
