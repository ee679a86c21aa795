"""The local host: a real helper process and a watch, both on a private bus with a fake systemd."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import pytest_asyncio

from hkswitch.core.errors import BusUnavailable
from hkswitch.core.model import Action, Group, UnitState, Verdict
from hkswitch.hosts import local
from hkswitch.hosts.helper import Helper
from hkswitch.hosts.local import LocalHost
from tests.support.fake_systemd import SYSTEMD, FakeSystemd, Unit
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

    def seen(self, units: Mapping[str, UnitState]) -> None:
        self.units = {**(self.units or {}), **units}

    def probed(self, group_id: str, verdict: Verdict | None) -> None:
        self.verdicts[group_id] = verdict

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
    helper = Helper(HelperProgram(config_file).command("serve"))
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
    host = LocalHost(GROUPS, Helper(["true"]))
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
