"""A host behind a real helper on a private bus with a fake systemd: what it tells, and what it does."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from hkswitch.backend import helper_host
from hkswitch.model.switch_events import Observed, RequestOrigin
from hkswitch.model.unit_state import Action, ActionResult, GroupState, ProbeResult
from hkswitch.serviceswitch.probes import MOST_PROBES_AT_ONCE
from tests.support.fake_systemd import SYSTEMD, FakeSystemd, Outcome, Unit
from tests.support.fixtures import VARIABLE, bus_address, fake, systemd_on_bus
from tests.support.host_with_helper import DOWN, UP, HostSetup, ignore, patched
from tests.support.waiting import PATIENCE_SECONDS, eventually

__all__ = ["bus_address", "fake", "systemd_on_bus"]

CONFIG = "groups: {web: {units: [httpd]}, files: {units: [smb, nmb], actions: [start]}}"
UNITS = ("httpd.service", "smb.service", "nmb.service")
SUCCESS = ActionResult()


@pytest_asyncio.fixture(loop_scope="module")
async def helped(fake: FakeSystemd, tmp_path: Path) -> AsyncIterator[HostSetup]:
    fake.reset(*map(Unit, UNITS))
    config_file = tmp_path / "config.yaml"
    helped = HostSetup.of(config_file, CONFIG, patched(config_file, link__FIRST_PAUSE_SECONDS=0.05))
    yield await helped.opened()
    await helped.host.close()


async def started(helped: HostSetup, group_id: str) -> ActionResult:
    return await helped.host.request(Action.START, group_id, ignore, RequestOrigin.CONTROLLER)


async def test_open_has_told_every_state(helped: HostSetup) -> None:
    assert helped.told.last == {
        "web": Observed({"httpd.service": DOWN}),
        "files": Observed({"smb.service": DOWN, "nmb.service": DOWN}),
    }
    assert (helped.host.trouble(), helped.host.config_problem()) == ("", "")


async def test_a_change_from_outside_is_told_of_its_group_only(helped: HostSetup, fake: FakeSystemd) -> None:
    helped.told.forget()
    fake.change("httpd.service", "active", "running")
    await eventually(lambda: helped.told.state("web") is GroupState.ON)
    assert helped.told.changes == [("web", Observed({"httpd.service": UP}))]


async def test_what_a_request_led_to_was_told_when_it_returns(helped: HostSetup) -> None:
    accepted: list[GroupState | None] = []
    action = helped.host.request(
        Action.START, "web", lambda: accepted.append(helped.told.state("web")), RequestOrigin.CONTROLLER
    )
    assert await action == SUCCESS
    assert helped.told.state("web") is GroupState.ON
    assert accepted == [GroupState.OFF]
    assert await helped.host.request(Action.STOP, "web", ignore, RequestOrigin.CONTROLLER) == SUCCESS
    assert helped.told.state("web") is GroupState.OFF


@pytest.mark.parametrize(
    ("action", "group", "failure"),
    [
        (Action.STOP, "files", "stop is not in this group's actions"),
        (Action.RESTART, "web", "restart is not in this group's actions"),
        (Action.START, "none", "denied: there is no group 'none' in the configuration"),
    ],
)
async def test_a_denied_request_says_why(helped: HostSetup, action: Action, group: str, failure: str) -> None:
    accepted: list[str] = []
    result = await helped.host.request(
        action, group, lambda: accepted.append(group), RequestOrigin.CONTROLLER
    )
    assert result == ActionResult(failure)
    assert accepted == []


async def test_a_failed_request_names_the_unit_and_the_job_result(
    helped: HostSetup, fake: FakeSystemd
) -> None:
    fake.units["nmb.service"].job_result = "timeout"
    assert await started(helped, "files") == ActionResult("nmb.service timeout", went_wrong=True)
    assert helped.told.state("files") is GroupState.FAILED


@pytest.mark.parametrize(
    ("origin", "is_noticed"),
    [(RequestOrigin.CONTROLLER, False), (RequestOrigin.RULE, False), (RequestOrigin.USER, True)],
)
async def test_a_person_waits_longer_to_see_whether_a_unit_stays_up(
    helped: HostSetup, fake: FakeSystemd, origin: RequestOrigin, is_noticed: bool
) -> None:
    unit = fake.units["httpd.service"]
    unit.kind, unit.result, unit.status = "simple", "exit-code", 1
    began_seconds = time.monotonic()
    request = asyncio.create_task(helped.host.request(Action.START, "web", ignore, origin))
    await eventually(lambda: request.done() or time.monotonic() > began_seconds + 0.5)
    if is_noticed:
        assert not request.done()
        fake.change("httpd.service", "failed", "failed")
    failure = "httpd.service exited with status 1" if is_noticed else None
    assert await request == ActionResult(failure, went_wrong=is_noticed)
    assert time.monotonic() - began_seconds > (0.5 if is_noticed else 0.2)


async def test_requests_run_side_by_side(helped: HostSetup, fake: FakeSystemd) -> None:
    fake.units["httpd.service"].held = True
    slow = asyncio.create_task(started(helped, "web"))
    assert await started(helped, "files") == SUCCESS
    assert not slow.done()
    fake.release("httpd.service", active="active", sub="running")
    assert await slow == SUCCESS


async def test_units_that_are_watched_later_are_told_and_followed(
    helped: HostSetup, fake: FakeSystemd
) -> None:
    fake.units["new.service"] = Unit("new.service")
    await helped.reload("groups: {web: {units: [httpd]}, new: {units: [new]}}")
    assert helped.told.state("new") is GroupState.OFF
    for unit, group in (("new.service", "new"), ("httpd.service", "web")):
        fake.change(unit, "active", "running")
        await eventually(lambda group=group: helped.told.state(group) is GroupState.ON)  # type: ignore[misc]


# The bus


async def test_without_a_bus_open_does_not_fail_and_all_is_told_once_it_is_there(
    fake: FakeSystemd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.reset(*map(Unit, UNITS))
    bus = tmp_path / "bus"
    address = fake.address.partition("path=")[2].partition(",")[0]
    with monkeypatch.context() as patch:
        patch.setenv(VARIABLE, f"unix:path={bus}")
        config_file = tmp_path / "config.yaml"
        helped = HostSetup.of(config_file, CONFIG, patched(config_file, link__FIRST_PAUSE_SECONDS=0.05))
        await asyncio.wait_for(helped.opened(), helper_host.TOLD_WITHIN_SECONDS)
    await eventually(lambda: "bus" in helped.told.why("web"))
    assert [helped.told.last[group].units for group in ("web", "files")] == [None, None]
    assert helped.host.trouble() == ""
    assert (await started(helped, "web")).failure == helped.told.why("web")
    bus.symlink_to(address)
    await eventually(lambda: helped.told.state("files") is GroupState.OFF)
    assert await started(helped, "web") == SUCCESS
    assert helped.told.state("web") is GroupState.ON
    await helped.host.close()


async def test_while_the_bus_is_away_no_group_is_known_and_then_all_is_read_again(
    helped: HostSetup, fake: FakeSystemd
) -> None:
    await fake.leave()
    await eventually(lambda: helped.told.last["web"].units is None)
    assert helped.told.last["files"].units is None
    assert "systemd" in helped.told.why("web")
    fake.units["httpd.service"].active = "active"
    helped.told.forget()
    await fake.bus.request_name(SYSTEMD)
    await eventually(lambda: helped.told.state("web") is GroupState.ON)
    assert helped.told.states("web") == [GroupState.ON]
    assert helped.told.state("files") is GroupState.OFF


@pytest.mark.parametrize(
    ("active", "failure"),
    [("active", None), ("failed", "httpd.service exited with status 7"), ("inactive", "httpd.service ")],
)
async def test_a_start_during_which_the_bus_goes_and_comes_back_is_settled_from_units_and_jobs(
    helped: HostSetup, fake: FakeSystemd, active: str, failure: str | None
) -> None:
    unit = fake.units["httpd.service"]
    unit.held = True
    request = asyncio.create_task(started(helped, "web"))
    await eventually(lambda: unit.job is not None)
    await fake.leave()
    await eventually(lambda: helped.told.last["web"].units is None)
    await fake.bus.request_name(SYSTEMD)
    await eventually(lambda: helped.told.state("web") is GroupState.OFF)
    assert not request.done()  # its job still waits
    unit.result, unit.status = ("success", 0) if active != "failed" else ("exit-code", 7)
    fake.release("httpd.service", active=active, sub="dead")
    result = await request
    assert (result.failure is None) if failure is None else (result.failure or "").startswith(failure)
    assert fake.calls.count(("StartUnit", "httpd.service", "replace")) == 1


# What probes say


PROBED = """\
groups:
  web: {units: [httpd], check: [/bin/echo, check], interval_seconds: 3600}
  lamp: {commands: {start: [/bin/echo, a], stop: [/bin/echo, b], status: [/bin/echo, c]}, interval_seconds: 1}
