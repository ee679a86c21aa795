"""The config on disk is not the daemon's, or is not believed: what is known then, and what is done."""

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from hkswitch.backend import helper_client, helper_host
from hkswitch.backend.reported_state import changed_groups
from hkswitch.model.switch_events import Observed, RequestOrigin
from hkswitch.model.unit_state import Action, ActionResult, GroupState, ProbeResult
from hkswitch.protocol.helper import CONFIG_CHANGED
from tests.support.fake_systemd import FakeSystemd, Outcome, Unit
from tests.support.fixtures import bus_address, fake, systemd_on_bus
from tests.support.host_with_helper import UP, HostSetup, ignore, patched
from tests.support.waiting import eventually

__all__ = ["bus_address", "fake", "systemd_on_bus"]

CONFIG = """\
groups:
  web: {units: [httpd]}
  files: {units: [smb, nmb]}
  lamp:
    commands: {start: [/bin/echo, a], stop: [/bin/echo, b], status: [/bin/echo, c]}
    interval_seconds: 3600
"""
SUCCESS, REFUSED = ActionResult(), ActionResult(f"denied: {CONFIG_CHANGED}")
ALL_OFF = dict.fromkeys(("web", "files", "lamp"), GroupState.OFF)


@pytest_asyncio.fixture(loop_scope="module")
async def helped(
    fake: FakeSystemd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[HostSetup]:
    monkeypatch.setattr(helper_client, "BACK_OFF_SECONDS", (0.01,))
    fake.reset(*map(Unit, ("httpd.service", "smb.service", "nmb.service", "new.service")))
    fake.commands = lambda argv: Outcome(status=int(argv[-1] == "c"))
    config_file = tmp_path / "config.yaml"
    helped = await HostSetup.of(config_file, CONFIG, patched(config_file)).opened()
    assert known(helped) == ALL_OFF
    helped.told.forget()
    yield helped
    await helped.host.close()


def known(helped: HostSetup) -> dict[str, GroupState | None]:
    return {group_id: helped.told.state(group_id) for group_id in helped.told.groups}


async def asked(helped: HostSetup, group_id: str, action: Action = Action.START) -> ActionResult:
    return await helped.host.request(action, group_id, ignore, RequestOrigin.CONTROLLER)


CHANGES = [
    ("units: [httpd]", "units: [httpd, new]"),
    ("units: [httpd]", "units: [new]"),
    ("units: [httpd]", "units: [httpd], actions: [start]"),
    ("units: [httpd]", "units: [httpd], check: [/bin/true]"),
    ("units: [httpd]", "units: [httpd], check: [/bin/true], timeout_seconds: 11"),
    ("web: {units: [httpd]}", "web: {commands: {start: [/bin/a], stop: [/bin/a], status: [/bin/a]}}"),
    ("web: {", "other: {"),
]
"""What root would do something else by."""


@pytest.mark.parametrize(("before", "after"), CHANGES)
async def test_a_config_that_was_changed_and_not_reloaded_makes_exactly_the_changed_groups_unknown(
    helped: HostSetup, fake: FakeSystemd, before: str, after: str
) -> None:
    helped.config_file.write_text(CONFIG.replace(before, after))
    assert await helped.host.check_config() == ""  # a ping
    await eventually(lambda: helped.told.changes)
    assert helped.told.changes == [("web", Observed(None, None, CONFIG_CHANGED))]
    assert helped.host.config_problem() == changed_groups(["web"])
    accepted: list[str] = []
    refused = await helped.host.request(
        Action.START, "web", lambda: accepted.append("web"), RequestOrigin.CONTROLLER
    )
    assert (refused.failure or "").startswith("denied: ")
    assert accepted == []
    assert [call for call in fake.calls if call[0] == "StartUnit"] == []
    assert await asked(helped, "files") == SUCCESS
    assert helped.told.state("files") is GroupState.ON
    helped.config_file.write_text(CONFIG)
    await helped.host.check_config()
    await eventually(lambda: helped.told.state("web") is GroupState.OFF)
    assert helped.host.config_problem() == ""
    assert await asked(helped, "web") == SUCCESS
    assert helped.told.state("web") is GroupState.ON


async def test_a_request_looks_at_the_config_too(helped: HostSetup, fake: FakeSystemd) -> None:
    helped.config_file.write_text(CONFIG.replace("[httpd]", "[httpd, new]"))
    assert await asked(helped, "web") == REFUSED
    await eventually(lambda: helped.told.changes)
    assert helped.told.changes == [("web", Observed(None, None, CONFIG_CHANGED))]
    assert [call for call in fake.calls if call[0] == "StartUnit"] == []


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("web: {", "web: {name: Something Else, "),
        ("web: {", "web: {type: fan, "),
        ("web: {", "more: {units: [new]}\n  web: {"),
        ("groups:", "bridge: {name: Other}\ngroups:"),
    ],
)
async def test_what_root_does_not_act_on_may_change_and_nothing_is_told(
    helped: HostSetup, before: str, after: str
) -> None:
    helped.config_file.write_text(CONFIG.replace(before, after))
    assert await helped.host.check_config() == ""
    assert await asked(helped, "web") == SUCCESS
    assert helped.told.states("web") == [GroupState.ON]
    assert helped.told.states("files") == helped.told.states("lamp") == []
    assert helped.host.config_problem() == ""


