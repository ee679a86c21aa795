"""Whether a firewall of this machine keeps phones out: asks firewalld or ufw, or else nftables or iptables.

Says that something is wrong only where nothing lets a port in. What a router does is not seen from here.
"""

import json
from typing import Final

from hkswitch.doctor.context import ROOT, Situation
from hkswitch.doctor.finding import NO_CONFIG, WITH_SUDO, Finding, Point, ok, unknown, wrong
from hkswitch.doctor.firewalld import firewalld
from hkswitch.doctor.network import interfaces_of
from hkswitch.doctor.packets import ACCEPT, DROP, Chain, Packet, chains, outcomes, ports_of
from hkswitch.doctor.programs import NotInstalled, Ran, run
from hkswitch.doctor.ufw import ufw
from hkswitch.model.errors import Failure
from hkswitch.network.endpoint import Endpoint

MDNS_PORT: Final = 5353
MDNS_GROUPS: Final = {"ip": "224.0.0.251", "ip6": "ff02::fb"}
NOTHING: Final = '{"nftables": []}'


async def firewall(situation: Situation) -> tuple[Finding]:
    """The point of this name."""
    if isinstance(situation.config, Failure):
        return (unknown(Point.FIREWALL, NO_CONFIG),)
    # Another port of the configuration takes effect after a restart.
    served = situation.config.bridge if isinstance(situation.bridge, Failure) else situation.bridge
    packets = packets_of(served.port, situation.place, interfaces_of(situation.place))
    finding = await firewalld(packets) or await ufw(packets)
    return (finding or await _of_kernel(packets, WITH_SUDO if situation.asker != ROOT else ""),)


def packets_of(port: int, place: Endpoint | Failure, interfaces: tuple[str, ...]) -> tuple[Packet, ...]:
    """What a phone sends first."""
    addresses = ("0.0.0.0",) if isinstance(place, Failure) else place.addresses  # noqa: S104 -- only looked at
    families = dict.fromkeys("ip6" if ":" in address else "ip" for address in addresses)
    return tuple(
        packet
        for interface in interfaces or ("",)
        for family in families
        for packet in (
            Packet(family, "udp", MDNS_PORT, MDNS_GROUPS[family], interface),
            Packet(family, "tcp", port, interface=interface),
        )
    )


def nftables_lets_in(ran: Ran, packets: tuple[Packet, ...], advice: str) -> Finding:
    """What `nft -j list ruleset` says. `advice`: what to do if it says nothing."""
    if ran.code != 0:
        return unknown(Point.FIREWALL, f"nft: {ran.complaint}", advice)
    among = chains(json.loads(ran.output or NOTHING))
    doubtful = ""
    for chain in among:
        for packet in filter(chain.hears, packets):
            possible = outcomes(chain, packet, among)
            if possible == {DROP}:
                return wrong(Point.FIREWALL, f"{chain} drops {packet}", _allow(packet, chain))
            if possible != {ACCEPT}:
                doubtful = doubtful or f"{chain} may drop {packet}"
    if doubtful:
        return unknown(Point.FIREWALL, doubtful, f"look whether it lets in {ports_of(packets)}")
    return ok(Point.FIREWALL, f"it lets in {ports_of(packets)}")


def iptables_lets_in(ran: Ran, packets: tuple[Packet, ...], advice: str) -> Finding:
    """What `iptables -S INPUT` says; only that there are no rules can be told from it."""
    if ran.code != 0:
        return unknown(Point.FIREWALL, f"iptables: {ran.complaint}", advice)
    if ran.output.split() == ["-P", "INPUT", "ACCEPT"]:
        return ok(Point.FIREWALL, f"it lets in {ports_of(packets)}")
    return unknown(Point.FIREWALL, "iptables has rules", f"look whether they let in {ports_of(packets)}")


async def _of_kernel(packets: tuple[Packet, ...], advice: str) -> Finding:
    try:
        return nftables_lets_in(await run("nft", "-j", "list", "ruleset"), packets, advice)
    except NotInstalled:
        pass
    try:
        return iptables_lets_in(await run("iptables", "-S", "INPUT"), packets, advice)
    except NotInstalled:
        return ok(Point.FIREWALL, "there is no firewalld, ufw, nft or iptables")


def _allow(packet: Packet, chain: Chain) -> str:
    """How to let a packet in."""
    rule = f"{packet.protocol} dport {packet.port} accept"
    command = f"sudo nft insert rule {chain.family} {chain.table} {chain.name} {rule}"
    return f"`{command}`, and keep it where your rules are, as in /etc/nftables.conf"
