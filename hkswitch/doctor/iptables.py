"""Reads the output of `iptables -S`, and judges its chain INPUT. Pure: no I/O."""

import re
from collections.abc import Container, Iterator, Sequence
from typing import Final

from hkswitch.doctor.filter_rules import (
    Chains,
    Fate,
    Outcome,
    Rule,
    Test,
    fates,
    from_any_of,
    in_a_state,
    of_protocol,
    on_any_of,
    perhaps,
    to_ports,
)
from hkswitch.doctor.finding import Check, Finding, ok, skip, todo
from hkswitch.doctor.programs import Completed
from hkswitch.doctor.traffic import IPV4, IPV6, Traffic, network_of, ports_in

CHAIN: Final = "INPUT"
OPEN: Final = f"-P {CHAIN} ACCEPT"

HARMLESS_TARGETS: Final = frozenset({"LOG", "NFLOG", "TRACE", "MARK", "CONNMARK"})
"""The extensions after which the next rule follows."""

WITH_OPTIONS: Final = frozenset({"comment", "conntrack", "multiport", "set", "state", "tcp", "udp"})
"""The extensions that test nothing but what their options say."""

_WORD: Final = re.compile(r'"((?:[^"\\]|\\.)*)"|(\S+)')
"""A word, or a comment in quotes. shlex takes a minute for a line of some megabytes."""

NO_TESTS: Final = frozenset({"--comment", "--reject-with", "--log-prefix", "--log-level"})


def judged(program: str, listed: Completed, traffic: Traffic) -> Finding | None:
    """Judge the output of `iptables -S`; None if nothing that the bridge needs is denied or accepted.

    Raises ValueError for output that cannot be read.
    """
    if listed.code != 0:
        return skip(Check.FIREWALL, f"{program} failed: {listed.last_line}")
    family = IPV6 if program.startswith("ip6") else IPV4
    is_open = OPEN in listed.output.split("\n")
    found = fates(chains_in(program, listed.output), CHAIN, family, traffic, is_open=is_open)
    if Fate.MAY_BE_DENIED in found:
        return todo(Check.FIREWALL, f"{program} is active", _advice(program, traffic))
    if Fate.IS_ACCEPTED in found:
        return ok(Check.FIREWALL, f"{program} accepts {traffic}")
    return None


def is_empty(listed: Completed) -> bool:
    """Whether the program has no rule for incoming packets, or did not answer."""
    rules = {line for line in listed.output.split("\n") if line.split()[1:2] == [CHAIN]}
    return listed.code != 0 or rules <= {OPEN}


def chains_in(program: str, listed: str) -> Chains:
    """Read all chains; raises ValueError."""
    chains: dict[str, list[Rule]] = {}
    for line in listed.split("\n"):
        words = [quoted or word for quoted, word in _WORD.findall(line)]
        match words:
            case ["-P" | "-N", chain, *_]:
                chains[chain] = []
            case ["-A", chain, *rule]:
                chains.setdefault(chain, []).append(_rule(rule, chains))
    if CHAIN not in chains:
        raise ValueError(f"cannot read the output of {program}: it has no chain {CHAIN}")
    return chains


def _advice(program: str, traffic: Traffic) -> str:
    commands = [
        f"`sudo {program} -I {CHAIN} {on}-p {protocol} --dport {port} -j ACCEPT`"
        for on in [f"-i {interface} " for interface in traffic.interfaces] or [""]
        for protocol, port in traffic.ports
    ]
    return (
        f"`sudo {program} -S` shows the rules; unless they accept {traffic}, run "
        f"{' and '.join(commands)}, and save them like your other rules"
    )


def _rule(words: Sequence[str], chains: Container[str]) -> Rule:
    rule = Rule()
    for option, *values in _options(words):
        match option, values:
            case "-j", [target]:
                rule = _leading_to(rule, target, chains)
            case "-g", [target]:
                rule = rule._replace(target=target, outcome=Outcome.RETURNS)
            case "-m", [extension] if extension in WITH_OPTIONS:
                pass
            case _ if option not in NO_TESTS:
                rule = rule._replace(tests=(*rule.tests, _test(option, values)))
    return rule


def _options(words: Sequence[str]) -> Iterator[list[str]]:
    """Yield each option with its values; a negated one begins with `!`."""
    option: list[str] = []
    for word in words:
        is_value = option == ["!"] or (len(option) == 1 and option[0] in NO_TESTS)  # such as a comment
        if option and not is_value and (word == "!" or word.startswith("-")):
            yield option
            option = []
        option.append(word)
    if option:
        yield option


def _leading_to(rule: Rule, target: str, chains: Container[str]) -> Rule:
    if target in chains:
        return rule._replace(target=target)
    match target:
        case "ACCEPT":
            return rule._replace(outcome=Outcome.ACCEPTS)
        case "RETURN":
            return rule._replace(outcome=Outcome.RETURNS)
        case _ if target in HARMLESS_TARGETS:
            return rule
        case _:
            return rule._replace(outcome=Outcome.MAY_DENY)


def _test(option: str, values: Sequence[str]) -> Test:
    match option, values:
        case "-p", [protocol]:
            return of_protocol(protocol)
        case (("--dport" | "--dports"), [ports]):
            return to_ports(ports_in(ports))
        case "-s", [source]:
            network = network_of(source)
            return from_any_of([network] if network else [])
        case "--match-set", [_, "src"]:
            return from_any_of([])
        case "-i", [interface]:
            return on_any_of([interface.replace("+", "*")])
        case (("--ctstate" | "--state"), [states]):
            return in_a_state(is_new="NEW" in states.split(","))
        case _:
            return perhaps
