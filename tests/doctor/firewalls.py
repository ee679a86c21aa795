"""What the tests of the firewall check share: a bridge's traffic, and how a finding is compared."""

from ipaddress import ip_network

from hkswitch.doctor.finding import Finding, Verdict
from hkswitch.doctor.packet_filter import traffic_to
from hkswitch.network.choice import NoDefaultRoute
from hkswitch.network.endpoint import Endpoint

OK, FAIL, WARN, TODO, SKIP = Verdict
NETWORKS = frozenset(map(ip_network, ("10.77.0.0/24", "192.0.2.0/24", "fd00::/64")))


def endpoint(*addresses: str) -> Endpoint:
    return Endpoint(addresses, frozenset({1}), networks=NETWORKS)


HERE = endpoint("10.77.0.1", "fd00::1")
BOTH = traffic_to(51826, HERE, ("lan0",))
BY_IPV4 = traffic_to(51826, endpoint("10.77.0.1"), ("lan0",))
BY_IPV6 = traffic_to(51826, endpoint("fd00::1"), ("lan0",))
ON_TWO = traffic_to(51826, HERE, ("lan0", "lan1"))
UNKNOWN = traffic_to(51826, NoDefaultRoute(), ())


def judged(finding: Finding | None, verdict: Verdict, words: str) -> None:
    assert finding is not None
    assert (finding.verdict, words in str(finding)) == (verdict, True), str(finding)
    assert (finding.verdict is TODO) <= bool(finding.advice), "what to do?"
