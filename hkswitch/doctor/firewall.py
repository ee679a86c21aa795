"""Finds out which firewall is active on this machine, and how to open the bridge's two ports in it.

It does not evaluate how rules interact. A finding is "ok" only if the firewall denies nothing, lists both
ports as open, or accepts both before any rule that could deny them. Otherwise it is "todo" and never "FAIL",
as other rules may allow the ports, too. It cannot see a router's firewall.
"""

import json
import re
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path
from typing import Any, Final

from hkswitch.doctor import firewalld, ufw
from hkswitch.doctor.context import Context
from hkswitch.doctor.finding import NO_CONFIG, Check, Finding, Verdict, needs_root, ok, skip, todo
from hkswitch.doctor.network import interfaces_of
from hkswitch.doctor.programs import Completed, NotInstalled, path_of, run
from hkswitch.doctor.traffic import Traffic, traffic_to
from hkswitch.model.errors import Failure

IPTABLES: Final = {"ip": "iptables", "ip6": "ip6tables"}
LEGACY_TABLES: Final = {
    "iptables-legacy": Path("/proc/net/ip_tables_names"),
    "ip6tables-legacy": Path("/proc/net/ip6_tables_names"),
}
"""The kernel's lists of the tables that nft does not show."""

DENYING: Final = ("drop", "reject", "queue", "vmap", "xt")
"""The parts of an nftables rule that deny packets, or may do so; "xt" is any extension of iptables."""

Json = dict[str, Any]


async def firewall(context: Context) -> tuple[Finding]:
    """Check the firewall for the port that the bridge serves on; a changed port takes effect later."""
    if isinstance(context.config, Failure):
        return (skip(Check.FIREWALL, NO_CONFIG),)
    bridge = context.config.bridge if isinstance(context.bridge, Failure) else context.bridge
    traffic = traffic_to(bridge.port, context.endpoint, interfaces_of(context.endpoint))
    for look in (firewalld.found, ufw.found, _kernel):
        if (found := await look(traffic)) is not None:
            # These programs need root to answer.
            is_unanswered = found.verdict is Verdict.SKIP and not context.is_root
            return (needs_root(Check.FIREWALL) if is_unanswered else found,)
    return (ok(Check.FIREWALL, "no active firewall was found"),)


def nftables_chain(ruleset: Json, chain: Json, traffic: Traffic) -> Finding:
    """Judge a chain that denies packets, or may do so."""
    place = f"{chain['family']} {chain['table']} {chain['name']}"
    title = f"chain {chain['name']} of table {chain['family']} {chain['table']}"
    first = list(takewhile(_only_accepts, _rules_of(ruleset, chain)))
    if all(any(_accepts(rule, *port) for rule in first) for port in traffic.ports):
        return ok(Check.FIREWALL, f"nftables has rules that accept {traffic} ({title})")
    commands = [
        f"`sudo nft insert rule {place} {protocol} dport {port} accept`" for protocol, port in traffic.ports
    ]
    advice = (
        f"`sudo nft list chain {place}` shows the rules; unless they accept {traffic}, run "
        f"{' and '.join(commands)}, "
        "and add both rules to your nftables configuration (such as /etc/nftables.conf)"
    )
    return todo(Check.FIREWALL, f"nftables is active ({title})", advice)


def denying_chains(ruleset: Json, families: tuple[str, ...]) -> Iterator[Json]:
    """Yield the chains for incoming packets that deny some, or may do so, by policy or by a rule."""
    for chain in _objects(ruleset, "chain"):
        is_input = chain.get("hook") == "input" and chain["family"] in {"inet", *families}
        if is_input and (chain.get("policy", "accept") != "accept" or _may_deny(ruleset, chain)):
            yield chain


