"""How `hkswitch doctor` judges what ufw prints; tests/host/test_firewalls.py has a real one."""

import pytest

from hkswitch.doctor import ufw
from hkswitch.doctor.finding import Verdict
from hkswitch.doctor.packet_filter import Traffic
from hkswitch.doctor.programs import Completed
from tests.doctor.firewalls import BOTH, BY_IPV4, BY_IPV6, OK, ON_TWO, TODO, UNKNOWN, judged

UFW = """\
Status: active
Logging: on (low)
Default: deny (incoming), allow (outgoing), disabled (routed)
New profiles: skip

To                         Action      From
--                         ------      ----
22/tcp                     ALLOW IN    Anywhere
137,138/udp (Samba)        ALLOW IN    Anywhere
{rules}
22/tcp (v6)                ALLOW IN    Anywhere (v6)
"""


def printed(*rules: tuple[str, str, str]) -> Completed:
    rows = "\n".join(f"{to:<26} {action:<11} {source}" for to, action, source in rules)
    return Completed(0, UFW.format(rules=rows))


BAN = ("Anywhere", "REJECT IN", "203.0.113.9                # by Fail2Ban")
ALLOW = ("51826/tcp", "ALLOW IN", "Anywhere")
ALLOW_V6 = ("51826/tcp (v6)", "ALLOW IN", "Anywhere (v6)")
DENY = ("51826/tcp", "DENY IN", "Anywhere")


@pytest.mark.parametrize(
    "rules",
    [
        [ALLOW],
        [("51826", "ALLOW IN", "Anywhere")],
        [("51826/tcp", "ALLOW IN", "10.77.0.0/24")],
        [("Anywhere", "ALLOW IN", "10.0.0.0/8")],
        [("Anywhere/tcp", "ALLOW IN", "10.0.0.0/8/tcp")],
        [("80,51000:52000/tcp", "ALLOW IN", "Anywhere")],
        [("51826/tcp (Home)", "ALLOW IN", "Anywhere")],
        [("51826/tcp", "ALLOW IN", "Anywhere                   (log)")],
        [("51826/tcp on lan0", "ALLOW IN", "Anywhere                   # phones DENY IN ")],
        # What says nothing about phones: other ports, sources, interfaces, versions and directions.
        [BAN, ALLOW],
        [("51826/tcp", "REJECT IN", "203.0.113.9"), ALLOW],
        [("22/tcp", "LIMIT IN", "Anywhere"), ("51826/udp", "DENY IN", "Anywhere"), ALLOW],
        [("80,443/tcp (Nginx Full)", "DENY IN", "Anywhere"), ALLOW],
        [("Anywhere", "DENY IN", "10.8.0.0/24"), ALLOW],
        [("51826/tcp on wg0", "DENY IN", "Anywhere"), ALLOW],
        [("51826/tcp (v6)", "DENY IN", "Anywhere (v6)"), ALLOW],
        [("Anywhere on lan1", "DENY FWD", "Anywhere on lan0"), ALLOW],
        [("25/tcp", "DENY OUT", "Anywhere"), ALLOW],
        # The first rule that fits decides, and one that is not understood but allows denies nothing.
        [ALLOW, DENY],
        [("51826/tcp", "ALLOW IN", "5000/tcp"), ALLOW],
    ],
)
def test_a_rule_that_plainly_allows_the_port_before_one_that_may_deny_it_is_ok(
    rules: list[tuple[str, str, str]],
) -> None:
    judged(ufw.judged(printed(*rules), BY_IPV4), OK, "ufw allows 51826/tcp, and 5353/udp by default")


@pytest.mark.parametrize(
    "rules",
    [
        [],
        [BAN],
        [("51826/udp", "ALLOW IN", "Anywhere")],
        [("151826/tcp", "ALLOW IN", "Anywhere")],
        [("80,52000:53000/tcp", "ALLOW IN", "Anywhere")],
        [("51826/tcp", "ALLOW OUT", "Anywhere")],
        [("51826/tcp", "ALLOW FWD", "Anywhere")],
        [("51826/tcp", "ALLOW IN", "5000/tcp")],
        [("Anywhere", "ALLOW IN", "5000/tcp")],
        [("Anywhere/esp", "ALLOW IN", "Anywhere/esp")],
        [("Home", "ALLOW IN", "Anywhere")],
        [("51826/tcp on wan0", "ALLOW IN", "Anywhere")],
        [("51826/tcp", "ALLOW IN", "10.8.0.0/24")],
        [("51826/tcp", "ALLOW IN", "10.77.0.0/25")],
        [("51826/tcp", "ALLOW IN", "10.77.0.1")],
        [("51826/tcp", "ALLOW IN", "10.77.0.0/99")],
        [("10.77.0.1 51826/tcp", "ALLOW IN", "Anywhere")],
        [ALLOW_V6],
        *(
            [before, ALLOW]
            for before in (
                DENY,
                ("51826/tcp", "LIMIT IN", "Anywhere"),
                ("51000:52000/tcp", "DENY IN", "Anywhere"),
                ("22,51826/tcp", "DENY IN", "Anywhere"),
                ("51826/tcp (Home)", "DENY IN", "Anywhere"),
                ("10.77.0.1/tcp", "DENY IN", "Anywhere"),
                ("10.77.0.1", "DENY IN", "Anywhere"),
                ("Anywhere/tcp", "DENY IN", "Anywhere/tcp"),
                ("Anywhere/esp", "DENY IN", "Anywhere/esp"),
                ("Anywhere", "REJECT IN", "10.0.0.0/8"),
                ("Anywhere", "DENY IN", "10.77.0.128/25"),
                ("51826/tcp", "DENY IN", "5000/tcp"),
                ("51826/tcp on lan+", "DENY IN", "Anywhere"),
                ("Home", "DENY IN", "Anywhere                   # ALLOW IN "),
                ("what", "is", "this"),
            )
        ),
    ],
)
def test_no_rule_or_one_before_it_that_may_deny_the_port_gives_the_command(
    rules: list[tuple[str, str, str]],
) -> None:
    says = "does not plainly allow 51826/tcp; unless a rule of yours allows that, run `sudo ufw prepend allow"
    judged(ufw.judged(printed(*rules), BY_IPV4), TODO, says)


