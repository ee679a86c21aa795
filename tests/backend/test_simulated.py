"""Simulated units behave as systemd's do, as far as a switch can tell."""

import asyncio
import re
from dataclasses import dataclass, replace

import pytest

from hkswitch.backend.simulated import (
    ACTIVATING,
    ACTIVE,
    DEACTIVATING,
    FAILED,
    INACTIVE,
    MISSING,
    SimulatedHost,
)
from hkswitch.backend.simulated_faults import CALM_SECONDS, CRASH_AFTER_SECONDS, RETURN_AFTER_SECONDS
from hkswitch.model.elsewhere import Elsewhere, RemoteHost
from hkswitch.model.group import AlertSensor, Commands, Group, RestartWhen
from hkswitch.model.restart_rule import RestartRule
from hkswitch.model.restart_rule_events import RestartDue, Sampled
from hkswitch.model.switch_events import Observed, RequestOrigin
from hkswitch.model.unit_state import Action, ActionResult, GroupState, ProbeResult, Sample, UnitState
from tests.support.host_with_helper import Recorder, ignore
from tests.support.waiting import eventually

GROUPS = (
    Group("web", "Web", ("httpd.service", "cache.service"), actions=frozenset(Action)),
    Group("broken", "Broken", ("broken.service",)),
    Group("lamp", "Lamp", commands=Commands(("/opt/on",), ("/opt/off",), ("/opt/status",))),
    Group("tunnel", "Tunnel", ("wg.service",), check=("/opt/check",)),
)
SUCCESS = ActionResult()


@pytest.fixture
def told() -> Recorder:
    return Recorder({group.id: group for group in GROUPS})


@pytest.fixture
async def host(told: Recorder) -> SimulatedHost:
    host = SimulatedHost(GROUPS, job_seconds=0.001, broken={"broken.service"})
    await host.open(told)
    return host


async def asked(host: SimulatedHost, action: Action, group_id: str = "web") -> ActionResult:
    return await host.request(action, group_id, ignore, RequestOrigin.CONTROLLER)


def states_of(told: Recorder, unit: str) -> list[UnitState]:
    """What a unit went through."""
    found: list[UnitState] = []
    for _, observed in told.changes:
        if observed.units and unit in observed.units and found[-1:] != [observed.units[unit]]:
            found.append(observed.units[unit])
    return found


async def test_every_unit_is_stopped_at_first(host: SimulatedHost, told: Recorder) -> None:
    assert {told.state(group.id) for group in GROUPS} == {GroupState.OFF}
    assert (host.trouble(), host.config_problem(), await host.check_config()) == ("", "", "")


async def test_units_pass_through_the_states_of_a_job(host: SimulatedHost, told: Recorder) -> None:
    for action in (Action.START, Action.RESTART, Action.STOP):
        assert await asked(host, action) == SUCCESS
    started, restarted = [INACTIVE, ACTIVATING, ACTIVE], [DEACTIVATING, INACTIVE, ACTIVATING, ACTIVE]
    assert states_of(told, "httpd.service") == [*started, *restarted, DEACTIVATING, INACTIVE]


async def test_a_restart_leaves_what_is_stopped_stopped(host: SimulatedHost, told: Recorder) -> None:
    assert await asked(host, Action.RESTART) == SUCCESS
    assert states_of(told, "httpd.service") == [INACTIVE]


async def test_a_broken_unit_fails_to_start(host: SimulatedHost, told: Recorder) -> None:
    assert await asked(host, Action.START, "broken") == ActionResult("broken.service failed", went_wrong=True)
    assert states_of(told, "broken.service") == [INACTIVE, ACTIVATING, FAILED]


async def test_each_failed_start_is_a_failure_of_its_own_until_the_unit_is_stopped(
    host: SimulatedHost, told: Recorder
) -> None:
    failures = []
    for _ in range(2):
        await asked(host, Action.START, "broken")
        failures.append(told.last["broken"].failures["broken.service"])
    first, second = failures
    assert (first.reason, first.is_requested) == ("broken.service failed", False)
    assert first.run != second.run
    host.change({"broken.service": INACTIVE})
    assert told.last["broken"].failures == {}


@pytest.mark.parametrize(
    ("action", "group", "why"),
    [
        (Action.START, "none", "denied: there is no group 'none' in the configuration"),
        (Action.RESTART, "broken", "restart is not in this group's actions"),
    ],
)
async def test_what_the_config_does_not_allow_is_not_done(
    host: SimulatedHost, action: Action, group: str, why: str
) -> None:
    accepted: list[str] = []
    result = await host.request(action, group, lambda: accepted.append(group), RequestOrigin.CONTROLLER)
    assert result == ActionResult(why)
    assert accepted == []


