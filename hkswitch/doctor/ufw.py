"""Reads the output of `ufw status verbose`.

ufw applies the first of its rules that fits, in the order in which it lists them. It allows mDNS queries by
default (/etc/ufw/before.rules), and the bridge's answers unless it denies outgoing packets.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from hkswitch.doctor.finding import Check, Finding, ok, todo
from hkswitch.doctor.packet_filter import Packet, Ports, Traffic, has_port, network_of, ports_in
from hkswitch.doctor.programs import Completed, NotInstalled, run
from hkswitch.network.endpoint import Network
from hkswitch.network.mdns_port import MDNS_PORT

_ACTION: Final = re.compile(r".*? (ALLOW|LIMIT|DENY|REJECT) (IN|OUT|FWD) ")

_RULE: Final = re.compile(
    r"(?:(?P<ports>\d{1,5}(?:[,:]\d{1,5})*)|Anywhere)(?:/(?P<protocol>tcp|udp))?"
    r"(?: \([^()]*(?: \(v6\))?\))?(?: \(v6\))?(?: on (?P<interface>\S+))? +[A-Z]+ IN +"
    r"(?P<source>Anywhere|[\da-fA-F.:]+(?:/\d+)?)(?:/(?:tcp|udp))?(?P<v6> \(v6\))?"
    r"(?: +\(log(?:-all)?\))?(?: +#.*)?"
)
"""A rule that is understood: for ports or all of them, from a network, an address or anywhere."""


class UfwRule(NamedTuple):
    """A rule for incoming packets; what is empty is not restricted. Without a source it is not understood."""

    allows: bool
    protocol: str = ""
    ports: Ports = ()
    interface: str = ""
    source: Network | None = None

    def fits(self, packet: Packet, traffic: Traffic) -> bool | None:
        """Whether a packet fits the rule; None: perhaps."""
        has_other_port = bool(self.ports) and not has_port(self.ports, packet.port)
        if has_other_port or self.protocol not in {"", packet.protocol}:
            return False
        if self.interface not in {"", packet.interface}:
            return None if not packet.interface or self.interface.endswith("+") else False
        return None if self.source is None else traffic.comes_from(self.source, packet.family)


async def found(traffic: Traffic) -> Finding | None:
    """Ask ufw; None if it is not active, not installed, or did not answer."""
    try:
        return judged(await run("ufw", "status", "verbose"), traffic)
    except NotInstalled:
        return None


def judged(status: Completed, traffic: Traffic) -> Finding | None:
    """Judge the output of `ufw status verbose`; None if ufw is not active, or did not answer."""
    if status.code != 0 or "Status: active" not in status.output:
        return None
    port, rules = f"{traffic.port}/tcp", tuple(_rules(status.output))
    packets = (packet for family in traffic.families for packet in traffic.packets(family))
    closed = [each for each in packets if each.protocol == "tcp" and not _allow(rules, each, traffic)]
    ons = [f"in on {each.interface} to any port {each.port} proto tcp" for each in closed if each.interface]
    commands = dict.fromkeys(f"`sudo ufw prepend allow {on}`" for on in ons or ([port] if closed else []))
    what = f"ufw is active, and does not plainly allow {port}"
    if not re.search(rf"allow \(outgoing\)|\n{MDNS_PORT}/udp +ALLOW OUT +Anywhere\s*\n", status.output):
        what = f"ufw is active, and denies outgoing packets by default, such as answers from {MDNS_PORT}/udp"
        commands[f"`sudo ufw allow out {MDNS_PORT}/udp`"] = None
    if commands:
        return todo(Check.FIREWALL, what, f"unless a rule of yours allows that, run {' and '.join(commands)}")
    return ok(Check.FIREWALL, f"ufw allows {port}, and {MDNS_PORT}/udp by default")


def _allow(rules: Iterable[UfwRule], packet: Packet, traffic: Traffic) -> bool:
    """Whether a rule plainly allows a packet, and none before it may deny it."""
    for rule in rules:
        fits = rule.fits(packet, traffic)
        if fits or (fits is None and not rule.allows):
            return rule.allows
    return False


def _rules(status: str) -> Iterator[UfwRule]:
    """Yield the rules for incoming packets."""
    for line in status.partition("\n--  ")[2].split("\n")[1:]:
        action, way = read.groups() if (read := _ACTION.match(line)) else ("DENY", "IN")
        if line.strip() and way == "IN":
            yield _rule(_RULE.fullmatch(line.strip()), UfwRule(action == "ALLOW"))


def _rule(read: re.Match[str] | None, rule: UfwRule) -> UfwRule:
    if read is None:
        return rule
    everything = "::/0" if read["v6"] else "0.0.0.0/0"
    source = network_of(everything if read["source"] == "Anywhere" else read["source"])
    ports = ports_in(read["ports"] or "")
    return UfwRule(rule.allows, read["protocol"] or "", ports, read["interface"] or "", source)
