"""Simulated units behave as systemd's do, as far as a switch can tell."""

from collections.abc import Mapping

import pytest

from hkswitch.backend.simulated import ACTIVATING, ACTIVE, DEACTIVATING, FAILED, INACTIVE, SimulatedHost
from hkswitch.model.group import Commands, Group
from hkswitch.model.unit_state import Action, UnitState, Verdict

GROUPS = (
    Group("web", "Web", ("httpd.service", "cache.service"), actions=frozenset(Action)),
    Group("broken", "Broken", ("broken.service",)),
    Group("lamp", "Lamp", commands=Commands(("/opt/on",), ("/opt/off",), ("/opt/status",))),
    Group("tunnel", "Tunnel", ("wg.service",), check=("/opt/check",)),
)


def ignore() -> None:
    """Of no interest that it was accepted."""


class Observer:
    """Remembers what one unit went through."""

    def __init__(self, unit: str) -> None:
        self.unit = unit
        self.states: list[UnitState] = []
        self.verdicts: list[tuple[str, Verdict | None]] = []

    def seen(self, units: Mapping[str, UnitState]) -> None:
        if self.unit in units:
            self.states.append(units[self.unit])

    def probed(self, group_id: str, verdict: Verdict | None) -> None:
        self.verdicts.append((group_id, verdict))

    def lost(self) -> None:
        raise AssertionError("simulated units are never lost")


async def opened(observer: Observer) -> SimulatedHost:
    host = SimulatedHost(GROUPS, job_seconds=0.001, broken={"broken.service"})
    await host.open(observer)
    return host


async def test_units_pass_through_the_states_of_a_job() -> None:
    observer = Observer("httpd.service")
    host = await opened(observer)
    assert await host.request(Action.START, "web", ignore) is None
    assert await host.request(Action.RESTART, "web", ignore) is None
    assert await host.request(Action.STOP, "web", ignore) is None
    started, restarted = [INACTIVE, ACTIVATING, ACTIVE], [DEACTIVATING, INACTIVE, ACTIVATING, ACTIVE]
    assert observer.states == [*started, *restarted, DEACTIVATING, INACTIVE, INACTIVE]


async def test_a_restart_leaves_what_is_stopped_stopped() -> None:
    observer = Observer("httpd.service")
    host = await opened(observer)
    assert await host.request(Action.RESTART, "web", ignore) is None
    assert observer.states == [INACTIVE]


async def test_a_broken_unit_fails_to_start() -> None:
    observer = Observer("broken.service")
    host = await opened(observer)
    assert await host.request(Action.START, "broken", ignore) == "broken.service failed"
    assert observer.states == [INACTIVE, ACTIVATING, FAILED]


@pytest.mark.parametrize(("action", "group"), [(Action.START, "none"), (Action.RESTART, "broken")])
async def test_what_the_config_does_not_allow_is_denied(action: Action, group: str) -> None:
    host = await opened(Observer("httpd.service"))
    assert await host.request(action, group, ignore) == f"denied: {action} {group}"


async def test_a_group_of_commands_is_off_until_it_is_started() -> None:
    observer = Observer("")
    host = await opened(observer)
    assert await host.request(Action.START, "lamp", ignore) is None
    assert await host.request(Action.STOP, "lamp", ignore) is None
    assert observer.verdicts == [("lamp", Verdict.OFF), ("lamp", Verdict.ON), ("lamp", Verdict.OFF)]


async def test_a_check_says_yes_whenever_all_units_are_up() -> None:
    observer = Observer("wg.service")
    host = await opened(observer)
    for _ in range(2):
        assert await host.request(Action.START, "tunnel", ignore) is None
        assert observer.verdicts.pop() == ("tunnel", Verdict.ON)
        assert await host.request(Action.STOP, "tunnel", ignore) is None
