"""What a reload may meet outside: phones that write, hear and pair, people who wait, a network that moves."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
from aiohomekit.controller.ip.discovery import IpDiscovery
from aiohomekit.controller.ip.pairing import IpPairing

from hkswitch.daemon.bridge import Bridge
from hkswitch.daemon.switchboard import GROUP_REMOVED
from hkswitch.model.unit_state import GroupState
from hkswitch.network import addresses
from hkswitch.network.endpoint import Endpoint
from tests.support.command import HKSWITCH, run
from tests.support.controller import Controller, _service, _unstarted
from tests.support.fake_systemd import FakeSystemd, Unit
from tests.support.fixtures import bus_address, fake, systemd_on_bus
from tests.support.real_daemon import RealDaemon
from tests.support.waiting import PATIENCE_SECONDS, eventually

__all__ = ["bus_address", "fake", "systemd_on_bus"]

pytestmark = pytest.mark.asyncio(loop_scope="module")

ELSEWHERE = Endpoint(("127.0.0.2",), frozenset())
WEB = {"web": {"units": ["httpd"], "name": "Web"}}
FILES = {"files": {"units": ["smb"], "name": "Files"}}
LIGHTBULB = "00000043-0000-1000-8000-0026BB765291"


@pytest.fixture(autouse=True)
def units(fake: FakeSystemd) -> None:
    fake.reset(Unit("httpd.service"), Unit("smb.service"))


@asynccontextmanager
async def paired(daemon: RealDaemon) -> AsyncIterator[Controller]:
    """A phone that hears of all switches."""
    async with closing(await Controller.pair("127.0.0.1", daemon.port, daemon.front.setup.code)) as phone:
        await phone.subscribe()
        yield phone


@asynccontextmanager
async def closing(phone: Controller) -> AsyncIterator[Controller]:
    try:
        yield phone
    finally:
        await phone.close()


class Moves:
    """The kernel's news of the network, when a test has some."""

    def __init__(self) -> None:
        self.news = asyncio.Event()

    async def wait(self) -> None:
        await self.news.wait()
        self.news.clear()


async def test_a_reload_while_the_bridge_moves_is_applied_at_the_new_place(
    daemon: RealDaemon, fake: FakeSystemd, monkeypatch: pytest.MonkeyPatch
) -> None:
    moves, moving, may_move, move = Moves(), asyncio.Event(), asyncio.Event(), Bridge.move

    @asynccontextmanager
    async def changes() -> AsyncIterator[Moves]:
        yield moves

    async def move_late(bridge: Bridge, place: Endpoint) -> None:
        moving.set()
        await may_move.wait()
        await move(bridge, place)

    monkeypatch.setattr(addresses, "changes", changes)
    monkeypatch.setattr(Bridge, "move", move_late)
    async with daemon.served(WEB), paired(daemon) as phone:
        version = daemon.front.config_version
        daemon.place = ELSEWHERE
        moves.news.set()
        await asyncio.wait_for(moving.wait(), PATIENCE_SECONDS)
        daemon.write({**WEB, **FILES})
        reloading = asyncio.create_task(daemon.reload())
        await daemon.until_states(web=GroupState.OFF, files=GroupState.OFF)
        assert not reloading.done()
        may_move.set()
        assert await reloading == ""
        assert daemon.told[-1] == "serving web files on 127.0.0.2"
        assert daemon.front.config_version == version + 1
        where = {"AccessoryIP": "127.0.0.2", "AccessoryIPs": ["127.0.0.2"]}
        data = {**phone.pairing.pairing_data, **where}
        async with closing(Controller(IpPairing(_unstarted(), cast("Any", data)))) as moved:
            await moved.look()
            assert await moved.write("Files", on=True) == 0


async def test_a_write_under_way_is_answered_when_a_reload_changes_the_type_and_the_state_goes_on(
    daemon: RealDaemon, fake: FakeSystemd
) -> None:
    fake.units["httpd.service"].held = True
    async with daemon.served(WEB), paired(daemon) as phone:
        version = daemon.front.config_version
        writing = asyncio.create_task(phone.write("Web", on=True))
        await eventually(lambda: fake.units["httpd.service"].job)
        daemon.write({"web": {**WEB["web"], "type": "light"}})
        assert await daemon.reload() == ""
        fake.release("httpd.service", active="active", sub="running")
        assert await writing == 0
        assert daemon.front.config_version == version + 1
        services = [service for each in await phone.look() for service in each["services"]]
        assert LIGHTBULB in {service["type"] for service in services}
        await phone.subscribe()
        await phone.until_on_is("Web", on=True)
        fake.change("httpd.service", "inactive", "dead")
        assert await phone.event("Web") is False


