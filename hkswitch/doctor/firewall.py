"""Finds out which firewall is active on this machine, and how to open the bridge's two ports in it.

It does not evaluate how all rules interact. A finding is "ok" only if the firewall denies nothing to the
phones in the bridge's network, or plainly allows both ports. Otherwise it is "todo" and never "FAIL", as
other rules may allow the ports, too. Only the packets that arrive for this machine's own programs are
considered (the kernel's hook `input`), and not rules that apply earlier. It cannot see a router's firewall.

The rules of iptables are judged by the output of iptables, although nft lists them, too. Those of
iptables-legacy are in tables that nft does not list.
"""

from pathlib import Path
from typing import Final

from hkswitch.doctor import firewalld, iptables, nftables, ufw
from hkswitch.doctor.context import Context
from hkswitch.doctor.finding import NO_CONFIG, Check, Finding, Verdict, needs_root, ok, skip
from hkswitch.doctor.network import interfaces_of
from hkswitch.doctor.programs import NotInstalled, path_of, run
from hkswitch.doctor.traffic import IPV4, IPV6, Traffic, traffic_to
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
    for look in (firewalld.found, ufw.found, _packet_filter):
        if (found := await look(traffic)) is not None:
            # These programs need root to answer.
            is_unanswered = found.verdict is Verdict.SKIP and not context.is_root
            return (needs_root(Check.FIREWALL) if is_unanswered else found,)
    return (ok(Check.FIREWALL, "no active firewall was found"),)


async def _packet_filter(traffic: Traffic) -> Finding | None:
    """Judge the rules in the kernel; None if none concerns the bridge."""
    try:
        listed = await run("nft", "-j", "list", "ruleset")
    except NotInstalled:
        findings = [
            await _iptables(program, traffic)
            for family, program in IPTABLES.items()
            if family in traffic.families and path_of(program)
        ]
    else:
        if listed.code != 0:
            return skip(Check.FIREWALL, f"nft failed: {listed.last_line}")
        findings = [await _chain(chain, traffic) for chain in nftables.input_chains(listed.output, traffic)]
    findings += [await _legacy(family, traffic) for family in traffic.families if _has_filter(family)]
    found = [each for each in findings if each is not None]
    return next((each for each in found if each.verdict is not Verdict.OK), next(iter(found), None))


async def _chain(chain: nftables.Chain, traffic: Traffic) -> Finding | None:
    """Judge a chain, in iptables' words if that program made it."""
    program = IPTABLES.get(chain.family, "") if (chain.table, chain.name) == ("filter", "INPUT") else ""
    if program and path_of(program):
        listed = await run(program, "-S")
        if not iptables.is_empty(listed):
            return iptables.judged(program, listed, traffic)
    return nftables.judged(chain, traffic)


async def _iptables(program: str, traffic: Traffic) -> Finding | None:
    return iptables.judged(program, await run(program, "-S"), traffic)


async def _legacy(family: str, traffic: Traffic) -> Finding | None:
    program = LEGACY[family]
    if path_of(program):
        return await _iptables(program, traffic)
    why = f"the kernel has tables of {program}, which nft does not list, and {program} is not installed"
    return skip(Check.FIREWALL, why, "install it (on Debian, the package iptables), and run the doctor again")


def _has_filter(family: str) -> bool:
    try:
        return "filter" in LEGACY_TABLES[family].read_text().split()
    except OSError:
        return False
