"""Asks firewalld for the zones of the phones' packets, and what these and the policies in front allow.

A packet belongs to the zone of its source if there is one, or else to that of its interface. Of rich rules
and policies, only those that deny are read, as they come before the ports that a zone lists as open. Direct
rules are in tables of iptables, which are judged like any others.
"""

import re
import shlex
from collections.abc import Iterator
from typing import Final, NamedTuple

from hkswitch.doctor.finding import Check, Finding, ok, skip, todo
from hkswitch.doctor.packet_filter import Traffic, has_port, network_of, ports_in
from hkswitch.doctor.programs import NotInstalled, run
from hkswitch.model.errors import Failure
from hkswitch.network.mdns_port import MDNS_PORT

NOT_RUNNING: Final = 252  # firewall-cmd(1)
DENYING_TARGETS: Final = frozenset({"DROP", "REJECT", "%%REJECT%%"})


class Listed(NamedTuple):
    """A zone or a policy, as firewall-cmd lists it."""

    kind: str
    name: str
    settings: dict[str, list[str]]
    rich_rules: list[str]

    def values(self, key: str) -> list[str]:
        return self.settings.get(key, [])


async def found(traffic: Traffic) -> Finding | None:
    """Ask firewalld; None if it is not running."""
    try:
        if (await run("firewall-cmd", "--state")).code == NOT_RUNNING:
            return None
        zones = zones_of(await _ask("--get-active-zones"), traffic)
        if (await run("firewall-cmd", "--query-panic")).code == 0:
            advice = "run `sudo firewall-cmd --panic-off`"
            return todo(Check.FIREWALL, "firewalld is in panic mode, in which it drops all packets", advice)
        listed = [await _ask("--list-all", *([f"--zone={zone}"] if zone else [])) for zone in zones]
        return judged("\n".join(listed), await _ask("--list-all-policies"), traffic)
    except NotInstalled:
        return None
    except Failure as failure:
        return skip(Check.FIREWALL, str(failure))


async def _ask(*options: str) -> str:
    answer = await run("firewall-cmd", *options)
    if answer.code != 0:
        raise Failure(f"firewall-cmd failed: {answer.last_line}")
    return answer.output


def zones_of(active: str, traffic: Traffic) -> tuple[str, ...]:
    """Return the zones of the phones' packets, empty for the default zone.

    `active`: the output of `firewall-cmd --get-active-zones`.
    """
    zones = tuple(_listed("zone", active))
    networks = [(zone, network) for zone in zones for network in map(network_of, zone.values("sources"))]
    of_interface = {interface: zone.name for zone in zones for interface in zone.values("interfaces")}
    names: list[str] = []
    for family in traffic.families:
        comes = [(zone.name, traffic.comes_from(each, family)) for zone, each in networks if each]
        names += [name for name, is_theirs in comes if is_theirs is not False]
        if not any(is_theirs for _, is_theirs in comes):
            names += [of_interface.get(each, "") for each in traffic.interfaces or ("",)]
    return tuple(dict.fromkeys(names))


def judged(zones: str, policies: str, traffic: Traffic) -> Finding:
    """Judge what `firewall-cmd --list-all` and `--list-all-policies` print; raises ValueError."""
    asked = tuple(_listed("zone", zones))
    names = [zone.name for zone in asked]
    if not asked or not all(zone.values("target") for zone in asked):
        raise ValueError("cannot read the output of firewall-cmd about its zones")
    in_front = [
        policy
        for policy in _listed("policy", policies)
        if "HOST" in policy.values("egress-zones") and {"ANY", *names} & {*policy.values("ingress-zones")}
    ]
    findings = [_denying(each, traffic) for each in (*in_front, *asked)]
    findings += [_closed(zone, traffic) for zone in asked]
    allows = ok(Check.FIREWALL, f"firewalld allows {traffic} in zone {' and '.join(dict.fromkeys(names))}")
    return next((finding for finding in findings if finding is not None), allows)


def denies(rule: str, traffic: Traffic) -> bool:
    """Whether a rich rule may deny packets from phones: it names neither other ports nor other sources."""
    if not re.search(r"\s(drop|reject)(\s|$)", rule):
        return False
    source = re.search(r'\ssource address="([^"]+)"', rule)
    network = network_of(source[1]) if source else None
    if network and not any(traffic.comes_from(network, each) is not False for each in traffic.families):
        return False
    port = re.search(r'\sport port="([^"]+)" protocol="(tcp|udp)"', rule)
    return port is None or any(
        port[2] == protocol and has_port(ports_in(port[1]), number) for protocol, number in traffic.ports
    )


def _listed(kind: str, printed: str) -> Iterator[Listed]:
    """Yield what firewall-cmd lists: each has a line of its own, and indented ones for its settings."""
    for block in re.split(r"^(?=\S)", printed, flags=re.MULTILINE):
        if name := re.match(r"\S+", block):
            settings = {key: value.split() for key, value in re.findall(r"(?m)^ +([a-z-]+):(.*)$", block)}
            yield Listed(kind, name[0], settings, re.findall(r"(?m)^\s+(rule .*)$", block))


def _denying(listed: Listed, traffic: Traffic) -> Finding | None:
    """Return the finding for a rich rule, or the target of a policy, that may deny packets."""
    changes = [
        f"--remove-rich-rule={shlex.quote(rule)}" for rule in listed.rich_rules if denies(rule, traffic)
    ]
    if listed.kind == "policy" and DENYING_TARGETS & {*listed.values("target")}:
        changes.append("--set-target=CONTINUE")
    if not changes:
        return None
    what = f"firewalld is active, and {listed.kind} {listed.name} may deny {traffic}"
    return todo(Check.FIREWALL, what, f"unless you want that, run {_commands(listed, *changes)}")


def _closed(zone: Listed, traffic: Traffic) -> Finding | None:
    """Return the finding for a zone that does not list both ports as open."""
    closed = [f"{port}/{protocol}" for protocol, port in traffic.ports if not _lists(zone, protocol, port)]
    if not closed or zone.values("target") == ["ACCEPT"]:
        return None
    what = f"firewalld is active, and zone {zone.name} does not list {' and '.join(closed)} as open"
    commands = _commands(zone, " ".join(f"--add-port={port}" for port in closed))
    return todo(Check.FIREWALL, what, f"unless another rule allows that, run {commands}")


def _commands(listed: Listed, *changes: str) -> str:
    change = f"sudo firewall-cmd --permanent --{listed.kind}={listed.name}"
    return " and ".join((*(f"`{change} {each}`" for each in changes), "`sudo firewall-cmd --reload`"))


def _lists(zone: Listed, protocol: str, port: int) -> bool:
    """Whether a zone lists a port as open: itself, in a range, or as the service mdns."""
    if port == MDNS_PORT and "mdns" in zone.values("services"):
        return True
    ports = [each.removesuffix(f"/{protocol}") for each in zone.values("ports")]
    return has_port(ports_in(" ".join(ports)), port)
