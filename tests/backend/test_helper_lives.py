"""A helper is replaced by the next one: what is believed meanwhile, and what becomes of requests."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from hkswitch.backend import aftermath, helper_client, helper_host, helper_session
from hkswitch.model.group import Engine
from hkswitch.model.switch_events import Observed, RequestOrigin
from hkswitch.model.unit_state import Action, ActionResult, GroupState, ProbeResult
from tests.support.fake_systemd import FakeSystemd, Outcome, Unit
from tests.support.fixtures import bus_address, fake, systemd_on_bus
from tests.support.host_with_helper import UP, HostSetup, groups_of, ignore, patched, scripted
from tests.support.simulated_engine import SimulatedEngine
from tests.support.waiting import eventually

__all__ = ["bus_address", "fake", "systemd_on_bus"]

CONFIG = "groups: {web: {units: [httpd]}, files: {units: [smb]}}"
PROBED = """\
groups:
  web: {units: [httpd], check: [/bin/echo, check], interval_seconds: 3600}
  lamp:
    commands: {start: [/bin/echo, a], stop: [/bin/echo, b], status: [/bin/echo, c]}
    interval_seconds: 3600
  files: {units: [smb]}
"""
SUCCESS = ActionResult()
SOON_SECONDS = 0.5

AS_SUDO = [sys.executable, "-c", "import subprocess, sys; sys.exit(subprocess.call(sys.argv[1:]))"]
"""Runs the helper as a child of its own, which the daemon cannot end but by its pipe."""

Open = Callable[..., Awaitable[HostSetup]]


@pytest_asyncio.fixture(loop_scope="module")
async def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Open]:
    """Open a host on a config, with a helper that this command runs; it is closed with the test."""
    monkeypatch.setattr(helper_client, "BACK_OFF_SECONDS", (0.01,))
    all_opened: list[HostSetup] = []

    async def begin(config: str, command: list[str] | None = None) -> HostSetup:
        config_file = tmp_path / "config.yaml"
        helped = HostSetup.of(config_file, config, command or patched(config_file))
        all_opened.append(helped)
        return await helped.opened()

    yield begin
    for helped in all_opened:
        await helped.host.close()
        await eventually(lambda helped=helped: not helped.helpers())  # type: ignore[misc]


async def asked(helped: HostSetup, action: Action = Action.START, group_id: str = "web") -> ActionResult:
    return await helped.host.request(action, group_id, ignore, RequestOrigin.CONTROLLER)


async def killed(helped: HostSetup) -> None:
    """The helper is killed, and its end was noticed."""
    notices = helped.told.notices
    helped.signal(signal.SIGKILL)
    await eventually(lambda: helped.told.notices > notices)


# A helper that does not answer


async def test_a_helper_that_was_stopped_is_believed_no_longer_and_does_nothing_late(
    fake: FakeSystemd, opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.reset(Unit("httpd.service", active="active", sub="running"), Unit("smb.service"))
    monkeypatch.setattr(helper_session, "SILENCE_SECONDS", 1)
    helped = await opened(CONFIG, [*AS_SUDO, *patched(tmp_path / "config.yaml")])
    [stopped] = helped.helpers()
    os.kill(stopped, signal.SIGSTOP)
    helped.told.forget()
    late = asyncio.create_task(asked(helped, Action.STOP))
    await eventually(lambda: helped.told.changes)
    assert {group_id: observed.units for group_id, observed in helped.told.last.items()} == {
        "web": None,
        "files": None,
    }
    assert "did not answer within" in helped.told.why("web")
    assert "did not answer within" in ((await late).failure or "")
    await eventually(lambda: helped.told.state("web") is GroupState.ON)
    assert helped.host.trouble() == ""
    monkeypatch.setattr(helper_session, "SILENCE_SECONDS", 5)
    assert set(helped.helpers()) > {stopped}
    helped.told.forget()
    os.kill(stopped, signal.SIGCONT)
    await eventually(lambda: stopped not in helped.helpers())
    assert not [call for call in fake.calls if call[0] == "StopUnit"]
    assert await asked(helped, group_id="files") == SUCCESS
    assert helped.told.states("web") == []
    assert helped.told.states("files") == [GroupState.ON]


async def test_lines_of_a_helper_that_was_given_up_are_ignored(
    opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It speaks up while it is being ended."""
    token = groups_of(CONFIG)["web"].token
    monkeypatch.setattr(helper_session, "SILENCE_SECONDS", SOON_SECONDS)
    code = f"""
number = life()
hello()
epoch = until("observe")["observe"]
if number == 2:
    wait_for("go")
group(epoch, "web", {token!r}, "httpd.service")
states(epoch, [unit("httpd.service", "inactive")])
say("complete", epoch=epoch)
if number == 1:
    request = until("action")
    say("accepted", id=request["id"])
    sys.stdin.read()
    states(epoch, [unit("httpd.service", "active")])
    finish(request, ("httpd.service", "done"))
    open(sys.argv[1] + "/spoke", "w").close()
    sys.exit(0)
until("never")
"""
    helped = await opened(CONFIG, scripted(code, str(tmp_path)))
    assert helped.told.state("web") is GroupState.OFF
    monkeypatch.setattr(aftermath, "STARTING_WITHIN_SECONDS", 0.1)
    helped.told.forget()
    request = asyncio.create_task(asked(helped))
    await eventually((tmp_path / "spoke").exists)
    (tmp_path / "go").touch()
    assert "did not answer within" in ((await request).failure or "")
    assert helped.told.states("web") == [None, GroupState.OFF]


