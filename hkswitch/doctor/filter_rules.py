"""What a chain of nftables or iptables does to a packet from a phone. Pure: no I/O.

This is not the kernel's evaluation. A few tests of a rule are read: for ports, source addresses, interfaces
and the state of a connection, compared by `==`; a packet passes any other test perhaps. So a rule that denies
packets to other ports, or from particular sources (an address, a set of addresses, another network), says
nothing about phones and is ignored, like the rules of fail2ban. A jump is followed only to find out whether
the other chain may deny a packet, and not to find a rule that accepts it.
"""

from collections.abc import Callable, Mapping, Sequence
from enum import Enum, auto
from fnmatch import fnmatchcase
from typing import NamedTuple

from hkswitch.doctor.traffic import Packet, Ports, Traffic, has_port
from hkswitch.network.endpoint import Network

Test = Callable[[Packet, Traffic], bool | None]
"""Whether a packet passes a test; None: perhaps."""


class Outcome(Enum):
    """What a rule does to the packets that pass its tests."""

    CONTINUES = auto()
    ACCEPTS = auto()
    MAY_DENY = auto()
    RETURNS = auto()
    """They leave the chain, and its policy applies if no other chain led there."""


class Rule(NamedTuple):
    """A rule; `target` is the chain that it jumps to."""

    tests: tuple[Test, ...] = ()
    outcome: Outcome = Outcome.CONTINUES
    target: str = ""

    def passes(self, packet: Packet, traffic: Traffic) -> bool | None:
        """Whether a packet passes all tests; None: perhaps."""
        results = {test(packet, traffic) for test in self.tests}
        if False in results:
            return False
        return None if None in results else True


Chains = Mapping[str, Sequence[Rule]]
"""The chains of a table."""


class Fate(Enum):
    """What a chain does to a packet."""

    PASSES = auto()
    """No rule, and no policy, may deny it."""
    IS_ACCEPTED = auto()
    """A rule accepts it before another one could deny it."""
    MAY_BE_DENIED = auto()


def fates(chains: Chains, name: str, family: str, traffic: Traffic, *, is_open: bool) -> set[Fate]:
    """Return what a chain does to the packets from phones. `is_open`: its policy accepts packets."""
    return {_fate(chains, name, packet, traffic, is_open=is_open) for packet in traffic.packets(family)}


def perhaps(packet: Packet, traffic: Traffic) -> None:
    """Stand for a test that is not read."""
    del packet, traffic


def of_protocol(protocol: str) -> Test:
    return lambda packet, _: packet.protocol == protocol


def to_ports(ports: Ports) -> Test:
    return lambda packet, _: has_port(ports, packet.port)


def from_any_of(sources: Sequence[Network]) -> Test:
    return lambda packet, traffic: any(traffic.comes_from(source, packet.family) for source in sources)


def on_any_of(interfaces: Sequence[str]) -> Test:
    """Return the test for an interface; a name may be a pattern."""

    def test(packet: Packet, _: Traffic) -> bool | None:
        return any(fnmatchcase(packet.interface, each) for each in interfaces) if packet.interface else None

    return test


def in_a_state(*, is_new: bool) -> Test:
    """Return the test for the state of a connection: the packets from phones are the first ones."""
    return lambda _, __: is_new


def _fate(chains: Chains, name: str, packet: Packet, traffic: Traffic, *, is_open: bool) -> Fate:
    for rule in chains.get(name, ()):
        passes = rule.passes(packet, traffic)
        if passes is False:
            continue
        if passes and rule.outcome is Outcome.ACCEPTS:
            return Fate.IS_ACCEPTED
        if _may_deny(chains, rule, packet, traffic) or (rule.outcome is Outcome.RETURNS and not is_open):
            return Fate.MAY_BE_DENIED
    return Fate.PASSES if is_open else Fate.MAY_BE_DENIED


def _may_deny(chains: Chains, rule: Rule, packet: Packet, traffic: Traffic) -> bool:
    """Whether a rule, or one of those that it leads to, may deny a packet."""
    waiting, seen = [rule], set[str]()
    while waiting:
        each = waiting.pop()
        if each.outcome is Outcome.MAY_DENY:
            return True
        if each.target and each.target not in seen:
            seen.add(each.target)
            there = chains.get(each.target, ())
            waiting += [other for other in there if other.passes(packet, traffic) is not False]
    return False