@pytest.mark.parametrize(
    ("traffic", "rules", "verdict"),
    [
        (BOTH, [ALLOW, ALLOW_V6], OK),
        (BOTH, [ALLOW], TODO),
        (BOTH, [ALLOW_V6], TODO),
        (BOTH, [ALLOW, ("51826/tcp (v6)", "DENY IN", "Anywhere (v6)"), ALLOW_V6], TODO),
        (BY_IPV6, [ALLOW_V6], OK),
        (BY_IPV6, [("51826/tcp (v6) on lan0", "ALLOW IN", "Anywhere (v6)")], OK),
        (BY_IPV6, [("51826/tcp", "ALLOW IN", "fd00::/64")], OK),
        (BY_IPV6, [ALLOW], TODO),
        (ON_TWO, [ALLOW, ALLOW_V6], OK),
        (ON_TWO, [("51826/tcp on lan1", "ALLOW IN", "Anywhere"), ALLOW_V6], TODO),
        # Unknown networks: only everything contains them.
        (UNKNOWN, [ALLOW], OK),
        (UNKNOWN, [("51826/tcp", "ALLOW IN", "10.77.0.0/24")], TODO),
        (UNKNOWN, [("51826/tcp on lan0", "ALLOW IN", "Anywhere")], TODO),
        (UNKNOWN, [("51826/tcp on lan0", "DENY IN", "Anywhere"), ALLOW], TODO),
    ],
)
def test_the_port_must_be_open_in_all_ip_versions_and_on_all_interfaces_of_the_bridge(
    traffic: Traffic, rules: list[tuple[str, str, str]], verdict: Verdict
) -> None:
    judged(ufw.judged(printed(*rules), traffic), verdict, "51826/tcp")


def test_a_command_is_printed_for_each_interface_or_without_one_for_all() -> None:
    first, second = (
        f"`sudo ufw prepend allow in on {name} to any port 51826 proto tcp`" for name in ("lan0", "lan1")
    )
    judged(ufw.judged(printed(), ON_TWO), TODO, f"run {first} and {second}")
    judged(ufw.judged(printed(), UNKNOWN), TODO, "run `sudo ufw prepend allow 51826/tcp`")


@pytest.mark.parametrize(
    ("rules", "verdict", "words"),
    [
        ([ALLOW, ("5353/udp", "ALLOW OUT", "Anywhere")], OK, "ufw allows"),
        ([ALLOW], TODO, "denies outgoing packets by default, such as answers from 5353/udp; unless"),
        ([ALLOW, ("5353/udp", "ALLOW IN", "Anywhere")], TODO, "run `sudo ufw allow out 5353/udp`"),
        ([], TODO, "proto tcp` and `sudo ufw allow out 5353/udp`"),
    ],
)
def test_a_ufw_that_denies_outgoing_packets_denies_answers_to_mdns(
    rules: list[tuple[str, str, str]], verdict: Verdict, words: str
) -> None:
    status = printed(*rules).output.replace("allow (outgoing)", "deny (outgoing)")
    judged(ufw.judged(Completed(0, status), BY_IPV4), verdict, words)


@pytest.mark.parametrize(("rules", "verdict"), [((ALLOW,), OK), ((), TODO), ((DENY,), TODO)])
def test_a_ufw_that_allows_everything_by_default_needs_a_rule_like_any_other(
    rules: tuple[tuple[str, str, str], ...], verdict: Verdict
) -> None:
    everything = printed(*rules).output.replace("deny (incoming)", "allow (incoming)")
    judged(ufw.judged(Completed(0, everything), BY_IPV4), verdict, "51826/tcp")


@pytest.mark.parametrize(
    "ran", [Completed(0, "Status: inactive\n"), Completed(1, "", "ERROR: You need to be root\n")]
)
def test_a_ufw_that_is_not_active_is_passed_over(ran: Completed) -> None:
    assert ufw.judged(ran, BOTH) is None
