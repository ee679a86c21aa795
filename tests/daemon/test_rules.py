"""Rules of groups in the daemon: what they are fed, what they have done, and what is kept of it."""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import pytest

from hkswitch.daemon.rules import Rules
from hkswitch.model.errors import Failure
from hkswitch.model.group import Group, RestartWhen
from hkswitch.model.restart_rule_events import Armed, GaveUp
from hkswitch.model.switch_events import Observed
from hkswitch.model.unit_state import ActionResult, Sample, Usage

RULE: Final = RestartWhen(cpu_percent=50, for_seconds=30, at_most_per_hour=1)
WEB: Final = Group("web", "Web", ("httpd.service",), restart_when=RULE)
PLAIN: Final = Group("plain", "Plain", ("a.service",))


@dataclass
class NotedGroups:
    """The groups, which are on and restart at once, unless a test changes that."""

    on: bool = True
    result: ActionResult | Failure = field(default_factory=ActionResult)
    restarted: list[str] = field(default_factory=list)
    notices: int = 0
    is_held: asyncio.Event | None = None

    def is_on(self, group_id: str) -> bool:
        del group_id
        return self.on

    async def restart_by_rule(self, group_id: str) -> ActionResult:
        self.restarted.append(group_id)
        if self.is_held is not None:
            await self.is_held.wait()
        if isinstance(self.result, Failure):
            raise self.result
        return self.result

    def noticed(self) -> None:
        self.notices += 1


@dataclass
class NotedAlerts:
    """What rules alert of and keep."""

    kept_rules: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    decided: list[tuple[str, GaveUp | Armed]] = field(default_factory=list)

    def rule_decided(self, group_id: str, decision: GaveUp | Armed) -> None:
        self.decided.append((group_id, decision))


@dataclass
class Burning:
    """The rules of groups, of which one uses a whole core in each run."""

    groups: NotedGroups = field(default_factory=NotedGroups)
    alerts: NotedAlerts = field(default_factory=NotedAlerts)
    at_seconds: float = 1000.0
    since_seconds: float = 1000.0
    run: int = 1
    rules: Rules = field(init=False)

    def __post_init__(self) -> None:
        self.rules = Rules([WEB, PLAIN], self.groups, self.alerts)

    async def burn(self, samples: int, *, percent: int = 100) -> None:
        """Let time pass, a sample at a time."""
        for _ in range(samples):
            cpu_ns = int((self.at_seconds - self.since_seconds) * percent * 10**7)
            usage = Usage("httpd.service", str(self.run), self.since_seconds, cpu_ns, None)
            self.rules.sampled("web", Sample(self.at_seconds, (usage,)))
            self.at_seconds += 15
            await asyncio.sleep(0)
            await asyncio.sleep(0)

    def start(self) -> None:
        """Begin another run, just after the last sample."""
        self.run, self.since_seconds = self.run + 1, self.at_seconds - 14


async def test_a_group_that_exceeds_its_limit_for_a_window_is_restarted_once() -> None:
    burning = Burning()
    await burning.burn(2)
    assert burning.rules.description("web") == "cpu 100 % for 15 of 30 s"
    assert burning.groups.restarted == []
    await burning.burn(1)
    assert burning.groups.restarted == ["web"]
    await burning.rules.close()


@pytest.mark.parametrize(
    ("on", "percent"), [pytest.param(False, 100, id="not on"), pytest.param(True, 50, id="at the limit")]
)
async def test_no_other_group_is_restarted(on: bool, percent: int) -> None:
    burning = Burning(NotedGroups(on=on))
    await burning.burn(10, percent=percent)
    burning.rules.sampled("plain", Sample(2000, (Usage("a.service", "x", 0, 10**15, None),)))
    burning.rules.sampled("unknown", Sample(2000, ()))
    assert burning.groups.restarted == []
    assert [burning.rules.description(group_id) for group_id in ("web", "plain", "unknown")] == ["", "", ""]


async def test_a_restart_counts_before_it_is_requested() -> None:
    burning = Burning(NotedGroups(is_held=asyncio.Event()))
    await burning.burn(3)
    (kept,) = burning.alerts.kept_rules.values()
    assert kept["restarts_at_seconds"] == [1030.0]
    await burning.rules.close()


@pytest.mark.parametrize(
    "result",
    [ActionResult("httpd.service failed"), Failure("hkswitch is stopping")],
    ids=["failed", "refused"],
)
async def test_a_rule_acts_again_after_a_restart_that_went_wrong(result: ActionResult | Failure) -> None:
    burning = Burning(NotedGroups(result=result))
    rule = RestartWhen(cpu_percent=50, for_seconds=30, at_most_per_hour=2)
    burning.rules.regroup([Group("web", "Web", ("httpd.service",), restart_when=rule)])
    await burning.burn(3)
    assert burning.groups.restarted == ["web"]
    await burning.burn(3)
    assert burning.groups.restarted == ["web", "web"]


async def test_a_rule_that_gives_up_alerts_and_so_does_the_next_daemon() -> None:
    burning = Burning()
    await burning.burn(3)
    burning.start()
    await burning.burn(3)
    given_up = "gave up after 1 restart within an hour"
    (told,) = burning.alerts.decided
    assert told == ("web", GaveUp(given_up, "cpu 100 % for 44 s (limit 50 %)"))
    assert burning.groups.restarted == ["web"]
    next_alerts = NotedAlerts(burning.alerts.kept_rules)
    rules = Rules([WEB], burning.groups, next_alerts)
    assert next_alerts.decided == [("web", GaveUp(given_up, ""))]
    assert rules.description("web") == given_up
    burning.start()
    await burning.burn(1)
    assert burning.alerts.decided[1:] == [("web", Armed("httpd.service was started"))]


@pytest.mark.parametrize("groups", [[], [PLAIN], [Group("web", "Web", ("httpd.service",))]])
async def test_a_rule_that_a_reload_removes_does_nothing(groups: list[Group]) -> None:
    burning = Burning()
    await burning.burn(2)
    burning.rules.regroup(groups)
    await burning.burn(9)
    assert (burning.groups.restarted, burning.rules.description("web")) == ([], "")


async def test_a_reload_keeps_the_restarts_of_the_last_hour() -> None:
    burning = Burning()
    await burning.burn(3)
    burning.rules.regroup([PLAIN, WEB])
    burning.start()
    await burning.burn(4)
    assert burning.groups.restarted == ["web"]


async def test_what_was_measured_before_the_helper_went_away_is_forgotten() -> None:
    burning = Burning()
    await burning.burn(2)
    burning.rules.observed("web", Observed(None))
    assert burning.rules.description("web") == ""
    await burning.burn(2)
    assert burning.groups.restarted == []


async def test_watchers_are_told_of_a_rules_progress_and_of_nothing_else() -> None:
    burning = Burning()
    await burning.burn(5, percent=10)
    assert burning.groups.notices == 0
    burning.start()
    await burning.burn(2)
    assert burning.groups.notices == 2


async def test_a_limit_that_cannot_be_measured_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    burning = Burning()
    rule = RestartWhen(memory_mib=100, for_seconds=30)
    burning.rules.regroup([Group("web", "Web", ("httpd.service",), restart_when=rule)])
    with caplog.at_level(logging.WARNING):
        await burning.burn(4)
    assert caplog.messages == ["web: cannot measure memory; its limit has no effect"]
    assert burning.rules.description("web") == "cannot measure memory"