async def test_a_newer_request_ends_an_older_one_which_is_no_failure(told: Recorder) -> None:
    host = SimulatedHost(GROUPS, slow={"httpd.service": 3600})
    await host.open(told)
    older = asyncio.create_task(asked(host, Action.START))
    await eventually(lambda: told.state("web") is GroupState.STARTING)
    newer = asyncio.create_task(asked(host, Action.STOP))
    assert await older == SUCCESS
    assert await newer == SUCCESS
    await host.close()


async def test_a_group_of_commands_is_off_until_it_is_started(host: SimulatedHost, told: Recorder) -> None:
    for action in (Action.START, Action.STOP):
        assert await asked(host, action, "lamp") == SUCCESS
    verdicts = [observed.probe_result for group_id, observed in told.changes if group_id == "lamp"]
    assert verdicts == [ProbeResult.OFF, ProbeResult.ON, ProbeResult.OFF]


async def test_a_check_says_yes_whenever_all_units_are_up(host: SimulatedHost, told: Recorder) -> None:
    for _ in range(2):
        assert await asked(host, Action.START, "tunnel") == SUCCESS
        assert told.state("tunnel") is GroupState.ON
        assert await asked(host, Action.STOP, "tunnel") == SUCCESS
        assert told.state("tunnel") is GroupState.OFF


@pytest.mark.parametrize(
    ("state", "group_state"),
    [(ACTIVE, GroupState.PARTIAL), (FAILED, GroupState.FAILED), (MISSING, GroupState.MISSING)],
)
async def test_a_change_from_outside_is_told_of_its_groups_only(
    host: SimulatedHost, told: Recorder, state: UnitState, group_state: GroupState
) -> None:
    told.forget()
    host.change({"cache.service": state})
    assert told.states("web") == [group_state]
    assert {group_id for group_id, _ in told.changes} == {"web"}


async def test_what_is_lost_is_not_known(host: SimulatedHost, told: Recorder) -> None:
    host.lose()
    assert [told.last[group.id] for group in GROUPS] == [Observed(None)] * len(GROUPS)


# Faults


ALERTING = Group("mail", "Mail", ("postfix.service", "dovecot.service"), alert=AlertSensor.LEAK)
BUSY = Group(
    "photos",
    "Photos",
    ("photos.service", "cache.service"),
    actions=frozenset(Action),
    alert=AlertSensor.CONTACT,
    restart_when=RestartWhen(cpu_percent=65, memory_mib=900),
)
FAULTY = (ALERTING, BUSY, *GROUPS)


@dataclass
class Faulty:
    """A host with faults at the times that a test says, counted from now."""

    host: SimulatedHost
    told: Recorder
    began_seconds: float

    @classmethod
    async def with_started(cls, *group_ids: str) -> "Faulty":
        told = Recorder({group.id: group for group in FAULTY})
        host = SimulatedHost(FAULTY, job_seconds=0)
        await host.open(told)
        for group_id in group_ids:
            await asked(host, Action.START, group_id)
        return cls(host, told, asyncio.get_running_loop().time())

    def after(self, seconds: float) -> None:
        self.host.have_faults(self.began_seconds + seconds)

    def crashed(self, group_id: str = "mail") -> list[str]:
        return [failure.reason for failure in self.told.last[group_id].failures.values()]

    def samples(self, group_id: str = "photos") -> list[Sample]:
        return [sample for told_id, sample in self.told.samples if told_id == group_id]


async def test_a_unit_of_a_group_with_a_sensor_crashes_and_comes_back() -> None:
    faulty = await Faulty.with_started("mail", "web")
    for seconds, state, crashed in (
        (CRASH_AFTER_SECONDS - 2, GroupState.ON, []),
        (CRASH_AFTER_SECONDS, GroupState.FAILED, ["postfix.service was killed by SIGKILL"]),
        (CRASH_AFTER_SECONDS + 18, GroupState.FAILED, ["postfix.service was killed by SIGKILL"]),
        (CRASH_AFTER_SECONDS + RETURN_AFTER_SECONDS, GroupState.ON, []),
        (
            CRASH_AFTER_SECONDS + RETURN_AFTER_SECONDS + 1,
            GroupState.FAILED,
            ["postfix.service was killed by SIGKILL"],
        ),
    ):
        faulty.after(seconds)
        assert (faulty.told.state("mail"), faulty.crashed()) == (state, crashed)
    assert faulty.told.state("web") is GroupState.ON  # it has no sensor
    assert faulty.crashed("web") == []


@pytest.mark.parametrize("group_id", ["mail", "photos"])
async def test_what_is_stopped_neither_crashes_nor_comes_back(group_id: str) -> None:
    faulty = await Faulty.with_started("mail")
    faulty.after(CRASH_AFTER_SECONDS)
    await asked(faulty.host, Action.STOP, "mail")
    faulty.after(CRASH_AFTER_SECONDS + RETURN_AFTER_SECONDS)
    assert faulty.told.state(group_id) is GroupState.OFF
    assert [sample.usages for sample in faulty.samples()] == [(), ()]


