"""How `hkswitch doctor` judges what ufw prints; tests/host/test_firewalls.py has a real one."""

import pytest

from hkswitch.doctor import ufw
from hkswitch.doctor.finding import Verdict
from hkswitch.doctor.programs import Completed
from hkswitch.doctor.traffic import Traffic, traffic_to
from hkswitch.network.choice import NoDefaultRoute
from tests.doctor.firewalls import BOTH, BY_IPV4, BY_IPV6, OK, ON_TWO, TODO, judged

UNKNOWN = traffic_to(51826, NoDefaultRoute(), ())

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


BAN = ("51826/tcp", "REJECT IN", "203.0.113.9")
ALLOW = ("51826/tcp", "ALLOW IN", "Anywhere")
ALLOW_V6 = ("51826/tcp (v6)", "ALLOW IN", "Anywhere (v6)")
DENY = ("51826/tcp", "DENY IN", "Anywhere")


@pytest.mark.parametrize(
    ("rules", "verdict", "words"),
    [
        ([ALLOW], OK, "ufw allows 51826/tcp, and 5353/udp by default"),
        ([("51826/tcp", "ALLOW", "Anywhere")], OK, "51826/tcp, and"),
        ([("51826", "LIMIT IN", "Anywhere")], OK, "51826/tcp, and"),
        ([("51826/tcp", "ALLOW IN", "10.77.0.0/24")], OK, "ufw allows 51826/tcp from 10.77.0.0/24, and"),
        ([("Anywhere", "ALLOW IN", "10.0.0.0/8")], OK, "from 10.0.0.0/8"),
        ([("Anywhere/tcp", "ALLOW IN", "10.0.0.0/8/tcp")], OK, "from 10.0.0.0/8"),
        ([("80,51000:52000/tcp", "ALLOW IN", "Anywhere")], OK, "51826/tcp, and"),
        ([("51826/tcp", "ALLOW IN", "Anywhere                   (log)")], OK, "51826/tcp, and"),
        ([("51826/tcp on lan0", "ALLOW IN", "Anywhere                   # phones")], OK, "51826/tcp, and"),
        # fail2ban bans one address; the first rule that fits is the one that applies.
        ([BAN, ALLOW, ALLOW_V6], OK, "51826/tcp, and"),
        ([("Anywhere", "DENY IN", "10.77.0.66"), ALLOW], OK, "51826/tcp, and"),
        ([("51826/tcp on wg0", "DENY IN", "Anywhere"), ALLOW], OK, "51826/tcp, and"),
        ([("51826/tcp", "ALLOW IN", "10.77.0.0/24"), DENY], OK, "from 10.77.0.0/24"),
        ([], TODO, "and allows 5353/udp by default, but no rule names 51826/tcp; run `sudo ufw allow in on"),
        ([BAN], TODO, "no rule names 51826/tcp"),
        ([("51826/udp", "ALLOW IN", "Anywhere")], TODO, "no rule names"),
        ([("151826/tcp", "ALLOW IN", "Anywhere")], TODO, "no rule names"),
        ([("80,52000:53000/tcp", "ALLOW IN", "Anywhere")], TODO, "no rule names"),
        ([("51826/tcp", "ALLOW OUT", "Anywhere")], TODO, "no rule names"),
        ([("51826/tcp", "ALLOW FWD", "Anywhere")], TODO, "no rule names"),
        ([("51826/tcp", "ALLOW IN", "Anywhere 1024/tcp")], TODO, "no rule names"),
        ([("Home", "ALLOW IN", "Anywhere")], TODO, "no rule names"),
        (
            [("51826/tcp on wan0", "ALLOW IN", "Anywhere")],
            TODO,
            "but 51826/tcp only from Anywhere on wan0; run",
        ),
        # A VPN, the bridge's own address alone, and the other version of IP.
        (
            [("51826/tcp", "ALLOW IN", "10.8.0.0/24")],
            TODO,
            "but 51826/tcp only from 10.8.0.0/24; run `sudo ufw",
        ),
        ([("51826/tcp", "ALLOW IN", "10.77.0.1")], TODO, "only from 10.77.0.1; run"),
        ([("51826/tcp", "ALLOW IN", "fd00::/64")], TODO, "only from fd00::/64"),
        (
            [ALLOW_V6, BAN],
            TODO,
            "only from Anywhere (v6); run `sudo ufw allow in on lan0 to any port 51826 pro",
        ),
        (
            [DENY, ALLOW],
            TODO,
            "a rule denies 51826/tcp; delete it (`sudo ufw status numbered` lists the rules)",
        ),
        ([DENY], TODO, "or run `sudo ufw prepend allow in on lan0 to any port 51826 proto tcp`"),
        ([("Anywhere", "REJECT IN", "10.0.0.0/8"), ALLOW], TODO, "a rule denies"),
        ([("51000:52000/tcp", "DENY IN", "Anywhere"), ALLOW], TODO, "a rule denies"),
        ([ALLOW, ("51826/tcp (v6)", "DENY IN", "Anywhere (v6)")], TODO, "a rule denies"),
    ],
)
def test_the_first_rule_about_the_bridges_network_decides(
    rules: list[tuple[str, str, str]], verdict: Verdict, words: str
) -> None:
    judged(ufw.judged(printed(*rules), BOTH), verdict, words)