"""


@pytest_asyncio.fixture(loop_scope="module")
async def probed(fake: FakeSystemd, tmp_path: Path) -> AsyncIterator[HostSetup]:
    """A host whose groups have probes: the lamp is off."""
    fake.reset(Unit("httpd.service"))
    fake.commands = lambda argv: Outcome(status=int(argv[-1] == "c"))
    config_file = tmp_path / "config.yaml"
    helped = HostSetup.of(config_file, PROBED, patched(config_file, link__FIRST_PAUSE_SECONDS=0.05))
    yield await helped.opened()
    await helped.host.close()


async def test_open_has_told_what_a_status_says_and_not_what_a_check_will(probed: HostSetup) -> None:
    assert probed.told.last["lamp"].probe_result is ProbeResult.OFF
    assert probed.told.last["web"] == Observed({"httpd.service": DOWN})


async def test_open_waits_for_no_status_that_hangs(
    fake: FakeSystemd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(helper_host, "TOLD_WITHIN_SECONDS", 0.5)
    fake.reset(Unit("httpd.service"))
    fake.commands = lambda _: Outcome(seconds=3600)
    config_file = tmp_path / "config.yaml"
    helped = await HostSetup.of(config_file, PROBED, patched(config_file)).opened()
    assert helped.told.state("lamp") is None
    await helped.host.close()


async def test_a_tap_waits_for_no_probe_of_another_group(
    fake: FakeSystemd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many hang as are run at once, and more wait for their turn."""
    monkeypatch.setattr(helper_host, "TOLD_WITHIN_SECONDS", 0.5)
    fake.reset(Unit("httpd.service"))
    fake.commands = lambda argv: Outcome(seconds=3600 if argv[-1] == "hang" else 0)
    hanging = "commands: {start: [/bin/echo, a], stop: [/bin/echo, b], status: [/bin/echo, hang]}"
    groups = [f"  g{number}: {{{hanging}}}\n" for number in range(2 * MOST_PROBES_AT_ONCE)]
    config_file = tmp_path / "config.yaml"
    helped = HostSetup.of(config_file, PROBED + "".join(groups), patched(config_file))
    await helped.opened()
    await eventually(lambda: sum(argv[-1] == "hang" for argv in fake.ran) == MOST_PROBES_AT_ONCE)
    result = await asyncio.wait_for(
        helped.host.request(Action.START, "web", ignore, RequestOrigin.CONTROLLER), PATIENCE_SECONDS
    )
    assert result == ActionResult()
    assert helped.told.state("web") is GroupState.ON
    await helped.host.close()


