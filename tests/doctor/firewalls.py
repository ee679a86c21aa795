"""What the tests of the firewall check share: a bridge's traffic, and how a finding is compared."""

from hkswitch.doctor.finding import Finding, Verdict
from hkswitch.doctor.traffic import traffic_to
from hkswitch.network.endpoint import Endpoint

OK, FAIL, WARN, TODO, SKIP = Verdict
HERE = Endpoint(("10.77.0.1", "fd00::1"), frozenset({1}))
BOTH = traffic_to(51826, HERE, ("lan0",))
BY_IPV4 = traffic_to(51826, Endpoint(("10.77.0.1",), frozenset({1})), ("lan0",))
BY_IPV6 = traffic_to(51826, Endpoint(("fd00::1",), frozenset({1})), ("lan0",))
ON_TWO = traffic_to(51826, HERE, ("lan0", "lan1"))


def judged(finding: Finding | None, verdict: Verdict, words: str) -> None:
    assert finding is not None
    assert (finding.verdict, words in str(finding)) == (verdict, True), str(finding)
    assert (finding.verdict is TODO) <= bool(finding.advice), "what to do?"