# A helper that has ended


async def test_after_a_kill_states_stay_and_nothing_is_told_but_what_changed_meanwhile(
    fake: FakeSystemd, opened: Open
) -> None:
    fake.reset(Unit("httpd.service", active="active", sub="running"), Unit("smb.service"))
    helped = await opened(CONFIG)
    helped.told.forget()
    await killed(helped)
    fake.change("smb.service", "active", "running")
    await eventually(lambda: helped.told.state("files") is GroupState.ON)
    assert helped.told.changes == [("files", Observed({"smb.service": UP}))]
    assert helped.told.state("web") is GroupState.ON


@asynccontextmanager
async def docker_at(path: Path) -> AsyncIterator[SimulatedEngine]:
    """Docker on a socket, with a container that runs."""
    docker = SimulatedEngine(Engine.DOCKER)
    docker.add("web")
    async with await asyncio.start_unix_server(docker.serve, path):
        yield docker
        docker.stop_engine(docker.unit)


async def test_after_a_kill_containers_stay_on_and_the_next_helper_follows_them(
    fake: FakeSystemd, opened: Open, tmp_path: Path
) -> None:
    fake.reset(Unit("docker.service", active="active", sub="running"), Unit("smb.service"))
    config = "groups: {web: {containers: [web]}, files: {units: [smb]}}"
    sockets = {"docker": str(tmp_path / "docker.sock")}
    async with docker_at(tmp_path / "docker.sock") as docker:
        helped = await opened(config, patched(tmp_path / "config.yaml", engines__SOCKETS=sockets))
        assert helped.told.state("web") is GroupState.ON
        helped.told.forget()
        await killed(helped)
        fake.change("smb.service", "active", "running")
        await eventually(lambda: helped.told.state("files") is GroupState.ON)
        assert [group_id for group_id, _ in helped.told.changes] == ["files"]
        docker.kill(docker.named("web"))
        await eventually(lambda: helped.told.state("web") is GroupState.OFF)
        assert await asked(helped) == SUCCESS
        await eventually(lambda: helped.told.state("web") is GroupState.ON)
        fake.change("docker.service", "deactivating", "stop-sigterm")
        await eventually(lambda: helped.told.state("web") is GroupState.MISSING)
        await eventually(lambda: docker.connections == 0)
        connects = len(docker.connects)
        fake.change("docker.service", "inactive", "dead")
        why = "docker/web refused (docker.service is inactive (dead))"
        assert (await asked(helped)).failure == why
        assert len(docker.connects) == connects
        await helped.host.close()


TELLS_IN_PARTS = """
number = life()
hello()
epoch = until("observe")["observe"]
group(epoch, "web", WEB, "httpd.service")
group(epoch, "files", FILES, "smb.service")
states(epoch, [unit("httpd.service", "active" if number == 1 else "inactive")])
if number == 1:
    states(epoch, [unit("smb.service", "active")])
    say("complete", epoch=epoch)
    wait_for("end")
    sys.exit(0)
open(sys.argv[1] + "/half", "w").close()
while not os.path.exists(sys.argv[1] + "/rest"):
    say("pong", id=99)
    time.sleep(0.01)
states(epoch, [unit("smb.service", "active")])
say("complete", epoch=epoch)
until("never")
"""


