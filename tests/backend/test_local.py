"""The local host: a real helper process and a watch, both on a private bus with a fake systemd."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import pytest_asyncio

from hkswitch.backend import local
from hkswitch.backend.helper_client import Helper
from hkswitch.backend.helper_transport import Process
from hkswitch.backend.local import LocalHost
from hkswitch.model.errors import BusUnavailable
from hkswitch.model.group import Commands, Group
from hkswitch.model.unit_state import Action, UnitState, Verdict
from tests.support.fake_systemd import SYSTEMD, FakeSystemd, Outcome, Unit
from tests.support.fixtures import bus_address, fake, systemd_on_bus
from tests.support.helper import HelperProgram
from tests.support.waiting import eventually

__all__ = ["bus_address", "fake", "systemd_on_bus"]

CONFIG = "groups: {web: {units: [httpd]}, files: {units: [smb, nmb], actions: [start]}}"
UNITS = ("httpd.service", "smb.service", "nmb.service")
GROUPS = (Group("web", "Web", UNITS[:1]), Group("files", "Files", UNITS[1:]))


def ignore() -> None:
    """Of no interest that it was accepted."""


@dataclass
class Observer:
    """The last known states, None while the host knows none."""

    units: dict[str, UnitState] | None = field(default_factory=dict)
    verdicts: dict[str, Verdict | None] = field(default_factory=dict)
    told: Callable[[Verdict | None], None] = lambda _: None
    """Called for each verdict on the lamp."""

    def seen(self, units: Mapping[str, UnitState]) -> None:
        self.units = {**(self.units or {}), **units}

    def probed(self, group_id: str, verdict: Verdict | None) -> None:
        self.verdicts[group_id] = verdict
        if group_id == "lamp":
            self.told(verdict)

    def lost(self) -> None:
        self.units = None

    def active(self, unit: str) -> str | None:
        return None if self.units is None else self.units[unit].active.value


@pytest.fixture
def observer() -> Observer:
    return Observer()


@pytest_asyncio.fixture(loop_scope="module")
async def host(
    fake: FakeSystemd, observer: Observer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[LocalHost]:
    monkeypatch.setattr(local, "RECONNECT_SECONDS", 0.05)
    fake.reset(*map(Unit, UNITS))
    config_file = tmp_path / "config.yaml"
    config_file.write_text(CONFIG)
    helper = Helper(Process(HelperProgram(config_file).command("serve")))
    host = LocalHost(GROUPS, helper)
    await host.open(observer)
    await eventually(lambda: helper.is_ready)
    yield host
    await host.close()


async def test_open_has_told_every_state(host: LocalHost, observer: Observer) -> None:
    assert observer.units is not None
    assert observer.units.keys() == set(UNITS)


async def test_open_without_a_bus_fails(observer: Observer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nonexistent")
    host = LocalHost(GROUPS, Helper(Process(["true"])))
    with pytest.raises(BusUnavailable):
        await host.open(observer)
    await host.close()


async def test_what_a_request_led_to_was_seen_when_it_returns(host: LocalHost, observer: Observer) -> None:
    assert await host.request(Action.START, "web", ignore) is None
    assert observer.active("httpd.service") == "active"
    assert await host.request(Action.STOP, "web", ignore) is None
    assert observer.active("httpd.service") == "inactive"


@pytest.mark.parametrize(
    ("action", "group", "failure"),
    [
        (Action.STOP, "files", "denied: stop is not among the actions of files"),
        (Action.START, "none", "denied: there is no group 'none' in the configuration"),
    ],
)
async def test_a_denied_request_says_why(host: LocalHost, action: Action, group: str, failure: str) -> None:
    assert await host.request(action, group, ignore) == failure


async def test_a_failed_request_names_the_unit_and_the_job_result(
    host: LocalHost, fake: FakeSystemd, observer: Observer
) -> None:
    fake.units["nmb.service"].job_result = "timeout"
    assert await host.request(Action.START, "files", ignore) == "nmb.service timeout"
    assert observer.active("nmb.service") == "failed"
    assert observer.active("smb.service") == "active"


async def test_requests_run_side_by_side(host: LocalHost, fake: FakeSystemd) -> None:
    fake.units["httpd.service"].held = True
    slow = asyncio.create_task(host.request(Action.START, "web", ignore))
    assert await host.request(Action.START, "files", ignore) is None
    assert not slow.done()
    fake.release("httpd.service", active="active", sub="running")
    assert await slow is None


async def test_a_systemd_that_goes_away_is_lost_and_all_is_read_again_when_it_is_back(
    host: LocalHost, fake: FakeSystemd, observer: Observer
) -> None:
    await fake.leave()
    await eventually(lambda: observer.units is None)
    fake.units["httpd.service"].active = "active"
    await fake.bus.request_name(SYSTEMD)
    await eventually(lambda: observer.units is not None and observer.active("httpd.service") == "active")


async def test_units_that_are_watched_later_are_seen_and_followed(
    host: LocalHost, fake: FakeSystemd, observer: Observer
) -> None:
    fake.units["new.service"] = Unit("new.service")
    await host.watch([*GROUPS, Group("new", "New", ("new.service",))])
    assert observer.active("new.service") == "inactive"
    fake.change("new.service", "active", "running")
    await eventually(lambda: observer.active("new.service") == "active")
    fake.change("httpd.service", "active", "running")
    await eventually(lambda: observer.active("httpd.service") == "active")


# What probes say


PROBED = """\
groups:
  web: {units: [httpd], check: [/bin/echo, check], interval_seconds: 1}
  lamp: {commands: {start: [/bin/echo, a], stop: [/bin/echo, b], status: [/bin/echo, c]}, interval_seconds: 1}