async def test_a_unit_that_changed_while_its_group_was_another_one_is_known_as_it_is(
    helped: HostSetup, fake: FakeSystemd
) -> None:
    """It goes to a group that the daemon has not, and comes back: nothing of before is shown."""
    helped.config_file.write_text(CONFIG.replace("web: {", "other: {"))
    await helped.host.check_config()
    fake.change("httpd.service", "active", "running")
    await asked(helped, "files")  # what is told after it was told
    helped.config_file.write_text(CONFIG)
    await helped.host.check_config()
    await eventually(lambda: helped.told.state("web") is not None)
    assert helped.told.states("web") == [None, GroupState.ON]


# Reload


async def test_a_reload_keeps_what_did_not_change_and_tells_nothing_new_of_it(
    helped: HostSetup, fake: FakeSystemd
) -> None:
    ran = len(fake.ran)
    await helped.reload(CONFIG)
    await helped.reload(CONFIG.replace("web: {units: [httpd]", "web: {name: Other, units: [httpd]"))
    assert helped.told.changes == []
    assert len(fake.ran) == ran  # the status of the lamp is known


async def test_a_reload_tells_the_states_of_the_groups_that_changed_and_of_no_others(
    helped: HostSetup, fake: FakeSystemd
) -> None:
    fake.change("new.service", "active", "running")
    await helped.reload(CONFIG.replace("[httpd]", "[new]"))
    assert helped.told.states("web") == [None, GroupState.ON]
    assert {group_id for group_id, _ in helped.told.changes} == {"web"}
    assert helped.told.last["web"] == Observed({"new.service": UP})
    assert await asked(helped, "web", Action.STOP) == SUCCESS
    assert ("StopUnit", "new.service", "replace") in fake.calls


@pytest.mark.parametrize("before", ["units: [httpd]", "web: {units: [httpd]}"])
async def test_a_group_that_a_reload_changes_or_adds_is_being_asked_and_needs_no_other_reload(
    helped: HostSetup, before: str
) -> None:
    """What the switch is told until the helper has told everything: nobody has to do anything about it."""
    more = "web: {units: [new]}\n  more: {units: [new]}"
    await helped.reload(CONFIG.replace(before, "units: [new]" if before.startswith("units") else more))
    assert helped.told.state("web") is GroupState.OFF
    assert [observed.why for _, observed in helped.told.changes] == [""] * len(helped.told.changes)
    assert Observed({}) in [observed for _, observed in helped.told.changes]


async def test_a_group_that_goes_with_a_reload_is_told_no_more(helped: HostSetup, fake: FakeSystemd) -> None:
    await helped.reload("groups: {files: {units: [smb, nmb]}}")
    helped.told.forget()
    fake.change("httpd.service", "active", "running")
    assert await asked(helped, "files") == SUCCESS
    assert {group_id for group_id, _ in helped.told.changes} == {"files"}
    assert (await asked(helped, "web")).failure == "denied: there is no group 'web' in the configuration"


async def test_a_status_that_changed_with_a_reload_is_asked_anew_and_not_known_before(
    helped: HostSetup, fake: FakeSystemd
) -> None:
    fake.commands = lambda _: Outcome(status=0)
    await helped.reload(CONFIG.replace("/bin/echo, c", "/bin/echo, other"))
    await eventually(lambda: helped.told.last["lamp"].probe_result is ProbeResult.ON)
    assert helped.told.states("lamp") == [None, GroupState.ON]
    assert fake.ran[-1] == ["/bin/echo", "other"]
    assert {group_id for group_id, _ in helped.told.changes} == {"lamp"}


async def test_a_second_reload_before_the_first_was_told_wins(helped: HostSetup, fake: FakeSystemd) -> None:
    fake.change("new.service", "active", "running")
    first = asyncio.create_task(helped.reload(CONFIG.replace("[httpd]", "[nmb]")))
    await asyncio.sleep(0)
    await helped.reload(CONFIG.replace("[httpd]", "[new]"))
    await first
    assert helped.told.last["web"] == Observed({"new.service": UP})
    assert helped.host.config_problem() == ""


# The file is not the one that the daemon read