def tells_in_parts() -> str:
    groups = groups_of(CONFIG)
    return f"WEB, FILES = {groups['web'].token!r}, {groups['files'].token!r}\n{TELLS_IN_PARTS}"


async def test_nothing_of_a_new_helper_counts_before_it_has_told_everything(
    opened: Open, tmp_path: Path
) -> None:
    helped = await opened(CONFIG, scripted(tells_in_parts(), str(tmp_path)))
    helped.told.forget()
    (tmp_path / "end").touch()
    await eventually((tmp_path / "half").exists)
    await eventually(lambda: helped.host.trouble() == "")
    assert helped.told.changes == []
    (tmp_path / "rest").touch()
    await eventually(lambda: helped.told.state("web") is GroupState.OFF)
    assert [group_id for group_id, _ in helped.told.changes] == ["web"]


async def test_what_was_told_is_not_known_any_more_when_no_helper_has_told_everything_in_time(
    opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    helped = await opened(CONFIG, scripted(tells_in_parts(), str(tmp_path)))
    monkeypatch.setattr(helper_host, "TOLD_WITHIN_SECONDS", SOON_SECONDS)
    helped.told.forget()
    began_seconds = time.monotonic()
    (tmp_path / "end").touch()
    await eventually(lambda: helped.told.changes)
    assert time.monotonic() - began_seconds >= SOON_SECONDS
    assert [observed.units for _, observed in helped.told.changes] == [None, None]
    assert "has not answered yet" in helped.told.why("web")
    (tmp_path / "rest").touch()
    await eventually(lambda: helped.told.state("files") is GroupState.ON)
    assert helped.told.states("web") == [None, GroupState.OFF]


@pytest.mark.parametrize("answers", [True, False])
async def test_a_probe_that_a_new_helper_is_asking_keeps_its_verdict_for_a_moment(
    fake: FakeSystemd, opened: Open, monkeypatch: pytest.MonkeyPatch, answers: bool
) -> None:
    fake.reset(Unit("httpd.service", active="active", sub="running"), Unit("smb.service"))
    helped = await opened(PROBED)
    assert [helped.told.state(group_id) for group_id in ("web", "lamp")] == [GroupState.ON] * 2
    monkeypatch.setattr(helper_host, "TOLD_WITHIN_SECONDS", 30 if answers else 1.5)
    fake.commands = lambda _: Outcome(seconds=0.3 if answers else 3600)
    ran = len(fake.ran)
    helped.told.forget()
    await killed(helped)
    if answers:
        await eventually(lambda: len(fake.ran) == ran + 2)
        await eventually(lambda: not fake._running)
        fake.change("smb.service", "active", "running")  # what is told after this was told
        await eventually(lambda: helped.told.state("files") is GroupState.ON)
        assert [group_id for group_id, _ in helped.told.changes] == ["files"]
    else:
        await eventually(lambda: len(helped.told.changes) == 2)
        assert helped.told.states("web") == helped.told.states("lamp") == [None]
        assert all(observed.probe_result is None for _, observed in helped.told.changes)


async def test_a_verdict_is_kept_no_longer_when_one_helper_after_the_other_ends(
    fake: FakeSystemd, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each ends before the probe answered, sooner than what the one before told is doubted."""
    fake.reset(Unit("httpd.service", active="active", sub="running"), Unit("smb.service"))
    helped = await opened(PROBED)
    assert helped.told.state("web") is GroupState.ON
    monkeypatch.setattr(helper_host, "TOLD_WITHIN_SECONDS", 1.5)
    fake.commands = lambda _: Outcome(seconds=3600)
    helped.told.forget()

    async def kill_on() -> None:
        while True:
            fake.ran.clear()
            await killed(helped)
            await eventually(lambda: bool(fake.ran))  # the next one has told everything

    killing = asyncio.create_task(kill_on())
    await eventually(lambda: helped.told.state("web") is None and helped.told.state("lamp") is None)
    assert all(observed.units is not None for _, observed in helped.told.changes)  # a helper was believed
    killing.cancel()
    await asyncio.gather(killing, return_exceptions=True)


async def test_a_probe_whose_unit_changed_while_there_was_no_helper_is_not_believed(
    fake: FakeSystemd, opened: Open
) -> None:
    fake.reset(Unit("httpd.service", active="active", sub="running"), Unit("smb.service"))
    helped = await opened(PROBED)
    helped.told.forget()
    await killed(helped)
    fake.commands = lambda _: Outcome(status=1)
    fake.change("httpd.service", "active", "restarted")
    await eventually(lambda: helped.told.last["web"].probe_result is ProbeResult.OFF)
    assert helped.told.states("web") == [None, GroupState.PARTIAL]
    await eventually(lambda: helped.told.state("lamp") is GroupState.OFF)
    assert helped.told.states("lamp") == [GroupState.OFF]


CHANGES = """
number = life()
hello()
epoch = until("observe")["observe"]
group(epoch, "web", WEB, "httpd.service")
states(epoch, [unit("httpd.service", "active")], [["web", "on", ""]] if number == 1 else [])
say("complete", epoch=epoch)
if number == 1:
    wait_for("end")
    sys.exit(0)
wait_for("go")
states(epoch, [unit("httpd.service", "inactive")])
states(epoch, [unit("httpd.service", "active")])
until("never")
"""


async def test_what_an_earlier_probe_said_counts_no_more_when_a_unit_changes(
    opened: Open, tmp_path: Path
) -> None:
    config = "groups: {web: {units: [httpd], check: [/opt/check]}}"
    facts = f"WEB = {groups_of(config)['web'].token!r}\n"
    helped = await opened(config, scripted(facts + CHANGES, str(tmp_path)))
    (tmp_path / "end").touch()
    await eventually(lambda: len(list(tmp_path.glob("life*"))) == 2)
    assert helped.told.state("web") is GroupState.ON
    (tmp_path / "go").touch()
    await eventually(lambda: helped.told.state("web") is None)
    assert helped.told.states("web")[-2:] == [GroupState.OFF, None]


# Requests


WAITS = """
number = life()
if number == 2:
    wait_for("go")
hello()
epoch = until("observe")["observe"]
group(epoch, "web", WEB, "httpd.service")
states(epoch, [unit("httpd.service", "inactive")])
say("complete", epoch=epoch)
if number == 1:
    until("action")
    sys.exit(0)
request = until("action")
states(epoch, [unit("httpd.service", "active")])
finish(request, ("httpd.service", "done"))
until("never")
"""


def requests(folder: Path) -> list[str]:
    """What scripted helpers were asked to do."""
    return (folder / "requests").read_text().split()


async def test_a_tap_waits_for_the_next_helper_and_none_is_sent_twice(opened: Open, tmp_path: Path) -> None:
    helped = await opened(
        CONFIG, scripted(f"WEB = {groups_of(CONFIG)['web'].token!r}\n{WAITS}", str(tmp_path))
    )
    assert await asked(helped, Action.STOP) == ActionResult("the helper is not running (it gave no reason)")
    assert requests(tmp_path) == ["stop"]
    waiting = asyncio.create_task(asked(helped))
    await asyncio.sleep(0)
    (tmp_path / "go").touch()
    assert await waiting == SUCCESS
    assert helped.told.state("web") is GroupState.ON
    assert requests(tmp_path) == ["stop", "start"]


async def test_taps_that_wait_for_the_next_helper_are_sent_in_their_order(
    opened: Open, tmp_path: Path
) -> None:
    helped = await opened(
        CONFIG, scripted(f"WEB = {groups_of(CONFIG)['web'].token!r}\n{WAITS}", str(tmp_path))
    )
    await asked(helped, Action.STOP)
    actions = [Action.START, Action.STOP, Action.RESTART, Action.STOP, Action.START]
    taps = [asyncio.create_task(asked(helped, action)) for action in actions]
    await asyncio.sleep(0)
    (tmp_path / "go").touch()
    assert await taps[0] == SUCCESS
    await eventually(lambda: len(requests(tmp_path)) == 1 + len(actions))
    assert requests(tmp_path) == ["stop", *actions]
    for tap in taps[1:]:
        tap.cancel()
    await asyncio.gather(*taps[1:], return_exceptions=True)


async def test_a_tap_fails_when_no_helper_comes_in_time(opened: Open, tmp_path: Path) -> None:
    helped = await opened(
        CONFIG, scripted(f"WEB = {groups_of(CONFIG)['web'].token!r}\n{WAITS}", str(tmp_path))
    )
    await asked(helped, Action.STOP)
    began_seconds = time.monotonic()
    assert await asked(helped) == ActionResult("the helper is not running (it gave no reason)")
    assert helper_host.TAP_WAITS_SECONDS <= time.monotonic() - began_seconds < 1.5
    (tmp_path / "go").touch()
    await eventually(lambda: helped.host.trouble() == "")
    await helped.host.check_config()  # it has taken all that it was sent
    assert requests(tmp_path) == ["stop"]


DIES = """
number = life()
if number == 2 and NEVER:
    time.sleep(60)
hello()
epoch = until("observe")["observe"]
group(epoch, "web", WEB, "httpd.service")
states(epoch, [unit("httpd.service", BEFORE if number == 1 else THEN[0])])
say("complete", epoch=epoch)
if number == 1:
    say("accepted", id=until("action")["id"])
    sys.exit(0)
for active in THEN[1:]:
    until("ping")
    states(epoch, [unit("httpd.service", active)])
until("never")
"""


@pytest.mark.parametrize(
    ("action", "then", "is_success"),
    [
        (Action.START, ["inactive", "active"], True),  # its job was waiting
        (Action.START, ["activating", "failed"], False),
        (Action.STOP, ["deactivating", "inactive"], True),
        (Action.START, ["activating", "active", "failed"], False),  # a crash loop
        (Action.STOP, ["active"], False),
        (Action.RESTART, ["deactivating", "activating", "active"], True),
        (Action.RESTART, ["active"], False),  # it may never have been restarted
        (Action.START, [], False),
    ],
)
async def test_a_request_that_was_begun_when_its_helper_died_is_settled_by_what_the_next_one_tells(  # noqa: PLR0917
    opened: Open,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    action: Action,
    then: list[str],
    is_success: bool,
) -> None:
    monkeypatch.setattr(helper_session, "SILENCE_SECONDS", SOON_SECONDS)
    monkeypatch.setattr(aftermath, "STARTING_WITHIN_SECONDS", 3 * SOON_SECONDS)
    monkeypatch.setattr(aftermath, "STAYS_ON_SECONDS", 3 * SOON_SECONDS)
    before = "inactive" if action is Action.START else "active"
    if not then:
        monkeypatch.setattr(helper_host, "TOLD_WITHIN_SECONDS", SOON_SECONDS)
    facts = (
        f"WEB, BEFORE, THEN, NEVER = {groups_of(CONFIG)['web'].token!r}, {before!r}, {then!r}, {not then}\n"
    )
    helped = await opened(CONFIG, scripted(facts + DIES, str(tmp_path)))
    result = await asked(helped, action)
    assert requests(tmp_path) == [action.value]
    if is_success:
        assert result == SUCCESS
    else:
        assert (result.failure or "").startswith("the helper is not running (it gave no reason)")


PAIR = "groups: {web: {units: [httpd, sshd]}}"
STOPS_A_PAIR = """
number = life()
hello()
epoch = until("observe")["observe"]
group(epoch, "web", WEB, "httpd.service", "sshd.service")
for active, sub in BEFORE if number == 1 else THEN:
    states(epoch, [["httpd.service", "loaded", "failed", "failed"], ["sshd.service", "loaded", active, sub]])
    if number > 1:
        until("ping")
say("complete", epoch=epoch)
if number == 1:
    say("accepted", id=until("action")["id"])
    sys.exit(0)
until("never")
"""


@pytest.mark.parametrize(
    ("then", "is_success"),
    [
        (["failed failed"], True),
        (["deactivating stop", "inactive dead"], True),
        (["active running"], False),
        (["activating auto-restart"], False),
    ],
)
async def test_a_stop_whose_helper_died_is_done_when_no_unit_runs_any_more_though_one_has_failed(
    opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, then: list[str], is_success: bool
) -> None:
    monkeypatch.setattr(helper_session, "SILENCE_SECONDS", SOON_SECONDS)
    monkeypatch.setattr(aftermath, "STARTING_WITHIN_SECONDS", SOON_SECONDS)
    before, after = [["active", "running"]], [state.split() for state in then]
    facts = f"WEB, BEFORE, THEN = {groups_of(PAIR)['web'].token!r}, {before!r}, {after!r}\n"
    helped = await opened(PAIR, scripted(facts + STOPS_A_PAIR, str(tmp_path)))
    result = await asked(helped, Action.STOP)
    assert requests(tmp_path) == ["stop"]
    assert result == (
        SUCCESS if is_success else ActionResult("the helper is not running (it gave no reason)")
    )


async def test_a_request_whose_helper_died_is_not_waited_for_when_its_group_is_another_one(
    opened: Open, tmp_path: Path
) -> None:
    web = groups_of(CONFIG)["web"]
    facts = f"WEB, BEFORE, THEN, NEVER = {web.token!r}, 'inactive', ['activating'], False\n"
    helped = await opened(CONFIG, scripted(facts + DIES, str(tmp_path)))
    request = asyncio.create_task(asked(helped))
    await eventually(lambda: helped.told.state("web") is GroupState.STARTING)
    reload = asyncio.create_task(helped.host.watch([replace(web, units=("other.service",))]))
    result = await asyncio.wait_for(request, 5)
    assert (result.failure or "").startswith("the helper is not running (it gave no reason)")
    reload.cancel()


TOLD_BY_NONE = """
number = life()
hello()
epoch = until("observe")["observe"]
group(epoch, "lamp", TOKEN)
say("complete", epoch=epoch)
if number == 1:
    say("accepted", id=until("action")["id"])
    sys.exit(0)
until("never")
"""


@pytest.mark.parametrize(
    ("group", "action"),
    [
        ("commands: {start: [/opt/on], stop: [/opt/off]}, assume_state: true", Action.START),
        ("commands: {start: [/opt/on], stop: [/opt/off]}, assume_state: true", Action.STOP),
        ("commands: {start: [/opt/on]}, momentary: true", Action.START),
        ("commands: {stop: [/opt/off]}, momentary: true", Action.STOP),
    ],
)
async def test_a_request_that_no_later_state_can_settle_fails_at_once_when_its_helper_dies(
    opened: Open, tmp_path: Path, group: str, action: Action
) -> None:
    config = f"groups: {{lamp: {{{group}}}}}"
    facts = f"TOKEN = {groups_of(config)['lamp'].token!r}\n"
    helped = await opened(config, scripted(facts + TOLD_BY_NONE, str(tmp_path)))
    result = await asyncio.wait_for(asked(helped, action, "lamp"), aftermath.STARTING_WITHIN_SECONDS)
    assert (result.failure or "").startswith("the helper is not running (it gave no reason)")
    assert requests(tmp_path) == [action.value]


LAMP = """\
groups:
  lamp: {commands: {start: [/opt/on], stop: [/opt/off], status: [/opt/lit]}}
"""
KEPT = """
number = life()
hello()
epoch = until("observe")["observe"]
group(epoch, "lamp", TOKEN)
if number == 1:
    states(epoch, probes=[["lamp", "on", ""]])
say("complete", epoch=epoch)
if number == 1:
    say("accepted", id=until("action")["id"])
    sys.exit(0)
until("ping")
states(epoch, probes=[["lamp", SAYS, ""]])
until("never")
"""


@pytest.mark.parametrize("says", ["on", "off"])
async def test_what_an_earlier_helper_s_probe_said_settles_no_request(
    opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, says: str
) -> None:
    monkeypatch.setattr(helper_session, "SILENCE_SECONDS", SOON_SECONDS)
    token = groups_of(LAMP)["lamp"].token
    helped = await opened(LAMP, scripted(f"TOKEN, SAYS = {token!r}, {says!r}\n{KEPT}", str(tmp_path)))
    assert helped.told.state("lamp") is GroupState.ON
    result = await helped.host.request(Action.START, "lamp", ignore, RequestOrigin.CONTROLLER)
    assert (result.failure is None) is (says == "on")
    assert helped.told.state("lamp") is (GroupState.ON if says == "on" else GroupState.OFF)


async def test_a_start_whose_helper_is_killed_goes_on_and_is_a_success(
    fake: FakeSystemd, opened: Open
) -> None:
    fake.reset(Unit("httpd.service", held=True), Unit("smb.service"))
    helped = await opened(CONFIG)
    request = asyncio.create_task(asked(helped))
    await eventually(lambda: fake.units["httpd.service"].job)
    fake.change("httpd.service", "activating", "start")
    await eventually(lambda: helped.told.state("web") is GroupState.STARTING)
    helped.told.forget()
    await killed(helped)
    fake.release("httpd.service", active="active", sub="running")
    assert await request == SUCCESS
    assert helped.told.states("web") == [GroupState.ON]
    assert fake.calls.count(("StartUnit", "httpd.service", "replace")) == 1