async def test_a_group_with_a_check_is_on_once_that_says_so_and_never_before(
    probed: HostSetup, fake: FakeSystemd
) -> None:
    probed.told.forget()
    fake.change("httpd.service", "active", "running")
    await eventually(lambda: probed.told.state("web") is GroupState.ON)
    assert probed.told.states("web") == [None, GroupState.ON]
    assert probed.told.last["web"].probe_result is ProbeResult.ON


async def test_after_a_loss_of_the_bus_probes_are_asked_again(probed: HostSetup, fake: FakeSystemd) -> None:
    await fake.leave()
    await eventually(lambda: probed.told.last["lamp"].units is None)
    ran = len(fake.ran)
    fake.commands = lambda _: Outcome(status=0)
    await fake.bus.request_name(SYSTEMD)
    await eventually(lambda: probed.told.state("lamp") is GroupState.ON)
    assert len(fake.ran) > ran


async def test_a_probe_that_cannot_answer_is_unknown_and_logged_once_with_its_reason(
    probed: HostSetup, fake: FakeSystemd, caplog: pytest.LogCaptureFixture
) -> None:
    fake.commands = lambda _: Outcome("exit-code", 203)
    await eventually(lambda: probed.told.last["lamp"].probe_result is ProbeResult.UNAVAILABLE)
    ran = len(fake.ran)
    await eventually(lambda: len(fake.ran) > ran)
    assert "could not be executed" in probed.told.why("lamp")
    assert caplog.text.count("lamp: unavailable: ") == 1


async def test_a_group_that_comes_with_a_reload_is_told(probed: HostSetup) -> None:
    await probed.reload(PROBED.replace("lamp:", "other:"))
    assert probed.told.state("other") is GroupState.OFF
