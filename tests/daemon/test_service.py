"""A daemon that serves: how it starts, reloads and stops, whatever comes at the same time."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from hkswitch.backend import Observer
from hkswitch.backend.simulated import SimulatedHost
from hkswitch.cli import reload, status
from hkswitch.control import client, socket_of
from hkswitch.daemon.bridge import Bridge
from hkswitch.daemon.kept_alerts import ALERTS_FILE_NAME, alerts_file
from hkswitch.daemon.service import serve
from hkswitch.daemon.serving import ServedBridge
from hkswitch.daemon.signals import signals
from hkswitch.daemon.switchboard import Switchboard
from hkswitch.model.config import BridgeConfig, Config
from hkswitch.model.errors import ConfigError, Exit, Failure, Problem
from hkswitch.model.group import AlertSensor, Group
from hkswitch.model.unit_state import Action, HelperTransport, UnitFailure
from hkswitch.network.endpoint import Endpoint
from hkswitch.protocol.control import ControlRequest, Operation
from hkswitch.protocol.report import BridgeReport, Report
from tests.support.ports import LOOPBACK, free_port
from tests.support.waiting import PATIENCE_SECONDS, eventually

WEB = Group("web", "Web", ("httpd.service",))
FILES = Group("files", "Files", ("smb.service",))
WRONG = ConfigError("config.yaml", (Problem(1, 2, "groups", "no"), Problem(3, 4, "bridge", "neither")))


@dataclass
class World:
    """Who started the daemon: has its config, and notes what it is told."""

    state_folder: Path
    config: Config | Failure
    readable: asyncio.Event = field(default_factory=asyncio.Event)
    """The config can be read when this is set."""
    later: list[Config | Failure] = field(default_factory=list)
    """What the config is at each read, before it stays as it is."""
    reads: int = 0
    reading: int = 0
    told: list[str] = field(default_factory=list)

    async def read(self) -> Config:
        self.reads += 1
        self.reading += 1
        assert self.reading == 1, "two reloads at once"
        try:
            await self.readable.wait()
        finally:
            self.reading -= 1
        self.config = self.later.pop(0) if self.later else self.config
        if isinstance(self.config, Failure):
            raise self.config
        return self.config

    @property
    def restart(self) -> str:
        return "`sudo systemctl restart hkswitch`"

    def reloading(self) -> None:
        self.told.append("reloading")

    def find(self, bridge: BridgeConfig, before: Endpoint | None) -> Endpoint:
        del bridge, before
        return LOOPBACK

    def waiting(self, why: str) -> None:
        self.told.append(why)

    def serving(self, config: Config, place: Endpoint, front: ServedBridge, trouble: str) -> None:
        del place, front
        groups = " ".join(group.id for group in config.groups)
        self.told.append(f"serving {groups}" + (f"; {trouble}" if trouble else ""))

    async def reload(self) -> str:
        """As `hkswitch reload` does it; the command line blocks, so it has a thread."""
        return await asyncio.wait_for(
            asyncio.to_thread(reload.request_reload, self.state_folder), PATIENCE_SECONDS
        )

    async def report(self) -> Report:
        report = await asyncio.to_thread(status.from_daemon, self.state_folder)
        assert report is not None
        return report

    async def bridge(self) -> BridgeReport:
        bridge = (await self.report()).bridge
        assert bridge is not None
        return bridge

    async def groups(self) -> list[str]:
        return [group.id for group in (await self.report()).groups]


@dataclass
class Host(SimulatedHost):
    """Units in memory, and a helper that may be late, or doubt the config."""

    ready: asyncio.Event = field(default_factory=asyncio.Event)
    doubt: str = ""
    problem: str = ""
    gone: str = ""
    watched: list[list[str]] = field(default_factory=list)

    async def open(self, observer: Observer) -> None:
        await self.ready.wait()
        await super().open(observer)

    async def watch(self, groups: Collection[Group]) -> None:
        self.watched.append([group.id for group in groups])
        await super().watch(groups)

    async def check_config(self) -> str:
        return self.doubt

    def config_problem(self) -> str:
        return self.problem or self.doubt

    def trouble(self) -> str:
        return self.gone

    def notice(self) -> None:
        assert self._observer is not None
        self._observer.noticed()


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(tmp_path, Config(BridgeConfig(name="Test", port=free_port()), (WEB,)))
    world.readable.set()
    return world


@asynccontextmanager
async def starting(world: World) -> AsyncIterator[Host]:
    """A daemon that starts, as far as its host lets it; it is stopped by SIGTERM."""
    assert isinstance(world.config, Config)
    host = Host(world.config.groups)
    running = asyncio.create_task(serve(world.config, host, world.state_folder, world))
    await eventually(lambda: running.done() or socket_of(world.state_folder).exists())
    try:
        yield host
    finally:
        if not running.done():
            os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(running, PATIENCE_SECONDS)


@asynccontextmanager
async def served(world: World) -> AsyncIterator[Host]:
    """A daemon that serves."""
    async with starting(world) as host:
        host.ready.set()
        await eventually(lambda: world.told == ["serving web"])
        yield host


def with_groups(world: World, *groups: Group) -> Config:
    assert isinstance(world.config, Config)
    return replace(world.config, groups=groups)


async def test_a_reload_has_other_groups(world: World) -> None:
    async with served(world) as host:
        world.config = with_groups(world, WEB, FILES)
        assert await world.reload() == ""
        assert await world.groups() == ["web", "files"]
        assert host.watched[-1] == ["web", "files"]
        assert world.told[-1] == "serving web files"
        assert all(group.state for group in (await world.report()).groups)


async def test_a_signal_reloads_too(world: World) -> None:
    async with served(world):
        world.config = with_groups(world, FILES)
        os.kill(os.getpid(), signal.SIGHUP)
        await eventually(lambda: world.told[-1] == "serving files")
        assert world.told == ["serving web", "reloading", "serving files"]


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1])
async def test_a_signal_after_the_last_one_that_is_handled_ends_nothing(number: signal.Signals) -> None:
    with signals() as received:
        os.kill(os.getpid(), number)
        assert await received.get() is number
    os.kill(os.getpid(), number)
    assert signal.getsignal(number) is signal.SIG_IGN


@pytest.mark.parametrize("by_signal", [True, False])
async def test_a_reload_while_the_daemon_starts_is_applied_when_it_has(world: World, by_signal: bool) -> None:
    async with starting(world) as host:
        world.config = with_groups(world, FILES)
        asked: asyncio.Task[Any] = asyncio.create_task(world.report() if by_signal else world.reload())
        if by_signal:
            os.kill(os.getpid(), signal.SIGHUP)
            await asked
        assert await world.groups() == ["web"]
        assert (world.reads, world.told) == (0, [])
        host.ready.set()
        await eventually(lambda: world.told[-1:] == ["serving files"])
        await asked
        assert host.watched == [["web"], ["files"]]
        assert await world.groups() == ["files"]


async def test_two_reloads_at_once_both_get_their_outcome(world: World) -> None:
    async with served(world) as host:
        world.readable.clear()
        first = asyncio.create_task(world.reload())
        await eventually(lambda: world.reads == 1)
        second = asyncio.create_task(world.reload())
        os.kill(os.getpid(), signal.SIGHUP)
        await world.report()
        world.config = with_groups(world, FILES)
        world.readable.set()
        assert [await first, await second] == ["", ""]
        await eventually(lambda: world.reads == 3)
        await eventually(lambda: host.watched == [["web"], *[["files"]] * 3])


async def test_a_reload_that_fails_is_not_the_outcome_of_the_next_one(world: World) -> None:
    async with served(world):
        world.later = [WRONG, with_groups(world, FILES)]
        world.readable.clear()
        first = asyncio.create_task(world.reload())
        await eventually(lambda: world.reads == 1)
        second = asyncio.create_task(world.reload())
        world.readable.set()
        with pytest.raises(Failure, match=r"config\.yaml:1:2"):
            await first
        assert await second == ""
        assert world.told[-2:] == ["reloading", "serving files"]
        assert await world.groups() == ["files"]


@pytest.mark.parametrize(
    ("config", "doubt", "code", "why"),
    [
        (WRONG, "", Exit.CONFIG, "config.yaml:1:2: groups: no; config.yaml:3:4: bridge: neither"),
        (None, "config.yaml is not root's", Exit.CONFIG, "config.yaml is not root's"),
    ],
    ids=["mistakes", "doubted by root"],
)
async def test_a_reload_of_a_config_that_is_not_believed_changes_nothing_and_says_why(
    world: World, config: Failure | None, doubt: str, code: Exit, why: str
) -> None:
    async with served(world) as host:
        good = with_groups(world, FILES)
        host.doubt, world.config = doubt, config or good
        with pytest.raises(Failure) as caught:
            await world.reload()
        assert (caught.value.exit_code, str(caught.value)) == (code, f"not reloaded: {why}")
        assert await world.groups() == ["web"]
        assert host.watched == [["web"]]
        assert (await world.bridge()).config == why
        assert world.told[-1] == f"serving web; {why}"
        host.doubt, world.config = "", good
        assert await world.reload() == ""
        assert (await world.bridge()).config == ""
        assert world.told[-1] == "serving files"


async def test_what_the_helper_says_of_the_config_is_shown_until_it_is_well_again(world: World) -> None:
    async with served(world) as host:
        host.problem = "config.yaml:1:1: no"
        host.notice()
        assert (await world.bridge()).config == world.told[-1].partition("; ")[2] == "config.yaml:1:1: no"
        host.problem = ""
        host.notice()
        assert (await world.bridge()).config == ""
        assert world.told[-1] == "serving web"


async def test_a_file_that_is_mended_without_a_reload_is_complained_of_no_longer(world: World) -> None:
    async with served(world) as host:
        good, world.config, host.problem = world.config, WRONG, "config.yaml:1:2: no"
        host.doubt = host.problem
        host.notice()
        with pytest.raises(Failure, match=r"config\.yaml:1:2"):
            await world.reload()
        host.problem, host.doubt, world.config = "", "", good
        host.notice()
        assert (await world.bridge()).config == ""
        assert world.told[-1] == "serving web"


async def test_a_file_that_only_the_daemon_cannot_read_is_complained_of_until_a_reload(world: World) -> None:
    async with served(world) as host:
        good, world.config = world.config, WRONG
        with pytest.raises(Failure, match=r"config\.yaml:1:2"):
            await world.reload()
        host.notice()  # of something else
        assert "config.yaml:1:2" in (await world.bridge()).config
        world.config = good
        await world.reload()
        assert (await world.bridge()).config == ""


async def test_a_trouble_lasts_over_a_restart_and_ends_with_its_sensor(world: World) -> None:
    alerting = replace(WEB, alert=AlertSensor.CONTACT)
    world.config = replace(with_groups(world, alerting), alert_command=("/opt/notify",))
    killed = UnitFailure("run 1", is_requested=False, reason="httpd.service was killed by SIGKILL")
    file = world.state_folder / ALERTS_FILE_NAME
    async with served(world) as host:
        host.fail("httpd.service", killed)
        await eventually(lambda: host.alerts == [("web", "failed", killed.reason)])
    kept = file.read_bytes()
    world.told.clear()
    async with served(world) as host:
        host.fail("httpd.service", killed)
        assert (host.alerts, file.read_bytes()) == ([], kept)
        world.config = with_groups(world, WEB)
        assert await world.reload() == ""
        assert alerts_file(world.state_folder).read().open_of("web") is None


def start_web(state_folder: Path) -> None:
    """As `hkswitch start web` does it."""
    request = ControlRequest(Operation.ACT, action=Action.START, group="web")
    with client.PendingRequest(socket_of(state_folder), request) as asked:
        asked.end(wait=True)


async def test_a_request_that_fails_is_a_trouble(world: World) -> None:
    world.config = with_groups(world, replace(WEB, alert=AlertSensor.CONTACT))
    async with served(world) as host:
        host.broken = {"httpd.service"}
        with pytest.raises(Failure):
            await asyncio.to_thread(start_web, world.state_folder)
        kept = alerts_file(world.state_folder).read().open_of("web")
        assert kept is not None
        assert kept.reason == "start failed: httpd.service failed"


async def test_without_a_helper_a_reload_is_applied_and_notes_it(world: World) -> None:
    async with served(world) as host:
        host.gone, world.config = "sudo: a password is required", with_groups(world, FILES)
        note = "the helper is not running (sudo: a password is required)"
        assert await world.reload() == note
        assert world.told[-1] == f"serving files; {note}"
        assert await world.groups() == ["files"]


async def test_a_reload_notes_what_takes_effect_after_a_restart(world: World) -> None:
    async with served(world):
        port = free_port()
        other = BridgeConfig(name="Other", port=port)
        world.config = Config(other, (WEB,), helper=HelperTransport.SOCKET)
        note = (
            "changes to bridge.name, bridge.port, helper take effect after `sudo systemctl restart hkswitch`"
        )
        assert await world.reload() == note
        bridge = await world.bridge()
        assert (bridge.name, bridge.port == port) == ("Test", False)
        assert await world.reload() == note


async def test_a_reload_has_accessories_then_switches_then_states(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []

    def noted(kind: type, name: str) -> None:
        do = getattr(kind, name)

        def note(*arguments: object) -> object:
            order.append(kind.__name__)
            return do(*arguments)

        monkeypatch.setattr(kind, name, note)

    async with served(world):
        noted(Bridge, "regroup")
        noted(Switchboard, "regroup")
        noted(Host, "watch")
        await world.reload()
    assert order == ["Bridge", "Switchboard", "Host"]


@pytest.mark.parametrize("by_signal", [True, False])
async def test_a_stop_during_a_reload_is_obeyed(world: World, by_signal: bool) -> None:
    reloading: asyncio.Task[str] | None = None
    async with served(world) as host:
        world.readable.clear()
        if by_signal:
            os.kill(os.getpid(), signal.SIGHUP)
        else:
            reloading = asyncio.create_task(world.reload())
        await eventually(lambda: world.reads == 1)
    assert not socket_of(world.state_folder).exists()
    assert host.watched == [["web"]]
    if reloading is not None:
        with pytest.raises(client.Disconnected):
            await reloading


async def test_a_stop_while_the_daemon_starts_is_obeyed(world: World) -> None:
    async with starting(world):
        os.kill(os.getpid(), signal.SIGHUP)
    assert world.told == []