async def test_a_group_with_a_rule_uses_too_much_some_time_after_each_start() -> None:
    faulty = await Faulty.with_started("photos", "mail")
    for seconds in (0, 15, CALM_SECONDS + 2, CALM_SECONDS + 42):
        faulty.after(seconds)
    calm, hungry = (_cpu_percent(*faulty.samples()[at : at + 2]) for at in (0, 2))
    assert (calm, hungry) == pytest.approx((2, 98.5))  # the other unit is never hungry
    memory_mib = [
        sum(usage.memory_bytes or 0 for usage in sample.usages) / 2**20 for sample in faulty.samples()
    ]
    assert [each > 900 for each in memory_mib] == [False, False, True, True]
    assert faulty.told.state("photos") is GroupState.ON  # nothing crashes: the rule is to act
    await asked(faulty.host, Action.RESTART, "photos")
    faulty.after(CALM_SECONDS + 45)
    [before, after] = (sample.usages[0] for sample in faulty.samples()[-2:])
    assert after.run != before.run
    assert after.since_seconds > before.since_seconds
    assert {told_id for told_id, _ in faulty.told.samples} == {"photos"}


def _cpu_percent(before: Sample, after: Sample) -> float:
    used_ns = sum((usage.cpu_ns or 0) for usage in after.usages)
    used_ns -= sum((usage.cpu_ns or 0) for usage in before.usages)
    return used_ns / 1e9 / (after.at_seconds - before.at_seconds) * 100


@pytest.mark.parametrize(
    ("limits", "seconds", "said"),
    [
        (RestartWhen(cpu_percent=65, for_seconds=30), 55, "cpu 9[78] % for 3[05] s"),
        (RestartWhen(cpu_percent=150), 205, "cpu 22[56] % for 18[05] s"),
        (RestartWhen(memory_mib=900), 205, "memory 13[56][0-9] MiB for 18[05] s"),
    ],
)
async def test_a_rule_restarts_the_group_in_time(limits: RestartWhen, seconds: int, said: str) -> None:
    faulty = await Faulty.with_started("photos")
    rule, due = RestartRule(limits, BUSY.members), list[tuple[int, str]]()
    faulty.host.groups = [replace(BUSY, restart_when=limits)]
    for at_seconds in range(0, seconds + 1, 5):
        faulty.after(at_seconds)
        rule, decided = rule.step(Sampled(faulty.samples()[-1], is_on=True))
        due += [(at_seconds, each.reason) for each in decided if isinstance(each, RestartDue)]
    [(_, reason)] = due
    assert re.match(said, reason)


async def test_faults_come_by_themselves_until_the_host_is_closed(told: Recorder) -> None:
    host = SimulatedHost((BUSY,), job_seconds=0, faults_every_seconds=0.001)
    await host.open(told)
    await eventually(lambda: len(told.samples) > 2)
    await host.close()
    number = len(told.samples)
    await asyncio.sleep(0.01)
    assert len(told.samples) == number


async def test_a_bug_in_the_faults_ends_the_demo(told: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(told, "sampled", None)
    host = SimulatedHost((BUSY,), faults_every_seconds=0.001)
    await host.open(told)
    with pytest.raises(TypeError):
        await host.until_broken()
    await host.close()


async def test_groups_of_other_hosts_have_a_unit_each_and_their_hosts_are_connected() -> None:
    nas, pi = RemoteHost("nas", "nas.lan"), RemoteHost("pi", "pi.lan")
    groups = (
        Group("nas-media", "Media", actions=frozenset(Action), elsewhere=Elsewhere(nas, "media")),
        Group("pi-media", "Media 2", elsewhere=Elsewhere(pi, "media")),
        GROUPS[0],
    )
    told = Recorder({group.id: group for group in groups})
    host = SimulatedHost(groups, job_seconds=0.001)
    await host.open(told)
    assert await asked(host, Action.START, "nas-media") == SUCCESS
    last = dict(told.changes)
    assert last["nas-media"].units == {"nas-media.service": ACTIVE}
    assert last["pi-media"].units == {"pi-media.service": INACTIVE}
    meant = last["nas-media"].group
    assert meant is not None
    assert (meant.units, meant.name) == (("nas-media.service",), "Media")
    assert last["web"].group is None
    assert [(each.name, each.ssh, each.problem) for each in host.remote_hosts()] == [
        ("nas", "nas.lan", ""),
        ("pi", "pi.lan", ""),
    ]
    await host.watch(GROUPS)
    assert host.remote_hosts() == ()
    assert (await asked(host, Action.START, "nas-media")).failure is not None
    await host.close()
