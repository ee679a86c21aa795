"""Finds out which firewall is active on this machine, and how to open the bridge's two ports in it.

It does not evaluate how all rules interact. A finding is "ok" only if the firewall denies nothing to the
phones in the bridge's networks, or plainly allows both ports. Otherwise it is "todo" and never "FAIL", as
other rules may allow the ports, too. Only the packets that arrive for this machine's own programs are
considered (the kernel's hook `input`), and not rules that apply earlier. It cannot see a router's firewall.
"""

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Final

from hkswitch.doctor import firewalld, ufw
from hkswitch.doctor.context import Context
from hkswitch.doctor.finding import NO_CONFIG, Check, Finding, Verdict, needs_root, ok, skip, todo
from hkswitch.doctor.network import interfaces_of
from hkswitch.doctor.packet_filter import (
    FIREWALLD,
    ICMPV6,
    IPV4,
    IPV6,
    UFW,
    Chain,
    Packet,
    Traffic,
    chain_of_iptables,
    chains_of_nft,
    traffic_to,
)
from hkswitch.doctor.programs import NotInstalled, path_of, run
from hkswitch.model.errors import Failure

IPTABLES: Final = {IPV4: "iptables", IPV6: "ip6tables"}
LEGACY: Final = {IPV4: "iptables-legacy", IPV6: "ip6tables-legacy"}
LEGACY_TABLES: Final = {
    IPV4: Path("/proc/net/ip_tables_names"),
    IPV6: Path("/proc/net/ip6_tables_names"),
}
"""The kernel's lists of the tables that nft does not show; only root can read them."""


async def firewall(context: Context) -> tuple[Finding]:
    """Check the firewall for the port that the bridge serves on; a changed port takes effect later."""
    if isinstance(context.config, Failure):
        return (skip(Check.FIREWALL, NO_CONFIG),)
    bridge = context.config.bridge if isinstance(context.bridge, Failure) else context.bridge
    traffic = traffic_to(bridge.port, context.endpoint, interfaces_of(context.endpoint))
    asked = {FIREWALLD: await firewalld.found(traffic), UFW: await ufw.found(traffic)}
    managers = {name: finding for name, finding in asked.items() if finding is not None}
    finding = _worst(managers.values())
    if finding is None or finding.verdict is Verdict.OK:
        finding = _worst([*managers.values(), *await _in_kernel(traffic, managers)])
    if finding is None:
        return (ok(Check.FIREWALL, "no active firewall was found"),)
    # These programs need root to answer.
    is_unanswered = finding.verdict is Verdict.SKIP and not context.is_root
    return (needs_root(Check.FIREWALL) if is_unanswered else finding,)


def _worst(findings: Collection[Finding]) -> Finding | None:
    """Return the first finding that is not ok, or the first one."""
    return next((each for each in findings if each.verdict is not Verdict.OK), next(iter(findings), None))


async def _in_kernel(traffic: Traffic, managers: Collection[str]) -> list[Finding]:
    """Judge the kernel's rules, without those that the managers made, or that do not concern the bridge."""
    try:
        listed = await run("nft", "-j", "-t", "list", "ruleset")
    except NotInstalled:
        programs = [IPTABLES[family] for family in traffic.families if path_of(IPTABLES[family])]
        found = [await _by_iptables(program, traffic, managers) for program in programs]
    else:
        if listed.code != 0:
            return [skip(Check.FIREWALL, f"nft failed: {listed.last_line}")]
        found = [judged(chain, traffic) for chain in chains_of_nft(listed.output, traffic, managers)]
    has_legacy = [LEGACY[family] for family in traffic.families if _has_filter(family)]
    found += [await _by_iptables(program, traffic, managers) for program in has_legacy]
    return [each for each in found if each is not None]


async def _by_iptables(program: str, traffic: Traffic, managers: Collection[str]) -> Finding | None:
    if not path_of(program):
        why = f"the kernel has tables of {program}, which nft does not list, and {program} is not installed"
        advice = "install it (on Debian, the package iptables), and run the doctor again"
        return skip(Check.FIREWALL, why, advice)
    listed = await run(program, "-S", "INPUT")
    if listed.code != 0:
        return skip(Check.FIREWALL, f"{program} failed: {listed.last_line}")
    family = IPV6 if program.startswith("ip6") else IPV4
    return judged(chain_of_iptables(family, listed.output, traffic, managers), traffic, program)


def judged(chain: Chain, traffic: Traffic, program: str = "") -> Finding | None:
    """Judge a chain; None if it neither denies nor accepts what the bridge needs. `program`: an iptables."""
    program = program or _program_of(chain)
    title = program or "nftables"
    where = "" if program else f" (chain {chain.name} of table {chain.family} {chain.table})"
    denied = [packet for packet, fate in chain.fates.items() if fate is False]
    if denied:
        advice = _with_iptables(program, denied) if program else _with_nft(chain, denied)
        return todo(Check.FIREWALL, f"{title} is active{where}", f"unless it accepts {traffic}, run {advice}")
    accepts = ok(Check.FIREWALL, f"{title} accepts {traffic}{where}")
    return accepts if True in chain.fates.values() else None


def _program_of(chain: Chain) -> str:
    """Return the iptables that can change a chain of nftables; empty if none can."""
    is_known = (chain.table, chain.name, chain.priority) == ("filter", "INPUT", 0)
    program = IPTABLES.get(chain.family, "") if is_known else ""
    return program if program and path_of(program) else ""


def _with_iptables(program: str, packets: Iterable[Packet]) -> str:
    commands: dict[str, None] = {}
    for packet in packets:
        on = f"-i {packet.interface} " if packet.interface else ""
        to = "" if packet.protocol == ICMPV6 else f"--dport {packet.port} "
        commands[f"`sudo {program} -I INPUT {on}-p {packet.protocol} {to}-j ACCEPT`"] = None
    return f"{' and '.join(commands)}, and save them like your other rules (`sudo {program} -S` shows them)"


def _with_nft(chain: Chain, packets: Iterable[Packet]) -> str:
    place = f"{chain.family} {chain.table} {chain.name}"
    commands: dict[str, None] = {}
    for packet in packets:
        on = f'iifname "{packet.interface}" ' if packet.interface else ""
        is_icmp, to_port = packet.protocol == ICMPV6, f"{packet.protocol} dport {packet.port}"
        to = f"meta l4proto {ICMPV6}" if is_icmp else to_port
        commands[f"`sudo nft insert rule {place} {on}{to} accept`"] = None
    keep = "add these rules to your nftables configuration (such as /etc/nftables.conf)"
    return f"{' and '.join(commands)}, and {keep}; `sudo nft list chain {place}` shows the rules"


def _has_filter(family: str) -> bool:
    try:
        return "filter" in LEGACY_TABLES[family].read_text().split()
    except OSError:
        return False