async def test_a_file_that_was_edited_after_the_daemon_read_it_leaves_the_other_groups_alone(
    fake: FakeSystemd, tmp_path: Path
) -> None:
    fake.reset(*map(Unit, ("httpd.service", "smb.service", "nmb.service", "new.service")))
    config_file = tmp_path / "config.yaml"
    helped = HostSetup.of(config_file, CONFIG, patched(config_file))
    config_file.write_text(CONFIG.replace("[httpd]", "[httpd, new]"))
    await helped.opened()
    assert helped.told.last["web"] == Observed(None, None, CONFIG_CHANGED)
    assert helped.told.state("files") is GroupState.OFF
    assert await asked(helped, "web") == REFUSED
    await helped.host.close()


async def test_a_new_helper_that_reads_an_edited_file_makes_only_the_changed_groups_unknown(
    helped: HostSetup,
) -> None:
    helped.config_file.write_text(CONFIG.replace("[httpd]", "[httpd, new]"))
    helped.signal(signal.SIGKILL)
    await eventually(lambda: helped.told.changes)
    assert helped.told.changes == [("web", Observed(None, None, CONFIG_CHANGED))]
    await eventually(lambda: helped.told.last["lamp"].probe_result is ProbeResult.OFF)
    assert await asked(helped, "files") == SUCCESS


# The file is not believed


def spoil(config_file: Path, how: str) -> str:
    """Make the file one that root does not believe; returns what is said of it."""
    if how == "untrusted":
        config_file.chmod(0o666)
        return "is not trusted"
    if how == "removed":
        config_file.unlink()
        return "does not exist"
    config_file.write_text("groups: {web: {units: 5}}")
    return "groups.web.units"


@pytest.mark.parametrize("how", ["invalid", "untrusted", "removed"])
async def test_while_the_file_is_not_believed_all_is_watched_and_nothing_is_done_and_then_it_is(
    helped: HostSetup, fake: FakeSystemd, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    why = spoil(helped.config_file, how)
    assert why in await helped.host.check_config()
    assert why in helped.host.config_problem()
    assert helped.told.changes == []
    fake.change("httpd.service", "active", "running")
    await eventually(lambda: helped.told.state("web") is GroupState.ON)
    refused = (await asked(helped, "web", Action.STOP)).failure or ""
    assert refused.startswith("denied: ")
    assert why in refused
    assert [call for call in fake.calls if call[0] == "StopUnit"] == []
    assert await helped.host.check_config()
    assert caplog.text.count("actions are refused: ") == 1
    notices = helped.told.notices
    helped.config_file.write_text(CONFIG)
    helped.config_file.chmod(0o600)
    assert await helped.host.check_config() == helped.host.config_problem() == ""
    assert helped.told.notices > notices
    assert caplog.text.count("is valid again") == 1
    assert await asked(helped, "web", Action.STOP) == SUCCESS
    assert helped.told.states("files") == []


async def test_a_file_that_is_believed_again_and_says_something_else_needs_a_reload(
    helped: HostSetup,
) -> None:
    spoil(helped.config_file, "invalid")
    assert await helped.host.check_config()
    helped.config_file.write_text(CONFIG.replace("[httpd]", "[httpd, new]"))
    assert await helped.host.check_config() == ""
    await eventually(lambda: helped.host.config_problem() == changed_groups(["web"]))
    await helped.reload(helped.config_file.read_text())
    assert helped.host.config_problem() == ""
    assert helped.told.state("web") is GroupState.OFF


@pytest.mark.parametrize("how", ["invalid", "untrusted", "removed"])
async def test_a_new_helper_that_believes_no_file_makes_all_unknown_for_that_reason_until_it_does(
    helped: HostSetup, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr(helper_host, "TOLD_WITHIN_SECONDS", 1)
    why = spoil(helped.config_file, how)
    helped.signal(signal.SIGKILL)
    await eventually(lambda: len(helped.told.changes) == len(ALL_OFF))
    assert [observed.units for _, observed in helped.told.changes] == [None] * len(ALL_OFF)
    await eventually(lambda: why in helped.host.config_problem())
    assert why in helped.told.why("web")
    assert why in ((await asked(helped, "web")).failure or "")
    helped.config_file.write_text(CONFIG)
    helped.config_file.chmod(0o600)
    assert await helped.host.check_config() == ""
    await eventually(lambda: known(helped) == ALL_OFF)
    assert await asked(helped, "web") == SUCCESS


async def test_a_file_that_was_never_believed_does_not_keep_the_daemon_from_its_start(
    fake: FakeSystemd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(helper_host, "TOLD_WITHIN_SECONDS", 1)
    fake.reset(*map(Unit, ("httpd.service", "smb.service", "nmb.service")))
    config_file = tmp_path / "config.yaml"
    helped = HostSetup.of(config_file, CONFIG, patched(config_file))
    config_file.chmod(0o666)
    await helped.opened()
    await eventually(lambda: "is not trusted" in helped.told.why("web"))
    config_file.chmod(0o600)
    await helped.host.check_config()
    await eventually(lambda: helped.told.state("files") is GroupState.OFF)
    await helped.host.close()
