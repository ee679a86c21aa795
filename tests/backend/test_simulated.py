"""Simulated units behave as systemd's do, as far as a switch can tell."""

import asyncio

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
from hkswitch.model.group import Commands, Group
from hkswitch.model.switch_events import Observed, RequestOrigin
from hkswitch.model.unit_state import Action, ActionResult, GroupState, ProbeResult, UnitState
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