@pytest.mark.parametrize(
    ("traffic", "rule", "verdict"),
    [
        (BY_IPV4, ALLOW, OK),
        (BY_IPV4, ALLOW_V6, TODO),
        (BY_IPV6, ALLOW_V6, OK),
        (BY_IPV6, ("51826/tcp (v6) on lan0", "ALLOW IN", "Anywhere (v6)"), OK),
        (BY_IPV6, ("51826/tcp", "ALLOW IN", "fd00::/64"), OK),
        (BY_IPV6, ALLOW, TODO),
        (ON_TWO, ALLOW, OK),
        (ON_TWO, ("51826/tcp on lan1", "ALLOW IN", "Anywhere"), TODO),
        # Unknown addresses: only everything contains them.
        (UNKNOWN, ALLOW, OK),
        (UNKNOWN, ("51826/tcp", "ALLOW IN", "10.77.0.0/24"), TODO),
        (UNKNOWN, ("51826/tcp on lan0", "ALLOW IN", "Anywhere"), TODO),
    ],
)
def test_the_rule_must_fit_the_bridges_addresses_and_all_its_interfaces(
    traffic: Traffic, rule: tuple[str, str, str], verdict: Verdict
) -> None:
    judged(ufw.judged(printed(rule), traffic), verdict, "51826/tcp")


def test_a_command_is_printed_for_each_interface_or_without_one_for_all() -> None:
    both = (
        "`sudo ufw allow in on lan0 to any port 51826 proto tcp` and `sudo ufw allow in on lan1 to any port"
    )
    judged(ufw.judged(printed(), ON_TWO), TODO, both)
    judged(ufw.judged(printed(), UNKNOWN), TODO, "run `sudo ufw allow 51826/tcp`")


@pytest.mark.parametrize(("rules", "verdict"), [((), OK), ((BAN,), OK), ((DENY,), TODO)])
def test_a_ufw_that_allows_everything_is_ok_without_a_rule_against_it(
    rules: tuple[tuple[str, str, str], ...], verdict: Verdict
) -> None:
    everything = printed(*rules).output.replace("deny (incoming)", "allow (incoming)")
    judged(ufw.judged(Completed(0, everything), BOTH), verdict, "51826/tcp")


@pytest.mark.parametrize(
    "ran", [Completed(0, "Status: inactive\n"), Completed(1, "", "ERROR: You need to be root\n")]
)
def test_a_ufw_that_is_not_active_is_passed_over(ran: Completed) -> None:
    assert ufw.judged(ran, BOTH) is None
