"""Reads the output of `ufw status verbose`.

ufw applies the first of its rules that fits, in the order in which it lists them. It allows mDNS by default
(/etc/ufw/before.rules), so that only the bridge's own port needs a rule.
"""

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from hkswitch.doctor.finding import Check, Finding, ok, todo
from hkswitch.doctor.programs import Completed, NotInstalled, run
from hkswitch.doctor.traffic import IPV4, IPV6, MDNS_PORT, Traffic, has_port, network_of, ports_in
from hkswitch.network.endpoint import Network

_RULE: Final = re.compile(
    r"(?:(?P<ports>\d[\d,:]*)|Anywhere)(?:/tcp)?(?: \([^)]*\))*(?: on (?P<interface>\S+))?"
    r" +(?P<action>ALLOW|LIMIT|DENY|REJECT)(?: IN)? {2,}"
    r"(?P<source>Anywhere|[\da-fA-F.:]+(?:/[\d.]+)?)(?:/tcp)?(?P<v6> \(v6\))?"
    r"(?: +\(log(?:-all)?\))? *(?:#.*)?"
)
"""A rule for incoming TCP packets. A rule for a source port is none that phones' packets fit."""

EVERYTHING: Final = {IPV4: "0.0.0.0/0", IPV6: "::/0"}


class UfwRule(NamedTuple):
    """A rule of ufw that names the bridge's port, or no port."""

    allows: bool
    interface: str
    """Empty for all of them."""
    source: Network
    shown: str
    """The source and the interface, in ufw's words."""


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
    port, rules = f"{traffic.port}/tcp", tuple(_rules(status.output, traffic.port))
    firsts = [_first(rules, interface, traffic) for interface in traffic.interfaces or ("",)]
    if any(rule is not None and not rule.allows for first in firsts for rule in first.values()):
        advice = (
            f"delete it (`sudo ufw status numbered` lists the rules), or run {_commands('prepend ', traffic)}"
        )
        return todo(Check.FIREWALL, f"ufw is active, and a rule denies {port}", advice)
    # Phones need only one version of IP: IPv4, if the bridge has an address of it.
    deciding = [first[traffic.families[0]] for first in firsts]
    if None not in deciding or "Default: allow (incoming)" in status.output:
        return ok(Check.FIREWALL, f"ufw allows {port}{_only_from(deciding)}, and {MDNS_PORT}/udp by default")
    others = dict.fromkeys(rule.shown for rule in rules if rule.allows)
    but = f"{port} only from {' and '.join(others)}" if others else f"no rule names {port}"
    what = f"ufw is active, and allows {MDNS_PORT}/udp by default, but {but}"
    return todo(Check.FIREWALL, what, f"run {_commands('', traffic)}")


def _only_from(deciding: list[UfwRule | None]) -> str:
    sources = {str(rule.source) for rule in deciding if rule is not None}
    return "" if sources & {*EVERYTHING.values()} or not sources else f" from {' and '.join(sorted(sources))}"


def _commands(how: str, traffic: Traffic) -> str:
    """Return the commands that allow the port on the bridge's interfaces; `how`: where among the rules."""
    rules = [f"allow in on {name} to any port {traffic.port} proto tcp" for name in traffic.interfaces]
    return " and ".join(f"`sudo ufw {how}{rule}`" for rule in rules or [f"allow {traffic.port}/tcp"])


def _first(rules: tuple[UfwRule, ...], interface: str, traffic: Traffic) -> dict[str, UfwRule | None]:
    """Return, for each IP version of the bridge, the rule that decides about phones."""
    here = [rule for rule in rules if rule.interface in {"", interface}]
    return {
        family: next((rule for rule in here if traffic.comes_from(rule.source, family)), None)
        for family in traffic.families
    }


def _rules(status: str, port: int) -> Iterator[UfwRule]:
    """Yield the rules for incoming packets to our port, or to every port."""
    for line in filter(None, map(_RULE.fullmatch, map(str.strip, status.split("\n")))):
        everything = EVERYTHING[IPV6 if line["v6"] else IPV4]
        source = network_of(everything if line["source"] == "Anywhere" else line["source"])
        if source is not None and (not line["ports"] or has_port(ports_in(line["ports"]), port)):
            interface = line["interface"] or ""
            shown = f"{line['source']}{line['v6'] or ''}{interface and f' on {interface}'}"
            yield UfwRule(line["action"] in {"ALLOW", "LIMIT"}, interface, source, shown)