async def test_subscriptions_of_switches_that_go_are_silent_and_others_hear_on(
    daemon: RealDaemon, fake: FakeSystemd
) -> None:
    async with daemon.served({**WEB, **FILES}), paired(daemon) as phone:
        version = daemon.front.config_version
        for unit in fake.units:
            fake.change(unit, "active", "running")  # events of both are on their way, or wait
        await daemon.until_states(web=GroupState.ON, files=GroupState.ON)
        daemon.write(WEB)
        assert await daemon.reload() == ""
        assert daemon.front.config_version == version + 1
        assert await phone.event("Web") is True
        assert await phone.write("Files", on=False) == -70409
        fake.change("smb.service", "inactive", "dead")
        fake.change("httpd.service", "inactive", "dead")
        web, files = phone.switches["Web"].on, phone.switches["Files"].on
        heard: list[tuple[tuple[int, int], bool]] = []
        async with asyncio.timeout(PATIENCE_SECONDS):
            while (web, False) not in heard:
                path, event = await phone.events.get()
                heard.append((path, bool(event["value"])))
        assert (files, False) not in heard
        assert fake.units["smb.service"].job is None
        assert [call for call in fake.calls if call[0] == "StopUnit"] == []
        daemon.write({**WEB, **FILES})
        assert await daemon.reload() == ""
        assert await phone.read("Files") is False


async def test_a_controller_that_pairs_meanwhile_is_paired_and_has_what_is_new(
    daemon: RealDaemon, fake: FakeSystemd
) -> None:
    async with daemon.served(WEB):
        discovery = IpDiscovery(_unstarted(), _service("127.0.0.1", daemon.port))
        finish = await discovery.async_start_pairing("test")
        daemon.write(FILES)
        assert await daemon.reload() == ""
        pairing = cast("IpPairing", await finish(daemon.front.setup.code))
        await discovery.close()  # type: ignore[no-untyped-call] # so in aiohomekit
        async with closing(Controller(pairing)) as phone:
            await phone.look()
            assert phone.switches.keys() == {"Files"}
            assert await phone.write("Files", on=True) == 0
            assert fake.units["smb.service"].active == "active"


async def test_a_start_that_waits_on_a_group_that_goes_fails_and_says_why(
    daemon: RealDaemon, fake: FakeSystemd
) -> None:
    fake.units["httpd.service"].held = True
    async with daemon.served({**WEB, **FILES}):
        at_daemon = ("--state-dir", daemon.state_folder)
        starting = asyncio.create_task(asyncio.to_thread(run, "start", "web", *at_daemon))
        await eventually(lambda: fake.units["httpd.service"].job)
        daemon.write(FILES)
        assert await daemon.reload() == ""
        assert await starting == (69, "", f"hkswitch: start web failed: {GROUP_REMOVED}\n")


async def test_a_watch_of_a_group_that_goes_goes_on_without_it_until_it_is_back(daemon: RealDaemon) -> None:
    async with daemon.served({**WEB, **FILES}):
        watching = await asyncio.create_subprocess_exec(
            *(HKSWITCH, "status", "--watch", "web", "--json", "--state-dir", daemon.state_folder),
            stdout=asyncio.subprocess.PIPE,
        )
        assert watching.stdout is not None

        async def until_seen(*expected: str) -> None:
            async with asyncio.timeout(PATIENCE_SECONDS):
                while line := await watching.stdout.readline():  # type: ignore[union-attr] # asserted above
                    if [group["id"] for group in json.loads(line)["groups"]] == [*expected]:
                        return
            pytest.fail("it ended")

        try:
            await until_seen("web")
            for groups, seen in ((FILES, ()), ({**WEB, **FILES}, ("web",))):
                daemon.write(groups)
                assert await daemon.reload() == ""
                await until_seen(*seen)
        finally:
            watching.terminate()
            await watching.wait()