def iptables_rules(program: str, listed: Completed, traffic: Traffic) -> Finding | None:
    """Judge the output of `iptables -S INPUT`; None if nothing is denied there."""
    if listed.code != 0:
        return _unanswered(program, listed)
    rules = [line.strip() for line in listed.output.split("\n") if line.strip()]
    if rules == ["-P INPUT ACCEPT"]:
        return None
    needed = [
        f"-A INPUT -p {protocol} -m {protocol} --dport {port} -j ACCEPT" for protocol, port in traffic.ports
    ]
    first = list(takewhile(lambda rule: rule.endswith("-j ACCEPT"), rules[1:]))  # behind the policy
    if all(rule in first for rule in needed):
        return ok(Check.FIREWALL, f"{program} has rules that accept {traffic}")
    commands = [
        f"`sudo {program} -I INPUT -p {protocol} --dport {port} -j ACCEPT`"
        for protocol, port in traffic.ports
    ]
    advice = (
        f"`sudo {program} -S INPUT` shows the rules; unless they accept {traffic}, run "
        f"{' and '.join(commands)}, and save them like your other rules"
    )
    return todo(Check.FIREWALL, f"{program} is active", advice)


async def _kernel(traffic: Traffic) -> Finding | None:
    """Judge the rules in the kernel; None if there are none."""
    findings: list[Finding | None] = []
    try:
        listed = await run("nft", "-j", "list", "ruleset")
    except NotInstalled:
        programs = [program for family, program in IPTABLES.items() if family in traffic.families]
    else:
        if listed.code != 0:
            return _unanswered("nft", listed)
        ruleset = json.loads(listed.output or '{"nftables": []}')
        chains = list(denying_chains(ruleset, traffic.families))
        findings = [await _chain(ruleset, chain, traffic) for chain in chains]
        programs = [program for program, tables in LEGACY_TABLES.items() if _has_filter(tables)]
    for program in programs:
        if path_of(program):
            findings.append(iptables_rules(program, await run(program, "-S", "INPUT"), traffic))
    found = [each for each in findings if each is not None]
    return next((each for each in found if each.verdict is not Verdict.OK), next(iter(found), None))


async def _chain(ruleset: Json, chain: Json, traffic: Traffic) -> Finding:
    """Judge a chain that may deny, in iptables' words if that program made it."""
    if program := _iptables_of(chain):
        found = iptables_rules(program, await run(program, "-S", "INPUT"), traffic)
        if found is not None and found.verdict is not Verdict.SKIP:
            return found
    return nftables_chain(ruleset, chain, traffic)


def _iptables_of(chain: Json) -> str:
    """Return the program that owns this chain, if it is installed; empty for nftables' own chains."""
    program = (
        IPTABLES.get(chain["family"], "") if (chain["table"], chain["name"]) == ("filter", "INPUT") else ""
    )
    return program if program and path_of(program) else ""


def _has_filter(tables: Path) -> bool:
    try:
        return "filter" in tables.read_text().split()
    except OSError:
        return False


def _objects(ruleset: Json, kind: str) -> list[Json]:
    try:
        return [each[kind] for each in ruleset["nftables"] if kind in each]
    except (KeyError, TypeError):
        raise ValueError("nft printed no ruleset") from None


def _rules_of(ruleset: Json, chain: Json) -> list[list[Any]]:
    place = chain["family"], chain["table"], chain["name"]
    rules = _objects(ruleset, "rule")
    return [rule["expr"] for rule in rules if (rule["family"], rule["table"], rule["chain"]) == place]


def _may_deny(ruleset: Json, chain: Json) -> bool:
    """Whether a rule of the chain, or of one that it jumps to, may deny. The kernel allows no loops."""
    rules = _rules_of(ruleset, chain)
    if _names_a_denial(rules):
        return True
    targets = set(re.findall(r'"target": "([^"]+)"', json.dumps(rules)))
    return any(_may_deny(ruleset, chain | {"name": target}) for target in targets)


def _only_accepts(rule: list[Any]) -> bool:
    """Whether no packet is denied by a rule, or by a chain that it leads to."""
    return {"accept": None} in rule and not _names_a_denial(rule)


def _names_a_denial(rules: list[Any]) -> bool:
    text = json.dumps(rules)
    return any(f'"{part}"' in text for part in DENYING)


def _accepts(rule: list[Any], protocol: str, port: int) -> bool:
    """Whether a rule accepts all packets to a port, in the form that our own command creates."""
    dport = {"payload": {"protocol": protocol, "field": "dport"}}
    test = {"match": {"op": "==", "left": dport, "right": port}}
    return [each for each in rule if "counter" not in each] == [test, {"accept": None}]


def _unanswered(program: str, completed: Completed) -> Finding:
    return skip(Check.FIREWALL, f"{program} failed: {completed.last_line}")