"""
WITH_CHECK = Group("web", "Web", UNITS[:1], check=("/bin/echo", "check"))
LAMP = Group("lamp", "Lamp", commands=Commands(*(("/bin/echo", word) for word in "abc")))


@dataclass
class Probed:
    """A host whose groups have probes, and the helper that runs them."""

    host: LocalHost
    helper: Helper
    config_file: Path


@pytest_asyncio.fixture(loop_scope="module")
async def probed(
    fake: FakeSystemd, observer: Observer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Probed]:
    monkeypatch.setattr(local, "RECONNECT_SECONDS", 0.05)
    fake.reset(Unit("httpd.service"))
    fake.commands = lambda argv: Outcome(status=int(argv[-1] == "c"))
    config_file = tmp_path / "config.yaml"
    config_file.write_text(PROBED)
    helper = Helper(Process(HelperProgram(config_file).command("serve")))
    host = LocalHost([WITH_CHECK, LAMP], helper)
    await host.open(observer)
    yield Probed(host, helper, config_file)
    await host.close()


async def test_open_has_told_what_a_status_says_and_not_what_a_check_will(
    probed: Probed, observer: Observer
) -> None:
    assert observer.verdicts == {"lamp": Verdict.OFF, "web": None}


async def test_open_waits_for_no_status_that_hangs(
    fake: FakeSystemd, observer: Observer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "HELPER_WITHIN_SECONDS", 0.5)
    fake.reset(Unit("httpd.service"))
    fake.commands = lambda _: Outcome(seconds=60)
    (tmp_path / "config.yaml").write_text(PROBED)
    host = LocalHost([LAMP], Helper(Process(HelperProgram(tmp_path / "config.yaml").command("serve"))))
    await host.open(observer)
    assert observer.verdicts.get("lamp") is None
    await host.close()


async def test_a_check_is_told_after_its_units_came_up(
    probed: Probed, fake: FakeSystemd, observer: Observer
) -> None:
    fake.change("httpd.service", "active", "running")
    await eventually(lambda: observer.verdicts["web"] is Verdict.ON)


def process_with(argument: Path) -> int:
    """The process that has this among its arguments."""
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has just ended
            if bytes(argument) in (process / "cmdline").read_bytes():
                return int(process.name)
    raise AssertionError(argument)


async def test_without_a_helper_nobody_knows_and_a_new_one_tells(probed: Probed, observer: Observer) -> None:
    changes: list[Verdict | None] = []
    observer.told = changes.append
    os.kill(process_with(probed.config_file), signal.SIGKILL)
    await eventually(lambda: changes[-1:] == [Verdict.OFF])
    assert changes == [Verdict.UNAVAILABLE, None, Verdict.OFF]


async def test_after_a_loss_of_the_bus_all_is_told_again(
    probed: Probed, fake: FakeSystemd, observer: Observer
) -> None:
    await fake.leave()
    await eventually(lambda: observer.units is None)
    observer.verdicts.clear()
    await fake.bus.request_name(SYSTEMD)
    await eventually(lambda: observer.verdicts.get("lamp") is Verdict.OFF)


async def test_a_group_that_comes_with_a_reload_is_told(probed: Probed, observer: Observer) -> None:
    probed.config_file.write_text(PROBED.replace("lamp:", "other:"))
    other = replace(LAMP, id="other")
    await probed.host.watch([WITH_CHECK, other])
    await eventually(lambda: observer.verdicts.get("other") is Verdict.OFF)
